//! The supervisor: started inside the sandbox, started again when it ends, talked to over a socket of
//! packets (wire.rs).

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::children::Role;
use super::record::{Phase, ProcessRecord};
use super::tasks::Task;
use super::timers::Timer;
use super::watch::{Source, Token};
use super::{Shim, launch, procfs};
use crate::harmless;
use crate::sys::{clock, pidfd, socket};
use crate::wire::{
    Answer, Exit, Failure, Instance, Inventory, MAX_PACKET, Report, Request, Sandbox, VERSION,
};

/// One that lives shorter than this, in nanoseconds, counts as a quick death.
const QUICK: i64 = 60_000_000_000;
/// So many deaths in a row may come from outside and are made good at once, or nearly.
const FORGIVEN: u32 = 6;
/// Milliseconds before one is started again that cannot start; they double.
const FIRST_PAUSE: u64 = 1000;
const LONGEST_PAUSE: u64 = 60_000;
/// Milliseconds that one may take to end once it has closed its socket.
const END_LIMIT: u64 = 1000;
/// Room for several of the largest packets.
const SEND_BUFFER: usize = 4 * MAX_PACKET;

/// A request that awaits its answer, tied to the supervisor that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    generation: u32,
    id: u64,
}

/// A packet that waits to be sent.
type Packet = (Vec<u8>, Vec<OwnedFd>);

struct Link {
    socket: OwnedFd,
    token: Token,
    outgoing: VecDeque<Packet>,
    /// The socket was full: its room is waited for.
    is_full: bool,
    /// It was told what there is; before that it is told and asks nothing.
    greeted: bool,
}

struct Alive {
    record: ProcessRecord,
    pidfd: OwnedFd,
    since: i64,
}

/// The supervisor of this pod.
#[derive(Default)]
pub(super) struct Supervisor {
    link: Option<Link>,
    alive: Option<Alive>,
    starts: u32,
    quick_deaths: u32,
    /// Why the last one could not serve, so that it is said once.
    trouble: Option<String>,
    /// It is to be started as soon as nothing of its predecessor is under way.
    wanted: bool,
}

impl Supervisor {
    pub(super) fn record(&self) -> Option<ProcessRecord> {
        self.alive.as_ref().map(|alive| alive.record)
    }

    /// One is to be started as soon as nothing is under way.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.is_some()
    }

    pub(super) fn generation(&self) -> u32 {
        self.starts
    }
}

impl Shim {
    /// Starts one, unless one lives. Waits with it while a creator, a task or a change of the sandbox
    /// is under way, so that its inventory is complete and no task of its predecessor meets one of its own; the rotation
    /// of a log, which may take long, concerns none.
    pub(super) fn start_supervisor(&mut self) {
        self.supervisor.want();
        self.start_supervisor_if_quiet();
    }

    pub(super) fn start_supervisor_if_quiet(&mut self) {
        let is_awaited = |task: &Task| !task.is_log_rotation();
        if !self.tasks.values().any(is_awaited) && !self.is_creating() && !self.sandbox.is_changing() {
            self.start_wanted_supervisor();
            self.greet();
        }
    }

    /// Starts one that is wanted in a sandbox whose network is still being made: it comes to itself meanwhile, and
    /// hears what there is once the sandbox is up, or has failed.
    pub(super) fn start_supervisor_ahead(&mut self) {
        self.start_wanted_supervisor();
    }

    fn start_wanted_supervisor(&mut self) {
        if !self.supervisor.wanted || self.supervisor.is_alive() || self.finish.is_asked() {
            return;
        }
        self.supervisor.wanted = false;
        if let Err(what) = self.try_start_supervisor() {
            self.supervisor.quick_deaths = self.supervisor.quick_deaths.max(FORGIVEN + 1);
            self.back_off(format!("the supervisor cannot be started: {what}"));
        }
    }

    fn try_start_supervisor(&mut self) -> Result<(), String> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let text = |errno: Errno| launch::reason(errno);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(text)?;
        for end in [&ours, &theirs] {
            setsockopt(end, sockopt::SndBuf, &SEND_BUFFER).map_err(text)?;
        }
        let child = self.launch_supervisor(&theirs)?;
        let start_time = procfs::start_time(child.pid).ok_or("read its start time")?;
        let token = self.watch.add(&ours, Source::Supervisor).map_err(text)?;
        self.roles.insert(child.pid, Role::Supervisor);
        let record = ProcessRecord { pid: child.pid, start_time };
        self.supervisor.alive = Some(Alive { record, pidfd: child.pidfd, since: clock::monotonic() });
        self.supervisor.link =
            Some(Link { socket: ours, token, outgoing: VecDeque::new(), is_full: false, greeted: false });
        self.record();
        Ok(())
    }

    /// Tells one that was not told yet what there is.
    fn greet(&mut self) {
        let Some(link) = self.supervisor.link.as_mut().filter(|link| !link.greeted) else { return };
        link.greeted = true;
        let hello = Report::Hello(Box::new(self.inventory()));
        self.supervisor.starts += 1;
        self.report(&hello);
        self.report_exits_again();
        self.say_ready();
    }

    fn launch_supervisor(&self, theirs: &OwnedFd) -> Result<crate::sys::process::Child, String> {
        let (null, log) = (super::null().map_err(launch::reason)?, launch::diagnostics());
        let log = log.map_err(|error| error.to_string())?;
        let rest = ["supervise", "--uid", &self.config.uid];
        let launch = launch::Launch {
            program: &self.programs.hull,
            arguments: launch::arguments("hull", self.layout.root(), &rest),
            descriptors: vec![null.as_fd(), log.as_fd(), log.as_fd(), theirs.as_fd()],
            sandbox: self.sandbox.inhabitable_pause(),
            dies_with_shim: false,
        };
        launch.start(&self.programs).map_err(launch::reason)
    }

    fn inventory(&self) -> Inventory {
        let record = &self.sandbox.record;
        let up = (record.phase == Phase::Up && self.sandbox.living_pause().is_some()).then_some(record);
        let sandbox = up.and_then(|record| {
            let pid = record.pause?.pid;
            Some(Sandbox { attempt: record.attempt, pid, network: record.network.clone() })
        });
        let instances: Vec<Instance> = self.instances.values().filter_map(|held| held.shown()).collect();
        Inventory {
            version: VERSION,
            sandbox,
            sandbox_failure: record.failure.clone(),
            instances,
            supervisor_starts: self.supervisor.starts,
        }
    }

    fn report_exits_again(&mut self) {
        let ended = self.instances.values().filter_map(|held| match held.state {
            super::instance::State::Exited(ended) => Some((held.create.instance.clone(), ended)),
            _ => None,
        });
        for (instance, exit) in ended.collect::<Vec<_>>() {
            self.report(&Report::Exited { instance, exit });
        }
    }

    /// The caller of `hull-shim pod` waits for this byte.
    fn say_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // A caller that went away does not need to know.
            harmless(nix::unistd::write(&ready, b"1"));
        }
        self.tell_ready();
    }

    /// The supervisor's process ended.
    pub(super) fn supervisor_ended(&mut self, exit: Exit) {
        let Some(alive) = self.supervisor.alive.take() else {
            return;
        };
        if let Some(link) = self.supervisor.link.take() {
            self.watch.remove(&link.socket, link.token);
        }
        self.kill_requested_tasks();
        self.forget_terminals_of_execs();
        self.record();
        if self.finish.is_asked() {
            return self.finish_if_alone();
        }
        if clock::monotonic() - alive.since >= QUICK {
            self.supervisor.quick_deaths = 0;
            self.supervisor.trouble = None;
        }
        if matches!(exit, Exit::Code(code) if code != 0) {
            // It gave up by itself, and the next one will for the same reason.
            self.supervisor.quick_deaths = self.supervisor.quick_deaths.max(FORGIVEN + 1);
        }
        self.back_off(format!("the supervisor ended: {exit:?}"));
    }

    /// Starts it again after a while, and says why once: a line per attempt would fill the disk in time.
    fn back_off(&mut self, why: String) {
        let pause = pause(self.supervisor.quick_deaths);
        self.supervisor.quick_deaths += 1;
        if pause >= FIRST_PAUSE && self.supervisor.trouble.as_ref() != Some(&why) {
            let (next, longest) = (pause / 1000, LONGEST_PAUSE / 1000);
            self.complain(format_args!(
                "{why}; it is started again in {next} s, and then ever later up to every {longest} s"
            ));
            self.supervisor.trouble = Some(why);
        }
        self.timers.after(pause, Timer::Supervisor);
    }

    pub(super) fn supervisor_overdue(&mut self, generation: u32) {
        if generation == self.supervisor.generation()
            && let Some(alive) = &self.supervisor.alive
            && let Err(errno) = pidfd::signal(alive.pidfd.as_fd(), libc::SIGKILL)
        {
            self.complain(format_args!("kill the supervisor: {errno}"));
        }
    }

    pub(super) fn close_link(&mut self) {
        if let Some(link) = self.supervisor.link.take() {
            self.watch.remove(&link.socket, link.token);
        }
    }

    pub(super) fn supervisor_event(&mut self, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.flush();
        }
        while let Some(link) = &self.supervisor.link {
            match socket::receive(link.socket.as_fd(), MAX_PACKET) {
                Ok(socket::Packet::Message(bytes, descriptors)) => {
                    match serde_json::from_slice::<Request>(&bytes) {
                        Ok(request) => {
                            let reply = Reply { generation: self.supervisor.generation(), id: request.id };
                            self.request(reply, request.command, descriptors);
                        }
                        Err(error) => self.complain(format_args!("a request that cannot be parsed: {error}")),
                    }
                }
                Ok(socket::Packet::Truncated) => {
                    self.complain(format_args!(
                        "a request with more than {MAX_PACKET} bytes or 4 descriptors"
                    ));
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                // Its process is about to end, or is no supervisor any more.
                Ok(socket::Packet::Closed) | Err(_) => {
                    self.close_link();
                    if !self.finish.is_asked() {
                        let overdue = Timer::SupervisorOverdue(self.supervisor.generation());
                        self.timers.after(END_LIMIT, overdue);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn answer(&mut self, reply: Option<Reply>, result: Result<Answer, Failure>) {
        self.answer_with(reply, result, Vec::new());
    }

    /// Answers a request, unless the supervisor that made it is gone.
    pub(super) fn answer_with(
        &mut self,
        reply: Option<Reply>,
        result: Result<Answer, Failure>,
        descriptors: Vec<OwnedFd>,
    ) {
        let Some(reply) = reply.filter(|reply| reply.generation == self.supervisor.generation()) else {
            return;
        };
        let bytes = encode(&Report::Done { id: reply.id, result });
        let bytes = if bytes.len() <= MAX_PACKET {
            bytes
        } else {
            let message = format!("the answer has {} bytes, and a packet takes {MAX_PACKET}", bytes.len());
            encode(&Report::Done { id: reply.id, result: Err(Failure::Other { message }) })
        };
        self.send(bytes, descriptors);
    }

    pub(super) fn report(&mut self, report: &Report) {
        let bytes = encode(report);
        if bytes.len() > MAX_PACKET {
            self.complain(format_args!("a report of {} bytes does not fit into a packet", bytes.len()));
        }
        self.send(bytes, Vec::new());
    }

    fn send(&mut self, bytes: Vec<u8>, descriptors: Vec<OwnedFd>) {
        if let Some(link) = self.supervisor.link.as_mut().filter(|link| link.greeted) {
            link.outgoing.push_back((bytes, descriptors));
            self.flush();
        }
    }

    /// Sends what the socket takes; the rest when it takes more.
    fn flush(&mut self) {
        let Some(link) = &mut self.supervisor.link else {
            return;
        };
        while let Some((bytes, descriptors)) = link.outgoing.front() {
            let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            match socket::send(link.socket.as_fd(), bytes, &numbers) {
                Err(Errno::EAGAIN) => {
                    link.is_full = true;
                    return self.watch.want_write(&link.socket, link.token, true);
                }
                Err(Errno::EINTR) => {}
                // Sent, or never to be: a closed socket is noticed by reading it.
                Ok(()) | Err(_) => drop(link.outgoing.pop_front()),
            }
        }
        if std::mem::take(&mut link.is_full) {
            self.watch.want_write(&link.socket, link.token, false);
        }
    }
}

fn encode(report: &Report) -> Vec<u8> {
    // Maps with string keys and numbers only: nothing that JSON cannot hold.
    serde_json::to_vec(report).unwrap_or_default()
}

/// Milliseconds before a supervisor, or a shim, is started again after so many quick deaths: none, 20, 40, … 640, then
/// 1 s, 2 s, … a minute.
pub(super) fn pause(deaths: u32) -> u64 {
    match deaths {
        0 => 0,
        deaths if deaths <= FORGIVEN => 10 << deaths,
        deaths => (FIRST_PAUSE << (deaths - FORGIVEN - 1).min(LONGEST_PAUSE.ilog2())).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_keeps_dying_is_started_ever_later() {
        let pauses: Vec<u64> = (0..15).map(pause).collect();
        let wanted = [0, 20, 40, 80, 160, 320, 640, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(pauses, wanted);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
