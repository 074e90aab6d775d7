//! A connection to systemd's manager: over its own private socket, or over the system's or a user's message bus.
//!
//! Blocking, with a deadline for everything: for `hull-oci`, never for the shim's loop. Who calls is told by the kernel
//! (`SASL EXTERNAL` without a name, which also holds in a user namespace).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::message::{Kind, MAX_LENGTH, Malformed, Message, Value};
use crate::sys::clock;

/// Why there was no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens where systemd should.
    #[error("no systemd answers at {0}")]
    NoSystemd(String),
    /// The connection broke, or an answer did not come in time.
    #[error("{operation} over D-Bus")]
    Broken {
        /// What was done.
        operation: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What came is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The other side does not let us in.
    #[error("the message bus refuses this user: {0}")]
    Refused(String),
    /// The other side says no.
    #[error("{operation}: {name}: {text}")]
    Answer {
        /// What was asked for.
        operation: String,
        /// The error's D-Bus name.
        name: String,
        /// What it says.
        text: String,
    },
    /// A job of systemd ended badly.
    #[error("error creating systemd unit `{unit}`: got `{result}`")]
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `canceled`, `timeout`, `dependency` or `skipped`.
        result: String,
    },
}

impl Error {
    /// Whether systemd has a unit of that name already.
    #[must_use]
    pub fn is_existing_unit(&self) -> bool {
        matches!(self, Self::Answer { name, .. } if name == "org.freedesktop.systemd1.UnitExists")
    }
}

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// systemd itself.
    Private(PathBuf),
    /// A bus that it is on.
    Bus(PathBuf),
}

impl Peer {
    fn path(&self) -> &Path {
        match self {
            Self::Private(path) | Self::Bus(path) => path,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Signals that came while something else was waited for.
    signals: VecDeque<Message>,
}

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until(i64);

impl Until {
    pub(super) fn after(limit: Duration) -> Self {
        Self(clock::monotonic().saturating_add(i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX)))
    }

    fn left(self) -> io::Result<Duration> {
        let left = u64::try_from(self.0 - clock::monotonic()).unwrap_or_default();
        if left == 0 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Duration::from_nanos(left)) }
    }
}

const BUS: &str = "org.freedesktop.DBus";

impl Bus {
    /// Connects to the first of these that is there.
    pub(super) fn connect(peers: &[Peer], until: Until) -> Result<Self, Error> {
        for peer in peers {
            let Ok(stream) = UnixStream::connect(peer.path()) else { continue };
            let mut bus = Self { stream, serial: 0, signals: VecDeque::new() };
            bus.introduce(until)?;
            if matches!(peer, Peer::Bus(_)) {
                bus.ask(Message::call(BUS, "/org/freedesktop/DBus", BUS, "Hello", Vec::new()), until)?;
            }
            return Ok(bus);
        }
        let tried: Vec<String> = peers.iter().map(|peer| peer.path().display().to_string()).collect();
        Err(Error::NoSystemd(tried.join(" or ")))
    }

    /// SASL; the D-Bus specification, "Authentication Protocol". All that there is to say is said at once.
    fn introduce(&mut self, until: Until) -> Result<(), Error> {
        let fail = |source| Error::Broken { operation: "authenticate".to_owned(), source };
        self.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n").map_err(fail)?;
        for expected in ["DATA", "OK"] {
            let line = self.line(until).map_err(fail)?;
            if line.split(' ').next() != Some(expected) {
                return Err(Error::Refused(line));
            }
        }
        Ok(())
    }

    fn line(&mut self, until: Until) -> io::Result<String> {
        const LONGEST: usize = 512;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read(&mut byte, until)?;
            line.extend(byte);
            if line.len() > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn read(&mut self, mut into: &mut [u8], until: Until) -> io::Result<()> {
        while !into.is_empty() {
            self.stream.set_read_timeout(Some(until.left()?))?;
            match self.stream.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The timeout of a socket comes as EAGAIN.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next message of any kind.
    pub(super) fn receive(&mut self, until: Until) -> Result<Message, Error> {
        let fail = |source| Error::Broken { operation: "receive".to_owned(), source };
        let mut start = [0; 16];
        self.read(&mut start, until).map_err(fail)?;
        let length = Message::length(&start)?.min(MAX_LENGTH);
        let mut bytes = start.to_vec();
        bytes.resize(length, 0);
        self.read(bytes.get_mut(16..).unwrap_or_default(), until).map_err(fail)?;
        Ok(Message::from_bytes(&bytes)?)
    }

    /// Sends a message and answers its number.
    pub(super) fn send(&mut self, mut message: Message) -> Result<u32, Error> {
        self.serial += 1;
        message.serial = self.serial;
        let name = message.member.clone().unwrap_or_default();
        let fail = |source| Error::Broken { operation: format!("send {name}"), source };
        self.stream.write_all(&message.to_bytes()).map_err(fail)?;
        Ok(self.serial)
    }

    /// Calls a method and waits for what it answers.
    pub(super) fn ask(&mut self, message: Message, until: Until) -> Result<Vec<Value>, Error> {
        let operation = message.member.clone().unwrap_or_default();
        let serial = self.send(message)?;
        loop {
            let message = self.receive(until)?;
            match message.kind {
                Kind::Signal => self.signals.push_back(message),
                Kind::Return if message.answers == Some(serial) => return Ok(message.body),
                Kind::Error if message.answers == Some(serial) => {
                    let text = message.body.first().and_then(Value::text).unwrap_or_default().to_owned();
                    let name = message.error.unwrap_or_default();
                    return Err(Error::Answer { operation, name, text });
                }
                // Answers to nobody, and calls: nothing is offered here.
                Kind::Return | Kind::Error | Kind::Call => {}
            }
        }
    }

    /// Asks the bus to pass on signals that match a rule; a private peer sends all of its own.
    pub(super) fn listen(&mut self, rule: &str, until: Until) -> Result<(), Error> {
        let rule = vec![Value::Text(rule.to_owned())];
        self.ask(Message::call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", rule), until).map(drop)
    }

    /// The next signal, in the order of coming.
    pub(super) fn signal(&mut self, until: Until) -> Result<Message, Error> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.receive(until)?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }
}
