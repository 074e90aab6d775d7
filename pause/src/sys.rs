//! The five system calls, without a C library: rt_sigprocmask(2), rt_sigaction(2),
//! rt_sigtimedwait(2), write(2), exit_group(2).

use core::ptr::null;

/// System call numbers of this architecture.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const WRITE: usize = 1;
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
    pub(super) const EXIT_GROUP: usize = 231;
}

/// System call numbers of this architecture.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const WRITE: usize = 64;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const RT_SIGACTION: usize = 134;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
}

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const SIG_IGN: usize = 1;
const STDOUT: usize = 1;

/// The kernel's signal set: one bit per signal, signal 1 in bit 0.
type SignalSet = u64;
const SET_SIZE: usize = size_of::<SignalSet>();
const ALL: SignalSet = !0;
const ENDING: SignalSet = (1 << (SIGTERM - 1)) | (1 << (SIGINT - 1));

/// The kernel's `struct sigaction`. On x86_64 and aarch64 alike: handler, flags, restorer, mask.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: SignalSet,
}

/// Blocks every signal that can be blocked.
pub(crate) fn block_all_signals() {
    let set: *const SignalSet = &ALL;
    // SAFETY: the kernel reads SET_SIZE bytes of a live constant, and with a null third argument writes
    // nothing back. It cannot fail with these arguments.
    unsafe { call(number::RT_SIGPROCMASK, [SIG_SETMASK, set.expose_provenance(), 0, SET_SIZE]) };
}

/// Lets the kernel reap every child of ours, also those that we inherit.
pub(crate) fn ignore_children() {
    let action = Action { handler: SIG_IGN, flags: 0, restorer: 0, mask: 0 };
    let pointer: *const Action = &raw const action;
    // SAFETY: the kernel reads `action`, which lives until after the call, and writes nothing back.
    unsafe { call(number::RT_SIGACTION, [SIGCHLD, pointer.expose_provenance(), 0, SET_SIZE]) };
}

/// Sleeps until `SIGTERM` or `SIGINT` is pending; false when something else woke it (a debugger, `SIGCONT`).
pub(crate) fn wait_for_end() -> bool {
    let set: *const SignalSet = &ENDING;
    let (no_details, no_limit) = (null::<u8>().addr(), null::<u8>().addr());
    let arguments = [set.expose_provenance(), no_details, no_limit, SET_SIZE];
    // SAFETY: the kernel reads SET_SIZE bytes of a live constant; the null pointers ask for no details
    // and no time limit.
    unsafe { call(number::RT_SIGTIMEDWAIT, arguments) > 0 }
}

/// Writes to standard output; returns the count, or a negative errno.
pub(crate) fn write_stdout(bytes: &[u8]) -> isize {
    // SAFETY: the kernel reads `bytes.len()` bytes of a borrowed slice.
    unsafe { call(number::WRITE, [STDOUT, bytes.as_ptr().expose_provenance(), bytes.len(), 0]) }
}

/// Ends the process.
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: exit_group takes one integer and does not return; the loop only tells the compiler.
        unsafe { call(number::EXIT_GROUP, [status.cast_unsigned() as usize, 0, 0, 0]) };
    }
}

/// One system call with up to four arguments.
///
/// # Safety
/// As far as this call takes pointers, they are valid for what it reads and writes.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps every register except rax, rcx and r11, which are named here; what
    // memory it touches is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// One system call with up to four arguments.
///
/// # Safety
/// As far as this call takes pointers, they are valid for what it reads and writes.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps every register except x0, which is named here; what memory it touches
    // is the caller's promise.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    result
}
