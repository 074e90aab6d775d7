//! Makes pause: a child in new namespaces that sets them up from within and becomes `hull-pause`.
//!
//! The child waits, set up, until the shim has its pid on disk; a shim that dies before that closes
//! the pipe, and the child ends. So no pause is ever left that no record names.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{pipe2, setsid};

use crate::cgroup::Entry;
use crate::container::program::lower;
use crate::container::transform::{Problem, Step};
use crate::sys::{descriptor, interface, process};
use crate::wire::SandboxConfig;

/// Why a sandbox cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A sysctl that is not private to the sandbox, or not a name.
    #[error("sandbox.json: sysctls: {name}: {reason}")]
    Sysctl {
        /// As given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A string that the kernel cannot take.
    #[error("sandbox.json: {0} has a null byte")]
    NullByte(&'static str),
    /// A system call of the shim.
    #[error("{0}")]
    System(&'static str, #[source] nix::Error),
}

/// Everything that the child needs.
pub(crate) struct Plan {
    namespaces: CloneFlags,
    hostname: Option<CString>,
    loopback: bool,
    sysctls: Vec<(CString, CString)>,
    program: CString,
    arguments: process::Vector,
    environment: process::Vector,
}

/// A child that is setting itself up.
pub(crate) struct Pause {
    /// The process.
    pub(crate) child: process::Child,
    /// Brings one byte when the namespaces are set up, then the end when pause runs; or a [`Problem`].
    pub(crate) status: OwnedFd,
    /// Write a byte here once the pid is on disk.
    pub(crate) go: OwnedFd,
}

/// What the child writes when it waits for the shim.
pub(crate) const READY: u8 = b'r';

impl Plan {
    /// Plans the sandbox that `config` describes, held by the binary `program` (hull-pause).
    pub(crate) fn new(config: &SandboxConfig, program: Vec<CString>) -> Result<Self, Error> {
        let mut namespaces = CloneFlags::empty();
        namespaces.set(CloneFlags::CLONE_NEWNET, !config.host_network);
        namespaces.set(CloneFlags::CLONE_NEWIPC, !config.host_ipc);
        namespaces.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
        namespaces.set(CloneFlags::CLONE_NEWPID, config.share_pid);
        let sysctls = config.sysctls.iter().map(|(name, value)| sysctl(config, name, value));
        let hostname = config.hostname.as_deref().map(CString::new).transpose();
        Ok(Self {
            namespaces,
            hostname: hostname.map_err(|_| Error::NullByte("hostname"))?,
            loopback: !config.host_network,
            sysctls: sysctls.collect::<Result<_, _>>()?,
            program: program.first().cloned().unwrap_or_default(),
            arguments: process::Vector::new(program),
            environment: process::Vector::new(Vec::new()),
        })
    }

    /// Forks the child.
    pub(crate) fn start(&self, cgroup: &Entry) -> Result<Pause, Error> {
        let (status, status_write) =
            pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::System("make a pipe", errno))?;
        let (go_read, go) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::System("make a pipe", errno))?;
        let flags = nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&status, flags).map_err(|errno| Error::System("set O_NONBLOCK", errno))?;
        let (told, heard) = (status_write.as_raw_fd(), go_read.as_raw_fd());
        let mut keep: Vec<RawFd> = cgroup.numbers().chain([told, heard]).collect();
        keep.sort_unstable();
        let work = Work { plan: self, cgroup, status: told, go: heard, keep };
        let child = process::spawn(self.namespaces, cgroup.directory(), &work, run)
            .map_err(|errno| Error::System("make a process in new namespaces", errno))?;
        Ok(Pause { child, status, go })
    }

    /// What went wrong in the child.
    pub(crate) fn explain(&self, problem: Problem) -> String {
        let reason = lower(problem.errno.desc());
        match problem.step {
            Step::Sysctl(index) => {
                let file = self.sysctls.get(usize::from(index)).map(|(file, _)| file.to_string_lossy());
                format!("write {}: {reason}", file.unwrap_or_default())
            }
            Step::Execute => format!("execute {}: {reason}", self.program.to_string_lossy()),
            step => format!("set up the sandbox: {step:?}: {reason}"),
        }
    }
}

/// The file of a sysctl and its value, if the sandbox has it to itself (oci-runtime 4.9).
fn sysctl(config: &SandboxConfig, name: &str, value: &str) -> Result<(CString, CString), Error> {
    let fail = |reason| Error::Sysctl { name: name.to_owned(), reason };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    let path = name.replace('.', "/");
    if !name.chars().all(plain) || path.split('/').any(str::is_empty) {
        return Err(fail("not the name of a sysctl"));
    }
    const IPC: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let is_ipc = path.starts_with("fs/mqueue/")
        || path.strip_prefix("kernel/").is_some_and(|rest| IPC.contains(&rest));
    let is_private = if path.starts_with("net/") {
        !config.host_network
    } else if is_ipc {
        !config.host_ipc
    } else {
        return Err(fail("not private to a pod; only net.*, fs.mqueue.* and the kernel's IPC sysctls are"));
    };
    if !is_private {
        return Err(fail("belongs to a namespace of the host that this pod uses"));
    }
    let value = CString::new(value).map_err(|_| fail("its value has a null byte"))?;
    Ok((CString::new(format!("/proc/sys/{path}")).map_err(|_| Error::NullByte("sysctls"))?, value))
}

struct Work<'a> {
    plan: &'a Plan,
    cgroup: &'a Entry,
    status: RawFd,
    go: RawFd,
    /// All that the child needs, in ascending order.
    keep: Vec<RawFd>,
}

fn run(work: &Work<'_>) -> ! {
    match set_up(work) {
        Ok(()) => {}
        Err(problem) => problem.report(work.status),
    }
    process::report(work.status, &[READY]);
    if !process::await_byte(work.go) {
        process::leave(1);
    }
    // Last, since it may take the kernel ten milliseconds: its parent makes the network meanwhile.
    if let Err(errno) = work.cgroup.enter() {
        Problem { step: Step::Cgroup, errno }.report(work.status);
    }
    let errno = process::execute(&work.plan.program, &work.plan.arguments, &work.plan.environment);
    Problem { step: Step::Execute, errno }.report(work.status)
}

fn set_up(work: &Work<'_>) -> Result<(), Problem> {
    setsid().map_err(Problem::at(Step::Session))?;
    // The lock, the records and the other end of `go` are the shim's: with them open this child
    // would outlive it, waiting.
    descriptor::close_all_but(&work.keep).map_err(Problem::at(Step::Descriptors))?;
    if let Some(hostname) = &work.plan.hostname {
        process::set_hostname(hostname).map_err(Problem::at(Step::Hostname))?;
    }
    if work.plan.loopback {
        interface::raise_loopback().map_err(Problem::at(Step::Loopback))?;
    }
    for (index, (file, value)) in work.plan.sysctls.iter().enumerate() {
        process::write_file(file, value.to_bytes()).map_err(Problem::at(Step::Sysctl(index as u8)))?;
    }
    process::default_signals();
    // hull-pause unblocks what it wants; one sent before that must wait, not kill or be lost.
    process::block_signals();
    for number in 0..3 {
        let null = process::open_null().map_err(Problem::at(Step::Stdio))?;
        descriptor::place(null.as_fd(), number).map_err(Problem::at(Step::Stdio))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host_network: bool) -> SandboxConfig {
        SandboxConfig {
            uid: "u".into(),
            namespace: "default".into(),
            name: "web".into(),
            hostname: Some("web".into()),
            host_network,
            host_ipc: false,
            share_pid: false,
            host_pid: false,
            cgroup_manager: crate::wire::CgroupManager::default(),
            sysctls: std::collections::BTreeMap::new(),
            resources: crate::wire::Resources::default(),
            network: None,
        }
    }

    #[test]
    fn only_sysctls_of_the_pods_own_namespaces_are_written() {
        let (file, value) = sysctl(&config(false), "net.ipv4.ip_forward", "1").unwrap();
        assert_eq!((file.as_c_str(), value.as_c_str()), (c"/proc/sys/net/ipv4/ip_forward", c"1"));
        assert!(sysctl(&config(false), "kernel.shmmax", "1").is_ok());
        assert!(sysctl(&config(true), "net.ipv4.ip_forward", "1").is_err());
        assert!(sysctl(&config(false), "kernel.core_pattern", "x").is_err());
        assert!(sysctl(&config(false), "net/../kernel/core_pattern", "x").is_err());
    }
}
