//! Probes and hooks.

use crate::manifest::pod::{Handler, HttpGet, Port, Probe};
use crate::manifest::{names, raw};

use super::{At, Errors, Scope, given, natural, one_of, port_number};

/// The probes and hooks of one container.
#[derive(Default)]
pub(super) struct Handlers {
    pub(super) liveness: Option<Probe>,
    pub(super) readiness: Option<Probe>,
    pub(super) startup: Option<Probe>,
    pub(super) post_start: Option<Handler>,
    pub(super) pre_stop: Option<Handler>,
}

/// Reads the probes and hooks of one container.
pub(super) fn handlers(raw: &raw::Container, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> Handlers {
    let mut handlers = Handlers::default();
    let probes = [
        ("livenessProbe", &raw.liveness_probe, &mut handlers.liveness),
        ("readinessProbe", &raw.readiness_probe, &mut handlers.readiness),
        ("startupProbe", &raw.startup_probe, &mut handlers.startup),
    ];
    for (field, raw, into) in probes {
        let readiness = field == "readinessProbe";
        let at = at.field(field);
        *into = raw.as_ref().map(|raw| {
            let probe = probe(raw, &at, errors);
            if readiness && let Some(seconds) = raw.termination_grace_period_seconds {
                let at = at.field("terminationGracePeriodSeconds");
                errors.invalid(&at, seconds, "must not be set for readinessProbes");
            }
            if !readiness && probe.success_threshold != 1 {
                let found = raw.success_threshold.unwrap_or(0);
                errors.invalid(&at.field("successThreshold"), found, "must be 1");
            }
            probe
        });
    }
    if let Some(lifecycle) = &raw.lifecycle {
        let at = at.field("lifecycle");
        if lifecycle.stop_signal.is_some() {
            let why = "the image's STOPSIGNAL is used; set it there, or send the signal from preStop";
            errors.not_supported(&at.field("stopSignal"), why);
        }
        let hook = |raw: Option<&raw::LifecycleHandler>, field: &str, errors: &mut Errors| {
            raw.map(|raw| hook(raw, &at.field(field), scope, errors))
        };
        handlers.post_start = hook(lifecycle.post_start.as_ref(), "postStart", errors);
        handlers.pre_stop = hook(lifecycle.pre_stop.as_ref(), "preStop", errors);
    }
    handlers
}

fn probe(raw: &raw::Probe, at: &At, errors: &mut Errors) -> Probe {
    let mut found = common(&shared(raw), at, errors);
    if let Some(grpc) = &raw.grpc {
        let at = at.field("grpc");
        let port = port_number(grpc.port.unwrap_or(0), &at.field("port"), errors);
        found.push(("grpc", Handler::Grpc { port, service: grpc.service.clone().unwrap_or_default() }));
    }
    let mut number = |field: Option<i32>, name: &str| natural(field.map(i64::from), &at.field(name), errors);
    let initial_delay_seconds = number(raw.initial_delay_seconds, "initialDelaySeconds");
    let timeout_seconds = number(raw.timeout_seconds, "timeoutSeconds");
    let period_seconds = number(raw.period_seconds, "periodSeconds");
    let success_threshold = number(raw.success_threshold, "successThreshold");
    let failure_threshold = number(raw.failure_threshold, "failureThreshold");
    let grace_seconds = raw.termination_grace_period_seconds.map(|seconds| {
        if seconds <= 0 {
            errors.invalid(&at.field("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
        }
        u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
    });
    Probe {
        handler: only(found, at, errors),
        initial_delay_seconds,
        timeout_seconds,
        period_seconds,
        success_threshold,
        failure_threshold,
        grace_seconds,
    }
}

/// The handlers of a probe that hooks have too.
fn shared(raw: &raw::Probe) -> raw::LifecycleHandler {
    raw::LifecycleHandler {
        exec: raw.exec.clone(),
        http_get: raw.http_get.clone(),
        tcp_socket: raw.tcp_socket.clone(),
        sleep: None,
    }
}

fn hook(raw: &raw::LifecycleHandler, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> Handler {
    let mut found = common(raw, at, errors);
    if let Some(sleep) = &raw.sleep {
        let seconds = sleep.seconds.unwrap_or(0);
        let grace = scope.spec.termination_grace_period_seconds.unwrap_or(30);
        if !(0..=grace).contains(&seconds) {
            let detail =
                format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.invalid(&at.field("sleep"), seconds, detail);
        }
        found.push(("sleep", Handler::Sleep { seconds: u32::try_from(seconds.max(0)).unwrap_or(u32::MAX) }));
    }
    only(found, at, errors)
}

/// Handlers by the names of their fields.
type Found = Vec<(&'static str, Handler)>;

/// What probes and hooks share.
fn common(raw: &raw::LifecycleHandler, at: &At, errors: &mut Errors) -> Found {
    let mut found = Found::new();
    if let Some(exec) = &raw.exec {
        if exec.command.is_empty() {
            errors.required(&at.field("exec").field("command"), "");
        }
        found.push(("exec", Handler::Exec(exec.command.clone())));
    }
    if let Some(http) = &raw.http_get {
        found.push(("httpGet", Handler::HttpGet(http_get(http, &at.field("httpGet"), errors))));
    }
    if let Some(tcp) = &raw.tcp_socket {
        let at = at.field("tcpSocket").field("port");
        let host = given(tcp.host.as_ref()).map(str::to_owned);
        found.push(("tcpSocket", Handler::TcpSocket { host, port: port(tcp.port.as_ref(), &at, errors) }));
    }
    found
}

/// The one handler that must be there.
fn only(handlers: Found, at: &At, errors: &mut Errors) -> Handler {
    let mut handlers = handlers.into_iter();
    let first = handlers.next();
    for (field, _) in handlers {
        errors.forbidden(&at.field(field), "may not specify more than 1 handler type");
    }
    match first {
        Some((_, handler)) => handler,
        None => {
            errors.required(at, "must specify a handler type");
            Handler::Exec(Vec::new())
        }
    }
}

fn http_get(raw: &raw::HttpGetAction, at: &At, errors: &mut Errors) -> HttpGet {
    let at_headers = at.field("httpHeaders");
    let headers = raw.http_headers.iter().map(|header| {
        let name = header.name.clone().unwrap_or_default();
        names::header(&name).into_iter().for_each(|fault| errors.invalid(&at_headers, &name, fault));
        (name, header.value.clone().unwrap_or_default())
    });
    let headers = headers.collect();
    HttpGet {
        https: one_of(raw.scheme.as_ref(), &at.field("scheme"), &[("HTTP", false), ("HTTPS", true)], errors),
        host: given(raw.host.as_ref()).map(str::to_owned),
        port: port(raw.port.as_ref(), &at.field("port"), errors),
        path: given(raw.path.as_ref()).unwrap_or("/").to_owned(),
        headers,
    }
}

fn port(raw: Option<&raw::IntOrString>, at: &At, errors: &mut Errors) -> Port {
    match raw {
        None => Port::Number(port_number(0, at, errors)),
        Some(raw::IntOrString::Int(number)) => Port::Number(port_number(*number, at, errors)),
        Some(raw::IntOrString::String(name)) => {
            names::port(name).into_iter().for_each(|fault| errors.invalid(at, name, fault));
            Port::Name(name.clone())
        }
    }
}
