//! `get pods -w`: what a user who watches sees of each pod over time.

use std::time::Duration;

use crate::command::Running;
use crate::wait::wait_until;

/// A `get pods -w` in the background.
#[derive(Debug)]
pub struct Watch {
    program: Running,
}

impl Watch {
    pub(crate) fn of(program: Running) -> Self {
        Self { program }
    }

    /// The states of one pod so far, each `READY STATUS`; rows that differ in other columns alone are one state.
    #[must_use]
    pub fn states(&self, pod: &str) -> Vec<String> {
        let mut states: Vec<String> = Vec::new();
        for line in self.program.lines() {
            let mut columns = line.split_whitespace();
            if columns.next() != Some(pod) {
                continue;
            }
            let state = columns.take(2).collect::<Vec<_>>().join(" ");
            if states.last() != Some(&state) {
                states.push(state);
            }
        }
        states
    }

    /// Waits until the newest state of a pod is `state`.
    ///
    /// # Panics
    /// When it is not within `limit`.
    #[track_caller]
    pub fn wait_state(&self, pod: &str, limit: Duration, state: &str) {
        wait_until(limit, &format!("{pod} {state}"), || {
            let states = self.states(pod);
            if states.last().is_some_and(|last| last == state) { Ok(()) } else { Err(states.join(", ")) }
        });
    }
}
