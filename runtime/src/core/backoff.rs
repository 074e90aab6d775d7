//! Back-off of restarts and of image pulls: 10 s, doubled up to 300 s, forgotten after 600 s (reference 4.5, 4.6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Mono;

const BASE: Duration = Duration::from_secs(10);
const CAP: Duration = Duration::from_secs(300);

/// How long to wait after a failure, and when that was last raised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Backoff {
    /// The wait.
    pub(super) value: Duration,
    updated: Mono,
}

impl Backoff {
    /// The moment until which the start is put off, counted from `event`; none if it may go ahead now.
    pub(super) fn until(entry: Option<Self>, event: Mono, now: Mono) -> Option<Mono> {
        let entry = entry.filter(|entry| !entry.expired(event))?;
        let until = event + entry.value;
        (now < until).then_some(until)
    }

    /// The same for images, counted from the moment of the last failure.
    pub(super) fn pull_until(entry: Option<Self>, now: Mono) -> Option<Mono> {
        let entry = entry.filter(|entry| !entry.expired(now))?;
        let until = entry.updated + entry.value;
        (now < until).then_some(until)
    }

    /// The entry after a start attempt (or failed pull) at `now` because of an `event`.
    pub(super) fn raise(entry: Option<Self>, event: Mono, now: Mono) -> Self {
        let value = match entry.filter(|entry| !entry.expired(event)) {
            Some(entry) => (entry.value * 2).min(CAP),
            None => BASE,
        };
        Self { value, updated: now }
    }

    fn expired(&self, event: Mono) -> bool {
        event.since(self.updated) > CAP * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        let mut entry = None;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = Backoff::raise(entry, at(0), at(0));
            waits.push(next.value.as_secs());
            entry = Some(next);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn an_exit_long_after_the_last_raise_starts_anew() {
        let entry = Some(Backoff { value: CAP, updated: at(0) });
        assert_eq!(Backoff::until(entry, at(601), at(601)), None);
        assert_eq!(Backoff::raise(entry, at(601), at(601)).value, BASE);
        assert_eq!(Backoff::until(entry, at(600), at(600)), Some(at(900)));
    }
}
