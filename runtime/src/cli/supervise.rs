//! `hull supervise`, started by hull-shim inside the sandbox.

use std::fs::File;
use std::sync::Mutex;

use hull_shim::layout::Layout;
use hull_shim::wire;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::{Error, Exit, Result};
use crate::driver;
use crate::store::file;

/// How much of the end of the pod's log is looked at.
const LOG_TAIL: u64 = 8192;

/// Arguments of `supervise`.
#[derive(Debug, clap::Args)]
pub(super) struct Supervise {
    /// Which pod.
    #[arg(long, value_name = "UID")]
    uid: String,
}

impl Supervise {
    pub(super) fn act(self, layout: &Layout) -> Result {
        self.log_to_file(layout)?;
        let socket = hull_shim::inherited(wire::SUPERVISOR_FD).map_err(|_| {
            Error::Usage("descriptor 3 is no socket to hull-shim, which alone starts this".to_owned())
        })?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        let ended = LocalSet::new().block_on(&runtime, driver::run(layout.clone(), &self.uid, socket));
        let Err(error) = ended else { return Ok(Exit::Success) };
        let error = Error::Other(error.into());
        // The shim tries again and again: a reason that was the last to be said is not said once more.
        let log = file::tail(&layout.pod(&self.uid).diagnostics(), LOG_TAIL);
        let last = log.lines().rev().find(|line| line.starts_with("error: "));
        if last.is_some() && last == error.text().lines().next() { Ok(Exit::Failure) } else { Err(error) }
    }

    /// What the supervisor says goes into the pod's own log, of which the environment sets the level.
    fn log_to_file(&self, layout: &Layout) -> Result<()> {
        let path = layout.pod(&self.uid).diagnostics();
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|source| Error::File { operation: "open", path, source })?;
        let level = std::env::var("HULL_LOG").ok().and_then(|level| level.parse().ok());
        tracing_subscriber::fmt()
            .with_max_level(level.unwrap_or(tracing::Level::WARN))
            .with_ansi(false)
            .with_target(false)
            // It would tell standard error, which is this very file, of a full disk, and panic when that fails.
            .log_internal_errors(false)
            .with_writer(Mutex::new(file))
            .init();
        Ok(())
    }
}
