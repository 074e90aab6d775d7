//! Waiting for a condition, never for a time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(30);

/// Looks at `condition` until it yields something, and panics with `what` and the last reason at the deadline.
///
/// # Panics
/// When the time is up: the case has failed.
pub fn wait_until<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let (start, limit) = (now(), patience(limit));
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > limit => panic!("no {what} within {limit:?}: {reason}"),
            Err(_) => pause(INTERVAL),
        }
    }
}

/// How long to wait here for what elsewhere takes `limit` at most: `HULL_TEST_SLOWNESS` times as long, a whole
/// number, for machines whose system calls are slow.
#[must_use]
pub fn patience(limit: Duration) -> Duration {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    let given = || std::env::var("HULL_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok());
    limit * *SLOWNESS.get_or_init(|| given().unwrap_or(1).max(1))
}

/// The one clock of the tests.
#[expect(clippy::disallowed_methods, reason = "tests against a real kernel run in real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The one sleep of the tests, between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "a condition outside this process is polled")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
