//! Making the sandbox, step by step as events come.
//!
//! ```text
//! Absent --make--> Stopping (leftovers) --> Making: cgroup, shm, pause sets up -> recorded -> go -> enters, executes
//!                                                                                        \-> network-up
//!                                             --both--> Up --stop--> Stopping --> Absent
//! ```
//! A step that fails leads to Stopping, so that what was made is unmade by the same code (`stop`).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::children::Role;
use super::instance::Init;
use super::record::{Phase, ProcessRecord, SandboxRecord};
use super::supervisor::Reply;
use super::tasks::{Outcome, Purpose, Task};
use super::watch::{Source, Token};
use super::{Shim, procfs};
use crate::cgroup::resources::Plan;
use crate::cgroup::systemd;
use crate::container::transform::Problem;
use crate::harmless;
use crate::sandbox::{mounts, pause};
use crate::wire::{Answer, CgroupManager, Exit, Failure, Report};

/// Name of the group of pause, beside those of instances, which have a point in theirs.
pub(super) const PAUSE: &str = "pause";

/// What is to happen once there is no sandbox.
#[derive(Debug)]
pub(super) enum Goal {
    /// Nothing more.
    Stop(Option<Reply>),
    /// Make a new one.
    Make(u32, Option<Reply>),
    /// Say that it could not be made.
    Failed(String, Option<Reply>),
    /// End the pod.
    Finish(Option<Reply>),
}

/// A pause that is setting itself up.
pub(super) struct Setup {
    plan: pause::Plan,
    status: OwnedFd,
    token: Token,
    go: Option<OwnedFd>,
}

/// The sandbox and what is being done to it.
#[derive(Default)]
pub(super) struct Sandbox {
    pub(super) record: SandboxRecord,
    pub(super) pause: Option<Init>,
    /// Keeps the network namespace until `network-down` has seen it, also when pause died.
    pub(super) network_namespace: Option<OwnedFd>,
    pub(super) making: Option<Option<Reply>>,
    pub(super) setup: Option<Setup>,
    pub(super) stopping: Option<super::stop::Stopping>,
}

impl Sandbox {
    /// Whether it is being made or removed.
    pub(super) fn is_changing(&self) -> bool {
        self.making.is_some() || self.stopping.is_some()
    }

    /// Whether containers can be created in it.
    pub(super) fn is_up(&self) -> bool {
        self.record.phase == Phase::Up && self.pause.is_some() && !self.is_changing()
    }

    pub(super) fn pause_process(&self) -> Option<&Init> {
        self.pause.as_ref()
    }

    /// Pause with namespaces that a supervisor can be started in: its own are made, whether or not it has a network.
    pub(super) fn inhabitable_pause(&self) -> Option<BorrowedFd<'_>> {
        let is_recorded = self.making.is_some() && self.record.pause.is_some() && self.stopping.is_none();
        self.pause.as_ref().filter(|_| is_recorded).map(|pause| pause.pidfd.as_fd()).or(self.living_pause())
    }

    pub(super) fn living_pause(&self) -> Option<BorrowedFd<'_>> {
        let usable = self.record.phase == Phase::Up;
        self.pause.as_ref().filter(|_| usable).map(|pause| pause.pidfd.as_fd())
    }
}

impl Shim {
    pub(super) fn make_sandbox(&mut self, attempt: u32, reply: Option<Reply>) {
        if self.sandbox.is_changing() {
            let message = "a sandbox is being made or removed".to_owned();
            return self.answer(reply, Err(Failure::State { message }));
        }
        self.begin_stop(Goal::Make(attempt, reply));
    }

    /// There is nothing of an earlier sandbox any more.
    pub(super) fn begin_making(&mut self, attempt: u32, reply: Option<Reply>) {
        self.sandbox.record = SandboxRecord {
            attempt,
            phase: Phase::Making,
            network_used: self.sandbox.record.network_used,
            ..SandboxRecord::default()
        };
        self.sandbox.making = Some(reply);
        self.record();
        if let Err(message) = self.start_pause() {
            self.making_failed(message);
        }
    }

    fn start_pause(&mut self) -> Result<(), String> {
        let text = |error: &dyn std::error::Error| super::chain(error);
        // Ends when pause is in the pod's group.
        let _held = match self.config.cgroup_manager {
            CgroupManager::Cgroupfs => None,
            CgroupManager::Systemd => {
                Some(systemd::pod::start(&self.group, &self.config).map_err(|error| text(&error))?)
            }
        };
        self.group.create().map_err(|error| text(&error))?;
        self.group.limit(&self.config.resources).map_err(|error| text(&error))?;
        let group = self.group.child(PAUSE).sharing(&Plan::default());
        group.create().map_err(|error| text(&error))?;
        let entry = group.entry().map_err(|error| text(&error))?;
        mounts::mount_shm(&self.pod.shm()).map_err(|error| text(&error))?;
        let program =
            CString::new(self.programs.pause.as_os_str().as_bytes()).map_err(|error| text(&error))?;
        let plan = pause::Plan::new(&self.config, vec![program]).map_err(|error| text(&error))?;
        let started = plan.start(&entry).map_err(|error| text(&error))?;
        let pid = started.child.pid;
        self.roles.insert(pid, Role::Pause);
        let start_time = procfs::start_time(pid).ok_or("read the start time of pause")?;
        let record = ProcessRecord { pid, start_time };
        self.sandbox.pause = Some(Init { record, pidfd: started.child.pidfd });
        let token = self.watch.add(&started.status, Source::Pause).map_err(|errno| text(&errno))?;
        self.sandbox.setup = Some(Setup { plan, status: started.status, token, go: Some(started.go) });
        Ok(())
    }

    /// Pause says that it is set up, that it executes, or what failed.
    pub(super) fn pause_event(&mut self) {
        let Some(setup) = &mut self.sandbox.setup else {
            return;
        };
        let mut bytes = [0; Problem::LENGTH];
        match nix::unistd::read(&setup.status, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(1) => {
                let go = setup.go.take();
                self.sandbox.record.pause = self.sandbox.pause.as_ref().map(|pause| pause.record);
                self.sandbox.record.network_used |= self.config.network.is_some();
                self.record();
                if let Some(go) = go {
                    // A child that is gone is reaped.
                    harmless(nix::unistd::write(&go, b"g"));
                }
                self.start_network_up();
                if self.sandbox.making.is_some() {
                    self.start_supervisor_ahead();
                }
            }
            Ok(0) if setup.go.is_none() => {
                self.drop_setup();
                self.up_if_complete();
            }
            Ok(Problem::LENGTH) => {
                let message = setup.plan.explain(Problem::from_bytes(bytes));
                self.making_failed(message);
            }
            Ok(_) | Err(_) => self.making_failed("pause ended while it was being set up".to_owned()),
        }
    }

    pub(super) fn drop_setup(&mut self) {
        if let Some(setup) = self.sandbox.setup.take() {
            self.watch.remove(&setup.status, setup.token);
        }
    }

    /// Beside pause's way into its cgroup, which may take the kernel ten milliseconds.
    fn start_network_up(&mut self) {
        let Some(input) = self.config.network.clone() else { return };
        let started = self.open_network_namespace().and_then(|namespace| {
            let copy = namespace.try_clone().map_err(|error| error.to_string())?;
            self.sandbox.network_namespace = Some(namespace);
            self.start_task("network-up", &input, Some(copy), Purpose::NetworkUp)
        });
        if let Err(message) = started {
            self.making_failed(message);
        }
    }

    /// The pid is that of a child not yet reaped, or was checked when it was adopted.
    pub(super) fn open_network_namespace(&self) -> Result<OwnedFd, String> {
        let pause = self.sandbox.pause.as_ref().ok_or("there is no pause")?;
        let path = format!("/proc/{}/ns/net", pause.record.pid);
        std::fs::File::open(&path).map(OwnedFd::from).map_err(|error| format!("open {path}: {error}"))
    }

    pub(super) fn network_is_up(&mut self, outcome: &Outcome) {
        if self.sandbox.stopping.is_some() {
            return self.continue_stop();
        }
        if let Some(message) = outcome.failure("network-up") {
            return self.making_failed(message);
        }
        match serde_json::from_str(&outcome.stdout) {
            Ok(network) => {
                self.sandbox.record.network = Some(network);
                self.up_if_complete();
            }
            Err(error) => self.making_failed(format!("network-up: its output is not JSON: {error}")),
        }
    }

    /// Pause executes and the network is there: which comes last is not known.
    fn up_if_complete(&mut self) {
        if self.sandbox.setup.is_some() || self.tasks.values().any(Task::is_network_up) {
            return;
        }
        let Some(reply) = self.sandbox.making.take() else {
            return;
        };
        self.sandbox.record.phase = Phase::Up;
        self.record();
        if self.sandbox.pause.is_none() {
            self.report(&Report::SandboxDied);
        }
        self.answer(reply, Ok(Answer::Ok));
        self.start_supervisor_if_quiet();
    }

    fn making_failed(&mut self, message: String) {
        let Some(reply) = self.sandbox.making.take() else {
            return;
        };
        self.complain(format_args!("make the sandbox: {message}"));
        self.drop_setup();
        self.sandbox.record.failure = Some(message.clone());
        self.begin_stop(Goal::Failed(message, reply));
    }

    pub(super) fn pause_ended(&mut self, exit: Exit) {
        self.sandbox.pause = None;
        self.sandbox.record.pause = None;
        if self.sandbox.stopping.is_some() {
            return self.continue_stop();
        }
        if self.sandbox.setup.is_some() {
            // What it said before it ended explains more than its end.
            self.pause_event();
            return self.making_failed(format!("pause ended while it was being set up: {exit:?}"));
        }
        self.complain(format_args!("pause ended: {exit:?}"));
        if self.sandbox.making.is_none() {
            self.record();
            self.kill_instances();
            self.report(&Report::SandboxDied);
        }
    }
}
