//! Creating and forgetting instances, whichever engine makes them.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::fcntl::OFlag;
use oci_spec::runtime::{Mount, Spec};

use super::children::Role;
use super::instance::{Files, Held, Init, State, unfit};
use super::log_file::LogFile;
use super::making::Chosen;
use super::output::{Kind, Origin, Output};
use super::record::ProcessRecord;
use super::streams::{Streams, make_fifo, make_streams, open_fifo, remove_files};
use super::supervisor::Reply;
use super::{Shim, procfs};
use crate::cgroup::resources::{self, Devices, Live, Plan, Version};
use crate::cgroup::{self, Entry, Group};
use crate::container::engine::Stdio;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::seccomp::Cache;
use crate::container::seccomp::aside::KnownFilter;
use crate::container::spec;
use crate::sys::process;
use crate::wire::{Answer, CreateConfig, Failure, InstanceId};

/// A creation that takes longer, in milliseconds, hangs in the kernel or in a hook.
pub(super) const LIMIT: u64 = 120_000;

impl Shim {
    pub(super) fn is_creating(&self) -> bool {
        self.instances.values().any(|held| matches!(held.state, State::Creating))
    }

    pub(super) fn create(&mut self, config: CreateConfig, reply: Reply) {
        let instance = config.instance.clone();
        let refused = match self.instances.get(&instance) {
            Some(held) => Some(unfit(held, "new")),
            None if !self.sandbox.is_up() => {
                let message = "there is no sandbox to create a container in".to_owned();
                Some(Failure::State { message })
            }
            None => None,
        };
        let begun = refused.map_or_else(
            || self.begin_create(config, reply).map_err(|message| Failure::Create { message }),
            Err,
        );
        if let Err(failure) = begun {
            self.answer(Some(reply), Err(failure));
        }
    }

    fn begin_create(&mut self, config: CreateConfig, reply: Reply) -> Result<(), String> {
        let instance = config.instance.clone();
        let Prepared { held, engine, stdio, ours } = self.prepare(config)?;
        // No record yet: should this shim be killed, a successor takes the group away, with whoever is in it.
        self.instances.insert(instance.clone(), held);
        for (kind, fifo) in ours {
            self.follow(&instance, kind, Origin { fifo, terminal: None });
        }
        let begun = match engine {
            Chosen::Own(plan) => self.make_instance(&instance, plan, stdio, reply),
            Chosen::Libcontainer(spec) => self.begin_creator(&instance, spec, stdio, reply),
        };
        begun.inspect_err(|_| {
            self.discard(&instance);
            self.record();
        })
    }

    /// All that is there before the init is. What it needed itself is freed when it returns: after the fork each page
    /// that is written to, to free something too, has to be copied.
    fn prepare(&mut self, config: CreateConfig) -> Result<Prepared, String> {
        let read = spec::load_with(&config.bundle.join("config.json"), &mut self.filters.borrow_mut());
        let (spec, filter) = read.map_err(|error| super::chain(&error))?;
        let limits = limits(&spec, self.group.version())?;
        let group = own_group(self.group.child(&config.instance.to_string()), &spec, &limits);
        let (identity, program) = identify((&spec, &filter), &config, &self.filters)?;
        let ends_with_init = spec::has_own_pid_namespace(&spec, self.config.share_pid);
        let engine = self.choose(spec, &config, &group, &program.environment)?;
        self.timers.cancel_removal(&group);
        let made = match make_all(&config, (&group, &limits), &identity) {
            Ok(made) => made,
            Err(message) => {
                self.remove_group(&group, 0);
                remove_files(&config);
                return Err(message);
            }
        };
        let Made { entry, output, streams: Streams { stdio, ours, stdin }, start } = made;
        let held = Held {
            create: config,
            state: State::Creating,
            creation: None,
            init: None,
            lost: None,
            started_at: None,
            group,
            entry,
            ends_with_init,
            identity: Rc::new(identity),
            program: Rc::new(program),
            unreadable: None,
            start: Some(start),
            starting: None,
            start_failure: None,
            output,
            stdin,
            terminal: None,
            pre_stop: None,
        };
        Ok(Prepared { held, engine, stdio, ours })
    }

    pub(super) fn creation_overdue(&mut self, instance: &InstanceId) {
        if let Some(creation) = self.instances.get(instance).and_then(|held| held.creation.as_ref()) {
            self.complain(format_args!("the creation of {instance} hangs and is killed"));
            creation.kill();
        }
    }

    /// Answers, and goes on with what waited for the end of a creation.
    pub(super) fn creation_ended(
        &mut self,
        instance: &InstanceId,
        outcome: Result<Answer, String>,
        reply: Reply,
    ) {
        self.timers.cancel_creator(instance);
        let answer = outcome.map_err(|message| {
            self.discard(instance);
            self.record();
            Failure::Create { message: format!("unable to create container {instance}: {message}") }
        });
        if !self.is_creating() {
            self.strays.clear();
        }
        self.answer(Some(reply), answer);
        if self.sandbox.stopping.is_some() {
            self.kill_instances();
            self.continue_stop();
        }
        self.start_supervisor_if_quiet();
    }

    /// An init waits for its start.
    pub(super) fn created(
        &mut self,
        instance: &InstanceId,
        init: process::Child,
        master: Option<OwnedFd>,
    ) -> Result<Answer, String> {
        let process::Child { pid, pidfd } = init;
        let start_time = procfs::start_time(pid).ok_or_else(|| format!("read /proc/{pid}/stat"))?;
        let Some(held) = self.instances.get_mut(instance) else {
            return Err("it was given up".to_owned());
        };
        held.init = Some(Init { record: ProcessRecord { pid, start_time }, pidfd });
        held.state = State::Created;
        held.terminal = master;
        self.roles.insert(pid, Role::Init(instance.clone()));
        let terminal = held.terminal.as_ref().map(OwnedFd::try_clone).transpose();
        let terminal = terminal.map_err(|error| error.to_string())?;
        if terminal.is_some() {
            let fifo = open_fifo(&Files(&held.create).stdout(), OFlag::O_RDWR)?;
            self.follow(instance, Kind::Terminal, Origin { fifo, terminal });
        }
        self.record();
        Ok(Answer::Created { pid })
    }

    /// Lets go of an instance that could not be created.
    fn discard(&mut self, instance: &InstanceId) {
        let Some(mut held) = self.instances.remove(instance) else {
            return;
        };
        if let Some(init) = held.init.take() {
            self.roles.remove(&init.record.pid);
        }
        self.unfollow(&mut held);
        self.withdraw(instance);
        if let Err(error) = held.group.kill() {
            self.complain(format_args!("{}", super::chain(&error)));
        }
        self.remove_group(&held.group, 0);
        remove_files(&held.create);
    }

    pub(super) fn forget(&mut self, instance: &InstanceId, reply: Reply) {
        match self.instances.get(instance) {
            Some(held) if held.is_alive() => {
                let failure = unfit(held, "stopped");
                return self.answer(Some(reply), Err(failure));
            }
            Some(_) => {
                if let Some(mut held) = self.instances.remove(instance) {
                    self.unfollow(&mut held);
                    self.withdraw(instance);
                    self.remove_group(&held.group, 0);
                    remove_files(&held.create);
                }
                self.record();
            }
            // Forgotten before.
            None => {}
        }
        self.answer(Some(reply), Ok(Answer::Ok));
    }
}

/// Who the processes of an instance are and what its init executes.
pub(super) fn identify(
    (spec, filter): (&Spec, &KnownFilter),
    config: &CreateConfig,
    filters: &RefCell<Cache>,
) -> Result<(Identity, Program), String> {
    let text = |error: &dyn std::error::Error| super::chain(error);
    let rootfs = spec::rootfs(spec, &config.bundle).ok_or("config.json: root is missing")?;
    let known = (filter, &mut *filters.borrow_mut());
    let identity = Identity::cached(spec, &rootfs, Some(config.oom_score_adj), known);
    let identity = identity.map_err(|error| text(&error))?;
    let process = spec.process().as_ref().ok_or("config.json: process is missing")?;
    let args = process.args().as_deref().unwrap_or_default();
    let program = Program::new(&identity, args, &[]).map_err(|error| text(&error))?;
    Ok((identity, program))
}

/// An instance before it has an init.
struct Prepared {
    held: Held,
    engine: Chosen,
    stdio: Stdio,
    /// Our ends of its output.
    ours: Vec<(Kind, OwnedFd)>,
}

/// What is on the host for one.
struct Made {
    entry: Entry,
    output: Output,
    streams: Streams,
    start: OwnedFd,
}

fn make_all(
    config: &CreateConfig,
    (group, limits): (&Group, &Plan),
    identity: &Identity,
) -> Result<Made, String> {
    let text = |error: cgroup::Error| super::chain(&error);
    group.create().map_err(text)?;
    group.kill_together().map_err(text)?;
    group.apply(limits).map_err(text)?;
    let start = Files(config).start();
    make_fifo(&start, identity)?;
    Ok(Made {
        entry: group.entry().map_err(text)?,
        output: LogFile::new(&config.log)
            .map(Output::new)
            .map_err(|error| format!("open {}: {error}", config.log.display()))?,
        streams: make_streams(config, identity)?,
        start: open_fifo(&start, OFlag::O_RDONLY)?,
    })
}

/// The limits of a container, and the devices that it may use.
pub(super) fn limits(spec: &Spec, version: Version) -> Result<Plan, String> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let plan = |resources| resources::plan(resources, version, Devices::Restrict, &Live::default());
    resources.map_or_else(
        || Ok(Plan::default()),
        |resources| plan(resources).map_err(|error| super::chain(&error)),
    )
}

/// The group of a container, as far as it needs one of its own. One that may make groups below itself has it everywhere: they go with it.
pub(super) fn own_group(group: Group, spec: &Spec, limits: &Plan) -> Group {
    let is_given = |mount: &Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) && !options.iter().any(|one| one == "ro")
    };
    let makes_groups = spec.mounts().iter().flatten().any(is_given);
    if makes_groups { group } else { group.sharing(limits) }
}
