//! Exchanges the file that this process runs from, without `execve`.
//!
//! The same program lies on another mount too, one that nobody can write through. Everything that is mapped of the old
//! file is mapped from the new one, in the same place, with a copy of the pages that were written to; then the kernel is told,
//! which refuses while anything of the old file is still mapped. That spares a second start of the program.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use super::{ahead, check};
use crate::procfs;

unsafe extern "C" {
    /// The head of the program's file in memory; the linker defines it.
    static __ehdr_start: libc::Elf64_Ehdr;
}

/// A part of the program that is mapped from its file, in whole pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: usize,
    length: usize,
    /// Of `start`, in the file.
    offset: i64,
    protection: i32,
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Addresses {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Runs on from `file`, which is our own program on another mount, open for reading; prctl(2) with `PR_SET_MM`.
/// The caller is the only thread. After a failure the process is as good as before, and its file may be the old one; but where
/// the kernel has no memory left in the middle of an exchange, it ends.
///
/// # Errors
/// EPERM without `CAP_SYS_RESOURCE` in the host's user namespace and `CAP_CHECKPOINT_RESTORE` in the own one; EBUSY when the old file is mapped elsewhere too.
pub(crate) fn run_from(file: BorrowedFd<'_>) -> nix::Result<()> {
    let headers = headers();
    let loaded = || headers.iter().rev().filter(|header| header.p_type == libc::PT_LOAD).map(segment);
    let pages = Pages::look(loaded().filter(Segment::is_writable))?;
    // Text late: until then the code of this loop runs from pages that are mapped already.
    for segment in loaded() {
        exchange(segment, file, &pages.written(segment))?;
        if let Some((start, length)) = relro(headers).filter(|(start, _)| segment.holds(*start)) {
            // The C library did this after it relocated itself.
            protect(start, length, libc::PROT_READ)?;
        }
    }
    match set(libc::PR_SET_MM_EXE_FILE, file.as_raw_fd() as usize, 0) {
        // Without that right all addresses are told together, as they are.
        Err(Errno::EPERM) => {
            let text = procfs::record("/proc/self/stat").map_err(|_| Errno::ENOENT)?;
            let addresses = Addresses {
                brk: program_break()?,
                exe_fd: file.as_raw_fd() as u32,
                ..parse(&text).ok_or(Errno::EINVAL)?
            };
            set(libc::PR_SET_MM_MAP, (&raw const addresses).addr(), size_of_val(&addresses))
        }
        told => told,
    }
}

/// What is added to the addresses of the program headers: a position-independent program is linked from address zero on.
fn base() -> usize {
    if head().e_type == libc::ET_DYN { (&raw const __ehdr_start).addr() } else { 0 }
}

fn head() -> &'static libc::Elf64_Ehdr {
    // SAFETY: the linker puts the head of the file there, which is mapped for reading for as long as we run.
    unsafe { &__ehdr_start }
}

fn page() -> usize {
    // SAFETY: getauxval takes an integer, and the kernel gives every process its page size.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

fn headers() -> &'static [libc::Elf64_Phdr] {
    let first = ((&raw const __ehdr_start).addr() + head().e_phoff as usize) as *const libc::Elf64_Phdr;
    // SAFETY: the head says where the program headers are, and how many; they are in the same mapping, and never change.
    unsafe { std::slice::from_raw_parts(first, usize::from(head().e_phnum)) }
}

impl Segment {
    fn holds(&self, address: usize) -> bool {
        (self.start..self.start + self.length).contains(&address)
    }

    fn is_writable(&self) -> bool {
        self.protection & libc::PROT_WRITE != 0
    }
}

/// What is written to at the start only, in whole pages; the last may hold other data as well, and is left out then.
fn relro(headers: &[libc::Elf64_Phdr]) -> Option<(usize, usize)> {
    let header = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO)?;
    let begin = base() + header.p_vaddr as usize;
    let (start, end) = (begin / page() * page(), (begin + header.p_memsz as usize) / page() * page());
    Some((start, end.saturating_sub(start)))
}

fn segment(header: &libc::Elf64_Phdr) -> Segment {
    let begin = base() + header.p_vaddr as usize;
    let start = begin / page() * page();
    let end = (begin + header.p_filesz as usize).next_multiple_of(page());
    let flag = |bit: u32, protection: i32| if header.p_flags & bit == 0 { 0 } else { protection };
    let protection = flag(libc::PF_R, libc::PROT_READ)
        | flag(libc::PF_W, libc::PROT_WRITE)
        | flag(libc::PF_X, libc::PROT_EXEC);
    Segment {
        start,
        length: end - start,
        offset: header.p_offset as i64 - (begin - start) as i64,
        protection,
    }
}

/// What the kernel tells of pages that follow one another; proc_pid_pagemap(5), Linux 3.5.
struct Pages {
    /// The number of the first.
    first: usize,
    entries: Vec<u8>,
}

impl Pages {
    /// Looks at all of these segments, which lie side by side.
    fn look(segments: impl Iterator<Item = Segment>) -> nix::Result<Self> {
        let bounds = segments.map(|segment| (segment.start, segment.start + segment.length));
        let joined = bounds.reduce(|(start, end), (one, other)| (start.min(one), end.max(other)));
        let (start, end) = joined.unwrap_or_default();
        let first = start / page();
        let mut entries = vec![0; (end - start) / page() * size_of::<u64>()];
        let pagemap = File::open("/proc/self/pagemap").map_err(|_| Errno::ENOENT)?;
        pagemap.read_exact_at(&mut entries, (first * size_of::<u64>()) as u64).map_err(|_| Errno::EIO)?;
        Ok(Self { first, entries })
    }

    /// The numbers of a segment's pages that are copies of the process's own.
    fn written(&self, segment: Segment) -> Vec<usize> {
        /// The page is one of a file, or of memory that is shared.
        const OF_FILE: u64 = 1 << 61;
        /// It is in memory, or swapped out.
        const THERE: u64 = 3 << 62;
        if !segment.is_writable() {
            return Vec::new();
        }
        let (entries, _) = self.entries.as_chunks();
        let entries = entries.get(segment.start / page() - self.first..).unwrap_or_default();
        let is_written = |entry: u64| entry & THERE != 0 && entry & OF_FILE == 0;
        let all = entries.iter().take(segment.length / page()).enumerate();
        all.filter(|(_, entry)| is_written(u64::from_ne_bytes(**entry))).map(|(at, _)| at).collect()
    }
}

/// Maps a segment from `file`, with copies of the pages that were written to, and puts it in the place of the old one.
fn exchange(segment: Segment, file: BorrowedFd<'_>, written: &[usize]) -> nix::Result<()> {
    let Segment { start, length, offset, protection } = segment;
    let number = file.as_raw_fd();
    if written.is_empty() {
        let (there, how) = (start as *mut libc::c_void, libc::MAP_PRIVATE | libc::MAP_FIXED);
        // SAFETY: as of the move below: the same bytes take the place of those that are there.
        let new = unsafe { libc::mmap(there, length, protection, how, number, offset) };
        return if new == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) };
    }
    // SAFETY: asks for a mapping anywhere.
    let new =
        unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_PRIVATE, number, offset) };
    if new == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    for run in written.chunk_by(|one, next| *next == *one + 1).filter(|run| run.len() > 1) {
        let first = new.addr() + run.first().map_or(0, |at| at * page());
        ahead::populate(first as *mut u8, run.len() * page());
    }
    for at in written {
        let (from, to) = (start + at * page(), new.addr() + at * page());
        // SAFETY: both are a page of a mapping of `length` bytes, the old one for reading at least, the new one, since only
        // what can be written to was, for writing too; they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, page()) };
    }
    let move_there = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the same bytes of the same program take the place of those that are there, in one step: no reference into them
    // and no instruction of ours notices. Between the copy and this call nothing is written to them: we are the only thread, and
    // neither allocate nor touch a static. The kernel unmaps what is there before it moves the new mapping, so that a call that
    // fails in between leaves neither, and this process ends at its next instruction or access: no unsound step follows. What
    // can fail before that, and leaves the old ones, is the lack of room for the bookkeeping of mappings.
    let moved = unsafe { libc::mremap(new, length, length, move_there, start as *mut libc::c_void) };
    if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

fn protect(start: usize, length: usize, protection: i32) -> nix::Result<()> {
    // SAFETY: nothing is written to this range, whose protection the C library had taken away before.
    check(unsafe { libc::mprotect(start as *mut libc::c_void, length, protection) }.into()).map(drop)
}

fn program_break() -> nix::Result<u64> {
    // SAFETY: brk(0) changes nothing and returns the break.
    check(unsafe { libc::syscall(libc::SYS_brk, 0_usize) }).map(|address| address as u64)
}

// Who watches what a program runs (`make order`) cannot see this one, which would lie by itself.
#[inline(always)]
fn set(option: i32, value: usize, size: usize) -> nix::Result<()> {
    // SAFETY: reads `size` bytes at `value`, of a structure that outlives the call, or takes `value` for a descriptor.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_MM, option, value, size, 0_usize) }).map(drop)
}

/// The addresses that the kernel knows, from `/proc/self/stat`; proc_pid_stat(5). They stay as they are.
fn parse(stat: &str) -> Option<Addresses> {
    // The name may hold blanks and parentheses: fields are counted from its end, the first of them being the third.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Addresses {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        ..Addresses::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_those_of_the_manual() {
        let mut line = String::from("7 (a) b) R");
        for field in 4..=52 {
            line.push_str(&format!(" {field}"));
        }
        let expected = Addresses {
            start_code: 26,
            end_code: 27,
            start_stack: 28,
            start_data: 45,
            end_data: 46,
            start_brk: 47,
            arg_start: 48,
            arg_end: 49,
            env_start: 50,
            env_end: 51,
            ..Addresses::default()
        };
        assert_eq!(parse(&line), Some(expected));
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn the_program_is_where_its_headers_say() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for header in headers().iter().filter(|header| header.p_type == libc::PT_LOAD) {
            let Segment { start, length, .. } = segment(header);
            assert_ne!(length, 0);
            assert!(maps.lines().any(|line| line.starts_with(&format!("{start:x}-"))), "{start:x} in {maps}");
        }
        let (start, _) = relro(headers()).unwrap();
        let loaded = headers().iter().filter(|header| header.p_type == libc::PT_LOAD).map(segment);
        assert_eq!(loaded.filter(|segment| segment.holds(start)).count(), 1);
    }
}
