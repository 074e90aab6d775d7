//! The keeper: the parent of a pod's shim, which does nothing but wait, so that nothing is lost when the shim is
//! killed.
//!
//! ```text
//!  keeper --forks--> shim --forks--> pause, containers, …
//!    |  holds the pod's lock, and copies of what no successor could open again: masters of terminals, and
//!    |  the writing ends of standard inputs
//!    +-- the shim dies: its children become the keeper's (it is a subreaper); those that the shim named are
//!        remembered when they end; a successor is forked at once and inherits all of this
//! ```
//! It is forked by the same program and executes nothing, so it shares the shim's pages; it touches few of its own.
//! A keeper that is killed takes nothing along: the shim goes on without (see `kept`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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

use super::start::{Detached, Error};
use crate::harmless;
use crate::sys::{clock, process, socket};
use crate::wire::Exit;

/// The shim's status when it could not begin: the pod is gone, or its records are damaged.
pub(super) const REFUSED: i32 = 1;
/// One that lives shorter than this, in nanoseconds, counts as a quick death.
const QUICK: i64 = 60_000_000_000;
/// Longer than any message between the two.
const LONGEST: usize = 4096;

/// What the shim tells its keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The pod has its supervisor: whoever started this was told.
    Ready,
    /// Remember how this child of mine ends, should I not be there.
    Hold(i32),
    /// Its end is recorded.
    Forget(i32),
    /// Keep the descriptor beside this message, under this name.
    Keep(String),
    /// Close it.
    Release(String),
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
    pub(super) pid: i32,
    pub(super) end: End,
}

/// What outlives a shim.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Processes that a shim named, and how they ended.
    pub(super) held: BTreeMap<i32, Option<End>>,
    pub(super) descriptors: BTreeMap<String, OwnedFd>,
}

/// What a shim finds when its keeper forks it.
pub(super) struct Inheritance {
    pub(super) socket: OwnedFd,
    pub(super) store: Store,
    pub(super) ready: Option<OwnedFd>,
    /// How the shim before this one ended.
    pub(super) predecessor: Option<Exit>,
}

struct Keeper<'a> {
    detached: &'a Detached,
    lock: Flock<File>,
    store: RefCell<Store>,
    ready: RefCell<Option<OwnedFd>>,
    /// Both ends of the way to the shim, ours first; the shim takes its own.
    ends: RefCell<Option<(OwnedFd, OwnedFd)>>,
    signals: RefCell<Option<SignalFd>>,
    predecessor: Cell<Option<Exit>>,
}

/// Keeps the shim of a pod until the pod is over; the status to end with.
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
    let keeper = Keeper {
        detached,
        lock,
        store: RefCell::default(),
        ready: RefCell::new(ready),
        ends: RefCell::default(),
        signals: RefCell::new(Some(signals)),
        predecessor: Cell::new(None),
    };
    let mut deaths = 0;
    loop {
        let begun = clock::monotonic();
        let exit = keeper.run_shim()?;
        match exit {
            Exit::Code(0) => return Ok(0),
            // The next command for the pod starts another pair, and hears why this one refuses.
            Exit::Code(code) if i32::from(code) == REFUSED => return Ok(REFUSED),
            Exit::Code(_) | Exit::Signaled(_) | Exit::Unknown => {}
        }
        deaths = if clock::monotonic() - begun >= QUICK { 0 } else { deaths };
        keeper.predecessor.set(Some(exit));
        keeper.wait(super::supervisor::pause(deaths))?;
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
        let shim = process::spawn(CloneFlags::empty(), None, self, become_shim)
            .map_err(|errno| Error::System("fork the shim", errno))?;
        let ends = self.ends.take();
        // The shim alone holds its end.
        let ours = ends.map(|(ours, _)| ours);
        let mut ended = None;
        while ended.is_none() {
            self.sleep(ours.as_ref(), PollTimeout::NONE)?;
            ended = self.look(ours.as_ref(), shim.pid);
        }
        // Its last words, which were sent before it ended.
        if let Some(ours) = &ours {
            self.listen(ours);
        }
        Ok(ended.unwrap_or(Exit::Unknown))
    }

    /// Waits for so many milliseconds, and reaps meanwhile.
    fn wait(&self, milliseconds: u64) -> Result<(), Error> {
        let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
        let due = clock::monotonic().saturating_add(milliseconds.saturating_mul(1_000_000));
        loop {
            self.look(None, 0);
            let left = (due - clock::monotonic()) / 1_000_000;
            if left <= 0 {
                return Ok(());
            }
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            self.sleep(None, left)?;
        }
    }

    fn sleep(&self, socket: Option<&OwnedFd>, limit: PollTimeout) -> Result<(), Error> {
        let signals = self.signals.borrow();
        let mut polled: Vec<PollFd<'_>> =
            signals.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
        polled.extend(socket.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::System("wait for the shim", errno)),
        }
    }

    /// Takes in what was told and who ended; how the shim ended, if it did.
    fn look(&self, socket: Option<&OwnedFd>, shim: i32) -> Option<Exit> {
        if let Some(signals) = &*self.signals.borrow() {
            while let Ok(Some(_)) = signals.read_signal() {}
        }
        let mut open = socket.is_some_and(|socket| self.listen(socket));
        while let Some((pid, exit)) = process::reap() {
            // What became ours was named, if at all, before the shim died.
            open = open && socket.is_some_and(|socket| self.listen(socket));
            if pid == shim {
                return Some(exit);
            }
            if let Some(end) = self.store.borrow_mut().held.get_mut(&pid) {
                let ended = Ended { pid, end: End { exit, at: clock::wall() } };
                *end = Some(ended.end);
                if let Some(socket) = socket.filter(|_| open) {
                    // One that does not hear it dies, and its successor inherits what it was told.
                    harmless(socket::send(
                        socket.as_fd(),
                        &serde_json::to_vec(&ended).unwrap_or_default(),
                        &[],
                    ));
                }
            }
        }
        None
    }

    /// Reads all that the shim has told; whether it may tell more.
    fn listen(&self, socket: &OwnedFd) -> bool {
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
            Order::Hold(pid) => drop(store.held.insert(pid, None)),
            Order::Forget(pid) => drop(store.held.remove(&pid)),
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
    let (Ok(()), Some(socket)) = (written, socket) else { process::leave(REFUSED) };
    let (ready, predecessor) = (keeper.ready.take(), keeper.predecessor.get());
    let inheritance = Inheritance { socket, store: keeper.store.take(), ready, predecessor };
    process::leave(super::start::serve_kept(keeper.detached, inheritance))
}

/// What the caller of `hull-shim pod` is told.
pub(super) fn say(ready: Option<OwnedFd>, said: &str) {
    match ready {
        // A caller that went away does not need to know.
        Some(pipe) => harmless(File::from(pipe).write_all(said.as_bytes())),
        None => super::complain(format_args!("{said}")),
    }
}
