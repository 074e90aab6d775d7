//! Guards that a test can take out, so that it is known to test something: the attack it makes succeeds then.
//!
//! Unit tests take them out of their own process, tests of the built `hull-oci` by its variable `HULL_WITHOUT` (names
//! with commas between). A release build has neither: there [`is_off`] is a constant, and the careless ways behind it are
//! not compiled in.

/// One guard of oci-runtime.md section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Guard {
    /// Paths stay inside the root (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579).
    InRoot = 1,
    /// No mount lands in procfs (CVE-2019-16884, CVE-2023-28642).
    Procfs = 1 << 1,
    /// proc and sysfs are mounted on ordinary directories only (CVE-2019-19921, CVE-2023-27561).
    Ordinary = 1 << 2,
    /// What masks files, and what is `/dev/null` to begin with, is the null device (CVE-2025-31133).
    Null = 1 << 3,
    /// Masks are made of the runtime's own null device, not of the image's.
    OwnNull = 1 << 13,
    /// Nobody looks into a process that joins (CVE-2016-9962).
    Hidden = 1 << 4,
    /// An init that joins a PID namespace is seen there once it has the rights of its container, not before.
    Unseen = 1 << 14,
    /// The program's own file cannot be written to (CVE-2019-5736).
    OwnFile = 1 << 5,
    /// The first two of its ways, from a read-only mount; the sealed copy is left.
    ReadOnlySelf = 1 << 6,
    /// The first of them, without `execve`.
    Exchange = 1 << 15,
    /// Nothing is inheritable that the configuration does not list (CVE-2022-29162).
    Inheritable = 1 << 7,
    /// The cgroups of the host are read-only in a user namespace (CVE-2023-25809).
    Cgroup = 1 << 8,
    /// Descriptors of the caller are closed (CVE-2024-21626).
    Closed = 1 << 9,
    /// The working directory is inside (CVE-2024-21626).
    Inside = 1 << 10,
    /// A terminal comes from a real devpts, and `/dev/console` is no link (CVE-2025-52565).
    Terminal = 1 << 11,
    /// What is written to procfs goes through a verified handle (CVE-2025-52881).
    PrivateProcfs = 1 << 12,
}

#[cfg(any(test, debug_assertions))]
static OFF: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Whether a test has taken this guard out.
#[cfg(any(test, debug_assertions))]
pub(crate) fn is_off(guard: Guard) -> bool {
    OFF.load(std::sync::atomic::Ordering::Relaxed) & guard as u32 != 0
}

/// Whether a test has taken this guard out.
#[cfg(not(any(test, debug_assertions)))]
pub(crate) const fn is_off(_: Guard) -> bool {
    false
}

/// Takes guards out of this process and those that it forks.
#[cfg(any(test, debug_assertions))]
pub(crate) fn take_out(guards: &[Guard]) {
    let all = guards.iter().fold(0, |all, guard| all | *guard as u32);
    OFF.store(all, std::sync::atomic::Ordering::Relaxed);
}

/// Takes out what a test names in the environment; a name that there is not is returned.
#[cfg(debug_assertions)]
pub(crate) fn take_out_named() -> Result<(), String> {
    const NAMES: [(&str, Guard); 16] = [
        ("in-root", Guard::InRoot),
        ("procfs", Guard::Procfs),
        ("ordinary", Guard::Ordinary),
        ("null", Guard::Null),
        ("own-null", Guard::OwnNull),
        ("hidden", Guard::Hidden),
        ("own-file", Guard::OwnFile),
        ("read-only-self", Guard::ReadOnlySelf),
        ("exchange", Guard::Exchange),
        ("inheritable", Guard::Inheritable),
        ("cgroup", Guard::Cgroup),
        ("closed", Guard::Closed),
        ("inside", Guard::Inside),
        ("terminal", Guard::Terminal),
        ("private-procfs", Guard::PrivateProcfs),
        ("unseen", Guard::Unseen),
    ];
    let Ok(given) = std::env::var("HULL_WITHOUT") else { return Ok(()) };
    let guard = |name: &str| {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, guard)| *guard).ok_or_else(|| name.to_owned())
    };
    let named = given.split(',').filter(|name| !name.is_empty());
    take_out(&named.map(guard).collect::<Result<Vec<_>, _>>()?);
    Ok(())
}
