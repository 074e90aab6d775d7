//! Standard output and standard error of instances: from FIFO or terminal to the CRI log and to attached
//! clients.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Shim;
use super::instance::Held;
use super::log::Prefix;
use super::log_file::LogFile;
use super::transit::{self, CHUNK, Chunk, Note, Transit};
use super::watch::{Source, Token};
use crate::sys::{clock, socket};
use crate::wire::InstanceId;

/// Reads of one stream before others get their turn.
const TURN: usize = 4;
/// Reads at the end of an instance: what its pipes hold, and more that leftovers write while they die.
const DRAIN: usize = 256;
/// Bytes in one packet to an attached client, so that several fit its socket.
const PACKET: usize = 16 * 1024;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    Stdout,
    Stderr,
    /// Both, from a terminal.
    Terminal,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
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

    /// Makes `text` the lines of the log for what was read at a time.
    fn lines(self, bytes: &[u8], at: i64, text: &mut Vec<u8>) {
        text.clear();
        Prefix { stamp: &clock::timestamp(at), stream: self.name() }.lines(bytes, text);
    }
}

/// Where output comes from.
#[derive(Debug)]
pub(super) struct Origin {
    /// Our reading end of a FIFO. That of a terminal can be written to as well.
    pub(super) fifo: OwnedFd,
    /// What is written to it here, where the instance does not do so itself.
    pub(super) terminal: Option<OwnedFd>,
}

impl Origin {
    /// What tells that there is output.
    fn watched(&self) -> &OwnedFd {
        self.terminal.as_ref().unwrap_or(&self.fifo)
    }

    /// What comes next.
    fn look(&self, transit: &mut Transit) -> nix::Result<Chunk> {
        let Some(terminal) = &self.terminal else { return transit.look(&self.fifo, CHUNK) };
        let fed = transit::feed(terminal, &self.fifo);
        match (transit.look(&self.fifo, CHUNK), fed) {
            // A terminal of Linux 5.10.
            (Err(Errno::EAGAIN), Err(Errno::EINVAL)) => transit.read(terminal),
            // The FIFO never ends: its other end is ours.
            (Err(Errno::EAGAIN), Ok(0)) => Ok(Chunk::Seen(0)),
            (Err(Errno::EAGAIN), Err(errno)) => Err(errno),
            (seen, _) => seen,
        }
    }
}

#[derive(Debug)]
struct Stream {
    kind: Kind,
    origin: Origin,
    token: Token,
}

/// Where the output of an instance goes.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) log: LogFile,
    streams: Vec<Stream>,
    clients: Vec<OwnedFd>,
}

impl Output {
    pub(super) fn new(log: LogFile) -> Self {
        Self { log, streams: Vec::new(), clients: Vec::new() }
    }

    /// Adds a client that gets every chunk from now on.
    pub(super) fn attach(&mut self, client: OwnedFd) {
        self.clients.push(client);
    }

    /// What is read from.
    pub(super) fn sources(&self) -> impl Iterator<Item = (Kind, &OwnedFd)> {
        self.streams.iter().map(|stream| (stream.kind, &stream.origin.fifo))
    }

    /// Reads one stream for some rounds; true when it has ended. What was read is written before more is, and whole.
    fn read(&mut self, instance: &InstanceId, kind: Kind, rounds: usize, transit: &mut Transit) -> bool {
        let Some(stream) = self.streams.iter().find(|stream| stream.kind == kind) else { return false };
        let mut text = Vec::new();
        for _ in 0..rounds {
            match stream.origin.look(transit) {
                Err(Errno::EAGAIN) => return false,
                Err(Errno::EINTR) => {}
                // EIO: nobody has the terminal open any more.
                Ok(Chunk::Seen(0) | Chunk::Taken(0)) | Err(_) => return true,
                Ok(Chunk::Seen(length)) => {
                    let (bytes, at) = (transit.bytes(length), clock::wall());
                    kind.lines(bytes, at, &mut text);
                    let instance = Cow::Borrowed(instance);
                    self.log.write(&text, |place| transit.note(&Note { instance, kind, length, at, place }));
                    transit.take(&stream.origin.fifo, length);
                    pass_on(&mut self.clients, kind, bytes);
                }
                Ok(Chunk::Taken(length)) => {
                    let bytes = transit.bytes(length);
                    kind.lines(bytes, clock::wall(), &mut text);
                    self.log.write(&text, |_| ());
                    pass_on(&mut self.clients, kind, bytes);
                }
            }
        }
        false
    }

    /// Goes on with the chunk that a predecessor was writing.
    fn resume(&mut self, note: &Note<'_>, transit: &mut Transit) {
        let Some(stream) = self.streams.iter().find(|stream| stream.kind == note.kind) else { return };
        if let Ok(Chunk::Seen(length)) = transit.look(&stream.origin.fifo, note.length) {
            let mut text = Vec::new();
            note.kind.lines(transit.bytes(length), note.at, &mut text);
            // Otherwise it was taken, and this is a later one.
            if self.log.complete(&note.place, &text) {
                transit.take(&stream.origin.fifo, length);
            }
        }
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

impl Shim {
    /// Reads a stream of an instance from now on.
    pub(super) fn follow(&mut self, instance: &InstanceId, kind: Kind, origin: Origin) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        let watched = super::set_nonblocking(origin.watched())
            .and_then(|()| self.watch.add(origin.watched(), Source::Output(instance.clone(), kind)));
        match watched {
            Ok(token) => {
                held.output.streams.push(Stream { kind, origin, token });
            }
            Err(errno) => super::complain(format_args!("watch the output of {instance}: {errno}")),
        }
    }

    /// Before anything else is read: what a predecessor was writing is written to its end.
    pub(super) fn resume_output(&mut self) {
        if let Some(note) = self.transit.left()
            && let Some(held) = self.instances.get_mut(note.instance.as_ref())
        {
            held.output.resume(&note, &mut self.transit);
        }
        self.transit.strike_out(usize::MAX);
        // Of what a predecessor had from a terminal nothing tells.
        let terminals = self.instances.iter().filter(|(_, held)| held.terminal.is_some());
        for instance in terminals.map(|(instance, _)| instance.clone()).collect::<Vec<_>>() {
            self.output_event(&instance, Kind::Terminal);
        }
    }

    pub(super) fn output_event(&mut self, instance: &InstanceId, kind: Kind) {
        self.read_output(instance, kind, TURN);
    }

    fn read_output(&mut self, instance: &InstanceId, kind: Kind, rounds: usize) {
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        let has_ended = held.output.read(instance, kind, rounds, &mut self.transit);
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
            self.watch.remove(stream.origin.watched(), stream.token);
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
            self.watch.remove(stream.origin.watched(), stream.token);
        }
        if let (Some(start), Some(starting)) = (&held.start, &held.starting) {
            self.watch.remove(start, starting.token);
        }
    }
}
