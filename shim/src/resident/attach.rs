//! Attached clients: a way to an instance's standard input, and its output as it comes.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::instance::{Files, Held, State, unfit, unknown};
use super::streams::open_fifo;
use super::supervisor::Reply;
use super::{Shim, launch};
use crate::harmless;
use crate::wire::{Answer, Failure, InstanceId};

/// What a client may lag behind.
const BUFFER: usize = 4 << 20;
/// What a terminal takes for the end of its input.
const END_OF_TRANSMISSION: &[u8] = &[4];

impl Shim {
    pub(super) fn attach(&mut self, instance: &InstanceId, reply: Reply) {
        match self.try_attach(instance) {
            Ok(descriptors) => self.answer_with(Some(reply), Ok(Answer::Attached), descriptors),
            Err(failure) => self.answer(Some(reply), Err(failure)),
        }
    }

    fn try_attach(&mut self, instance: &InstanceId) -> Result<Vec<OwnedFd>, Failure> {
        let held = self.instances.get_mut(instance).ok_or_else(|| unknown(instance))?;
        if !matches!(held.state, State::Created | State::Running) {
            return Err(unfit(held, "running"));
        }
        let fail = |message| Failure::Other { message: format!("attach to {instance}: {message}") };
        let had_stdin = held.stdin.is_some();
        let input = input(held).map_err(fail)?;
        let (ours, theirs) = channel().map_err(|errno| fail(launch::reason(errno)))?;
        held.output.attach(ours);
        if had_stdin && held.stdin.is_none() {
            self.record();
        }
        Ok(vec![input, theirs])
    }

    pub(super) fn close_stdin(&mut self, instance: &InstanceId) -> Result<(), Failure> {
        let held = self.instances.get_mut(instance).ok_or_else(|| unknown(instance))?;
        held.stdin = None;
        if let Some(terminal) = &held.terminal {
            // A terminal whose buffer is full has a reader that will not miss the end of input.
            harmless(nix::unistd::write(terminal, END_OF_TRANSMISSION));
        }
        self.record();
        Ok(())
    }
}

fn input(held: &mut Held) -> Result<OwnedFd, String> {
    if !held.create.stdin {
        return super::null().map_err(launch::reason);
    }
    if let Some(terminal) = &held.terminal {
        return terminal.try_clone().map_err(|error| error.to_string());
    }
    if held.stdin.is_none() {
        // Closed for good.
        return super::null().map_err(launch::reason);
    }
    let input = open_fifo(&Files(&held.create).stdin(), OFlag::O_WRONLY)?;
    if held.create.stdin_once {
        // From now on this client alone holds it open: its end is the end of input.
        held.stdin = None;
    }
    Ok(input)
}

fn channel() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    super::set_nonblocking(&ours)?;
    // Needs CAP_NET_ADMIN; without it the client may lag behind less.
    harmless(setsockopt(&ours, sockopt::SndBufForce, &BUFFER));
    Ok((ours, theirs))
}
