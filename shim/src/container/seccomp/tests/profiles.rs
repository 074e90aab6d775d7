//! Profiles for the tests: written out, random, and Debian's own.

use oci_spec::runtime::{
    Arch as Listed, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use proptest::prelude::*;
use proptest::sample::select;

/// The profile of podman and CRI-O, from Debian's golang-github-containers-common.
pub(super) const CONTAINERS: &str = "/usr/share/containers/seccomp.json";

/// All architectures that there are rules for.
pub(super) const LISTED: [Listed; 6] = [
    Listed::ScmpArchX86_64,
    Listed::ScmpArchX86,
    Listed::ScmpArchX32,
    Listed::ScmpArchAarch64,
    Listed::ScmpArchArm,
    Listed::ScmpArchS390x,
];

pub(super) const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpNe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpMaskedEq,
];

pub(super) const ACTIONS: [Action; 8] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActTrap,
    Action::ScmpActTrace,
    Action::ScmpActLog,
    Action::ScmpActKill,
];

/// Calls that are unlike each other: everywhere, on some ABIs, multiplexed, private, new, and none at all.
pub(super) const NAMES: [&str; 32] = [
    "read",
    "write",
    "open",
    "openat",
    "clone",
    "clone3",
    "personality",
    "socket",
    "connect",
    "sendto",
    "accept4",
    "socketcall",
    "ipc",
    "semop",
    "semtimedop",
    "shmget",
    "stat64",
    "newfstatat",
    "statx",
    "set_tls",
    "breakpoint",
    "cacheflush",
    "io_uring_setup",
    "mmap2",
    "ptrace",
    "no_such_call",
    "execve",
    "rt_sigreturn",
    "waitid",
    "time",
    "futex_waitv",
    "close_range",
];

/// Values at the borders of what 32 and 64 bits can hold, and close to each other.
pub(super) const WORDS: [u64; 20] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    9,
    16,
    0x7e02_0000,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_0000_0005,
    0x2_0000_0003,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

pub(super) fn argument(index: usize, op: Operator, value: u64, two: Option<u64>) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    two.into_iter().fold(builder, LinuxSeccompArgBuilder::value_two).build().unwrap()
}

pub(super) fn rule(
    names: &[&str],
    action: Action,
    errno: Option<u32>,
    args: Vec<LinuxSeccompArg>,
) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(action).set_errno_ret(errno).set_args(Some(args));
    rule
}

pub(super) fn profile(default: Action, architectures: &[Listed], rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(default)
        .set_architectures(Some(architectures.to_vec()))
        .set_syscalls(Some(rules));
    profile
}

/// What engines make of [`CONTAINERS`] for a container without capabilities: one that asks for `architectures`.
pub(super) fn containers(architectures: &[Listed]) -> Result<LinuxSeccomp, String> {
    let text = std::fs::read(CONTAINERS).map_err(|error| format!("{CONTAINERS}: {error}"))?;
    let mut file: serde_json::Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let kept = |entry: &serde_json::Value| {
        let has = |list: &str, key: &str| entry[list][key].as_array().is_some_and(|all| !all.is_empty());
        !has("includes", "caps")
            && (!has("includes", "arches") || entry["includes"]["arches"].to_string().contains("arm"))
    };
    let rules: Vec<_> =
        file["syscalls"].as_array().into_iter().flatten().filter(|one| kept(one)).cloned().collect();
    file["syscalls"] = rules.into();
    let mut profile: LinuxSeccomp = serde_json::from_value(file).map_err(|error| error.to_string())?;
    profile.set_architectures(Some(architectures.to_vec()));
    Ok(profile)
}

/// What may differ between the rules of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Rules with one condition, and any actions.
    Single,
    /// Rules with several conditions, where all but the last ask for equality, and any actions.
    Nested,
    /// Anything, as far as one entry may have it.
    Any,
}

fn any_argument(index: usize, last: bool, style: Style) -> BoxedStrategy<LinuxSeccompArg> {
    let operators = match style {
        Style::Nested if !last => vec![Operator::ScmpCmpEq, Operator::ScmpCmpMaskedEq],
        Style::Single | Style::Nested | Style::Any => OPERATORS.to_vec(),
    };
    (select(operators), select(&WORDS[..]), select(&WORDS[..]))
        .prop_map(move |(op, value, two)| argument(index, op, value, Some(two)))
        .boxed()
}

fn any_arguments(style: Style) -> BoxedStrategy<Vec<LinuxSeccompArg>> {
    let places = match style {
        Style::Single => proptest::collection::vec(0..3_usize, 0..=1).boxed(),
        Style::Nested => proptest::sample::subsequence(vec![0, 1, 2, 5], 0..=3).boxed(),
        Style::Any => proptest::collection::vec(0..6_usize, 0..=4).boxed(),
    };
    places
        .prop_flat_map(move |places| {
            let count = places.len();
            places
                .into_iter()
                .enumerate()
                .map(|(at, index)| any_argument(index, at + 1 == count, style))
                .collect::<Vec<_>>()
        })
        .boxed()
}

fn any_action() -> impl Strategy<Value = (Action, Option<u32>)> {
    (select(&ACTIONS[..]), proptest::option::of(0..4096_u32)).prop_map(|(action, errno)| {
        let takes = matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
        (action, errno.filter(|_| takes))
    })
}

/// Any profile of `style` that says something of several calls.
pub(super) fn any_profile(style: Style) -> impl Strategy<Value = LinuxSeccomp> {
    let names = proptest::collection::vec(select(&NAMES[..]), 1..4);
    let one = (names, any_action(), any_arguments(style))
        .prop_map(|(names, (action, errno), args)| rule(&names, action, errno, args));
    let rules = proptest::collection::vec(one, 0..40);
    let listed = proptest::sample::subsequence(LISTED[..5].to_vec(), 0..=5);
    (select(&ACTIONS[..]), listed, rules)
        .prop_map(|(default, listed, rules)| profile(default, &listed, rules))
}
