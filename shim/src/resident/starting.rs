//! The start of a created instance: its init is let go, and tells how that went.

use nix::errno::Errno;

use super::Shim;
use super::instance::{Files, Held, Starting, State, unfit, unknown};
use super::supervisor::Reply;
use super::watch::Source;
use crate::container::creator;
use crate::container::engine::Gate;
use crate::container::transform::Problem;
use crate::sys::clock;
use crate::wire::{Answer, Failure, InstanceId};

impl Shim {
    pub(super) fn start(&mut self, instance: &InstanceId, reply: Reply) {
        if let Err(failure) = self.try_start(instance, reply) {
            self.answer(Some(reply), Err(failure));
        }
    }

    fn try_start(&mut self, instance: &InstanceId, reply: Reply) -> Result<(), Failure> {
        let held = self.instances.get_mut(instance).ok_or_else(|| unknown(instance))?;
        // A supervisor died over its request, and the next one asks again, perhaps of a program that has come to its end.
        if let (State::Running | State::Exited(_), Some(started_at)) = (&held.state, held.started_at) {
            self.answer(Some(reply), Ok(Answer::Started { started_at }));
            return Ok(());
        }
        if let Some(message) = &held.start_failure {
            return Err(Failure::Start { message: message.clone() });
        }
        if let Some(starting) = &mut held.starting {
            starting.reply = Some(reply);
            return Ok(());
        }
        if !matches!(held.state, State::Created) {
            return Err(unfit(held, "created"));
        }
        let Some(start) = &held.start else {
            return Err(unfit(held, "created"));
        };
        let other = |what: &str, error: &dyn std::fmt::Display| Failure::Other {
            message: format!("start {instance}: {what}: {error}"),
        };
        let token = self
            .watch
            .add(start, Source::Start(instance.clone()))
            .map_err(|errno| other("watch its start", &errno))?;
        held.starting = Some(Starting { token, reply: Some(reply) });
        if let Err(reason) = let_go(held) {
            self.watch.remove(start, token);
            held.starting = None;
            return Err(other("notify its init", &reason));
        }
        Ok(())
    }

    /// The init executed its program, or told why it could not.
    pub(super) fn start_event(&mut self, instance: &InstanceId) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        let Some(start) = &held.start else { return };
        let mut bytes = [0; Problem::LENGTH];
        let read = match nix::unistd::read(start, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            result => result,
        };
        let printed = Gate::printed(start);
        let Some(starting) = held.starting.take() else {
            return;
        };
        self.watch.remove(start, starting.token);
        held.start = None;
        let result = match read {
            Ok(Problem::LENGTH) => {
                let message = held.program.explain(&held.identity, Problem::from_bytes(bytes)) + &printed;
                Err(Failure::Start { message })
            }
            Ok(_) | Err(_) => {
                let started_at = clock::wall();
                held.state = State::Running;
                held.started_at = Some(started_at);
                self.record();
                Ok(Answer::Started { started_at })
            }
        };
        self.answer(starting.reply, result);
    }
}

/// Opens the gate of an init of our own engine, or tells libcontainer's.
fn let_go(held: &Held) -> Result<(), String> {
    if Gate::exists(&held.create.bundle) {
        return Gate::open(&held.create.bundle).map_err(super::launch::reason);
    }
    let socket = creator::notify_socket(&Files(&held.create).work(), &held.create.id);
    let notified = libcontainer::notify_socket::NotifySocket::new(socket).notify_container_start();
    notified.map_err(|error| super::chain(&error))
}
