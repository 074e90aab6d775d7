//! The maker's half: opens what the child needs, makes it, answers it, and undoes what it made when a step fails.
//!
//! It never waits for the child: what takes time in a container's file systems takes the child's time. Hooks of the
//! maker's namespaces run in a process of their own.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::between;
use super::child;
use super::created::Created;
use super::devices::{self, Away, Found};
use super::failure::Failure;
use super::gate::Gate;
use super::hook::{self, Ending, Output};
use super::keep::Keep;
use super::listener::Listener;
use super::message::{Go, Heard, Message};
use super::namespace;
use super::plan::{MakerRights, Plan};
use super::request::Request;
use super::step::Step;
use super::work::{Ends, Maker, Opened, Work};
use super::{procfs, user};
use crate::container::identity::{Groups, Identity};
use crate::container::program::Program;
use crate::harmless;
use crate::sys::{descriptor, pidfd, process, socket};

/// A container in the making. Dropped before it is created, it takes the init along.
pub(crate) struct Making {
    plan: Rc<Plan>,
    socket: Arc<OwnedFd>,
    child: process::Child,
    output: Option<Output>,
    /// Who and what it becomes.
    identity: Rc<Identity>,
    program: Rc<Program>,
    /// The master of its terminal, once that is made.
    terminal: Option<OwnedFd>,
    /// Interfaces that are still to be moved, and those that were.
    devices: Option<Found>,
    away: Option<Away>,
    hooks: Option<Running>,
    heard: Heard,
    /// The pid was handed on.
    created: bool,
}

/// Hooks at work in a process of their own.
struct Running {
    child: process::Child,
    told: OwnedFd,
}

/// Where a making stands.
pub(crate) enum Progress {
    /// Nothing to do until [`Making::descriptor`] is readable.
    Waiting,
    /// The init waits at its gate.
    Created(Created),
}

/// Makes the init and lets it work. It will wait at `gate`.
pub(crate) fn begin(request: Request<'_>, gate: Gate) -> Result<Making, Failure> {
    let plan = request.plan.as_ref();
    let system = |what: &'static str| move |errno: Errno| Failure::system(what, errno);
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(system("make a socket"))?;
    let output = if plan.has_hooks() { Some(Output::new()) } else { None };
    let output = output.transpose().map_err(system("make files for the output of hooks"))?;
    let opened = Opened::open(&request)?;
    let devices = devices::find(&plan.devices)?;
    let observer = plan.listener.as_ref().map(Listener::connect).transpose()?;
    let identity = member(plan, &request.identity);
    let ends = Ends { socket: theirs.as_raw_fd(), go: gate.go.as_raw_fd(), result: gate.result.as_raw_fd() };
    let mut work =
        Work::new(&request, &identity, &opened, Maker::Apart(ends)).told(output.as_ref(), observer.as_ref());
    work.keep = Keep::new(&work, Some(ours.as_raw_fd()));
    let child = make(&work).map_err(|errno| Failure::unmade(request.cgroup, errno))?;
    let making = Making {
        plan: Rc::clone(&request.plan),
        socket: Arc::new(ours),
        child,
        output,
        identity: Rc::clone(&identity),
        program: Rc::clone(&request.program),
        terminal: None,
        devices,
        away: None,
        hooks: None,
        heard: Heard::default(),
        created: false,
    };
    making.equip(opened.procfs.as_ref().map(AsFd::as_fd))?;
    let given = request.stdio.into_descriptors().into_iter().chain([gate.go, gate.result, theirs]);
    descriptor::close_together(opened.into_descriptors().chain(given));
    Ok(making)
}

/// Who the process is to be, as far as its maker may say so. The plan refuses groups that could not be had.
fn member(plan: &Plan, identity: &Rc<Identity>) -> Rc<Identity> {
    match &plan.maps {
        Some(maps) if user::denies_groups(maps, plan.maker) => {
            Rc::new(Identity { groups: Groups::Kept, ..identity.as_ref().clone() })
        }
        Some(_) | None => Rc::clone(identity),
    }
}

fn make(work: &Work<'_>) -> nix::Result<process::Child> {
    let namespaces = &work.plan.namespaces;
    // One that joins last does so itself.
    let pid = work.opened.pid_namespace.as_ref().map(AsFd::as_fd).filter(|_| !namespaces.joins_last);
    if namespaces.needs_between() {
        return between::make(work, pid);
    }
    let clone = || process::spawn(namespaces.cloned(), work.cgroup.directory(), work, child::run);
    match pid {
        Some(pid) => namespace::with_children_in(pid, clone),
        None => clone(),
    }
}

impl Making {
    /// What the maker gives the child before it may go on.
    fn equip(&self, procfs: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let pid = self.child.pid;
        if let Some((score, procfs)) = self.identity.oom_score_adj.zip(procfs) {
            set_oom_score(procfs, pid, score, self.plan.maker)?;
        }
        if self.plan.maker == MakerRights::Rootless {
            // Once it has ids of its own an ordinary user may not.
            self.set_limits()?;
        }
        let Some(maps) = &self.plan.maps else { return Ok(()) };
        maps.write(pid, self.plan.maker).map_err(Failure::maps)?;
        self.go()
    }

    fn set_limits(&self) -> Result<(), Failure> {
        for limit in self.identity.limits.iter().filter(|_| self.plan.sets_limits()) {
            process::limit_of(self.child.pid, limit.resource, limit.soft, limit.hard)
                .map_err(|errno| Failure::system(&format!("error setting rlimit {}", limit.kind), errno))?;
        }
        Ok(())
    }

    fn go(&self) -> Result<(), Failure> {
        let bytes = Go { pid: self.child.pid }.to_bytes();
        socket::send(self.socket.as_fd(), &bytes, &[]).map_err(|_| Failure::ended(&self.child))
    }

    /// The init. It is the caller's child and the caller reaps it.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// To wait on until it is readable; another one after each [`Making::advance`] perhaps. Enough for whoever gives no
    /// PID namespace by path; others use [`Making::wait`].
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.hooks.as_ref().map_or(self.socket.as_fd(), |hooks| hooks.told.as_fd())
    }

    /// Waits until there is something to take. Where an init is still to appear, whoever makes it may end without a word
    /// while the init holds the socket.
    pub(crate) fn wait(&self) {
        let polled = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let child = self.is_expecting().then(|| polled(self.child.pidfd.as_fd()));
        let mut all: Vec<_> = std::iter::once(polled(self.descriptor())).chain(child).collect();
        // An interrupted wait is a short one.
        harmless(poll(&mut all, PollTimeout::NONE));
    }

    /// Whether the init is yet to be made, by the process that makes everything else.
    fn is_expecting(&self) -> bool {
        self.plan.namespaces.joins_last && !self.heard.appeared
    }

    /// Takes what the init told, without waiting.
    pub(crate) fn advance(&mut self) -> Result<Progress, Failure> {
        if self.hooks.is_some() {
            return self.advance_hooks();
        }
        // Before its last words are looked for.
        let is_over = self.is_expecting() && process::exit_of_child(self.child.pidfd.as_fd()).is_some();
        match socket::receive_now(self.socket.as_fd(), Message::LENGTH) {
            Err(Errno::EAGAIN) if is_over => Err(Failure::ended(&self.child)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Progress::Waiting),
            Err(errno) => Err(Failure::system("hear of the init", errno)),
            Ok(socket::Packet::Closed | socket::Packet::Truncated) => Err(Failure::ended(&self.child)),
            Ok(socket::Packet::Message(bytes, descriptors)) => self.take(&bytes, descriptors),
        }
    }

    fn take(&mut self, bytes: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<Progress, Failure> {
        let joins_last = self.plan.namespaces.joins_last;
        let message = Message::from_bytes(bytes);
        match message.filter(|message| self.heard.note(*message, joins_last)) {
            Some(Message::Due) => {
                if let Some((devices, inside)) = self.devices.take().zip(descriptors.pop()) {
                    self.away = Some(devices.move_to(&self.child, inside)?);
                }
                self.run_hooks()?;
                Ok(Progress::Waiting)
            }
            Some(Message::Failed { step, failed }) => {
                Err(Failure::of_step(&self.plan, Some(usize::from(step)), failed))
            }
            Some(Message::Hook { step, ending }) => Err(self.hook_failed(usize::from(step), ending)),
            Some(Message::Terminal) => {
                self.terminal = descriptors.pop();
                // What came after it may be the last word of an init that has ended.
                self.advance()
            }
            Some(Message::Member(problem)) => Err(Failure::of_member(&self.program, &self.identity, problem)),
            Some(Message::Appeared(pid)) => {
                self.appear(pid)?;
                Ok(Progress::Waiting)
            }
            Some(Message::Ready) => self.ready().map(Progress::Created),
            Some(Message::Released) | None => Err(Failure::ended(&self.child)),
        }
    }

    /// The init is another process than the one that made everything. Whoever sees it may reach into its socket: only
    /// what is ours is believed.
    fn appear(&mut self, pid: i32) -> Result<(), Failure> {
        let stranger = |errno| Failure::system("make a process in its namespaces", errno);
        if pid == self.child.pid {
            return Err(stranger(Errno::ECHILD));
        }
        let pidfd = pidfd::open(pid).map_err(stranger)?;
        if !process::is_child(pidfd.as_fd()) {
            return Err(stranger(Errno::ECHILD));
        }
        let first = std::mem::replace(&mut self.child, process::Child { pid, pidfd });
        // It told, and ends.
        process::reap_ended(first.pidfd.as_fd());
        self.go()
    }

    fn ready(&mut self) -> Result<Created, Failure> {
        if self.plan.maker != MakerRights::Rootless {
            // Not before: its own work is not the program's.
            self.set_limits()?;
        }
        let system = |what: &'static str| move |error: std::io::Error| Failure::io(what, &error);
        let pidfd = self.child.pidfd.try_clone().map_err(system("copy a pidfd"))?;
        self.created = true;
        Ok(Created {
            pid: self.child.pid,
            pidfd,
            terminal: self.terminal.take(),
            socket: (!self.plan.outlives_maker).then(|| Arc::clone(&self.socket)),
            away: self.away.take(),
        })
    }

    fn run_hooks(&mut self) -> Result<(), Failure> {
        let hooks = &self.plan.hooks;
        let Some(output) = self.output.as_ref().filter(|_| hooks.of_maker()) else { return self.go() };
        let system = |what: &'static str| move |errno: Errno| Failure::system(what, errno);
        let (told, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(system("make a pipe"))?;
        let run = hook::Run {
            hooks: [&hooks.prestart, &hooks.create_runtime],
            state: &self.plan.states[0],
            pid: self.child.pid,
            output: output.numbers(),
            tell: tell.as_raw_fd(),
        };
        let child = process::spawn(CloneFlags::empty(), None, &run, hook::run_all)
            .map_err(system("make a process for hooks"))?;
        self.hooks = Some(Running { child, told });
        Ok(())
    }

    /// The hooks are done when their process has closed its pipe.
    fn advance_hooks(&mut self) -> Result<Progress, Failure> {
        let Some(Running { child, told }) = self.hooks.take() else { return Ok(Progress::Waiting) };
        let mut bytes = [0; hook::TOLD];
        let read = nix::unistd::read(&told, &mut bytes);
        // It ends right after it told; nobody else reaps it.
        process::reap_ended(child.pidfd.as_fd());
        match read {
            Ok(0) => {
                self.go()?;
                Ok(Progress::Waiting)
            }
            Ok(_) | Err(_) => {
                let [list, index, kind, _, value @ ..] = bytes;
                let ending = Ending::from_parts(kind, i32::from_ne_bytes(value));
                let (name, hooks) = match list {
                    0 => ("prestart", &self.plan.hooks.prestart),
                    _ => ("createRuntime", &self.plan.hooks.create_runtime),
                };
                Err(self.explain_hook(name, hooks.get(usize::from(index)), usize::from(index), ending))
            }
        }
    }

    fn hook_failed(&self, step: usize, ending: Ending) -> Failure {
        let index = match self.plan.steps.get(step) {
            Some(Step::Hook(index)) => *index,
            Some(_) | None => 0,
        };
        self.explain_hook("createContainer", self.plan.hooks.create_container.get(index), index, ending)
    }

    fn explain_hook(&self, name: &str, hook: Option<&hook::Hook>, index: usize, ending: Ending) -> Failure {
        let output = self.output.as_ref().map(Output::text).unwrap_or_default();
        let message = hook.map(|hook| hook.explain(name, index, ending, &output)).unwrap_or_default();
        Failure { step: None, errno: None, message }
    }

    /// SIGKILL for an init that takes too long; [`Making::advance`] then tells its end.
    pub(crate) fn kill(&self) {
        // One that has ended is as good.
        harmless(pidfd::signal(self.child.pidfd.as_fd(), libc::SIGKILL));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.created {
            self.kill();
        }
        if let Some(hooks) = self.hooks.take() {
            harmless(pidfd::signal(hooks.child.pidfd.as_fd(), libc::SIGKILL));
            process::reap_ended(hooks.child.pidfd.as_fd());
        }
    }
}

/// An ordinary user may not write to a hidden process of a namespace.
fn set_oom_score(procfs: BorrowedFd<'_>, pid: i32, value: i32, maker: MakerRights) -> Result<(), Failure> {
    match procfs::set_oom_score(procfs, &pid.to_string(), value) {
        Err(Errno::EPERM) if maker == MakerRights::Rootless => Ok(()),
        Err(errno) => Err(Failure::system(&format!("write {value} to /proc/{pid}/oom_score_adj"), errno)),
        Ok(()) => Ok(()),
    }
}
