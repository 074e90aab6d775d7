//! How a forked process turns into a process of the container: limits, user, capabilities, seccomp
//! filter, working directory, `execve`. The order is runc's (`finalizeNamespace`), see capabilities(7).
//!
//! **Invariant:** nothing here allocates, logs or returns after success. A failure is one
//! [`Problem`], eight bytes that the process which waits knows how to put into words.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, chdir, setresgid, setresuid};

use super::engine::hook::State;
use super::identity::{Groups, Identity};
use super::program::Program;
use crate::sys::{capability, descriptor, process, seccomp, socket};

/// The step that a forked process was at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// Hiding from the container (`PR_SET_DUMPABLE`).
    Hide,
    /// Writing itself into a cgroup.
    Cgroup,
    /// `setns`.
    Namespaces,
    /// Writing `oom_score_adj`.
    OomScore,
    /// Putting the standard descriptors in place.
    Stdio,
    /// `setsid` or taking the terminal.
    Session,
    /// Marking all other descriptors close-on-exec.
    Descriptors,
    /// `prlimit` of the limit with this index.
    Limit(u8),
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Installing the seccomp filter.
    Seccomp,
    /// Dropping from the bounding set.
    Bounding,
    /// `setgroups`.
    Groups,
    /// `setgid`.
    Group,
    /// `setuid`.
    User,
    /// `capset`.
    Capabilities,
    /// Raising ambient capabilities.
    Ambient,
    /// `chdir` to the working directory.
    Directory,
    /// The working directory lies outside the container.
    DirectoryOutside,
    /// `execve`; ENOENT after a search means that no directory of `PATH` has it.
    Execute,
    /// `sethostname`.
    Hostname,
    /// Bringing `lo` up.
    Loopback,
    /// Writing the sysctl with this index.
    Sysctl(u8),
    /// Scheduler, I/O priority, memory policy, personality.
    Scheduling(Scheduled),
    /// The label or profile that `execve` is to give.
    Label,
    /// The `startContainer` hook with this index could not be run.
    Hook(u8),
    /// That hook ended with this status; a signal counts from 128, its time limit is 255.
    HookEnded(u8, u8),
}

/// What of [`Step::Scheduling`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Scheduled {
    /// `process.scheduler`.
    Scheduler,
    /// `process.ioPriority`.
    IoPriority,
    /// `linux.personality`.
    Personality,
    /// `linux.memoryPolicy`.
    MemoryPolicy,
    /// `process.execCPUAffinity`.
    Cpus,
}

const STEPS: [Step; 26] = [
    Step::Hide,
    Step::Cgroup,
    Step::Namespaces,
    Step::OomScore,
    Step::Stdio,
    Step::Session,
    Step::Descriptors,
    Step::NoNewPrivileges,
    Step::Seccomp,
    Step::Bounding,
    Step::Groups,
    Step::Group,
    Step::User,
    Step::Capabilities,
    Step::Ambient,
    Step::Directory,
    Step::DirectoryOutside,
    Step::Execute,
    Step::Hostname,
    Step::Loopback,
    Step::Label,
    Step::Scheduling(Scheduled::Scheduler),
    Step::Scheduling(Scheduled::IoPriority),
    Step::Scheduling(Scheduled::Personality),
    Step::Scheduling(Scheduled::MemoryPolicy),
    Step::Scheduling(Scheduled::Cpus),
];
const LIMIT: u8 = 100;
const SYSCTL: u8 = 101;
const HOOK: u8 = 102;
const HOOK_ENDED: u8 = 103;

/// Why a forked process could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) step: Step,
    /// Why.
    pub(crate) errno: Errno,
}

impl Problem {
    /// Length on the wire.
    pub(crate) const LENGTH: usize = 8;

    /// For `map_err`.
    pub(crate) fn at(step: Step) -> impl Fn(Errno) -> Self {
        move |errno| Self { step, errno }
    }

    /// The bytes that go over the pipe.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let (kind, index, more) = match self.step {
            Step::Limit(index) => (LIMIT, index, 0),
            Step::Sysctl(index) => (SYSCTL, index, 0),
            Step::Hook(index) => (HOOK, index, 0),
            Step::HookEnded(index, status) => (HOOK_ENDED, index, status),
            step => (STEPS.iter().position(|known| *known == step).map_or(u8::MAX, |at| at as u8), 0, 0),
        };
        let errno = (self.errno as i32).to_ne_bytes();
        [kind, index, more, 0, errno[0], errno[1], errno[2], errno[3]]
    }

    /// Reads what [`Problem::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let [kind, index, more, _, errno @ ..] = bytes;
        let step = match kind {
            LIMIT => Step::Limit(index),
            SYSCTL => Step::Sysctl(index),
            HOOK => Step::Hook(index),
            HOOK_ENDED => Step::HookEnded(index, more),
            kind => STEPS.get(usize::from(kind)).copied().unwrap_or(Step::Execute),
        };
        Self { step, errno: Errno::from_raw(i32::from_ne_bytes(errno)) }
    }

    /// Sends itself and ends the process with 128, the code of a container that could not start.
    pub(crate) fn report(self, pipe: RawFd) -> ! {
        crate::sys::process::report(pipe, &self.to_bytes());
        process::leave(128)
    }
}

/// What the last stretch needs besides who and what the process is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handles<'a> {
    /// Descriptors from here on are to be closed by `execve`; none where all are by now.
    pub(crate) closed_from: Option<u32>,
    /// The procfs of a namespace that the container has no say in, to write labels to.
    pub(crate) procfs: Option<BorrowedFd<'a>>,
    /// Who sets the limits.
    pub(crate) limits: Limits,
    /// Who is told of a filter that notifies.
    pub(crate) observer: Option<Observer<'a>>,
}

/// The other side of a socket that takes the listeners of seccomp filters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observer<'a> {
    pub(crate) socket: RawFd,
    /// What it is told, about this process.
    pub(crate) state: &'a State,
    pub(crate) process: Told,
}

/// How a process gets to know its pid as its maker sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told {
    /// It knows.
    Before(i32),
    /// From this pipe.
    Pipe(RawFd),
}

impl Told {
    fn pid(self) -> nix::Result<i32> {
        match self {
            Self::Before(pid) => Ok(pid),
            Self::Pipe(pipe) => process::read_number(pipe),
        }
    }
}

impl Observer<'_> {
    fn tell(&self, pid: i32, listener: RawFd) -> nix::Result<()> {
        let mut digits = [0; 10];
        socket::tell(self.socket, &self.state.parts(pid, &mut digits), Some(listener))
    }
}

/// Who sets the resource limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// It does.
    Own,
    /// Its maker did, since a process in a user namespace of its own may not raise them.
    Set,
}

impl Default for Handles<'_> {
    fn default() -> Self {
        Self { closed_from: Some(3), procfs: None, limits: Limits::Own, observer: None }
    }
}

/// Becomes `program` with the identity of a container's process; comes back only with the reason why not.
pub(crate) fn transform(identity: &Identity, program: &Program, handles: &Handles<'_>) -> Problem {
    match become_member(identity, handles) {
        Ok(_) => become_program(identity, program, handles),
        Err(problem) => problem,
    }
}

/// The first half: whatever needs more power than the container has. Afterwards this process has no capability
/// that the container lacks. Tells whether it became somebody else: such a process can be seen again, and lives on without its
/// parent.
pub(crate) fn become_member(identity: &Identity, handles: &Handles<'_>) -> Result<bool, Problem> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    // Asked before a filter is in force that need not know the question.
    let becomes = (!process::is_throughout(uid, gid)).then_some((uid, gid));
    if let Some(first) = handles.closed_from {
        descriptor::close_on_exec_from(first).map_err(Problem::at(Step::Descriptors))?;
    }
    identity.scheduling.apply()?;
    if handles.limits == Limits::Own {
        set_limits(identity)?;
    }
    identity.label.apply(handles.procfs)?;
    process::set_umask(identity.umask);
    // As root, so that a directory which the user may not enter still serves as the working
    // directory; where root may not (a network file system), the user tries again below.
    let entered = chdir(identity.directory.as_c_str()).is_ok();
    if identity.no_new_privileges {
        process::no_new_privileges().map_err(Problem::at(Step::NoNewPrivileges))?;
    } else {
        // Without no_new_privs only CAP_SYS_ADMIN may install a filter, and we are about to drop it.
        install_filter(identity, handles)?;
    }
    change_user(identity, becomes)?;
    if !entered {
        chdir(identity.directory.as_c_str()).map_err(Problem::at(Step::Directory))?;
    }
    // The root itself was reached by no descriptor.
    if !(entered && identity.directory.as_c_str() == c"/" || process::is_inside_root()) {
        return Err(Problem { step: Step::DirectoryOutside, errno: Errno::EXDEV });
    }
    Ok(becomes.is_some())
}

/// Sets the resource limits of this process.
pub(crate) fn set_limits(identity: &Identity) -> Result<(), Problem> {
    for (index, limit) in identity.limits.iter().enumerate() {
        process::limit(limit.resource, limit.soft, limit.hard)
            .map_err(Problem::at(Step::Limit(index as u8)))?;
    }
    Ok(())
}

/// The second half.
pub(crate) fn become_program(identity: &Identity, program: &Program, handles: &Handles<'_>) -> Problem {
    process::default_signals();
    match confine(identity, handles) {
        Ok(()) => execute(program, 0),
        Err(problem) => problem,
    }
}

/// Installs the filter, unless [`become_member`] did. With `no_new_privs` that takes no power, and the later it is the
/// fewer calls of ours it has to allow.
pub(crate) fn confine(identity: &Identity, handles: &Handles<'_>) -> Result<(), Problem> {
    if identity.no_new_privileges { install_filter(identity, handles) } else { Ok(()) }
}

fn install_filter(identity: &Identity, handles: &Handles<'_>) -> Result<(), Problem> {
    let failed = Problem::at(Step::Seccomp);
    match &identity.filter {
        Some(filter) if filter.needs_listener() => {
            let observer = handles.observer.ok_or(Errno::ENOTCONN).map_err(&failed)?;
            // Before the filter, which may have read(2) wait for an answer.
            let pid = observer.process.pid().map_err(&failed)?;
            let listener = seccomp::install_with_listener(filter).map_err(&failed)?;
            observer.tell(pid, listener.as_raw_fd()).map_err(&failed)
        }
        Some(filter) => seccomp::install(filter).map_err(failed),
        None => Ok(()),
    }
}

/// Takes groups and capabilities, and becomes another user where there is one to become.
fn change_user(identity: &Identity, becomes: Option<(Uid, Gid)>) -> Result<(), Problem> {
    let capabilities = Problem::at(Step::Capabilities);
    capability::limit_bounding(identity.capabilities.bounding).map_err(Problem::at(Step::Bounding))?;
    if becomes.is_some() {
        capability::keep_over_user_change(true).map_err(&capabilities)?;
    }
    if let Groups::Listed(groups) = &identity.groups {
        process::set_groups(groups).map_err(Problem::at(Step::Groups))?;
    }
    if let Some((uid, gid)) = becomes {
        setresgid(gid, gid, gid).map_err(Problem::at(Step::Group))?;
        setresuid(uid, uid, uid).map_err(Problem::at(Step::User))?;
        // That may make it visible (fs.suid_dumpable), while it still has more rights than those who could see it.
        process::hide().map_err(Problem::at(Step::Hide))?;
        capability::keep_over_user_change(false).map_err(&capabilities)?;
    }
    capability::set(&identity.capabilities).map_err(&capabilities)?;
    // None is ambient that is not inheritable; capabilities(7).
    if identity.capabilities.inheritable == 0 && identity.capabilities.ambient == 0 {
        return Ok(());
    }
    capability::set_ambient(identity.capabilities.ambient).map_err(Problem::at(Step::Ambient))
}

/// Tries the candidates in the order of `PATH`, as execvp(3) does, with the container's own rights. Those before `first`
/// were not there when somebody looked, and come last.
pub(crate) fn execute(program: &Program, first: usize) -> Problem {
    let mut worst = Errno::ENOENT;
    let (before, after) = program.candidates.split_at(first.min(program.candidates.len()));
    for candidate in after.iter().chain(before) {
        match process::execute(candidate, &program.arguments, &program.environment) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => worst = Errno::EACCES,
            errno => {
                return Problem { step: Step::Execute, errno };
            }
        }
    }
    Problem { step: Step::Execute, errno: worst }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_the_pipe() {
        let numbered = [Step::Limit(3), Step::Sysctl(7), Step::Hook(1), Step::HookEnded(1, 130)];
        for step in STEPS.into_iter().chain(numbered) {
            let problem = Problem { step, errno: Errno::EPERM };
            assert_eq!(Problem::from_bytes(problem.to_bytes()), problem);
        }
    }
}
