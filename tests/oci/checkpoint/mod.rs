//! `checkpoint` and `restore` (oci-runtime.md 2.4), with a criu that works on this kernel.

mod failures;
mod flags;
mod life;
mod outside;
mod sockets;
mod streams;

use std::process::Stdio;
use std::time::Duration;

use hull_tests::{Output, wait_until};

use crate::bundle::Bundle;

/// How long a container may take to do the next thing, on a machine that others use.
const LIMIT: Duration = Duration::from_secs(30);

/// Counts in a file of its root, for ever.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i > /work/count; sleep 0.05; done";

/// A bundle whose container counts and whose runtime finds criu, or the end of the case where there cannot be one.
macro_rules! counting {
    () => {{
        let mut bundle = bundle!();
        if hull_tests::criu::is_foreign_machine() {
            return println!("left out: criu does not dump processes of User-mode Linux");
        }
        match hull_tests::criu::path() {
            Ok(path) => bundle.look_in(path).script($crate::checkpoint::COUNTER),
            Err(reason) => hull_tests::skip!("{reason}"),
        };
        bundle
    }};
}
use counting;

/// `run --detach`, with nothing from outside open.
#[track_caller]
fn up(bundle: &Bundle) {
    let mut command = bundle.command(&["run", "-d", &bundle.id]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
}

#[track_caller]
fn checkpoint(bundle: &Bundle, flags: &[&str]) -> Output {
    bundle.oci(&[&["checkpoint"], flags, &[&bundle.id]].concat())
}

#[track_caller]
fn restore(bundle: &Bundle, flags: &[&str]) -> Output {
    bundle.detached(&[&["restore", "-d"], flags, &[&bundle.id]].concat())
}

/// Where the counter is; it may be writing.
fn count(bundle: &Bundle) -> Option<u64> {
    bundle.read("rootfs/work/count").trim().parse().ok()
}

/// Waits until the counter is beyond `least`; where it is then.
#[track_caller]
fn counts_beyond(bundle: &Bundle, least: u64) -> u64 {
    wait_until(LIMIT, "the next count", || match count(bundle) {
        Some(count) if count > least => Ok(count),
        other => Err(format!("{other:?} is not beyond {least}")),
    })
}

/// Takes a container that counts away and back, with `meanwhile` between, and waits until it counts on.
#[track_caller]
fn there_and_back(bundle: &Bundle, flags: &[&str], meanwhile: impl FnOnce()) {
    let at = counts_beyond(bundle, 3);
    checkpoint(bundle, flags).ok();
    meanwhile();
    restore(bundle, flags).ok();
    counts_beyond(bundle, at);
}

/// What a container that ended left: the runtime knows nothing of it.
#[track_caller]
fn assert_unknown(bundle: &Bundle) {
    assert!(bundle.oci(&["state", &bundle.id]).fails(1).contains("does not exist"));
    bundle.assert_gone();
}
