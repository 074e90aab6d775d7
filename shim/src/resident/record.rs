//! The shim's record, `shim.json`: everything that a successor needs. Written whole (temporary file, fsync,
//! rename) before what it says is announced.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Shim;
use super::instance::State;
use crate::wire::{CreateConfig, Ended};

/// A process by pid and start time, which together are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessRecord {
    pub(super) pid: i32,
    pub(super) start_time: u64,
}

/// The whole record.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record<'a> {
    pub(super) sandbox: Cow<'a, SandboxRecord>,
    pub(super) instances: Vec<InstanceRecord<'a>>,
    pub(super) supervisor: Option<ProcessRecord>,
    pub(super) finishing: bool,
}

/// What there is of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SandboxRecord {
    pub(super) attempt: u32,
    pub(super) phase: Phase,
    pub(super) pause: Option<ProcessRecord>,
    /// `network-up` was begun and `network-down` has not succeeded since.
    pub(super) network_used: bool,
    pub(super) network: Option<serde_json::Value>,
    pub(super) failure: Option<String>,
}

/// How far a sandbox is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Phase {
    /// There is none.
    #[default]
    Absent,
    /// It is being made.
    Making,
    /// It can be used.
    Up,
    /// It is being removed.
    Stopping,
}

/// One instance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceRecord<'a> {
    pub(super) create: Cow<'a, CreateConfig>,
    pub(super) init: Option<ProcessRecord>,
    pub(super) started_at: Option<i64>,
    pub(super) ended: Option<Ended>,
    /// Its standard input was closed for good.
    #[serde(default)]
    pub(super) stdin_closed: bool,
    /// Its preStop hook was started.
    #[serde(default)]
    pub(super) pre_stop_began: bool,
}

/// Why the record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("parse {}", .0.display())]
    Parse(std::path::PathBuf, #[source] serde_json::Error),
}

/// Reads a JSON file; none if it is not there.
pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => {
            result.map_err(|source| Error::File { operation: "read", path: path.to_owned(), source })?
        }
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse(path.to_owned(), source))
}

fn write(path: &Path, record: &Record<'_>) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map_err(|source| Error::Parse(path.to_owned(), source))?;
    let temporary = path.with_extension("json.new");
    let written = std::fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.map_err(|source| Error::File { operation: "write", path: temporary.clone(), source })?;
    std::fs::rename(&temporary, path).map_err(|source| Error::File {
        operation: "replace",
        path: path.to_owned(),
        source,
    })
}

impl Shim {
    /// Brings the record up to date. A host whose `/run` is full goes on without: what happened must be
    /// announced all the same, and the next change tries again.
    pub(super) fn record(&self) {
        if self.finish.is_done() {
            return;
        }
        self.entrust();
        match write(&self.pod.shim_record(), &self.as_record()) {
            Ok(()) => self.discharge(),
            Err(error) => self.complain(format_args!("{}", super::chain(&error))),
        }
    }

    fn as_record(&self) -> Record<'_> {
        let instances = self.instances.values().map(|held| InstanceRecord {
            create: Cow::Borrowed(&held.create),
            init: held.init.as_ref().map(|init| init.record).or(held.lost),
            started_at: held.started_at,
            ended: match &held.state {
                State::Exited(ended) => Some(*ended),
                State::Creating | State::Created | State::Running => None,
            },
            stdin_closed: held.stdin.is_none(),
            pre_stop_began: held.pre_stop.is_some(),
        });
        Record {
            sandbox: Cow::Borrowed(&self.sandbox.record),
            instances: instances.collect(),
            supervisor: self.supervisor.record(),
            finishing: self.finish.is_asked(),
        }
    }
}
