//! The way to an instance through libcontainer, for what our own engine leaves to it and for comparison: a short-lived
//! child builds it and tells the pid of its init.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use oci_spec::runtime::Spec;

use super::children::Role;
use super::instance::{Creation, Creator, Files, Held};
use super::streams::open_blocking;
use super::supervisor::Reply;
use super::timers::Timer;
use super::{Shim, launch};
use crate::container::creator::{self, Job, Outcome};
use crate::container::engine::Stdio;
use crate::container::groups;
use crate::container::spec::{self, Joined};
use crate::sys::{pidfd, process, socket};
use crate::wire::{Answer, InstanceId, MAX_PACKET};

impl Shim {
    /// Leaves an instance, which is held already, to libcontainer. Its large frame is not to be part of its caller's.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_creator(
        &mut self,
        instance: &InstanceId,
        spec: Box<Spec>,
        stdio: Stdio,
        reply: Reply,
    ) -> Result<(), String> {
        let (result, theirs) = packet_pair().map_err(launch::reason)?;
        let held = self.instances.get(instance).ok_or("it was given up")?;
        let start = open_blocking(&Files(&held.create).start(), OFlag::O_WRONLY)?;
        let job = Job {
            spec: self.complete(*spec, held)?,
            id: held.create.id.clone(),
            work: Files(&held.create).work(),
            identity: held.identity.as_ref().clone(),
            program: held.program.as_ref().clone(),
            stdio,
            result: theirs,
            start,
        };
        self.fork_creator(instance, &job, result, reply)
    }

    /// The specification for libcontainer, without what is left to the last steps.
    fn complete(&self, spec: Spec, held: &Held) -> Result<Spec, String> {
        let pause = self.sandbox.pause.as_ref().ok_or("there is no sandbox")?.record.pid;
        let joined = Joined { pause, share_pid: self.config.share_pid };
        let spec = spec::complete(spec, &held.create.bundle, joined, &held.group.absolute());
        let mut spec = spec.map_err(|error| super::chain(&error))?;
        if let Some(shown) = held.group.shown() {
            groups::show(&mut spec, &shown).map_err(|error| super::chain(&error))?;
        }
        Ok(spec)
    }

    fn fork_creator(
        &mut self,
        instance: &InstanceId,
        job: &Job,
        result: OwnedFd,
        reply: Reply,
    ) -> Result<(), String> {
        let child = process::spawn(nix::sched::CloneFlags::empty(), None, job, creator::run)
            .map_err(|errno| format!("fork a creator: {}", launch::reason(errno)))?;
        self.roles.insert(child.pid, Role::Creator(instance.clone()));
        self.timers.after(super::create::LIMIT, Timer::Creator(instance.clone()));
        if let Some(held) = self.instances.get_mut(instance) {
            held.creation = Some(Creation::Creator(Creator { pidfd: child.pidfd, result, reply }));
        }
        Ok(())
    }

    pub(super) fn creator_ended(&mut self, instance: &InstanceId) {
        let creation = self.instances.get_mut(instance).and_then(|held| held.creation.take());
        let Some(Creation::Creator(creator)) = creation else { return };
        let answer = receive(&creator.result).and_then(|(pid, master)| self.found(instance, pid, master));
        self.creation_ended(instance, answer, creator.reply);
    }

    /// Takes over the init that a creator made.
    fn found(&mut self, instance: &InstanceId, pid: i32, master: Option<OwnedFd>) -> Result<Answer, String> {
        if self.strays.remove(&pid).is_some() {
            return Err("its init ended before it was started".to_owned());
        }
        // The pid is that of our child, not reaped yet.
        let pidfd =
            pidfd::open(pid).map_err(|errno| format!("pidfd_open {pid}: {}", launch::reason(errno)))?;
        let score = self.instances.get(instance).and_then(|held| held.identity.oom_score_adj);
        if let Some(score) = score {
            set_oom_score(pid, score)?;
        }
        self.created(instance, process::Child { pid, pidfd }, master)
    }
}

fn packet_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// What the creator, which has ended, told.
fn receive(result: &OwnedFd) -> Result<(i32, Option<OwnedFd>), String> {
    super::set_nonblocking(result).map_err(launch::reason)?;
    let (bytes, mut descriptors) = match socket::receive(result.as_fd(), MAX_PACKET) {
        Ok(socket::Packet::Message(bytes, descriptors)) => (bytes, descriptors),
        Ok(_) | Err(_) => return Err("its creator ended without a result".to_owned()),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Outcome::Created(pid)) if pid > 0 => Ok((pid, descriptors.pop())),
        Ok(Outcome::Created(_)) => Err("its creator told no pid".to_owned()),
        Ok(Outcome::Failed(message)) => Err(message),
        Err(error) => Err(format!("its creator's result cannot be parsed: {error}")),
    }
}

/// Lowering below our own value needs CAP_SYS_RESOURCE; without it the init keeps ours, the nearest
/// that is permitted.
fn set_oom_score(pid: i32, value: i32) -> Result<(), String> {
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, value.to_string()) {
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
            Err(format!("write {value} to {path}: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
