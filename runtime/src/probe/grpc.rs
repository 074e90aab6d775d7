//! grpc: one `grpc.health.v1.Health/Check` in plain text (reference `pod-lifecycle.md` 5.8).
//!
//! The call is one unary request over HTTP/2 (gRPC over HTTP2, "PROTOCOL-HTTP2.md"); its two messages have
//! one field each and are written and read here, which saves a code generator and a gRPC stack.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
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

/// Asks `address:port` for the health of `service` within `limit`.
pub async fn probe(address: IpAddr, port: u16, service: &str, limit: Duration) -> Outcome {
    let target = SocketAddr::new(address, port).to_string();
    let seconds = limit.as_secs();
    let connecting = timeout(limit, tcp::dial(SocketAddr::new(address, port))).await;
    let stream = match connecting {
        Ok(Ok(stream)) => stream,
        // gRPC's client goes on trying until its time is over, so a refusal shows as a time-out too.
        Ok(Err(_)) | Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {target:?} within {seconds}s: context deadline exceeded"
            ));
        }
    };
    let called = timeout(limit, call(stream, &target, service)).await;
    let too_slow = || Outcome::Failure(format!("timeout: health rpc did not complete within {seconds}s"));
    match called {
        Err(_elapsed) => too_slow(),
        Ok(Ok(Called::Status(1))) => Outcome::Success,
        Ok(Ok(Called::Status(status))) => {
            Outcome::Failure(format!("service unhealthy (responded with {:?})", status_name(status)))
        }
        Ok(Ok(Called::Refused { code: DEADLINE_EXCEEDED, .. })) => too_slow(),
        Ok(Ok(Called::Refused { code: UNIMPLEMENTED, message })) => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Ok(Ok(Called::Refused { code, message })) => Outcome::Failure(format!(
            "error: health rpc probe failed: rpc error: code = {} desc = {message}",
            code_name(code)
        )),
        Ok(Err(error)) => Outcome::Failure(format!("error: health rpc probe failed: {error}")),
    }
}

async fn call(stream: tokio::net::TcpStream, target: &str, service: &str) -> Result<Called, String> {
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
}
