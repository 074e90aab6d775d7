//! What is known of one container: its newest instance, the one before, and why it does not run.
//!
//! ```text
//!  absent --Created--> created --Started--> running --Exited--> exited --Created (next attempt)--> created
//!                         \--StartFailed--> exited (128)            \--purged: shown, but counts as absent
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::status::Terminated;
use super::time::Mono;

/// Everything remembered of one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Number of the newest instance that was ever created.
    pub(super) used: Option<u32>,
    /// The published restart count.
    pub(super) restarts: u32,
    /// The newest instance.
    pub(super) newest: Option<Instance>,
    /// The ended instance before it, whose log is kept.
    pub(super) older: Option<Dead>,
    /// `lastState.terminated`.
    pub(super) last: Option<Terminated>,
    /// Why the newest start attempt failed (the kubelet's reason cache).
    pub(super) error: Option<Trouble>,
    /// Crash-loop back-off.
    pub(super) backoff: Option<Backoff>,
    /// The image, as the manifest named it, that the back-off is of.
    pub(super) backoff_of: Option<String>,
    /// The same of the instance that was asked for last, from when its image was.
    pub(super) asked: Option<String>,
    /// Resolved image name and digest reference, once known.
    pub(super) image: Option<(String, String)>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Instance {
    /// Its number.
    pub(super) attempt: u32,
    /// 64 hex digits.
    pub(super) id: String,
    /// The image as the manifest named it.
    pub(super) image: Option<String>,
    /// The image's stop signal.
    pub(super) stop_signal: Option<i32>,
    /// The sandbox it was created in.
    pub(super) sandbox: u32,
    /// Where it stands.
    pub(super) life: Life,
    /// Removed from the runtime: it is still shown, but the pod starts over without it.
    pub(super) purged: bool,
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Life {
    /// Not started yet.
    Created,
    /// Its process runs.
    Running {
        /// For delays.
        since: Mono,
        /// For people.
        started_at: Timestamp,
    },
    /// It ended.
    Exited {
        /// When, for back-off.
        finished: Mono,
        /// As published.
        shown: Terminated,
    },
}

/// An ended instance of which only the log is left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Dead {
    /// Its number.
    pub(super) attempt: u32,
    /// When it ended.
    pub(super) finished: Mono,
}

/// Why a start failed: `state.waiting`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    /// Reference 4.2.
    pub(super) reason: String,
    /// For people.
    pub(super) message: Option<String>,
}

/// How decisions see a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// No instance.
    Absent,
    /// Created, not started.
    Created,
    /// Running instance of this number.
    Running(u32),
    /// Ended with this code; out of memory or not.
    Exited {
        /// Exit code.
        code: i32,
        /// `OOMKilled`.
        oom: bool,
    },
}

impl Record {
    /// The container as decisions see it.
    pub(super) fn seen(&self) -> Seen {
        match &self.newest {
            None => Seen::Absent,
            Some(instance) if instance.purged => Seen::Absent,
            Some(instance) => match &instance.life {
                Life::Created => Seen::Created,
                Life::Running { .. } => Seen::Running(instance.attempt),
                Life::Exited { shown, .. } => {
                    Seen::Exited { code: shown.exit_code, oom: shown.reason.as_deref() == Some("OOMKilled") }
                }
            },
        }
    }

    /// The running instance's number.
    pub(super) fn running(&self) -> Option<u32> {
        match self.seen() {
            Seen::Running(attempt) => Some(attempt),
            Seen::Absent | Seen::Created | Seen::Exited { .. } => None,
        }
    }

    /// The number that the next instance gets.
    pub(super) fn next(&self) -> u32 {
        self.used.map_or(0, |used| used.saturating_add(1))
    }

    /// When the newest ended instance ended: what crash-loop back-off is measured from. For a running
    /// container that is the instance before it.
    pub(super) fn newest_end(&self) -> Option<Mono> {
        match &self.newest {
            Some(Instance { life: Life::Exited { finished, .. }, purged: false, .. }) => Some(*finished),
            _ => self.older.map(|dead| dead.finished),
        }
    }

    /// The termination of the newest instance, if it ended.
    pub(super) fn terminated(&self) -> Option<&Terminated> {
        match &self.newest {
            Some(Instance { life: Life::Exited { shown, .. }, .. }) => Some(shown),
            _ => None,
        }
    }

    /// Takes a new instance in; answers the instance whose log is to go.
    pub(super) fn begin(&mut self, instance: Instance) -> Option<u32> {
        let mut dropped = None;
        if let Some(before) = self.newest.take()
            && let Life::Exited { finished, shown } = before.life
        {
            self.last = Some(shown);
            if !before.purged {
                dropped = self.older.map(|dead| dead.attempt);
                self.older = Some(Dead { attempt: before.attempt, finished });
            }
        }
        self.used = Some(instance.attempt);
        self.restarts = instance.attempt;
        self.newest = Some(instance);
        dropped
    }

    /// Forgets the newest instance: it is not known to the runtime any more, and counts as a restart.
    pub(super) fn lose(&mut self, shown: Terminated, counts: bool) {
        self.newest = None;
        self.last = Some(shown);
        if counts {
            self.restarts = self.next();
        }
    }
}
