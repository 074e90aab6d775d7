//! Real shims with real containers, in a mount namespace of their own.
//!
//! This program is also the `hull` that those shims find beside themselves: as `hull supervise` it hands its
//! socket to the test and waits, as `hull task` it answers canned JSON.
#![expect(clippy::unwrap_used, reason = "a test, which clippy does not see since it has its own main")]

mod bundle;
mod cases;
mod cost;
mod engines;
mod faults;
mod growth;
mod keeper;
mod logs;
mod looks;
mod pod;
mod stand_in;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(status) = stand_in::run(&arguments) {
        return status;
    }
    let filters: Vec<&String> = arguments.iter().skip(1).filter(|one| !one.starts_with('-')).collect();
    let chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    if arguments.iter().any(|one| one == "--list") {
        all().filter(|(name, _)| chosen(name)).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = pod::cannot_run() {
        println!("skipped: {reason}");
        let demanded = std::env::var_os("HULL_TEST_ROOT").is_some();
        return if demanded { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    pod::isolate();
    if arguments.iter().any(|one| one == "--cost") {
        cost::print(&chosen);
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, case) in all().filter(|(name, _)| chosen(name)) {
        let passed = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All cases, in the order in which they run.
fn all() -> impl Iterator<Item = &'static cases::Case> {
    [cases::ALL, faults::ALL, keeper::ALL, logs::ALL, engines::ALL, growth::ALL].into_iter().flatten()
}
