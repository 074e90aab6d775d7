//! grpc: one `grpc.health.v1.Health/Check` in plain text (reference `pod-lifecycle.md` 5.8).
//!
//! The call is one unary request over HTTP/2 (gRPC over HTTP2, "PROTOCOL-HTTP2.md"); its two messages have
//! one field each and are written and read here, which saves a code generator and a gRPC stack.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tcp;
use crate::core::input::Outcome;

const PATH: &str = "/grpc.health.v1.Health/Check";
const AGENT: &str = "kube-probe/1.36";
/// gRPC status codes (statuscodes.md).
const DEADLINE_EXCEEDED: u32 = 4;
const UNIMPLEMENTED: u32 = 12;
/// Longest answer that is read, in bytes; a status takes a few.
const ANSWER_LIMIT: usize = 4096;

/// What a server says of a service's health.
#[derive(Debug, PartialEq, Eq)]
enum Called {
    Status(u64),
    Refused { code: u32, message: String },
}

/// Asks `address:port` for the health of `service` within `limit`, in which there has to be a connection too.
pub async fn probe(address: IpAddr, port: u16, service: &str, limit: Duration) -> Outcome {
    let target = SocketAddr::new(address, port);
    let seconds = limit.as_secs();
    let greeting = Greeting::default();
    let called = timeout(limit, async {
        let stream = tcp::dial(target).await.map_err(|error| error.to_string())?;
        call(Greeted { stream, greeting: greeting.clone() }, target, service).await
    });
    let called = match called.await {
        // gRPC's client goes on trying until its time is over, so a refusal shows as a time-out too, as does a server
        // that speaks something else.
        Err(_) | Ok(Err(_)) if !greeting.is_there() => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service \"{target}\" within {seconds}s: context deadline exceeded"
            ));
        }
        Err(_elapsed) => Ok(Called::Refused { code: DEADLINE_EXCEEDED, message: String::new() }),
        Ok(called) => called,
    };
    match called {
        Ok(called) => judge(called, seconds),
        Err(error) => Outcome::Failure(format!("error: health rpc probe failed: {error}")),
    }
}

fn judge(called: Called, seconds: u64) -> Outcome {
    Outcome::Failure(match called {
        Called::Status(1) => return Outcome::Success,
        Called::Status(status) => format!("service unhealthy (responded with {:?})", status_name(status)),
        Called::Refused { code: DEADLINE_EXCEEDED, .. } => {
            format!("timeout: health rpc did not complete within {seconds}s")
        }
        Called::Refused { code: UNIMPLEMENTED, message } => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        ),
        Called::Refused { code, message } => {
            let code = code_name(code);
            format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}")
        }
    })
}

/// How far a server has come with the SETTINGS frame that its side of HTTP/2 begins with (RFC 9113, section 3.4). Only
/// with it there is a connection to gRPC's client.
#[derive(Debug, Clone, Default)]
struct Greeting(Arc<Mutex<Vec<u8>>>);

impl Greeting {
    /// Bytes of a frame's header, of which the fourth is its type.
    const HEADER: usize = 9;
    const TYPE: usize = 3;
    const SETTINGS: u8 = 4;

    fn heard(&self, bytes: &[u8]) {
        let mut header = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = Self::HEADER - header.len();
        header.extend(bytes.iter().take(missing));
    }

    fn is_there(&self) -> bool {
        let header = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        header.len() == Self::HEADER && header[Self::TYPE] == Self::SETTINGS
    }
}

/// A connection on which the greeting is listened for.
struct Greeted {
    stream: TcpStream,
    greeting: Greeting,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.greeting.heard(&buffer.filled()[before..]);
        read
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn call(stream: Greeted, target: SocketAddr, service: &str) -> Result<Called, String> {
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(text)?;
    // Ends when `sender` and the response are dropped; its error reaches us through them.
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::post(format!("http://{target}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", AGENT)
        .body(Full::new(framed(service)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(text)?;
    read(response).await
}

async fn read(response: Response<Incoming>) -> Result<Called, String> {
    let (head, mut body) = response.into_parts();
    if head.status != 200 {
        let message = format!("unexpected HTTP status code received from server: {}", head.status);
        return Ok(Called::Refused { code: if head.status == 404 { UNIMPLEMENTED } else { 2 }, message });
    }
    let mut answer = Vec::new();
    let mut trailers = head.headers;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        match frame.into_data() {
            Ok(data) => answer.extend_from_slice(&data),
            Err(other) => trailers.extend(other.into_trailers().unwrap_or_default()),
        }
        if answer.len() > ANSWER_LIMIT {
            return Err("the answer is too long".into());
        }
    }
    match code(&trailers) {
        0 => status(&answer).map(Called::Status).ok_or_else(|| "the answer cannot be read".into()),
        code => Ok(Called::Refused { code, message: header(&trailers, "grpc-message") }),
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn code(trailers: &HeaderMap) -> u32 {
    // A missing status is UNKNOWN.
    header(trailers, "grpc-status").parse().unwrap_or(2)
}

/// `HealthCheckRequest { service = 1 }` behind gRPC's five bytes: not compressed, length.
fn framed(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend(message);
    frame.into()
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

/// `HealthCheckResponse { status = 1 }`; absent is 0, `UNKNOWN`. None if it is no such message.
fn status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_at_checked(5)?;
    if head[0] != 0 {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, rest @ ..] => rest.iter().take(10).enumerate().try_fold(0_u64, |value, (at, byte)| {
            let value = value | u64::from(byte & 0x7f) << (7 * at).min(63);
            Some(value)
        }),
        _ => None,
    }
}

fn status_name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNRECOGNIZED",
    }
}

fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES.get(code as usize).copied().unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::service::service_fn;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A health server that answers with these bytes and trailers, once.
    async fn server(answer: &'static [u8], grpc_status: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), PATH);
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(&asked[..], b"\0\0\0\0\x05\x0a\x03app");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", grpc_status.parse().unwrap());
                let body = Full::new(Bytes::from_static(answer))
                    .with_trailers(std::future::ready(Some(Ok(trailers))));
                Ok::<_, std::convert::Infallible>(Response::new(body))
            });
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            drop(served.await);
        });
        port
    }

    async fn ask(answer: &'static [u8], grpc_status: &'static str) -> Outcome {
        let port = server(answer, grpc_status).await;
        probe(LOOPBACK, port, "app", Duration::from_secs(2)).await
    }

    #[tokio::test]
    async fn only_serving_is_healthy() {
        assert_eq!(ask(b"\0\0\0\0\x02\x08\x01", "0").await, Outcome::Success);
        assert_eq!(
            ask(b"\0\0\0\0\x02\x08\x02", "0").await,
            Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into())
        );
        assert_eq!(
            ask(b"\0\0\0\0\0", "0").await,
            Outcome::Failure("service unhealthy (responded with \"UNKNOWN\")".into())
        );
    }

    #[tokio::test]
    async fn a_server_without_the_health_service_says_so() {
        let Outcome::Failure(text) = ask(b"", "12").await else { panic!("no failure") };
        assert!(text.starts_with("error: this server does not implement the grpc health protocol"), "{text}");
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure_to_connect() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let Outcome::Failure(text) = probe(LOOPBACK, port, "", Duration::from_secs(1)).await else {
            panic!("no failure")
        };
        assert!(text.starts_with("timeout: failed to connect service"), "{text}");
    }

    /// Takes one connection, sends this, and holds it.
    async fn server_that_says(bytes: &'static [u8]) -> u16 {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            std::future::pending::<()>().await;
        });
        port
    }

    #[tokio::test]
    async fn there_is_one_deadline_and_no_connection_without_http_2() {
        for (says, text) in [
            (&b""[..], "timeout: failed to connect service"),
            (b"220 mail.example ESMTP\r\n", "timeout: failed to connect service"),
            (b"\0\0\0\x04\0\0\0\0\0", "timeout: health rpc did not complete within 1s"),
        ] {
            let port = server_that_says(says).await;
            // Which is over first, and not when: the probe is looked at first.
            let probed = probe(LOOPBACK, port, "", Duration::from_secs(1));
            let outcome = tokio::time::timeout(Duration::from_millis(1500), probed).await.expect("it ends");
            let Outcome::Failure(said) = outcome else { panic!("no failure") };
            assert!(said.starts_with(text), "{said}");
        }
    }
}
