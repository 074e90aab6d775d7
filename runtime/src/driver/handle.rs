//! What the front doors (the API's socket) hold of a running pod: they look, follow changes, and give
//! orders, each answered once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hull_shim::wire::{Exit, Statistics};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use crate::core::status::Deletion;
use crate::core::status::{Event, PodStatus};
use crate::manifest::pod::ContainerName;
use crate::manifest::{Invalid, raw};

/// Everything that readers see of a pod, at one generation. Durable before it is seen here.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The Pod object as it was accepted, or as it was changed last.
    pub object: Arc<Value>,
    /// Only grows; the `resourceVersion` of the API.
    pub generation: u64,
    /// Set once deletion was asked for.
    pub deletion: Option<Deletion>,
    /// The Kubernetes status.
    pub status: PodStatus,
}

/// One thing that changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// The pod shows something new.
    Pod(Arc<View>),
    /// An event was recorded or counted up.
    Event(Arc<Event>),
    /// The pod is gone; the last view of it.
    Gone(Arc<View>),
}

/// The current view and all recorded events.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The pod.
    pub view: Arc<View>,
    /// Newest row of each event, oldest first.
    pub events: Vec<Arc<Event>>,
}

/// An order to the driver.
#[derive(Debug)]
pub enum Order {
    /// Delete the pod.
    Delete {
        /// `gracePeriodSeconds` of the request.
        grace_seconds: Option<i64>,
        /// The view with its deletion timestamp.
        reply: oneshot::Sender<Result<Arc<View>, Refusal>>,
    },
    /// Replace the pod's manifest.
    Replace {
        /// The new one.
        pod: Box<raw::Pod>,
        /// The view with it.
        reply: oneshot::Sender<Result<Arc<View>, Refusal>>,
    },
    /// Run a process in a container.
    Exec {
        /// Where.
        container: ContainerName,
        /// Command vector, not empty.
        args: Vec<String>,
        /// Terminal of these columns and rows.
        tty: Option<(u16, u16)>,
        /// Connect a standard input; else it reads nothing.
        stdin: bool,
        /// Its streams, once it runs.
        reply: oneshot::Sender<Result<Session, Refusal>>,
    },
    /// Join a container's own streams.
    Attach {
        /// Where.
        container: ContainerName,
        /// Connect its standard input.
        stdin: bool,
        /// Its streams.
        reply: oneshot::Sender<Result<Session, Refusal>>,
    },
    /// Whether a container runs; a published state may lag behind, as while a postStart hook runs.
    Running {
        /// Which.
        container: ContainerName,
        /// It does, or why not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Usage of a container, or of the pod.
    Statistics {
        /// Whose.
        container: Option<ContainerName>,
        /// The figures.
        reply: oneshot::Sender<Result<Statistics, Refusal>>,
    },
    /// A ConfigMap, Secret or Service was applied or removed.
    ObjectsChanged,
}

/// The streams of an exec'd process or of an attached container. Non-blocking descriptors.
#[derive(Debug)]
pub struct Session {
    /// Writes to its standard input; dropping it closes that. With a terminal, input goes to `terminal`.
    pub stdin: Option<OwnedFd>,
    /// What it prints.
    pub output: Output,
    /// How it ended; comes after the last byte was written (not necessarily read). An attach has none.
    pub exit: Option<oneshot::Receiver<Exit>>,
    /// New window sizes go here.
    pub resize: mpsc::Sender<(u16, u16)>,
}

/// Where a session's output is read.
#[derive(Debug)]
pub enum Output {
    /// stdout and stderr of a process without a terminal.
    Pipes {
        /// stdout.
        stdout: OwnedFd,
        /// stderr.
        stderr: OwnedFd,
    },
    /// A pty master: input is written and output read here.
    Terminal(OwnedFd),
    /// Packets whose first byte names the stream, 1 or 2 (attach).
    Packets(OwnedFd),
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `container not found ("app")`: it is not running.
    #[error("container not found ({0:?})")]
    NotRunning(String),
    /// The pod is over.
    #[error("cannot exec into a container in a completed pod; current phase is {0}")]
    Completed(String),
    /// The new manifest is of another pod, or of another state of this one.
    #[error("Operation cannot be fulfilled on pods {name:?}: {why}")]
    Conflict {
        /// The pod's name.
        name: String,
        /// What does not match.
        why: String,
    },
    /// The new manifest asks for what may not change.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The command could not be started.
    #[error("{0}")]
    Failed(String),
    /// The driver ends.
    #[error("the pod's supervisor is ending")]
    Ending,
}

/// A front door's handle on the pod; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    changes: broadcast::Sender<Change>,
}

impl Handle {
    /// Puts the three channels together; the driver keeps their other ends.
    #[must_use]
    pub fn new(
        orders: mpsc::Sender<Order>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        changes: broadcast::Sender<Change>,
    ) -> Self {
        Self { orders, snapshot, changes }
    }

    /// What there is now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// What there is now, and every change after it in order. A reader that falls far behind sees
    /// `Lagged` and starts again.
    #[must_use]
    pub fn follow(&self) -> (Arc<Snapshot>, broadcast::Receiver<Change>) {
        let changes = self.changes.subscribe();
        (self.snapshot(), changes)
    }

    /// Gives an order made from its reply channel, and waits for the answer.
    ///
    /// # Errors
    /// The driver's refusal, or [`Refusal::Ending`] when there is no driver any more.
    pub async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Order,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| Refusal::Ending)?;
        answer.await.map_err(|_| Refusal::Ending)?
    }

    /// Gives an order that has no answer.
    ///
    /// # Errors
    /// [`Refusal::Ending`] when there is no driver any more.
    pub async fn tell(&self, order: Order) -> Result<(), Refusal> {
        self.orders.send(order).await.map_err(|_| Refusal::Ending)
    }
}
