//! One container as commands find it: its record, and what can be seen of its init.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use serde_json::{Map, Value, json};

use super::error::Error;
use super::global::Global;
use super::status::{Seen, Status};
use super::store::{Held, Id, Place, Record};
use crate::container::engine::Gate;
use crate::procfs;

/// A container that exists.
#[derive(Debug)]
pub(crate) struct Container {
    /// Where its state is.
    pub(crate) place: Place,
    /// What is known.
    pub(crate) record: Record,
}

impl Container {
    /// Finds the container named on the command line.
    pub(crate) fn find(global: &Global<'_>, id: &str) -> Result<Self, Error> {
        let place = Place::new(&global.root, &Id::new(id)?);
        let record = place.record()?;
        Ok(Self { place, record })
    }

    /// Finds it, to change it.
    pub(crate) fn hold(global: &Global<'_>, id: &str) -> Result<(Self, Held), Error> {
        let found = Self::find(global, id)?;
        let held = found.place.hold()?;
        // It may have changed before it was ours.
        let record = found.place.record()?;
        Ok((Self { record, ..found }, held))
    }

    /// What it does.
    pub(crate) fn status(&self) -> Status {
        let init_lives = self.record.init.is_some_and(|init| procfs::lives(init.pid, init.start_time));
        Status::of(Seen {
            init_lives,
            unfinished: self.record.unfinished,
            has_gate: Gate::is_waited_at(self.place.directory()),
            is_frozen: init_lives && self.record.cgroup.is_frozen(),
        })
    }

    /// A descriptor of its init; none when that ended.
    pub(crate) fn init(&self) -> Option<OwnedFd> {
        let init = self.record.init?;
        procfs::open(init.pid, init.start_time).filter(|pidfd| !procfs::has_ended(pidfd))
    }

    /// Its pid, 0 when it is stopped.
    pub(crate) fn pid(&self, status: Status) -> i32 {
        match (status, self.record.init) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some(init)) => init.pid,
        }
    }

    /// Sends a signal to its init; false when that has ended.
    pub(crate) fn signal(&self, signal: i32) -> Result<bool, Error> {
        let Some(init) = self.init() else {
            return Ok(false);
        };
        let sent = crate::sys::pidfd::signal(init.as_fd(), signal);
        sent.map_err(Error::kernel("unable to signal init")).map(|()| true)
    }

    /// The state as `state` and `list` print it.
    pub(crate) fn state(&self, owner: &str) -> Value {
        let status = self.status();
        let mut state = common(&self.record, &status.to_string(), self.pid(status));
        state.insert("rootfs".to_owned(), json!(self.record.rootfs));
        state.insert("created".to_owned(), json!(self.record.created));
        state.insert("owner".to_owned(), json!(owner));
        Value::Object(state)
    }
}

fn common(record: &Record, status: &str, pid: i32) -> Map<String, Value> {
    let mut state = Map::new();
    state.insert("ociVersion".to_owned(), json!(record.oci_version));
    state.insert("id".to_owned(), json!(record.id));
    state.insert("pid".to_owned(), json!(pid));
    state.insert("status".to_owned(), json!(status));
    state.insert("bundle".to_owned(), json!(record.bundle));
    if !record.annotations.is_empty() {
        state.insert("annotations".to_owned(), json!(record.annotations));
    }
    state
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Error::file("write", std::path::Path::new("/dev/stdout")))
}
