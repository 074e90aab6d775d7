//! Port-forward over the channels of a WebSocket: for the port of number i in the query, channel 2i carries data and 2i+1
//! what went wrong. The first message of each carries the port, two bytes, least first.

use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::frame::Frames;
use super::{Closing, Connection, Target, WAITING, give};
use crate::api::session::channel;
use crate::api::upgrade::{Socket, Upgrade, good_bye};

/// So many pairs of channels have numbers.
pub(super) const MOST_PORTS: usize = 127;

/// One connection for each port, until all are over or the client leaves.
pub(super) async fn run(upgrade: Upgrade, target: Target, (ports, closing): (Vec<u16>, Closing)) {
    let (Some(mut sender), Some(receiver)) = upgrade.socket().await else { return };
    let (out, mut messages) = mpsc::channel(WAITING);
    let mut inputs = Vec::new();
    let mut connections = JoinSet::new();
    for (data, port) in (0..).step_by(2).zip(ports) {
        let frames = Frames::Channels { data, error: data + 1, closing };
        let (input, bytes) = mpsc::channel(WAITING);
        inputs.push(Some(input));
        let connection = Connection { target: target.clone(), port, frames, input: bytes, out: out.clone() };
        connections.spawn(async move {
            for first in [frames.data(&port.to_le_bytes()), [&[data + 1][..], &port.to_le_bytes()].concat()] {
                give(&connection.out, first).await;
            }
            connection.run().await;
        });
    }
    drop(out);
    let sending = async {
        while let Some(message) = messages.recv().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
        if let Err(error) = sender.send(good_bye()).await {
            tracing::debug!(%error, "a client left before it was told the end");
        }
    };
    tokio::select! {
        // A client that left wants nothing more.
        () = receive(receiver, inputs) => {}
        () = sending => {}
    }
}

/// Messages of the client to their connections, until it leaves.
async fn receive(mut receiver: SplitStream<Socket>, mut inputs: Vec<Option<mpsc::Sender<Bytes>>>) {
    while let Some(Ok(message)) = receiver.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match data.first().copied() {
            Some(channel::CLOSE) => {
                let closed = data.get(1).filter(|data| **data % 2 == 0);
                if let Some(input) = closed.and_then(|data| inputs.get_mut(usize::from(data / 2))) {
                    *input = None;
                }
            }
            Some(data_channel) if data_channel % 2 == 0 => {
                let input = inputs.get(usize::from(data_channel / 2)).and_then(Option::as_ref);
                if let Some(input) = input
                    && input.send(data.slice(1..)).await.is_err()
                {
                    tracing::debug!("a connection that was closed is still written to");
                }
            }
            // Nothing is read on error channels.
            Some(_) | None => {}
        }
    }
}
