//! The heap of a program of one thread that ends soon, or does little for long.
//!
//! A command of `hull-oci` allocates some thousand small pieces within milliseconds, and the C library's allocator sorts and
//! merges what comes back for a future that there is not. `hull-shim` does the same for each container, and every page that it
//! writes to in between is copied at its next fork: it writes to half as many. Here a piece has the size of its class, comes from the list of
//! its class or from the end of a block, and goes back to that list. What is too large for that is the C library's, which
//! writes behind each piece that it gives, most often to a page that nobody has touched.
//!
//! **Invariant:** one thread uses it; a child that is cloned has a copy, or uses it while its maker stands still.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes of small classes differ by this much; pieces are aligned to it.
const STEP: usize = 16;
/// Number of small classes. The size of each after them is twice that of the one before.
const SMALL: usize = 64;
/// Number of all classes.
const CLASSES: usize = SMALL + 4;
/// Largest piece of a small class.
const LARGEST_SMALL: usize = STEP * SMALL;
/// Largest piece that has a class.
const LARGEST: usize = LARGEST_SMALL << (CLASSES - SMALL);
/// What is taken from the C library at a time; it asks the kernel for a mapping of its own for what is larger by a third.
const BLOCK: Layout = block(96 << 10);
/// The first time, which is enough for a command that makes no process.
const FIRST: Layout = block(16 << 10);
/// So much of another block is soon written to.
const SOON: usize = 56 << 10;

const fn block(size: usize) -> Layout {
    match Layout::from_size_align(size, STEP) {
        Ok(block) => block,
        Err(_) => panic!("a power of two, and far from the end of memory"),
    }
}

/// The allocator; one static of a program.
#[derive(Debug)]
pub struct Heap(UnsafeCell<Lists>);

#[derive(Debug)]
struct Lists {
    /// The first free piece of each class. A free piece begins with the address of the next.
    free: [*mut u8; CLASSES],
    /// Where the unused rest of the newest block begins.
    rest: *mut u8,
    left: usize,
}

// SAFETY: whoever makes one has a single thread.
unsafe impl Sync for Heap {}

impl Heap {
    /// Empty: nothing is taken before it is asked for.
    ///
    /// # Safety
    /// No more than one thread of the process ever uses it.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(UnsafeCell::new(Lists { free: [ptr::null_mut(); CLASSES], rest: ptr::null_mut(), left: 0 }))
    }
}

/// Number of its class; none for what is the C library's.
const fn class(size: usize, align: usize) -> Option<usize> {
    match size {
        _ if align > STEP || size > LARGEST => None,
        0..=LARGEST_SMALL => Some(size.saturating_sub(1) / STEP),
        _ => Some(SMALL + size.div_ceil(LARGEST_SMALL).next_power_of_two().trailing_zeros() as usize - 1),
    }
}

const fn length(class: usize) -> usize {
    if class < SMALL { (class + 1) * STEP } else { LARGEST_SMALL << (class - SMALL + 1) }
}

impl Lists {
    fn take(&mut self, class: usize) -> *mut u8 {
        let first = self.free[class];
        if first.is_null() {
            return self.cut(length(class));
        }
        // SAFETY: a free piece of ours, aligned to 16 bytes and at least that long, begins with the next one's address.
        self.free[class] = unsafe { first.cast::<*mut u8>().read() };
        first
    }

    fn cut(&mut self, length: usize) -> *mut u8 {
        if self.left < length {
            let is_first = self.rest.is_null();
            const { assert!(LARGEST <= FIRST.size()) };
            let layout = if is_first { FIRST } else { BLOCK };
            // SAFETY: its size is not zero.
            let block = unsafe { System.alloc(layout) };
            if block.is_null() {
                return block;
            }
            if !is_first {
                super::ahead::populate(block, SOON);
            }
            (self.rest, self.left) = (block, layout.size());
        }
        let piece = self.rest;
        // SAFETY: `left` bytes follow in this block.
        self.rest = unsafe { piece.add(length) };
        self.left -= length;
        piece
    }

    /// Makes the newest piece longer where it lies, unless there is one of that class: the class that it leaves would run out
    /// each time, and that one fill up.
    fn stretch(&mut self, piece: *mut u8, from: usize, to: usize) -> bool {
        if !self.free[to].is_null() {
            return false;
        }
        let more = length(to) - length(from);
        // SAFETY: a piece of this class is that long.
        if unsafe { piece.add(length(from)) } != self.rest || self.left < more {
            return false;
        }
        // SAFETY: `left` bytes follow in this block.
        self.rest = unsafe { self.rest.add(more) };
        self.left -= more;
        true
    }
}

// SAFETY: a piece is of its class's length, which is no less than what was asked for, aligned to 16 bytes, and in one hand at a
// time: it is cut from a block once, and is in a list only while it is free. What has no class is the C library's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout.size(), layout.align()) {
            // SAFETY: one thread, and no reference to the lists outlives a call.
            Some(class) => unsafe { &mut *self.0.get() }.take(class),
            // SAFETY: as the caller promised.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match class(layout.size(), layout.align()) {
            Some(class) => {
                // SAFETY: as in `alloc`.
                let lists = unsafe { &mut *self.0.get() };
                // SAFETY: the piece came from `take` with this class, and nobody uses it any more.
                unsafe { piece.cast::<*mut u8>().write(lists.free[class]) };
                lists.free[class] = piece;
            }
            // SAFETY: as the caller promised.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (from, to) = (class(layout.size(), layout.align()), class(size, layout.align()));
        match (from, to) {
            // SAFETY: as the caller promised.
            (None, None) => return unsafe { System.realloc(piece, layout, size) },
            (Some(from), Some(to)) if to == from => return piece,
            (Some(from), Some(to)) if to > from => {
                // SAFETY: as in `alloc`.
                if unsafe { &mut *self.0.get() }.stretch(piece, from, to) {
                    return piece;
                }
            }
            // A piece stays in its class, or those of the larger ones would run out.
            (Some(_), _) | (None, Some(_)) => {}
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        // SAFETY: the caller promised a size that is not zero.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both are at least that long, and the new one is nobody else's.
            unsafe { ptr::copy_nonoverlapping(piece, new, layout.size().min(size)) };
            // SAFETY: as the caller promised.
            unsafe { self.dealloc(piece, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece that a test holds, filled with one byte.
    struct Piece {
        at: *mut u8,
        layout: Layout,
        fill: u8,
    }

    impl Piece {
        fn new(heap: &Heap, size: usize, align: usize, fill: u8) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the size is not zero.
            let at = unsafe { heap.alloc(layout) };
            assert!(!at.is_null() && at.addr().is_multiple_of(align), "{size} {align} {at:?}");
            // SAFETY: it is that long, and ours.
            unsafe { at.write_bytes(fill, size) };
            Self { at, layout, fill }
        }

        fn holds(&self, length: usize) -> bool {
            // SAFETY: it is at least that long, and was written to.
            let bytes = unsafe { std::slice::from_raw_parts(self.at, length) };
            bytes.iter().all(|byte| *byte == self.fill)
        }

        fn resize(&mut self, heap: &Heap, size: usize) {
            let kept = self.layout.size().min(size);
            // SAFETY: it is of this heap with this layout, and the size is not zero.
            self.at = unsafe { heap.realloc(self.at, self.layout, size) };
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            assert!(self.holds(kept), "{kept} of {size}");
            // SAFETY: it is that long, and ours.
            unsafe { self.at.write_bytes(self.fill, size) };
        }

        fn free(self, heap: &Heap) {
            assert!(self.holds(self.layout.size()));
            // SAFETY: it is of this heap with this layout.
            unsafe { heap.dealloc(self.at, self.layout) };
        }
    }

    #[test]
    fn pieces_keep_what_is_in_them() {
        // SAFETY: it is this test's thread's.
        let heap = unsafe { Heap::new() };
        let mut held: Vec<Piece> = Vec::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % below
        };
        for turn in 0..20_000 {
            // Mostly small, around the border of the classes, and beyond it.
            let size = 1 + [random(48), random(400), 1000 + random(50), random(9000), 16_300 + random(200)]
                [random(5)];
            match random(3) {
                0 => held.push(Piece::new(&heap, size, 1 << random(7), turn as u8)),
                1 if !held.is_empty() => {
                    let at = random(held.len());
                    held[at].resize(&heap, size);
                }
                _ if !held.is_empty() => held.swap_remove(random(held.len())).free(&heap),
                _ => {}
            }
        }
        held.into_iter().for_each(|piece| piece.free(&heap));
    }

    #[test]
    fn what_comes_back_is_given_again() {
        // SAFETY: it is this test's thread's.
        let heap = unsafe { Heap::new() };
        for size in [1, 16, 17, 1000, LARGEST_SMALL, LARGEST_SMALL + 1, 5000, LARGEST] {
            assert!(
                length(class(size, 8).unwrap()) >= size
                    && length(class(size, 8).unwrap()) < size + size.max(STEP)
            );
            let first = Piece::new(&heap, size, 8, 1);
            let at = first.at;
            first.free(&heap);
            for _ in 0..10 * BLOCK.size() / size.next_multiple_of(STEP) {
                let again = Piece::new(&heap, size, 8, 2);
                assert_eq!(again.at, at);
                again.free(&heap);
            }
        }
    }

    #[test]
    fn what_grows_each_time_needs_no_more_memory() {
        // SAFETY: it is this test's thread's.
        let heap = unsafe { Heap::new() };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut piece = Piece::new(&heap, 8, 8, 3);
            for size in [40, 200, 900, 3000] {
                piece.resize(&heap, size);
                seen.insert(piece.at);
            }
            piece.free(&heap);
        }
        assert!(seen.len() <= 8, "{}", seen.len());
    }

    #[test]
    fn the_newest_piece_grows_where_it_is() {
        // SAFETY: it is this test's thread's.
        let heap = unsafe { Heap::new() };
        let mut piece = Piece::new(&heap, 8, 1, 7);
        let at = piece.at;
        for size in [9, 16, 17, 400, LARGEST_SMALL, 5000, LARGEST] {
            piece.resize(&heap, size);
            assert_eq!(piece.at, at, "{size}");
        }
        piece.resize(&heap, LARGEST + 1);
        assert_ne!(piece.at, at);
        piece.free(&heap);
    }
}
