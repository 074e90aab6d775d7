//! The compiled program, run by a small BPF interpreter, against a plain reading of the profile; and once by the
//! kernel itself.

use oci_spec::runtime::{
    Arch as Listed, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::rules::{AUDIT_AARCH64, AUDIT_ARM, AUDIT_I386, AUDIT_X86_64};
use super::{Arch, Error, Filter, compile, load_flags};

const KILL: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// What the kernel shows a filter.
#[derive(Debug, Clone, Copy)]
struct Data {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

/// Runs a filter as the kernel does; panics where the kernel would have refused it.
fn run(Filter(program): &Filter, data: &Data) -> u32 {
    let word = |offset: u32| match offset {
        0 => data.number,
        4 => data.audit,
        16..64 if offset.is_multiple_of(8) => data.arguments[(offset as usize - 16) / 8] as u32,
        16..64 if offset % 8 == 4 => (data.arguments[(offset as usize - 16) / 8] >> 32) as u32,
        _ => panic!("load from {offset}"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let one = &program[at];
        at += 1;
        let holds = match one.code {
            0x20 => {
                accumulator = word(one.k);
                continue;
            }
            0x54 => {
                accumulator &= one.k;
                continue;
            }
            0x05 => {
                at += one.k as usize;
                continue;
            }
            0x06 => return one.k,
            0x15 => accumulator == one.k,
            0x25 => accumulator > one.k,
            0x35 => accumulator >= one.k,
            other => panic!("unknown code {other:#x}"),
        };
        at += usize::from(if holds { one.jt } else { one.jf });
    }
}

/// The ABI that a call comes through, as far as the profile lists it.
fn abi(profile: &LinuxSeccomp, arch: Arch, data: &Data) -> Option<Abi> {
    let listed = |wanted| profile.architectures().iter().flatten().any(|one| *one == wanted);
    let x32 = (X32_BIT..u32::MAX).contains(&data.number);
    match (arch, data.audit) {
        (Arch::X86_64, AUDIT_X86_64) if x32 => listed(Listed::ScmpArchX32).then_some(Abi::X32),
        (Arch::X86_64, AUDIT_X86_64) => Some(Abi::X86_64),
        (Arch::X86_64, AUDIT_I386) => listed(Listed::ScmpArchX86).then_some(Abi::I386),
        (Arch::Aarch64, AUDIT_AARCH64) => Some(Abi::Aarch64),
        (Arch::Aarch64, AUDIT_ARM) => listed(Listed::ScmpArchArm).then_some(Abi::Arm),
        _ => None,
    }
}

fn value(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActErrno | Action::ScmpActTrace => action.as_u32(Some(errno.unwrap_or(1))),
        _ => action.as_u32(None),
    }
}

fn holds(one: &LinuxSeccompArg, data: &Data, abi: Abi) -> bool {
    let cut = |value: u64| {
        if matches!(abi, Abi::X86_64 | Abi::Aarch64) { value } else { value & 0xffff_ffff }
    };
    let (is, wanted) = (cut(data.arguments[one.index()]), cut(one.value()));
    match one.op() {
        Operator::ScmpCmpEq => is == wanted,
        Operator::ScmpCmpNe => is != wanted,
        Operator::ScmpCmpLt => is < wanted,
        Operator::ScmpCmpLe => is <= wanted,
        Operator::ScmpCmpGe => is >= wanted,
        Operator::ScmpCmpGt => is > wanted,
        Operator::ScmpCmpMaskedEq => is & wanted == cut(one.value_two().unwrap_or(0)) & wanted,
    }
}

fn all_hold(rule: &LinuxSyscall, data: &Data, abi: Abi) -> bool {
    let arguments = rule.args().as_deref().unwrap_or_default();
    let shared =
        arguments.iter().any(|one| arguments.iter().filter(|two| one.index() == two.index()).count() > 1);
    let mut each = arguments.iter().map(|one| holds(one, data, abi));
    if shared { each.any(|one| one) } else { each.all(|one| one) }
}

/// The verdict of the profile, read plainly.
fn expected(profile: &LinuxSeccomp, arch: Arch, data: &Data) -> u32 {
    let default = value(profile.default_action(), profile.default_errno_ret());
    let Some(abi) = abi(profile, arch, data) else {
        return KILL;
    };
    if data.number == u32::MAX {
        return default;
    }
    let (mut always, mut first, mut last) = (None, None, None);
    for rule in profile.syscalls().iter().flatten() {
        let action = value(rule.action(), rule.errno_ret());
        for name in rule.names() {
            let (direct, gate) = (abi.number(name), abi.multiplexed(name));
            let named = direct.max(gate.map(|(number, _)| number));
            last = last.max(named.filter(|number| *number < ARM_PRIVATE || abi == Abi::X32));
            if action == default {
                continue;
            }
            let plain = rule.args().as_deref().unwrap_or_default().is_empty();
            if direct == Some(data.number) && plain {
                always = always.or(Some(action));
            }
            let through_gate = plain && gate == Some((data.number, data.arguments[0] & 0xffff_ffff));
            if through_gate || (direct == Some(data.number) && !plain && all_hold(rule, data, abi)) {
                first = first.or(Some(action));
            }
        }
    }
    let refuses =
        !matches!(profile.default_action(), Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace);
    let newer = refuses && last.is_some_and(|last| data.number > last);
    always.or(first).unwrap_or(if newer { ENOSYS } else { default })
}

/// A small generator of pseudorandom numbers (xorshift64), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn word(&mut self) -> u64 {
        let interesting = [
            0,
            1,
            2,
            3,
            5,
            0x7e02_0000,
            0x7fff_ffff,
            0xffff_fffe,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0001,
            0x2_0000_0003,
            0xffff_ffff_0000_0000,
            u64::MAX - 1,
            u64::MAX,
        ];
        self.of(&interesting)
    }
}

const NAMES: [&str; 24] = [
    "read",
    "write",
    "open",
    "openat",
    "clone",
    "clone3",
    "personality",
    "socket",
    "connect",
    "socketcall",
    "ipc",
    "semop",
    "shmget",
    "stat64",
    "newfstatat",
    "statx",
    "set_tls",
    "breakpoint",
    "io_uring_setup",
    "mseal",
    "ptrace",
    "no_such_call",
    "execve",
    "rt_sigreturn",
];

const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpNe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpMaskedEq,
];

const ACTIONS: [Action; 8] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActTrap,
    Action::ScmpActTrace,
    Action::ScmpActLog,
    Action::ScmpActKill,
];

fn argument(index: usize, op: Operator, value: u64, two: Option<u64>) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    two.into_iter().fold(builder, LinuxSeccompArgBuilder::value_two).build().unwrap()
}

fn rule(names: &[&str], action: Action, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(action).set_errno_ret(errno).set_args(Some(args));
    rule
}

fn profile(default: Action, architectures: &[Listed], rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(default)
        .set_architectures(Some(architectures.to_vec()))
        .set_syscalls(Some(rules));
    profile
}

fn any_rule(random: &mut Random) -> LinuxSyscall {
    let names: Vec<_> = (0..=random.below(4)).map(|_| random.of(&NAMES)).collect();
    let action = random.of(&[ACTIONS.as_slice(), &[Action::ScmpActNotify]].concat());
    let names = if action == Action::ScmpActNotify { vec!["ptrace"] } else { names };
    let errno =
        matches!(action, Action::ScmpActErrno | Action::ScmpActTrace).then(|| random.below(4096) as u32);
    let count = random.of(&[0, 0, 1, 1, 2, 3]);
    let one = |random: &mut Random| {
        argument(random.below(6), random.of(&OPERATORS), random.word(), Some(random.word()))
    };
    rule(&names, action, errno, (0..count).map(|_| one(random)).collect())
}

fn any_profile(random: &mut Random) -> LinuxSeccomp {
    let mut listed = vec![Listed::ScmpArchX86_64, Listed::ScmpArchAarch64, Listed::ScmpArchS390x];
    listed.extend(
        [Listed::ScmpArchX86, Listed::ScmpArchX32, Listed::ScmpArchArm]
            .iter()
            .filter(|_| random.below(2) == 0),
    );
    let rules = (0..random.below(60)).map(|_| any_rule(random)).collect();
    profile(random.of(&ACTIONS), &listed, rules)
}

const MACHINES: [(Arch, &[u32]); 2] = [
    (Arch::X86_64, &[AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64]),
    (Arch::Aarch64, &[AUDIT_AARCH64, AUDIT_ARM, 7]),
];

fn agree_on(profile: &LinuxSeccomp, filter: &Filter, arch: Arch, data: &Data) {
    assert_eq!(
        run(filter, data),
        expected(profile, arch, data),
        "{arch:?} {data:x?}\n{}",
        serde_json::to_string(profile).unwrap()
    );
}

#[test]
fn every_verdict_is_that_of_the_profile_read_plainly() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..40 {
        let profile = any_profile(&mut random);
        for (arch, audits) in MACHINES {
            let filter = compile(&profile, arch).unwrap();
            for audit in audits.iter().copied() {
                let special =
                    [ARM_PRIVATE + 1, ARM_PRIVATE + 5, ARM_PRIVATE + 9, X32_BIT - 1, u32::MAX, u32::MAX - 1];
                for number in (0..600).chain((0..600).map(|number| number | X32_BIT)).chain(special) {
                    let arguments = std::array::from_fn(|_| random.word());
                    agree_on(&profile, &filter, arch, &Data { number, audit, arguments });
                }
            }
        }
    }
}

#[test]
fn every_operator_compares_all_64_bits() {
    let mut random = Random(42);
    for op in OPERATORS {
        for _ in 0..60 {
            let args = vec![argument(2, op, random.word(), Some(random.word()))];
            let rules = vec![rule(&["read"], Action::ScmpActAllow, None, args)];
            let profile = profile(Action::ScmpActErrno, &[], rules);
            let filter = compile(&profile, Arch::X86_64).unwrap();
            for _ in 0..60 {
                let arguments = std::array::from_fn(|_| random.word());
                agree_on(
                    &profile,
                    &filter,
                    Arch::X86_64,
                    &Data { number: 0, audit: AUDIT_X86_64, arguments },
                );
            }
        }
    }
}

fn verdict(profile: &LinuxSeccomp, number: u32, arguments: [u64; 6]) -> u32 {
    run(&compile(profile, Arch::X86_64).unwrap(), &Data { number, audit: AUDIT_X86_64, arguments })
}

#[test]
fn a_rule_without_arguments_decides_whatever_else_is_said() {
    let special =
        rule(&["read"], Action::ScmpActErrno, Some(5), vec![argument(0, Operator::ScmpCmpEq, 5, None)]);
    let plain = rule(&["read"], Action::ScmpActAllow, None, vec![]);
    let profile = profile(Action::ScmpActErrno, &[], vec![special, plain]);
    assert_eq!(verdict(&profile, 0, [5; 6]), ALLOW);
}

#[test]
fn a_call_newer_than_the_profile_does_not_exist() {
    let rules = vec![rule(&["read", "clone3"], Action::ScmpActAllow, None, vec![])];
    let strict = profile(Action::ScmpActErrno, &[], rules.clone());
    assert_eq!(verdict(&strict, 436, [0; 6]), ENOSYS);
    assert_eq!(verdict(&strict, 434, [0; 6]), EPERM);
    let lenient = profile(Action::ScmpActAllow, &[], rules);
    assert_eq!(verdict(&lenient, 436, [0; 6]), ALLOW);
}

#[test]
fn neighbours_with_one_verdict_share_a_range() {
    let all: Vec<&str> = vec!["read", "write", "open", "close", "stat", "fstat", "lstat", "poll"];
    let profile = profile(Action::ScmpActErrno, &[], vec![rule(&all, Action::ScmpActAllow, None, vec![])]);
    let Filter(program) = compile(&profile, Arch::X86_64).unwrap();
    assert!(program.len() <= 12, "{program:#?}");
}

#[test]
fn far_jumps_are_bridged_and_a_program_that_is_too_long_is_refused() {
    let many = |count: u64| {
        let one = |value| {
            rule(&["read"], Action::ScmpActAllow, None, vec![argument(0, Operator::ScmpCmpEq, value, None)])
        };
        let mut rules: Vec<_> = (0..count).map(|value| one(value + (value << 40))).collect();
        rules.push(rule(&["write"], Action::ScmpActAllow, None, vec![]));
        profile(Action::ScmpActErrno, &[], rules)
    };
    let long = many(900);
    assert_eq!(verdict(&long, 0, [899 + (899 << 40), 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(&long, 0, [899, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(verdict(&long, 1, [0; 6]), ALLOW);
    assert!(matches!(compile(&many(1100), Arch::X86_64), Err(Error::TooLong(_))));
}

#[test]
fn what_the_kernel_could_not_do_is_refused() {
    let with = |action, errno, args| {
        compile(
            &profile(Action::ScmpActErrno, &[], vec![rule(&["write"], action, errno, args)]),
            Arch::X86_64,
        )
    };
    assert_eq!(with(Action::ScmpActErrno, Some(4096), vec![]), Err(Error::Errno(4096)));
    assert_eq!(with(Action::ScmpActAllow, Some(1), vec![]), Err(Error::ErrnoUnused(Action::ScmpActAllow)));
    assert_eq!(with(Action::ScmpActNotify, None, vec![]), Err(Error::NotifyWrite));
    let seventh = vec![argument(6, Operator::ScmpCmpEq, 0, None)];
    let refused = Error::ArgumentIndex { name: "write".into(), index: 6 };
    assert_eq!(with(Action::ScmpActAllow, None, seventh), Err(refused));
    assert_eq!(
        compile(&profile(Action::ScmpActNotify, &[], vec![]), Arch::X86_64),
        Err(Error::NotifyDefault)
    );
}

#[test]
fn flags_are_those_of_the_profile_or_runcs() {
    let silent = profile(Action::ScmpActAllow, &[], vec![]);
    assert_eq!(load_flags(&silent), 4);
    let mut notifying =
        profile(Action::ScmpActAllow, &[], vec![rule(&["mount"], Action::ScmpActNotify, None, vec![])]);
    notifying.set_flags(Some(vec![]));
    assert_eq!(load_flags(&notifying), 8);
}

/// Installs `filter` in a forked child and returns what `probe` makes of it there: the child's exit status.
fn in_child(filter: &Filter, probe: fn() -> i32) -> i32 {
    let Filter(program) = filter;
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
