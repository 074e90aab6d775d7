//! From the command line to the loop: self-protection, detaching, the lock, the records.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::CloneFlags;

use super::Shim;
use super::finish::Finish;
use super::keeper::{self, Inheritance};
use super::kept::Kept;
use super::launch::Programs;
use super::record::{self, Record};
use super::sandbox::Sandbox;
use super::supervisor::Supervisor;
use super::timers::Timers;
use super::transit::Transit;
use super::watch::{Source, Watch};
use crate::cgroup::{Group, Hierarchies};
use crate::harmless;
use crate::layout::{BOOT_ID, Layout, PodLayout};
use crate::sys::{clock, descriptor, environment, process, protect};
use crate::unwritable::unwritable;
use crate::wire::SandboxConfig;

/// The command line of `hull-shim pod`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--uid`: which pod.
    pub uid: String,
    /// `--ready-fd`: gets `1` when the pod has its supervisor or another shim has the pod, or `0` and
    /// the reason why this one cannot serve it.
    pub ready: Option<RawFd>,
    /// `remove` in place of `pod`: take everything of the pod away by force, and end.
    pub remove: bool,
    /// `--foreground`, for tests: stay a child of the caller.
    pub foreground: bool,
    /// `--protected`, given by the shim to itself: it runs from a read-only clone of its file, whose
    /// directory this is.
    pub protected: Option<PathBuf>,
}

/// Why a shim cannot serve its pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call.
    #[error("{0}")]
    System(&'static str, #[source] Errno),
    /// A file operation.
    #[error("{operation} {}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The pod was never applied, or is gone.
    #[error("pod {0} has no sandbox.json: it was never applied, or it is gone")]
    NoPod(String),
    /// A record.
    #[error("{0}")]
    Record(String),
    /// The cgroup hierarchies.
    #[error("{0}")]
    Cgroup(String),
    /// Forking needs a process of one thread.
    #[error("this process has several threads, and forks only with one")]
    Threads,
}

/// Opens the program of a shim on a read-only mount, for a caller that executes it from there and says so with
/// `--protected` and its directory: then the shim need not execute itself again.
///
/// # Errors
/// The kernel does not clone a mount for this caller; the shim then tries, and says what is wrong.
pub fn protected_program(program: &Path) -> std::io::Result<OwnedFd> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    Ok(protect::read_only(&path)?)
}

/// Serves a pod until it is over. The calling process ends at once when the shim is detached.
pub fn run(options: Options) -> Result<(), Error> {
    if !process::has_one_thread() {
        return Err(Error::Threads);
    }
    let Some(directory) = options.protected.clone() else {
        return Err(protect_self());
    };
    // Executed through a descriptor it would be called by its number.
    harmless(nix::sys::prctl::set_name(c"hull-shim"));
    if options.remove {
        return super::remove::remove(&options);
    }
    let detached = Detached { options, directory };
    if detached.options.foreground {
        return serve(&detached);
    }
    process::spawn(CloneFlags::empty(), None, &detached, child)
        .map(drop)
        .map_err(|errno| Error::System("fork", errno))
}

/// What a detached process needs to know.
pub(super) struct Detached {
    options: Options,
    directory: PathBuf,
}

impl Detached {
    fn pod(&self) -> PodLayout {
        Layout::new(self.options.root.clone()).pod(&self.options.uid)
    }

    /// Says something in the pod's diagnostics, for who has not opened them.
    pub(super) fn note(&self, what: &str) {
        let line = format!("{} hull-shim: {what}\n", clock::timestamp(clock::wall()));
        let opened = OpenOptions::new().append(true).open(self.pod().diagnostics());
        // Nobody is left to tell when the diagnostics cannot be written.
        harmless(opened.and_then(|mut file| file.write_all(line.as_bytes())));
    }
}

fn child(detached: &Detached) -> ! {
    let status = match nix::unistd::setsid() {
        Ok(_) => keep(detached),
        Err(_) => keeper::REFUSED,
    };
    process::leave(status)
}

/// Becomes the keeper of the pod's shim, unless there is one.
fn keep(detached: &Detached) -> i32 {
    let ready = match ready(detached) {
        Ok(ready) => ready,
        Err(_) => return keeper::REFUSED,
    };
    let pod = detached.pod();
    let told = match take(&pod, &detached.options.uid) {
        Ok(Some(lock)) => {
            return keeper::keep(detached, lock, ready).unwrap_or_else(|error| {
                detached.note(&super::chain(&error));
                keeper::REFUSED
            });
        }
        Ok(None) => {
            keeper::wake(&pod, &detached.options.uid);
            "1".to_owned()
        }
        Err(error) => format!("0{}", super::chain(&error)),
    };
    keeper::say(ready, &told);
    0
}

fn ready(detached: &Detached) -> Result<Option<OwnedFd>, Error> {
    let ready = detached.options.ready.map(descriptor::inherited).transpose();
    ready.map_err(|errno| Error::System("use --ready-fd", errno))
}

/// The shim that a keeper forked; the status to end with.
pub(super) fn serve_kept(detached: &Detached, mut inheritance: Inheritance) -> i32 {
    let (ready, is_first) = (inheritance.ready.take(), inheritance.predecessor.is_none());
    match prepare_kept(detached, inheritance) {
        Ok((mut shim, record)) => {
            shim.ready = ready;
            shim.begin(record);
            let Err(error) = shim.serve() else { return 0 };
            super::complain(format_args!("{}", super::chain(&error)));
            LOST
        }
        Err(error) => {
            let why = super::chain(&error);
            let is_final = is_first || matches!(error, Error::NoPod(_) | Error::Record(_));
            detached.note(&format!("cannot take the pod up: {why}"));
            if ready.is_some() {
                keeper::say(ready, &format!("0{why}"));
            }
            // With the keeper of a shim that was there would go what it keeps: another tries again.
            if is_final { keeper::REFUSED } else { LOST }
        }
    }
}

fn prepare_kept(
    detached: &Detached,
    mut inheritance: Inheritance,
) -> Result<(Shim, Option<Record<'static>>), Error> {
    std::mem::replace(&mut inheritance.written, Ok(())).map_err(|source| Error::File {
        operation: "write",
        path: detached.pod().shim_lock(),
        source,
    })?;
    let (mut shim, record) = prepare(detached, None)?;
    shim.inherit(inheritance).map_err(|errno| Error::System("watch the keeper", errno))?;
    Ok((shim, record))
}

/// The shim's status when it cannot go on and another may.
pub(super) const LOST: i32 = 4;

/// Executes this program again from where nobody can write to it (see [`crate::unwritable`]); returns only a failure.
fn protect_self() -> Error {
    let fail = |what| move |errno| Error::System(what, errno);
    let path = match std::env::current_exe() {
        Ok(path) => path,
        Err(source) => {
            return Error::File { operation: "read the link", path: "/proc/self/exe".into(), source };
        }
    };
    let tree = match unwritable() {
        Ok(tree) => tree,
        Err(errno) => return fail("copy this program to where nobody can write to it")(errno),
    };
    let directory = path.parent().map(|directory| directory.as_os_str().to_owned()).unwrap_or_default();
    let added: [OsString; 2] = ["--protected".into(), directory];
    let arguments = std::env::args_os().chain(added);
    let variables = std::env::vars_os().map(|(name, value)| [name, value].join(std::ffi::OsStr::new("=")));
    let vector = |strings: Vec<OsString>| {
        // Neither arguments nor variables of a process can hold a null byte.
        process::Vector::new(
            strings.into_iter().filter_map(|one| CString::new(one.into_vec()).ok()).collect(),
        )
    };
    let errno =
        process::execute_descriptor(tree.as_fd(), &vector(arguments.collect()), &vector(variables.collect()));
    fail("execute this program from its protected copy")(errno)
}

/// Serves without a keeper, for tests: what holds then holds after the death of both.
fn serve(detached: &Detached) -> Result<(), Error> {
    let pod = detached.pod();
    let Some(lock) = take(&pod, &detached.options.uid)? else { return Ok(()) };
    let (mut shim, record) = prepare(detached, Some(lock))?;
    shim.begin(record);
    shim.serve()
}

/// A shim whose keeper, or itself, has the pod's lock.
fn prepare(detached: &Detached, lock: Option<Flock<File>>) -> Result<(Shim, Option<Record<'static>>), Error> {
    let options = &detached.options;
    let layout = Layout::new(options.root.clone());
    let pod = layout.pod(&options.uid);
    // Under the lock: whoever removes the pod holds it too.
    let Some(config) = record::read::<SandboxConfig>(&pod.sandbox_config()).map_err(unreadable)? else {
        clear(&pod);
        return Err(Error::NoPod(options.uid.clone()));
    };
    redirect(&pod.diagnostics())?;
    let record = record::read::<Record<'static>>(&pod.shim_record()).map_err(unreadable)?;
    process::note_ignored_signals();
    process::become_subreaper().map_err(|errno| Error::System("become a subreaper", errno))?;
    // libcontainer would take it for a request to hand descriptors on.
    environment::forget("LISTEN_FDS");
    let programs = Programs::new(&detached.directory);
    Ok((assemble(layout, config, programs, lock)?, record))
}

/// A file that cannot be read now may be later; one that cannot be parsed stays so.
fn unreadable(error: record::Error) -> Error {
    match error {
        record::Error::File { operation, path, source } => Error::File { operation, path, source },
        error @ record::Error::Parse(..) => Error::Record(super::chain(&error)),
    }
}

/// Locks the pod's own file, not one that was removed while we came; none when another shim has it.
fn take(pod: &PodLayout, uid: &str) -> Result<Option<Flock<File>>, Error> {
    // No file is made for a pod that is not there.
    if !pod.dir().exists() {
        return Err(Error::NoPod(uid.to_owned()));
    }
    let path = pod.shim_lock();
    let locked = match lock(&path) {
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoPod(uid.to_owned()));
        }
        locked => locked?,
    };
    let Some(lock) = locked else { return Ok(None) };
    write_pids(&lock, std::process::id(), None).map_err(|source| Error::File {
        operation: "write",
        path: path.clone(),
        source,
    })?;
    let ours =
        lock.metadata().map_err(|source| Error::File { operation: "stat", path: path.clone(), source })?;
    let is_same =
        std::fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    if is_same { Ok(Some(lock)) } else { Err(Error::NoPod(uid.to_owned())) }
}

/// What a shim that was killed at the very end of a removal left, and our own lock file.
fn clear(pod: &PodLayout) {
    for file in [pod.shim_record(), pod.shim_lock()] {
        harmless(std::fs::remove_file(file));
    }
    // Whatever else is in it is not ours to judge.
    harmless(std::fs::remove_dir(pod.dir()));
}

fn assemble(
    layout: Layout,
    config: SandboxConfig,
    programs: Programs,
    lock: Option<Flock<File>>,
) -> Result<Shim, Error> {
    let system = |what| move |errno| Error::System(what, errno);
    let pod = layout.pod(&config.uid);
    let disk = hold_disk(&pod)?;
    let hierarchies = Rc::new(Hierarchies::find().map_err(|error| Error::Cgroup(super::chain(&error)))?);
    let path = PathBuf::from("/proc/self/ns/pid");
    let namespace = File::open(&path).map_err(|source| Error::File { operation: "open", path, source })?;
    let mut watch = Watch::new().map_err(system("make an epoll descriptor"))?;
    let signals = super::signals().map_err(system("block signals"))?;
    let timers = Timers::new().map_err(system("make a timer"))?;
    let path = pod.output_note();
    let transit = Transit::new(&path).map_err(|source| Error::File { operation: "open", path, source })?;
    watch.add(&signals, Source::Signals).map_err(system("watch signals"))?;
    watch.add(&timers.descriptor(), Source::Timer).map_err(system("watch the timer"))?;
    Ok(Shim {
        pod,
        group: Group::of_pod(&hierarchies, &config.uid, config.cgroup_manager),
        programs,
        layout,
        config,
        _lock: lock,
        _disk: disk,
        kept: Kept::default(),
        ready: None,
        watch,
        signals,
        timers,
        own_pid_namespace: namespace.into(),
        engine: super::making::Engine::new(),
        filters: RefCell::default(),
        roles: HashMap::new(),
        strays: HashMap::new(),
        adopted: HashMap::new(),
        sandbox: Sandbox::default(),
        instances: BTreeMap::new(),
        execs: BTreeMap::new(),
        tasks: BTreeMap::new(),
        supervisor: Supervisor::default(),
        finish: Finish::default(),
        // Names of cgroups are made from keys: those of a predecessor are not used again.
        next_key: clock::monotonic().unsigned_abs(),
        transit,
    })
}

/// Makes the pod's directory on disk where it is not yet, holds it and says of which boot it is: who has another `/run`
/// and does not find the pod there sees by this that it may live.
fn hold_disk(pod: &PodLayout) -> Result<Flock<File>, Error> {
    let path = pod.disk();
    let fail = |operation| move |source| Error::File { operation, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail("create"))?;
    let directory = File::open(path).map_err(fail("open"))?;
    // Whoever looks does so for a moment.
    let held =
        Flock::lock(directory, FlockArg::LockShared).map_err(|(_, errno)| fail("lock")(errno.into()))?;
    mark_disk(&pod.disk_boot()).map_err(fail("mark"))?;
    Ok(held)
}

/// The mark outlives shim and keeper. A link is there whole or not at all, and a full disk takes it.
fn mark_disk(path: &Path) -> std::io::Result<()> {
    let boot = std::fs::read_to_string(BOOT_ID)?;
    match std::os::unix::fs::symlink(boot.trim(), path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Standard input is `/dev/null`, the other two are the pod's diagnostics; the directory is `/`.
fn redirect(diagnostics: &std::path::Path) -> Result<(), Error> {
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(diagnostics)
        .map_err(|source| Error::File { operation: "open", path: diagnostics.to_owned(), source })?;
    let system = |what| move |errno| Error::System(what, errno);
    let null = super::null().map_err(system("open /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(system("replace standard input"))?;
    nix::unistd::dup2_stdout(&log).map_err(system("replace standard output"))?;
    nix::unistd::dup2_stderr(&log).map_err(system("replace standard error"))?;
    process::set_umask(0o022);
    nix::unistd::chdir("/").map_err(system("change to /"))
}

/// Says who serves the pod, and in the next line who keeps that process. Always of one width and written over: no
/// reader finds an empty file, and a full disk takes it.
pub(super) fn write_pids(lock: &File, shim: u32, keeper: Option<i32>) -> std::io::Result<()> {
    let keeper = keeper.map(|pid| format!("{pid:010}\n")).unwrap_or_default();
    let text = format!("{shim:010}\n{keeper}");
    lock.write_all_at(text.as_bytes(), 0)?;
    lock.set_len(text.len() as u64)
}

/// Takes the pod; none when another shim has it.
pub(super) fn lock(path: &std::path::Path) -> Result<Option<Flock<File>>, Error> {
    let fail = |operation| move |source| Error::File { operation, path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    match Flock::lock(file.map_err(fail("open"))?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(fail("lock")(errno.into())),
    }
}
