//! The state of a pod's life: the record on disk.
//!
//! ```text
//!  Syncing --deleted, or nothing runs any more, or past its deadline--> Terminating (kill all, stop sandbox)
//!     --> Terminated (final status; stays so until deleted) --deleted--> Finished
//! ```
//! No way leads back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::Action;
use super::backoff::Backoff;
use super::change::digest;
use super::events::{Counter, whole_seconds};
use super::input::{Input, InstanceId};
use super::kill::Kill;
use super::pass::Pass;
use super::record::Record;
use super::status::Deletion;
use super::status::PodStatus;
use super::time::{Mono, Now};
use super::turn::Turn;
use super::worker::Worker;
use crate::manifest::pod::Pod;

/// Everything that a pod's life needs. Written whole after each step; it continues identically when read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) node: String,
    pub(super) generation: u64,
    /// Digest of the manifest that readers were told of; not known of pods of earlier versions of hull.
    #[serde(default)]
    pub(super) manifest: Option<String>,
    /// When the pod was first handled.
    pub(super) since: Mono,
    pub(super) start_time: Timestamp,
    /// The newest moment that was seen.
    pub(super) last: Mono,
    pub(super) stage: Stage,
    pub(super) sandbox: Sandbox,
    pub(super) volumes_ready: bool,
    /// By container name.
    pub(super) records: BTreeMap<String, Record>,
    pub(super) pass: Option<Pass>,
    /// A pass is due now.
    pub(super) again: bool,
    /// A pass is due then, because the last one failed.
    pub(super) retry_at: Option<Mono>,
    /// The outcome of a failed pass is published then (the kubelet's relist).
    pub(super) show_at: Option<Mono>,
    /// Kills under way, by container name.
    pub(super) kills: BTreeMap<String, Kill>,
    pub(super) workers: Vec<Worker>,
    /// Back-off of pulls and the newest pull error, by image.
    pub(super) pulls: BTreeMap<String, (Backoff, String)>,
    pub(super) events: Counter,
    pub(super) deletion: Option<Deletion>,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) deadline_passed: bool,
    /// `RestartAllContainers` is being carried out.
    pub(super) restarting_all: bool,
    pub(super) published: PodStatus,
    /// Actions of the newest step that nobody answers; given again if the supervisor died over them.
    pub(super) unconfirmed: Vec<Action>,
}

/// Where the pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Passes start and restart containers.
    Syncing,
    /// Everything is being stopped.
    Terminating,
    /// Nothing runs, and the final status is published.
    Terminated,
    /// `Finish` was asked for.
    Finished,
}

/// The newest sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sandbox {
    pub(super) attempt: u32,
    pub(super) standing: Standing,
    /// One stood at some time.
    pub(super) made: bool,
    pub(super) ips: Vec<IpAddr>,
    pub(super) host_ips: Vec<IpAddr>,
    /// The sandbox whose `resolv.conf` was warned about last.
    pub(super) warned: Option<u32>,
}

/// How the newest sandbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// The first one, made before the core exists.
    Coming,
    /// Ready.
    Up,
    /// Its pause ended.
    Dead,
    /// Making it failed.
    Failed,
    /// Nothing of it is left.
    Gone,
}

impl State {
    /// The state of a pod that has just been accepted, with its first events and status.
    #[must_use]
    pub fn new(pod: &Pod, node: &str, now: Now) -> (Self, Vec<Action>) {
        let records = pod
            .spec
            .all_containers()
            .map(|container| (container.name.as_str().to_owned(), Record::default()))
            .collect();
        let state = Self {
            node: node.to_owned(),
            generation: 0,
            manifest: Some(digest(pod)),
            since: now.mono,
            start_time: whole_seconds(now.wall),
            last: now.mono,
            stage: Stage::Syncing,
            sandbox: Sandbox {
                attempt: 0,
                standing: Standing::Coming,
                made: false,
                ips: Vec::new(),
                host_ips: Vec::new(),
                warned: None,
            },
            volumes_ready: false,
            records,
            pass: None,
            again: true,
            retry_at: None,
            show_at: None,
            kills: BTreeMap::new(),
            workers: Vec::new(),
            pulls: BTreeMap::new(),
            events: Counter::default(),
            deletion: None,
            deleted_at: None,
            deadline_passed: false,
            restarting_all: false,
            published: PodStatus::default(),
            unconfirmed: Vec::new(),
        };
        let mut turn = Turn::new(state, pod, now);
        turn.scheduled();
        turn.publish_now();
        turn.finish()
    }

    /// Takes one piece of news in. The answer is the next state, and what is to be done in this order.
    #[must_use]
    pub fn step(self, pod: &Pod, input: Input, now: Now) -> (Self, Vec<Action>) {
        let mut turn = Turn::new(self, pod, now);
        turn.settle_workers();
        let over = turn.may_finish();
        turn.take(input);
        turn.advance();
        if over {
            turn.let_go();
        }
        turn.finish()
    }

    /// The next moment at which a [`Input::Tick`] is due; none while there is nothing to wait for.
    #[must_use]
    pub fn wake(&self, pod: &Pod) -> Option<Mono> {
        match self.stage {
            Stage::Finished => None,
            Stage::Terminated => self.deletion.map(|_| self.last),
            Stage::Syncing | Stage::Terminating => {
                [self.kill_wake(), self.pass_wake(pod), self.worker_wake(pod)].into_iter().flatten().min()
            }
        }
    }

    /// The published status. While a pass is blocked this is the status of its beginning.
    #[must_use]
    pub fn status(&self, _pod: &Pod) -> PodStatus {
        self.published.clone()
    }

    /// The running instance of a container, also while the published status does not show it yet.
    #[must_use]
    pub fn running(&self, container: &str) -> Option<InstanceId> {
        let attempt = self.records.get(container)?.running()?;
        Some(InstanceId { container: container.to_owned(), attempt })
    }

    /// Deletion, once it was asked for.
    #[must_use]
    pub fn deletion(&self) -> Option<Deletion> {
        self.deletion
    }

    /// Grows with every change of status or deletion.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this state, which came after `before`, must be on disk before its actions are carried out. Ticks and
    /// attempts of probes that bring nothing new need not: recovery makes up for them.
    #[must_use]
    pub fn must_be_written(&self, before: &Self) -> bool {
        let sends_signal =
            |state: &Self| state.unconfirmed.iter().any(|action| matches!(action, Action::Signal { .. }));
        if sends_signal(self) || sends_signal(before) {
            return self != before;
        }
        let settled = |state: &Self| Self {
            last: Mono::default(),
            unconfirmed: Vec::new(),
            workers: state.workers.iter().map(Worker::settled).collect(),
            ..state.clone()
        };
        settled(self) != settled(before)
    }

    /// Whether [`Action::Finish`] was asked for: the pod's life is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }
}
