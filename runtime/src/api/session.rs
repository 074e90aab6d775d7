//! Exec and attach over a WebSocket with the subprotocol `v5.channel.k8s.io`, as kubectl speaks it.
//!
//! Every binary message starts with its channel: 0 stdin, 1 stdout, 2 stderr, 3 a `Status` object at the end,
//! 4 the window size as `{"Width", "Height"}`, 255 closes the channel that its second byte names.
//!
//! Input and output run side by side, so that a process that waits to write can still be written to. When the client goes away the
//! process lives on: its output is read and dropped until it ends.

use std::io;
use std::os::fd::OwnedFd;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hull_shim::wire::Exit;
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::status::Status;
use super::upgrade::{Socket, Upgrade, good_bye};
use crate::driver::handle::{Output, Session};
use crate::driver::readiness;

/// The subprotocols understood, best first; the second has no message that closes a channel.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// As many full messages as two pipes of the largest usual size can hold.
const MOST_LEFT: usize = 64;

/// First bytes of messages.
pub mod channel {
    /// To the process.
    pub const STDIN: u8 = 0;
    /// From the process.
    pub const STDOUT: u8 = 1;
    /// From the process.
    pub const STDERR: u8 = 2;
    /// How it ended.
    pub const STATUS: u8 = 3;
    /// A new window size.
    pub const RESIZE: u8 = 4;
    /// Closes a channel.
    pub const CLOSE: u8 = 255;
}

/// Which streams the client wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Tells a client that nothing could be run.
pub(super) async fn refuse(upgrade: Upgrade, status: Status, streams: Streams) {
    let (sender, _receiver) = upgrade.socket().await;
    Client { sender, streams }.finish(&status.object()).await;
}

/// Carries bytes between the client and the process until it ends.
pub(super) async fn run(upgrade: Upgrade, session: Session, streams: Streams) {
    let (sender, receiver) = upgrade.socket().await;
    if let Err(error) = carry(sender, receiver, session, streams).await {
        tracing::warn!(%error, "a session broke off");
    }
}

async fn carry(
    sender: Option<SplitSink<Socket, Message>>,
    receiver: Option<SplitStream<Socket>>,
    session: Session,
    streams: Streams,
) -> io::Result<()> {
    let Session { stdin, output, exit, resize } = session;
    let mut client = Client { sender, streams };
    let mut sources = Sources::new(output)?;
    // A pty master serves both directions: input goes to a duplicate of it.
    let stdin = match stdin {
        None if streams.stdin => sources.terminal()?,
        other => other,
    };
    let attached = exit.is_none();
    let input = async {
        if let Some(receiver) = receiver {
            input(receiver, stdin, &resize).await;
        }
        // An attached client that left has nothing more to wait for.
        if !attached {
            std::future::pending::<()>().await;
        }
    };
    let output = async {
        match exit {
            Some(exit) => {
                let exit = client.until(&mut sources, exit).await.unwrap_or(Exit::Unknown);
                client.drain(&mut sources).await;
                client.finish(&end(exit)).await;
            }
            None => {
                client.copy(&mut sources).await;
                client.finish(&success()).await;
            }
        }
    };
    tokio::select! {
        () = input => {}
        () = output => {}
    }
    Ok(())
}

/// Messages of the client, until it closes or breaks off.
async fn input(mut receiver: SplitStream<Socket>, stdin: Option<OwnedFd>, resize: &mpsc::Sender<(u16, u16)>) {
    let mut stdin = stdin.and_then(|stdin| readiness::register(stdin).ok());
    while let Some(Ok(message)) = receiver.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match data.split_first() {
            Some((&channel::STDIN, bytes)) => {
                if let Some(open) = &stdin
                    && write(open, bytes).await.is_err()
                {
                    // The process closed its standard input: what comes is dropped.
                    stdin = None;
                }
            }
            Some((&channel::RESIZE, json)) => {
                if let Some(size) = window_size(json)
                    && resize.send(size).await.is_err()
                {
                    tracing::debug!("a new window size came after the end");
                }
            }
            Some((&channel::CLOSE, [channel::STDIN])) => stdin = None,
            Some(_) | None => {}
        }
    }
}

fn window_size(json: &[u8]) -> Option<(u16, u16)> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| u16::try_from(value[name].as_u64()?).ok().filter(|side| *side > 0);
    Some((side("Width")?, side("Height")?))
}

async fn write(to: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut guard = to.writable().await?;
        match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            Ok(written) => bytes = &bytes[written?..],
            Err(_would_block) => {}
        }
    }
    Ok(())
}

/// One descriptor that is read.
struct Source {
    fd: AsyncFd<OwnedFd>,
    kind: Kind,
    open: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A plain stream of one channel.
    Channel(u8),
    /// A pty master: its end is told as EIO.
    Terminal,
    /// Packets that name their channel.
    Packets,
}

impl Source {
    fn new(fd: OwnedFd, kind: Kind) -> io::Result<Self> {
        Ok(Self { fd: readiness::register(fd)?, kind, open: true })
    }

    /// The next message, waiting for it; none at the end.
    async fn next(&self) -> Option<Vec<u8>> {
        loop {
            let mut guard = self.fd.readable().await.ok()?;
            match guard.try_io(|_| self.read()) {
                Ok(read) => return read.ok().flatten(),
                Err(_would_block) => {}
            }
        }
    }

    /// A message of what is there, its channel in front; none at the end.
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 32 * 1024 + 1];
        let head = match self.kind {
            Kind::Channel(channel) => Some(channel),
            Kind::Terminal => Some(channel::STDOUT),
            Kind::Packets => None,
        };
        let start = usize::from(head.is_some());
        buffer[0] = head.unwrap_or(0);
        match rustix::io::read(self.fd.get_ref(), &mut buffer[start..]) {
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(None),
            Ok(count) => {
                buffer.truncate(start + count);
                Ok(Some(buffer))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Everything that is read: one or two descriptors.
struct Sources {
    first: Source,
    second: Option<Source>,
}

impl Sources {
    fn new(output: Output) -> io::Result<Self> {
        Ok(match output {
            Output::Pipes { stdout, stderr } => Self {
                first: Source::new(stdout, Kind::Channel(channel::STDOUT))?,
                second: Some(Source::new(stderr, Kind::Channel(channel::STDERR))?),
            },
            Output::Terminal(master) => Self { first: Source::new(master, Kind::Terminal)?, second: None },
            Output::Packets(packets) => Self { first: Source::new(packets, Kind::Packets)?, second: None },
        })
    }

    fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        match self.first.kind {
            Kind::Terminal => self.first.fd.get_ref().try_clone().map(Some),
            Kind::Channel(_) | Kind::Packets => Ok(None),
        }
    }

    /// The next message of either; none when both have ended. Cancel-safe: nothing is read before it is returned.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let second_open = self.second.as_ref().is_some_and(|second| second.open);
            if !self.first.open && !second_open {
                return None;
            }
            let second = async {
                match &self.second {
                    Some(second) => second.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = self.first.next(), if self.first.open => match read {
                    Some(message) => return Some(message),
                    None => self.first.open = false,
                },
                read = second, if second_open => match read {
                    Some(message) => return Some(message),
                    None => if let Some(second) = &mut self.second { second.open = false },
                },
            }
        }
    }

    /// What is there without waiting.
    fn ready(&self) -> Option<Vec<u8>> {
        let sources = std::iter::once(&self.first).chain(&self.second).filter(|source| source.open);
        sources.filter_map(|source| source.read().ok().flatten()).next()
    }
}

/// The client's side of the output; it may have left.
struct Client {
    sender: Option<SplitSink<Socket, Message>>,
    streams: Streams,
}

impl Client {
    async fn send(&mut self, message: Vec<u8>) {
        let wanted = match message.first() {
            Some(&channel::STDOUT) => self.streams.stdout,
            Some(&channel::STDERR) => self.streams.stderr,
            _ => true,
        };
        if let Some(sender) = self.sender.as_mut().filter(|_| wanted)
            && sender.send(Message::binary(message)).await.is_err()
        {
            self.sender = None;
        }
    }

    /// Sends output until the process has ended.
    async fn until<T>(
        &mut self,
        sources: &mut Sources,
        mut exit: tokio::sync::oneshot::Receiver<T>,
    ) -> Option<T> {
        loop {
            tokio::select! {
                message = sources.next() => match message {
                    Some(message) => self.send(message).await,
                    None => return exit.await.ok(),
                },
                ended = &mut exit => return ended.ok(),
            }
        }
    }

    /// Sends what the process left in its pipes. Whoever inherited them may go on writing; nobody waits for that.
    async fn drain(&mut self, sources: &mut Sources) {
        for _ in 0..MOST_LEFT {
            let Some(message) = sources.ready() else { return };
            self.send(message).await;
        }
    }

    /// Sends output until it ends.
    async fn copy(&mut self, sources: &mut Sources) {
        while let Some(message) = sources.next().await {
            self.send(message).await;
        }
    }

    /// Says how it ended, and good-bye.
    async fn finish(&mut self, status: &serde_json::Value) {
        let mut message = vec![channel::STATUS];
        message.extend(status.to_string().bytes());
        self.send(message).await;
        if let Some(mut sender) = self.sender.take()
            && let Err(error) = sender.send(good_bye()).await
        {
            tracing::debug!(%error, "a client left before it was told the end");
        }
    }
}

fn success() -> serde_json::Value {
    json!({"metadata": {}, "status": "Success"})
}

fn end(exit: Exit) -> serde_json::Value {
    match exit.code() {
        0 => success(),
        code => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    }
}
