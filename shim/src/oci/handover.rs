//! What is handed to the caller: pid files, and descriptors over its sockets (oci-runtime.md section 2.9).

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{FdFlag, OFlag, open};
use nix::sys::stat::Mode;

use super::command::parse::Parsed;
use super::error::Error;
use super::store::write_whole;
use crate::sys::socket;

/// Longest path that a socket address holds.
const LONGEST: usize = 107;

/// Where the caller wants things.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    pid_file: Option<PathBuf>,
    console: Option<UnixStream>,
    pidfd: Option<UnixStream>,
}

/// Whether the caller's terminal, a terminal of our own, or none is at the process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// We end before the process.
    Detached,
    /// We wait for the process.
    Attached,
}

impl Handover {
    /// Opens the sockets, with the caller's rights, before anything is made.
    pub(crate) fn open(given: &Parsed, has_terminal: bool, front: Front) -> Result<Self, Error> {
        let path = |flag: &str| given.value(flag).filter(|path| !path.is_empty()).map(Path::new);
        let console = path("console-socket");
        let detached = front == Front::Detached;
        if has_terminal && detached && console.is_none() {
            let text = "cannot allocate tty if runc will detach without setting console socket";
            return Err(Error::Refused(text.to_owned()));
        }
        if console.is_some() && !(has_terminal && detached) {
            let text = "cannot use console socket if runc will not detach or allocate tty";
            return Err(Error::Refused(text.to_owned()));
        }
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::file("find", path));
        Ok(Self {
            pid_file: path("pid-file").map(absolute).transpose()?,
            console: console.map(connect).transpose()?,
            pidfd: path("pidfd-socket").map(connect).transpose()?,
        })
    }

    /// Whether nothing is to be handed to anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.pid_file.is_none() && self.console.is_none() && self.pidfd.is_none()
    }

    /// Sends the terminal's master and closes the socket.
    pub(crate) fn terminal(&mut self, master: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(socket) = self.console.take() else {
            return Ok(());
        };
        // A name is all that go-runc wants; the descriptor is what counts.
        send(&socket, b"/dev/ptmx", master).map_err(Error::kernel("send the terminal to the console socket"))
    }

    /// Sends a descriptor of the process; `payload` says of which kind it is.
    pub(crate) fn process(&mut self, pidfd: BorrowedFd<'_>, payload: &str) -> Result<(), Error> {
        let Some(socket) = self.pidfd.take() else {
            return Ok(());
        };
        send(&socket, payload.as_bytes(), pidfd)
            .map_err(Error::kernel("send the process to the pidfd socket"))
    }

    /// Writes the pid file.
    pub(crate) fn pid(&self, pid: i32) -> Result<(), Error> {
        match &self.pid_file {
            Some(path) => write_whole(path, pid.to_string().as_bytes(), 0o644),
            None => Ok(()),
        }
    }
}

fn send(socket: &UnixStream, payload: &[u8], descriptor: BorrowedFd<'_>) -> nix::Result<()> {
    socket::send(socket.as_fd(), payload, &[descriptor.as_raw_fd()])
}

fn connect(path: &Path) -> Result<UnixStream, Error> {
    let connected = if path.as_os_str().len() <= LONGEST {
        UnixStream::connect(path)
    } else {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = open(directory, flags, Mode::empty()).map_err(std::io::Error::from);
        opened.and_then(|directory: OwnedFd| {
            let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
            UnixStream::connect(Path::new(&short).join(path.file_name().unwrap_or(OsStr::new(""))))
        })
    };
    connected.map_err(Error::file("connect to", path))
}

/// Descriptors from 3 on that the caller hands on: those of `LISTEN_FDS`, then `--preserve-fds` more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Preserved {
    /// Of socket activation; sd_listen_fds(3).
    pub(crate) listen: u32,
    /// All.
    pub(crate) all: u32,
}

impl Preserved {
    /// Finds them, and keeps every other descriptor of the caller from whatever is executed. Hooks get not even
    /// these: the engine sees to it.
    pub(crate) fn find(given: &Parsed) -> Result<Self, Error> {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        // They may be meant for somebody else.
        let ours = |_: &u32| number("LISTEN_PID") == Some(std::process::id());
        let listen = number("LISTEN_FDS").filter(ours).unwrap_or(0);
        let more: u32 = given.number("preserve-fds")?.unwrap_or(0);
        let all = u32::saturating_add(listen, more);
        for at in 0..all {
            if !is_inherited(at.saturating_add(3)) {
                let text = format!("unable to stat preserved-fd {} (of {all})", at.saturating_add(1));
                return Err(Error::Kernel(text, nix::Error::EBADF));
            }
        }
        crate::sys::descriptor::close_on_exec_from(all.saturating_add(3))
            .map_err(Error::kernel("mark descriptors close-on-exec"))?;
        Ok(Self { listen, all })
    }

    /// What the process is told of them.
    pub(crate) fn variables(self) -> Vec<String> {
        match self.listen {
            0 => Vec::new(),
            count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
        }
    }
}

/// Whether the caller left this descriptor open for us: what we opened ourselves is close-on-exec, and what
/// is close-on-exec cannot have come from the caller.
pub(crate) fn is_inherited(number: u32) -> bool {
    let Ok(number) = i32::try_from(number) else {
        return false;
    };
    crate::sys::descriptor::flags(number).is_ok_and(|flags| !flags.contains(FdFlag::FD_CLOEXEC))
}
