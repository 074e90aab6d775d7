//! The client of all pods' sockets: what every verb of the command line uses for a living pod.
//!
//! Which pods there are is seen in the name links (see [`Layout::name_link`]); what they are like, only their
//! supervisors tell. A pod whose shim died is taken up again on the way: its successor is started and waited for.

mod pods;
pub mod shim;
mod watch;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::BodyExt;
use hull_shim::layout::Layout;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{query, socket, status::Status};
pub use pods::PodRef;
pub use watch::{Follower, Lines, Subject, Update};

/// How often a request is made whose connection breaks.
pub const ATTEMPTS: u32 = 3;
/// How long a supervisor may take until it begins to answer; it does so at once unless something is wrong with it.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused.
    #[error(transparent)]
    Status(#[from] Status),
    /// Nobody answers at the socket.
    #[error("cannot reach the supervisor of pod {pod} at {}", path.display())]
    Unreachable {
        /// `namespace/name`
        pod: String,
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pod was taken up again, in vain.
    #[error("cannot take up pod {pod} again")]
    Revive {
        /// `namespace/name`
        pod: String,
        /// Why.
        source: shim::Error,
    },
    /// The connection broke.
    #[error("the connection to the supervisor of pod {pod} broke")]
    Broken {
        /// `namespace/name`
        pod: String,
        /// Why.
        source: hyper::Error,
    },
    /// The supervisor took the request and said nothing.
    #[error("the supervisor of pod {pod} has not answered within {} s", ANSWER.as_secs())]
    Hung {
        /// `namespace/name`
        pod: String,
    },
    /// The answer is not what was asked for.
    #[error("the supervisor of pod {pod} answered what is no JSON")]
    NotJson {
        /// `namespace/name`
        pod: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A directory of hull cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether the API said that there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(status) if status.code == 404)
    }
}

/// A result of the client.
pub type Result<T> = std::result::Result<T, Error>;

/// A response, and the connection that it comes from.
#[derive(Debug)]
pub struct Reply {
    response: Response<Incoming>,
    pod: String,
    _connection: JoinSet<()>,
}

impl Reply {
    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|source| Error::Broken { pod: self.pod.clone(), source })?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The whole body as JSON.
    async fn json(mut self) -> Result<Value> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).map_err(|source| Error::NotJson { pod: self.pod, source })
    }
}

/// Talks to the pods of one hull.
#[derive(Debug, Clone)]
pub struct Client {
    layout: Layout,
}

impl Client {
    /// A client of the pods below this layout.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Where the pods are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The Pod object.
    ///
    /// # Errors
    /// It is gone, or does not answer.
    pub async fn pod(&self, pod: &PodRef) -> Result<Value> {
        self.get(pod, &pod.path("")).await
    }

    /// A JSON document of the pod's API.
    ///
    /// # Errors
    /// It is refused, or the pod does not answer.
    pub async fn get(&self, pod: &PodRef, url: &str) -> Result<Value> {
        self.send(pod, Method::GET, url).await?.json().await
    }

    /// The pod's events.
    ///
    /// # Errors
    /// The pod does not answer.
    pub async fn events(&self, pod: &PodRef) -> Result<Vec<Value>> {
        let list = self.get(pod, &pod.collection("events")).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Asks for deletion; answers with the Pod object.
    ///
    /// # Errors
    /// It is refused, or the pod does not answer.
    pub async fn delete(&self, pod: &PodRef, grace_seconds: Option<i64>) -> Result<Value> {
        let mut url = pod.path("");
        if let Some(seconds) = grace_seconds {
            query::push(&mut url, "gracePeriodSeconds", &seconds.to_string());
        }
        self.send(pod, Method::DELETE, &url).await?.json().await
    }

    /// Gives the pod another manifest; answers with the Pod object.
    ///
    /// # Errors
    /// It is refused, or the pod does not answer.
    pub async fn replace(&self, pod: &PodRef, object: &Value) -> Result<Value> {
        let body = Bytes::from(object.to_string());
        self.send_body(pod, Method::PUT, &pod.path(""), body).await?.json().await
    }

    /// Tells the pod that a Service, ConfigMap or Secret is new or gone.
    ///
    /// # Errors
    /// The pod does not answer.
    pub async fn object_changed(&self, pod: &PodRef, url: &str) -> Result<()> {
        self.send(pod, Method::PUT, url).await?.json().await.map(drop)
    }

    /// A response that is read piece by piece.
    ///
    /// # Errors
    /// It is refused, or the pod does not answer.
    pub async fn stream(&self, pod: &PodRef, url: &str) -> Result<Reply> {
        self.send(pod, Method::GET, url).await
    }

    /// A watch: JSON documents, one a line.
    ///
    /// # Errors
    /// It is refused, or the pod does not answer.
    pub async fn watch(&self, pod: &PodRef, mut url: String) -> Result<Lines> {
        query::push(&mut url, "watch", "true");
        Ok(Lines::new(self.stream(pod, &url).await?))
    }

    async fn send(&self, pod: &PodRef, method: Method, url: &str) -> Result<Reply> {
        self.send_body(pod, method, url, Bytes::new()).await
    }

    async fn send_body(&self, pod: &PodRef, method: Method, url: &str, body: Bytes) -> Result<Reply> {
        let mut attempt = 1;
        // All of this API's requests can be made again; a supervisor that died over one is replaced.
        let (response, connection) = loop {
            match self.exchange(pod, request(method.clone(), url, body.clone())).await {
                Err(Error::Broken { .. }) if attempt < ATTEMPTS => attempt += 1,
                other => break other?,
            }
        };
        refuse_errors(Reply { response, pod: pod.to_string(), _connection: connection }).await
    }

    /// A WebSocket with this subprotocol.
    ///
    /// # Errors
    /// It is refused, or the pod does not answer.
    pub async fn web_socket(&self, pod: &PodRef, url: &str, protocol: &'static str) -> Result<WebSocket> {
        let mut request = request(Method::GET, url, Bytes::new());
        let headers = request.headers_mut();
        let key = HeaderValue::from_str(&generate_key()).expect("base64 is a valid header");
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, key);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let (mut response, connection) = self.exchange(pod, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let reply = Reply { response, pod: pod.to_string(), _connection: connection };
            refuse_errors(reply).await?;
            return Err(Status::internal("unable to upgrade connection").into());
        }
        let upgraded = hyper::upgrade::on(&mut response).await;
        let upgraded = upgraded.map_err(|source| Error::Broken { pod: pod.to_string(), source })?;
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
    }

    async fn exchange(
        &self,
        pod: &PodRef,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, JoinSet<()>)> {
        let stream = self.connect(pod).await?;
        let broken = |source| Error::Broken { pod: pod.to_string(), source };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a supervisor broke off");
            }
        });
        let answer = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
        let response = answer.map_err(|_| Error::Hung { pod: pod.to_string() })?.map_err(broken)?;
        Ok((response, task))
    }

    /// Connects; takes the pod up again if nobody listens although it is recorded.
    async fn connect(&self, pod: &PodRef) -> Result<tokio::net::UnixStream> {
        let files = self.layout.pod(&pod.uid);
        let path = files.api_socket();
        let source = match socket::connect(&path).await {
            Ok(stream) => return Ok(stream),
            Err(source) => source,
        };
        if !files.dir().exists() {
            return Err(Status::not_found("pods", &pod.name).into());
        }
        match source.kind() {
            // It is reset when whoever listened ended just now.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                shim::revive(&self.layout, &pod.uid).await.map_err(|source| match source {
                    shim::Error::Gone => Status::not_found("pods", &pod.name).into(),
                    source => Error::Revive { pod: pod.to_string(), source },
                })?;
                socket::connect(&path).await
            }
            _ => Err(source),
        }
        .map_err(|source| Error::Unreachable { pod: pod.to_string(), path, source })
    }
}

/// The client's end of a session.
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

type Body = http_body_util::Full<Bytes>;

fn request(method: Method, url: &str, body: Bytes) -> Request<Body> {
    let mut request = Request::new(Body::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().expect("paths are built of encoded parts");
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    request
}

/// Turns a refusal into an error.
async fn refuse_errors(reply: Reply) -> Result<Reply> {
    let code = reply.response.status();
    if !code.is_client_error() && !code.is_server_error() {
        return Ok(reply);
    }
    let object = reply.json().await?;
    let unknown = || Status::internal(&format!("status {code}"));
    Err(Status::from_object(&object, code.as_u16()).unwrap_or_else(unknown).into())
}
