//! Compiles a seccomp profile of runtime-spec (`config-linux.md`, Seccomp) to a BPF filter; seccomp(2).
//!
//! [`compile`] is pure: a profile goes in, instructions and flags come out. [`Cache`] remembers what it made, in memory and
//! on disk; [`listener`] hands the descriptor of notifications over. Who installs a filter is not known here.
//!
//! Where the specification is silent the verdicts are those of libseccomp as runc drives it, so that one profile means
//! the same under every runtime:
//!
//! * The machine's own architecture is always part of the filter. A call through one that the profile does not list
//!   kills the thread. Architectures of other machines are passed over.
//! * A name that this architecture lacks is passed over; so is a rule whose action is the default one.
//! * A rule without arguments decides its call whatever else is said of it; the first of several counts. Rules with
//!   arguments are asked in the order of [`order`], whatever theirs is in the profile; two that
//!   have the same conditions and different actions are refused.
//! * Conditions of one rule must all hold, except where two of them look at the same argument: then one is enough.
//! * 32-bit ABIs compare the lower half of an argument only.
//! * What is said of a socket or IPC call holds through `socketcall` and `ipc` of 32-bit x86 too, except for what is asked of
//!   the first argument, which is another one there.
//! * A call that is newer than every call the profile names answers `ENOSYS` when the default action would refuse it:
//!   the C library then falls back to an older call. A call that the profile does name is never taken for newer.
//!
//! `entry` reads the profile, `rules` turns it into ranges of numbers per architecture, `program` those into a tree of
//! comparisons. The tests compare every verdict with libseccomp's, and say where that one is wrong.

mod abi;
pub(crate) mod aside;
mod cache;
mod entry;
pub mod listener;
mod order;
mod program;
mod rules;
mod table;
#[cfg(test)]
mod tests;

pub use cache::Cache;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

/// `SECCOMP_FILTER_FLAG_*` (linux/seccomp.h).
pub mod flag {
    /// All threads of the process get the filter.
    pub const TSYNC: u32 = 1;
    /// What is refused is logged.
    pub const LOG: u32 = 1 << 1;
    /// Speculative store bypass stays allowed.
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// The call returns a descriptor for notifications.
    pub const NEW_LISTENER: u32 = 1 << 3;
    /// A thread that cannot be given the filter is an error like others (Linux 5.7); otherwise a listener cannot be had
    /// together with [`TSYNC`].
    pub const TSYNC_ESRCH: u32 = 1 << 4;
    /// Who waits for an answer that is being prepared can only be killed (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}

/// The names of the specification's filter flags that this kernel knows, for `features`.
#[must_use]
pub fn known_flags() -> Vec<&'static str> {
    let all = [
        ("SECCOMP_FILTER_FLAG_TSYNC", flag::TSYNC),
        ("SECCOMP_FILTER_FLAG_LOG", flag::LOG),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", flag::SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", flag::WAIT_KILLABLE_RECV),
    ];
    all.into_iter().filter(|(_, flag)| crate::sys::seccomp::knows(*flag)).map(|(name, _)| name).collect()
}

/// The machine that the filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86_64, with 32-bit x86 and x32 as far as the profile lists them.
    X86_64,
    /// aarch64, with 32-bit ARM as far as the profile lists it.
    Aarch64,
}

impl Arch {
    /// The machine that this program was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };
}

/// One BPF instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A compiled profile, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program; not empty, at most 4096 instructions.
    pub program: Vec<Instruction>,
    /// What to install it with: [`flag`].
    pub flags: u32,
}

impl Filter {
    /// Whether installing it makes a descriptor that somebody must be given.
    #[must_use]
    pub fn needs_listener(&self) -> bool {
        self.flags & flag::NEW_LISTENER != 0
    }
}

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel knows no such errno.
    #[error("linux.seccomp.{field}: {value} is above {most}")]
    Errno {
        /// Where.
        field: String,
        /// What was asked for.
        value: u32,
        /// What the action can carry.
        most: u32,
    },
    /// The specification demands an error here.
    #[error("linux.seccomp.{field} is given for {action}, which takes none")]
    ErrnoUnused {
        /// Where.
        field: String,
        /// The action beside it.
        action: LinuxSeccompAction,
    },
    /// System calls have six arguments.
    #[error("linux.seccomp.{field}: {index} is above 5")]
    ArgumentIndex {
        /// Where.
        field: String,
        /// What was asked for.
        index: usize,
    },
    /// No call has this name on any machine.
    #[error("linux.seccomp.{field} is empty")]
    EmptyName {
        /// Where.
        field: String,
    },
    /// Nobody would be left to take the notifications.
    #[error("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyDefault,
    /// The listener's descriptor could not be handed over.
    #[error("linux.seccomp.{field}: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite {
        /// Where.
        field: String,
    },
    /// Nobody is named who would answer.
    #[error("linux.seccomp.listenerPath is missing, and SCMP_ACT_NOTIFY needs it")]
    ListenerMissing,
    /// Nobody would read it.
    #[error("linux.seccomp.listenerMetadata is given without listenerPath")]
    MetadataAlone,
    /// It is not known which action is meant.
    #[error("linux.seccomp.syscalls: two rules on {name} have the same arguments and different actions")]
    Contradiction {
        /// The system call.
        name: String,
    },
    /// The kernel takes at most 4096 instructions.
    #[error("linux.seccomp: the profile needs {0} instructions, and the kernel takes at most 4096")]
    TooLong(usize),
}

/// Compiles `profile` for a machine of architecture `arch`.
pub fn compile(profile: &LinuxSeccomp, arch: Arch) -> Result<Filter, Error> {
    let sections = rules::plan(profile, arch)?;
    let flags = flags(profile, rules::notifies(&sections))?;
    Ok(Filter { program: program::assemble(&sections)?, flags })
}

/// The flags to install the filter with: those of the profile, `SPEC_ALLOW` where it has none (as runc
/// does), and a listener where a rule notifies. Without one there is no waiting that could be killable, and the kernel
/// would refuse the flag.
fn flags(profile: &LinuxSeccomp, listener: bool) -> Result<u32, Error> {
    let path = profile.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    if listener && !path {
        return Err(Error::ListenerMissing);
    }
    if !path && profile.listener_metadata().as_ref().is_some_and(|data| !data.is_empty()) {
        return Err(Error::MetadataAlone);
    }
    let listed = profile.flags().as_ref().map_or(flag::SPEC_ALLOW, |flags| {
        flags.iter().fold(0, |all, one| {
            all | match one {
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync if listener => flag::TSYNC | flag::TSYNC_ESRCH,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => flag::TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => flag::LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => flag::SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listener => {
                    flag::WAIT_KILLABLE_RECV
                }
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            }
        })
    });
    Ok(listed | if listener { flag::NEW_LISTENER } else { 0 })
}
