//! What carries the core's actions out: each becomes a task on the supervisor's one thread, whose answer
//! goes back to the driver as an input.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use hull_shim::layout::{Layout, PodLayout};
use hull_shim::wire::{
    Answer, Command, Ended, Exit, Failure, Instance, InstanceId, InstanceState, Inventory, Sandbox,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};

use super::endpoints::Neighbours;
use super::exec::Execs;
use super::handle::View;
use super::shim::Shim;
use super::versions::{Version, Versions};
use super::{clock, container, handler, objects, unheard, volumes};
use crate::core::action::{Action, HookKind};
use crate::core::input::Input;
use crate::dns::Zone;
use crate::manifest::Accepted;
use crate::manifest::pod::Pod;
use crate::{api, network};

/// Whether and why the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It goes on.
    No,
    /// A new sandbox stands: the next supervisor starts inside of it and goes on from the record.
    ToSandbox,
    /// The pod is over and all of it removed but its directory.
    Finished,
}

/// Everything that a task needs of the pod, shared among all tasks of the one thread.
pub struct Hands {
    layout: Layout,
    files: PodLayout,
    versions: Versions,
    node: String,
    shim: Rc<Shim>,
    execs: Rc<Execs>,
    inputs: UnboundedSender<Input>,
    sandbox: Option<Sandbox>,
    network: Option<network::Up>,
    /// What existed when this supervisor started: asked for again, it is answered from here.
    known: HashMap<InstanceId, Instance>,
    /// Instances' directories whose roots were mounted before their turn, with the images' ids.
    mounted: RefCell<HashMap<PathBuf, String>>,
    host: OnceCell<crate::spec::Host>,
    /// Volumes are to be brought up to date.
    refresh: Notify,
    neighbours: Neighbours,
    names: OnceCell<watch::Sender<Arc<Zone>>>,
    confined: watch::Sender<bool>,
    leaving: Cell<Leaving>,
}

impl Hands {
    /// For one life of the supervisor.
    #[must_use]
    pub fn new(
        layout: Layout,
        accepted: Accepted,
        shim: Rc<Shim>,
        inputs: UnboundedSender<Input>,
        inventory: &Inventory,
    ) -> Self {
        let first = u64::from(inventory.supervisor_starts) << 32;
        let network = inventory.sandbox.as_ref().and_then(|sandbox| sandbox.network.clone());
        Self {
            files: layout.pod(&accepted.pod.meta.uid),
            neighbours: Neighbours::new(&layout),
            layout,
            node: accepted.object.spec.node_name.clone().unwrap_or_else(|| "localhost".to_owned()),
            versions: Versions::new(accepted),
            execs: Rc::new(Execs::new(shim.clone(), first, &inventory.instances)),
            shim,
            inputs,
            sandbox: inventory.sandbox.clone(),
            network: network.and_then(|network| serde_json::from_value(network).ok()),
            known: inventory.instances.iter().map(|known| (known.instance.clone(), known.clone())).collect(),
            mounted: RefCell::default(),
            host: OnceCell::new(),
            refresh: Notify::new(),
            names: OnceCell::new(),
            confined: watch::Sender::new(false),
            leaving: Cell::new(Leaving::No),
        }
    }

    /// The pod, by its newest manifest.
    #[must_use]
    pub fn pod(&self) -> Rc<Pod> {
        self.version().pod
    }

    /// The newest manifest.
    #[must_use]
    pub fn version(&self) -> Version {
        self.versions.newest()
    }

    /// The pod has this manifest from now on.
    pub fn replace(&self, accepted: Accepted) {
        self.versions.replace(accepted);
    }

    /// The node that the pod was bound to when it was accepted.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The pod's files.
    #[must_use]
    pub fn files(&self) -> &PodLayout {
        &self.files
    }

    /// All of hull's files.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The connection to the shim.
    #[must_use]
    pub fn shim(&self) -> &Rc<Shim> {
        &self.shim
    }

    /// Processes run in containers.
    #[must_use]
    pub fn execs(&self) -> &Rc<Execs> {
        &self.execs
    }

    /// What the API knows of the pod beside its view.
    #[must_use]
    pub fn facts(&self) -> api::Facts {
        api::Facts::new(&self.version().object, &self.layout, clock::wall)
    }

    /// The host's facts, read once.
    ///
    /// # Errors
    /// A file of `/proc` cannot be read.
    pub fn host(&self) -> Result<&crate::spec::Host, String> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let host =
            crate::spec::Host::observe().map_err(|error| format!("cannot look at the host: {error}"))?;
        Ok(self.host.get_or_init(|| host))
    }

    /// The pod's addresses; of the host with `hostNetwork`, none on a network of loopback alone.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        match &self.network {
            Some(up) => up.ips.clone(),
            None if self.pod().spec.host_network => self.host_ips(),
            None => Vec::new(),
        }
    }

    /// The host's addresses as the pod sees them.
    #[must_use]
    pub fn host_ips(&self) -> Vec<IpAddr> {
        match &self.network {
            Some(up) => vec![up.host_ip],
            None => vec![host_address()],
        }
    }

    /// Where probes and hooks dial unless told otherwise.
    #[must_use]
    pub fn pod_ip(&self) -> IpAddr {
        self.ips().first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// Where the pod's resolver listens, if it has one.
    #[must_use]
    pub fn resolver(&self) -> Option<IpAddr> {
        self.network.as_ref().map(|up| up.dns)
    }

    /// The root of this image is mounted in an instance's directory, which did not ask for it yet.
    pub fn mounted_ahead(&self, directory: PathBuf, image_id: String) {
        self.mounted.borrow_mut().insert(directory, image_id);
    }

    /// The image whose root was mounted ahead; asked for once.
    #[must_use]
    pub fn take_mounted(&self, directory: &Path) -> Option<String> {
        self.mounted.borrow_mut().remove(directory)
    }

    /// The news that the sandbox stands.
    #[must_use]
    pub fn sandbox_up(&self, attempt: u32) -> Input {
        Input::SandboxUp { attempt, ips: self.ips(), host_ips: self.host_ips() }
    }

    /// The sandbox that the supervisor lives in.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref()
    }

    /// Tells the driver.
    pub fn tell(&self, input: Input) {
        // The driver only ends with the whole supervisor.
        unheard(self.inputs.send(input));
    }

    /// Whether the supervisor is to end, and why.
    #[must_use]
    pub fn leaving(&self) -> Leaving {
        self.leaving.get()
    }

    /// The supervisor may do no more than it needs from now on.
    pub fn set_confined(&self) {
        self.confined.send_replace(true);
    }

    /// Waits for that: whoever answers a probe or a hook is not to be trusted.
    async fn confined(&self) {
        // The sender is here, so there is an end of the wait.
        unheard(self.confined.subscribe().wait_for(|confined| *confined).await);
    }

    /// A view was published.
    pub fn seen(&self, view: &View) {
        tracing::debug!(generation = view.generation, phase = ?view.status.phase, "published");
        let Version { pod, manifest, .. } = self.version();
        self.neighbours.say(&pod.meta.uid, &manifest, view);
    }

    /// Starts one action; its answer comes as an input.
    pub fn carry_out(self: &Rc<Self>, action: Action) {
        let hands = self.clone();
        tokio::task::spawn_local(async move { hands.perform(action).await });
    }

    async fn perform(self: Rc<Self>, action: Action) {
        match action {
            Action::RefreshVolumes => self.refresh.notify_one(),
            Action::PrepareVolumes => self.tell(volumes::make(&self).await),
            Action::CreateSandbox { attempt } => self.create_sandbox(attempt).await,
            Action::StopSandbox => {
                self.urge(Command::StopSandbox).await;
                self.tell(Input::SandboxStopped);
            }
            Action::EnsureImage { instance, image, policy } => {
                self.tell(container::image(&self, instance, &image, policy).await);
            }
            Action::CreateContainer { instance, image } => {
                self.tell(container::create(&self, instance, &image).await);
            }
            Action::StartContainer { instance } => self.tell(self.start(instance).await),
            Action::RunProbe { instance, probe } => {
                self.confined().await;
                let outcome = handler::probe(&self, &instance, probe).await;
                self.tell(Input::ProbeDone { instance, probe, outcome });
            }
            Action::RunHook { instance, hook } => {
                self.confined().await;
                let result = handler::hook(&self, &instance, hook).await;
                self.tell(Input::HookDone { instance, hook, result });
            }
            Action::ResumeHook { instance, rest } => {
                let result = handler::resume(&self, &instance, rest).await;
                self.tell(Input::HookDone { instance, hook: HookKind::PreStop, result });
            }
            Action::Signal { instance, signal } => self.urge(Command::Signal { instance, signal }).await,
            Action::Kill { instance } => self.urge(Command::Kill { instance }).await,
            Action::Release { instance } => container::release(&self, instance).await,
            Action::RemoveLogs { instance } => container::remove_logs(&self, &instance),
            Action::Finish => self.finish().await,
            // It goes on, as with the kubelet (reference 6.1); what comes of it is not wanted any more.
            Action::AbandonHook { .. } => {}
            Action::Record(_) => tracing::error!("an event reached the hands"),
        }
    }

    /// Waits until the core has asked, since the last time, for volumes to be brought up to date. Cancel-safe.
    pub async fn refresh_asked(&self) {
        self.refresh.notified().await;
    }

    async fn create_sandbox(&self, attempt: u32) {
        match self.shim.order(Command::CreateSandbox { attempt }).await {
            Ok(()) => self.leaving.set(Leaving::ToSandbox),
            Err(failure) => {
                self.tell(Input::SandboxFailed { message: failure.to_string() });
                return;
            }
        }
        self.tell(Input::Tick);
    }

    /// An instance that the supervisor before this one had made.
    #[must_use]
    pub fn known(&self, instance: &InstanceId) -> Option<&Instance> {
        self.known.get(instance)
    }

    async fn start(&self, instance: InstanceId) -> Input {
        match self.known(&instance).map(|known| &known.state) {
            Some(InstanceState::Running { started_at }) => {
                return Input::Started { started_at: *started_at, instance };
            }
            Some(InstanceState::Exited(Ended { started_at: Some(started_at), .. })) => {
                return Input::Started { started_at: *started_at, instance };
            }
            Some(InstanceState::Created | InstanceState::Exited(_)) | None => {}
        }
        match self.shim.ask(Command::Start { instance: instance.clone() }, &[]).await {
            Ok((Answer::Started { started_at }, _)) => Input::Started { instance, started_at },
            Ok((other, _)) => {
                Input::StartFailed { instance, message: format!("the shim answered a start with {other:?}") }
            }
            Err(failure) => Input::StartFailed { instance, message: start_error(&failure) },
        }
    }

    /// Asks for something whose failure has no consequence but a line in the log: what it is about is
    /// seen by other means (an exit that does not come is acted on by the core's clock).
    pub async fn urge(&self, command: Command) {
        let shown = format!("{command:?}");
        if let Err(failure) = self.shim.order(command).await {
            tracing::warn!(command = shown, %failure, "the shim refused");
        }
    }

    /// Runs a host task and gives what it printed.
    ///
    /// # Errors
    /// What it printed on standard error, or why it could not be run.
    pub async fn task<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        input: &impl serde::Serialize,
    ) -> Result<T, String> {
        let input = serde_json::to_value(input).map_err(|error| format!("input of task {name}: {error}"))?;
        let command = Command::Task { name: name.to_owned(), input };
        let (answer, _) = self.shim.ask(command, &[]).await.map_err(|failure| failure.to_string())?;
        match answer {
            Answer::Task { exit: Exit::Code(0), stdout, .. } => {
                serde_json::from_str(&stdout).map_err(|error| format!("output of task {name}: {error}"))
            }
            Answer::Task { exit, stderr, .. } => {
                let text = stderr.trim().trim_start_matches("error: ");
                Err(match text.is_empty() {
                    true => format!("task {name} ended with {exit:?}"),
                    false => text.to_owned(),
                })
            }
            other => Err(format!("the shim answered task {name} with {other:?}")),
        }
    }

    /// An instance ended: its message is read before the driver is told.
    pub fn exited(self: &Rc<Self>, instance: InstanceId, ended: Ended) {
        let hands = self.clone();
        tokio::task::spawn_local(async move {
            let message = hands.termination_message(&instance, ended).await;
            hands.tell(Input::Exited { instance: instance.clone(), ended, message });
            hands.execs.instance_ended(&instance);
        });
    }

    /// What an ended instance left as its last words (reference 8.6).
    pub async fn termination_message(&self, instance: &InstanceId, ended: Ended) -> String {
        container::termination_message(self, instance, ended)
    }

    /// Removes everything of the pod, tells the last readers, and lets the shim end.
    async fn finish(&self) {
        container::remove_everything(self).await;
        self.leaving.set(Leaving::Finished);
        self.tell(Input::Tick);
    }

    /// Has the resolver know these names from now on, and those that it is given later.
    pub fn follow_names(&self, names: watch::Sender<Arc<Zone>>) {
        // Set once: a supervisor serves names once.
        unheard(self.names.set(names));
    }

    /// What other pods say of themselves.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// Has the resolver know what the services are called now.
    pub fn renew_names(&self) {
        if let Some(names) = self.names.get() {
            names.send_replace(Arc::new(objects::zone(self)));
        }
    }

    /// An object was applied or removed: look again.
    pub fn objects_changed(&self) {
        self.renew_names();
        self.tell(Input::ObjectsChanged);
    }
}

fn start_error(failure: &Failure) -> String {
    match failure {
        Failure::Start { message } => {
            format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: {message}"
            )
        }
        Failure::State { message } | Failure::Create { message } | Failure::Other { message } => {
            message.clone()
        }
    }
}

/// The host's address on its way out, for pods on the host's network: connecting a datagram socket sends
/// nothing, and shows which address would be used (to TEST-NET-1, which is nobody's).
fn host_address() -> IpAddr {
    let probe = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(("192.0.2.1", 9))?;
        Ok(socket.local_addr()?.ip())
    };
    probe().unwrap_or(Ipv4Addr::LOCALHOST.into())
}
