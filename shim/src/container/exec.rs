//! A further process in a running container, the hot path of probes: everything that can be is
//! prepared, then one `clone3`, `setns` on the init's pidfd for all namespaces at once, the steps of
//! [`transform`](super::transform), `execve`.
//!
//! The child is made directly in the container's PID namespace: the shim points its *children's*
//! namespace there for the time of one `clone3` (setns(2) with `CLONE_NEWPID` moves only future
//! children), which saves the second fork that joiners usually need.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, setns};
use nix::unistd::setsid;

use super::identity::Identity;
use super::program::Program;
use super::transform::{Problem, Step, transform};
use crate::cgroup::Entry;
use crate::harmless;
use crate::sys::{descriptor, process, terminal};

/// A running container to join.
pub(crate) struct Target<'a> {
    /// Pidfd of its init.
    pub(crate) init: BorrowedFd<'a>,
    pub(crate) identity: &'a Identity,
    /// Where the new process goes.
    pub(crate) cgroup: &'a Entry,
    /// The PID namespace of the shim's own children.
    pub(crate) own_pid_namespace: BorrowedFd<'a>,
}

/// The descriptors of the new process.
pub(crate) enum Stdio {
    /// Stdin, stdout, stderr.
    Files([OwnedFd; 3]),
    /// The slave of a terminal.
    Terminal(OwnedFd),
}

/// Makes the process. The reading end of the pipe brings a [`Problem`], or ends when `execve` is done.
pub(crate) fn start(
    target: &Target<'_>,
    program: &Program,
    stdio: &Stdio,
) -> nix::Result<(process::Child, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let plan = Plan {
        init: target.init,
        identity: target.identity,
        cgroup: target.cgroup,
        program,
        stdio,
        pipe: write.as_raw_fd(),
        oom_score: target.identity.oom_score_adj.to_string(),
    };
    setns(target.init, CloneFlags::CLONE_NEWPID)?;
    let child = process::spawn(CloneFlags::empty(), target.cgroup.directory(), &plan, join);
    // Were this to fail, every further child would land in the container: better no shim than that.
    setns(target.own_pid_namespace, CloneFlags::CLONE_NEWPID)
        .expect("a process may always return to its own PID namespace");
    Ok((child?, read))
}

struct Plan<'a> {
    init: BorrowedFd<'a>,
    identity: &'a Identity,
    cgroup: &'a Entry,
    program: &'a Program,
    stdio: &'a Stdio,
    pipe: RawFd,
    oom_score: String,
}

fn join(plan: &Plan<'_>) -> ! {
    let problem = match enter(plan) {
        Ok(()) => transform(plan.identity, plan.program),
        Err(problem) => problem,
    };
    problem.report(plan.pipe)
}

fn enter(plan: &Plan<'_>) -> Result<(), Problem> {
    process::hide().map_err(Problem::at(Step::Hide))?;
    plan.cgroup.enter().map_err(Problem::at(Step::Cgroup))?;
    raise_oom_score(plan.oom_score.as_bytes());
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    setns(plan.init, namespaces).map_err(Problem::at(Step::Namespaces))?;
    setsid().map_err(Problem::at(Step::Session))?;
    let stdio = Problem::at(Step::Stdio);
    match plan.stdio {
        Stdio::Files(files) => {
            for (number, file) in files.iter().enumerate() {
                descriptor::place(file.as_fd(), number as RawFd).map_err(&stdio)?;
            }
        }
        Stdio::Terminal(slave) => {
            for number in 0..3 {
                descriptor::place(slave.as_fd(), number).map_err(&stdio)?;
            }
            terminal::control_standard_input().map_err(Problem::at(Step::Session))?;
        }
    }
    Ok(())
}

/// Lowering needs CAP_SYS_RESOURCE; where that is lacking the shim's own value, inherited, is the nearest.
fn raise_oom_score(value: &[u8]) {
    harmless(process::write_file(c"/proc/self/oom_score_adj", value));
}
