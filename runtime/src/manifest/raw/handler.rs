//! Probes and hooks.

use super::{Any, IntOrString, objects};

objects! {
    /// `livenessProbe`, `readinessProbe`, `startupProbe`.
    Probe {
        exec: Option<ExecAction>,
        failure_threshold: Option<i32>,
        grpc: Option<GrpcAction>,
        http_get: Option<HttpGetAction>,
        initial_delay_seconds: Option<i32>,
        period_seconds: Option<i32>,
        success_threshold: Option<i32>,
        tcp_socket: Option<TcpSocketAction>,
        termination_grace_period_seconds: Option<i64>,
        timeout_seconds: Option<i32>,
    }
    /// `lifecycle`.
    Lifecycle {
        post_start: Option<LifecycleHandler>,
        pre_stop: Option<LifecycleHandler>,
        stop_signal: Option<Any>,
    }
    /// `postStart` and `preStop`.
    LifecycleHandler {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        sleep: Option<SleepAction>,
        tcp_socket: Option<TcpSocketAction>,
    }
    /// `exec`.
    ExecAction {
        command: Vec<String>,
    }
    /// `grpc`.
    GrpcAction {
        port: Option<i32>,
        service: Option<String>,
    }
    /// `httpGet`.
    HttpGetAction {
        host: Option<String>,
        http_headers: Vec<HttpHeader>,
        path: Option<String>,
        port: Option<IntOrString>,
        scheme: Option<String>,
    }
    /// An entry of `httpHeaders`.
    HttpHeader {
        name: Option<String>,
        value: Option<String>,
    }
    /// `tcpSocket`.
    TcpSocketAction {
        host: Option<String>,
        port: Option<IntOrString>,
    }
    /// `sleep`.
    SleepAction {
        seconds: Option<i64>,
    }
}
