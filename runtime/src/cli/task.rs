//! `hull task`: one privileged job on the host's side, started by hull-shim.
//!
//! Its input is JSON on standard input, its result JSON on standard output, its error text on standard error.
//! The network tasks find the pod's network namespace as descriptor 3.

use std::io::Write;

use hull_shim::layout::Layout;
use serde_json::Value;

use super::{Error, Exit, Result};

/// Arguments of `task`.
#[derive(Debug, clap::Args)]
pub(super) struct Task {
    /// Which job.
    #[arg(value_name = "NAME")]
    name: String,
}

/// A job: from its input to its result.
type Job = fn(&Layout, Value) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>>;

/// All jobs by name.
const JOBS: &[(&str, Job)] = &[];

impl Task {
    pub(super) fn act(self, layout: &Layout) -> Result {
        let found = JOBS.iter().find(|(name, _)| *name == self.name);
        let Some((_, job)) = found else {
            return Err(Error::Usage(format!("there is no task {:?}", self.name)));
        };
        let input = serde_json::from_reader(std::io::stdin().lock());
        let input =
            input.map_err(|error| Error::Usage(format!("the input of task {}: {error}", self.name)))?;
        let result = job(layout, input).map_err(Error::Other)?;
        writeln!(std::io::stdout(), "{result}").map_err(Error::Output)?;
        Ok(Exit::Success)
    }
}
