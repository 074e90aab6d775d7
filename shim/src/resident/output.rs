//! Standard output and standard error of instances: from FIFO or terminal to the CRI log and to attached
//! clients.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Shim;
use super::instance::Held;
use super::log::Prefix;
use super::watch::{Source, Token};
use crate::sys::{clock, socket};
use crate::wire::InstanceId;

/// As much as a pipe holds.
pub(super) const CHUNK: usize = 64 * 1024;
/// Reads of one stream before others get their turn.
const TURN: usize = 4;
/// Reads at the end of an instance: what its pipes hold, and more that leftovers write while they die.
const DRAIN: usize = 256;
/// Bytes in one packet to an attached client, so that several fit its socket.
const PACKET: usize = 16 * 1024;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stdout,
    Stderr,
    /// Both, from a terminal.
    Terminal,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout | Self::Terminal => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Stdout | Self::Terminal => 1,
            Self::Stderr => 2,
        }
    }
}

#[derive(Debug)]
struct Stream {
    kind: Kind,
    source: OwnedFd,
    token: Token,
}

/// Where the output of an instance goes.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    /// None where it could not be opened: that is tried again with the next output.
    log: Option<File>,
    /// How many bytes the log has.
    pub(super) size: u64,
    /// A timer or a task is at its rotation.
    pub(super) is_rotated: bool,
    /// That the log cannot be written was said.
    complained: bool,
    streams: Vec<Stream>,
    clients: Vec<OwnedFd>,
}

impl Output {
    /// Opens the log; directories that are missing are made.
    pub(super) fn new(log: &Path) -> std::io::Result<Self> {
        let mut output = Self::unopened(log);
        output.reopen()?;
        Ok(output)
    }

    /// Opens the log that is at its path now.
    pub(super) fn reopen(&mut self) -> std::io::Result<&mut File> {
        let log = open_log(&self.path)?;
        self.size = log.metadata()?.len();
        Ok(self.log.insert(log))
    }

    /// For an instance that runs already, and goes on running when its log cannot be opened.
    pub(super) fn again(log: &Path) -> Self {
        Self::new(log).unwrap_or_else(|error| {
            let mut output = Self::unopened(log);
            output.complain("open", &error);
            output
        })
    }

    /// For an instance that writes nothing any more.
    pub(super) fn unopened(log: &Path) -> Self {
        let (streams, clients) = (Vec::new(), Vec::new());
        Self {
            path: log.to_owned(),
            log: None,
            size: 0,
            is_rotated: false,
            complained: false,
            streams,
            clients,
        }
    }

    /// As containerd does: a container whose log cannot be written goes on, and what it says is lost.
    fn write(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let (operation, written) = match &mut self.log {
            Some(log) => ("write", log.write_all(text)),
            None => ("open", self.reopen().and_then(|log| log.write_all(text))),
        };
        if written.is_ok() {
            self.size += text.len() as u64;
        }
        match written {
            Ok(()) if std::mem::take(&mut self.complained) => {
                super::complain(format_args!("the log {} is written again", self.path.display()));
            }
            Ok(()) => {}
            Err(error) => self.complain(operation, &error),
        }
    }

    /// Once, not for every line.
    fn complain(&mut self, operation: &str, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let path = self.path.display();
            super::complain(format_args!(
                "{operation} {path}: {error}; the container's output is lost until this is mended"
            ));
        }
    }

    /// Adds a client that gets every chunk from now on.
    pub(super) fn attach(&mut self, client: OwnedFd) {
        self.clients.push(client);
    }

    /// What is read from.
    pub(super) fn sources(&self) -> impl Iterator<Item = (Kind, &OwnedFd)> {
        self.streams.iter().map(|stream| (stream.kind, &stream.source))
    }

    /// Reads one stream for some rounds; true when it has ended. What was read is written before more is, and whole:
    /// a shim that is killed has nothing of it in its memory.
    fn read(&mut self, kind: Kind, rounds: usize, buffer: &mut [u8]) -> bool {
        let mut text = Vec::new();
        for _ in 0..rounds {
            let Some(stream) = self.streams.iter().find(|stream| stream.kind == kind) else {
                return false;
            };
            match nix::unistd::read(&stream.source, buffer) {
                Err(Errno::EAGAIN) => return false,
                Err(Errno::EINTR) => {}
                // EIO: nobody has the terminal open any more.
                Ok(0) | Err(_) => return true,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let stamp = clock::timestamp(clock::wall());
                    text.clear();
                    Prefix { stamp: &stamp, stream: kind.name() }.lines(bytes, &mut text);
                    self.write(&text);
                    pass_on(&mut self.clients, kind, bytes);
                }
            }
        }
        false
    }
}

/// A client that does not keep up is let go rather than waited for.
fn pass_on(clients: &mut Vec<OwnedFd>, kind: Kind, bytes: &[u8]) {
    if clients.is_empty() {
        return;
    }
    for chunk in bytes.chunks(PACKET) {
        let packet = [&[kind.number()], chunk].concat();
        clients.retain(|client| socket::send(client.as_fd(), &packet, &[]).is_ok());
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Shim {
    /// Reads a stream of an instance from now on.
    pub(super) fn follow(&mut self, instance: &InstanceId, kind: Kind, source: OwnedFd) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        let watched = super::set_nonblocking(&source)
            .and_then(|()| self.watch.add(&source, Source::Output(instance.clone(), kind)));
        match watched {
            Ok(token) => {
                held.output.streams.push(Stream { kind, source, token });
            }
            Err(errno) => super::complain(format_args!("watch the output of {instance}: {errno}")),
        }
    }

    pub(super) fn output_event(&mut self, instance: &InstanceId, kind: Kind) {
        self.read_output(instance, kind, TURN);
    }

    fn read_output(&mut self, instance: &InstanceId, kind: Kind, rounds: usize) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        let has_ended = held.output.read(kind, rounds, &mut self.chunk);
        self.log_has_grown(instance);
        if has_ended {
            self.end_output(instance, kind);
        }
    }

    fn end_output(&mut self, instance: &InstanceId, kind: Kind) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        if let Some(at) = held.output.streams.iter().position(|stream| stream.kind == kind) {
            let stream = held.output.streams.remove(at);
            self.watch.remove(&stream.source, stream.token);
        }
    }

    /// Takes over what an ended instance wrote, and tells attached clients that this was all.
    pub(super) fn drain(&mut self, instance: &InstanceId) {
        let kinds = self
            .instances
            .get(instance)
            .map(|held| held.output.streams.iter().map(|stream| stream.kind).collect::<Vec<_>>());
        for kind in kinds.unwrap_or_default() {
            self.read_output(instance, kind, DRAIN);
        }
        if let Some(held) = self.instances.get_mut(instance) {
            held.output.clients.clear();
            held.terminal = None;
        }
    }

    /// Stops reading the output of an instance.
    pub(super) fn unfollow(&mut self, held: &mut Held) {
        for stream in held.output.streams.drain(..) {
            self.watch.remove(&stream.source, stream.token);
        }
        if let (Some(start), Some(starting)) = (&held.start, &held.starting) {
            self.watch.remove(start, starting.token);
        }
    }
}
