//! Probes and hooks: what is done, and the numbers of a probe (reference `pod-lifecycle.md` 5 and 6).

/// A probe: a handler and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is tried.
    pub handler: Handler,
    /// `initialDelaySeconds`.
    pub initial_delay_seconds: u32,
    /// `timeoutSeconds`.
    pub timeout_seconds: u32,
    /// `periodSeconds`.
    pub period_seconds: u32,
    /// `successThreshold`.
    pub success_threshold: u32,
    /// `failureThreshold`.
    pub failure_threshold: u32,
    /// `terminationGracePeriodSeconds` of the probe.
    pub grace_seconds: Option<u32>,
}

/// What a probe or a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// Run a command in the container.
    Exec(Vec<String>),
    /// Ask by HTTP.
    HttpGet(HttpGet),
    /// Connect.
    TcpSocket {
        /// Pod IP unless given.
        host: Option<String>,
        /// Where.
        port: Port,
    },
    /// `grpc.health.v1.Health/Check` (probes).
    Grpc {
        /// Where.
        port: u16,
        /// Asked for.
        service: String,
    },
    /// Wait (hooks).
    Sleep {
        /// How long.
        seconds: u32,
    },
}

/// An HTTP request of a probe or hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// `HTTPS`, without verification.
    pub https: bool,
    /// Pod IP unless given.
    pub host: Option<String>,
    /// Where.
    pub port: Port,
    /// May hold a query.
    pub path: String,
    /// Further headers, in order.
    pub headers: Vec<(String, String)>,
}

/// A port by number, or by the name of one of the container's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}
