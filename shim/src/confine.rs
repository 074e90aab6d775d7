//! What the supervisor may ask of the kernel once it stands: a seccomp filter that it installs for itself, for good.
//!
//! It decides much and is reached over HTTP, from probes' servers and by names on the network, so it is the process
//! of a pod that is most likely to be subverted; and it can do least. It reads and writes files, talks on sockets and
//! waits; it never starts a process or thread, never makes memory executable, and enters no namespace. So calls
//! are listed that do such things, some by their arguments, and all others fail with EPERM, as they do in containers.
//! To fail, rather than to be killed, since a call that a library begins to make one day then costs what it is
//! for, and not the supervisor over and over; an attacker gains nothing by trying again.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use crate::container::seccomp::{Arch, Filter, compile, flag};
use crate::sys::{process, seccomp};

/// `SECCOMP_FILTER_FLAG_LOG`: the kernel's log tells of a refused call. `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: nothing
/// here is kept from itself by a speculation barrier.
const FLAGS: u32 = flag::LOG | flag::SPEC_ALLOW;
const EPERM: u32 = 1;

/// Whatever their arguments are.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    // Files, as far as the one capability that is left goes.
    "access", "chmod", "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "faccessat", "faccessat2",
    "fadvise64", "fchmod", "fchmodat", "fchmodat2", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync",
    "ftruncate", "getcwd", "getdents64", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat",
    "openat2", "pipe", "pipe2", "pread64", "preadv", "pwrite64", "pwritev", "read", "readlink", "readlinkat", "readv",
    "rename", "renameat", "renameat2", "rmdir", "sendfile", "stat", "statfs", "statx", "umask", "unlink", "unlinkat",
    "write", "writev",
    // Sockets; of which kind is said below.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    // Waiting.
    "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "eventfd2", "futex", "gettimeofday", "inotify_add_watch", "inotify_init1", "inotify_rm_watch",
    "nanosleep", "poll", "ppoll", "restart_syscall", "time",
    // Itself.
    "brk", "exit", "exit_group", "getegid", "geteuid", "getgid", "getpid", "getppid", "getrandom", "gettid", "getuid",
    "madvise", "mremap", "munmap", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity",
    "sched_yield", "set_robust_list", "sigaltstack", "sysinfo", "uname",
];

/// Families of sockets: `AF_UNIX`, `AF_INET`, `AF_INET6`.
const FAMILIES: [u64; 3] = [1, 2, 10];
/// `FIONBIO`, `FIONREAD`, `FIOCLEX` and `TCGETS`, which tells a terminal.
const IOCTLS: [u64; 4] = [0x5421, 0x541b, 0x5451, 0x5401];
/// `PR_SET_VMA` of the C library's allocator.
const NAME_MEMORY: u64 = 0x5356_4d41;
const PROT_EXEC: u64 = 4;

/// Why the supervisor cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A filter covers the thread that installs it.
    #[error("this process has several threads, and its seccomp filter would cover one")]
    Threads,
    /// The list above is wrong.
    #[error("the supervisor's seccomp filter cannot be built: {0}")]
    Build(String),
    /// The kernel refuses it.
    #[error("install the supervisor's seccomp filter")]
    Install(#[source] std::io::Error),
}

/// Confines the calling process to what a supervisor needs, for good. It needs `no_new_privs`.
///
/// # Errors
/// It is not confined then, and must not go on.
pub fn supervisor() -> Result<(), Error> {
    if !process::has_one_thread() {
        return Err(Error::Threads);
    }
    let profile = profile(std::process::id()).map_err(|error| Error::Build(error.to_string()))?;
    let compiled = compile(&profile, Arch::NATIVE).map_err(|error| Error::Build(error.to_string()))?;
    seccomp::install(&Filter { flags: FLAGS, ..compiled }).map_err(|errno| Error::Install(errno.into()))
}

fn profile(pid: u32) -> Result<LinuxSeccomp, oci_spec::OciSpecError> {
    let mut rules = vec![rule(ALLOWED, None)?];
    for family in FAMILIES {
        rules.push(rule(&["socket"], Some(equal(0, family)?))?);
    }
    rules.push(rule(&["socketpair"], Some(equal(0, FAMILIES[0])?))?);
    for request in IOCTLS {
        rules.push(rule(&["ioctl"], Some(equal(1, request)?))?);
    }
    // Memory is written or executed, and what is executed is there already.
    let not_executable = LinuxSeccompArgBuilder::default()
        .index(2_usize)
        .value(PROT_EXEC)
        .value_two(0_u64)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()?;
    rules.push(rule(&["mmap", "mprotect"], Some(not_executable))?);
    rules.push(rule(&["prctl"], Some(equal(0, NAME_MEMORY)?))?);
    // Limits are read, not set; signals go to itself alone, as abort(3) sends one.
    rules.push(rule(&["prlimit64"], Some(equal(2, 0)?))?);
    rules.push(rule(&["tgkill"], Some(equal(0, pid.into())?))?);
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .syscalls(rules)
        .build()
}

fn rule(names: &[&str], condition: Option<LinuxSeccompArg>) -> Result<LinuxSyscall, oci_spec::OciSpecError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let rule = LinuxSyscallBuilder::default().names(names).action(LinuxSeccompAction::ScmpActAllow);
    rule.args(condition.into_iter().collect::<Vec<_>>()).build()
}

fn equal(index: usize, value: u64) -> Result<LinuxSeccompArg, oci_spec::OciSpecError> {
    let operator = LinuxSeccompOperator::ScmpCmpEq;
    LinuxSeccompArgBuilder::default().index(index).value(value).op(operator).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_short() {
        let filter = compile(&profile(7).unwrap(), Arch::NATIVE).unwrap();
        assert!(filter.program.len() < 300, "{} instructions", filter.program.len());
    }
}
