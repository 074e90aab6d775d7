//! `hull-oci`: the OCI runtime on hull's engine, for callers of runc.
//!
//! It begins without Rust's own start, which reads the process's mappings for the message that it has for a stack
//! overflow: most of what a short command would do before its own code.

#![no_main]

#[global_allocator]
// SAFETY: this program starts no thread.
static HEAP: hull_shim::Heap = unsafe { hull_shim::Heap::new() };

/// What the C library calls; the command line is where Rust finds it.
// SAFETY: no other function of the program has this name, and the C library passes to it what it does not take.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    hull_shim::oci::main()
}
