//! A child that has its maker's memory, while its maker stands still: vfork(2) with new namespaces.
//!
//! ```text
//!  maker  spawn ... stands still ............................ goes on, and finds what the child wrote
//!                \                                          /
//!  child          runs a function, as if it had called it --- execve or _exit
//! ```
//!
//! One of both runs at any time, so this is a call of that function as far as memory goes: the child may read, write and
//! allocate. Nothing is copied, and no page of the child's is faulted in twice. Its descriptors, its root and working
//! directory, its limits, its signal dispositions and its credentials are its own; what belongs to the memory is not, so where the
//! child hides (`PR_SET_DUMPABLE`), the maker is hidden as well.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::pidfd;
use super::process::{self, Child, INTO_CGROUP};

/// What the child begins with.
struct Beginning<'a, T> {
    with: &'a T,
    child: fn(&T, i32) -> !,
    /// The kernel writes it before the child runs.
    pid: i32,
}

/// Makes a child in the new namespaces of `flags`, inside the v2 cgroup `cgroup` if given, that runs `child`, with its pid as
/// we see it, and waits until it executes a program or ends.
///
/// A value that owns a descriptor and that `child` has put into `with` must not be dropped afterwards: in this process the
/// number is free, or another's. Whoever can write to the child's memory writes to ours: it belongs where nobody can
/// see it.
///
/// # Errors
/// Those of clone(2).
pub(crate) fn spawn<T>(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    with: &T,
    child: fn(&T, i32) -> !,
) -> nix::Result<Child> {
    let mut beginning = Beginning { with, child, pid: 0 };
    let mut pidfd: i32 = -1;
    let flags = flags.bits() | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID;
    // SAFETY: an all-zero clone_args is what clone3 calls "no option".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD) as u32);
    args.pidfd = (&raw mut pidfd) as u64;
    args.parent_tid = (&raw mut beginning.pid) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let start = (&raw mut beginning).cast::<c_void>();
    let arguments = [(&raw mut args) as usize, size_of_val(&args), 0];
    // SAFETY: the arguments are clone3's, and without a stack of its own the child goes on below this frame. `begin` takes
    // what `start` points to, which outlives the call, and never returns.
    let made = unsafe { call(libc::SYS_clone3, arguments, begin::<T>, start) };
    match made {
        Ok(pid) => {
            // SAFETY: CLONE_PIDFD made this descriptor for us (close-on-exec), nobody else owns it.
            Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
        }
        // A container's seccomp filter is in force here: common ones refuse clone3, since they cannot see its flags.
        Err(Errno::ENOSYS | Errno::EPERM) if cgroup.is_none() => {
            let told = (&raw mut beginning.pid) as usize;
            let arguments = [(flags | libc::SIGCHLD) as u32 as usize, 0, told];
            // SAFETY: as above; the arguments are clone's: flags, no stack, where the pid is written.
            let pid = unsafe { call(libc::SYS_clone, arguments, begin::<T>, start) }?;
            // Nobody reaps but us, so the pid still means that process even if it ended.
            let pidfd = pidfd::open(pid).inspect_err(|_| {
                process::kill_sibling(pid);
                process::reap_pid(pid);
            });
            Ok(Child { pid, pidfd: pidfd? })
        }
        Err(errno) => Err(errno),
    }
}

/// The first frame of the child.
unsafe extern "C" fn begin<T>(beginning: *const c_void) -> ! {
    // SAFETY: `spawn` passes what it made, and stands still as long as this runs.
    let beginning = unsafe { &*beginning.cast::<Beginning<'_, T>>() };
    (beginning.child)(beginning.with, beginning.pid)
}

/// The system call `number`; a child that it makes calls `begin` with `start`. Comes back in the maker alone.
///
/// # Safety
/// The call is one that makes a child in this memory, on this stack, and has the maker wait for it; its arguments are valid;
/// `begin` may be called with `start`.
#[cfg(target_arch = "x86_64")]
unsafe fn call(
    number: libc::c_long,
    [one, two, three]: [usize; 3],
    begin: unsafe extern "C" fn(*const c_void) -> !,
    start: *mut c_void,
) -> nix::Result<i32> {
    let mut answer = number;
    // SAFETY: the maker comes to label 2 with nothing changed but what is named here, and with all memory taken for changed.
    // The child calls a function that never returns: what that pushes lies below the stack pointer, where the maker has nothing
    // (without `nostack` it has no red zone, and the stack is aligned for a call).
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, {start}",
            "call {begin}",
            "ud2",
            "2:",
            start = in(reg) start,
            begin = in(reg) begin,
            inout("rax") answer,
            in("rdi") one,
            in("rsi") two,
            in("rdx") three,
            in("r10") 0,
            in("r8") 0,
            out("rcx") _,
            out("r11") _,
        );
    }
    answered(answer)
}

/// The same.
#[cfg(target_arch = "aarch64")]
unsafe fn call(
    number: libc::c_long,
    [one, two, three]: [usize; 3],
    begin: unsafe extern "C" fn(*const c_void) -> !,
    start: *mut c_void,
) -> nix::Result<i32> {
    let mut answer = one as libc::c_long;
    // SAFETY: as on x86_64; the stack pointer is always aligned for a call here.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x0, {start}",
            "blr {begin}",
            "brk #1",
            "2:",
            start = in(reg) start,
            begin = in(reg) begin,
            inout("x0") answer,
            in("x1") two,
            in("x2") three,
            in("x3") 0,
            in("x4") 0,
            in("x8") number,
        );
    }
    answered(answer)
}

fn answered(answer: libc::c_long) -> nix::Result<i32> {
    if answer < 0 { Err(Errno::from_raw(-answer as i32)) } else { Ok(answer as i32) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::wire::Exit;

    struct Seen {
        pid: Cell<i32>,
        text: Cell<Option<String>>,
    }

    fn write(seen: &Seen, pid: i32) -> ! {
        seen.pid.set(pid);
        seen.text.set(Some(format!("from {pid}")));
        process::leave(7)
    }

    #[test]
    fn a_maker_finds_what_its_child_wrote() {
        let seen = Seen { pid: Cell::new(0), text: Cell::default() };
        for _ in 0..3 {
            let child = spawn(CloneFlags::empty(), None, &seen, write).unwrap();
            assert_eq!(seen.pid.get(), child.pid);
            assert_eq!(seen.text.take(), Some(format!("from {}", child.pid)));
            let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ended, PollTimeout::from(20_000_u16)), Ok(1));
            assert_eq!(process::reap_child(child.pidfd.as_fd()), Some(Exit::Code(7)));
        }
    }

    #[test]
    fn a_child_that_cannot_be_made_is_an_error() {
        let seen = Seen { pid: Cell::new(0), text: Cell::default() };
        let null = std::fs::File::open("/dev/null").unwrap();
        let made = spawn(CloneFlags::empty(), Some(null.as_fd()), &seen, write);
        assert_eq!(made.map(|child| child.pid), Err(Errno::EBADF));
        assert_eq!(seen.pid.get(), 0);
    }
}
