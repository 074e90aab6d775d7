//! tcpSocket: connect and close at once (reference `pod-lifecycle.md` 5.7).

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::core::input::Outcome;

/// Connects to `host:port` within `limit`.
pub async fn probe(host: &str, port: u16, limit: Duration) -> Outcome {
    match connect(host, port, limit).await {
        Ok(_connected) => Outcome::Success,
        Err(text) => Outcome::Failure(text),
    }
}

/// A connection, or the text that Go's dialer has for its failure.
///
/// # Errors
/// `dial tcp 10.0.0.7:5432: connect: connection refused` and the like.
pub async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let target = join_host_port(host, port);
    let failed = |why: String| format!("dial tcp {target}: {why}");
    match timeout(limit, TcpStream::connect(&target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(dial_error(host, &error))),
        Err(_elapsed) => Err(failed("i/o timeout".into())),
    }
}

/// `host:port`, with brackets around an IPv6 address.
#[must_use]
pub fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn dial_error(host: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("connect: {}", errno_text(code)),
        None => format!("lookup {host}: no such host"),
    }
}

/// The C library's words for an errno in lower case, as Go prints them.
#[must_use]
pub fn errno_text(code: i32) -> String {
    let text = io::Error::from_raw_os_error(code).to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_refused_in_the_words_of_the_kubelet() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port, Duration::from_secs(1)).await, Outcome::Success);
        drop(listener);
        assert_eq!(
            probe("127.0.0.1", port, Duration::from_secs(1)).await,
            Outcome::Failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused"))
        );
    }
}
