//! The allocator of the unit tests: a child that was cloned from one of their threads must neither allocate nor give back. A thread
//! that the child lacks may have held a lock of the C library's at that moment, and the child would wait for it for ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process is such a child; its parent has another copy.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// From here on whoever allocates in this process ends it.
pub(crate) fn forbid() {
    IS_CHILD.store(true, Ordering::Relaxed);
}

#[derive(Debug)]
struct Strict;

#[global_allocator]
static STRICT: Strict = Strict;

fn check() {
    if IS_CHILD.load(Ordering::Relaxed) {
        super::process::report(2, b"a child allocates\n");
        std::process::abort();
    }
}

// SAFETY: the system's allocator does it all, or nobody goes on.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as our own caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        check();
        // SAFETY: as our own caller promises.
        unsafe { System.dealloc(piece, layout) };
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: as our own caller promises.
        unsafe { System.realloc(piece, layout, size) }
    }
}
