//! `hull task`: one privileged job on the host's side, started by hull-shim.
//!
//! Its input is JSON on standard input, its result JSON on standard output, its error text on standard error.
//! The network tasks find the pod's network namespace as descriptor 3.

use std::io::Write;

use hull_shim::layout::Layout;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Error, Exit, Result};
use crate::store::rotate;
use crate::{image, network, volume};

/// Arguments of `task`.
#[derive(Debug, clap::Args)]
pub(super) struct Task {
    /// Which job.
    #[arg(value_name = "NAME")]
    name: String,
}

/// A job: from its input to its result.
type Job = fn(&Layout, Value) -> std::result::Result<Value, Failed>;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// All jobs by name.
const JOBS: &[(&str, Job)] = &[
    ("network-up", |layout, input| result(network::up(layout, &parse(input)?, network::task_netns()?))),
    ("network-down", |layout, input| result(network::down(layout, &parse(input)?))),
    ("log-rotate", |_, input| result(rotate::rotate(&parse(input)?))),
    ("rootfs-up", |layout, input| result(image::rootfs_up_all(layout, &parse(input)?))),
    ("rootfs-down", |layout, input| result(image::rootfs_down(layout, &parse(input)?))),
    // A volume's failure is a result with a name in it: an event shows both.
    ("volumes-up", |_, input| Ok(serde_json::to_value(volume::up(&parse(input)?))?)),
    ("volumes-down", |_, input| result(volume::down(&parse(input)?))),
];

fn parse<T: DeserializeOwned>(input: Value) -> std::result::Result<T, Failed> {
    Ok(serde_json::from_value(input)?)
}

fn result<T: Serialize, E: Into<Failed>>(
    result: std::result::Result<T, E>,
) -> std::result::Result<Value, Failed> {
    Ok(serde_json::to_value(result.map_err(Into::into)?)?)
}

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
