//! The harness: what the cases need to drive hull's built binaries against a real kernel.
//!
//! A case makes a [`Host`]: a `--root` directory and a network namespace of its own that plays the machine, in
//! which every `hull` command runs. What a case leaves behind is found by [`Host::leftovers`], and removed when
//! the `Host` goes, also when the case fails. Cases run side by side: no port, name or address is fixed.
//!
//! **Invariant:** only processes found by the host's own records are killed, by pid.
//! **Invariant:** every wait has a deadline.

pub mod binaries;
pub mod command;
pub mod criu;
pub mod host;
pub mod leftovers;
pub mod machine;
pub mod pod;
pub mod pod_files;
pub mod process;
pub mod wait;
pub mod watch;

pub use command::{Output, Running};
pub use host::Host;
pub use machine::Machine;
pub use pod_files::PodFiles;
pub use wait::wait_until;
pub use watch::Watch;

/// Ends a case that cannot run here: prints why, or fails when `HULL_TEST_ROOT` is set (`make test-root`).
///
/// Use it through [`skip!`], which also returns from the case.
///
/// # Panics
/// When `HULL_TEST_ROOT` is set: that is its purpose.
pub fn note_skip(reason: &str) {
    assert!(std::env::var_os("HULL_TEST_ROOT").is_none(), "cannot run here: {reason}");
    eprintln!("skipped: {reason}");
}

/// Leaves a case that cannot run here: `skip!("no nginx image: {why}")`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::note_skip(&format!($($reason)+));
        return;
    }};
}

/// A [`Host`] with the test images, or the end of the case where there cannot be one.
#[macro_export]
macro_rules! host {
    () => {
        match $crate::Host::new() {
            Ok(host) => host,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}
