//! The supervisor's socket: the Kubernetes API of its one pod, over HTTP/1.1 and JSON (design section 6).
//!
//! Paths and objects are Kubernetes' own, so `curl --unix-socket` and `kubectl` understand them. The server only translates:
//! it reads the [`Handle`]'s view and gives orders through it.
//!
//! **Invariant:** nothing here changes a pod's state, and nothing is answered that is not durable yet: the view is.

pub mod body;
pub mod client;
mod discovery;
mod form;
pub mod log;
pub mod object;
mod order;
pub mod portforward;
pub mod query;
pub mod route;
pub mod selector;
pub mod session;
pub mod socket;
pub mod status;
mod upgrade;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hull_shim::layout::Layout;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::driver::handle::Handle;
use body::Body;
use form::{Form, Kind};
use query::Query;
use route::Route;
use status::Status;

/// What does not change about the pod that is served.
#[derive(Debug, Clone)]
pub struct Facts {
    namespace: String,
    name: String,
    uid: String,
    /// The directory of its log files.
    pub logs: PathBuf,
    /// The driver's clock.
    pub clock: fn() -> Timestamp,
}

impl Facts {
    /// The facts of an accepted Pod object.
    #[must_use]
    pub fn new(object: &Value, layout: &Layout, clock: fn() -> Timestamp) -> Self {
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name, uid) = (meta("namespace"), meta("name"), meta("uid"));
        let logs = layout.pod_logs(&namespace, &name, &uid);
        Self { namespace, name, uid, logs, clock }
    }
}

/// Serves the pod's API until the future is dropped; all connections end with it.
pub fn serve(listener: UnixListener, handle: Handle, pod: Facts) -> impl Future<Output = ()> {
    let server = Server { handle, pod: Arc::new(pod), sessions: Arc::default() };
    async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Cancel-safe: a connection is either accepted or still in the queue.
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => { connections.spawn(server.clone().connection(stream)); }
                    // Out of descriptors, most likely: try again when others may have been closed.
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of the API");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// What every connection holds.
#[derive(Clone)]
struct Server {
    handle: Handle,
    pod: Arc<Facts>,
    /// Sessions outlive the HTTP connection that they were upgraded from.
    sessions: Arc<Mutex<JoinSet<()>>>,
}

impl Server {
    async fn connection(self, stream: UnixStream) {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the API broke off");
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        self.dispatch(request).await.unwrap_or_else(|status| status.response())
    }

    async fn dispatch(self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let route = Route::parse(request.uri().path())?;
        self.check_pod(&route)?;
        match (request.method(), route) {
            (&Method::GET, Route::Health) => Ok(body::text("ok")),
            (&Method::GET, Route::Version) => Ok(body::json(&discovery::version())),
            (&Method::GET, Route::Discovery(what)) => Ok(body::json(&discovery::document(what))),
            (&Method::GET, Route::Pods { namespace }) => {
                let form = Form::of(request.headers(), &query)?;
                watch::pods(&self, namespace.as_deref(), (&query, form))
            }
            (&Method::GET, Route::Events { namespace }) => {
                let form = Form::of(request.headers(), &query)?;
                watch::events(&self, namespace.as_deref(), (&query, form))
            }
            (&Method::GET, Route::Pod { .. }) => {
                let form = Form::of(request.headers(), &query)?;
                Ok(body::json(&form.one(Kind::Pod, self.pod_object(), (self.pod.clock)())))
            }
            (&Method::GET, Route::Log { .. }) => log::answer(&self, &query),
            (&Method::GET | &Method::POST, Route::Exec { .. }) => order::exec(self, request, &query).await,
            (&Method::GET | &Method::POST, Route::Attach { .. }) => {
                order::attach(self, request, &query).await
            }
            (&Method::GET | &Method::POST, Route::PortForward { .. }) => {
                portforward::answer(&self, request, &query)
            }
            (&Method::PUT, Route::Pod(place)) => order::replace(self, request, &place).await,
            (&Method::DELETE, Route::Pod { .. }) => order::delete(self, request, &query).await,
            (&Method::PUT | &Method::DELETE, Route::Object { .. }) => order::objects_changed(self).await,
            (method, _) => Err(Status::method_not_allowed(method.as_str())),
        }
    }

    /// The routes of another pod are not found here.
    fn check_pod(&self, route: &Route) -> Result<(), Status> {
        match route.pod() {
            Some((namespace, name)) if namespace != self.pod.namespace || name != self.pod.name => {
                Err(Status::not_found("pods", name))
            }
            _ => Ok(()),
        }
    }

    fn pod_object(&self) -> Value {
        object::pod(&self.handle.snapshot().view)
    }

    /// Runs a session until it ends or the server does.
    fn keep(&self, session: impl Future<Output = ()> + Send + 'static) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        while sessions.try_join_next().is_some() {}
        sessions.spawn(session);
    }
}

#[cfg(test)]
mod tests;
