//! The one place where ends of processes are seen: our own children by reaping them at SIGCHLD, those
//! of an earlier shim by their pidfds. A pid of an unreaped child belongs to that child alone, so the
//! table of roles cannot be fooled by a reused pid.

use super::Shim;
use super::keeper::End;
use super::record::ProcessRecord;
use super::watch::Source;
use super::{instance, procfs};
use crate::sys::{clock, process};
use crate::wire::InstanceId;

/// What a child is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Supervisor,
    Pause,
    Creator(InstanceId),
    Making(InstanceId),
    Init(InstanceId),
    Exec(u64),
    Task(u64),
}

impl Shim {
    pub(super) fn reap(&mut self) {
        while let Some((pid, exit)) = process::ended_child() {
            let role = self.roles.remove(&pid);
            if let Some(Role::Init(instance)) = role {
                self.instance_ended(&instance, End { exit, at: clock::wall() }, Some(pid));
                continue;
            }
            process::reap_pid(pid);
            match role {
                Some(role) => self.ended(role, End { exit, at: clock::wall() }),
                // An init whose creator has not told its pid yet; else an orphan of the pod.
                None if self.is_creating() => drop(self.strays.insert(pid, exit)),
                None => {}
            }
        }
    }

    /// A process that an earlier shim started has ended.
    pub(super) fn adopted_event(&mut self, pid: i32, role: Role) {
        let process = match &role {
            Role::Pause => self.sandbox.pause_process(),
            Role::Init(instance) => self.instances.get(instance).and_then(|held| held.init.as_ref()),
            Role::Supervisor | Role::Creator(_) | Role::Making(_) | Role::Exec(_) | Role::Task(_) => None,
        };
        let Some(process) = process else { return };
        let exit = procfs::exit_of(pid, process.record.start_time, &process.pidfd);
        if let Some(token) = self.adopted.remove(&pid) {
            self.watch.remove(&process.pidfd, token);
        }
        self.ended(role, End { exit, at: clock::wall() });
    }

    /// Watches a process that an earlier shim started.
    pub(super) fn adopt(&mut self, process: &instance::Init, role: Role) {
        let ProcessRecord { pid, .. } = process.record;
        if self.kept.is_ward(process.record) {
            return self.kept.await_end(process.record, role);
        }
        match self.watch.add(&process.pidfd, Source::Adopted(pid, role)) {
            Ok(token) => drop(self.adopted.insert(pid, token)),
            Err(errno) => self.complain(format_args!("watch process {pid}: {errno}")),
        }
    }

    pub(super) fn ended(&mut self, role: Role, end: End) {
        let exit = end.exit;
        match role {
            Role::Supervisor => self.supervisor_ended(exit),
            Role::Pause => self.pause_ended(exit),
            Role::Creator(instance) => self.creator_ended(&instance),
            Role::Making(instance) => self.making_ended(&instance, exit),
            Role::Init(instance) => self.instance_ended(&instance, end, None),
            Role::Exec(key) => self.exec_ended(key, exit),
            Role::Task(key) => self.task_ended(key, exit),
        }
    }
}
