//! Where the kernel enters: one `_start` per architecture, and the arguments on the initial stack.
//!
//! The initial stack (System V ABI supplements for AMD64 and for AArch64): `argc`, then `argc`
//! pointers to strings that end in zero, then a null pointer.

use crate::{Purpose, run, sys};

/// Entry point: hands the initial stack pointer over and never comes back.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    // The stack is aligned to 16 bytes here; `call` leaves it as a function expects it.
    core::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "call {begin}", begin = sym begin)
}

/// Entry point: hands the initial stack pointer over and never comes back.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    // x29 and x30 are cleared so that a debugger's backtrace ends here.
    core::arch::naked_asm!("mov x29, xzr", "mov x30, xzr", "mov x0, sp", "b {begin}", begin = sym begin)
}

/// Blocks every signal, then looks at the last argument: `--root DIR`, which every binary takes, says nothing to
/// this one.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    sys::block_all_signals();
    // SAFETY: `_start` passes the initial stack pointer, which points at `argc` and is aligned.
    let count = unsafe { *stack };
    if count < 2 {
        run(Purpose::Hold)
    }
    // SAFETY: `argc` pointers follow the count, so the last one is `argc` words after it.
    let argument = unsafe { stack.add(count) };
    // SAFETY: this word is the last of `argv`, aligned like the others.
    let word = unsafe { *argument } as *const u8;
    // SAFETY: the kernel put a string that ends in zero behind every argument.
    match unsafe { is(word, b"--version\0") } {
        true => run(Purpose::TellVersion),
        false => run(Purpose::Hold),
    }
}

/// Compares the string at `word` with `wanted`, both ending in zero.
///
/// # Safety
/// `word` points at a string that ends in zero; so does `wanted`.
unsafe fn is(word: *const u8, wanted: &[u8]) -> bool {
    for (at, byte) in wanted.iter().enumerate() {
        // SAFETY: every earlier byte was equal and not zero, so this one is still in the string.
        let place = unsafe { word.add(at) };
        // SAFETY: as above. Volatile, so that the loop does not become a call of memcmp, which nobody
        // provides.
        if unsafe { place.read_volatile() } != *byte {
            return false;
        }
    }
    true
}
