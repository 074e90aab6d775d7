//! The profile in the terms of the kernel: actions as return values, operators as the tests that BPF has.
//!
//! Nothing here depends on the architecture. Whatever the profile may not say is refused here, by field.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

use super::Error;

const EPERM: u32 = 1;
/// The kernel cuts off a higher errno, and a C library takes it for a result.
const HIGHEST_ERRNO: u32 = 4095;
/// What a tracer is told has 16 bits.
const HIGHEST_TRACE: u32 = 0xffff;

/// What the kernel is told to do: a `SECCOMP_RET_*` value with its data.
pub(super) type Return = u32;
/// `SECCOMP_RET_KILL_THREAD`.
pub(super) const KILL_THREAD: Return = 0;
/// `SECCOMP_RET_USER_NOTIF`.
pub(super) const NOTIFY: Return = 0x7fc0_0000;
/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
pub(super) const NO_SUCH_CALL: Return = 0x0005_0000 | 38;

/// One entry of `syscalls`.
#[derive(Debug)]
pub(super) struct Entry<'profile> {
    /// The calls it speaks of.
    pub(super) names: &'profile [String],
    /// What follows.
    pub(super) action: Return,
    /// Each list is a rule of its own, in which every comparison must hold; none: whatever the arguments.
    pub(super) rules: Vec<Vec<Comparison>>,
}

/// A comparison with one argument, of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Which argument, 0 to 5.
    pub(super) index: u32,
    /// The test; every operator is one of these or its opposite.
    pub(super) test: Test,
    /// The comparison holds when the test fails.
    pub(super) negated: bool,
}

/// The tests that BPF has jumps for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// Equal.
    Equal(u64),
    /// Equal under a mask.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// Greater or equal.
    AtLeast(u64),
    /// Greater.
    Above(u64),
}

/// Reads `profile.syscalls`; entries that ask for the default action stay, as they still name calls.
pub(super) fn entries(profile: &LinuxSeccomp) -> Result<Vec<Entry<'_>>, Error> {
    let listed = profile.syscalls().as_deref().unwrap_or_default();
    listed.iter().enumerate().map(|(place, one)| entry(one, &format!("syscalls[{place}]"))).collect()
}

/// The default action's value.
pub(super) fn default_action(profile: &LinuxSeccomp) -> Result<Return, Error> {
    match profile.default_action() {
        Action::ScmpActNotify => Err(Error::NotifyDefault),
        action => returned(action, profile.default_errno_ret(), || "defaultErrnoRet".to_owned()),
    }
}

fn entry<'profile>(entry: &'profile LinuxSyscall, field: &str) -> Result<Entry<'profile>, Error> {
    let action = returned(entry.action(), entry.errno_ret(), || format!("{field}.errnoRet"))?;
    for (place, name) in entry.names().iter().enumerate() {
        let named = || format!("{field}.names[{place}]");
        if name.is_empty() {
            return Err(Error::EmptyName { field: named() });
        }
        if entry.action() == Action::ScmpActNotify && name == "write" {
            return Err(Error::NotifyWrite { field: named() });
        }
    }
    Ok(Entry { names: entry.names(), action, rules: rules(entry, field)? })
}

/// Comparisons that look at different arguments are one rule; as soon as two look at the same one, each
/// is a rule of its own.
fn rules(entry: &LinuxSyscall, field: &str) -> Result<Vec<Vec<Comparison>>, Error> {
    let arguments = entry.args().as_deref().unwrap_or_default();
    let read = |(place, one)| comparison(one, || format!("{field}.args[{place}].index"));
    let mut all: Vec<_> = arguments.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let twice = |one: &Comparison| all.iter().filter(|other| other.index == one.index).count() > 1;
    Ok(if all.is_empty() {
        Vec::new()
    } else if all.iter().any(twice) {
        all.into_iter().map(|one| vec![one]).collect()
    } else {
        all.sort_by_key(|one| one.index);
        vec![all]
    })
}

/// One comparison.
fn comparison(argument: &LinuxSeccompArg, field: impl Fn() -> String) -> Result<Comparison, Error> {
    let index = match u32::try_from(argument.index()) {
        Ok(index @ 0..=5) => index,
        Ok(_) | Err(_) => return Err(Error::ArgumentIndex { field: field(), index: argument.index() }),
    };
    let value = argument.value();
    let expected = argument.value_two().unwrap_or(0) & value;
    let (test, negated) = match argument.op() {
        Operator::ScmpCmpEq => (Test::Equal(value), false),
        Operator::ScmpCmpNe => (Test::Equal(value), true),
        Operator::ScmpCmpMaskedEq => (Test::Masked { mask: value, value: expected }, false),
        Operator::ScmpCmpGe => (Test::AtLeast(value), false),
        Operator::ScmpCmpLt => (Test::AtLeast(value), true),
        Operator::ScmpCmpGt => (Test::Above(value), false),
        Operator::ScmpCmpLe => (Test::Above(value), true),
    };
    Ok(Comparison { index, test, negated })
}

/// The kernel's value for an action.
fn returned(action: Action, errno: Option<u32>, field: impl Fn() -> String) -> Result<Return, Error> {
    let most = match action {
        Action::ScmpActErrno => Some(HIGHEST_ERRNO),
        Action::ScmpActTrace => Some(HIGHEST_TRACE),
        _ => None,
    };
    let data = errno.unwrap_or(EPERM);
    match (errno, most) {
        (Some(_), None) => return Err(Error::ErrnoUnused { field: field(), action }),
        (Some(value), Some(most)) if value > most => {
            return Err(Error::Errno { field: field(), value, most });
        }
        (Some(_) | None, _) => {}
    }
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => KILL_THREAD,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => 0x0005_0000 | data,
        Action::ScmpActNotify => NOTIFY,
        Action::ScmpActTrace => 0x7ff0_0000 | data,
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    })
}
