//! The profile read plainly, call by call, without any tree.

use oci_spec::runtime::{
    Arch as Listed, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::super::Arch;
use super::super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::super::rules::{AUDIT_AARCH64, AUDIT_ARM, AUDIT_I386, AUDIT_X86_64};
use super::machine::Data;
use super::{ENOSYS, KILL, action_value};

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

/// The verdicts that the profile allows for, read plainly: several where several rules match.
pub(super) fn expected(profile: &LinuxSeccomp, arch: Arch, data: &Data) -> Vec<u32> {
    let default = action_value(profile.default_action(), profile.default_errno_ret());
    let Some(abi) = abi(profile, arch, data) else {
        return vec![KILL];
    };
    if data.number == u32::MAX {
        return vec![default];
    }
    let (mut always, mut matching, mut last, mut named) = (None, Vec::new(), None, false);
    for rule in profile.syscalls().iter().flatten() {
        let action = action_value(rule.action(), rule.errno_ret());
        for name in rule.names() {
            let (direct, gate) = (abi.number(name), abi.multiplexed(name));
            named |= direct == Some(data.number);
            let highest = direct.max(gate.map(|(number, _)| number));
            last = last.max(highest.filter(|number| *number < ARM_PRIVATE || abi == Abi::X32));
            if action == default {
                continue;
            }
            let plain = always_holds(rule, abi);
            if direct == Some(data.number) && plain {
                always = always.or(Some(action));
            }
            let through_gate = gate == Some((data.number, data.arguments[0] & 0xffff_ffff))
                && (plain || all_hold(&without_first(rule), data, abi));
            if through_gate || (direct == Some(data.number) && !plain && all_hold(rule, data, abi)) {
                matching.push(action);
            }
        }
    }
    let refuses =
        !matches!(profile.default_action(), Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace);
    let newer = refuses && !named && last.is_some_and(|last| last != 0 && data.number > last);
    match (always, matching.is_empty(), newer) {
        (Some(always), ..) => vec![always],
        (None, false, _) => matching,
        (None, true, newer) => vec![if newer { ENOSYS } else { default }],
    }
}

/// What is left of a rule where the first argument is another one.
fn without_first(rule: &LinuxSyscall) -> LinuxSyscall {
    let mut rule = rule.clone();
    let arguments = rule.args().as_deref().unwrap_or_default();
    let shared =
        arguments.iter().any(|one| arguments.iter().filter(|two| one.index() == two.index()).count() > 1);
    let others: Vec<_> = arguments.iter().filter(|one| one.index() != 0).copied().collect();
    // Of alternatives, one that asks for nothing else than the first argument lets everything through.
    let everything = shared && others.len() != arguments.len();
    rule.set_args(Some(if everything { Vec::new() } else { others }));
    rule
}

/// Whether nothing is asked of the arguments: masks without a bit ask for nothing.
fn always_holds(rule: &LinuxSyscall, abi: Abi) -> bool {
    let arguments = rule.args().as_deref().unwrap_or_default();
    let shared =
        arguments.iter().any(|one| arguments.iter().filter(|two| one.index() == two.index()).count() > 1);
    let wide = matches!(abi, Abi::X86_64 | Abi::Aarch64);
    let mut each = arguments.iter().map(|one| {
        let mask = if wide { one.value() } else { one.value() & 0xffff_ffff };
        one.op() == Operator::ScmpCmpMaskedEq && mask == 0
    });
    arguments.is_empty() || if shared { each.any(|one| one) } else { each.all(|one| one) }
}
