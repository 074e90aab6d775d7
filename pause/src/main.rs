//! `hull-pause`: the process that a pod's namespaces belong to, in about half a kilobyte.
//!
//! It does nothing but be there. As PID 1 of a shared PID namespace it also inherits every orphan of
//! the pod: `SIGCHLD` is ignored, so the kernel reaps them (sigaction(2), `SA_NOCLDWAIT`) and nobody wakes.
//!
//! **Invariant:** every signal is blocked before anything else happens, and stays so. `SIGTERM` and
//! `SIGINT` are the only ones that are waited for, and end it with status 0. The kernel drops a signal
//! sent to a PID 1 that does not block it yet, so whoever executes this should block `SIGTERM` before,
//! and fall back to `SIGKILL`.
//!
//! **Invariant:** no dependency, no allocation, no panic. `unsafe` is in `start.rs` and `sys.rs` alone.
//!
//! ```text
//!   _start -> block all signals -> --version? -> print, exit 0
//!                                      |
//!                                      v
//!                    ignore SIGCHLD -> wait for TERM or INT -> exit 0
//! ```
#![no_std]
#![no_main]

mod start;
mod sys;

/// What `--version` prints.
const VERSION: &[u8] = concat!("hull-pause ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

/// Why it was started.
enum Purpose {
    /// To hold namespaces.
    Hold,
    /// To say which version it is.
    TellVersion,
}

/// Does the work; `_start` comes here with every signal blocked.
fn run(purpose: Purpose) -> ! {
    match purpose {
        Purpose::Hold => {
            sys::ignore_children();
            while !sys::wait_for_end() {}
            sys::exit(0)
        }
        Purpose::TellVersion => {
            let written = sys::write_stdout(VERSION);
            sys::exit(i32::from(written != VERSION.len().cast_signed()))
        }
    }
}

/// The real program aborts on a panic; nothing in it can.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(127)
}

// Profiles that unwind (`cargo check`, clippy) need a panic handler and a personality: std lends them.
#[cfg(not(panic = "abort"))]
extern crate std;
