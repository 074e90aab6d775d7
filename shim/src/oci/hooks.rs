//! Hooks of the runtime's namespaces that run after the container is made: `poststart` and `poststop`
//! (oci-runtime.md section 3); and where no engine makes it, but criu, those before too. How a hook is run is the
//! engine's.

use std::path::Path;

use super::config;
use super::error::Error;
use super::make::own_environment;
use super::store::Record;
use crate::container::engine::hook::{Hook, Hooks, Output, State};
use crate::sys::process::Vector;

/// Which list of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// When the namespaces of a restored container are there.
    Prestart,
    /// After these.
    CreateRuntime,
    /// After the program runs.
    Poststart,
    /// After the container is gone.
    Poststop,
}

impl Kind {
    /// Its name in `config.json`.
    fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// What the container does when its hooks run.
    fn status(self) -> &'static str {
        match self {
            Self::Prestart | Self::CreateRuntime => "creating",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}

/// Hooks of one kind, and what they are told.
pub(crate) struct Due {
    kind: Kind,
    hooks: Vec<Hook>,
    state: Option<State>,
    pid: i32,
}

impl Due {
    /// Reads them from the configuration that a container was made from.
    pub(crate) fn new(config: &[u8], kind: Kind, record: &Record) -> Result<Self, Error> {
        let none = Self { kind, hooks: Vec::new(), state: None, pid: 0 };
        // Most have none: then nothing needs to be taken apart.
        if !contains(config, kind.name()) {
            return Ok(none);
        }
        let spec = config::parse(config)?;
        // Those that the init runs are none of these.
        let unused = Vector::new(Vec::new());
        let all = Hooks::new(&spec, &own_environment, &unused);
        let all = all.map_err(|error| Error::Refused(error.to_string()))?;
        let init = record.init.map_or(0, |init| init.pid);
        let (hooks, pid) = match kind {
            Kind::Prestart => (all.prestart, init),
            Kind::CreateRuntime => (all.create_runtime, init),
            Kind::Poststart => (all.poststart, init),
            Kind::Poststop => (all.poststop, 0),
        };
        let state = State::new(&spec, &record.id, Path::new(&record.bundle), kind.status());
        Ok(Self { hooks, state: Some(state), pid, ..none })
    }

    /// The same for an init that is not recorded yet.
    pub(crate) fn of(config: &[u8], kind: Kind, record: &Record, pid: i32) -> Result<Self, Error> {
        Ok(Self { pid, ..Self::new(config, kind, record)? })
    }

    /// Runs them one after the other; the first that fails is the last.
    pub(crate) fn run(&self) -> Result<(), Error> {
        (0..self.hooks.len()).try_for_each(|index| self.one(index))
    }

    /// Runs them, and none keeps the next from running; the messages of those that failed.
    pub(crate) fn run_all(&self) -> Vec<String> {
        (0..self.hooks.len()).filter_map(|index| self.one(index).err()).map(|error| error.chain()).collect()
    }

    fn one(&self, index: usize) -> Result<(), Error> {
        let (Some(hook), Some(state)) = (self.hooks.get(index), &self.state) else {
            return Ok(());
        };
        let output = Output::new().map_err(Error::kernel("make files for the output of hooks"))?;
        hook.run(state, self.pid, output.numbers())
            .map_err(|ending| Error::Container(hook.explain(self.kind.name(), index, ending, &output.text())))
    }
}

/// What is no text is left to whoever takes it apart.
fn contains(text: &[u8], wanted: &str) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.contains(wanted))
}
