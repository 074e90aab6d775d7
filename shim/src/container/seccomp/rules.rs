//! From a profile to a plan: for every audit architecture, ranges of system call numbers and the verdict on each.
//!
//! **Invariant:** the ranges of a [`Section`] start at 0, rise, and cover every 32-bit number; neighbours differ.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch as Listed, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::{Arch, Error};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const MAX_ERRNO: u32 = 4095;

/// The kernel's `AUDIT_ARCH_*` (linux/audit.h).
pub(super) const AUDIT_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_I386: u32 = 0x4000_0003;
pub(super) const AUDIT_AARCH64: u32 = 0xc000_00b7;
pub(super) const AUDIT_ARM: u32 = 0x4000_0028;

/// What the kernel is told to do: a `SECCOMP_RET_*` value with its data.
pub(super) type Return = u32;
/// `SECCOMP_RET_KILL_THREAD`.
pub(super) const KILL_THREAD: Return = 0;
const RETURN_ERRNO: Return = 0x0005_0000;

/// What is decided on one audit architecture.
#[derive(Debug)]
pub(super) struct Section {
    /// Which architecture, as `AUDIT_ARCH_*`.
    pub(super) audit: u32,
    /// First number of each range, and the verdict on it.
    pub(super) ranges: Vec<(u32, Verdict)>,
}

/// The verdict on a range of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The arguments do not matter.
    Always(Return),
    /// The first rule whose conditions all hold, or else the fallback.
    Depends {
        /// In order.
        rules: Vec<Rule>,
        /// When none matches.
        fallback: Return,
    },
}

/// Conditions that must all hold, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Return,
}

/// A comparison with one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) index: u32,
    /// The test; every operator is one of these or its opposite.
    pub(super) test: Test,
    /// The condition holds when the test fails.
    pub(super) negated: bool,
    /// Compare 64 bits, not 32.
    pub(super) wide: bool,
}

/// The tests that BPF has jumps for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// Equal under a mask.
    Equal { mask: u64, value: u64 },
    /// Greater or equal.
    AtLeast(u64),
    /// Greater.
    Above(u64),
}

/// The rules on one system call, in order.
#[derive(Debug, Default)]
struct Call {
    always: Option<Return>,
    rules: Vec<Rule>,
}

/// Decides everything that the program will decide, for all architectures of `profile`.
pub(super) fn plan(profile: &LinuxSeccomp, arch: Arch) -> Result<Vec<Section>, Error> {
    if profile.default_action() == Action::ScmpActNotify {
        return Err(Error::NotifyDefault);
    }
    let default = returned(profile.default_action(), profile.default_errno_ret())?;
    let listed = |wanted| profile.architectures().iter().flatten().any(|one| *one == wanted);
    let section = |audit, abis: &[Abi]| -> Result<Section, Error> {
        let mut ranges = Ranges::default();
        for abi in abis {
            cover(&mut ranges, profile, *abi, default)?;
        }
        if abis == [Abi::X86_64] {
            ranges.push(X32_BIT, Verdict::Always(KILL_THREAD));
        }
        // A tracer that cancels a call leaves the number -1; that is no call through a foreign ABI.
        ranges.push(u32::MAX, Verdict::Always(default));
        Ok(Section { audit, ranges: ranges.0 })
    };
    // Architectures of other machines may be listed too: no process here can ever use them.
    let wanted: [(u32, &[Abi], bool); 2] = match arch {
        Arch::X86_64 => {
            let native: &[Abi] =
                if listed(Listed::ScmpArchX32) { &[Abi::X86_64, Abi::X32] } else { &[Abi::X86_64] };
            [(AUDIT_X86_64, native, true), (AUDIT_I386, &[Abi::I386], listed(Listed::ScmpArchX86))]
        }
        Arch::Aarch64 => {
            [(AUDIT_AARCH64, &[Abi::Aarch64], true), (AUDIT_ARM, &[Abi::Arm], listed(Listed::ScmpArchArm))]
        }
    };
    wanted.into_iter().filter(|(.., on)| *on).map(|(audit, abis, _)| section(audit, abis)).collect()
}

/// Appends the ranges of one ABI.
fn cover(ranges: &mut Ranges, profile: &LinuxSeccomp, abi: Abi, default: Return) -> Result<(), Error> {
    let calls = Calls::of(profile, abi, default)?;
    let (base, end) = match abi {
        Abi::X32 => (X32_BIT, u32::MAX),
        Abi::X86_64 | Abi::I386 | Abi::Aarch64 | Abi::Arm => (0, ARM_PRIVATE),
    };
    ranges.push(base, Verdict::Always(default));
    for (number, call) in calls.decided.range(base..end) {
        ranges.call(*number, call, default);
    }
    if let Some(last) = calls.last {
        let newer = newer(profile.default_action(), default);
        ranges.push(last + 1, Verdict::Always(newer));
        for (number, call) in calls.decided.range(end..) {
            ranges.call(*number, call, newer);
        }
    }
    Ok(())
}

/// The verdict on calls newer than the profile.
fn newer(action: Action, default: Return) -> Return {
    match action {
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => default,
        Action::ScmpActKill
        | Action::ScmpActKillThread
        | Action::ScmpActKillProcess
        | Action::ScmpActTrap
        | Action::ScmpActErrno
        | Action::ScmpActNotify => RETURN_ERRNO | ENOSYS,
    }
}

/// What the profile says on one ABI.
#[derive(Debug, Default)]
struct Calls {
    /// Every call that a rule speaks of.
    decided: BTreeMap<u32, Call>,
    /// The highest number that the profile names at all.
    last: Option<u32>,
}

impl Calls {
    /// Takes in every entry of `profile`; rules that ask for the default action say nothing.
    fn of(profile: &LinuxSeccomp, abi: Abi, default: Return) -> Result<Self, Error> {
        let mut calls = Self::default();
        for entry in profile.syscalls().iter().flatten() {
            let action = returned(entry.action(), entry.errno_ret())?;
            for name in entry.names() {
                if entry.action() == Action::ScmpActNotify && name == "write" {
                    return Err(Error::NotifyWrite);
                }
                let rules = rules(entry, name, abi, action)?;
                calls.name(abi, name);
                if action != default {
                    calls.decide((abi, name), action, rules);
                }
            }
        }
        Ok(calls)
    }

    /// The profile knows this call.
    fn name(&mut self, abi: Abi, name: &str) {
        let numbers = [abi.number(name), abi.multiplexed(name).map(|(gate, _)| gate)];
        let ordinary = |number: &u32| *number < ARM_PRIVATE || abi == Abi::X32;
        self.last = self.last.max(numbers.into_iter().flatten().filter(ordinary).max());
    }

    /// One entry's rules on one call; without rules the action is unconditional.
    fn decide(&mut self, (abi, name): (Abi, &str), action: Return, rules: Vec<Rule>) {
        if let (true, Some((gate, which))) = (rules.is_empty(), abi.multiplexed(name)) {
            let test = Test::Equal { mask: u64::MAX, value: which };
            let conditions = vec![Condition { index: 0, test, negated: false, wide: false }];
            self.decided.entry(gate).or_default().rules.push(Rule { conditions, action });
        }
        if let Some(number) = abi.number(name) {
            let call = self.decided.entry(number).or_default();
            if rules.is_empty() {
                call.always.get_or_insert(action);
            }
            call.rules.extend(rules);
        }
    }
}

/// The rules of one entry; none means that it does not look at arguments.
fn rules(entry: &LinuxSyscall, name: &str, abi: Abi, action: Return) -> Result<Vec<Rule>, Error> {
    let arguments = entry.args().as_deref().unwrap_or_default();
    let conditions: Vec<_> =
        arguments.iter().map(|one| condition(one, name, abi)).collect::<Result<_, _>>()?;
    let twice = |one: &Condition| conditions.iter().filter(|other| other.index == one.index).count() > 1;
    if conditions.is_empty() {
        Ok(Vec::new())
    } else if conditions.iter().any(twice) {
        Ok(conditions.iter().map(|one| Rule { conditions: vec![*one], action }).collect())
    } else {
        Ok(vec![Rule { conditions, action }])
    }
}

/// One comparison.
fn condition(argument: &LinuxSeccompArg, name: &str, abi: Abi) -> Result<Condition, Error> {
    let index = argument.index();
    if index > 5 {
        return Err(Error::ArgumentIndex { name: name.to_owned(), index });
    }
    let value = argument.value();
    let equal = |mask, value| Test::Equal { mask, value };
    let (test, negated) = match argument.op() {
        Operator::ScmpCmpEq => (equal(u64::MAX, value), false),
        Operator::ScmpCmpNe => (equal(u64::MAX, value), true),
        Operator::ScmpCmpMaskedEq => (equal(value, argument.value_two().unwrap_or(0) & value), false),
        Operator::ScmpCmpGe => (Test::AtLeast(value), false),
        Operator::ScmpCmpLt => (Test::AtLeast(value), true),
        Operator::ScmpCmpGt => (Test::Above(value), false),
        Operator::ScmpCmpLe => (Test::Above(value), true),
    };
    Ok(Condition { index: index as u32, test, negated, wide: abi.is_wide() })
}

/// The kernel's value for an action.
fn returned(action: Action, errno: Option<u32>) -> Result<Return, Error> {
    let takes_errno = matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
    match errno {
        Some(_) if !takes_errno => return Err(Error::ErrnoUnused(action)),
        Some(errno) if errno > MAX_ERRNO => return Err(Error::Errno(errno)),
        Some(_) | None => {}
    }
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => KILL_THREAD,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => RETURN_ERRNO | errno.unwrap_or(EPERM),
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(EPERM),
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    })
}

/// Ranges under construction.
#[derive(Debug, Default)]
struct Ranges(Vec<(u32, Verdict)>);

impl Ranges {
    /// From `start` on, `verdict`. Starts must not fall; an empty range goes, equal neighbours become one.
    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.0.last().is_some_and(|(last, _)| *last == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, before)| *before != verdict) {
            self.0.push((start, verdict));
        }
    }

    /// The verdict on one call, and `after` from the next number on.
    fn call(&mut self, number: u32, call: &Call, after: Return) {
        let verdict = match call.always {
            Some(action) => Verdict::Always(action),
            None => Verdict::Depends { rules: call.rules.clone(), fallback: after },
        };
        self.push(number, verdict);
        self.push(number + 1, Verdict::Always(after));
    }
}
