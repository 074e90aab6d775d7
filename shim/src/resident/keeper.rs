//! The keeper: the parent of a pod's shim, which does nothing but wait, so that nothing is lost when the shim is
//! killed.
//!
//! ```text
//!  keeper --forks--> shim --forks--> pause, containers, …
//!    |  holds the pod's lock, and copies of what no successor could open again: masters of terminals, writing ends of
//!    |  standard inputs, and reading ends of outputs, whose content would go with the last descriptor
//!    +-- the shim dies: its children become the keeper's (it is a subreaper); those that the shim named are
//!        remembered when they end; a successor is forked at once and inherits all of this
//! ```
//! It is forked by the same program and executes nothing, so it shares the shim's pages; it touches few of its own.
//! A keeper that is killed takes nothing along: the shim goes on without (see `kept`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use super::procfs;
use super::record::ProcessRecord;
use super::start::{Detached, Error};
use super::transit::Pipe;
use crate::harmless;
use crate::layout::PodLayout;
use crate::sys::{clock, pidfd, process, socket};
use crate::wire::{Exit, InstanceId};

/// The shim's status when it could not begin: the pod is gone, or its records are damaged.
pub(super) const REFUSED: i32 = 1;
/// One that lives shorter than this, in nanoseconds, counts as a quick death.
const QUICK: i64 = 60_000_000_000;
/// Longer than any message between the two.
pub(super) const LONGEST: usize = 4096;
/// Tells a keeper that somebody waits for the pod: it starts a shim now, if there is none.
const WANTED: i32 = libc::SIGHUP;

/// What the shim tells its keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The pod has its supervisor: whoever started this was told.
    Ready,
    /// Remember how this child of mine ends, should I not be there.
    Hold(ProcessRecord),
    /// Its end is recorded.
    Forget(ProcessRecord),
    /// Keep the descriptor beside this message, under this name.
    Keep(Name),
    /// Close it.
    Release(Name),
}

/// Means a descriptor that the keeper has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) instance: InstanceId,
    pub(super) of: Of,
}

/// What it is of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Of {
    Terminal,
    /// The shim's writing end of its standard input.
    Stdin,
    /// The shim's ends of the FIFOs of its output, which a terminal has one of.
    Stdout,
    Stderr,
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) exit: Exit,
    /// Nanoseconds since the Unix epoch.
    pub(super) at: i64,
}

/// What the keeper tells the shim: a process that a predecessor named has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) process: ProcessRecord,
    pub(super) end: End,
}

/// What outlives a shim.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Processes that a shim named, and how they ended.
    pub(super) held: BTreeMap<ProcessRecord, Option<End>>,
    pub(super) descriptors: BTreeMap<Name, OwnedFd>,
    /// What a shim took from a stream when it had written it (see `transit`).
    pub(super) taken: Option<Pipe>,
}

/// What a shim finds when its keeper forks it.
pub(super) struct Inheritance {
    pub(super) socket: OwnedFd,
    pub(super) store: Store,
    pub(super) ready: Option<OwnedFd>,
    /// Whether the file that names shim and keeper could be written.
    pub(super) written: std::io::Result<()>,
    /// How the shim before this one ended.
    pub(super) predecessor: Option<Exit>,
}

struct Keeper<'a> {
    detached: &'a Detached,
    lock: Flock<File>,
    store: RefCell<Store>,
    ready: RefCell<Option<OwnedFd>>,
    /// Both ends of the way to the shim, ours first, until it is forked.
    ends: RefCell<Option<(OwnedFd, OwnedFd)>>,
    /// Our end, while the shim has its own.
    link: RefCell<Option<OwnedFd>>,
    /// For a shim whose socket is full.
    unsent: RefCell<VecDeque<Ended>>,
    signals: RefCell<Option<SignalFd>>,
    predecessor: Cell<Option<Exit>>,
    /// Somebody waits for the pod.
    is_wanted: Cell<bool>,
}

/// Keeps the shim of a pod until the pod is over; the status to end with.
///
/// # Errors
/// No shim could be forked yet. Once there was one nothing ends its keeper: terminals, inputs and ends of processes
/// would go with it.
pub(super) fn keep(detached: &Detached, lock: Flock<File>, ready: Option<OwnedFd>) -> Result<i32, Error> {
    let system = |what| move |errno| Error::System(what, errno);
    process::become_subreaper().map_err(system("become a subreaper"))?;
    // The terminal, say, of whoever started it.
    let null = super::null().map_err(system("open /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(system("replace standard input"))?;
    nix::unistd::dup2_stdout(&null).map_err(system("replace standard output"))?;
    nix::unistd::dup2_stderr(&null).map_err(system("replace standard error"))?;
    drop(null);
    let signals = super::signals().map_err(|errno| Error::System("block signals", errno))?;
    let taken = Pipe::new().map_err(|errno| Error::System("make a pipe", errno))?;
    let keeper = Keeper {
        detached,
        lock,
        store: RefCell::new(Store { taken: Some(taken), ..Store::default() }),
        ready: RefCell::new(ready),
        ends: RefCell::default(),
        link: RefCell::default(),
        unsent: RefCell::default(),
        signals: RefCell::new(Some(signals)),
        predecessor: Cell::new(None),
        is_wanted: Cell::new(false),
    };
    let mut deaths = 0;
    loop {
        let begun = clock::monotonic();
        let exit = match keeper.run_shim() {
            Ok(Exit::Code(0)) => return Ok(0),
            // The next command for the pod starts another pair, and hears why this one refuses.
            Ok(Exit::Code(code)) if i32::from(code) == REFUSED => return Ok(REFUSED),
            Ok(exit) => exit,
            Err(error) if keeper.predecessor.get().is_none() => {
                say(keeper.ready.take(), &format!("0{}", super::chain(&error)));
                return Err(error);
            }
            Err(error) => {
                detached.note(&format!("{}; it is tried again", super::chain(&error)));
                Exit::Unknown
            }
        };
        deaths = if clock::monotonic() - begun >= QUICK { 0 } else { deaths };
        keeper.predecessor.set(Some(exit));
        keeper.wait(super::supervisor::pause(deaths));
        deaths += 1;
    }
}

impl Keeper<'_> {
    /// Forks a shim and serves it until it has ended.
    fn run_shim(&self) -> Result<Exit, Error> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let ends = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| Error::System("make a socket to the shim", errno))?;
        self.ends.replace(Some(ends));
        let shim = process::spawn(CloneFlags::empty(), None, self, become_shim);
        // The shim alone holds its end.
        let ours = self.ends.take().map(|(ours, _)| ours);
        let shim = shim.map_err(|errno| Error::System("fork the shim", errno))?;
        self.link.replace(ours);
        let mut ended = None;
        while ended.is_none() {
            self.sleep(PollTimeout::NONE);
            ended = self.look(shim.pid);
        }
        // Its last words, which were sent before it ended.
        self.listen();
        self.link.take();
        // Its successor finds these in the store.
        self.unsent.borrow_mut().clear();
        Ok(ended.unwrap_or(Exit::Unknown))
    }

    /// Waits for so many milliseconds, or until somebody wants the pod, and reaps meanwhile.
    fn wait(&self, milliseconds: u64) {
        let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
        let due = clock::monotonic().saturating_add(milliseconds.saturating_mul(1_000_000));
        loop {
            self.look(0);
            let left = (due - clock::monotonic()) / 1_000_000;
            if left <= 0 || self.is_wanted.take() {
                return;
            }
            self.sleep(PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }

    fn sleep(&self, limit: PollTimeout) {
        let (signals, link) = (self.signals.borrow(), self.link.borrow());
        let mut awaited = PollFlags::POLLIN;
        awaited.set(PollFlags::POLLOUT, !self.unsent.borrow().is_empty());
        let mut polled: Vec<PollFd<'_>> =
            signals.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
        polled.extend(link.iter().map(|link| PollFd::new(link.as_fd(), awaited)));
        // It may be interrupted. For two descriptors the kernel needs no memory, so nothing else can fail.
        harmless(poll(&mut polled, limit));
    }

    /// Takes in what was told and who ended; how the shim ended, if it did.
    fn look(&self, shim: i32) -> Option<Exit> {
        self.heed_signals();
        self.listen();
        while let Some((pid, exit)) = process::reap() {
            // What became ours was named, if at all, before the shim died.
            self.listen();
            if pid == shim {
                return Some(exit);
            }
            // Ended ones of the same number were not taken in by a shim yet.
            let mut store = self.store.borrow_mut();
            let named = store.held.iter_mut().rfind(|(process, end)| process.pid == pid && end.is_none());
            if let Some((process, kept)) = named {
                let end = End { exit, at: clock::wall() };
                *kept = Some(end);
                self.unsent.borrow_mut().push_back(Ended { process: *process, end });
            }
        }
        self.send_ends();
        None
    }

    fn heed_signals(&self) {
        let Some(signals) = &*self.signals.borrow() else { return };
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo == WANTED as u32 {
                self.is_wanted.set(true);
            }
        }
    }

    /// Tells the shim which of its wards ended; what its socket does not take now, when there is room.
    fn send_ends(&self) {
        let (link, mut unsent) = (self.link.borrow(), self.unsent.borrow_mut());
        let Some(link) = &*link else { return unsent.clear() };
        while let Some(ended) = unsent.front() {
            let bytes = serde_json::to_vec(ended).unwrap_or_default();
            match socket::send(link.as_fd(), &bytes, &[]) {
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // One that does not hear it dies, and its successor inherits what it was told.
                Ok(()) | Err(_) => drop(unsent.pop_front()),
            }
        }
    }

    /// Reads all that the shim has told. Once it has closed its end, ours is closed too: it would be ready for ever.
    fn listen(&self) {
        let is_open = self.link.borrow().as_ref().is_none_or(|link| self.listen_to(link));
        if !is_open {
            self.link.take();
        }
    }

    /// Whether it may tell more.
    fn listen_to(&self, socket: &OwnedFd) -> bool {
        loop {
            match socket::receive(socket.as_fd(), LONGEST) {
                Ok(socket::Packet::Message(bytes, descriptors)) => {
                    if let Ok(order) = serde_json::from_slice(&bytes) {
                        self.obey(order, descriptors);
                    }
                }
                // Comes before what is still to be read when the shim died with something unread.
                Ok(socket::Packet::Truncated) | Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return true,
                Ok(socket::Packet::Closed) | Err(_) => return false,
            }
        }
    }

    fn obey(&self, order: Order, descriptors: Vec<OwnedFd>) {
        let mut store = self.store.borrow_mut();
        match order {
            Order::Ready => drop(self.ready.take()),
            Order::Hold(process) => drop(store.held.insert(process, None)),
            Order::Forget(process) => drop(store.held.remove(&process)),
            Order::Keep(name) => {
                store.descriptors.extend(descriptors.into_iter().next().map(|descriptor| (name, descriptor)));
            }
            Order::Release(name) => drop(store.descriptors.remove(&name)),
        }
    }
}

/// The forked half: a shim that owns everything the keeper had for it, and nothing of the keeper's own.
fn become_shim(keeper: &Keeper<'_>) -> ! {
    // An unwinding panic would run the keeper's destructors: the lock would be given up for both.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
    drop(keeper.signals.take());
    let parent = nix::unistd::getppid().as_raw();
    let written = super::start::write_pids(&keeper.lock, std::process::id(), Some(parent));
    let socket = keeper.ends.take().map(|(_, theirs)| theirs);
    let Some(socket) = socket else { process::leave(super::start::LOST) };
    let (ready, predecessor) = (keeper.ready.take(), keeper.predecessor.get());
    let inheritance = Inheritance { socket, store: keeper.store.take(), ready, written, predecessor };
    process::leave(super::start::serve_kept(keeper.detached, inheritance))
}

/// The shim and the keeper of a pod, shim first, as far as they live.
pub(super) fn residents(pod: &PodLayout, uid: &str) -> Vec<OwnedFd> {
    let text = std::fs::read_to_string(pod.shim_lock()).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.trim().parse().ok());
    pids.filter_map(|pid| resident(pid, uid)).collect()
}

/// A process that serves this very pod: the number in the file may be another's by now.
fn resident(pid: i32, uid: &str) -> Option<OwnedFd> {
    let process = procfs::open(pid, procfs::start_time(pid)?)?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let is_ours = arguments.split(|byte| *byte == 0).any(|argument| argument == uid.as_bytes());
    (is_ours && !procfs::has_ended(&process)).then_some(process)
}

/// Has the keeper of a pod start a shim now, should it wait before it starts another.
pub(super) fn wake(pod: &PodLayout, uid: &str) {
    for resident in residents(pod, uid) {
        // A shim takes no notice of it, and one that has ended meanwhile needs none.
        harmless(pidfd::signal(resident.as_fd(), WANTED));
    }
}

/// What the caller of `hull-shim pod` is told.
pub(super) fn say(ready: Option<OwnedFd>, said: &str) {
    match ready {
        // A caller that went away does not need to know.
        Some(pipe) => harmless(File::from(pipe).write_all(said.as_bytes())),
        None => super::complain(format_args!("{said}")),
    }
}
