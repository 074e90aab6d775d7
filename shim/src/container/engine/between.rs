//! The go-between of [`namespace`](super::namespace): a process that joins what must be joined before the init is made, makes
//! the init as its own sibling, tells its pid and ends.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};

use super::child;
use super::work::Work;
use crate::harmless;
use crate::sys::{pidfd, process};

struct Between<'a> {
    work: &'a Work<'a>,
    pid: Option<BorrowedFd<'a>>,
    tell: RawFd,
}

/// Makes the init by way of a go-between.
pub(super) fn make(work: &Work<'_>, pid: Option<BorrowedFd<'_>>) -> nix::Result<process::Child> {
    let (told, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let between = Between { work, pid, tell: tell.as_raw_fd() };
    let first = process::spawn(CloneFlags::empty(), work.cgroup.directory(), &between, run)?;
    drop(tell);
    let mut bytes = [0; size_of::<i32>()];
    // A few system calls, none of which waits for a container.
    let read = nix::unistd::read(&told, &mut bytes);
    process::reap_ended(first.pidfd.as_fd());
    let told = match read {
        Ok(length) if length == bytes.len() => i32::from_ne_bytes(bytes),
        Ok(_) => return Err(Errno::ECHILD),
        Err(errno) => return Err(errno),
    };
    if told < 0 {
        return Err(Errno::from_raw(-told));
    }
    // Nobody reaps but us, so the pid still means that process even if it ended.
    Ok(process::Child { pid: told, pidfd: pidfd::open(told)? })
}

fn run(between: &Between<'_>) -> ! {
    let told = match join(between) {
        Ok(pid) => pid,
        Err(errno) => -(errno as i32),
    };
    // A maker that is gone does not need to know.
    harmless(process::write_to(between.tell, &told.to_ne_bytes()));
    process::leave(0)
}

fn join(between: &Between<'_>) -> nix::Result<i32> {
    let work = between.work;
    process::hide()?;
    process::die_with_parent(libc::SIGKILL)?;
    work.opened.joins.join().map_err(|failed| failed.errno)?;
    if let Some(pid) = between.pid {
        setns(pid, CloneFlags::CLONE_NEWPID)?;
    }
    process::spawn_sibling_in(work.plan.namespaces.cloned(), work, child::run)
}
