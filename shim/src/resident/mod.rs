//! The resident shim: one pod's process in the host's namespaces, and its event loop.
//!
//! ```text
//!  epoll --> signals      reap children: instances, exec'd processes, tasks, creators, pause, supervisor
//!        --> timer        deadlines, back-off, removals to try again
//!        --> supervisor   requests (wire.rs)
//!        --> output       stdout and stderr of instances -> CRI log, attached clients
//!        --> pipes        of children that start, and of tasks
//!        --> keeper       ends of processes that a killed predecessor started
//! ```
//!
//! **Invariants.** One thread; nothing in the loop blocks: what takes time is a child whose end is an event.
//! What is announced is in the record first (`record`). A child is reaped in one place (`children`).
//! No event names a process by its pid alone: a pid is looked up among children not yet reaped.

mod attach;
mod children;
mod create;
mod creator;
mod execs;
mod exit;
mod finish;
mod instance;
mod keeper;
mod kept;
mod launch;
mod log;
mod log_file;
mod making;
mod output;
mod record;
mod remove;
mod requests;
mod rotation;
mod sandbox;
mod start;
mod starting;
mod stop;
mod streams;
mod supervisor;
mod takeover;
mod tasks;
mod timers;
mod transit;
mod watch;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::Flock;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use self::start::{Error, Options, protected_program, run};
use crate::cgroup::Group;
use crate::container::seccomp::Cache;
use crate::harmless;
use crate::layout::{Layout, PodLayout};
use crate::procfs;
use crate::sys::process;
use crate::wire::{Exit, InstanceId, SandboxConfig};
use children::Role;
use timers::{Timer, Timers};
use watch::{Source, Watch};

/// Everything that the shim of one pod knows.
struct Shim {
    layout: Layout,
    pod: PodLayout,
    config: SandboxConfig,
    programs: launch::Programs,
    /// Held for as long as this process lives; by its keeper, where it has one.
    _lock: Option<Flock<File>>,
    /// Says the same to who looks at the pod's directory on disk alone.
    _disk: Flock<File>,
    kept: kept::Kept,
    /// Tells the caller of `hull-shim pod` that the pod has its supervisor.
    ready: Option<OwnedFd>,
    watch: Watch,
    signals: SignalFd,
    timers: Timers,
    group: Group,
    own_pid_namespace: OwnedFd,
    engine: making::Engine,
    /// The pod's containers mostly have one profile.
    filters: RefCell<Cache>,
    roles: HashMap<i32, Role>,
    /// Ends of children whose role is not known yet, kept while a creator runs.
    strays: HashMap<i32, Exit>,
    /// Registrations of processes that an earlier shim started.
    adopted: HashMap<i32, watch::Token>,
    sandbox: sandbox::Sandbox,
    instances: BTreeMap<InstanceId, instance::Held>,
    execs: BTreeMap<u64, execs::Running>,
    tasks: BTreeMap<u64, tasks::Task>,
    supervisor: supervisor::Supervisor,
    finish: finish::Finish,
    next_key: u64,
    /// The way of output to logs.
    transit: transit::Transit,
}

impl Shim {
    /// Runs until the pod is over.
    fn serve(&mut self) -> Result<(), Error> {
        let mut ready = Vec::new();
        while !self.finish.is_done() {
            self.timers.arm();
            self.watch.wait(&mut ready).map_err(|errno| Error::System("wait for events", errno))?;
            for (token, flags) in ready.drain(..) {
                // An earlier event of this batch may have closed the source of a later one.
                if let Some(source) = self.watch.source(token) {
                    self.dispatch(source, flags);
                }
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, source: Source, flags: EpollFlags) {
        match source {
            Source::Signals => self.signalled(),
            Source::Timer => self.elapsed(),
            Source::Supervisor => self.supervisor_event(flags),
            Source::Adopted(pid, role) => self.adopted_event(pid, role),
            Source::Output(instance, stream) => self.output_event(&instance, stream),
            Source::Start(instance) => self.start_event(&instance),
            Source::Making(instance) => self.making_event(&instance),
            Source::Exec(key) => self.exec_event(key),
            Source::Task(key) => self.task_event(key),
            Source::Pause => self.pause_event(),
            Source::Keeper => self.keeper_event(),
        }
    }

    fn signalled(&mut self) {
        // Only SIGCHLD and SIGTERM are read here; SIGTERM ends nothing: the pod is ended by its supervisor.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.reap();
    }

    fn elapsed(&mut self) {
        for timer in self.timers.due() {
            match timer {
                Timer::Supervisor => self.start_supervisor(),
                Timer::SupervisorOverdue(generation) => self.supervisor_overdue(generation),
                Timer::Exec(key) => self.exec_overdue(key),
                Timer::Rotation(instance) => self.rotate_log(&instance),
                Timer::Creator(instance) => self.creation_overdue(&instance),
                Timer::Remove(group, attempt) => self.remove_group(&group, attempt),
                Timer::PodGroup(attempt) => self.remove_pod_group(attempt),
            }
        }
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// Writes to the pod's diagnostics, which standard error is.
    fn complain(&self, what: std::fmt::Arguments<'_>) {
        complain(what);
    }
}

/// Says something about the shim itself, in the pod's diagnostics.
fn complain(what: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let line = format!("{} hull-shim: {what}\n", crate::sys::clock::timestamp(crate::sys::clock::wall()));
    // Nobody is left to tell when the diagnostics cannot be written.
    harmless(std::io::stderr().write_all(line.as_bytes()));
}

/// The chain of causes of an error in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The signals that the loop reads; blocked otherwise.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// A descriptor of `file` for a child; the child gets its own copy by number.
fn null() -> nix::Result<OwnedFd> {
    process::open_null()
}

fn set_nonblocking(descriptor: &impl AsFd) -> nix::Result<()> {
    let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    nix::fcntl::fcntl(descriptor, flags).map(drop)
}
