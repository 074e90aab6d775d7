//! Taking up a pod whose shim was killed: everything in its record is found again by pid and start time, or
//! found to have ended.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;

use super::children::Role;
use super::create::identify;
use super::instance::{Files, Held, Init, State};
use super::keeper::End;
use super::output::{Kind, Output};
use super::record::{InstanceRecord, Phase, ProcessRecord, Record};
use super::sandbox::Goal;
use super::streams::{open_fifo, remove_files};
use super::{Shim, procfs};
use crate::cgroup::Entry;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::seccomp::Cache;
use crate::sys::{clock, pidfd};
use crate::wire::{CreateConfig, Exit};

/// How long an old supervisor may take to die, in milliseconds.
const SUPERVISOR_DEATH: u16 = 5000;

impl Shim {
    /// Begins with nothing, or from where the record says that a predecessor was.
    pub(super) fn begin(&mut self, record: Option<Record>) {
        let Some(record) = record else {
            self.sandbox.record.attempt = 0;
            self.supervisor.want();
            // Nothing was ever made of it that would have to go first.
            return self.begin_making(0, None);
        };
        self.end_old_supervisor(record.supervisor);
        let phase = record.sandbox.phase;
        let attempt = record.sandbox.attempt;
        self.sandbox.record = record.sandbox;
        self.adopt_pause();
        for instance in record.instances {
            self.take_up(instance);
        }
        self.record();
        if record.finishing {
            return self.begin_stop(Goal::Finish(None));
        }
        self.supervisor.want();
        match phase {
            Phase::Making => self.begin_stop(Goal::Make(attempt, None)),
            Phase::Stopping => self.begin_stop(Goal::Stop(None)),
            Phase::Up | Phase::Absent => self.start_supervisor_if_quiet(),
        }
    }

    fn end_old_supervisor(&self, record: Option<ProcessRecord>) {
        let Some(ProcessRecord { pid, start_time }) = record else {
            return;
        };
        let Some(old) = procfs::open(pid, start_time) else {
            return;
        };
        if let Err(errno) = pidfd::signal(old.as_fd(), libc::SIGKILL) {
            self.complain(format_args!("kill the old supervisor: {errno}"));
        }
        if !procfs::wait_end(&old, SUPERVISOR_DEATH) {
            self.complain(format_args!("the old supervisor, process {pid}, does not end"));
        }
    }

    fn adopt_pause(&mut self) {
        let Some(record) = self.sandbox.record.pause else {
            return;
        };
        let found = procfs::open(record.pid, record.start_time);
        match found.filter(|pidfd| self.kept.end_of(record.pid).is_none() && !procfs::has_ended(pidfd)) {
            Some(pidfd) => {
                let pause = Init { record, pidfd };
                self.adopt(&pause, Role::Pause);
                self.sandbox.pause = Some(pause);
                self.sandbox.network_namespace = self.open_network_namespace().ok();
            }
            None => self.sandbox.record.pause = None,
        }
    }

    fn take_up(&mut self, record: InstanceRecord) {
        if record.init.is_none() && record.ended.is_none() {
            return self.give_up(&record.create);
        }
        let instance = record.create.instance.clone();
        let mut held = self.rebuild(&record);
        super::kept::resume(&mut self.kept, &mut held, !record.stdin_closed);
        self.end_old_execs(&held.group);
        self.instances.insert(instance.clone(), held);
        if record.ended.is_some() {
            return;
        }
        self.follow_again(&record.create);
        let pid = record.init.map_or(0, |init| init.pid);
        if let Some(end) = self.kept.end_of(pid) {
            return self.instance_ended(&instance, end, None);
        }
        let process = record.init.and_then(|init| Some((init, procfs::open(init.pid, init.start_time)?)));
        match process {
            Some((record, pidfd)) => {
                let init = Init { record, pidfd };
                // One that ended already is reported by this watch at once.
                self.adopt(&init, Role::Init(instance.clone()));
                if let Some(held) = self.instances.get_mut(&instance) {
                    held.init = Some(init);
                    find_started(held);
                }
            }
            // The keeper has just reaped it, and its word is on the way.
            None if self.kept.is_ward(pid) => self.kept.await_end(pid, Role::Init(instance)),
            None => self.instance_ended(&instance, End { exit: Exit::Unknown, at: clock::wall() }, None),
        }
    }

    /// Whatever of it cannot be read, what is recorded stays known and what runs goes on.
    fn rebuild(&self, record: &InstanceRecord) -> Held {
        let create = record.create.clone();
        let state = match (record.ended, record.started_at) {
            (Some(ended), _) => State::Exited(ended),
            (None, Some(_)) => State::Running,
            (None, None) => State::Created,
        };
        let (files, group) = (Files(&create), self.group.child(&create.instance.to_string()));
        let is_over = record.ended.is_some();
        let stdin = create.stdin && !create.tty && !record.stdin_closed && !is_over;
        let mut held = Held {
            state,
            creation: None,
            init: None,
            started_at: record.started_at,
            entry: Entry::default(),
            group,
            identity: Identity::unknown(),
            program: Program::unknown(),
            unreadable: None,
            start: open_fifo(&files.start(), OFlag::O_RDONLY).ok(),
            starting: None,
            output: if is_over { Output::unopened(&create.log) } else { Output::again(&create.log) },
            stdin: stdin.then(|| open_fifo(&files.stdin(), OFlag::O_WRONLY).ok()).flatten(),
            terminal: None,
            create,
        };
        if !is_over && let Err(message) = held.read_again(&self.filters) {
            let instance = &held.create.instance;
            self.complain(format_args!("take up {instance}: {message}; it runs on, and nothing can be exec'd in it until this is mended"));
            held.unreadable = Some(message);
        }
        held
    }

    /// The FIFOs, and a terminal up to its buffer, hold what was written while no shim read.
    fn follow_again(&mut self, create: &CreateConfig) {
        let files = Files(create);
        let terminal = self.instances.get(&create.instance).and_then(|held| held.terminal.as_ref());
        if let Some(Ok(copy)) = terminal.map(OwnedFd::try_clone) {
            self.follow(&create.instance, Kind::Terminal, copy);
        }
        for (kind, path) in [(Kind::Stdout, files.stdout()), (Kind::Stderr, files.stderr())] {
            if let Ok(source) = open_fifo(&path, OFlag::O_RDONLY) {
                self.follow(&create.instance, kind, source);
            }
        }
    }

    /// An instance whose creation was under way: no supervisor was told of it.
    fn give_up(&mut self, create: &CreateConfig) {
        let group = self.group.child(&create.instance.to_string());
        if let Err(error) = group.kill() {
            self.complain(format_args!("{}", super::chain(&error)));
        }
        self.remove_group(&group, 0);
        remove_files(create);
    }
}

/// The shim may have died between telling an init to execute its program and hearing that it did: nobody has
/// the other end of that pipe then.
fn find_started(held: &mut Held) {
    let (State::Created, Some(start)) = (&held.state, &held.start) else { return };
    if let Ok(0) = nix::unistd::read(start, &mut [0; 1]) {
        held.state = State::Running;
        held.started_at = Some(clock::wall());
        held.start = None;
    }
}

impl Held {
    /// Reads what an exec needs and the record does not hold.
    pub(super) fn read_again(&mut self, filters: &RefCell<Cache>) -> Result<(), String> {
        let path = self.create.bundle.join("config.json");
        let spec = Spec::load(&path);
        let spec = spec.map_err(|error| format!("read {}: {}", path.display(), super::chain(&error)))?;
        let (identity, program) = identify(&spec, &self.create, filters)?;
        self.entry = self.group.entry().map_err(|error| super::chain(&error))?;
        (self.identity, self.program, self.unreadable) = (identity, program, None);
        Ok(())
    }
}
