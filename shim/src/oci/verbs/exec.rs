//! `exec`: a further process in a container (oci-runtime.md sections 2.2 and 5). Joining is `container::exec`'s, the
//! same way that pods take.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use crate::container::engine::check::process_labels;
use crate::container::engine::listener::Listener;
use crate::container::engine::plan::keyring_name;
use crate::container::exec::{self as join, Stdio, Target, Way};
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::seccomp::aside::KnownFilter;
use crate::container::transform::Problem;
use crate::harmless;
use crate::oci::command::parse::Parsed;
use crate::oci::config;
use crate::oci::container::Container;
use crate::oci::error::Error;
use crate::oci::global::{Global, Supplementary};
use crate::oci::handover::{Front, Handover, Preserved};
use crate::oci::make::{identity, own_streams, refuse};
use crate::oci::process::process;
use crate::oci::relay::{self, Relay};
use crate::oci::status::Status;
use crate::oci::{Code, SUCCESS};
use crate::oci::{groups, protect};
use crate::sys::pidfd;
use crate::sys::process as system;
use crate::sys::process::{Child, reap_child};
use crate::wire::Exit;

pub(super) fn exec(global: &Global<'_>, id: &str, given: &Parsed) -> Result<Code, Error> {
    protect::ensure()?;
    enter(global, id, given).map_err(|error| Error::Exec(Box::new(error)))
}

fn enter(global: &Global<'_>, id: &str, given: &Parsed) -> Result<Code, Error> {
    let preserved = Preserved::find(given)?;
    let container = Container::find(global, id)?;
    check(container.status(), given)?;
    if container.record.at_once {
        // Nobody joins a container that a `run` is about to start: its init has the memory of the runtime still.
        drop(container.place.hold()?);
    }
    let init = container.init().ok_or(Error::NotRunning)?;
    let pid = container.record.init.map_or(0, |init| init.pid);
    let (mut spec, _, filter) = config::parse_for(global, container.place.config()?)?;
    let (process, unknown) = process(&spec, given, preserved)?;
    config::warn_of_unknown(global.log, &unknown);
    let has_terminal = process.terminal().unwrap_or(false);
    let front = if given.is_on("detach") { Front::Detached } else { Front::Attached };
    let mut handover = Handover::open(given, has_terminal, front)?;
    let size = process.console_size().as_ref().map(|size| (short(size.width()), short(size.height())));
    spec.set_process(Some(process));
    let (identity, program) = prepare((&spec, &filter), pid, global)?;
    let entry = groups::entry(&container.record.cgroup, given.values("cgroup"), pid)?;
    let mut relay = match front {
        Front::Attached => Some(begin_relay()?),
        Front::Detached => None,
    };
    let (stdio, master) = match (has_terminal, relay.as_mut()) {
        (true, _) => {
            let owner = owner(pid, identity.uid);
            let (stdio, master) = join::open_terminal(pid, size, owner).map_err(Error::Container)?;
            (stdio, Some(master))
        }
        (false, Some(relay)) => (Stdio::Files(relay.pipes().map_err(Error::kernel("make pipes"))?), None),
        (false, None) => (Stdio::Files(own_streams()?), None),
    };
    let listener = Listener::of_joining(&spec, &container.record.id, &container.record.bundle, pid)
        .filter(|_| identity.filter.as_ref().is_some_and(|filter| filter.needs_listener()));
    let agent = listener.as_ref().map(Listener::connect).transpose().map_err(refuse)?;
    let own = std::fs::File::open("/proc/self/ns/pid")
        .map_err(Error::file("open", "/proc/self/ns/pid".as_ref()))?;
    let name = keyring_name(&container.record.id).map_err(refuse)?;
    let target = Target {
        init: init.as_fd(),
        identity: &identity,
        cgroup: &entry,
        own_pid_namespace: own.as_fd(),
        // Any container may have joined its PID namespace, whatever it may do itself. A frozen one takes its time.
        way: Way::Unseen(PollTimeout::NONE),
        keyring: (!container.record.keeps_keyring).then_some(name.as_c_str()),
        procfs: None,
        namespaces: others(pid),
        preserved: preserved.all,
        observer: agent.as_ref().zip(listener.as_ref()).map(|(agent, told)| (agent.as_fd(), &told.state)),
    };
    let (child, pipe) =
        join::start(&target, &program, &stdio).map_err(Error::kernel("join the container"))?;
    drop(stdio);
    executed(&child, &pipe, &program, &identity)
        .map_err(|error| explain_label(&spec).unwrap_or(error))
        .and_then(|()| hand_over(&child, master, relay.as_mut(), &mut handover))
        .inspect_err(|_| end(&child))?;
    let Some(relay) = relay else {
        return Ok(SUCCESS);
    };
    let exit = relay.run(&child.pidfd, child.pid).map_err(Error::kernel("wait for the process"))?;
    Ok(relay::status(exit))
}

fn hand_over(
    child: &Child,
    master: Option<OwnedFd>,
    relay: Option<&mut Relay>,
    handover: &mut Handover,
) -> Result<(), Error> {
    if let Some(master) = master {
        match relay {
            Some(relay) => relay.attach(master).map_err(Error::kernel("attach to the terminal"))?,
            None => handover.terminal(master.as_fd())?,
        }
    }
    handover.process(child.pidfd.as_fd(), "setns")?;
    handover.pid(child.pid)
}

/// A process that nobody was told of is not left behind.
fn end(child: &Child) {
    harmless(pidfd::signal(child.pidfd.as_fd(), libc::SIGKILL));
    system::reap_ended(child.pidfd.as_fd());
}

fn check(status: Status, given: &Parsed) -> Result<(), Error> {
    let text = match status {
        Status::Stopped => "cannot exec in a stopped container",
        Status::Paused if !given.is_on("ignore-paused") => {
            "cannot exec in a paused container (use --ignore-paused to override)"
        }
        _ => return Ok(()),
    };
    Err(Error::Refused(text.to_owned()))
}

fn begin_relay() -> Result<Relay, Error> {
    system::become_subreaper().map_err(Error::kernel("become a subreaper"))?;
    Relay::new().map_err(Error::kernel("take signals"))
}

fn prepare(
    (spec, filter): (&Spec, &KnownFilter),
    pid: i32,
    global: &Global<'_>,
) -> Result<(Identity, Program), Error> {
    let process = spec.process().as_ref();
    // The image's files as the container has them, whatever was mounted over them.
    let root = format!("/proc/{pid}/root");
    let mut spec = spec.clone();
    spec.set_mounts(None);
    let mut identity = identity((&spec, filter), root.as_ref(), global)?;
    if Supplementary::like(global.maker, &pid.to_string()) == Supplementary::Kept {
        identity.keep_groups().map_err(refuse)?;
    }
    let args = process.and_then(|process| process.args().clone()).unwrap_or_default();
    let program = Program::new(&identity, &args, &[]).map_err(refuse)?;
    Ok((identity, program))
}

fn short(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The namespaces of the container that are not ours: others need not be joined, and one's own user namespace
/// cannot.
fn others(pid: i32) -> CloneFlags {
    let name = |path: String| std::fs::read_link(path).ok();
    let differs =
        |kind: &str| name(format!("/proc/self/ns/{kind}")) != name(format!("/proc/{pid}/ns/{kind}"));
    let known = [
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("user", CloneFlags::CLONE_NEWUSER),
        ("time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
    ];
    known.into_iter().filter(|(kind, _)| differs(kind)).map(|(_, flag)| flag).collect()
}

/// A user of the container as the host has it.
fn owner(pid: i32, uid: u32) -> u32 {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default();
    let outside = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
        uid.checked_sub(inside).filter(|at| *at < size).map(|at| outside + at)
    };
    map.lines().find_map(outside).unwrap_or(uid)
}

/// What it is that the kernel has no words for, where the process was to have a label or profile and there is no such thing.
fn explain_label(spec: &Spec) -> Option<Error> {
    let process = spec.process().as_ref()?;
    process_labels(process).map_err(refuse).err()
}

/// Waits until the program runs, or tells why it does not.
fn executed(child: &Child, pipe: &OwnedFd, program: &Program, identity: &Identity) -> Result<(), Error> {
    let mut bytes = [0; Problem::LENGTH];
    loop {
        match nix::unistd::read(pipe, &mut bytes) {
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {
                let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
                // An interrupted wait is a short one.
                harmless(poll(&mut polled, PollTimeout::NONE));
            }
            Ok(Problem::LENGTH) => {
                // Its end follows at once; ours comes with it.
                let _: Option<Exit> = reap_child(child.pidfd.as_fd());
                return Err(Error::Container(program.explain(identity, Problem::from_bytes(bytes))));
            }
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}
