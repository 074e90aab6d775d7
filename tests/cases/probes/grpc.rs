//! grpc: the health of a service.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hull_tests::pod::text;
use hull_tests::{host, wait_until};

use super::{SOON, sleeper};

/// Answers one `Health/Check` over HTTP/2 in plain text; `None` answers nothing.
fn health_server(mut stream: std::net::TcpStream, status: Option<u8>) {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let frame = |kind: u8, flags: u8, stream_id: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream_id], payload].concat()
    };
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).is_err() || stream.write_all(&frame(4, 0, 0, &[])).is_err() {
        return;
    }
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        let mut answer = Vec::new();
        // Settings are acknowledged; the end of the request's data is answered.
        if head[3] == 4 && head[4] & 1 == 0 {
            answer = frame(4, 1, 0, &[]);
        } else if let (0, 1, Some(status)) = (head[3], head[4] & 1, status) {
            let literal = |name: &str, value: &str| {
                let lengths = [u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()];
                [&[0x10, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
            };
            // 0x88 is `:status: 200` of the static table (RFC 7541).
            let headers = [vec![0x88], literal("content-type", "application/grpc")].concat();
            answer.extend(frame(1, 4, head[8], &headers));
            answer.extend(frame(0, 0, head[8], &[0, 0, 0, 0, 2, 8, status]));
            answer.extend(frame(1, 5, head[8], &literal("grpc-status", "0")));
        }
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn a_grpc_probe_reads_the_health_of_a_service() {
    let host = host!();
    host.apply(&sleeper("    readinessProbe: {grpc: {port: 8084, service: db}, periodSeconds: 1}\n"));
    let ip = wait_until(SOON, "an address", || {
        let ip = text(&host.pod("app")?["status"]["podIP"]).to_owned();
        if ip.is_empty() { Err("none".to_owned()) } else { Ok(ip) }
    });
    let late =
        format!("timeout: failed to connect service \"{ip}:8084\" within 1s: context deadline exceeded");
    host.wait_event("app", SOON, "Unhealthy", &format!("Readiness probe failed: {late}"));
    // 1 is SERVING, 2 NOT_SERVING.
    let status = Arc::new(AtomicUsize::new(2));
    let now = Arc::clone(&status);
    let server = host.serve_in_pod("app", 8084, move |stream| {
        let status = u8::try_from(now.load(Ordering::Relaxed)).unwrap();
        health_server(stream, (status != 0).then_some(status));
    });
    host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
    );
    status.store(1, Ordering::Relaxed);
    host.wait_row("app", SOON, "1/1", "Running");
    status.store(0, Ordering::Relaxed);
    host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Readiness probe failed: timeout: health rpc did not complete within 1s",
    );
    drop(server);
    host.end(&["app"]);
}
