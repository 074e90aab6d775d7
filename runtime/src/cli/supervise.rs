//! `hull supervise`, started by hull-shim inside the sandbox.

use hull_shim::layout::Layout;

use super::{Error, Result};

/// Arguments of `supervise`.
#[derive(Debug, clap::Args)]
pub(super) struct Supervise {
    /// Which pod.
    #[arg(long, value_name = "UID")]
    uid: String,
}

impl Supervise {
    pub(super) fn act(self, _layout: &Layout) -> Result {
        Err(Error::Usage(format!(
            "pod {}: the driver is not built in",
            self.uid
        )))
    }
}
