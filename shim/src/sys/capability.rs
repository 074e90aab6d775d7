//! Capability sets; capabilities(7). Nothing here allocates.

use super::check;

/// The capability sets of one process, bit *n* for capability *n*.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    /// What `execve` may ever grant.
    pub(crate) bounding: u64,
    /// What checks look at.
    pub(crate) effective: u64,
    /// What may be raised into `effective`.
    pub(crate) permitted: u64,
    /// What survives `execve` of a file with matching inheritable bits.
    pub(crate) inheritable: u64,
    /// What survives any `execve`.
    pub(crate) ambient: u64,
}

const VERSION_3: u32 = 0x2008_0522;
/// Capabilities that fit into the kernel's 64 bits; a kernel knows fewer and answers EINVAL above.
const LIMIT: u32 = 64;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The permitted set of this process.
pub(crate) fn permitted() -> nix::Result<u64> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: the kernel reads one header and writes two halves, as version 3 says; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
    Ok(u64::from(halves[0].permitted) | u64::from(halves[1].permitted) << 32)
}

/// Sets the effective, permitted and inheritable sets.
pub(crate) fn set(sets: &Sets) -> nix::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Half {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: the kernel reads one header and two halves, as version 3 says; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) }).map(drop)
}

/// Drops from the bounding set whatever `keep` lacks.
pub(crate) fn limit_bounding(keep: u64) -> nix::Result<()> {
    for number in 0..LIMIT {
        if keep & (1 << number) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes an integer and touches no memory of ours.
        let dropped =
            check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0) });
        match dropped {
            Ok(_) => {}
            // Above the kernel's last capability: all are done.
            Err(nix::errno::Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Empties the ambient set, then raises what `wanted` has.
pub(crate) fn set_ambient(wanted: u64) -> nix::Result<()> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for number in (0..LIMIT).filter(|number| wanted & (1 << number) != 0) {
        ambient(libc::PR_CAP_AMBIENT_RAISE, number)?;
    }
    Ok(())
}

fn ambient(operation: i32, number: u32) -> nix::Result<()> {
    // SAFETY: PR_CAP_AMBIENT takes integers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAP_AMBIENT, operation, number, 0, 0) }).map(drop)
}

/// Whether the permitted set survives a change from uid 0 to another.
pub(crate) fn keep_over_user_change(keep: bool) -> nix::Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes an integer and touches no memory of ours.
    check(unsafe {
        libc::syscall(libc::SYS_prctl, libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0)
    })
    .map(drop)
}
