//! Loading and attaching the device program of a cgroup v2 group; bpf(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;
use crate::cgroup::devices::program::Instruction;

const LOAD: libc::c_long = 5;
const ATTACH: libc::c_long = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACHMENT: u32 = 6;
/// Programs of groups below may be added, and all have to agree.
const ALLOW_MULTI: u32 = 2;
/// In the place of one that is bound; since Linux 5.6.
const REPLACE: u32 = 4;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is missing for zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Has the kernel verify a program.
pub(crate) fn load_device_program(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(program.len()).map_err(|_| nix::Error::EINVAL)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the kernel reads one `Load` of the size given, `count` instructions laid out as bpf_insn, and a
    // license that ends in a null byte; all outlive the call, and it keeps none of the pointers.
    let number = check(unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: the kernel made this descriptor for us just now (close-on-exec), nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Binds a program to the group whose directory this is, for as long as the group lives.
pub(crate) fn attach_device_program(program: &OwnedFd, group: BorrowedFd<'_>) -> nix::Result<()> {
    match attach(program, group, ALLOW_MULTI) {
        // Also said of a program that is bound to this group already: that one takes its own place, and no other's.
        Err(nix::Error::EINVAL) => {
            attach(program, group, ALLOW_MULTI | REPLACE).map_err(|_| nix::Error::EINVAL)
        }
        attached => attached,
    }
}

fn attach(program: &OwnedFd, group: BorrowedFd<'_>, flags: u32) -> nix::Result<()> {
    let attach = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE_ATTACHMENT,
        flags,
        replaced: if flags & REPLACE == 0 { 0 } else { program.as_raw_fd() as u32 },
    };
    // SAFETY: the kernel reads one `Attach` of the size given, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, ATTACH, &raw const attach, size_of::<Attach>()) }).map(drop)
}
