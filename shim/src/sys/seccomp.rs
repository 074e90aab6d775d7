//! Installing a seccomp filter; seccomp(2). Nothing here allocates.

use super::check;
use crate::container::seccomp::Instruction;

/// Installs `program` for this process and whatever it executes.
pub(crate) fn install(program: &[Instruction], flags: u32) -> nix::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| nix::errno::Errno::EINVAL)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` is laid out as sock_filter, `len` is the slice's length, and the kernel copies
    // the program before it returns; it never writes to it.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    })
    .map(drop)
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
