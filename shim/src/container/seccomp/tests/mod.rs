//! The compiled program, run by a small BPF machine: beside a plain reading of the profile, beside libseccomp's, and
//! in the kernel itself.

mod aside;
mod cache;
mod fuzz;
mod kernel;
mod libseccomp;
mod machine;
mod measure;
mod plain;
mod profiles;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::abi::{ARM_PRIVATE, X32_BIT};
use super::rules::{AUDIT_AARCH64, AUDIT_ARM, AUDIT_I386, AUDIT_X86_64};
use super::{Arch, Error, Filter, compile, flag};
use libseccomp::Reference;
use machine::{Data, run};
use plain::expected;
use profiles::{OPERATORS, Style, WORDS, any_profile, argument, profile, rule};

const KILL: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// Says why a test does nothing here, or fails where `make test-root` wants everything to run.
fn skip(reason: &str) {
    assert!(std::env::var_os("HULL_TEST_ROOT").is_none(), "cannot run here: {reason}");
    eprintln!("skipped: {reason}");
}

fn reference_or_skip() -> Option<Reference> {
    Reference::start().inspect_err(|reason| skip(reason)).ok()
}

/// The kernel's value for an action, without our own table of them.
fn action_value(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActErrno | Action::ScmpActTrace => action.as_u32(Some(errno.unwrap_or(1))),
        _ => action.as_u32(None),
    }
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
}

const MACHINES: [(Arch, &[u32]); 2] = [
    (Arch::X86_64, &[AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64]),
    (Arch::Aarch64, &[AUDIT_AARCH64, AUDIT_ARM, 7]),
];

fn agree_on(profile: &LinuxSeccomp, filter: &Filter, arch: Arch, data: &Data) {
    let (found, wanted) = (run(&filter.program, data), expected(profile, arch, data));
    assert!(
        wanted.contains(&found),
        "{found:#x} is not in {wanted:x?}: {arch:?} {data:x?}\n{}",
        serde_json::to_string(profile).unwrap()
    );
}

/// Profiles of `style`, without those that contradict themselves.
fn random_profiles(style: Style, count: usize) -> Vec<(LinuxSeccomp, [Filter; 2])> {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    while all.len() < count {
        let profile = any_profile(style).new_tree(&mut runner).unwrap().current();
        match MACHINES.map(|(arch, _)| compile(&profile, arch)) {
            [Ok(one), Ok(two)] => all.push((profile, [one, two])),
            filters => {
                assert!(
                    filters.iter().all(|one| matches!(one, Ok(_) | Err(Error::Contradiction { .. }))),
                    "{filters:?}"
                );
            }
        }
    }
    all
}

#[test]
fn every_verdict_is_one_of_the_profile_read_plainly() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let special = [ARM_PRIVATE + 1, ARM_PRIVATE + 5, ARM_PRIVATE + 9, X32_BIT - 1, u32::MAX, u32::MAX - 1];
    for (profile, filters) in random_profiles(Style::Any, 40) {
        for ((arch, audits), filter) in MACHINES.into_iter().zip(&filters) {
            for audit in audits.iter().copied() {
                for number in (0..600).chain((0..600).map(|number| number | X32_BIT)).chain(special) {
                    let arguments = std::array::from_fn(|_| random.of(&WORDS));
                    agree_on(&profile, filter, arch, &Data { number, audit, arguments });
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
            let args = vec![argument(2, op, random.of(&WORDS), Some(random.of(&WORDS)))];
            let rules = vec![rule(&["read"], Action::ScmpActAllow, None, args)];
            let profile = profile(Action::ScmpActErrno, &[], rules);
            let filter = compile(&profile, Arch::X86_64).unwrap();
            for _ in 0..60 {
                let arguments = std::array::from_fn(|_| random.of(&WORDS));
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
    run(&compile(profile, Arch::X86_64).unwrap().program, &Data { number, audit: AUDIT_X86_64, arguments })
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
    let Filter { program, .. } = compile(&profile, Arch::X86_64).unwrap();
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

/// What compiling says against a profile with one rule on `write`.
fn refusal(action: Action, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> String {
    let rules = vec![rule(&["write"], action, errno, args)];
    compile(&profile(Action::ScmpActErrno, &[], rules), Arch::X86_64).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_done_is_refused_by_field() {
    let seventh = vec![argument(6, Operator::ScmpCmpEq, 0, None)];
    let refused = [
        (
            refusal(Action::ScmpActErrno, Some(4096), vec![]),
            "linux.seccomp.syscalls[0].errnoRet: 4096 is above 4095",
        ),
        (
            refusal(Action::ScmpActTrace, Some(65536), vec![]),
            "linux.seccomp.syscalls[0].errnoRet: 65536 is above 65535",
        ),
        (
            refusal(Action::ScmpActAllow, Some(1), vec![]),
            "linux.seccomp.syscalls[0].errnoRet is given for SCMP_ACT_ALLOW, which takes none",
        ),
        (
            refusal(Action::ScmpActNotify, None, vec![]),
            "linux.seccomp.syscalls[0].names[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            refusal(Action::ScmpActAllow, None, seventh),
            "linux.seccomp.syscalls[0].args[0].index: 6 is above 5",
        ),
    ];
    for (said, wanted) in refused {
        assert_eq!(said, wanted);
    }
    assert_eq!(
        compile(&profile(Action::ScmpActNotify, &[], vec![]), Arch::X86_64),
        Err(Error::NotifyDefault)
    );
    let nameless =
        profile(Action::ScmpActErrno, &[], vec![rule(&["read", ""], Action::ScmpActAllow, None, vec![])]);
    let field = "syscalls[0].names[1]".to_owned();
    assert_eq!(compile(&nameless, Arch::X86_64), Err(Error::EmptyName { field }));
    let mut lonely = profile(Action::ScmpActErrno, &[], vec![]);
    lonely.set_default_errno_ret(Some(5000));
    let field = "defaultErrnoRet".to_owned();
    assert_eq!(compile(&lonely, Arch::X86_64), Err(Error::Errno { field, value: 5000, most: 4095 }));
}

#[test]
fn two_actions_for_the_same_arguments_are_a_contradiction() {
    let one = |action, args| rule(&["read"], action, None, args);
    let five = || vec![argument(0, Operator::ScmpCmpEq, 5, None)];
    let both = |second| {
        compile(
            &profile(Action::ScmpActErrno, &[], vec![one(Action::ScmpActAllow, five()), one(second, five())]),
            Arch::X86_64,
        )
    };
    assert!(both(Action::ScmpActAllow).is_ok());
    assert_eq!(both(Action::ScmpActLog), Err(Error::Contradiction { name: "read".into() }));
}

#[test]
fn the_tighter_bound_counts_and_the_order_of_entries_does_not() {
    let bound = |op, value, errno| {
        rule(&["read"], Action::ScmpActErrno, Some(errno), vec![argument(0, op, value, None)])
    };
    let mut rules = vec![
        bound(Operator::ScmpCmpGe, 10, 71),
        bound(Operator::ScmpCmpGe, 20, 72),
        bound(Operator::ScmpCmpLe, 5, 73),
        bound(Operator::ScmpCmpLe, 3, 74),
        bound(Operator::ScmpCmpEq, 25, 75),
    ];
    for _ in 0..rules.len() {
        rules.rotate_left(1);
        let profile = profile(Action::ScmpActAllow, &[], rules.clone());
        for (value, errno) in [(15, 71), (24, 72), (4, 73), (3, 74), (25, 75)] {
            assert_eq!(verdict(&profile, 0, [value, 0, 0, 0, 0, 0]), 0x0005_0000 | errno, "{value}");
        }
        assert_eq!(verdict(&profile, 0, [7, 0, 0, 0, 0, 0]), ALLOW);
    }
}

fn flags_of(flags: Option<Vec<Flag>>, listener: bool) -> u32 {
    let action = if listener { Action::ScmpActNotify } else { Action::ScmpActErrno };
    let mut profile = profile(Action::ScmpActAllow, &[], vec![rule(&["mount"], action, None, vec![])]);
    profile.set_flags(flags).set_listener_path(Some("/run/agent.sock".into()));
    let filter = compile(&profile, Arch::NATIVE).unwrap();
    assert_eq!(filter.needs_listener(), listener);
    filter.flags
}

#[test]
fn flags_are_those_of_the_profile_or_runcs() {
    let all = vec![
        Flag::SeccompFilterFlagTsync,
        Flag::SeccompFilterFlagLog,
        Flag::SeccompFilterFlagSpecAllow,
        Flag::SeccompFilterFlagWaitKillableRecv,
    ];
    assert_eq!(flags_of(None, false), flag::SPEC_ALLOW);
    assert_eq!(flags_of(Some(vec![]), false), 0);
    assert_eq!(flags_of(None, true), flag::SPEC_ALLOW | flag::NEW_LISTENER);
    assert_eq!(flags_of(Some(all.clone()), false), flag::TSYNC | flag::LOG | flag::SPEC_ALLOW);
    assert_eq!(
        flags_of(Some(all), true),
        0b11_1111,
        "a listener goes with TSYNC only where TSYNC_ESRCH is there"
    );
}

#[test]
fn who_is_to_be_notified_must_be_said() {
    let mut silent =
        profile(Action::ScmpActAllow, &[], vec![rule(&["mount"], Action::ScmpActNotify, None, vec![])]);
    assert_eq!(compile(&silent, Arch::NATIVE), Err(Error::ListenerMissing));
    silent.set_syscalls(None).set_listener_metadata(Some("x".into()));
    assert_eq!(compile(&silent, Arch::NATIVE), Err(Error::MetadataAlone));
}
