//! EFFECTS: one task per pod that feeds observations to `core` and carries its actions out.
//!
//! ```text
//!   shim's reports ──┐                            ┌─> record on disk ─> journal ─> front doors
//!   orders (API) ────┼─> Input ─> core::step ─────┤
//!   answers, clock ──┘                            └─> actions ─> tasks (hands) ─> answers
//! ```
//!
//! **Invariant:** only the driver changes a pod's state; every front door translates and waits.
//! **Invariant:** what a step decided is on disk before an action is carried out or a reader told.
//! When the shim is gone nothing can be decided any more and the supervisor ends, so that its silent socket
//! tells whoever asks next to start a successor of the shim; that starts a supervisor, which goes on from the record.

pub mod clock;
pub mod container;
pub mod endpoints;
pub mod exec;
pub mod handle;
pub mod handler;
pub mod hands;
pub mod objects;
pub mod orders;
pub mod privileges;
pub mod readiness;
pub mod record;
pub mod resolve;
pub mod shim;
pub mod versions;
pub mod volumes;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hull_shim::layout::Layout;
use hull_shim::wire::{self, InstanceState, Inventory, Report};
use tokio::sync::{broadcast, mpsc, watch};

use crate::core::State;
use crate::core::action::Action;
use crate::core::input::Input;
use crate::manifest;
use crate::store::file::FileError;
use crate::store::journal::Journal;
use handle::{Change, Handle, Order, Snapshot, View};
use hands::{Hands, Leaving};
use versions::Version;

/// How long the shim may take to say hello: the pod's network is made meanwhile.
const HELLO_LIMIT: Duration = Duration::from_secs(60);
/// Changes kept for a slow reader before it has to start again.
const CHANGES_KEPT: usize = 256;

/// Why a supervisor ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the pod cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The accepted manifest is not what `hull apply` wrote.
    #[error("the pod's manifest.json is damaged")]
    Manifest(#[from] manifest::Error),
    /// The record is damaged.
    #[error("the pod's record.json is damaged")]
    Record(#[from] record::Damaged),
    /// The shim died before it said anything.
    #[error("the shim is gone before it said hello")]
    NoShim,
    /// The shim does not talk.
    #[error("the shim did not say hello within {} s", HELLO_LIMIT.as_secs())]
    NoHello,
    /// The shim speaks another version of the wire.
    #[error(
        "the shim speaks version {theirs} of the wire, this supervisor {}; apply the pod again",
        wire::VERSION
    )]
    Version {
        /// The shim's.
        theirs: u32,
    },
    /// It may not run unconfined.
    #[error(transparent)]
    Confine(#[from] hull_shim::confine::Error),
    /// The kernel refuses what a supervisor cannot do without.
    #[error("cannot {0}")]
    System(&'static str, #[source] std::io::Error),
}

/// For a message whose receiver may be gone, which is no failure.
pub fn unheard<T, E>(_: Result<T, E>) {}

/// Between two attempts to write to a disk that refuses.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// How long readers may take to hear that the pod is gone.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Runs the supervisor of the pod `uid` over the socketpair that the shim made.
///
/// # Errors
/// What kept it from beginning; once it runs it ends only with the pod.
pub async fn run(layout: Layout, uid: &str, socket: OwnedFd) -> Result<(), Error> {
    let pod = layout.pod(uid);
    let text = crate::store::file::read(&pod.manifest())?;
    let accepted = manifest::reload(&text)?;
    let shim = shim::Shim::new(socket).map_err(|error| Error::System("use the socket to the shim", error))?;
    let (report, mut reports) = mpsc::unbounded_channel();
    let listening = tokio::task::spawn_local(shim.clone().listen(report));
    let hello = tokio::time::timeout(HELLO_LIMIT, reports.recv()).await;
    let inventory = match hello {
        Ok(Some(Report::Hello(inventory))) => inventory,
        Ok(None) => return Err(Error::NoShim),
        Ok(Some(_)) | Err(_) => return Err(Error::NoHello),
    };
    if inventory.version != wire::VERSION {
        return Err(Error::Version { theirs: inventory.version });
    }
    let (input, inputs) = mpsc::unbounded_channel();
    let hands = Rc::new(Hands::new(layout, accepted, shim, input, &inventory));
    tokio::select! {
        ended = live(hands, *inventory, inputs, reports) => ended,
        _ = listening => {
            tracing::warn!("the shim is gone; this supervisor ends, and its successor starts another");
            Ok(())
        }
    }
}

/// Takes the pod up and serves it until its end, or that of the sandbox that this process is in.
async fn live(
    hands: Rc<Hands>,
    inventory: Inventory,
    inputs: mpsc::UnboundedReceiver<Input>,
    reports: mpsc::UnboundedReceiver<Report>,
) -> Result<(), Error> {
    let (driver, orders) = Driver::new(hands.clone(), inventory).await?;
    driver.serve()?;
    hands.seen(&driver.handle.snapshot().view);
    objects::serve_names(&hands).await;
    privileges::drop_all_but_files().map_err(|error| Error::System("give up capabilities", error))?;
    hull_shim::confine::supervisor()?;
    hands.set_confined();
    tokio::task::spawn_local(objects::watch(hands.clone()));
    tokio::task::spawn_local(volumes::keep_up_to_date(hands.clone()));
    tokio::task::spawn_local(endpoints::watch(hands));
    driver.turn(inputs, reports, orders).await;
    Ok(())
}

/// The one owner of the pod's state.
struct Driver {
    hands: Rc<Hands>,
    /// Taken out only while a step is made from it.
    state: Option<State>,
    journal: Journal,
    handle: Handle,
    snapshot: watch::Sender<Arc<Snapshot>>,
    changes: broadcast::Sender<Change>,
}

impl Driver {
    /// Takes the pod up: from its record, or at the beginning of its life.
    async fn new(hands: Rc<Hands>, inventory: Inventory) -> Result<(Self, mpsc::Receiver<Order>), Error> {
        let journal = Journal::open(&hands.files().events())?;
        let recorded = record::load(&hands.files().record())?;
        let recovered = recorded.is_some();
        let (state, actions) = match recorded {
            Some(state) => (state, Vec::new()),
            None => State::new(&hands.pod(), hands.node(), clock::now()),
        };
        let (order, orders) = mpsc::channel(16);
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let first =
            Arc::new(Snapshot { view: Arc::new(view(&state, &hands)), events: journal.rows().to_vec() });
        let (snapshot, seen) = watch::channel(first);
        let handle = Handle::new(order, seen, changes.clone());
        let mut driver = Self { hands, state: Some(state), journal, handle, snapshot, changes };
        if !recovered {
            driver.write_down().await;
        }
        driver.carry_out(actions).await;
        for input in driver.beginning(inventory, recovered).await {
            driver.step(input).await;
        }
        Ok((driver, orders))
    }

    /// What the core is told first.
    async fn beginning(&self, mut inventory: Inventory, recovered: bool) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut exits = Vec::new();
        for instance in &mut inventory.instances {
            if let InstanceState::Exited(ended) = instance.state {
                let message = self.hands.termination_message(&instance.instance, ended).await;
                exits.push(Input::Exited { instance: instance.instance.clone(), ended, message });
                // Its exit is told on its own, with its message.
                instance.state = ended
                    .started_at
                    .map_or(InstanceState::Created, |started_at| InstanceState::Running { started_at });
            }
        }
        let sandbox = inventory.sandbox.as_ref().map(|sandbox| sandbox.attempt);
        if recovered {
            inputs.push(Input::Recovered { sandbox, instances: inventory.instances });
        }
        match (sandbox, inventory.sandbox_failure) {
            (Some(attempt), _) => {
                inputs.push(self.hands.sandbox_up(attempt));
                inputs.extend(container::resolv_conf_warnings(&self.hands, attempt));
            }
            (None, Some(message)) => inputs.push(Input::SandboxFailed { message }),
            (None, None) => {}
        }
        inputs.extend(exits);
        inputs
    }

    /// Opens the pod's socket and serves the API on it.
    fn serve(&self) -> Result<(), Error> {
        let listener = crate::api::socket::listen(&self.hands.files().api_socket())
            .map_err(|error| Error::System("listen on the pod's API socket", error))?;
        tokio::task::spawn_local(crate::api::serve(listener, self.handle.clone(), self.hands.facts()));
        Ok(())
    }

    async fn turn(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        mut reports: mpsc::UnboundedReceiver<Report>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        loop {
            let wake = self.wake();
            tokio::select! {
                Some(input) = inputs.recv() => self.step(input).await,
                Some(report) = reports.recv() => self.report(report).await,
                Some(order) = orders.recv() => self.order(order).await,
                () = sleep(wake) => self.step(Input::Tick).await,
            }
            match self.hands.leaving() {
                Leaving::No => {}
                Leaving::ToSandbox => return,
                Leaving::Finished => return self.leave().await,
            }
        }
    }

    /// Everything of the pod but its directory is gone: free its name, tell the last readers, and let the
    /// shim remove the rest.
    async fn leave(self) {
        let pod = self.hands.pod();
        let meta = &pod.meta;
        self.hands.neighbours().say_farewell(&meta.uid);
        let link = self.hands.layout().name_link(&meta.namespace, &meta.name);
        if std::fs::read_link(&link).is_ok_and(|target| target.ends_with(&meta.uid)) {
            unheard(std::fs::remove_file(&link));
        }
        unheard(self.changes.send(Change::Gone(self.handle.snapshot().view.clone())));
        let heard = async {
            while self.changes.receiver_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        unheard(tokio::time::timeout(FAREWELL_LIMIT, heard).await);
        self.hands.urge(hull_shim::wire::Command::Finish).await;
    }

    fn wake(&self) -> Option<Duration> {
        let state = self.state.as_ref()?;
        state.wake(&self.hands.pod()).map(|due| due.since(clock::boot_time()))
    }

    /// One step: decide, write down, act, tell.
    async fn step(&mut self, input: Input) {
        tracing::debug!(?input, "input");
        let before = self.state.take().expect("a state is there between steps");
        let (state, actions) = before.clone().step(&self.hands.pod(), input, clock::now());
        let told = state.generation() != before.generation();
        let matters = state.must_be_written(&before);
        self.state = Some(state);
        if matters {
            self.write_down().await;
        }
        self.carry_out(actions).await;
        if told {
            self.publish();
        }
    }

    /// Writes the record, however long that takes: with a full disk nothing is decided or announced until
    /// there is room again.
    async fn write_down(&self) {
        let path = self.hands.files().record();
        let state = self.state.as_ref().expect("a state is there between steps");
        while let Err(error) = record::save(&path, state) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the record is not written; trying again"
            );
            tokio::time::sleep(WRITE_AGAIN).await;
        }
    }

    /// Records the events among the actions, and hands the rest out in order.
    async fn carry_out(&mut self, actions: Vec<Action>) {
        let (events, deeds): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Record(_)));
        let events: Vec<_> = events
            .into_iter()
            .filter_map(|action| match action {
                Action::Record(event) => Some(Arc::new(*event)),
                _ => None,
            })
            .collect();
        while let Err(error) = self.journal.append(&events) {
            tracing::error!(error = &error as &dyn std::error::Error, "events are not written; trying again");
            tokio::time::sleep(WRITE_AGAIN).await;
        }
        if !events.is_empty() {
            if let Err(error) = self.journal.tidy(clock::wall()) {
                tracing::warn!(error = &error as &dyn std::error::Error, "the journal stays long");
            }
            self.refresh();
        }
        for event in events {
            unheard(self.changes.send(Change::Event(event)));
        }
        for deed in deeds {
            tracing::debug!(action = ?deed, "action");
            self.hands.carry_out(deed);
        }
    }

    fn refresh(&self) -> Arc<View> {
        let state = self.state.as_ref().expect("a state is there between steps");
        let view = Arc::new(view(state, &self.hands));
        self.snapshot
            .send_replace(Arc::new(Snapshot { view: view.clone(), events: self.journal.rows().to_vec() }));
        view
    }

    fn publish(&self) {
        let view = self.refresh();
        self.hands.seen(&view);
        unheard(self.changes.send(Change::Pod(view)));
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Exited { instance, exit } => self.hands.exited(instance, exit),
            Report::ExecExited { exec, exit, timed_out } => self.hands.execs().ended(exec, (exit, timed_out)),
            Report::SandboxDied => self.step(Input::SandboxDied).await,
            Report::Hello(_) | Report::Done { .. } => tracing::error!("the shim said hello twice"),
        }
    }
}

fn view(state: &State, hands: &Hands) -> View {
    let Version { pod, object, .. } = hands.version();
    View { object, generation: state.generation(), deletion: state.deletion(), status: state.status(&pod) }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
