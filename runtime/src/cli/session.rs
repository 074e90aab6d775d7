//! The terminal's end of exec and attach: bytes, window sizes, and how it ended.

use std::io::{IsTerminal, Read, Write};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::context::Context;
use super::error::note;
use super::print::field;
use super::{Error, Exit, Result, choose, describe, resource};
use crate::api::client::{self, PodRef, WebSocket};
use crate::api::query;
use crate::api::session::{PROTOCOLS, channel};

/// Arguments of `exec` and `attach` alike.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The pod: `web` or `pod/web`.
    #[arg(value_name = "POD")]
    pub(super) pod: String,
    /// Which container.
    #[arg(short, long, value_name = "NAME")]
    pub(super) container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub(super) stdin: bool,
    /// Use a terminal: `exec` gives one to its command, a container's own must be one.
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Print nothing but what comes from the container.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// The container that a session is with.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) pod: PodRef,
    pub(super) object: Value,
    pub(super) container: String,
}

impl Common {
    /// Finds the container; `what` is to be done to it.
    pub(super) async fn place(&self, context: &Context, what: &str) -> Result<Place> {
        let pod = context.pod(&resource::pod_name(&self.pod)?)?;
        let object = context.client.pod(&pod).await?;
        refuse_completed(&object, what)?;
        let container = choose::container(context, &object, self.container.as_deref(), self.quiet)?;
        Ok(Place { pod, object, container })
    }
}

impl Place {
    /// Opens a session; `words` are a command's.
    pub(super) async fn open(
        &self,
        context: &Context,
        (subresource, words): (&str, &[String]),
        streams: Streams,
    ) -> Result<WebSocket> {
        let mut url = format!("{}?{}", self.pod.path(subresource), streams.query());
        query::push(&mut url, "container", &self.container);
        for word in words {
            query::push(&mut url, "command", word);
        }
        let socket = context.client.web_socket(&self.pod, &url, PROTOCOLS[0]).await;
        socket.map_err(not_upgraded)
    }
}

/// Nothing runs in a pod that has ended.
fn refuse_completed(pod: &Value, what: &str) -> Result<()> {
    if !describe::is_over(pod) {
        return Ok(());
    }
    let phase = field::text(pod, "/status/phase");
    Err(Error::Usage(format!("cannot {what} a container in a completed pod; current phase is {phase}")))
}

/// What kubectl says when a session is refused.
fn not_upgraded(error: client::Error) -> Error {
    match error {
        client::Error::Status(status) if status.code == 404 => {
            Error::Usage(format!("unable to upgrade connection: {}", status.message))
        }
        client::Error::Status(status) => Error::Usage(status.message),
        other => other.into(),
    }
}

/// What of the terminal takes part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) tty: bool,
    /// `ctrl-p ctrl-q` ends the session and leaves the process alone.
    pub(super) detachable: bool,
}

impl Streams {
    /// A terminal is used only if there is one here.
    pub(super) fn new(stdin: bool, tty: bool) -> Self {
        if tty && !std::io::stdin().is_terminal() {
            note("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        Self { stdin, tty: tty && std::io::stdin().is_terminal(), detachable: false }
    }

    /// The parameters of the API.
    pub(super) fn query(self) -> String {
        let mut query = format!("stdin={}&stdout=true&stderr={}&tty={}", self.stdin, !self.tty, self.tty);
        // So that the window has its size already when the command starts.
        if let Some(size) = tcgetwinsize(std::io::stdin()).ok().filter(|_| self.tty) {
            query.push_str(&format!("&columns={}&rows={}", size.ws_col, size.ws_row));
        }
        query
    }
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Success,
    /// The command's exit code.
    Code(u8),
    /// The user left.
    Detached,
}

impl End {
    /// The end of this process, with what kubectl says about it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Success | Self::Detached => Exit::Success,
            Self::Code(code) => {
                note(&format!("command terminated with exit code {code}"));
                Exit::Remote(*code)
            }
        }
    }
}

/// Carries bytes between this terminal and the process until it ends.
pub(super) async fn run(socket: WebSocket, streams: Streams) -> Result<End> {
    let _raw = if streams.tty && streams.stdin { Some(Raw::new()?) } else { None };
    let (sender, receiver) = socket.split();
    tokio::select! {
        end = output(receiver) => end,
        detached = input(sender, streams) => detached,
    }
}

/// The terminal passes every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> Result<Self> {
        let failed = |error: rustix::io::Errno| Error::Terminal(error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0) {
            note(&format!("the terminal cannot be set back: {error}; try: stty sane"));
        }
    }
}

/// Prints what comes until it is told how the process ended.
async fn output(mut receiver: SplitStream<WebSocket>) -> Result<End> {
    while let Some(Ok(message)) = receiver.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match data.split_first() {
            Some((&channel::STDOUT, bytes)) => print(std::io::stdout().lock(), bytes)?,
            Some((&channel::STDERR, bytes)) => print(std::io::stderr().lock(), bytes)?,
            Some((&channel::STATUS, status)) => return end(status),
            Some(_) | None => {}
        }
    }
    Err(Error::Usage("lost connection to pod".to_owned()))
}

fn print(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(Error::Output)
}

/// Reads the `Status` object at the end of a session.
fn end(status: &[u8]) -> Result<End> {
    let status: Value = serde_json::from_slice(status).unwrap_or_default();
    if status["status"] == "Success" {
        return Ok(End::Success);
    }
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let code =
        causes.iter().find(|cause| cause["reason"] == "ExitCode").and_then(|cause| cause["message"].as_str());
    match code.and_then(|code| code.parse().ok()) {
        Some(code) => Ok(End::Code(code)),
        None => Err(Error::Usage(status["message"].as_str().unwrap_or("the session broke off").to_owned())),
    }
}

/// Sends keys and window sizes. Ends only when the user detaches.
async fn input(mut sender: SplitSink<WebSocket, Message>, streams: Streams) -> Result<End> {
    let mut sizes = signal(SignalKind::window_change()).map_err(Error::Terminal)?;
    if streams.tty {
        send_size(&mut sender).await;
    }
    let mut keys = streams.stdin.then(keys);
    let mut detach = Detach::default();
    loop {
        let next = async {
            match &mut keys {
                Some(keys) => keys.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            bytes = next => match bytes {
                Some(bytes) => {
                    if streams.detachable && streams.tty && detach.pressed(&bytes) {
                        return Ok(End::Detached);
                    }
                    send(&mut sender, channel::STDIN, &bytes).await;
                }
                None => {
                    keys = None;
                    send(&mut sender, channel::CLOSE, &[channel::STDIN]).await;
                }
            },
            Some(()) = sizes.recv(), if streams.tty => send_size(&mut sender).await,
        }
    }
}

/// Sends a message. That the other end is gone is seen where its output is read.
async fn send(sender: &mut SplitSink<WebSocket, Message>, channel: u8, bytes: &[u8]) {
    let mut message = vec![channel];
    message.extend_from_slice(bytes);
    if let Err(error) = sender.send(Message::binary(message)).await {
        tracing::debug!(%error, "the session has ended");
    }
}

async fn send_size(sender: &mut SplitSink<WebSocket, Message>) {
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let size = json!({"Width": size.ws_col, "Height": size.ws_row}).to_string();
        send(sender, channel::RESIZE, size.as_bytes()).await;
    }
}

/// Standard input, read by a thread that ends with the process: a read from it can be neither waited for (it
/// may be a file) nor cancelled.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Looks for `ctrl-p ctrl-q`.
#[derive(Default)]
struct Detach {
    half: bool,
}

impl Detach {
    fn pressed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match byte {
                0x11 if self.half => return true,
                byte => self.half = *byte == 0x10,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_the_exit_code() {
        let code = json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
        assert_eq!(end(code.to_string().as_bytes()).unwrap(), End::Code(7));
        assert_eq!(end(br#"{"status":"Success"}"#).unwrap(), End::Success);
        assert_eq!(end(br#"{"status":"Failure","message":"no"}"#).unwrap_err().text(), "error: no");
    }

    #[test]
    fn two_keys_detach() {
        let mut detach = Detach::default();
        assert!(!detach.pressed(b"\x10a\x11"));
        assert!(!detach.pressed(b"x\x10"));
        assert!(detach.pressed(b"\x11"));
    }
}
