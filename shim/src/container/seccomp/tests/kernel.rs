//! The same filters in the kernel.

use oci_spec::runtime::{Arch as Listed, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};

use super::super::{Arch, Filter, compile};
use super::profiles::{argument, profile, rule};

/// Installs `filter` in a forked child and returns what `probe` makes of it there: the child's exit status.
fn in_child(filter: &Filter, probe: fn() -> i32) -> i32 {
    let program = &filter.program;
    let head = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the child makes system calls only, on memory that was there before, and ends in _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: prctl with PR_SET_NO_NEW_PRIVS takes integers only.
        let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: `head` points at the program, which lives on; Instruction is laid out as sock_filter.
        let second =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const head) };
        let status = if first == 0 && second == 0 { probe() } else { 99 };
        // SAFETY: _exit takes an integer and does not come back.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    // SAFETY: waitpid writes to `status`, which is ours.
    let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(reaped, child);
    libc::WEXITSTATUS(status)
}

/// Three calls in the child: 0 when each was answered as the filter says.
fn probe() -> i32 {
    let errno_of = |number: libc::c_long, second: u64| {
        // SAFETY: the calls below take integers only.
        let result = unsafe { libc::syscall(number, 0xffff_ffff_u64, second) };
        if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
    };
    let verdicts = [
        errno_of(libc::SYS_getppid, 0),
        errno_of(libc::SYS_personality, 1 << 40),
        errno_of(libc::SYS_personality, 1),
    ];
    i32::from(verdicts != [77, 78, 0])
}

#[test]
fn the_kernel_takes_the_program_and_obeys_it() {
    let rules = vec![
        rule(&["getppid"], Action::ScmpActErrno, Some(77), vec![]),
        rule(
            &["personality"],
            Action::ScmpActErrno,
            Some(78),
            vec![
                argument(0, Operator::ScmpCmpGt, 0xffff_fffe, None),
                argument(1, Operator::ScmpCmpEq, 1 << 40, None),
            ],
        ),
    ];
    let filter =
        compile(&profile(Action::ScmpActAllow, &[Listed::ScmpArchX86], rules), Arch::NATIVE).unwrap();
    assert_eq!(in_child(&filter, probe), 0);
}
