//! The same filters in the kernel: what calls come to in a child under each, and a listener's round trip.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe, write};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};

use super::super::{Arch, Filter, compile, known_flags, listener};
use super::libseccomp::Reference;
use super::profiles::{LISTED, argument, containers, profile, rule};
use super::{reference_or_skip, skip};
use crate::sys::{pidfd, seccomp};

/// A call and its first three arguments; none of them changes anything outside the process.
type Call = (libc::c_long, [u64; 3]);

const CALLS: [Call; 22] = [
    (libc::SYS_getppid, [0; 3]),
    (libc::SYS_personality, [0xffff_ffff, 0, 0]),
    (libc::SYS_personality, [0xffff_ffff, 1 << 40, 0]),
    (libc::SYS_personality, [0x1_ffff_ffff, 0, 0]),
    (libc::SYS_personality, [0x40_0000, 0, 0]),
    (libc::SYS_socket, [1, 1, 0]),
    (libc::SYS_socket, [16, 3, 9]),
    (libc::SYS_socket, [16, 3, 0]),
    (libc::SYS_socket, [38, 5, 0]),
    (libc::SYS_bpf, [99, 0, 0]),
    (libc::SYS_keyctl, [999, 0, 0]),
    (libc::SYS_unshare, [0; 3]),
    (libc::SYS_io_uring_setup, [0; 3]),
    (libc::SYS_mount, [0; 3]),
    (libc::SYS_acct, [1, 0, 0]),
    (libc::SYS_chroot, [0; 3]),
    (libc::SYS_userfaultfd, [1 << 31, 0, 0]),
    (libc::SYS_perf_event_open, [0; 3]),
    (libc::SYS_ptrace, [999, 0, 0]),
    (libc::SYS_getpriority, [7, 0, 0]),
    (4000, [0; 3]),
    (0x4000_0027, [0; 3]),
];

/// Where a child notes results for its parent: memory of both.
pub(super) struct Shared(*mut i32);

impl Shared {
    pub(super) fn new() -> Self {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping of a page is asked for, at an address that the kernel chooses.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        Self(page.cast())
    }

    pub(super) fn set(&self, at: usize, value: i32) {
        assert!(at < 1024);
        // SAFETY: the page holds 1024 numbers and `at` is one of them.
        let place = unsafe { self.0.add(at) };
        // SAFETY: the place is inside the page, aligned, and read by the parent only after this process ended.
        unsafe { place.write_volatile(value) }
    }

    pub(super) fn numbers(&self, count: usize) -> Vec<i32> {
        assert!(count <= 1024);
        // SAFETY: the page holds 1024 numbers, all initialised by the kernel, and its writer ended.
        unsafe { std::slice::from_raw_parts(self.0, count) }.to_vec()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `new`, and nothing refers to it any more.
        assert_eq!(unsafe { libc::munmap(self.0.cast(), 4096) }, 0);
    }
}

/// Runs `child` in a forked process, which ends with what it returns. It must not allocate.
pub(super) fn forked(child: impl FnOnce() -> i32) -> Pid {
    // SAFETY: `child` makes system calls only, on memory that was there before, and ends in _exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: prctl with PR_SET_NO_NEW_PRIVS takes integers only.
            let ready = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            let status = if ready == 0 { child() } else { 99 };
            // SAFETY: _exit takes an integer and does not come back.
            unsafe { libc::_exit(status) }
        }
    }
}

/// The errno of a call, or 0; what it made is given up with the process.
fn errno_of((number, [one, two, three]): Call) -> i32 {
    // SAFETY: CALLS has calls whose pointers are null or refused before they are looked at, and that leave
    // nothing behind but descriptors of a process that ends.
    let result = unsafe { libc::syscall(number, one, two, three, 0, 0, 0) };
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

/// What each of [`CALLS`] comes to under `filter`, 9999 where the process was gone by then, and how it ended.
fn outcomes(filter: &Filter) -> (Vec<i32>, WaitStatus) {
    let shared = Shared::new();
    (0..CALLS.len()).for_each(|at| shared.set(at, 9999));
    let child = forked(|| {
        if seccomp::install(filter).is_err() {
            return 98;
        }
        CALLS.into_iter().enumerate().for_each(|(at, call)| shared.set(at, errno_of(call)));
        0
    });
    let status = match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, status) => WaitStatus::Exited(Pid::from_raw(0), status),
        WaitStatus::Signaled(_, signal, _) => WaitStatus::Signaled(Pid::from_raw(0), signal, false),
        other => other,
    };
    (shared.numbers(CALLS.len()), status)
}

/// Both filters in the kernel.
fn same_outcomes(reference: &mut Reference, profile: &LinuxSeccomp) -> (Vec<i32>, WaitStatus) {
    let ours = compile(profile, Arch::NATIVE).unwrap();
    let theirs = Filter { program: reference.native(profile).unwrap(), flags: ours.flags };
    let (found, wanted) = (outcomes(&ours), outcomes(&theirs));
    assert_eq!(found, wanted, "{}", serde_json::to_string(profile).unwrap());
    found
}

#[test]
fn calls_come_to_the_same_under_libseccomps_filter() {
    let Some(mut reference) = reference_or_skip() else { return };
    let debian = match containers(&LISTED[..3]) {
        Ok(profile) => reference.known(profile),
        Err(reason) => return skip(&reason),
    };
    let (errnos, status) = same_outcomes(&mut reference, &debian);
    assert_eq!(status, WaitStatus::Exited(Pid::from_raw(0), 0));
    assert_eq!(errnos[..3], [0, 0, 0], "getppid and personality work");
    assert_eq!(errnos[6], libc::EINVAL, "the audit socket is refused by a rule with two conditions");
    for action in
        [Action::ScmpActErrno, Action::ScmpActTrap, Action::ScmpActKillProcess, Action::ScmpActKillThread]
    {
        let errno = (action == Action::ScmpActErrno).then_some(77);
        let large = argument(0, Operator::ScmpCmpGt, 0xffff_ffff, None);
        let rules = vec![
            rule(&["getppid", "unshare"], Action::ScmpActErrno, Some(76), vec![]),
            rule(&["personality"], action, errno, vec![large]),
        ];
        let (errnos, status) =
            same_outcomes(&mut reference, &profile(Action::ScmpActAllow, &LISTED[..2], rules));
        assert_eq!((errnos[0], errnos[1]), (76, 0));
        match action {
            Action::ScmpActErrno => assert_eq!((errnos[3], errnos[11]), (77, 76), "{status:?}"),
            _ => assert_eq!(status, WaitStatus::Signaled(Pid::from_raw(0), Signal::SIGSYS, false)),
        }
    }
}

#[test]
fn the_kernel_takes_every_flag_that_it_knows() {
    let all = [
        ("SECCOMP_FILTER_FLAG_TSYNC", Flag::SeccompFilterFlagTsync),
        ("SECCOMP_FILTER_FLAG_LOG", Flag::SeccompFilterFlagLog),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Flag::SeccompFilterFlagSpecAllow),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", Flag::SeccompFilterFlagWaitKillableRecv),
    ];
    let known = known_flags();
    assert!(known.contains(&all[0].0), "{known:?}");
    let flags: Vec<_> =
        all.into_iter().filter(|(name, _)| known.contains(name)).map(|(_, flag)| flag).collect();
    let mut profile = profile(Action::ScmpActAllow, &[], vec![]);
    profile.set_flags(Some(flags));
    let (errnos, status) = outcomes(&compile(&profile, Arch::NATIVE).unwrap());
    // The last call comes through an ABI that the profile does not list.
    assert_eq!(errnos.iter().position(|errno| *errno == 9999), Some(CALLS.len() - 1), "{errnos:?}");
    assert_eq!((errnos[0], status), (0, WaitStatus::Signaled(Pid::from_raw(0), Signal::SIGSYS, false)));
}

/// `struct seccomp_notif` as far as it is looked at, and `struct seccomp_notif_resp` (linux/seccomp.h).
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    data: [u64; 8],
}

#[repr(C)]
#[derive(Default)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const RESPOND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;

/// The agent: takes a descriptor with a state from `stream`.
fn receive(stream: &mut UnixStream) -> (serde_json::Value, OwnedFd) {
    let mut buffer = [0; 16];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .unwrap();
    let descriptors: Vec<_> = message.cmsgs().unwrap().collect();
    let [ControlMessageOwned::ScmRights(numbers)] = descriptors.as_slice() else { panic!("{descriptors:?}") };
    assert_eq!(numbers.len(), 1);
    // SAFETY: the kernel made this descriptor for us with the message; nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(numbers[0]) };
    let count = message.bytes;
    let mut text = buffer[..count].to_vec();
    stream.read_to_end(&mut text).unwrap();
    (serde_json::from_slice(&text).unwrap(), descriptor)
}

/// Answers one call with an errno; the number of the call.
fn refuse_one(listener: &OwnedFd, errno: i32) -> u64 {
    let mut asked = Notification::default();
    // SAFETY: the request's number says 80 bytes, which is the size of `Notification`.
    assert_eq!(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) }, 0);
    let answer = Response { id: asked.id, error: -errno, ..Response::default() };
    // SAFETY: the request's number says 24 bytes, which is the size of `Response`.
    assert_eq!(unsafe { libc::ioctl(listener.as_raw_fd(), RESPOND, &raw const answer) }, 0);
    asked.data[0] & 0xffff_ffff
}

#[test]
fn an_agent_is_given_the_listener_and_answers_calls() {
    let directory = std::env::temp_dir().join(format!("hull-listener-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("agent.sock");
    let agent = UnixListener::bind(&path).unwrap();
    let notify = ["getppid", "close"];
    let mut profile =
        profile(Action::ScmpActAllow, &[], vec![rule(&notify, Action::ScmpActNotify, None, vec![])]);
    profile.set_listener_path(Some(path.clone())).set_flags(Some(vec![Flag::SeccompFilterFlagTsync]));
    let filter = compile(&profile, Arch::NATIVE).unwrap();
    let (from_child, to_parent) = pipe().unwrap();
    let child = forked(|| {
        let Ok(descriptor) = listener::install(&filter) else { return 98 };
        let number = descriptor.as_raw_fd();
        // Closing it would wait for an answer already.
        std::mem::forget(descriptor);
        if write(&to_parent, &number.to_ne_bytes()) != Ok(4) {
            return 97;
        }
        i32::from(errno_of((libc::SYS_getppid, [0; 3])) != 77)
    });
    let mut number = [0; 4];
    std::fs::File::from(from_child).read_exact(&mut number).unwrap();
    let pidfd = pidfd::open(child.as_raw()).unwrap();
    let taken = listener::take(pidfd.as_fd(), RawFd::from_ne_bytes(number)).unwrap();
    let state = serde_json::json!({"id": "one", "status": "creating"});
    let about = listener::About { version: "1.3.0", pid: child.as_raw(), metadata: "who", state: &state };
    listener::send(&path, &about, taken.as_fd()).unwrap();
    drop(taken);
    let (mut stream, _) = agent.accept().unwrap();
    let (told, listener) = receive(&mut stream);
    let wanted = serde_json::json!({
        "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": child.as_raw(), "metadata": "who", "state": state,
    });
    assert_eq!(told, wanted);
    assert_eq!(refuse_one(&listener, 77), libc::SYS_getppid as u64);
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    std::fs::remove_dir_all(&directory).unwrap();
    let gone = listener::send(&path, &about, listener.as_fd()).unwrap_err();
    assert_eq!(gone.to_string(), format!("linux.seccomp.listenerPath: connect to {}", path.display()));
}
