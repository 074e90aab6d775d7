//! HTTP connections that become WebSockets; RFC 6455 section 4.2.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{SplitSink, SplitStream};
use hyper::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE, USER_AGENT,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::body::{self, Body};
use super::status::Status;

/// Largest message, in bytes: clients send a few ten kB at once, and what waits is memory of the pod's supervisor.
const LONGEST: usize = 8 << 20;

/// How long nothing is sent to kubectl. Its client library reads messages while it is still making the streams that they
/// belong to, and drops those that come too early ("Unknown stream id 1, discarding message"; kubernetes/kubernetes#131189).
/// Behind a cluster's servers nothing comes that fast.
const SETTLING: Duration = Duration::from_millis(20);
const KUBECTL: &str = "kubectl/";

/// The server's end.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A connection that becomes a WebSocket once the response is sent.
pub(super) struct Upgrade {
    connection: OnUpgrade,
    settling: Duration,
    /// The subprotocol that was agreed on.
    pub(super) protocol: &'static str,
}

impl Upgrade {
    /// Answers a client's handshake with the first of `known` that the client offers.
    pub(super) fn accept<B>(
        request: &mut Request<B>,
        known: &[&'static str],
    ) -> Result<(Self, Response<Body>), Status> {
        let header = |name: HeaderName| {
            request.headers().get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok())
        };
        if !header(UPGRADE).any(|value| value.eq_ignore_ascii_case("websocket")) {
            return Err(Status::bad_request("unable to upgrade: only WebSocket is spoken here, not SPDY"));
        }
        let Some(key) = header(SEC_WEBSOCKET_KEY).next() else {
            return Err(Status::bad_request("unable to upgrade: Sec-WebSocket-Key is missing"));
        };
        let offered: Vec<&str> =
            header(SEC_WEBSOCKET_PROTOCOL).flat_map(|list| list.split(',')).map(str::trim).collect();
        let Some(protocol) = known.iter().copied().find(|known| offered.contains(known)) else {
            let message =
                format!("unable to upgrade: none of the subprotocols {offered:?} is among {known:?}");
            return Err(Status::bad_request(message));
        };
        let is_kubectl = header(USER_AGENT).any(|agent| agent.starts_with(KUBECTL));
        let settling = if is_kubectl { SETTLING } else { Duration::ZERO };
        let response = switching(key, protocol);
        Ok((Self { connection: hyper::upgrade::on(request), settling, protocol }, response))
    }

    /// Both directions; none if the client has left already.
    pub(super) async fn socket(self) -> (Option<SplitSink<Socket, Message>>, Option<SplitStream<Socket>>) {
        match self.connection.await {
            Ok(upgraded) => {
                let limits =
                    WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
                tokio::time::sleep(self.settling).await;
                let (sender, receiver) = socket.split();
                (Some(sender), Some(receiver))
            }
            Err(error) => {
                tracing::debug!(%error, "a client left before its session began");
                (None, None)
            }
        }
    }
}

fn switching(key: &str, protocol: &'static str) -> Response<Body> {
    let mut response = body::empty();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a valid header");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

/// The last message, with a code: kubectl takes a close without one for an error.
pub(super) fn good_bye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_has_time_to_make_its_streams() {
        let settling = |agent: &str| {
            let request = Request::builder()
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
                .header(SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")
                .header(USER_AGENT, agent);
            let mut request = request.body(()).unwrap();
            Upgrade::accept(&mut request, &["v5.channel.k8s.io"]).ok().unwrap().0.settling
        };
        assert_eq!(settling("kubectl/v1.32.4 (linux/amd64) kubernetes/59526cd"), SETTLING);
        assert_eq!(settling("hull"), Duration::ZERO);
    }
}
