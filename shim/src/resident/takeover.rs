//! Taking up a pod whose shim was killed: everything in its record is found again by pid and start time, or
//! found to have ended.

use std::os::fd::AsFd;

use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;

use super::children::Role;
use super::create::{identify, open_fifo, remove_files};
use super::instance::{Files, Held, Init, State};
use super::output::{Kind, Output};
use super::record::{InstanceRecord, Phase, ProcessRecord, Record};
use super::sandbox::Goal;
use super::{Shim, procfs};
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
        match procfs::open(record.pid, record.start_time).filter(|pidfd| !procfs::has_ended(pidfd)) {
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
        let Some(process) = record.init.or_else(|| record.ended.map(|_| ProcessRecord::gone())) else {
            return self.give_up(&record.create);
        };
        let instance = record.create.instance.clone();
        let held = match self.rebuild(&record) {
            Ok(held) => held,
            Err(message) => {
                self.complain(format_args!("take up {instance}: {message}"));
                return self.give_up(&record.create);
            }
        };
        self.instances.insert(instance.clone(), held);
        self.follow_again(&record.create);
        if record.ended.is_some() {
            return;
        }
        match procfs::open(process.pid, process.start_time) {
            Some(pidfd) => {
                let init = Init { record: process, pidfd };
                // One that ended already is reported by this watch at once.
                self.adopt(&init, Role::Init(instance.clone()));
                if let Some(held) = self.instances.get_mut(&instance) {
                    held.init = Some(init);
                    find_started(held);
                }
            }
            None => self.instance_ended(&instance, Exit::Unknown, clock::wall()),
        }
    }

    fn rebuild(&self, record: &InstanceRecord) -> Result<Held, String> {
        let create = record.create.clone();
        let path = create.bundle.join("config.json");
        let spec = Spec::load(&path).map_err(|error| super::chain(&error))?;
        let (identity, program) = identify(&spec, &create)?;
        let group = self.group.child(&create.instance.to_string());
        let files = Files(&create);
        let state = match (record.ended, record.started_at) {
            (Some(ended), _) => State::Exited(ended),
            (None, Some(_)) => State::Running,
            (None, None) => State::Created,
        };
        Ok(Held {
            state,
            creator: None,
            init: None,
            started_at: record.started_at,
            // The group of an ended instance may be gone; it takes no process any more.
            entry: group.entry().unwrap_or_default(),
            group,
            identity,
            program,
            start: open_fifo(&files.start(), OFlag::O_RDONLY).ok(),
            starting: None,
            output: Output::new(&create.log)
                .map_err(|error| format!("open {}: {error}", create.log.display()))?,
            stdin: open_fifo(&files.stdin(), OFlag::O_WRONLY).ok(),
            terminal: None,
            create,
        })
    }

    /// The FIFOs hold what was written while no shim read.
    fn follow_again(&mut self, create: &CreateConfig) {
        let files = Files(create);
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

impl ProcessRecord {
    /// Stands for a process that ended and was recorded so.
    fn gone() -> Self {
        Self { pid: 0, start_time: 0 }
    }
}
