//! Where an init waits for its start: two FIFOs on disk, so that another process than the maker may open it.
//!
//! The init holds `go` open for reading and writing and reads one byte of it; it holds `result` open for writing
//! and close-on-exec. So whoever opened `result` before sees its end when the program runs, or eight bytes that say
//! why it does not, and behind them what a hook printed; and opening `go` for writing fails with ENXIO once no init waits there: it never hangs.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::container::transform::Problem;

/// Name of the FIFO that lets the init go.
pub(crate) const GO: &str = "go";
/// Name of the FIFO that brings the result.
pub(crate) const RESULT: &str = "start";

/// One write of this length is whole; pipe(7).
pub(super) const LONGEST: usize = libc::PIPE_BUF;
/// A problem, and the length of what a hook printed to its standard output; both texts follow.
pub(super) const HEAD: usize = Problem::LENGTH + 2;

/// The init's ends.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) go: OwnedFd,
    pub(super) result: OwnedFd,
}

/// What came through `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Waiting,
    /// The program runs, or its process ended without a word.
    Executed,
    /// The program could not be executed.
    Failed(Problem),
}

impl Gate {
    /// Makes both FIFOs in `directory`, which exists, and opens the init's ends.
    pub(crate) fn make(directory: &Path) -> nix::Result<Self> {
        let both = |name| {
            let path = directory.join(name);
            match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            open(&path, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
        };
        Ok(Self { go: both(GO)?, result: both(RESULT)? })
    }

    /// Whether `directory` has a gate.
    pub(crate) fn exists(directory: &Path) -> bool {
        directory.join(GO).exists()
    }

    /// Whether an init waits there, or is at its `startContainer` hooks: once its program runs nobody reads any more. Whoever
    /// let it go may have been killed before he removed the gate.
    pub(crate) fn is_waited_at(directory: &Path) -> bool {
        match Self::open_go(directory) {
            Err(Errno::ENXIO | Errno::ENOENT) => false,
            // Who may not open it cannot tell.
            Ok(_) | Err(_) => true,
        }
    }

    fn open_go(directory: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        open(&directory.join(GO), flags, Mode::empty())
    }

    /// Opens the reading end of `result`, to be read when it is ready.
    pub(crate) fn listen(directory: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        open(&directory.join(RESULT), flags, Mode::empty())
    }

    /// Lets the init go. ENXIO: none waits there, it was let go before or is dead.
    pub(crate) fn open(directory: &Path) -> nix::Result<()> {
        nix::unistd::write(Self::open_go(directory)?, b"0").map(drop)
    }

    /// Reads what [`Gate::listen`] opened.
    pub(crate) fn outcome(result: &OwnedFd) -> Outcome {
        let mut bytes = [0; Problem::LENGTH];
        match nix::unistd::read(result, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => Outcome::Waiting,
            Ok(Problem::LENGTH) => Outcome::Failed(Problem::from_bytes(bytes)),
            Ok(_) | Err(_) => Outcome::Executed,
        }
    }

    /// What a hook printed, after its failure was read; as it stands in runc's errors. Empty after other failures.
    pub(crate) fn printed(result: &OwnedFd) -> String {
        let mut bytes = [0; LONGEST];
        let length = nix::unistd::read(result, &mut bytes).unwrap_or_default();
        let Some((head, texts)) = bytes.get(..length).and_then(|bytes| bytes.split_first_chunk()) else {
            return String::new();
        };
        let text = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or_default()).into_owned();
        let middle = usize::from(u16::from_ne_bytes(*head));
        format!(", stdout: {}, stderr: {}", text(texts.get(..middle)), text(texts.get(middle..)))
    }

    /// Removes both FIFOs.
    pub(crate) fn remove(directory: &Path) {
        for name in [GO, RESULT] {
            // It may never have been made.
            crate::harmless(std::fs::remove_file(directory.join(name)));
        }
    }
}
