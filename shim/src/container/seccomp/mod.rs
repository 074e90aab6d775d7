//! Compiles a seccomp profile of runtime-spec (`config-linux.md`, Seccomp) to a BPF filter; seccomp(2).
//!
//! Pure: a profile goes in, instructions come out, and who installs them is not known here. Where the
//! specification is silent the verdicts are those of libseccomp as runc drives it, so that one profile means the same
//! under every runtime:
//!
//! * The machine's own architecture is always part of the filter. A call through one that the profile does not list
//!   kills the thread.
//! * A name that this architecture lacks is passed over; so is a rule whose action is the default one.
//! * A rule without arguments decides its call whatever else is said of it; the first of several counts. Among
//!   rules with arguments the first that matches counts.
//! * Conditions of one rule must all hold, except where two of them look at the same argument: then one is enough.
//! * 32-bit ABIs compare the lower half of an argument only.
//! * A call that is newer than every call the profile names answers `ENOSYS` when the default action would refuse it:
//!   the C library then falls back to an older call.
//!
//! `rules` turns the profile into ranges of numbers per architecture, `program` those into a tree of comparisons.

mod abi;
mod program;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

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
pub struct Filter(pub Vec<Instruction>);

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel knows no such errno.
    #[error("seccomp: errnoRet {0} is above 4095")]
    Errno(u32),
    /// The specification demands an error here.
    #[error("seccomp: errnoRet is given for {0}, which takes none")]
    ErrnoUnused(LinuxSeccompAction),
    /// System calls have six arguments.
    #[error("seccomp: {name}: argument index {index} is above 5")]
    ArgumentIndex {
        /// The system call.
        name: String,
        /// What was asked for.
        index: usize,
    },
    /// Nobody would be left to take the notifications.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be the default action")]
    NotifyDefault,
    /// The listener's descriptor could not be handed over.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for the write system call")]
    NotifyWrite,
    /// The kernel takes at most 4096 instructions.
    #[error("seccomp: the profile needs {0} instructions, and the kernel takes at most 4096")]
    TooLong(usize),
}

/// Compiles `profile` for a machine of architecture `arch`.
pub fn compile(profile: &LinuxSeccomp, arch: Arch) -> Result<Filter, Error> {
    program::assemble(&rules::plan(profile, arch)?)
}

/// The flags to install the filter with: those of the profile, `SPEC_ALLOW` where it has none (as runc
/// does), and a listener where a rule notifies. `TSYNC` means nothing to a process of one thread and
/// cannot be had together with a listener, so it is left out.
#[must_use]
pub fn load_flags(profile: &LinuxSeccomp) -> u32 {
    const SPEC_ALLOW: u32 = 1 << 2;
    const NEW_LISTENER: u32 = 1 << 3;
    let listed = profile.flags().as_ref().map_or(SPEC_ALLOW, |flags| {
        flags.iter().fold(0, |all, flag| {
            all | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
            }
        })
    });
    let notifies =
        |rule: &oci_spec::runtime::LinuxSyscall| rule.action() == LinuxSeccompAction::ScmpActNotify;
    let listener = profile.syscalls().iter().flatten().any(notifies);
    listed | if listener { NEW_LISTENER } else { 0 }
}
