//! Errors as the Kubernetes API tells them: `Status` objects.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, Body};
use crate::driver::handle::Refusal;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Status {
    fn new(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self { code: code.as_u16(), reason: reason.to_owned(), message: message.into() }
    }

    /// There is no such object.
    #[must_use]
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{resource} {name:?} not found"))
    }

    /// There is no such path.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The path has no such method.
    #[must_use]
    pub fn method_not_allowed(method: &str) -> Self {
        let message = format!("the server does not allow the method {method} on the requested resource");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// It should have worked.
    #[must_use]
    pub fn internal(message: &str) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// A driver's refusal.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NotRunning(_) => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            Refusal::Completed(_) => Self::bad_request(message),
            Refusal::Conflict { .. } => Self::new(StatusCode::CONFLICT, "Conflict", message),
            // The article is kubectl's.
            Refusal::Invalid(_) => {
                let message = message.strip_prefix("The ").unwrap_or(&message);
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            }
            Refusal::Failed(_) => Self::internal(&message),
            Refusal::Ending => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message),
        }
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }

    /// Reads an object back.
    #[must_use]
    pub fn from_object(object: &Value, code: u16) -> Option<Self> {
        (object["kind"] == "Status").then(|| Self {
            code,
            reason: object["reason"].as_str().unwrap_or("Unknown").to_owned(),
            message: object["message"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// The HTTP response.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let mut response = body::json(&self.object());
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
    }
}
