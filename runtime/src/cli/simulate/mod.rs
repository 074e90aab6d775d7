//! `hull simulate`: the life that a manifest would have, in simulated time. Nothing runs.
//!
//! The same core that leads real pods is given the answers of a runtime of the mind ([`crate::core::simulate`]); an hour of back-off
//! takes a millisecond.

mod script;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::context::Context;
use super::{Error, Exit, Result, apply, duration, manifests};
use crate::api::object;
use crate::core::action::{Action, go_duration};
use crate::core::input::Input;
use crate::core::simulate::{Sight, Simulation, clock};
use crate::core::status::PodStatus;
use crate::driver::handle::View;
use crate::manifest;
use crate::print::pod;
use crate::print::table::{Row, Table};
use script::Behaviour;

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// The manifest with one pod: a file, or `-` for standard input.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filename: PathBuf,
    /// How much of its life to print.
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    limit: Duration,
    /// Delete the pod at this time.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    delete: Option<Duration>,
    /// The grace period of the deletion in seconds, in place of the manifest's.
    #[arg(long, value_name = "SECONDS", requires = "delete")]
    grace_period: Option<u32>,
    /// Print no column titles.
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    behaviour: Behaviour,
}

impl Simulate {
    pub(super) fn act(self, context: &Context) -> Result {
        let (accepted, pod) = self.pod(context)?;
        let scripts = self.behaviour.scripts(&pod)?;
        let mut simulation = Simulation::new(pod, scripts);
        if let Some(moment) = self.delete {
            let grace_seconds = self.grace_period.map(i64::from);
            simulation.plan(moment, Input::Delete { grace_seconds });
        }
        let table = Table::new(vec!["TIME", "READY", "STATUS", "RESTARTS", "REASON", "OBJECT", "MESSAGE"]);
        let mut table = if self.no_headers { table.without_header() } else { table }.colored(context.color);
        let mut rows = Rows { accepted: Arc::new(accepted), shown: Vec::new(), rows: Vec::new() };
        rows.take(&mut simulation);
        while simulation.step_until(self.limit) {
            rows.take(&mut simulation);
        }
        context.print(&table.render(&rows.rows))?;
        Ok(Exit::Success)
    }

    /// The pod of the manifest, as the API shows it and as the core knows it.
    fn pod(&self, context: &Context) -> Result<(serde_json::Value, manifest::pod::Pod)> {
        let objects = manifests::all(std::slice::from_ref(&self.filename), false)?;
        let mut pods = Vec::new();
        for object in objects {
            let namespace = apply::namespace(context, object.namespace.as_deref())?;
            pods.extend(object.pod(&namespace, ("simulated", clock(Duration::ZERO).wall))?);
        }
        match (pods.pop(), pods.is_empty()) {
            (Some(pod), true) => Ok(pod),
            _ => Err(Error::Usage(format!(
                "{}: one pod can be simulated, no less and no more",
                self.filename.display()
            ))),
        }
    }
}

/// What is printed.
struct Rows {
    accepted: Arc<serde_json::Value>,
    /// READY, STATUS and RESTARTS of the last row that told of them.
    shown: Row,
    rows: Vec<Row>,
}

impl Rows {
    /// Takes what came out since the last time.
    fn take(&mut self, simulation: &mut Simulation) {
        for (at, sight) in std::mem::take(&mut simulation.sights) {
            match sight {
                Sight::Action(Action::Record(event)) => {
                    let object = match event.field_path.as_str() {
                        "" => "pod".to_owned(),
                        path => path.to_owned(),
                    };
                    let mut row = vec![time(at), String::new(), String::new(), String::new()];
                    row.extend([event.reason, object, event.message]);
                    self.rows.push(row);
                }
                Sight::Action(_) => {}
                Sight::Status(status) => self.status(at, *status, simulation),
            }
        }
    }

    /// A row where the columns of `get pods` change.
    fn status(&mut self, at: Duration, status: PodStatus, simulation: &Simulation) {
        let view = View {
            object: self.accepted.clone(),
            generation: simulation.state.generation(),
            deletion: simulation.state.deletion(),
            status,
        };
        let now: Timestamp = clock(at).wall;
        let cells = pod::row(&object::pod(&view), false, now);
        // Between the name and the age. How long ago a restart was changes by itself.
        let restarts = cells[3].split(' ').next().unwrap_or_default().to_owned();
        let cells = vec![cells[1].clone(), cells[2].clone(), restarts];
        if cells != self.shown {
            self.shown.clone_from(&cells);
            self.rows
                .push(std::iter::once(time(at)).chain(cells).chain([const { String::new() }; 3]).collect());
        }
    }
}

/// A time since the beginning: `1m20s`, `2.5s`.
fn time(at: Duration) -> String {
    let whole = go_duration(at);
    match at.subsec_millis() {
        0 => whole,
        milliseconds => {
            let fraction = format!("{milliseconds:03}");
            format!("{}.{}s", whole.trim_end_matches('s'), fraction.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_fraction_where_they_need_one() {
        for (millis, text) in [(0, "0s"), (2_500, "2.5s"), (80_000, "1m20s"), (60_050, "1m0.05s")] {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
    }
}
