//! Bodies of responses: whole, or produced piece by piece while the reader reads.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A response's body.
#[derive(Debug)]
pub enum Body {
    /// Known in full.
    Whole(Option<Bytes>),
    /// Made by a task that ends with the reader.
    Stream {
        /// The pieces.
        pieces: mpsc::Receiver<Bytes>,
        /// Holds the one producing task; dropping it stops the task.
        producer: JoinSet<()>,
    },
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { pieces, .. } => {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}

/// Where a producing task puts its pieces.
pub type Sink = mpsc::Sender<Bytes>;

/// A response made piece by piece.
#[must_use]
pub fn stream<F>(content_type: &'static str, produce: impl FnOnce(Sink) -> F) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sink, pieces) = mpsc::channel(4);
    let mut producer = JoinSet::new();
    producer.spawn(produce(sink));
    typed(content_type, Body::Stream { pieces, producer })
}

/// A JSON response.
#[must_use]
pub fn json(value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("values of the API have string keys and serialise");
    typed("application/json", Body::Whole(Some(bytes.into())))
}

/// A plain text response.
#[must_use]
pub fn text(text: &'static str) -> Response<Body> {
    typed("text/plain", Body::Whole(Some(Bytes::from_static(text.as_bytes()))))
}

/// A response without a body.
#[must_use]
pub fn empty() -> Response<Body> {
    Response::new(Body::Whole(None))
}

fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
