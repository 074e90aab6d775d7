//! Making a container: what `create` and `run` have in common. Everything is checked and decided first; then
//! each thing made is undone if a later one fails.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use oci_spec::runtime::Spec;

use super::command::parse::Parsed;
use super::container::Container;
use super::error::Error;
use super::global::{Global, Supplementary};
use super::grounds::Grounds;
use super::groups;
use super::handover::{Front, Handover, Preserved};
use super::notify::{self, Notify};
use super::relay::Relay;
use super::store::{Held, Init, Place, Record};
use crate::cgroup::Entry;
use crate::container::engine::at_once::{self, Recorder};
use crate::container::engine::files::{Abilities, Base, ChangeRoot, Covers};
use crate::container::engine::plan::{Keyring, Known, MakerRights, Plan, Start};
use crate::container::engine::request::Stdio;
use crate::container::engine::{Created, Gate, Progress, Request, begin};
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::seccomp::Cache;
use crate::container::seccomp::aside::KnownFilter;
use crate::procfs;
use crate::sys::process::{self, Vector};

/// Everything that is known before anything is made.
pub(crate) struct Blueprint {
    grounds: Grounds,
    identity: Rc<Identity>,
    program: Rc<Program>,
    plan: Rc<Plan>,
    preserved: Preserved,
    keyring: Keyring,
    handover: Handover,
}

/// A container whose init lives on by itself.
pub(crate) struct Made {
    pub(crate) container: Container,
    pub(crate) held: Held,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// A container that was made, who is to have the master of its terminal, and what its standard streams are called, where
/// that is known.
type Begun<'r> = (Created, Option<&'r mut Relay>, Option<Vec<String>>);

/// What a container is made in.
struct Ground<'a> {
    place: &'a Place,
    held: &'a Held,
    record: &'a mut Record,
}

impl Blueprint {
    /// Reads the bundle and decides.
    pub(crate) fn new(
        global: &Global<'_>,
        id: &str,
        given: &Parsed,
        (front, start): (Front, Start),
    ) -> Result<Self, Error> {
        let preserved = Preserved::find(given)?;
        let mut grounds = Grounds::read(global, id, given)?;
        let handover = Handover::open(given, grounds.has_terminal(), front)?;
        add_variables(&mut grounds.spec, preserved.variables());
        notify::add(&mut grounds.spec, &Place::new(&global.root, &grounds.id))?;
        let Grounds { id, spec, filter, bundle, rootfs, group, .. } = &grounds;
        let mut identity = identity((spec, filter), rootfs, global)?;
        // Nothing denies it to the host's root.
        if global.maker != MakerRights::Root
            && Supplementary::like(global.maker, "self") == Supplementary::Kept
        {
            identity.keep_groups().map_err(refuse)?;
        }
        let args = spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default();
        let program = Program::new(&identity, &args, &[]).map_err(refuse)?;
        let keyring = if given.is_on("no-new-keyring") { Keyring::Inherited } else { Keyring::New };
        let known = Known {
            id: id.as_str(),
            bundle,
            sandbox: None,
            cgroup: groups::view(group.as_ref()),
            maker: global.maker,
            kernel: Abilities::probe(),
            change_root: if given.is_on("no-pivot") { ChangeRoot::Move } else { ChangeRoot::Pivot },
            keyring,
            root: rootfs,
            // One container is not worth a trimmed mount namespace: making that copies the host's mounts too.
            base: Base::Host,
            // Whoever is told of a process is told of one that waits.
            start: if handover.is_empty() { start } else { Start::Later },
        };
        let plan = Plan::new(spec, &known, &own_environment, &program.environment).map_err(refuse)?;
        let plan = Rc::new(plan);
        let (identity, program) = (Rc::new(identity), Rc::new(program));
        Ok(Self { grounds, identity, program, plan, preserved, keyring, handover })
    }

    /// What would be done, for `--dry-run`.
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        let Grounds { spec, group, membership, rights, .. } = &self.grounds;
        for (controller, path) in &membership.paths {
            text.push_str(&format!("cgroup {controller}: {}\n", path.display()));
        }
        if let Some(limits) = groups::limits(spec, group.as_ref(), *rights).ok().flatten() {
            text.push_str(&limits.to_string());
        }
        text.push_str(&self.plan.to_string());
        text
    }

    /// Whether [`Blueprint::start`] is how it is made.
    pub(crate) fn is_at_once(&self) -> bool {
        self.plan.at_once
    }

    /// Makes it, to be started later. With a relay, its standard streams are the relay's.
    pub(crate) fn create(self, global: &Global<'_>, relay: Option<&mut Relay>) -> Result<Made, Error> {
        let (container, held, (pid, pidfd)) = self.make(global, |blueprint, mut ground| {
            let created = blueprint.fill(&mut ground, relay)?;
            // Should this process end, it must know that the init goes on without it.
            created.release_for_good().map(|(pid, pidfd, _)| (pid, pidfd)).map_err(refuse)
        })?;
        Ok(Made { container, held, pid, pidfd })
    }

    /// Makes it and starts it. What it says of its readiness comes to the second.
    pub(crate) fn start(
        self,
        global: &Global<'_>,
        relay: Option<&mut Relay>,
    ) -> Result<(Made, Option<Notify>), Error> {
        let (container, held, (child, notify)) =
            self.make(global, |blueprint, ground| blueprint.fill_at_once(ground, relay))?;
        let process::Child { pid, pidfd } = child;
        Ok((Made { container, held, pid, pidfd }, notify))
    }

    fn make<T>(
        mut self,
        global: &Global<'_>,
        fill: impl FnOnce(&mut Self, Ground<'_>) -> Result<T, Error>,
    ) -> Result<(Container, Held, T), Error> {
        let place = Place::new(&global.root, &self.grounds.id);
        let held = place.claim(&global.root)?;
        let mut record = self.grounds.record(self.keyring, global.uid);
        match fill(&mut self, Ground { place: &place, held: &held, record: &mut record }) {
            Ok(made) => {
                self.leave();
                Ok((Container { place, record }, held, made))
            }
            Err(error) => {
                self.grounds.clear(&place, &record);
                Err(error)
            }
        }
    }

    /// Leaves what was decided where it is: this process ends soon, and an init that was forked has its pages as well, each of
    /// which would be copied by giving back the thousands of pieces in them.
    fn leave(self) {
        let Self { grounds, identity, program, plan, .. } = self;
        std::mem::forget((grounds.spec, identity, program, plan));
    }

    fn fill(&mut self, ground: &mut Ground<'_>, relay: Option<&mut Relay>) -> Result<Created, Error> {
        let Ground { place, held, record } = ground;
        let laid = self.grounds.lay(place, held, record)?;
        let gate = gate_in(place.directory())?;
        let made = self.init(gate, &laid.entry, relay).map_err(|error| self.explain(error));
        let (created, master_goes, pipes) = made?;
        let init = procfs::start_time(created.pid).map(|start_time| Init { pid: created.pid, start_time });
        record.init = Some(init.ok_or(Error::NotRunning)?);
        if let Some(group) = &record.resctrl {
            group.enter(created.pid).map_err(refuse)?;
        }
        record.descriptors = pipes.unwrap_or_else(|| standard_descriptors(created.pid));
        record.unfinished = false;
        self.hand_over(&created, master_goes)?;
        place.write(record, held)?;
        Ok(created)
    }

    fn fill_at_once(
        &mut self,
        ground: Ground<'_>,
        mut relay: Option<&mut Relay>,
    ) -> Result<(process::Child, Option<Notify>), Error> {
        let Ground { place, held, record } = ground;
        let laid = self.grounds.lay(place, held, record)?;
        let notify = Notify::open(place)?;
        let (stdio, pipes) = self.stdio(&mut relay)?;
        record.descriptors = pipes.unwrap_or_else(|| standard_descriptors(nix::unistd::getpid().as_raw()));
        (record.unfinished, record.at_once) = (false, true);
        let (written, refused) = (RefCell::new(record), Cell::new(None));
        let write = |pid, start_time| {
            let record = &mut *written.borrow_mut();
            record.init = Some(Init { pid, start_time });
            place.write(record, held).map_err(|error| {
                refused.set(Some(error));
                Errno::EIO
            })
        };
        let recorder = Recorder { directory: held.as_fd(), write: &write };
        let started = at_once::start(self.request(stdio, &laid.entry), recorder);
        let child = started.map_err(|error| self.explain(refused.take().unwrap_or_else(|| refuse(error))))?;
        Ok((child, notify))
    }

    fn explain(&self, error: Error) -> Error {
        if self.grounds.was_out_of_memory() {
            return Error::Container("container init was OOM-killed (memory limit too low?)".to_owned());
        }
        error
    }

    fn hand_over(&mut self, created: &Created, master: Option<&mut Relay>) -> Result<(), Error> {
        if let Some(terminal) = &created.terminal {
            match master {
                Some(relay) => {
                    let copy = terminal.try_clone().map_err(Error::file("copy", Path::new("/dev/ptmx")))?;
                    relay.attach(copy).map_err(Error::kernel("attach to the terminal"))?;
                }
                None => self.handover.terminal(terminal.as_fd())?,
            }
        }
        self.handover.process(created.pidfd.as_fd(), "standard")?;
        self.handover.pid(created.pid)
    }

    fn init<'r>(
        &self,
        gate: Gate,
        entry: &Entry,
        mut relay: Option<&'r mut Relay>,
    ) -> Result<Begun<'r>, Error> {
        let (stdio, pipes) = self.stdio(&mut relay)?;
        let mut making = begin(self.request(stdio, entry), gate).map_err(refuse)?;
        loop {
            making.wait();
            if let Progress::Created(created) = making.advance().map_err(refuse)? {
                return Ok((created, relay, pipes));
            }
        }
    }

    /// The standard streams, and what they are called where that is known.
    fn stdio(&self, relay: &mut Option<&mut Relay>) -> Result<(Stdio, Option<Vec<String>>), Error> {
        Ok(match (self.grounds.has_terminal(), relay) {
            (true, _) => (Stdio::Terminal, None),
            (false, Some(relay)) => {
                let pipes = relay.pipes().map_err(Error::kernel("make pipes"))?;
                let names = names(&pipes);
                (Stdio::Pipes(pipes), names)
            }
            (false, None) => (Stdio::Files(own_streams()?), None),
        })
    }

    fn request<'a>(&self, stdio: Stdio, entry: &'a Entry) -> Request<'a> {
        Request {
            plan: Rc::clone(&self.plan),
            identity: Rc::clone(&self.identity),
            program: Rc::clone(&self.program),
            stdio,
            cgroup: entry,
            sandbox: None,
            mounts: None,
            preserved: self.preserved.all,
            // What starts at once fails at once.
            looks_up: !self.plan.at_once,
            covers: Rc::new(Covers::OfOne),
            procfs: None,
            fault: None,
        }
    }
}

fn gate_in(directory: &Path) -> Result<Gate, Error> {
    let what = || format!("make the gate in {}", directory.display());
    Gate::make(directory).map_err(|errno| Error::Kernel(what(), errno))
}

/// Its own standard streams, for a process that outlives us.
pub(crate) fn own_streams() -> Result<[OwnedFd; 3], Error> {
    let copy = |stream: &dyn AsFd| stream.as_fd().try_clone_to_owned();
    let copies = || Ok([copy(&std::io::stdin())?, copy(&std::io::stdout())?, copy(&std::io::stderr())?]);
    copies().map_err(Error::file("copy", Path::new("/proc/self/fd/0")))
}

pub(crate) fn refuse(error: impl std::error::Error) -> Error {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    Error::Container(text)
}

pub(crate) fn add_variables(spec: &mut Spec, more: Vec<String>) {
    if let Some(process) = spec.process_mut().as_mut().filter(|_| !more.is_empty()) {
        let mut variables = process.env().clone().unwrap_or_default();
        variables.extend(more);
        process.set_env(Some(variables));
    }
}

/// Who the process of `spec` is to be. Its seccomp profile, the same in nearly every container of a host, is compiled once.
pub(crate) fn identity(
    (spec, known): (&Spec, &KnownFilter),
    rootfs: &Path,
    global: &Global<'_>,
) -> Result<Identity, Error> {
    let score = spec.process().as_ref().and_then(oci_spec::runtime::Process::oom_score_adj);
    let mut filters = Cache::on_disk(global.root.filters());
    Identity::cached(spec, rootfs, score, (known, &mut filters)).map_err(refuse)
}

/// Our own variables, for hooks that name none.
pub(crate) fn own_environment() -> Vector {
    let text = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec()).unwrap_or_default()
    };
    Vector::new(std::env::vars_os().map(text).collect())
}

/// What `/proc` names these pipes.
fn names(pipes: &[OwnedFd; 3]) -> Option<Vec<String>> {
    let name = |pipe: &OwnedFd| Some(format!("pipe:[{}]", fstat(pipe).ok()?.st_ino));
    pipes.iter().map(name).collect()
}

/// What the standard streams of a process are, as `/proc` names them: what a checkpoint finds open there later need not be
/// from outside.
pub(crate) fn standard_descriptors(pid: i32) -> Vec<String> {
    let name = |number: i32| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
        Some(link.to_string_lossy().into_owned())
    };
    // Where they cannot be seen they cannot be dumped either.
    (0..3).map(name).collect::<Option<_>>().unwrap_or_default()
}
