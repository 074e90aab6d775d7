//! A chunk on its way from a stream to a log. Wherever in it the shim is killed, its successor can tell how far it was: nothing
//! is lost, nothing is written twice, and no line is cut.
//!
//! ```text
//!   FIFO --tee--> glass --read--> lines   1. it is looked at, and stays where it is
//!     |                             |     2. it is noted: how much, and from where on in which log
//!     |                             v
//!     |                            log    3. it is written
//!     +--splice--> taken                  4. it is taken, in one step that shows in `taken`
//!                    |                    5. the note is struck out
//!                    v
//!                /dev/null                6. it is forgotten
//! ```
//! The note is in a file of the pod's directory, in memory, and `taken` is the keeper's as well. They tell a successor:
//!
//! | note  | `taken` | killed            | what it does |
//! |-------|---------|-------------------|--------------|
//! | none  |         | before 2, after 5 | it reads on |
//! | there | empty   | between 2 and 4   | it writes what the log lacks of the lines, and takes the chunk |
//! | there | not     | between 4 and 5   | it strikes the note out |
//!
//! The lines are made once more, with the time that was noted, so they are the same: what the log has after the noted place is
//! their beginning. That holds the other way round too, where the keeper died with the shim and `taken` went with both: if
//! the log has something else there, the chunk was taken and the FIFO has a later one. Only a chunk that was written again to
//! the byte, within the microsecond between 4 and 5 of that double death, would be missed.
//!
//! One chunk at a time is under way: the shim has one thread. A stream that cannot be looked at (a page that cannot be read) is read as
//! it is, and not noted.

use std::borrow::Cow;
use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::output::Kind;
use crate::harmless;
use crate::wire::InstanceId;

/// As much as a pipe holds.
pub(super) const CHUNK: usize = 64 * 1024;
/// Longer than any note. A file that has its page once needs no further room.
const NOTE: usize = 1024;
/// For tests, in builds with debug assertions: a file whose lines name the points at which shims are killed, one after
/// the other.
const FAULT: &str = "HULL_OUTPUT_FAULT";

/// Both ends of a pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    pub(super) fn new() -> nix::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { read, write })
    }
}

/// What is about to be written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note<'a> {
    pub(super) instance: Cow<'a, InstanceId>,
    pub(super) kind: Kind,
    /// Bytes of the stream.
    pub(super) length: usize,
    /// The time of the lines: nanoseconds since the Unix epoch.
    pub(super) at: i64,
    pub(super) place: Place,
}

/// A place in a log, which keeps its inode when it is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    device: u64,
    inode: u64,
    pub(super) offset: u64,
}

impl Place {
    pub(super) fn end(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), offset: file.len() }
    }

    pub(super) fn is_in(&self, file: &Metadata) -> bool {
        (self.device, self.inode) == (file.dev(), file.ino())
    }
}

/// A chunk that was read, by its length.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chunk {
    /// It is still in its stream.
    Seen(usize),
    /// It is not any more.
    Taken(usize),
}

/// The way from streams to logs.
pub(super) struct Transit {
    note: File,
    glass: Pipe,
    /// Empty before a chunk is taken, and of the same size as `glass`: each chunk fits.
    taken: Pipe,
    null: OwnedFd,
    /// The chunk, never cleared: after a fork each page that is written to costs a copy.
    chunk: Vec<u8>,
}

impl Transit {
    /// With a file for the note, which may be a predecessor's.
    pub(super) fn new(note: &Path) -> std::io::Result<Self> {
        let note =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(note)?;
        if note.metadata()?.len() == 0 {
            note.write_all_at(b"\n", 0)?;
        }
        let (glass, taken) = (Pipe::new()?, Pipe::new()?);
        Ok(Self { note, glass, taken, null: super::null()?, chunk: vec![0; CHUNK] })
    }

    /// Goes on with the pipe that the keeper has too.
    pub(super) fn inherit(&mut self, taken: Pipe) {
        self.taken = taken;
    }

    /// What was read last.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        self.chunk.get(..length).unwrap_or_default()
    }

    /// Looks at what is next in a stream, up to `limit` bytes.
    pub(super) fn look(&mut self, source: &OwnedFd, limit: usize) -> nix::Result<Chunk> {
        match self.glance(source, limit) {
            Ok(length) => Ok(Chunk::Seen(length)),
            Err(errno @ (Errno::EAGAIN | Errno::EINTR)) => Err(errno),
            Err(_) => self.read(source),
        }
    }

    fn glance(&mut self, source: &OwnedFd, limit: usize) -> nix::Result<usize> {
        let length = tee(source, &self.glass.write, limit.min(CHUNK), SpliceFFlags::SPLICE_F_NONBLOCK)?;
        let mut known = 0;
        while known < length {
            match nix::unistd::read(&self.glass.read, self.chunk.get_mut(known..length).unwrap_or_default()) {
                Ok(more) => known += more,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    // What cannot be read would stay in the way of whatever comes next.
                    self.glass = Pipe::new()?;
                    return Err(Errno::EIO);
                }
            }
        }
        point("seen");
        Ok(length)
    }

    /// Reads a stream that cannot be looked at.
    pub(super) fn read(&mut self, source: &OwnedFd) -> nix::Result<Chunk> {
        nix::unistd::read(source, &mut self.chunk).map(Chunk::Taken)
    }

    /// Before what is seen is written.
    pub(super) fn note(&self, note: &Note<'_>) {
        let mut bytes = serde_json::to_vec(note).unwrap_or_default();
        bytes.push(b'\n');
        // The file has its page.
        harmless(self.note.write_all_at(&bytes, 0));
        point("noted");
    }

    /// After it was.
    pub(super) fn take(&self, source: &OwnedFd, length: usize) {
        point("written");
        let mut left = length;
        while left > 0 {
            let Ok(moved @ 1..) = forward(source, &self.taken.write, left) else {
                // There is always room; without, the chunk would be written again and again.
                harmless(nix::unistd::read(source, &mut vec![0; left]));
                return self.strike_out(usize::MAX);
            };
            point("taken");
            self.strike_out(moved);
            left -= moved;
        }
    }

    /// What a predecessor was writing and had not taken.
    pub(super) fn left(&self) -> Option<Note<'static>> {
        let mut polled = [PollFd::new(self.taken.read.as_fd(), PollFlags::POLLIN)];
        // For one descriptor the kernel needs no memory, so nothing can fail.
        if poll(&mut polled, PollTimeout::ZERO).unwrap_or_default() > 0 {
            return None;
        }
        let mut bytes = [0; NOTE];
        let length = self.note.read_at(&mut bytes, 0).ok()?;
        let line = bytes.get(..length)?.split(|byte| *byte == b'\n').next()?;
        serde_json::from_slice(line).ok()
    }

    /// There is nothing under way any more: what was taken, up to `left` bytes, is forgotten.
    pub(super) fn strike_out(&self, mut left: usize) {
        // As above.
        harmless(self.note.write_all_at(b"\n", 0));
        point("struck");
        while left > 0 {
            let Ok(moved @ 1..) = forward(&self.taken.read, &self.null, left.min(CHUNK)) else { return };
            left -= moved;
        }
    }
}

/// Moves what is in a terminal on to a FIFO, from which it can be taken as from others: the kernel has it in its hands all the
/// way. From Linux 5.11 on.
pub(super) fn feed(terminal: &OwnedFd, fifo: &OwnedFd) -> nix::Result<usize> {
    /// As much as a terminal gives at once.
    const MOST: usize = 4096;
    let fed = forward(terminal, fifo, MOST);
    point("fed");
    fed
}

fn forward(from: &OwnedFd, to: &OwnedFd, most: usize) -> nix::Result<usize> {
    splice(from, None, to, None, most, SpliceFFlags::SPLICE_F_NONBLOCK)
}

/// Dies here, if that is what a test wants.
pub(super) fn point(name: &str) {
    if is_due(name) {
        die();
    }
}

/// Whether a test wants the shim to die at this point.
pub(super) fn is_due(name: &str) -> bool {
    let Some(file) = std::env::var_os(FAULT).filter(|_| cfg!(debug_assertions)).map(PathBuf::from) else {
        return false;
    };
    let points = std::fs::read_to_string(&file).unwrap_or_default();
    match points.split_once('\n') {
        Some((next, rest)) if next == name => {
            let new = file.with_extension("new");
            harmless(std::fs::write(&new, rest).and_then(|()| std::fs::rename(new, file)));
            true
        }
        _ => false,
    }
}

pub(super) fn die() {
    harmless(nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL));
}
