//! `hull version`

use super::{Error, Exit, Result};

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub(super) struct Version {}

impl Version {
    pub(super) fn act(self) -> Result {
        use std::io::Write;
        let text = concat!("hull version ", env!("CARGO_PKG_VERSION"));
        writeln!(std::io::stdout(), "{text} (wire {})", hull_shim::wire::VERSION).map_err(Error::Output)?;
        Ok(Exit::Success)
    }
}
