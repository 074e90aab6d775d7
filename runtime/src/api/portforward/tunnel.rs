//! Port-forward as kubectl does it since 1.30: a SPDY connection tunnelled in the binary messages of a WebSocket.
//!
//! Each connection is a pair of streams with the same `requestid`: `streamtype` `error`, then `data`, each with its `port`.

use std::collections::HashMap;

use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;

use super::frame::Frames;
use super::spdy::{self, Frame, Last, Reader, Replies};
use super::{Connection, Target, WAITING, give};
use crate::api::upgrade::{Upgrade, good_bye};

/// Carries connections until the client leaves.
pub(super) async fn run(upgrade: Upgrade, target: Target) {
    let (Some(mut sender), Some(mut receiver)) = upgrade.socket().await else { return };
    let (out, mut messages) = mpsc::channel(WAITING);
    let mut tunnel = Tunnel::new(target, out);
    let receiving = async {
        let mut reader = Reader::new();
        while let Some(Ok(message)) = receiver.next().await {
            match message {
                Message::Binary(data) => reader.push(&data),
                Message::Close(_) => return,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            if let Err(error) = tunnel.take(&mut reader).await {
                tracing::warn!(%error, "a client of port-forward is not understood");
                return;
            }
        }
    };
    let sending = async {
        while let Some(message) = messages.recv().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = receiving => {}
        () = sending => {}
    }
    if let Err(error) = sender.send(good_bye()).await {
        tracing::debug!(%error, "a client left before it was told the end");
    }
}

/// Streams that wait for their other half; a client opens both at once.
const MOST_HALVES: usize = 256;

/// The streams of one client.
struct Tunnel {
    target: Target,
    out: mpsc::Sender<Message>,
    replies: Replies,
    /// Halves of pairs by their request.
    halves: HashMap<String, Half>,
    /// Connections by their data stream.
    open: HashMap<u32, Open>,
    /// Each gives its data stream back.
    connections: JoinSet<u32>,
}

/// What is known of a pair until its other half comes.
#[derive(Default)]
struct Half {
    data: Option<u32>,
    error: Option<u32>,
}

struct Open {
    /// None once the client has closed its half.
    input: Option<mpsc::Sender<Bytes>>,
    error: u32,
    connection: AbortHandle,
}

impl Tunnel {
    fn new(target: Target, out: mpsc::Sender<Message>) -> Self {
        Self {
            target,
            out,
            replies: Replies::default(),
            halves: HashMap::new(),
            open: HashMap::new(),
            connections: JoinSet::new(),
        }
    }

    /// Acts on all frames that are there.
    async fn take(&mut self, reader: &mut Reader) -> Result<(), spdy::Error> {
        while let Some(frame) = reader.next()? {
            match frame {
                Frame::Open { stream, headers } => self.opened(stream, &headers).await,
                Frame::Data { stream, bytes, last } => self.data(stream, bytes, last).await,
                Frame::Reset { stream } => {
                    self.halves.retain(|_, half| ![half.data, half.error].contains(&Some(stream)));
                    if let Some(open) = self.open.remove(&stream) {
                        open.connection.abort();
                        // The client waits for what went wrong: nothing.
                        give(&self.out, spdy::data(open.error, &[], Last::Yes)).await;
                    }
                }
                Frame::Ping { id } => give(&self.out, spdy::pong(id)).await,
                Frame::Other => {}
            }
            while let Some(ended) = self.connections.try_join_next() {
                // One that was aborted is removed already.
                if let Ok(data) = ended {
                    self.open.remove(&data);
                }
            }
        }
        Ok(())
    }

    async fn opened(&mut self, stream: u32, headers: &[(String, String)]) {
        let header = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.as_str())
        };
        let port = header("port").and_then(|port| port.parse().ok()).filter(|port: &u16| *port > 0);
        let (Some(port), Some(request)) = (port, header("requestid")) else {
            return give(&self.out, spdy::reset(stream)).await;
        };
        if self.halves.len() >= MOST_HALVES && !self.halves.contains_key(request) {
            return give(&self.out, spdy::reset(stream)).await;
        }
        let half = self.halves.entry(request.to_owned()).or_default();
        match header("streamtype") {
            Some("error") => half.error = Some(stream),
            Some("data") => half.data = Some(stream),
            _ => return give(&self.out, spdy::reset(stream)).await,
        }
        let pair = half.data.zip(half.error);
        give(&self.out, self.replies.accept(stream)).await;
        if let Some((data, error)) = pair {
            self.halves.remove(request);
            self.connect(port, data, error);
        }
    }

    fn connect(&mut self, port: u16, data: u32, error: u32) {
        let (input, bytes) = mpsc::channel(WAITING);
        let frames = Frames::Streams { data, error };
        let (target, out) = (self.target.clone(), self.out.clone());
        let connection = Connection { target, port, frames, input: bytes, out };
        let connection = self.connections.spawn(async move {
            connection.run().await;
            data
        });
        self.open.insert(data, Open { input: Some(input), error, connection });
    }

    async fn data(&mut self, stream: u32, bytes: Bytes, last: Last) {
        // Clients close error streams at once: nothing is read on them.
        let Some(open) = self.open.get_mut(&stream) else { return };
        if let Some(input) = &open.input
            && !bytes.is_empty()
            && input.send(bytes).await.is_err()
        {
            tracing::debug!("a connection that was closed is still written to");
        }
        if last == Last::Yes {
            open.input = None;
        }
    }
}
