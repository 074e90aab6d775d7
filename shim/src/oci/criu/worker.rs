//! One criu at work: `criu swrk 3` as a child of ours, with a socket at its descriptor 3 over which it takes one request,
//! tells how far it is and answers; criu(8), and `images/rpc.proto` of criu.
//!
//! A request to restore is served by a criu that is born in the container's group, in a mount namespace of its own
//! where the root file system is a mount: both go to what it restores, and nothing of either stays where we are killed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::Error;
use super::answer::Answer;
use super::journal::Journal;
use super::request::{Kind, Request};
use crate::cgroup::Entry;
use crate::harmless;
use crate::oci::make::own_environment;
use crate::sys::process::{self, Child, Vector};
use crate::sys::socket::{Packet, receive, send};
use crate::sys::{descriptor, keyring, mount};
use crate::wire::Exit;

/// Where criu finds its socket, and behind it what it inherits.
const SOCKET: RawFd = 3;
/// Above every number that something is placed at.
const ASIDE: RawFd = 64;
/// Longest answer; those of criu have some hundred bytes.
const LONGEST: usize = 64 * 1024;

/// What criu tells while it is at work, and waits for.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The namespaces of the tree whose root has this pid are there, and nothing in them.
    SetupNamespaces(i32),
    /// All is restored and stopped; the root has this pid.
    PostRestore(i32),
    /// The master of a terminal whose master was outside.
    OrphanPtsMaster(OwnedFd),
    /// Pages can be fetched.
    StatusReady,
    /// Something that nobody here waits for.
    Other,
}

/// Where a restored container is made.
pub(crate) struct Site<'a> {
    /// Its group.
    pub(crate) group: &'a Entry,
    /// Flags of the namespaces that it has from criu, and criu from here.
    pub(crate) namespaces: CloneFlags,
    /// Its root file system, and the directory at which that becomes a mount.
    pub(crate) root: (CString, CString),
    /// Its session keyring; none where it keeps the caller's.
    pub(crate) keyring: Option<CString>,
}

/// What criu is started with.
#[derive(Default)]
pub(crate) struct Start<'a> {
    /// Standard streams; the null device where there are none.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// Further descriptors, at [`Start::number`].
    pub(crate) inherited: Vec<OwnedFd>,
    /// For a request to restore.
    pub(crate) site: Option<Site<'a>>,
}

impl Start<'_> {
    /// The number that the next of [`Start::inherited`] has in criu.
    pub(crate) fn number(&self) -> usize {
        SOCKET as usize + 1 + self.inherited.len()
    }
}

/// A criu that waits for its request.
#[derive(Debug)]
pub(crate) struct Worker {
    socket: OwnedFd,
    child: Child,
}

struct Work<'a> {
    program: &'a CStr,
    arguments: &'a Vector,
    environment: &'a Vector,
    /// From 0 on.
    descriptors: Vec<RawFd>,
    site: Option<&'a Site<'a>>,
    tell: RawFd,
}

/// What the child was at when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    EnterGroup,
    MakeNamespaces,
    KeepMounts,
    MountRoot,
    JoinKeyring,
    PlaceDescriptors,
    Execute,
}

impl Doing {
    const ALL: [(Self, &'static str); 7] = [
        (Self::EnterGroup, "enter the container's cgroup"),
        (Self::MakeNamespaces, "make the container's cgroup namespace"),
        (Self::KeepMounts, "keep mounts from the host"),
        (Self::MountRoot, "mount the root file system"),
        (Self::JoinKeyring, "join the container's session keyring"),
        (Self::PlaceDescriptors, "place descriptors"),
        (Self::Execute, "execute"),
    ];
}

impl Worker {
    /// Starts the criu at `program`.
    pub(crate) fn start(program: &CStr, start: Start<'_>) -> Result<Self, Error> {
        let failed = |errno| Error::Start { what: "start", program: text(program), source: errno };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(failed)?;
        let stdio = match start.stdio {
            Some(stdio) => stdio,
            None => null().map_err(failed)?,
        };
        let all = stdio.into_iter().chain([theirs]).chain(start.inherited);
        let all = all.map(aside).collect::<nix::Result<Vec<_>>>().map_err(failed)?;
        let (told, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        let work = Work {
            program,
            arguments: &Vector::new(vec![c"criu".into(), c"swrk".into(), c"3".into()]),
            environment: &own_environment(),
            descriptors: all.iter().map(AsRawFd::as_raw_fd).collect(),
            site: start.site.as_ref(),
            tell: tell.as_raw_fd(),
        };
        let (flags, group) = match &start.site {
            Some(site) => (CloneFlags::CLONE_NEWNS, site.group.directory()),
            None => (CloneFlags::empty(), None),
        };
        let child = process::spawn(flags, group, &work, become_criu).map_err(failed)?;
        drop(tell);
        let worker = Self { socket: ours, child };
        match problem(&told) {
            None => Ok(worker),
            Some((what, source)) => {
                process::reap_ended(worker.child.pidfd.as_fd());
                Err(Error::Start { what, program: text(program), source })
            }
        }
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Has the request done; `heed` takes what criu tells meanwhile. Where it fails, criu undoes what it did.
    pub(crate) fn ask(
        self,
        request: &Request,
        mut heed: impl FnMut(Notice) -> Result<(), crate::oci::error::Error>,
    ) -> Result<Answer, crate::oci::error::Error> {
        // What criu answers, or how it ended, tells more than that it took no request.
        harmless(send(self.socket.as_fd(), request.message.as_bytes(), &[]));
        let mut unheeded = None;
        let answer = loop {
            let Some((answer, descriptors)) = self.hear() else { break None };
            let Some(notice) = notice(&answer, descriptors) else { break Some(answer) };
            let heeded = heed(notice).map_err(|error| unheeded.get_or_insert(error)).is_ok();
            if send(self.socket.as_fd(), Request::noticed(heeded).message.as_bytes(), &[]).is_err() {
                break None;
            }
        };
        let exit = self.end();
        match (unheeded, answer) {
            (Some(error), _) => Err(error),
            (None, Some(answer)) if answer.success && answer.is(request.kind) => Ok(answer),
            (None, Some(answer)) => {
                let journal = Journal::told(answer.message);
                Err(Error::Failed { kind: request.kind.name(), errno: answer.errno, journal }.into())
            }
            (None, None) => {
                let journal = Journal::default();
                Err(Error::Gone { kind: request.kind.name(), exit, journal }.into())
            }
        }
    }

    /// The next answer, with its descriptors; none where criu is gone or speaks another language.
    fn hear(&self) -> Option<(Answer, Vec<OwnedFd>)> {
        loop {
            match receive(self.socket.as_fd(), LONGEST) {
                Err(Errno::EINTR) => {}
                Ok(Packet::Message(bytes, descriptors)) => return Some((Answer::read(&bytes)?, descriptors)),
                Ok(Packet::Truncated | Packet::Closed) | Err(_) => return None,
            }
        }
    }

    /// Lets it end, and waits for that: after a dump ahead it would wait for the next.
    fn end(self) -> Option<Exit> {
        drop(self.socket);
        let mut polled = [nix::poll::PollFd::new(self.child.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        while nix::poll::poll(&mut polled, nix::poll::PollTimeout::NONE) == Err(Errno::EINTR) {}
        process::reap_child(self.child.pidfd.as_fd())
    }
}

fn notice(answer: &Answer, mut descriptors: Vec<OwnedFd>) -> Option<Notice> {
    let (name, pid) = answer.notice.as_ref().filter(|_| answer.is(Kind::Notify))?;
    Some(match (name.as_str(), descriptors.pop()) {
        ("setup-namespaces", _) => Notice::SetupNamespaces(*pid),
        ("post-restore", _) => Notice::PostRestore(*pid),
        ("orphan-pts-master", Some(master)) => Notice::OrphanPtsMaster(master),
        ("status-ready", _) => Notice::StatusReady,
        (_, _) => Notice::Other,
    })
}

fn text(program: &CStr) -> String {
    program.to_string_lossy().into_owned()
}

fn null() -> nix::Result<[OwnedFd; 3]> {
    Ok([process::open_null()?, process::open_null()?, process::open_null()?])
}

/// The same at a number that nothing is placed at.
fn aside(descriptor: OwnedFd) -> nix::Result<OwnedFd> {
    let number = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(ASIDE))?;
    descriptor::inherited(number)
}

/// What the child could not do, as soon as it either executed criu or ended.
fn problem(told: &OwnedFd) -> Option<(&'static str, Errno)> {
    let mut bytes = [0; 8];
    let length = loop {
        match nix::unistd::read(told, &mut bytes) {
            Err(Errno::EINTR) => {}
            read => break read.unwrap_or_default(),
        }
    };
    let [number, _, _, _, errno @ ..] = bytes;
    let what = Doing::ALL.iter().find(|(doing, _)| *doing as u8 == number).map_or("start", |(_, what)| what);
    (length == bytes.len()).then_some((what, Errno::from_raw(i32::from_ne_bytes(errno))))
}

fn become_criu(work: &Work<'_>) -> ! {
    let (doing, errno) = match prepare(work) {
        Ok(()) => (Doing::Execute, process::execute(work.program, work.arguments, work.environment)),
        Err(failed) => failed,
    };
    let [v0, v1, v2, v3] = (errno as i32).to_ne_bytes();
    process::report(work.tell, &[doing as u8, 0, 0, 0, v0, v1, v2, v3]);
    process::leave(127)
}

fn prepare(work: &Work<'_>) -> Result<(), (Doing, Errno)> {
    let at = |doing| move |errno| (doing, errno);
    if let Some(site) = work.site {
        site.group.enter().map_err(at(Doing::EnterGroup))?;
        unshare(site.namespaces).map_err(at(Doing::MakeNamespaces))?;
        mount::change(c"/", MsFlags::MS_REC | MsFlags::MS_SLAVE).map_err(at(Doing::KeepMounts))?;
        let (root, place) = &site.root;
        mount::copy(root, mount::Reach::Tree)
            .and_then(|root| mount::attach_at(root.as_fd(), place))
            .map_err(at(Doing::MountRoot))?;
        if let Some(name) = &site.keyring {
            keyring::join_session(name).map_err(at(Doing::JoinKeyring))?;
        }
    }
    let mut from = work.descriptors.iter().zip(0..);
    from.try_for_each(|(from, to)| descriptor::place_raw(*from, to)).map_err(at(Doing::PlaceDescriptors))?;
    let first = work.descriptors.len() as u32;
    descriptor::close_on_exec_from(first).map_err(at(Doing::PlaceDescriptors))?;
    process::default_signals();
    Ok(())
}
