//! Forking and what a forked child does to itself before `execve`. Nothing here allocates except
//! [`has_one_thread`].

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, getresgid, getresuid};

use super::check;
use crate::guard::{self, Guard};
use crate::wire::Exit;

/// `CLONE_INTO_CGROUP`, which does not fit libc's type for flags.
pub(super) const INTO_CGROUP: u64 = 1 << 33;

/// A child just made.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its pid; ours to read until we reap it.
    pub(crate) pid: i32,
    /// Its descriptor.
    pub(crate) pidfd: OwnedFd,
}

/// What Rust's start does for a program and a program without it has to: a standard descriptor that is closed is
/// `/dev/null`, so that no file that is opened takes its number, and who writes to a pipe that nobody reads is told so
/// instead of killed.
pub(crate) fn begin() {
    let mut polled = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll reads and writes the three entries of an array that outlives the call, and waits for nothing.
    let answered = check(unsafe { libc::poll(polled.as_mut_ptr(), 3, 0) }.into());
    // One that is open as a place only (O_PATH) cannot be polled either.
    let is_suspect = |number: usize| answered.is_err() || polled[number].revents & libc::POLLNVAL != 0;
    // SAFETY: F_GETFD of any number changes nothing.
    let is_missing =
        |number: usize| check(unsafe { libc::fcntl(number as i32, libc::F_GETFD) }.into()).is_err();
    let is_closed = |number: usize| is_suspect(number) && is_missing(number);
    // SAFETY: open reads a path that is a constant. It takes the lowest free number, which is the one that was found closed.
    let null = || check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }.into());
    if (0..3).any(|number| is_closed(number) && null().is_err()) {
        std::process::abort();
    }
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Makes a child in the new namespaces of `flags`, inside the v2 cgroup `cgroup` if given, that runs
/// `child`; clone3(2). The child shares nothing with us and dies by SIGCHLD as a forked one does.
pub(crate) fn spawn<T>(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    with: &T,
    child: fn(&T) -> !,
) -> nix::Result<Child> {
    super::descriptor::note_open();
    let mut pidfd: i32 = -1;
    // SAFETY: an all-zero clone_args is what clone3 calls "no option".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.bits() as u32) | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of our memory and goes on on a copy of this stack,
    // as after fork. We are the only thread, so no lock of the allocator is held by a thread that the
    // child lacks. `args` and `pidfd` outlive the call.
    let made = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) });
    let pid = match made {
        // A container's seccomp filter is in force here: common ones refuse clone3, since they cannot see its flags.
        Err(Errno::ENOSYS | Errno::EPERM) if cgroup.is_none() => {
            spawn_by_clone(flags.bits() | libc::CLONE_PIDFD | libc::SIGCHLD, &mut pidfd)?
        }
        made => made?,
    };
    if pid == 0 {
        child(with)
    }
    // SAFETY: CLONE_PIDFD made this descriptor for us (close-on-exec), nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: pid as i32, pidfd })
}

fn spawn_by_clone(flags: i32, pidfd: &mut i32) -> nix::Result<libc::c_long> {
    let flags = libc::c_long::from(flags);
    // SAFETY: without CLONE_VM and with a null stack the child goes on on a copy of this one, as in `spawn`. The third
    // argument is where CLONE_PIDFD writes, and outlives the call; the others are not looked at without their flags.
    check(unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, std::ptr::from_mut(pidfd), 0_usize, 0_usize)
    })
}

/// Makes a child of our parent (`CLONE_PARENT`), in the PID namespace that `setns` chose for our children,
/// that runs `child`. The kernel gives it our own exit signal. Its pid is told as our own namespace has it.
///
/// By clone(2), which a container's seccomp filter allows where it allows any fork: it may be in force here,
/// and common profiles answer clone3 with ENOSYS, since they cannot see its flags.
pub(crate) fn spawn_sibling<T>(with: &T, child: fn(&T) -> !) -> nix::Result<i32> {
    spawn_sibling_in(CloneFlags::empty(), with, child)
}

/// [`spawn_sibling`], in the new namespaces of `flags` too.
pub(crate) fn spawn_sibling_in<T>(flags: CloneFlags, with: &T, child: fn(&T) -> !) -> nix::Result<i32> {
    // SAFETY: without CLONE_VM the child gets a copy of our memory and, the stack being null, goes on on a copy
    // of this one, as after fork; no other argument is looked at without its flag. We are the only thread, as
    // in `spawn`.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(libc::CLONE_PARENT | flags.bits()),
            0_usize,
            0_usize,
            0_usize,
            0_usize,
        )
    })?;
    if pid == 0 {
        child(with)
    }
    Ok(pid as i32)
}

/// SIGKILL for a child of our parent that nobody else knows of, in a child that allocates nothing. One that has ended is as
/// good.
pub(crate) fn kill_sibling(pid: i32) {
    // SAFETY: kill takes two integers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Ends this process at once: no destructor, no exit handler.
pub(crate) fn leave(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Whether this process has a single thread, which every fork here relies on.
#[must_use]
pub(crate) fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// An array of C strings ready for `execve`, which must not be built in a forked child.
pub(crate) struct Vector {
    pointers: Vec<*const libc::c_char>,
    strings: Vec<std::ffi::CString>,
}

impl Vector {
    /// Keeps `strings` together with the array of pointers to them.
    #[must_use]
    pub(crate) fn new(strings: Vec<std::ffi::CString>) -> Self {
        let pointers = strings.iter().map(|one| one.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, strings }
    }

    /// The strings.
    #[must_use]
    pub(crate) fn strings(&self) -> &[std::ffi::CString] {
        &self.strings
    }
}

impl Clone for Vector {
    fn clone(&self) -> Self {
        Self::new(self.strings.clone())
    }
}

impl std::fmt::Debug for Vector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(out)
    }
}

/// Executes `path`; returns only to say why it could not.
pub(crate) fn execute(path: &CStr, arguments: &Vector, environment: &Vector) -> Errno {
    // SAFETY: both arrays end in a null pointer and point into strings that `Vector` owns and never
    // changes; `path` ends in a null byte.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Errno::last()
}

/// Executes the file behind a descriptor; returns only to say why it could not.
pub(crate) fn execute_descriptor(file: BorrowedFd<'_>, arguments: &Vector, environment: &Vector) -> Errno {
    let arguments = arguments.pointers.as_ptr();
    let environment = environment.pointers.as_ptr();
    // SAFETY: as in `execute`; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::execveat(
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.cast(),
            environment.cast(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// The signals that this process may ignore: bit 0 is signal 1. All of them as long as nobody looked.
static IGNORED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Looks which signals this process ignores, so that its children need not reset all; it must not ignore others later.
pub(crate) fn note_ignored_signals() {
    let status = crate::procfs::record("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    if let Some(ignored) = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) {
        IGNORED.store(ignored, Ordering::Relaxed);
    }
}

/// Sets every signal to its default that is ignored, and unblocks all: Rust ignores SIGPIPE, and the shim blocks what it
/// reads from a descriptor, but an executed program expects neither. Handlers end with `execve`.
pub(crate) fn default_signals() {
    let ignored = IGNORED.load(Ordering::Relaxed);
    for signal in (1..=64).filter(|signal| ignored & 1 << (signal - 1) != 0) {
        // SAFETY: SIG_DFL installs no handler of ours; numbers that cannot be set come back as EINVAL,
        // which leaves them at the default that they always have.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// The signals that ask a process to end do end this one, until it executes something. Where it is the first of its PID
/// namespace the kernel keeps from it whatever it has not asked for; pid_namespaces(7).
pub(crate) fn end_when_asked() {
    extern "C" fn end(signal: i32) {
        leave(128 + signal)
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the handler makes one call, which a handler may make, and does not return.
        unsafe { libc::signal(signal, end as extern "C" fn(i32) as libc::sighandler_t) };
    }
}

/// Unblocks all signals, so that this process can be ended by one; their dispositions stay.
pub(crate) fn unblock_signals() {
    // SAFETY: sigset_t is plain memory for which all zero is a valid, empty set.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: reads one set that outlives the call; no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// Blocks every signal, for a child that must not miss one across `execve`.
pub(crate) fn block_signals() {
    // SAFETY: sigset_t is plain memory; all ones is the full set.
    let full: libc::sigset_t = unsafe { std::mem::transmute([0xff_u8; size_of::<libc::sigset_t>()]) };
    // SAFETY: reads one set that outlives the call; no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const full, std::ptr::null_mut()) };
}

/// No process of a container may look into this one: `/proc/<pid>/exe`, `fd`, `mem` are closed to it.
pub(crate) fn hide() -> nix::Result<()> {
    if guard::is_off(Guard::Hidden) {
        return Ok(());
    }
    control(libc::PR_SET_DUMPABLE, 0)
}

/// Whether this process's real, effective and saved ids are all these.
#[must_use]
pub(crate) fn is_throughout(uid: Uid, gid: Gid) -> bool {
    let users = getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [uid; 3]);
    users && getresgid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [gid; 3])
}

/// The opposite of [`hide`]: `/proc/self` is this process's own again.
pub(crate) fn show() -> nix::Result<()> {
    control(libc::PR_SET_DUMPABLE, 1)
}

/// Orphaned descendants become children of this process.
pub(crate) fn become_subreaper() -> nix::Result<()> {
    control(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// This process gets `signal` when its parent dies. A parent dead already is the caller's to notice.
pub(crate) fn die_with_parent(signal: i32) -> nix::Result<()> {
    control(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// Nothing that this process executes gains privileges.
pub(crate) fn no_new_privileges() -> nix::Result<()> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1)
}

fn control(option: i32, value: libc::c_ulong) -> nix::Result<()> {
    // SAFETY: the options above take integers and touch no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, value, 0, 0, 0) }).map(drop)
}

/// Sets a resource limit of this process.
pub(crate) fn limit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    limit_of(0, resource, soft, hard)
}

/// Sets a resource limit of the child `pid`, or of this process for 0.
pub(crate) fn limit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let null = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: reads one rlimit64 that outlives the call; no old limit is asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, null) }).map(drop)
}

/// Sets the supplementary groups of this process.
pub(crate) fn set_groups(groups: &[u32]) -> nix::Result<()> {
    // SAFETY: reads `len` group ids from a slice of that length.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Sets the file mode creation mask.
pub(crate) fn set_umask(mask: u32) {
    // SAFETY: umask takes an integer and cannot fail.
    unsafe { libc::umask(mask) };
}

/// Whether the working directory can be named from the root directory: one that was reached through
/// a leaked descriptor cannot (CVE-2024-21626).
#[must_use]
pub(crate) fn is_inside_root() -> bool {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most `len` bytes into a buffer of that length.
    let read = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) });
    // Outside the root the kernel writes "(unreachable)/…".
    read.is_ok() && buffer[0] == b'/' || guard::is_off(Guard::Inside)
}

/// Writes a short message to a pipe by its number; a reader that is gone is no concern of a child about
/// to end.
pub(crate) fn report(pipe: std::os::fd::RawFd, message: &[u8]) {
    // SAFETY: writes `len` bytes from a slice of that length; a closed number comes back as EBADF.
    unsafe { libc::write(pipe, message.as_ptr().cast(), message.len()) };
}

/// Reads one byte from a descriptor by its number, waiting for it; false at the end of the stream.
#[must_use]
pub(crate) fn await_byte(from: std::os::fd::RawFd) -> bool {
    let mut byte = 0_u8;
    // SAFETY: reads at most one byte into one byte; a closed number comes back as EBADF.
    unsafe { libc::read(from, (&raw mut byte).cast(), 1) == 1 }
}

/// Reads a number from a pipe by its descriptor's number, waiting for it; EPIPE at the end of the stream.
pub(crate) fn read_number(from: std::os::fd::RawFd) -> nix::Result<i32> {
    let mut bytes = [0; size_of::<i32>()];
    // SAFETY: the kernel writes at most four bytes into an array of four.
    let length = Errno::result(unsafe { libc::read(from, bytes.as_mut_ptr().cast(), bytes.len()) })?;
    if length as usize == bytes.len() { Ok(i32::from_ne_bytes(bytes)) } else { Err(Errno::EPIPE) }
}

/// Writes `text` to the file at `path`; for `/proc` and `/sys`, where one write is one operation.
pub(crate) fn write_file(path: &CStr, text: &[u8]) -> nix::Result<()> {
    // SAFETY: `path` ends in a null byte and outlives the call.
    let number = check(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) }.into())? as i32;
    // SAFETY: open made this descriptor for us just now, nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    write_to(file.as_raw_fd(), text)
}

/// Writes `text` to a descriptor by its number, in one call.
pub(crate) fn write_to(to: std::os::fd::RawFd, text: &[u8]) -> nix::Result<()> {
    // SAFETY: writes `len` bytes from a slice of that length; a closed number comes back as EBADF.
    check(unsafe { libc::write(to, text.as_ptr().cast(), text.len()) } as libc::c_long).map(drop)
}

/// Opens `/dev/null` for reading and writing.
pub(crate) fn open_null() -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: the path ends in a null byte.
    let number = check(unsafe { libc::open(c"/dev/null".as_ptr(), flags) }.into())? as i32;
    // SAFETY: open made this descriptor for us just now, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets the hostname of this process's UTS namespace.
pub(crate) fn set_hostname(name: &CStr) -> nix::Result<()> {
    let bytes = name.to_bytes();
    // SAFETY: reads `len` bytes from a slice of that length.
    check(unsafe { libc::syscall(libc::SYS_sethostname, bytes.as_ptr(), bytes.len()) }).map(drop)
}

/// Sets the NIS domain name of this process's UTS namespace.
pub(crate) fn set_domainname(name: &CStr) -> nix::Result<()> {
    let bytes = name.to_bytes();
    // SAFETY: reads `len` bytes from a slice of that length.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, bytes.as_ptr(), bytes.len()) }).map(drop)
}

/// Reaps one child that ended, whichever; none when no child has. Through `waitid` rather than nix, which
/// reports a death by a real-time signal as an error after the status is gone.
pub(crate) fn reap() -> Option<(i32, Exit)> {
    ended(libc::P_ALL, 0, 0)
}

/// One child that ended, whichever; it is still to be reaped.
pub(crate) fn ended_child() -> Option<(i32, Exit)> {
    ended(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Reaps a child that ended.
pub(crate) fn reap_pid(pid: i32) {
    ended(libc::P_PID, pid as libc::id_t, 0);
}

/// Reaps the child behind a descriptor if it ended.
pub(crate) fn reap_child(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    ended(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, 0).map(|(_, exit)| exit)
}

/// Reaps the child behind a descriptor, which is about to end, waiting for that.
pub(crate) fn reap_ended(pidfd: BorrowedFd<'_>) {
    let id = pidfd.as_raw_fd() as libc::id_t;
    // SAFETY: waitid takes no siginfo here; the descriptor is open for the whole call.
    while unsafe { libc::waitid(libc::P_PIDFD, id, std::ptr::null_mut(), libc::WEXITED) } != 0 {
        if Errno::last() != Errno::EINTR {
            return;
        }
    }
}

/// How the child behind a descriptor ended, if it did; it is still to be reaped.
pub(crate) fn exit_of_child(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    ended(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, libc::WNOWAIT).map(|(_, exit)| exit)
}

/// Whether the process behind a descriptor is a child of ours, ended or not.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    let id = pidfd.as_raw_fd() as libc::id_t;
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: siginfo_t is plain memory for which all zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one siginfo_t, which outlives the call.
    unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) == 0 }
}

fn ended(kind: libc::idtype_t, id: libc::id_t, more: i32) -> Option<(i32, Exit)> {
    // SAFETY: siginfo_t is plain memory for which all zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | more;
    // SAFETY: the kernel writes one siginfo_t, which outlives the call.
    let result = unsafe { libc::waitid(kind, id, &raw mut info, options) };
    // SAFETY: waitid filled in a SIGCHLD siginfo, or left it zero, which reads as pid 0.
    let pid = unsafe { info.si_pid() };
    // SAFETY: the same siginfo.
    let status = unsafe { info.si_status() };
    if result != 0 || pid == 0 {
        return None;
    }
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status as u8),
        _ => Exit::Signaled(status as u8),
    };
    Some((pid, exit))
}
