//! httpGet, for probes and for hooks (reference `pod-lifecycle.md` 5.6 and 6.2): one GET on a connection
//! of its own, redirects followed while the host name stays the same, 10 KiB of body kept.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::tls::{self, Refused};
use super::{OUTPUT_LIMIT, tcp, url};
use crate::core::input::Outcome;

const MOST_REDIRECTS: usize = 10;
const DEADLINE: &str = "context deadline exceeded";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// By TLS, without verification.
    pub https: bool,
    /// Host name or address.
    pub host: String,
    /// What it stands for.
    pub addresses: tcp::Addresses,
    /// Port.
    pub port: u16,
    /// With its query, starting with `/`, in the letters of a URL ([`url::request_target`]).
    pub path: String,
    /// As the manifest has them.
    pub headers: Vec<(String, String)>,
    /// `User-Agent` unless the headers have one.
    pub agent: &'static str,
    /// For all of it: connect, headers, body.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// A response.
    Response {
        /// Its status code.
        status: u16,
        /// Its first bytes.
        body: String,
    },
    /// Nothing, with Go's text for it; counts as a failure.
    Failed(String),
    /// The same, because a server of plain HTTP was asked by HTTPS.
    PlainHttp(String),
    /// A response whose body did not come to its end, in time or at all; for a probe that does not count.
    Unread(String),
    /// The request could not be made; does not count.
    Error(String),
}

/// The verdict of a probe on a response (reference 5.6).
#[must_use]
pub fn judge(got: Got) -> Outcome {
    match got {
        Got::Response { status: 200..=299, .. } => Outcome::Success,
        Got::Response { status: 300..=399, body } => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
        }
        Got::Response { status, .. } => {
            Outcome::Failure(format!("HTTP probe failed with statuscode: {status}"))
        }
        Got::Failed(text) | Got::PlainHttp(text) => Outcome::Failure(text),
        Got::Unread(text) | Got::Error(text) => Outcome::Error(text),
    }
}

/// Does it.
pub async fn get(request: &Get) -> Got {
    let deadline = Instant::now() + request.limit;
    let response = match timeout_at(deadline, follow(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(got)) => return got,
        Err(_elapsed) => {
            return Got::Failed(format!(
                "Get {:?}: {DEADLINE} (Client.Timeout exceeded while awaiting headers)",
                Target::of(request).url(&request.host)
            ));
        }
    };
    read_until(deadline, response).await
}

async fn read_until(deadline: Instant, response: Response<Incoming>) -> Got {
    match timeout_at(deadline, read(response)).await {
        Ok(got) => got,
        Err(_elapsed) => {
            Got::Unread(format!("{DEADLINE} (Client.Timeout or context cancellation while reading body)"))
        }
    }
}

/// What a redirect may change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    https: bool,
    port: u16,
    path: String,
}

impl Target {
    fn of(request: &Get) -> Self {
        Self { https: request.https, port: request.port, path: request.path.clone() }
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn default_port(&self) -> u16 {
        if self.https { 443 } else { 80 }
    }

    fn url(&self, host: &str) -> String {
        format!("{}://{}{}", self.scheme(), tcp::join_host_port(host, self.port), self.path)
    }
}

/// The response that no redirect leads away from.
async fn follow(request: &Get) -> Result<Response<Incoming>, Got> {
    let mut target = Target::of(request);
    // The first request counts, as in Go.
    for _ in 0..MOST_REDIRECTS {
        let response = once(request, &target).await?;
        match redirect(&request.host, &target, &response) {
            Some(next) => target = next,
            None => return Ok(response),
        }
    }
    Err(Got::Failed(format!("Get {:?}: stopped after {MOST_REDIRECTS} redirects", target.url(&request.host))))
}

async fn once(request: &Get, target: &Target) -> Result<Response<Incoming>, Got> {
    let text = |why: &str| format!("Get {:?}: {why}", target.url(&request.host));
    let failed = |why: String| Got::Failed(text(&why));
    let message = build(request, target).map_err(Got::Error)?;
    let stream = tcp::connect(&request.addresses, target.port, request.limit).await.map_err(failed)?;
    if target.https {
        let stream = tls::client(stream, &request.host).await.map_err(|refused| match refused {
            Refused::PlainText => Got::PlainHttp(text("http: server gave HTTP response to HTTPS client")),
            Refused::Failed(why) => failed(why),
        })?;
        exchange(stream, message).await.map_err(failed)
    } else {
        exchange(stream, message).await.map_err(failed)
    }
}

/// Sends one request and gives its response; the connection goes on in a task until the body is read.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    message: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| transport_error(&error))?;
    // Ends with the body or when `sender` and the response are dropped; its error reaches us through them.
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(message).await.map_err(|error| transport_error(&error))
}

fn transport_error(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "EOF".into();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: {error}");
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.and_then(std::io::Error::raw_os_error) {
        Some(code) => format!("read: {}", tcp::errno_text(code)),
        None => error.to_string(),
    }
}

fn body_error(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match cause.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::UnexpectedEof) => "unexpected EOF".into(),
        Some(_) | None if error.is_incomplete_message() => "unexpected EOF".into(),
        Some(_) | None => transport_error(error),
    }
}

fn build(request: &Get, target: &Target) -> Result<Request<Empty<Bytes>>, String> {
    let path = &target.path;
    let uri: Uri = path.parse().map_err(|error| format!("parse {path:?}: {error}"))?;
    let mut message = Request::builder().method(Method::GET).uri(uri);
    let headers = message.headers_mut().ok_or("the request cannot be built")?;
    let named = |wanted: &HeaderName| {
        request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_str()))
    };
    for (name, value) in &request.headers {
        let name: HeaderName = name.parse().map_err(|error| format!("header {name:?}: {error}"))?;
        let value = HeaderValue::from_str(value).map_err(|error| format!("header {name}: {error}"))?;
        // Given but empty takes a header away that would be sent otherwise.
        if !value.is_empty() || (name != ACCEPT && name != USER_AGENT && name != HOST) {
            headers.append(name, value);
        }
    }
    if !named(&HOST) {
        let host = match target.port == target.default_port() {
            true => request.host.clone(),
            false => tcp::join_host_port(&request.host, target.port),
        };
        let host = HeaderValue::from_str(&host).map_err(|error| format!("host {host:?}: {error}"))?;
        headers.insert(HOST, host);
    }
    if !named(&USER_AGENT) {
        headers.insert(USER_AGENT, HeaderValue::from_static(request.agent));
    }
    if !named(&ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    }
    message.body(Empty::new()).map_err(|error| error.to_string())
}

/// Where a redirect to the same host name leads; none for anything that is not to be followed.
fn redirect(host: &str, from: &Target, response: &Response<Incoming>) -> Option<Target> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    resolve(host, from, location)
}

/// A `Location` seen from where it was given (RFC 3986 section 5.2, without its dot segments in a relative path,
/// which a server understands as well).
fn resolve(host: &str, from: &Target, location: &str) -> Option<Target> {
    let location = &url::legal(location.split('#').next().unwrap_or_default());
    let has_scheme = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
    if !has_scheme && !location.starts_with("//") {
        let (directory, own) = directory_of(&from.path);
        let path = match location.chars().next() {
            None => return None,
            Some('/') => location.to_owned(),
            Some('?') => format!("{own}{location}"),
            Some(_) => format!("{directory}{location}"),
        };
        return Some(Target { path, ..from.clone() });
    }
    let absolute = if has_scheme { location.to_owned() } else { format!("{}:{location}", from.scheme()) };
    let location: Uri = absolute.parse().ok()?;
    let https = match (location.host(), location.scheme_str()) {
        (Some(other), Some("http")) if is_same_host(other, host) => false,
        (Some(other), Some("https")) if is_same_host(other, host) => true,
        (Some(_) | None, _) => return None,
    };
    let path = location.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let target = Target { https, port: 0, path };
    Some(Target { port: location.port_u16().unwrap_or(target.default_port()), ..target })
}

/// A path's directory with its last slash, and the path without its query.
fn directory_of(path: &str) -> (&str, &str) {
    let path = path.split('?').next().unwrap_or_default();
    let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
    (directory, path)
}

/// A URL has an IPv6 address in brackets.
fn is_same_host(in_url: &str, host: &str) -> bool {
    in_url.trim_start_matches('[').trim_end_matches(']') == host
}

async fn read(response: Response<Incoming>) -> Got {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut kept = Vec::new();
    while kept.len() < OUTPUT_LIMIT {
        match body.frame().await {
            Some(Ok(frame)) => kept.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(error)) => return Got::Unread(body_error(&error)),
            None => break,
        }
    }
    kept.truncate(OUTPUT_LIMIT);
    Got::Response { status, body: String::from_utf8_lossy(&kept).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Serves the given raw answers, one per connection, and hands back what was asked.
    async fn server(answers: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                asked.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (port, asked)
    }

    fn request(port: u16) -> Get {
        Get {
            https: false,
            host: "127.0.0.1".into(),
            addresses: Ok(vec!["127.0.0.1".parse().unwrap()]),
            port,
            path: "/index1.html?a=b".into(),
            headers: vec![
                ("X-Twice".into(), "1".into()),
                ("X-Twice".into(), "2".into()),
                ("Accept".into(), String::new()),
            ],
            agent: "kube-probe/1.36",
            limit: Duration::from_secs(2),
        }
    }

    #[tokio::test]
    async fn a_missing_page_is_a_failure_with_its_status_code() {
        let (port, asked) = server(vec!["HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"]).await;
        let got = get(&request(port)).await;
        assert_eq!(judge(got), Outcome::Failure("HTTP probe failed with statuscode: 404".into()));
        let asked = asked.await.unwrap().remove(0).to_lowercase();
        assert!(asked.starts_with("get /index1.html?a=b http/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("x-twice: 1\r\nx-twice: 2\r\n") && asked.contains("user-agent: kube-probe/1.36")
        );
        assert!(!asked.contains("accept:"), "{asked}");
    }

    #[tokio::test]
    async fn a_redirect_is_followed_on_the_same_host_and_is_a_warning_to_another() {
        let (port, _) = server(vec![
            "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        ])
        .await;
        assert_eq!(judge(get(&request(port)).await), Outcome::Success);
        let (port, _) = server(vec![
            "HTTP/1.1 302 Found\r\nlocation: http://example.invalid/\r\ncontent-length: 2\r\n\r\nhi",
        ])
        .await;
        assert_eq!(
            judge(get(&request(port)).await),
            Outcome::Warning("Probe terminated redirects, Response body: hi".into())
        );
    }

    #[test]
    fn a_location_is_resolved_against_where_it_was_given() {
        let from = Target { https: false, port: 8080, path: "/a/b?c=d".into() };
        let path = |location: &str| resolve("10.0.0.7", &from, location).map(|target| target.path);
        assert_eq!(path("/x"), Some("/x".into()));
        assert_eq!(path("x?y#z"), Some("/a/x?y".into()));
        assert_eq!(path("?y=1"), Some("/a/b?y=1".into()));
        assert_eq!(path("/x y"), Some("/x%20y".into()));
        assert_eq!(path("//10.0.0.7:81/x"), Some("/x".into()));
        assert_eq!(path("//other/x"), None);
        assert_eq!(path("mailto:someone"), None);
        let tls = resolve("10.0.0.7", &from, "https://10.0.0.7");
        assert_eq!(tls, Some(Target { https: true, port: 443, path: "/".into() }));
        assert!(resolve("fd00::7", &from, "http://[fd00::7]:1/").is_some());
    }

    /// Sends this and nothing more, with the connection open (or not).
    async fn server_of_a_part(answer: &'static str, stays: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if stays {
                std::future::pending::<()>().await;
            }
        });
        port
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_an_error_and_no_failure() {
        let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
        let port = server_of_a_part(stream, true).await;
        let response = follow(&request(port)).await.unwrap();
        assert_eq!(
            judge(read_until(Instant::now(), response).await),
            Outcome::Error(
                "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
                    .into()
            )
        );
        for cut in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf",
        ] {
            let port = server_of_a_part(cut, false).await;
            assert_eq!(judge(get(&request(port)).await), Outcome::Error("unexpected EOF".into()));
        }
    }

    #[tokio::test]
    async fn a_silent_server_times_out_and_a_closing_one_is_eof() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let quick = Get { limit: Duration::from_millis(100), ..request(port) };
        let Got::Failed(text) = get(&quick).await else { panic!("no failure") };
        assert!(
            text.ends_with("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
            "{text}"
        );
        let (port, _) = server(vec![""]).await;
        let Got::Failed(text) = get(&request(port)).await else { panic!("no failure") };
        assert!(text.ends_with(": EOF"), "{text}");
    }
}
