//! From a profile to a plan: for every audit architecture, ranges of system call numbers and the verdict on each.
//!
//! **Invariant:** the ranges of a [`Section`] start at 0, rise, and cover every 32-bit number; neighbours differ.

use std::collections::BTreeMap;

use oci_spec::runtime::{Arch as Listed, LinuxSeccomp, LinuxSeccompAction as Action};

use super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::entry::{Comparison, Entry, KILL_THREAD, NO_SUCH_CALL, NOTIFY, Return, Test};
use super::order::{Contradiction, Tree};
use super::{Arch, Error, entry};

/// The kernel's `AUDIT_ARCH_*` (linux/audit.h).
pub(super) const AUDIT_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_I386: u32 = 0x4000_0003;
pub(super) const AUDIT_AARCH64: u32 = 0xc000_00b7;
pub(super) const AUDIT_ARM: u32 = 0x4000_0028;

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
    /// By argument, which all differ.
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Return,
}

/// A comparison with one argument, as wide as the ABI has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) index: u32,
    /// The test, with values as wide as the argument.
    pub(super) test: Test,
    /// The condition holds when the test fails.
    pub(super) negated: bool,
    /// Compare 64 bits, not 32.
    pub(super) wide: bool,
}

impl Condition {
    /// None where the comparison holds for every argument.
    fn new(comparison: &Comparison, abi: Abi) -> Option<Self> {
        let Comparison { index, test, negated } = *comparison;
        let wide = abi.is_wide();
        let cut = |value: u64| if wide { value } else { value & u64::from(u32::MAX) };
        let test = match test {
            Test::Equal(value) => Test::Equal(cut(value)),
            Test::Masked { mask, value } => Test::Masked { mask: cut(mask), value: cut(value) },
            Test::AtLeast(value) => Test::AtLeast(cut(value)),
            Test::Above(value) => Test::Above(cut(value)),
        };
        let tautology = matches!(test, Test::Masked { mask: 0, .. });
        (!tautology).then_some(Self { index, test, negated, wide })
    }
}

/// The rules on one system call.
#[derive(Debug, Default)]
struct Call {
    always: Option<Return>,
    tree: Tree,
}

impl Call {
    /// One more rule, with conditions or for every argument.
    fn add(&mut self, conditions: Vec<Condition>, action: Return) -> Result<(), Contradiction> {
        if conditions.is_empty() {
            self.always.get_or_insert(action);
            return Ok(());
        }
        self.tree.add(Rule { conditions, action })
    }
}

/// Decides everything that the program will decide, for all architectures of `profile`.
pub(super) fn plan(profile: &LinuxSeccomp, arch: Arch) -> Result<Vec<Section>, Error> {
    let default = entry::default_action(profile)?;
    let entries = entry::entries(profile)?;
    let reading = Reading { entries: &entries, default, newer: newer(profile.default_action(), default) };
    let listed = |wanted| profile.architectures().iter().flatten().any(|one| *one == wanted);
    // Architectures of other machines may be listed too: no process here can ever use them.
    let mut sections = Vec::with_capacity(2);
    match arch {
        Arch::X86_64 if listed(Listed::ScmpArchX32) => {
            sections.push(reading.section(AUDIT_X86_64, &[Abi::X86_64, Abi::X32])?);
        }
        Arch::X86_64 => sections.push(reading.section(AUDIT_X86_64, &[Abi::X86_64])?),
        Arch::Aarch64 => sections.push(reading.section(AUDIT_AARCH64, &[Abi::Aarch64])?),
    }
    match arch {
        Arch::X86_64 if listed(Listed::ScmpArchX86) => {
            sections.push(reading.section(AUDIT_I386, &[Abi::I386])?);
        }
        Arch::Aarch64 if listed(Listed::ScmpArchArm) => {
            sections.push(reading.section(AUDIT_ARM, &[Abi::Arm])?);
        }
        Arch::X86_64 | Arch::Aarch64 => {}
    }
    Ok(sections)
}

/// Whether any call can be answered by a listener.
pub(super) fn notifies(sections: &[Section]) -> bool {
    let mut verdicts = sections.iter().flat_map(|section| &section.ranges);
    verdicts.any(|(_, verdict)| match verdict {
        Verdict::Always(action) => *action == NOTIFY,
        Verdict::Depends { rules, .. } => rules.iter().any(|rule| rule.action == NOTIFY),
    })
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
        | Action::ScmpActNotify => NO_SUCH_CALL,
    }
}

/// A profile as far as no ABI matters.
#[derive(Debug, Clone, Copy)]
struct Reading<'profile> {
    entries: &'profile [Entry<'profile>],
    default: Return,
    newer: Return,
}

impl Reading<'_> {
    /// Everything that calls with the kernel's name `audit` for their architecture can come to.
    fn section(self, audit: u32, abis: &[Abi]) -> Result<Section, Error> {
        let mut ranges = Ranges::default();
        for abi in abis {
            self.cover(&mut ranges, *abi)?;
        }
        if abis == [Abi::X86_64] {
            ranges.push(X32_BIT, Verdict::Always(KILL_THREAD));
        }
        // A tracer that cancels a call leaves the number -1; that is no call through a foreign ABI.
        ranges.push(u32::MAX, Verdict::Always(self.default));
        Ok(Section { audit, ranges: ranges.0 })
    }

    /// Appends the ranges of one ABI.
    fn cover(self, ranges: &mut Ranges, abi: Abi) -> Result<(), Error> {
        let calls = Calls::of(self, abi)?;
        let (base, end) = match abi {
            Abi::X32 => (X32_BIT, u32::MAX),
            Abi::X86_64 | Abi::I386 | Abi::Aarch64 | Abi::Arm => (0, ARM_PRIVATE),
        };
        ranges.push(base, Verdict::Always(self.default));
        for (number, call) in calls.decided.range(base..end) {
            ranges.call(*number, call, (self.default, self.default));
        }
        // Like runc, which takes the number 0 for none.
        let last = calls.last.filter(|last| *last != 0);
        let after = if last.is_some() { self.newer } else { self.default };
        if let Some(last) = last {
            ranges.push(last + 1, Verdict::Always(after));
        }
        for (number, call) in calls.decided.range(end..) {
            ranges.call(*number, call, (self.default, after));
        }
        Ok(())
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
    /// Takes in every entry; rules that ask for the default action say nothing.
    fn of(reading: Reading<'_>, abi: Abi) -> Result<Self, Error> {
        let mut calls = Self::default();
        for entry in reading.entries {
            let rules: Vec<Vec<_>> = entry.rules.iter().map(|rule| narrowed(rule, abi)).collect();
            for name in entry.names {
                let (number, gate) = (abi.number(name), abi.multiplexed(name));
                let named = [number, gate.map(|(gate, _)| gate)];
                let ordinary = |number: &u32| *number < ARM_PRIVATE || abi == Abi::X32;
                calls.last = calls.last.max(named.into_iter().flatten().filter(ordinary).max());
                if entry.action == reading.default {
                    // The call is known all the same.
                    if let Some(number) = number {
                        calls.decided.entry(number).or_default();
                    }
                    continue;
                }
                if let Some(gate) = gate {
                    calls.through_gate(gate, &rules, entry.action);
                }
                if let Some(number) = number {
                    calls
                        .direct(number, &rules, entry.action)
                        .map_err(|Contradiction| Error::Contradiction { name: name.clone() })?;
                }
            }
        }
        Ok(calls)
    }

    /// One entry's rules on one call; without rules the action is unconditional.
    fn direct(&mut self, number: u32, rules: &[Vec<Condition>], action: Return) -> Result<(), Contradiction> {
        let call = self.decided.entry(number).or_default();
        if rules.is_empty() {
            return call.add(Vec::new(), action);
        }
        rules.iter().try_for_each(|rule| call.add(rule.clone(), action))
    }

    /// The same rules where the call is the first argument of another one. What is asked of the first argument
    /// itself is lost there, so that rules may come to contradict each other; then the first one counts.
    fn through_gate(&mut self, (gate, which): (u32, u64), rules: &[Vec<Condition>], action: Return) {
        let call = self.decided.entry(gate).or_default();
        let selects = Condition { index: 0, test: Test::Equal(which), negated: false, wide: false };
        let unconditional = [Vec::new()];
        for rule in if rules.is_empty() { &unconditional } else { rules } {
            let others = rule.iter().filter(|one| one.index != 0).copied();
            match call.add(std::iter::once(selects).chain(others).collect(), action) {
                Ok(()) | Err(Contradiction) => {}
            }
        }
    }
}

/// What is left of a rule on one ABI.
fn narrowed(rule: &[Comparison], abi: Abi) -> Vec<Condition> {
    rule.iter().filter_map(|one| Condition::new(one, abi)).collect()
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

    /// The verdict on one call, `fallback` where no rule matches, and `after` from the next number on.
    fn call(&mut self, number: u32, call: &Call, (fallback, after): (Return, Return)) {
        let rules: Vec<_> = call.tree.rules().into_iter().cloned().collect();
        let verdict = match call.always {
            Some(action) => Verdict::Always(action),
            None if rules.is_empty() => Verdict::Always(fallback),
            None => Verdict::Depends { rules, fallback },
        };
        self.push(number, verdict);
        self.push(number + 1, Verdict::Always(after));
    }
}
