//! tcpSocket: connect and close at once (reference `pod-lifecycle.md` 5.7).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::core::input::Outcome;

/// What a host stands for, or why that is not known: `lookup db: no such host`.
pub type Addresses = Result<Vec<IpAddr>, String>;

/// Connects within `limit`.
pub async fn probe(host: &Addresses, port: u16, limit: Duration) -> Outcome {
    match connect(host, port, limit).await {
        Ok(_connected) => Outcome::Success,
        Err(text) => Outcome::Failure(text),
    }
}

/// A connection to the first address that takes one, or the text that Go's dialer has for the failure of the first.
///
/// # Errors
/// `dial tcp 10.0.0.7:5432: connect: connection refused` and the like.
pub async fn connect(host: &Addresses, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let addresses = host.as_ref().map_err(|why| format!("dial tcp: {why}"))?;
    let each = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut first = None;
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        let why = match timeout(each, dial(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => dial_error(&error),
            Err(_elapsed) => "i/o timeout".into(),
        };
        first.get_or_insert_with(|| format!("dial tcp {address}: {why}"));
    }
    Err(first.unwrap_or_else(|| "dial tcp: no address".into()))
}

/// A connection to an address. (`TcpStream::connect` takes names as well, and has a thread look them up.)
///
/// # Errors
/// As connect(2).
pub async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.connect(address).await
}

/// `host:port`, with brackets around an IPv6 address.
#[must_use]
pub fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn dial_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("connect: {}", errno_text(code)),
        None => error.to_string(),
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
        let host = Ok(vec!["127.0.0.1".parse().unwrap()]);
        assert_eq!(probe(&host, port, Duration::from_secs(1)).await, Outcome::Success);
        drop(listener);
        assert_eq!(
            probe(&host, port, Duration::from_secs(1)).await,
            Outcome::Failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused"))
        );
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_tried_and_a_name_without_one_fails() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = Ok(vec!["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
        assert_eq!(probe(&both, port, Duration::from_secs(1)).await, Outcome::Success);
        assert_eq!(
            probe(&Err("lookup db: no such host".into()), port, Duration::from_secs(1)).await,
            Outcome::Failure("dial tcp: lookup db: no such host".into())
        );
    }
}
