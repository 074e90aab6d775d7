//! What is to be done for one container, decided without a system call.

use std::fmt;
use std::path::{Path, PathBuf};

use std::ffi::CString;

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, Spec};

use super::devices::Device;
use super::hook::{Hooks, State};
use super::listener::Listener;
use super::namespace::{self, Namespaces};
use super::step::{Part, Step};
use super::user::Maps;
use super::{check, files};
use crate::guard::{self, Guard};
use crate::sys::process::Vector;

/// Bytes of memory in which an init can certainly be made.
const ENOUGH: i64 = 16 << 20;

/// What is known of the world besides `config.json`.
#[derive(Debug, Clone)]
pub(crate) struct Known<'a> {
    /// The container's name.
    pub(crate) id: &'a str,
    /// Absolute; relative paths of the configuration start here.
    pub(crate) bundle: &'a Path,
    /// The sandbox to join.
    pub(crate) sandbox: Option<Sandbox>,
    /// How the container's own groups are shown to it.
    pub(crate) cgroup: CgroupView,
    /// Who makes the container.
    pub(crate) maker: MakerRights,
    pub(crate) kernel: files::Abilities,
    /// The root file system: absolute, a directory and no symbolic link.
    pub(crate) root: &'a Path,
    /// `--no-pivot`.
    pub(crate) change_root: files::ChangeRoot,
    /// What the child's mount namespace starts with, where there is a choice.
    pub(crate) base: files::Base,
    /// `--no-new-keyring`.
    pub(crate) keyring: Keyring,
    pub(crate) start: Start,
}

/// When the container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// When somebody says so.
    Later,
    /// As soon as it is made, and nobody is told of it before.
    Now,
}

/// A sandbox whose namespaces take the place of those listed without a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Its PID namespace too.
    pub(crate) share_pid: bool,
}

/// Which groups a `cgroup` mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupView {
    /// One directory per name, on v1.
    V1(Vec<(String, PathBuf)>),
    /// The unified hierarchy; where the container's own group is.
    V2(PathBuf),
}

/// What the maker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MakerRights {
    /// All that root may.
    Root,
    /// Root of a user namespace, which is not the host's: what that namespace owns, and the ids that it has.
    Inside,
    /// An ordinary user: only what a user namespace of the container's own grants.
    Rootless,
}

/// Whether the init gets a session keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyring {
    /// `_ses.<id>`.
    New,
    /// The maker's.
    Inherited,
}

/// The plan of one container.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) namespaces: Namespaces,
    /// Of a new user namespace.
    pub(crate) maps: Option<Maps>,
    pub(crate) maker: MakerRights,
    /// A maker that dies has a successor, which finds the init by its record or its group: the init waits for it.
    pub(crate) outlives_maker: bool,
    /// The init has its maker's memory, and executes its program without a word: [`at_once`](super::at_once).
    pub(crate) at_once: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) files: files::Plan,
    pub(crate) hooks: Hooks,
    /// The state that hooks get while the container is made, and when it starts; empty where there are none.
    pub(crate) states: [State; 2],
    /// Interfaces to take from the host.
    pub(crate) devices: Vec<Device>,
    /// Whom to tell of a seccomp listener.
    pub(crate) listener: Option<Listener>,
}

/// Why no plan can be made. The texts are those that callers of runc know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A condition that runc checks too, in its words.
    #[error("{0}")]
    Invalid(String),
}

impl Plan {
    /// Decides. `own` and `container` are the variables of hooks that name none.
    pub(crate) fn new(
        spec: &Spec,
        known: &Known<'_>,
        own: &dyn Fn() -> Vector,
        container: &Vector,
    ) -> Result<Self, Error> {
        let mut namespaces = Namespaces::new(spec, known.sandbox)?;
        namespaces.no_return = known.maker != MakerRights::Root;
        check::check(spec, &namespaces, known)?;
        let hooks = Hooks::new(spec, own, container)?;
        namespaces.joins_last = joins_last(spec, &namespaces, known) && !hooks.of_making();
        // Hooks look for the root file system on its own path.
        if known.base == files::Base::Trimmed && known.maker == MakerRights::Root && !hooks.of_making() {
            namespaces.trim();
        }
        let state = |status| match spec.hooks() {
            Some(_) => State::new(spec, known.id, known.bundle, status),
            None => State::default(),
        };
        let mut plan = Self {
            maps: maps(spec, &namespaces),
            maker: known.maker,
            outlives_maker: known.sandbox.is_some(),
            at_once: false,
            steps: Vec::new(),
            files: files(spec, &namespaces, known)?,
            hooks,
            states: ["creating", "created"].map(state),
            devices: Device::all(spec),
            listener: Listener::of_init(spec, known.id, known.bundle),
            namespaces,
        };
        plan.at_once = plan.may_start_at_once(spec, known);
        plan.steps = plan.order(spec, known)?;
        Ok(plan)
    }

    /// Whether the maker sets the resource limits: a process in another user namespace than the host's may not raise them.
    pub(super) fn sets_limits(&self) -> bool {
        self.namespaces.all().contains(CloneFlags::CLONE_NEWUSER)
    }

    /// Not where anybody else has a part in it, or might see the child. A time namespace is not entered by who shares its
    /// memory (`timens_install` in the kernel). Where little memory is allowed the kernel has nobody to kill for want of it, since it
    /// spares who shares its maker's (`oom_badness`), and calls of the child would fail instead.
    fn may_start_at_once(&self, spec: &Spec, known: &Known<'_>) -> bool {
        let namespaces = &self.namespaces;
        let is_alone = namespaces.new.contains(CloneFlags::CLONE_NEWPID)
            && namespaces.sandbox.is_empty()
            && namespaces.joined.is_empty()
            && !namespaces.new.contains(CloneFlags::CLONE_NEWUSER)
            && !namespaces.time;
        let has_terminal = spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true));
        let linux = spec.linux().as_ref();
        let has_share = linux.is_some_and(|linux| linux.intel_rdt().is_some());
        let memory = linux.and_then(|linux| linux.resources().as_ref()?.memory().as_ref()?.limit());
        let is_tight = memory.is_some_and(|limit| (0..ENOUGH).contains(&limit));
        known.start == Start::Now
            && known.maker == MakerRights::Root
            && is_alone
            && !has_terminal
            && !has_share
            && !is_tight
            && !self.meets()
    }

    /// Whether the child waits for its maker before anything is mounted over the host's files.
    fn meets(&self) -> bool {
        self.has_hooks() || self.listener.is_some() || !self.devices.is_empty()
    }

    fn list(&self, part: Part) -> &[files::Step] {
        match part {
            Part::Prepare => &self.files.prepare,
            Part::Enter => &self.files.enter,
            Part::Seal => &self.files.seal,
        }
    }

    fn part(&self, part: Part) -> impl Iterator<Item = Step> + use<> {
        (0..self.list(part).len()).map(move |index| Step::Files(part, index))
    }

    /// A step of the files' plan.
    pub(super) fn file_step(&self, part: Part, index: usize) -> Option<&files::Step> {
        self.list(part).get(index)
    }

    /// The number of the first step that is about files.
    pub(super) fn first_file(&self) -> Option<usize> {
        self.steps.iter().position(|step| matches!(step, Step::Files(..)))
    }

    /// A step in words.
    pub(super) fn describe(&self, index: usize) -> String {
        match self.steps.get(index) {
            Some(Step::Files(part, at)) => {
                self.file_step(*part, *at).map(ToString::to_string).unwrap_or_default()
            }
            Some(step) => step.to_string(),
            None => String::new(),
        }
    }

    /// Whether some hooks run while the container is made or started.
    pub(crate) fn has_hooks(&self) -> bool {
        self.hooks.of_maker() || self.hooks.of_init()
    }

    fn order(&self, spec: &Spec, known: &Known<'_>) -> Result<Vec<Step>, Error> {
        let mut steps = self.begin(spec, known)?;
        steps.extend(self.part(Part::Prepare));
        if self.meets() {
            steps.push(Step::Meet);
        }
        steps.extend((0..self.hooks.create_container.len()).map(Step::Hook));
        steps.extend(self.part(Part::Enter));
        let process = spec.process().as_ref();
        // The root is there.
        if let Some(process) = process.filter(|process| process.cwd() != Path::new("/")) {
            let directory = process.cwd().to_string_lossy();
            steps.push(Step::Directory(text("process.cwd", &directory)?));
        }
        match process.filter(|process| process.terminal().unwrap_or(false)) {
            Some(process) => steps.push(Step::Console { size: size(process) }),
            None => steps.push(Step::Stdio),
        }
        steps.extend(self.names(spec)?);
        steps.extend(sysctls(spec)?);
        steps.extend(self.part(Part::Seal));
        if self.at_once {
            // As late as it can be: whoever reads it may look for the container.
            steps.push(Step::Record);
        }
        Ok(steps)
    }

    /// Everything before the first file system.
    fn begin(&self, spec: &Spec, known: &Known<'_>) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        if let CgroupView::V1(_) = known.cgroup {
            steps.push(Step::Cgroup);
        }
        let joined = self.namespaces.sandbox | self.namespaces.by_path();
        if !(joined - CloneFlags::CLONE_NEWPID).is_empty() && !self.namespaces.needs_between() {
            steps.push(Step::Join);
        }
        if self.namespaces.trimmed {
            steps.push(Step::MountNamespace);
        }
        if self.namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP) {
            steps.push(Step::CgroupNamespace);
        }
        if self.namespaces.time {
            steps.push(Step::Time { offsets: offsets(spec)? });
        }
        if !self.namespaces.joins_last {
            // It is the init's own, and so is the terminal that controls it.
            steps.push(Step::Session);
        }
        if known.keyring == Keyring::New {
            steps.push(Step::Keyring(keyring_name(known.id)?));
        }
        if self.namespaces.new.contains(CloneFlags::CLONE_NEWNET) {
            steps.push(Step::Loopback);
        }
        Ok(steps)
    }

    /// A joined sandbox has its names already, and they are its own.
    fn names(&self, spec: &Spec) -> Result<Vec<Step>, Error> {
        if self.namespaces.sandbox.contains(CloneFlags::CLONE_NEWUTS) {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
            steps.push(Step::Hostname(text("hostname", name)?));
        }
        if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
            steps.push(Step::Domainname(text("domainname", name)?));
        }
        Ok(steps)
    }
}

/// What the session keyring of a container's processes is called, as runc calls it.
pub(crate) fn keyring_name(id: &str) -> Result<CString, Error> {
    text("id", &format!("_ses.{id}"))
}

/// A C string of a field.
fn text(field: &str, value: &str) -> Result<CString, Error> {
    CString::new(value)
        .map_err(|_| Error::Invalid(format!("config.json: {field} has a null byte in {value:?}")))
}

fn files(spec: &Spec, namespaces: &Namespaces, known: &Known<'_>) -> Result<files::Plan, Error> {
    let groups = match &known.cgroup {
        CgroupView::V1(groups) => files::Groups::V1(groups),
        CgroupView::V2(group) => files::Groups::V2(group),
    };
    let has_user = namespaces.all().contains(CloneFlags::CLONE_NEWUSER);
    let known = files::Known {
        root: known.root,
        bundle: known.bundle,
        groups,
        users: if has_user { files::Users::Namespace } else { files::Users::Host },
        rights: match known.maker {
            MakerRights::Root => files::Rights::Root,
            MakerRights::Inside => files::Rights::Inside,
            MakerRights::Rootless => files::Rights::Rootless,
        },
        change: known.change_root,
        joins_last: namespaces.joins_last,
        base: if namespaces.trimmed { files::Base::Trimmed } else { files::Base::Host },
        kernel: known.kernel,
    };
    files::plan(spec, &known).map_err(|error| Error::Invalid(error.to_string()))
}

/// Whether the PID namespace that is given by path is joined last, but for hooks, which are told the init's pid before.
/// Not where a new user namespace would have no say in it by then, nor where a process is scheduled as no child of it
/// would be, or has no room for one; and procfs of the namespace is not for an ordinary user to mount from outside it.
fn joins_last(spec: &Spec, namespaces: &Namespaces, known: &Known<'_>) -> bool {
    let is_scheduled = spec.process().as_ref().is_some_and(|process| process.scheduler().is_some());
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let is_alone = resources.and_then(|all| all.pids().as_ref()).is_some_and(|pids| pids.limit() == 1);
    namespaces.by_path().contains(CloneFlags::CLONE_NEWPID)
        && !namespaces.new.contains(CloneFlags::CLONE_NEWUSER)
        && !is_scheduled
        && !is_alone
        && known.maker != MakerRights::Rootless
        && known.kernel.procfs_by_namespace
        && !guard::is_off(Guard::Unseen)
}

fn maps(spec: &Spec, namespaces: &Namespaces) -> Option<Maps> {
    let linux = spec.linux().as_ref().filter(|_| namespaces.new.contains(CloneFlags::CLONE_NEWUSER))?;
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    Some(Maps::new(uids, linux.gid_mappings().as_deref().unwrap_or_default()))
}

fn size(process: &oci_spec::runtime::Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let number = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    Some((number(size.width()), number(size.height())))
}

fn offsets(spec: &Spec) -> Result<CString, Error> {
    let all = spec.linux().as_ref().and_then(|linux: &Linux| linux.time_offsets().as_ref());
    let mut lines: Vec<String> = Vec::new();
    for (clock, offset) in all.into_iter().flatten() {
        if clock != "monotonic" && clock != "boottime" {
            return Err(Error::Invalid(format!("linux.timeOffsets: there is no clock {clock:?}")));
        }
        let (seconds, nanos) = (offset.secs().unwrap_or_default(), offset.nanosecs().unwrap_or_default());
        lines.push(format!("{clock} {seconds} {nanos}\n"));
    }
    lines.sort();
    text("linux.timeOffsets", &lines.concat())
}

fn sysctls(spec: &Spec) -> Result<Vec<Step>, Error> {
    let all = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut ordered: Vec<_> = all.into_iter().flatten().collect();
    ordered.sort();
    let step = |(name, value): (&String, &String)| {
        let file = text("linux.sysctl", &format!("sys/{}", check::file(name)))?;
        Ok(Step::Sysctl { file, value: text("linux.sysctl", value)? })
    };
    ordered.into_iter().map(step).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = if self.namespaces.time { namespace::TIME } else { CloneFlags::empty() };
        writeln!(out, "new namespaces: {}", namespace::names(self.namespaces.new | time))?;
        if !self.namespaces.sandbox.is_empty() {
            writeln!(out, "of the sandbox: {}", namespace::names(self.namespaces.sandbox))?;
        }
        for (flag, path) in &self.namespaces.joined {
            writeln!(out, "joined: {} at {}", namespace::names(*flag), path.display())?;
        }
        for Device { name, inside } in &self.devices {
            writeln!(out, "network device {name}, inside {inside}")?;
        }
        for index in 0..self.steps.len() {
            writeln!(out, "{index:3} {}", self.describe(index))?;
        }
        Ok(())
    }
}
