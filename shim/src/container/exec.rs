//! A further process in a running container, the hot path of probes: everything that can be is
//! prepared, then one `clone3`, `setns` on the init's pidfd for all namespaces at once, the steps of
//! [`transform`](super::transform), `execve`.
//!
//! The child is made directly in the container's PID namespace: the shim points its *children's*
//! namespace there for the time of one `clone3` (setns(2) with `CLONE_NEWPID` moves only future
//! children), which saves the second fork that joiners usually need.
//!
//! Not so where a process of the container may have `CAP_SYS_PTRACE`. A process in its PID namespace shows
//! it `/proc/<pid>/root` and `fd` even when not dumpable, and until `setns` these are the host's root and
//! the shim's descriptors. Worse, it can be attached to, whatever capabilities it has, and made to use them.
//! A container that joined its PID namespace sees it as well, so whoever does not know all that see it takes no chances.
//! There a go-between in the shim's PID namespace, which the container cannot see, joins all else first, keeps no
//! descriptor of the shim, drops every power that the container lacks, and only then makes the process, as a
//! child of the shim, where the container sees it. (Without `noNewPrivileges` the seccomp filter is in force by
//! then; a profile that forbids clone(2) forbids such an exec.)

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, setsid};

use super::engine::hook::State;
use super::engine::procfs::{self, Procfs};
use super::engine::{console, user};
use super::identity::Identity;
use super::multiplexer;
use super::program::{Program, lower};
use super::transform::{
    Handles, Limits, Observer, Problem, Step, Told, become_member, become_program, set_limits, transform,
};
use crate::cgroup::Entry;
use crate::harmless;
use crate::sys::{descriptor, keyring, pidfd, process, terminal};
use crate::wire::Exit;

/// The namespaces of a pod's container but the PID namespace.
pub(crate) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// A running container to join.
pub(crate) struct Target<'a> {
    /// Pidfd of its init.
    pub(crate) init: BorrowedFd<'a>,
    pub(crate) identity: &'a Identity,
    /// Where the new process goes.
    pub(crate) cgroup: &'a Entry,
    /// The PID namespace of the shim's own children.
    pub(crate) own_pid_namespace: BorrowedFd<'a>,
    pub(crate) way: Way,
    /// The session keyring to join, unless it is to keep the maker's.
    pub(crate) keyring: Option<&'a CStr>,
    /// `/proc` as [`procfs::root`] opens it, where the maker has it; else it is opened for this process if needed.
    pub(crate) procfs: Option<&'a Rc<OwnedFd>>,
    /// The namespaces to join beside the PID namespace. A user or time namespace must be another than ours, and only
    /// the owner of a namespace may join it.
    pub(crate) namespaces: CloneFlags,
    /// Descriptors from 3 on that the program inherits.
    pub(crate) preserved: u32,
    /// Who takes the listener of a seccomp filter that notifies, and what it is told.
    pub(crate) observer: Option<(BorrowedFd<'a>, &'a State)>,
}

/// How the process is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// At once in the container's PID namespace, where nobody may look into it.
    Directly,
    /// By a go-between, which may take so long: somebody in that namespace may look into the new process, or we may not
    /// return to our own, which takes the rights of the host's root.
    Unseen(PollTimeout),
}

impl Way {
    /// How long a go-between may take for its few system calls, and again for its end, in milliseconds: only
    /// a frozen or starved cgroup takes so long.
    const PATIENCE: u16 = 5000;

    /// For a maker that has more to do than to wait.
    pub(crate) fn unseen() -> Self {
        Self::Unseen(PollTimeout::from(Self::PATIENCE))
    }
}

/// The descriptors of the new process.
pub(crate) enum Stdio {
    /// Stdin, stdout, stderr.
    Files([OwnedFd; 3]),
    /// The slave of a terminal.
    Terminal(OwnedFd),
}

/// A terminal of the container's own devpts, reached from its root directory without leaving it: for a new process,
/// owned by the user `owner`, and its master.
pub(crate) fn open_terminal(
    init: i32,
    size: Option<(u16, u16)>,
    owner: u32,
) -> Result<(Stdio, OwnedFd), String> {
    let step = |what: &'static str| move |errno: Errno| format!("{what}: {}", lower(errno.desc()));
    let path = format!("/proc/{init}/root");
    let root = open(path.as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(step("open the container's root directory"))?;
    let master = multiplexer::open(root.as_fd()).map_err(step("open /dev/pts/ptmx"))?;
    let slave = terminal::open_slave(master.as_fd()).map_err(step("make a terminal"))?;
    if let Some(size) = size {
        terminal::resize(master.as_fd(), size).map_err(step("set the window size"))?;
    }
    fchown(&slave, Some(Uid::from_raw(owner)), None).map_err(step("chown the terminal"))?;
    Ok((Stdio::Terminal(slave), master))
}

/// Makes the process. The reading end of the pipe brings a [`Problem`], or ends when `execve` is done.
pub(crate) fn start(
    target: &Target<'_>,
    program: &Program,
    stdio: &Stdio,
) -> nix::Result<(process::Child, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let pid = target.observer.map(|_| nix::unistd::pipe2(OFlag::O_CLOEXEC)).transpose()?;
    let observer = target.observer.zip(pid.as_ref()).map(|((socket, state), (pid, _))| Observed {
        socket: socket.as_raw_fd(),
        state,
        pid: pid.as_raw_fd(),
    });
    let plan = Plan {
        init: target.init,
        identity: target.identity,
        cgroup: target.cgroup,
        program,
        stdio,
        pipe: write.as_raw_fd(),
        keyring: target.keyring,
        oom_score: target.identity.oom_score_adj.map(|score| score.to_string()).unwrap_or_default(),
        procfs: target.identity.writes_procfs().then(|| Procfs::of(target.procfs)).transpose()?,
        namespaces: target.namespaces,
        preserved: target.preserved,
        observer,
        keep: Vec::new(),
    };
    let plan = Plan { keep: plan.kept(&[]), ..plan };
    let child = match target.way {
        Way::Unseen(patience) => start_unseen(&plan, patience),
        // Only in the container's user namespace may its PID namespace be joined.
        Way::Directly if plan.has_users() => start_unseen(&plan, PollTimeout::from(Way::PATIENCE)),
        Way::Directly => start_directly(target, &plan),
    }?;
    if let Some((_, tell)) = &pid {
        // One that has ended by now is found so.
        harmless(process::write_to(tell.as_raw_fd(), &child.pid.to_ne_bytes()));
    }
    Ok((child, read))
}

fn start_directly(target: &Target<'_>, plan: &Plan<'_>) -> nix::Result<process::Child> {
    setns(target.init, CloneFlags::CLONE_NEWPID)?;
    let child = process::spawn(CloneFlags::empty(), target.cgroup.directory(), plan, join);
    // Were this to fail, every further child would land in the container: better no shim than that.
    setns(target.own_pid_namespace, CloneFlags::CLONE_NEWPID)
        .expect("a process may always return to its own PID namespace");
    child
}

/// Has a go-between make the process. One that told a [`Problem`] stands for the process: its end is seen
/// like that of a process which could not execute.
fn start_unseen(plan: &Plan<'_>, patience: PollTimeout) -> nix::Result<process::Child> {
    let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let told_by = tell.as_raw_fd();
    let keep = [plan.kept(&[told_by, plan.init.as_raw_fd()]), plan.kept(&[told_by])];
    let between = Between { plan, tell: told_by, keep };
    let first = process::spawn(CloneFlags::empty(), plan.cgroup.directory(), &between, go_between)?;
    drop(tell);
    let pid = read_pid(told.as_fd(), patience);
    // Nobody reaps but us, so the pid still means that process even if it ended.
    let child = pid.and_then(|pid| Ok(process::Child { pid, pidfd: pidfd::open(pid)? }));
    // A tracer may reach into that pipe while the process holds it: only what is ours is believed.
    let child = child.and_then(|child| match process::is_child(child.pidfd.as_fd()) {
        true => Ok(child),
        false => Err(Errno::ECHILD),
    });
    if pid == Err(Errno::ETIMEDOUT) {
        harmless(pidfd::signal(first.pidfd.as_fd(), libc::SIGKILL));
    }
    let ended = await_readable(first.pidfd.as_fd(), patience);
    if pid == Err(Errno::ECANCELED) && process::exit_of_child(first.pidfd.as_fd()) == Some(Exit::Code(128)) {
        return Ok(first);
    }
    if ended.is_err() {
        harmless(pidfd::signal(first.pidfd.as_fd(), libc::SIGKILL));
    }
    // Here, so that no pid without a role comes up at SIGCHLD.
    process::reap_child(first.pidfd.as_fd());
    child
}

/// The pid that a go-between tells; ECANCELED when it ends without.
fn read_pid(told: BorrowedFd<'_>, patience: PollTimeout) -> nix::Result<i32> {
    await_readable(told, patience)?;
    let mut bytes = [0; size_of::<i32>()];
    let length = nix::unistd::read(told, &mut bytes)?;
    if length == bytes.len() { Ok(i32::from_ne_bytes(bytes)) } else { Err(Errno::ECANCELED) }
}

fn await_readable(descriptor: BorrowedFd<'_>, patience: PollTimeout) -> nix::Result<()> {
    let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
    match poll(&mut polled, patience)? {
        0 => Err(Errno::ETIMEDOUT),
        _ => Ok(()),
    }
}

struct Plan<'a> {
    init: BorrowedFd<'a>,
    identity: &'a Identity,
    cgroup: &'a Entry,
    program: &'a Program,
    stdio: &'a Stdio,
    pipe: RawFd,
    keyring: Option<&'a CStr>,
    oom_score: String,
    /// Where something is to be written to it.
    procfs: Option<Procfs>,
    namespaces: CloneFlags,
    preserved: u32,
    observer: Option<Observed<'a>>,
    /// What the process keeps open until `execve`.
    keep: Vec<RawFd>,
}

/// Who takes the listener of a filter.
struct Observed<'a> {
    socket: RawFd,
    state: &'a State,
    /// A pipe on which the process is told its pid.
    pid: RawFd,
}

impl Plan<'_> {
    fn handles(&self) -> Handles<'_> {
        self.handles_of(self.observer.as_ref().map(|observer| Told::Pipe(observer.pid)))
    }

    fn handles_of(&self, process: Option<Told>) -> Handles<'_> {
        let observer = self.observer.as_ref().zip(process);
        let observer = observer.map(|(Observed { socket, state, .. }, process)| Observer {
            socket: *socket,
            state,
            process,
        });
        let limits = if self.has_users() { Limits::Set } else { Limits::Own };
        let procfs = self.procfs.as_ref().map(AsFd::as_fd);
        Handles { closed_from: Some(3 + self.preserved), procfs, limits, observer }
    }

    fn has_users(&self) -> bool {
        self.namespaces.contains(CloneFlags::CLONE_NEWUSER)
    }

    /// What is kept open, and `more`, in ascending order.
    fn kept(&self, more: &[RawFd]) -> Vec<RawFd> {
        let own =
            [self.pipe].into_iter().chain(self.procfs.as_ref().map(|procfs| procfs.as_fd().as_raw_fd()));
        let preserved = 3..3 + self.preserved as RawFd;
        let observer = self.observer.iter().flat_map(|observer| [observer.socket, observer.pid]);
        let mut all: Vec<RawFd> = own.chain(more.iter().copied()).chain(preserved).chain(observer).collect();
        all.sort_unstable();
        all
    }
}

/// What a go-between needs.
struct Between<'a> {
    plan: &'a Plan<'a>,
    /// Where it tells the pid.
    tell: RawFd,
    /// What it keeps open until it has joined, and after.
    keep: [Vec<RawFd>; 2],
}

fn join(plan: &Plan<'_>) -> ! {
    let problem = match enter(plan) {
        Ok(()) => transform(plan.identity, plan.program, &plan.handles()),
        Err(problem) => problem,
    };
    problem.report(plan.pipe)
}

fn enter(plan: &Plan<'_>) -> Result<(), Problem> {
    settle(plan)?;
    setns(plan.init, plan.namespaces).map_err(Problem::at(Step::Namespaces))?;
    place_stdio(plan)?;
    own_inside(plan)?;
    begin_session(plan)?;
    // What comes next may block in the container's file systems: it must not keep the pod's lock or socket open.
    keep_only(&plan.keep)
}

fn go_between(between: &Between<'_>) -> ! {
    let Between { plan, tell, .. } = between;
    let made = approach(between)
        .and_then(|()| process::spawn_sibling(between, appear).map_err(Problem::at(Step::Namespaces)));
    match made {
        Ok(pid) => {
            let told = process::write_to(*tell, &pid.to_ne_bytes());
            process::leave(i32::from(told.is_err()))
        }
        Err(problem) => problem.report(plan.pipe),
    }
}

/// Everything up to the clone, so that the new process has nothing of the shim's to show or to be used for.
fn approach(between: &Between<'_>) -> Result<(), Problem> {
    let Between { plan, keep: [before, after], .. } = between;
    settle(plan)?;
    place_stdio(plan)?;
    keep_only(before)?;
    setns(plan.init, plan.namespaces | CloneFlags::CLONE_NEWPID).map_err(Problem::at(Step::Namespaces))?;
    if plan.has_users() {
        user::become_root().map_err(Problem::at(Step::User))?;
        // A change of user makes a process visible.
        process::hide().map_err(Problem::at(Step::Hide))?;
    }
    own_inside(plan)?;
    keep_only(after)?;
    // Without `noNewPrivileges` the filter is its: nobody could tell it of the process that it has yet to make.
    let own = Told::Before(nix::unistd::getpid().as_raw());
    become_member(plan.identity, &plan.handles_of(Some(own))).map(drop)
}

/// The process that a go-between made. What it still has of the go-between's closes at `execve`.
fn appear(between: &Between<'_>) -> ! {
    let plan = between.plan;
    let problem = match begin_session(plan) {
        Ok(()) => become_program(plan.identity, plan.program, &plan.handles()),
        Err(problem) => problem,
    };
    problem.report(plan.pipe)
}

fn keep_only(keep: &[RawFd]) -> Result<(), Problem> {
    descriptor::close_all_but(keep).map_err(Problem::at(Step::Descriptors))
}

fn settle(plan: &Plan<'_>) -> Result<(), Problem> {
    process::hide().map_err(Problem::at(Step::Hide))?;
    plan.identity.scheduling.narrow_joining()?;
    plan.cgroup.enter().map_err(Problem::at(Step::Cgroup))?;
    if let Some(procfs) = plan.procfs.as_ref().filter(|_| !plan.oom_score.is_empty()) {
        raise_oom_score(procfs.as_fd(), plan.oom_score.as_bytes());
    }
    if plan.has_users() {
        // Inside a user namespace of its own it may raise none.
        set_limits(plan.identity)?;
    }
    plan.identity.scheduling.narrow_joined()
}

fn place_stdio(plan: &Plan<'_>) -> Result<(), Problem> {
    for number in 0..3 {
        let file = match plan.stdio {
            Stdio::Files(files) => &files[number],
            Stdio::Terminal(slave) => slave,
        };
        descriptor::place(file.as_fd(), number as RawFd).map_err(Problem::at(Step::Stdio))?;
    }
    Ok(())
}

/// What depends on the user namespace: its ids, and where the keyring's name is known.
fn own_inside(plan: &Plan<'_>) -> Result<(), Problem> {
    if let Some(name) = plan.keyring {
        let (label, procfs) = (&plan.identity.label, plan.procfs.as_ref().map(AsFd::as_fd));
        label.begin_keys(procfs)?;
        keyring::join_session(name).map_err(Problem::at(Step::Session))?;
        label.end_keys(procfs)?;
    }
    if let Stdio::Files(_) = plan.stdio {
        console::own_standard(plan.identity.uid).map_err(Problem::at(Step::Stdio))?;
    }
    Ok(())
}

fn begin_session(plan: &Plan<'_>) -> Result<(), Problem> {
    setsid().map_err(Problem::at(Step::Session))?;
    match plan.stdio {
        Stdio::Files(_) => Ok(()),
        Stdio::Terminal(_) => terminal::control_standard_input().map_err(Problem::at(Step::Session)),
    }
}

/// Lowering needs CAP_SYS_RESOURCE; where that is lacking the shim's own value, inherited, is the nearest.
fn raise_oom_score(procfs: BorrowedFd<'_>, value: &[u8]) {
    harmless(procfs::write(procfs, c"self/oom_score_adj", value));
}
