//! Taking up a pod whose shim was killed: everything in its record is found again by pid and start time, or
//! found to have ended.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use nix::fcntl::OFlag;

use super::children::Role;
use super::create::{identify, limits, own_group};
use super::finish::Finish;
use super::instance::{Files, Held, Init, State};
use super::keeper::End;
use super::log_file::LogFile;
use super::output::{Kind, Origin, Output};
use super::record::{InstanceRecord, Phase, ProcessRecord, Record};
use super::sandbox::{Goal, PAUSE};
use super::streams::{open_fifo, remove_files};
use super::{Shim, procfs};
use crate::cgroup::{Entry, Group};
use crate::container::engine::Gate;
use crate::container::engine::gate::Outcome;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::seccomp::Cache;
use crate::container::spec;
use crate::sys::{clock, pidfd};
use crate::wire::{CreateConfig, Exit, InstanceId, PreStop};

/// How long an old supervisor may take to die, in milliseconds.
const SUPERVISOR_DEATH: u16 = 5000;

impl Shim {
    /// Begins with nothing, or from where the record says that a predecessor was.
    pub(super) fn begin(&mut self, record: Option<Record<'_>>) {
        let Some(record) = record else {
            self.sandbox.record.attempt = 0;
            self.supervisor.want();
            // Nothing was ever made of it that would have to go first.
            return self.begin_making(0, None);
        };
        self.end_old_supervisor(record.supervisor);
        let phase = record.sandbox.phase;
        let attempt = record.sandbox.attempt;
        self.sandbox.record = record.sandbox.into_owned();
        // Each record that is written from here on says all that this one says.
        if record.finishing {
            self.finish = Finish::Asked;
        }
        self.adopt_pause();
        let ended: Vec<_> =
            record.instances.into_iter().filter_map(|instance| self.take_up(instance)).collect();
        self.resume_output();
        for (instance, end) in ended {
            self.instance_ended(&instance, end, None);
        }
        self.give_up_unknown();
        self.record();
        self.kept.close_rest();
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
        match found.filter(|pidfd| self.kept.end_of(record).is_none() && !procfs::has_ended(pidfd)) {
            Some(pidfd) => {
                let pause = Init { record, pidfd };
                self.adopt(&pause, Role::Pause);
                self.sandbox.pause = Some(pause);
                self.sandbox.network_namespace = self.open_network_namespace().ok();
            }
            None => self.sandbox.record.pause = None,
        }
    }

    /// Holds an instance again. One that ended meanwhile is told back: its end is recorded once all are held, for a
    /// record names every instance or loses it.
    fn take_up(&mut self, record: InstanceRecord<'_>) -> Option<(InstanceId, End)> {
        let instance = record.create.instance.clone();
        let init = match (record.init, record.ended) {
            (Some(init), None) => init,
            (None, None) => {
                self.give_up(&record.create);
                return None;
            }
            (_, Some(_)) => {
                let held = self.rebuild(&record);
                self.end_old_execs(&held.group);
                self.instances.insert(instance, held);
                return None;
            }
        };
        let mut held = self.rebuild(&record);
        super::kept::resume(&mut self.kept, &mut held, !record.stdin_closed);
        held.lost = Some(init);
        self.end_old_execs(&held.group);
        self.instances.insert(instance.clone(), held);
        self.follow_again(&record.create);
        if let Some(end) = self.kept.end_of(init) {
            return Some((instance, end));
        }
        match procfs::open(init.pid, init.start_time) {
            Some(pidfd) => {
                let init = Init { record: init, pidfd };
                // One that ended already is reported by this watch at once.
                self.adopt(&init, Role::Init(instance.clone()));
                if let Some(held) = self.instances.get_mut(&instance) {
                    (held.init, held.lost) = (Some(init), None);
                    find_started(held);
                }
                None
            }
            // The keeper has just reaped it, and its word is on the way.
            None if self.kept.is_ward(init) => {
                self.kept.await_end(init, Role::Init(instance));
                None
            }
            None => Some((instance, End { exit: Exit::Unknown, at: clock::wall() })),
        }
    }

    /// Whatever of it cannot be read, what is recorded stays known and what runs goes on.
    fn rebuild(&self, record: &InstanceRecord<'_>) -> Held {
        let create = record.create.as_ref().clone();
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
            lost: None,
            started_at: record.started_at,
            entry: Entry::default(),
            group,
            ends_with_init: false,
            identity: Rc::new(Identity::unknown()),
            program: Rc::new(Program::unknown()),
            unreadable: None,
            start: open_fifo(&files.start(), OFlag::O_RDONLY).ok(),
            starting: None,
            start_failure: None,
            output: Output::new(if is_over {
                LogFile::unopened(&create.log)
            } else {
                LogFile::again(&create.log)
            }),
            stdin: stdin.then(|| open_fifo(&files.stdin(), OFlag::O_WRONLY).ok()).flatten(),
            terminal: None,
            // Whatever the predecessor exec'd is killed.
            pre_stop: record.pre_stop_began.then_some(PreStop::Ended(Exit::Unknown)),
            create,
        };
        if !is_over && let Err(message) = held.read_again(self.config.share_pid, &self.filters) {
            let instance = &held.create.instance;
            self.complain(format_args!("take up {instance}: {message}; it runs on, and nothing can be exec'd in it until this is mended"));
            held.unreadable = Some(message);
        }
        held
    }

    /// The FIFOs, and a terminal up to its buffer, hold what was written while no shim read. The keeper's ends come
    /// first: what is in a FIFO goes with its last descriptor, which may be the keeper's.
    fn follow_again(&mut self, create: &CreateConfig) {
        let (files, instance) = (Files(create), &create.instance);
        let mut origin = |kind, path: &Path, access, terminal| {
            let kept = self.kept.take_output(instance, kind);
            kept.or_else(|| open_fifo(path, access).ok()).map(|fifo| (kind, Origin { fifo, terminal }))
        };
        let found = if create.tty {
            let terminal = self.instances.get(instance).and_then(|held| held.terminal.as_ref());
            let terminal = terminal.and_then(|terminal| terminal.try_clone().ok());
            [
                terminal.and_then(|terminal| {
                    origin(Kind::Terminal, &files.stdout(), OFlag::O_RDWR, Some(terminal))
                }),
                None,
            ]
        } else {
            let read = OFlag::O_RDONLY;
            [
                origin(Kind::Stdout, &files.stdout(), read, None),
                origin(Kind::Stderr, &files.stderr(), read, None),
            ]
        };
        for (kind, origin) in found.into_iter().flatten() {
            self.follow(instance, kind, origin);
        }
    }

    /// Groups of instances that no record names: their creation was under way, or their removal.
    fn give_up_unknown(&mut self) {
        let known = |name: &str| self.instances.keys().any(|instance| instance.to_string() == name);
        let mut found = self.group.children();
        found.retain(|group| group.name() != PAUSE && !known(group.name()));
        for group in found {
            self.give_up_group(&group);
        }
    }

    /// An instance whose creation was under way: no supervisor was told of it.
    fn give_up(&mut self, create: &CreateConfig) {
        let group = self.group.child(&create.instance.to_string());
        self.give_up_group(&group);
        remove_files(create);
    }

    fn give_up_group(&mut self, group: &Group) {
        if let Err(error) = group.kill() {
            self.complain(format_args!("{}", super::chain(&error)));
        }
        self.remove_group(group, 0);
    }
}

/// The shim may have died between telling an init to execute its program and hearing how that went: nobody has
/// the other end of that pipe when it did, and the reason is in it when it did not.
fn find_started(held: &mut Held) {
    let (State::Created, Some(start)) = (&held.state, &held.start) else { return };
    match Gate::outcome(start) {
        Outcome::Waiting => {}
        Outcome::Executed => {
            held.state = State::Running;
            held.started_at = Some(clock::wall());
            held.start = None;
        }
        Outcome::Failed(problem) => {
            let message = held.program.explain(&held.identity, problem);
            super::complain(format_args!("start {}: {message}", held.create.instance));
            held.start_failure = Some(message);
            held.start = None;
        }
    }
}

impl Held {
    /// Reads what an exec needs and the record does not hold.
    pub(super) fn read_again(&mut self, share_pid: bool, filters: &RefCell<Cache>) -> Result<(), String> {
        let path = self.create.bundle.join("config.json");
        let read = spec::load_with(&path, &mut filters.borrow_mut());
        let (spec, filter) = read.map_err(|error| super::chain(&error))?;
        let (identity, program) = identify((&spec, &filter), &self.create, filters)?;
        self.ends_with_init = spec::has_own_pid_namespace(&spec, share_pid);
        let limits = limits(&spec, self.group.version())?;
        self.group = own_group(self.group.clone(), &spec, &limits);
        self.entry = self.group.entry().map_err(|error| super::chain(&error))?;
        (self.identity, self.program, self.unreadable) = (Rc::new(identity), Rc::new(program), None);
        Ok(())
    }
}
