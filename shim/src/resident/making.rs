//! The way to an instance through our own engine: which of the two it is, and the init at work.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use oci_spec::runtime::Spec;

use super::Shim;
use super::children::Role;
use super::instance::{Creation, Making};
use super::supervisor::Reply;
use super::timers::Timer;
use super::watch::Source;
use crate::cgroup::Group;
use crate::container::engine::files::{Abilities, Base, ChangeRoot, Covers};
use crate::container::engine::plan::{CgroupView, Keyring, MakerRights, Sandbox, Start};
use crate::container::engine::request::Fault;
use crate::container::engine::{self, Gate, Known, Plan, Progress, Request, Stdio};
use crate::container::spec;
use crate::sys::process::{self, Vector};
use crate::wire::{Answer, CreateConfig, Exit, InstanceId};

/// For tests: `libcontainer` has the other engine make every container.
const ENGINE: &str = "HULL_ENGINE";
/// For tests, in builds with debug assertions: a file that says which step fails, and how.
const FAULT: &str = "HULL_ENGINE_FAULT";

/// What all creations of a shim share.
pub(super) struct Engine {
    kernel: Abilities,
    covers: Rc<Covers>,
    /// None where it cannot be opened: then each container tries, and says why not.
    pub(super) procfs: Option<Rc<OwnedFd>>,
    /// None where it cannot be had: then each container starts from the host's mounts.
    mounts: Option<OwnedFd>,
    is_off: bool,
}

/// Which engine makes an instance.
pub(super) enum Chosen {
    Own(Rc<Plan>),
    Libcontainer(Box<Spec>),
}

impl Engine {
    pub(super) fn new() -> Self {
        Self {
            kernel: Abilities::probe(),
            covers: Rc::default(),
            procfs: engine::procfs::root().ok().map(Rc::new),
            mounts: trimmed_mounts(),
            is_off: std::env::var_os(ENGINE).is_some_and(|name| name == "libcontainer"),
        }
    }
}

impl Shim {
    /// Plans an instance.
    pub(super) fn choose(
        &self,
        spec: Box<Spec>,
        config: &CreateConfig,
        group: &Group,
        variables: &Vector,
    ) -> Result<Chosen, String> {
        if self.engine.is_off {
            return Ok(Chosen::Libcontainer(spec));
        }
        let root = spec::rootfs(&spec, &config.bundle).ok_or("config.json: root is missing")?;
        let known = Known {
            id: &config.id,
            bundle: &config.bundle,
            sandbox: Some(Sandbox { share_pid: self.config.share_pid }),
            cgroup: view(group),
            maker: MakerRights::Root,
            kernel: self.engine.kernel,
            root: &root,
            change_root: ChangeRoot::Pivot,
            base: if self.engine.mounts.is_some() { Base::Trimmed } else { Base::Host },
            keyring: Keyring::New,
            start: Start::Later,
        };
        let none = || Vector::new(Vec::new());
        match Plan::new(&spec, &known, &none, variables) {
            Ok(plan) => Ok(Chosen::Own(Rc::new(plan))),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has the engine make an instance, which is held already.
    pub(super) fn make_instance(
        &mut self,
        instance: &InstanceId,
        plan: Rc<Plan>,
        stdio: Stdio,
        reply: Reply,
    ) -> Result<(), String> {
        let held = self.instances.get(instance).ok_or("it was given up")?;
        let gate = Gate::make(&held.create.bundle)
            .map_err(|errno| format!("make its gate: {}", super::launch::reason(errno)))?;
        let request = Request {
            plan,
            identity: Rc::clone(&held.identity),
            program: Rc::clone(&held.program),
            stdio,
            cgroup: &held.entry,
            sandbox: self.sandbox.pause.as_ref().map(|pause| pause.pidfd.as_fd()),
            mounts: self.engine.mounts.as_ref().map(AsFd::as_fd),
            preserved: 0,
            looks_up: false,
            covers: Rc::clone(&self.engine.covers),
            procfs: self.engine.procfs.as_ref(),
            fault: fault(),
        };
        let making = engine::begin(request, gate).map_err(|failure| failure.message)?;
        let token = self
            .watch
            .add(&making.descriptor(), Source::Making(instance.clone()))
            .map_err(|errno| format!("watch its init: {}", super::launch::reason(errno)))?;
        self.roles.insert(making.pid(), Role::Making(instance.clone()));
        self.timers.after(super::create::LIMIT, Timer::Creator(instance.clone()));
        if let Some(held) = self.instances.get_mut(instance) {
            held.creation = Some(Creation::Making(Box::new(Making { making, token, reply })));
        }
        Ok(())
    }

    /// The init told something.
    pub(super) fn making_event(&mut self, instance: &InstanceId) {
        let Some(held) = self.instances.get_mut(instance) else { return };
        let Some(Creation::Making(mut at_work)) = held.creation.take() else { return };
        self.watch.remove(&at_work.making.descriptor(), at_work.token);
        let outcome = match at_work.making.advance() {
            Ok(Progress::Waiting) => {
                let source = Source::Making(instance.clone());
                match self.watch.add(&at_work.making.descriptor(), source) {
                    Ok(token) => {
                        at_work.token = token;
                        held.creation = Some(Creation::Making(at_work));
                        return;
                    }
                    Err(errno) => Err(format!("watch its init: {}", super::launch::reason(errno))),
                }
            }
            Ok(Progress::Created(created)) => self.take_init(instance, created),
            Err(failure) => Err(failure.message),
        };
        if outcome.is_err() {
            self.roles.remove(&at_work.making.pid());
            // One that is ready already is on its own.
            at_work.making.kill();
        }
        let Making { making, reply, .. } = *at_work;
        // An init that failed is killed by this.
        drop(making);
        self.creation_ended(instance, outcome, reply);
    }

    fn take_init(&mut self, instance: &InstanceId, created: engine::Created) -> Result<Answer, String> {
        let copy = |error: std::io::Error| format!("copy a descriptor: {error}");
        let pidfd = created.pidfd.try_clone().map_err(copy)?;
        let terminal = created.terminal.as_ref().map(OwnedFd::try_clone).transpose();
        let child = process::Child { pid: created.pid, pidfd };
        let answer = self.created(instance, child, terminal.map_err(copy)?)?;
        // Its pid is on disk; the interfaces that it got are its own now.
        created.release();
        Ok(answer)
    }

    /// The init ended before it was created.
    pub(super) fn making_ended(&mut self, instance: &InstanceId, exit: Exit) {
        // What it told before explains it best.
        self.making_event(instance);
        let Some(held) = self.instances.get_mut(instance) else { return };
        let Some(Creation::Making(at_work)) = held.creation.take() else { return };
        let Making { making, token, reply } = *at_work;
        self.watch.remove(&making.descriptor(), token);
        drop(making);
        self.creation_ended(instance, Err(format!("its init ended: {exit:?}")), reply);
    }
}

fn trimmed_mounts() -> Option<OwnedFd> {
    match engine::trimmed::make() {
        Ok(mounts) => Some(mounts),
        Err(errno) => {
            super::complain(format_args!("make a trimmed mount namespace: {errno}"));
            None
        }
    }
}

fn fault() -> Option<Fault> {
    let file = std::env::var_os(FAULT).filter(|_| cfg!(debug_assertions))?;
    Fault::parse(std::fs::read_to_string(file).ok()?.trim())
}

/// One entry per hierarchy: of several names for one group the mounted one, which has commas where it stands for
/// several controllers.
fn view(group: &Group) -> CgroupView {
    let Some(shown) = group.shown() else {
        return CgroupView::V2(group.file("", "").unwrap_or_default());
    };
    let is_part = |name: &str, path| {
        shown.iter().any(|(other, at)| at == path && other != name && other.split(',').any(|one| one == name))
    };
    CgroupView::V1(shown.iter().filter(|(name, path)| !is_part(name, path)).cloned().collect())
}
