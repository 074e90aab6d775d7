//! Requests of the supervisor, each to the file that carries it out.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Shim;
use super::instance::{State, unfit, unknown};
use super::supervisor::Reply;
use super::tasks::Purpose;
use crate::sys::{pidfd, terminal};
use crate::wire::{Answer, Command, Failure, InstanceId, Statistics};

impl Shim {
    pub(super) fn request(&mut self, reply: Reply, command: Command, descriptors: Vec<OwnedFd>) {
        let waits = Some(reply);
        match command {
            Command::CreateSandbox { attempt } => self.make_sandbox(attempt, waits),
            Command::StopSandbox => self.stop_sandbox(waits),
            Command::Task { name, input } => {
                if let Err(message) = self.start_task(&name, &input, None, Purpose::Request(reply)) {
                    self.answer(waits, Err(Failure::Other { message }));
                }
            }
            Command::Create(config) => self.create(*config, reply),
            Command::Start { instance } => self.start(&instance, reply),
            Command::Exec(config) => self.exec(*config, descriptors, reply),
            Command::Forget { instance } => self.forget(&instance, reply),
            Command::Attach { instance } => self.attach(&instance, reply),
            Command::Finish => self.finish(reply),
            Command::HostSocket { v6, stream } => {
                let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
                let kind = if stream { SockType::Stream } else { SockType::Datagram };
                self.host_socket(family, kind, reply);
            }
            Command::Signal { instance, signal } => {
                let result = self.signal(&instance, signal);
                self.answer(waits, result.map(|()| Answer::Ok));
            }
            Command::Kill { instance } => {
                let result = self.kill(&instance);
                self.answer(waits, result.map(|()| Answer::Ok));
            }
            Command::KillExec { exec } => {
                let result = self.kill_exec(exec);
                self.answer(waits, result.map(|()| Answer::Ok));
            }
            Command::Resize { instance, exec, size } => {
                let result = self.resize(&instance, exec, size);
                self.answer(waits, result.map(|()| Answer::Ok));
            }
            Command::CloseStdin { instance } => {
                let result = self.close_stdin(&instance);
                self.answer(waits, result.map(|()| Answer::Ok));
            }
            Command::Statistics { instance } => {
                let result = self.statistics(instance.as_ref());
                self.answer(waits, result.map(Answer::Statistics));
            }
        }
    }

    fn signal(&mut self, instance: &InstanceId, signal: i32) -> Result<(), Failure> {
        let held = self.instances.get(instance).ok_or_else(|| unknown(instance))?;
        match (&held.state, &held.init) {
            (State::Created | State::Running, Some(init)) => pidfd::signal(init.pidfd.as_fd(), signal)
                .map_err(|errno| other(format!("send signal {signal} to instance {instance}"), errno)),
            _ => Err(unfit(held, "running")),
        }
    }

    fn kill(&mut self, instance: &InstanceId) -> Result<(), Failure> {
        let held = self.instances.get(instance).ok_or_else(|| unknown(instance))?;
        held.kill().map_err(|message| Failure::Other { message })
    }

    fn resize(&mut self, instance: &InstanceId, exec: Option<u64>, size: (u16, u16)) -> Result<(), Failure> {
        let found = match exec {
            Some(exec) => self.terminal_of_exec(exec),
            None => self.instances.get(instance).and_then(|held| held.terminal.as_ref()),
        };
        let message = || format!("{instance} has no such terminal");
        let found = found.ok_or_else(|| Failure::State { message: message() })?;
        terminal::resize(found.as_fd(), size)
            .map_err(|errno| other(format!("resize the terminal of {instance}"), errno))
    }

    fn statistics(&self, instance: Option<&InstanceId>) -> Result<Statistics, Failure> {
        let Some(instance) = instance else {
            return Ok(self.group.statistics());
        };
        let held = self.instances.get(instance).ok_or_else(|| unknown(instance))?;
        Ok(held.group.statistics())
    }

    fn host_socket(&mut self, family: AddressFamily, kind: SockType, reply: Reply) {
        match socket(family, kind, SockFlag::SOCK_CLOEXEC, None) {
            Ok(socket) => self.answer_with(Some(reply), Ok(Answer::Socket), vec![socket]),
            Err(errno) => self.answer(Some(reply), Err(other("make a socket".to_owned(), errno))),
        }
    }
}

/// A system call that failed.
pub(super) fn other(what: String, errno: nix::Error) -> Failure {
    Failure::Other { message: format!("{what}: {}", super::launch::reason(errno)) }
}
