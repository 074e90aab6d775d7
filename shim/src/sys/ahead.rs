//! Pages that are about to be written to, asked for together: madvise(2) with `MADV_POPULATE_WRITE`, Linux 5.14.
//!
//! On a processor forty pages cost the same as forty faults; in a machine where each fault is an emulator's, a tenth of it.
//! Nothing here must succeed: who has not got a page faults it in.

use std::ffi::c_void;

use nix::errno::Errno;

const PAGE: usize = 4096;

/// Has `length` bytes from `start` in memory, which are a mapping of this process.
pub(crate) fn populate(start: *mut u8, length: usize) {
    let first = start.addr().next_multiple_of(PAGE);
    let end = (start.addr() + length) / PAGE * PAGE;
    let Some(length) = end.checked_sub(first) else { return };
    // SAFETY: the contents of a page stay as they are; of what is not mapped the kernel says ENOMEM.
    let told = unsafe { libc::madvise(first as *mut c_void, length, libc::MADV_POPULATE_WRITE) };
    crate::harmless(Errno::result(told).map(drop));
}

/// Has the next `length` bytes of the stack in memory, which functions that are called from here will use.
pub(crate) fn stack(length: usize) {
    let here = 0_u8;
    let lowest = (&raw const here).addr() - length;
    // A page of it that is touched makes the kernel extend the stack to there.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: like a push, this writes below the stack pointer, where nothing is kept. Where the stack may not become so
    // long the process would end as by a deep call; its limit is 8 MiB, and no less than what its program needs anyway.
    unsafe {
        std::arch::asm!("mov byte ptr [{lowest}], 0", lowest = in(reg) lowest);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the same.
    unsafe {
        std::arch::asm!("strb wzr, [{lowest}]", lowest = in(reg) lowest);
    }
    populate(lowest as *mut u8, length);
}
