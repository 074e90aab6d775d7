//! Runs a container's probes and hooks: picks the handler, gives it the pod's address and the
//! instance, and turns what came of it into the core's words.

use std::time::Duration;

use hull_shim::wire::Failure;

use crate::core::action::{HookKind, HookRest, ProbeKind};
use crate::core::input::{Input, InstanceId, Outcome};
use crate::manifest::pod::{Container, Handler, HttpGet, Pod, Port, Probe};
use crate::probe::http::{self, Get, Got};
use crate::probe::{Ran, grpc, judge_exec, resolve_port, tcp, url};
use crate::{hook, spec};

use super::hands::Hands;
use super::{clock, resolve};

/// An attempt that ends in an error (not a failure) is repeated so often (reference 5.4).
const TRIES: usize = 3;
/// `User-Agent` of a probe's request.
const PROBE_AGENT: &str = "kube-probe/1.36";
/// A hook's request may take as long as its container lives; this only ends a forgotten one.
const HOOK_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// One attempt of one probe.
pub async fn probe(hands: &Hands, instance: &InstanceId, kind: ProbeKind) -> Outcome {
    let pod = hands.pod();
    let Some((container, probe)) = wanted_probe(&pod, instance, kind) else {
        return Outcome::Error(format!("container {:?} has no such probe", instance.container));
    };
    let mut outcome = Outcome::Error(String::new());
    for _ in 0..TRIES {
        outcome = attempt(hands, instance, container, probe).await;
        if !matches!(outcome, Outcome::Error(_)) {
            break;
        }
    }
    outcome
}

fn wanted_probe<'a>(
    pod: &'a Pod,
    instance: &InstanceId,
    kind: ProbeKind,
) -> Option<(&'a Container, &'a Probe)> {
    let container = pod.spec.container(&instance.container)?;
    let probe = match kind {
        ProbeKind::Startup => container.startup.as_ref(),
        ProbeKind::Readiness => container.readiness.as_ref(),
        ProbeKind::Liveness => container.liveness.as_ref(),
    };
    Some((container, probe?))
}

async fn attempt(hands: &Hands, instance: &InstanceId, container: &Container, probe: &Probe) -> Outcome {
    let limit = Duration::from_secs(probe.timeout_seconds.into());
    match &probe.handler {
        Handler::Exec(command) => {
            let command = spec::env::expand_probe(command, container);
            match hands.execs().run(instance, &command, Some(limit)).await {
                Ok(ran) => judge_exec(&command, &ran, probe.timeout_seconds),
                Err(failure) => Outcome::Error(exec_error(&failure.to_string())),
            }
        }
        Handler::HttpGet(get) => match request(hands, container, get, PROBE_AGENT, limit).await {
            Ok(request) => http::judge(http::get(&request).await),
            Err(error) => Outcome::Error(error),
        },
        Handler::TcpSocket { host, port } => {
            match target(hands, container, (host.as_deref(), port), limit).await {
                Ok(Target { addresses, port, left, .. }) => tcp::probe(&addresses, port, left).await,
                Err(error) => Outcome::Error(error),
            }
        }
        Handler::Grpc { port, service } => grpc::probe(hands.pod_ip(), *port, service, limit).await,
        // Validation does not let it through.
        Handler::Sleep { .. } => Outcome::Error("a probe cannot sleep".into()),
    }
}

/// Runs a hook to its end.
///
/// # Errors
/// The `<err>` of the kubelet's text (reference 6.3); the core puts whose hook it was before it.
pub async fn hook(hands: &Hands, instance: &InstanceId, kind: HookKind) -> Result<(), String> {
    let pod = hands.pod();
    let container = pod.spec.container(&instance.container);
    let handler = container.and_then(|container| match kind {
        HookKind::PostStart => container.post_start.as_ref(),
        HookKind::PreStop => container.pre_stop.as_ref(),
    });
    let (Some(container), Some(handler)) = (container, handler) else {
        return Err(format!("container {:?} has no such hook", instance.container));
    };
    match handler {
        Handler::Exec(command) => {
            let execs = hands.execs();
            let ran = match kind {
                HookKind::PostStart => execs.run(instance, command, None).await,
                HookKind::PreStop => execs.run_pre_stop(instance, command).await,
            };
            judge_hook(command, ran)
        }
        Handler::HttpGet(get) => match request(hands, container, get, hook::AGENT, HOOK_LIMIT).await {
            Ok(request) => hook::judge_http(hook_request(hands, request).await),
            Err(error) => hook::judge_http(Got::Error(error)),
        },
        Handler::Sleep { seconds } => {
            tokio::time::sleep(Duration::from_secs((*seconds).into())).await;
            Ok(())
        }
        // Validation lets it through, and it never works: reference 6.2.
        Handler::TcpSocket { .. } | Handler::Grpc { .. } => Err("invalid handler".into()),
    }
}

/// Waits for the rest of a preStop hook that an earlier supervisor began.
///
/// # Errors
/// As [`hook()`].
pub async fn resume(hands: &Hands, instance: &InstanceId, rest: HookRest) -> Result<(), String> {
    match rest {
        HookRest::Process { exec } => {
            let pod = hands.pod();
            let container = pod.spec.container(&instance.container);
            let hook = container.and_then(|container| container.pre_stop.as_ref());
            let command = match hook {
                Some(Handler::Exec(command)) => command.as_slice(),
                _ => &[],
            };
            judge_hook(command, hands.execs().join(exec).await)
        }
        HookRest::Sleep(left) => {
            tokio::time::sleep(left).await;
            Ok(())
        }
    }
}

fn judge_hook(command: &[String], ran: Result<Ran, Failure>) -> Result<(), String> {
    match ran {
        Ok(ran) => hook::judge_exec(command, &ran),
        Err(failure) => Err(format!("{}, message: \"\"", exec_error(&failure.to_string()))),
    }
}

/// A hook's request, by HTTP where HTTPS is asked for and not spoken.
async fn hook_request(hands: &Hands, request: Get) -> Got {
    let first = http::get(&request).await;
    if !matches!(first, Got::PlainHttp(_)) {
        return first;
    }
    let address = tcp::join_host_port(&request.host, request.port);
    let second = http::get(&hook::fall_back(request)).await;
    if hook::judge_http(second.clone()).is_ok() {
        hands.tell(Input::HookFellBack { address });
        return second;
    }
    // The kubelet tells of the first attempt.
    first
}

fn exec_error(message: &str) -> String {
    format!(
        "rpc error: code = Unknown desc = failed to exec in container: OCI runtime exec failed: exec failed: {message}"
    )
}

/// Where a handler connects to.
struct Target {
    host: String,
    addresses: tcp::Addresses,
    port: u16,
    /// Of its time limit, once the host was found.
    left: Duration,
}

async fn target(
    hands: &Hands,
    container: &Container,
    (host, port): (Option<&str>, &Port),
    limit: Duration,
) -> Result<Target, String> {
    let port = resolve_port(port, container)?;
    let host = host.filter(|host| !host.is_empty()).map_or_else(|| hands.pod_ip().to_string(), str::to_owned);
    let begun = clock::boot_time();
    let addresses = resolve::addresses(hands, &host, limit).await;
    Ok(Target { host, addresses, port, left: limit.saturating_sub(clock::boot_time().since(begun)) })
}

async fn request(
    hands: &Hands,
    container: &Container,
    get: &HttpGet,
    agent: &'static str,
    limit: Duration,
) -> Result<Get, String> {
    let target = target(hands, container, (get.host.as_deref(), &get.port), limit).await?;
    let path = url::request_target(&get.path);
    let Target { host, addresses, port, left } = target;
    let headers = get.headers.clone();
    Ok(Get { https: get.https, host, addresses, port, path, headers, agent, limit: left })
}
