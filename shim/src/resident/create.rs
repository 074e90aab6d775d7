//! Creating, starting and forgetting instances.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo};
use oci_spec::runtime::{LinuxDeviceCgroup, Spec};

use super::children::Role;
use super::instance::{Creator, Files, Held, Init, Starting, State, unfit, unknown};
use super::output::{Kind, Output};
use super::record::ProcessRecord;
use super::supervisor::Reply;
use super::timers::Timer;
use super::watch::Source;
use super::{Shim, launch, procfs};
use crate::cgroup::{self, Entry, Group};
use crate::container::creator::{self, Job, Outcome, Stdio};
use crate::container::groups;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::spec::{self, Joined};
use crate::container::transform::Problem;
use crate::harmless;
use crate::sys::{clock, pidfd, process, socket};
use crate::wire::{Answer, CreateConfig, Failure, InstanceId, MAX_PACKET};

/// A creator that takes longer hangs in the kernel or in a hook.
const CREATOR_LIMIT: u64 = 120_000;

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
        let group = self.group.child(&instance.to_string());
        let (spec, identity, program) = self.complete(&config, &group)?;
        let made = match make_all(&config, &group, &spec, &identity) {
            Ok(made) => made,
            Err(message) => {
                self.remove_group(&group, 0);
                remove_files(&config);
                return Err(message);
            }
        };
        let (result, theirs) = made.result;
        let job = Job {
            spec,
            id: config.id.clone(),
            work: Files(&config).work(),
            identity: identity.clone(),
            program: program.clone(),
            stdio: made.stdio,
            result: theirs,
            start: made.start_write,
        };
        let held = Held {
            create: config,
            state: State::Creating,
            creator: None,
            init: None,
            started_at: None,
            group,
            entry: made.entry,
            identity,
            program,
            unreadable: None,
            start: Some(made.start),
            starting: None,
            output: made.output,
            stdin: made.stdin,
            terminal: None,
        };
        self.instances.insert(instance.clone(), held);
        self.record();
        for (kind, stream) in made.streams {
            self.follow(&instance, kind, stream);
        }
        self.fork_creator(&instance, &job, result, reply)
    }

    /// The specification for libcontainer, and what is left to the last steps.
    fn complete(&self, config: &CreateConfig, group: &Group) -> Result<(Spec, Identity, Program), String> {
        let path = config.bundle.join("config.json");
        let spec = Spec::load(&path)
            .map_err(|error| format!("read {}: {}", path.display(), super::chain(&error)))?;
        let (identity, program) = identify(&spec, config)?;
        let pause = self.sandbox.pause.as_ref().ok_or("there is no sandbox")?.record.pid;
        let joined = Joined { pause, share_pid: self.config.share_pid };
        let spec = spec::complete(spec, &config.bundle, joined, &group.absolute());
        let mut spec = spec.map_err(|error| super::chain(&error))?;
        if let Some(shown) = group.shown() {
            groups::show(&mut spec, &shown).map_err(|error| super::chain(&error))?;
        }
        Ok((spec, identity, program))
    }

    fn fork_creator(
        &mut self,
        instance: &InstanceId,
        job: &Job,
        result: OwnedFd,
        reply: Reply,
    ) -> Result<(), String> {
        let child = match process::spawn(nix::sched::CloneFlags::empty(), None, job, creator::run) {
            Ok(child) => child,
            Err(errno) => {
                self.discard(instance);
                self.record();
                return Err(format!("fork a creator: {}", launch::reason(errno)));
            }
        };
        self.roles.insert(child.pid, Role::Creator(instance.clone()));
        self.timers.after(CREATOR_LIMIT, Timer::Creator(instance.clone()));
        if let Some(held) = self.instances.get_mut(instance) {
            held.creator = Some(Creator { pidfd: child.pidfd, result, reply: Some(reply) });
        }
        Ok(())
    }

    pub(super) fn creator_overdue(&mut self, instance: &InstanceId) {
        if let Some(creator) = self.instances.get(instance).and_then(|held| held.creator.as_ref()) {
            self.complain(format_args!("the creator of {instance} hangs and is killed"));
            harmless(pidfd::signal(creator.pidfd.as_fd(), libc::SIGKILL));
        }
    }

    pub(super) fn creator_ended(&mut self, instance: &InstanceId) {
        let Some(creator) = self.instances.get_mut(instance).and_then(|held| held.creator.take()) else {
            return;
        };
        self.timers.cancel_creator(instance);
        let answer = match receive(&creator.result) {
            Ok((pid, master)) => self.created(instance, pid, master),
            Err(message) => Err(message),
        };
        let answer = answer.map_err(|message| {
            self.discard(instance);
            self.record();
            Failure::Create { message: format!("unable to create container {instance}: {message}") }
        });
        if !self.is_creating() {
            self.strays.clear();
        }
        self.answer(creator.reply, answer);
        if self.sandbox.stopping.is_some() {
            self.kill_instances();
            self.continue_stop();
        }
        self.start_supervisor_if_quiet();
    }

    fn created(
        &mut self,
        instance: &InstanceId,
        pid: i32,
        master: Option<OwnedFd>,
    ) -> Result<Answer, String> {
        if self.strays.remove(&pid).is_some() {
            return Err("its init ended before it was started".to_owned());
        }
        // The pid is that of our child, not reaped yet.
        let pidfd =
            pidfd::open(pid).map_err(|errno| format!("pidfd_open {pid}: {}", launch::reason(errno)))?;
        let start_time = procfs::start_time(pid).ok_or_else(|| format!("read /proc/{pid}/stat"))?;
        let Some(held) = self.instances.get_mut(instance) else {
            return Err("it was given up".to_owned());
        };
        held.init = Some(Init { record: ProcessRecord { pid, start_time }, pidfd });
        held.state = State::Created;
        held.terminal = master;
        self.roles.insert(pid, Role::Init(instance.clone()));
        set_oom_score(pid, held.create.oom_score_adj)?;
        let terminal = held.terminal.as_ref().map(OwnedFd::try_clone).transpose();
        if let Some(copy) = terminal.map_err(|error| error.to_string())? {
            self.follow(instance, Kind::Terminal, copy);
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
        if let Err(error) = held.group.kill() {
            self.complain(format_args!("{}", super::chain(&error)));
        }
        self.remove_group(&held.group, 0);
        remove_files(&held.create);
    }

    pub(super) fn start(&mut self, instance: &InstanceId, reply: Reply) {
        if let Err(failure) = self.try_start(instance, reply) {
            self.answer(Some(reply), Err(failure));
        }
    }

    fn try_start(&mut self, instance: &InstanceId, reply: Reply) -> Result<(), Failure> {
        let held = self.instances.get_mut(instance).ok_or_else(|| unknown(instance))?;
        // A supervisor died over its request, and the next one asks again.
        if let (State::Running, Some(started_at)) = (&held.state, held.started_at) {
            self.answer(Some(reply), Ok(Answer::Started { started_at }));
            return Ok(());
        }
        if let Some(starting) = &mut held.starting {
            starting.reply = Some(reply);
            return Ok(());
        }
        let (State::Created, Some(start)) = (&held.state, &held.start) else {
            return Err(unfit(held, "created"));
        };
        let other = |what: &str, error: &dyn std::fmt::Display| Failure::Other {
            message: format!("start {instance}: {what}: {error}"),
        };
        let socket = creator::notify_socket(&Files(&held.create).work(), &held.create.id);
        let token = self
            .watch
            .add(start, Source::Start(instance.clone()))
            .map_err(|errno| other("watch its start", &errno))?;
        held.starting = Some(Starting { token, reply: Some(reply) });
        let notified = libcontainer::notify_socket::NotifySocket::new(socket).notify_container_start();
        if let Err(error) = notified {
            self.watch.remove(start, token);
            held.starting = None;
            return Err(other("notify its init", &super::chain(&error)));
        }
        Ok(())
    }

    /// The init executed its program, or told why it could not.
    pub(super) fn start_event(&mut self, instance: &InstanceId) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        let Some(start) = &held.start else { return };
        let mut bytes = [0; Problem::LENGTH];
        let read = match nix::unistd::read(start, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            result => result,
        };
        let Some(starting) = held.starting.take() else {
            return;
        };
        self.watch.remove(start, starting.token);
        held.start = None;
        let result = match read {
            Ok(Problem::LENGTH) => {
                let message = held.program.explain(&held.identity, Problem::from_bytes(bytes));
                Err(Failure::Start { message })
            }
            Ok(_) | Err(_) => {
                let started_at = clock::wall();
                held.state = State::Running;
                held.started_at = Some(started_at);
                self.record();
                Ok(Answer::Started { started_at })
            }
        };
        self.answer(starting.reply, result);
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
pub(super) fn identify(spec: &Spec, config: &CreateConfig) -> Result<(Identity, Program), String> {
    let text = |error: &dyn std::error::Error| super::chain(error);
    let rootfs = spec::rootfs(spec, &config.bundle).ok_or("config.json: root is missing")?;
    let identity = Identity::new(spec, &rootfs, Some(config.oom_score_adj)).map_err(|error| text(&error))?;
    let process = spec.process().as_ref().ok_or("config.json: process is missing")?;
    let args = process.args().as_deref().unwrap_or_default();
    let program = Program::new(&identity, args, &[]).map_err(|error| text(&error))?;
    Ok((identity, program))
}

fn device_rules(spec: &Spec) -> Vec<LinuxDeviceCgroup> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources.and_then(|resources| resources.devices().clone()).unwrap_or_default()
}

/// What is there before the creator is.
struct Made {
    entry: Entry,
    output: Output,
    result: (OwnedFd, OwnedFd),
    stdio: Stdio,
    streams: Vec<(Kind, OwnedFd)>,
    stdin: Option<OwnedFd>,
    start: OwnedFd,
    start_write: OwnedFd,
}

fn make_all(config: &CreateConfig, group: &Group, spec: &Spec, identity: &Identity) -> Result<Made, String> {
    let text = |error: cgroup::Error| super::chain(&error);
    group.create().map_err(text)?;
    group.kill_together().map_err(text)?;
    group.restrict_devices(&device_rules(spec)).map_err(text)?;
    let start_path = Files(config).start();
    make_fifo(&start_path, identity)?;
    let streams = make_streams(config, identity)?;
    Ok(Made {
        entry: group.entry().map_err(text)?,
        output: Output::new(&config.log)
            .map_err(|error| format!("open {}: {error}", config.log.display()))?,
        result: packet_pair().map_err(launch::reason)?,
        stdio: streams.stdio,
        streams: streams.ours,
        stdin: streams.stdin,
        start: open_fifo(&start_path, OFlag::O_RDONLY)?,
        start_write: open_blocking(&start_path, OFlag::O_WRONLY)?,
    })
}

struct Streams {
    stdio: Stdio,
    ours: Vec<(Kind, OwnedFd)>,
    stdin: Option<OwnedFd>,
}

/// The FIFOs of an instance. Its own ends of standard output are open for reading too, so that it never gets
/// EPIPE while no shim is there.
fn make_streams(config: &CreateConfig, identity: &Identity) -> Result<Streams, String> {
    if config.tty {
        return Ok(Streams { stdio: Stdio::Terminal, ours: Vec::new(), stdin: None });
    }
    let files = Files(config);
    let open_both = |kind, path: &Path| {
        make_fifo(path, identity)?;
        // The reader first: it is told of the writers' end only when it was there before them.
        let ours = open_fifo(path, OFlag::O_RDONLY)?;
        Ok::<_, String>(((kind, ours), open_blocking(path, OFlag::O_RDWR)?))
    };
    let (stdout, their_stdout) = open_both(Kind::Stdout, &files.stdout())?;
    let (stderr, their_stderr) = open_both(Kind::Stderr, &files.stderr())?;
    let (their_stdin, stdin) = if config.stdin {
        let path = files.stdin();
        make_fifo(&path, identity)?;
        let theirs = open_blocking(&path, OFlag::O_RDONLY)?;
        (theirs, Some(open_fifo(&path, OFlag::O_WRONLY)?))
    } else {
        (super::null().map_err(launch::reason)?, None)
    };
    let stdio = Stdio::Files([their_stdin, their_stdout, their_stderr]);
    Ok(Streams { stdio, ours: vec![stdout, stderr], stdin })
}

fn make_fifo(path: &Path, identity: &Identity) -> Result<(), String> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => {
            return Err(format!("make the FIFO {}: {}", path.display(), launch::reason(errno)));
        }
    }
    // The container may open its /dev/stdout anew, as its own user.
    chown(path, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))
        .map_err(|errno| format!("chown {}: {}", path.display(), launch::reason(errno)))
}

/// Opens a FIFO without waiting for its other end.
pub(super) fn open_fifo(path: &Path, access: OFlag) -> Result<OwnedFd, String> {
    open(path, access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
        .map_err(|errno| format!("open {}: {}", path.display(), launch::reason(errno)))
}

/// The same for a process that expects reads and writes to wait.
fn open_blocking(path: &Path, access: OFlag) -> Result<OwnedFd, String> {
    let end = open_fifo(path, access)?;
    fcntl(&end, FcntlArg::F_SETFL(access)).map_err(launch::reason)?;
    Ok(end)
}

/// Removes what the shim made for an instance in its directory.
pub(super) fn remove_files(config: &CreateConfig) {
    let files = Files(config);
    for path in [files.stdin(), files.stdout(), files.stderr(), files.start()] {
        // Those of a terminal were never made.
        harmless(std::fs::remove_file(path));
    }
    if let Err(error) = crate::tree::remove(&files.work()) {
        super::complain(format_args!("{}", super::chain(&error)));
    }
}

fn packet_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// What the creator, which has ended, told.
fn receive(result: &OwnedFd) -> Result<(i32, Option<OwnedFd>), String> {
    super::set_nonblocking(result).map_err(launch::reason)?;
    let (bytes, mut descriptors) = match socket::receive(result.as_fd(), MAX_PACKET) {
        Ok(socket::Packet::Message(bytes, descriptors)) => (bytes, descriptors),
        Ok(_) | Err(_) => return Err("its creator ended without a result".to_owned()),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Outcome::Created(pid)) if pid > 0 => Ok((pid, descriptors.pop())),
        Ok(Outcome::Created(_)) => Err("its creator told no pid".to_owned()),
        Ok(Outcome::Failed(message)) => Err(message),
        Err(error) => Err(format!("its creator's result cannot be parsed: {error}")),
    }
}

/// Lowering below our own value needs CAP_SYS_RESOURCE; without it the init keeps ours, the nearest
/// that is permitted.
fn set_oom_score(pid: i32, value: i32) -> Result<(), String> {
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, value.to_string()) {
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
            Err(format!("write {value} to {path}: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
