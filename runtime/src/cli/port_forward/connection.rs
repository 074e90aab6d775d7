//! One connection, carried by a session with the pod's supervisor: channel 0 is data, channel 1 what went wrong.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::tungstenite::Message;

use super::ports::Pair;
use crate::api::client::{self, ATTEMPTS, Client, PodRef, WebSocket};
use crate::api::portforward::PROTOCOLS;
use crate::api::query;
use crate::api::session::channel;

const DATA: u8 = 0;
const ERROR: u8 = 1;
/// Bytes that are read at once.
const PIECE: usize = 32 * 1024;

/// Why a connection ended before its time, to be told to the user.
#[derive(Debug)]
pub(super) enum Failure {
    /// The pod's side says so, as when nobody listens there.
    Refused(String),
    /// There is no session, or it broke off: the supervisor was replaced, perhaps.
    Session(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Refused(text) | Self::Session(text)) = self;
        out.write_str(text)
    }
}

/// Where a connection leads.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) pod: PodRef,
    pub(super) pair: Pair,
}

impl Connection {
    /// Carries bytes both ways until both have ended.
    ///
    /// # Errors
    /// It ended before its time.
    pub(super) async fn run(self, stream: TcpStream) -> Result<(), Failure> {
        let mut url = self.pod.path("/portforward");
        query::push(&mut url, "ports", &self.pair.remote.to_string());
        let (sender, receiver) =
            self.session(&url).await.map_err(|error| Failure::Session(error.to_string()))?.split();
        let (reader, writer) = stream.into_split();
        let sending = async {
            send(reader, sender).await;
            // The other direction may go on.
            std::future::pending().await
        };
        tokio::select! {
            never = sending => never,
            ended = receive(receiver, writer) => ended,
        }
    }
}

impl Connection {
    /// A session; the supervisor may be replaced in this moment, and nothing was sent yet.
    async fn session(&self, url: &str) -> client::Result<WebSocket> {
        let mut attempt = 1;
        loop {
            match self.client.web_socket(&self.pod, url, PROTOCOLS[0]).await {
                Err(client::Error::Broken { .. }) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }
}

/// What comes from here, and its end.
async fn send(mut reader: OwnedReadHalf, mut sender: SplitSink<WebSocket, Message>) {
    let mut message = vec![DATA; 1 + PIECE];
    while let Ok(count @ 1..) = reader.read(&mut message[1..]).await {
        if sender.send(Message::binary(message[..=count].to_vec())).await.is_err() {
            return;
        }
    }
    if let Err(error) = sender.send(Message::binary(vec![channel::CLOSE, DATA])).await {
        tracing::debug!(%error, "the connection is over");
    }
}

/// What comes from the pod, until the session ends.
async fn receive(mut receiver: SplitStream<WebSocket>, mut writer: OwnedWriteHalf) -> Result<(), Failure> {
    let mut ports_due = [true, true];
    while let Some(message) = receiver.next().await {
        let data =
            match message.map_err(|error| Failure::Session(format!("the session broke off: {error}")))? {
                Message::Binary(data) => data,
                Message::Close(_) => return Ok(()),
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
        match data.split_first() {
            // The first message of a channel repeats the port.
            Some((&(DATA | ERROR), _)) if std::mem::take(&mut ports_due[usize::from(data[0])]) => {}
            Some((&DATA, bytes)) => {
                // Whoever connected here wants no more, and the pod is not to wait for it.
                if writer.write_all(bytes).await.is_err() {
                    return Ok(());
                }
            }
            Some((&ERROR, text)) => return Err(Failure::Refused(String::from_utf8_lossy(text).into_owned())),
            Some((&channel::CLOSE, [DATA])) => {
                if let Err(error) = writer.shutdown().await {
                    tracing::debug!(%error, "the connection was closed here already");
                }
            }
            Some(_) | None => {}
        }
    }
    Err(Failure::Session(super::LOST.to_owned()))
}
