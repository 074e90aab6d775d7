//! The rows of `get pods`: READY, STATUS and RESTARTS (reference 10.2).

use jiff::Timestamp;
use serde_json::Value;

use super::table::Row;
use super::{age, field};
use crate::core::status::{ContainerStatus, PodStatus};

/// The columns of a pod.
#[must_use]
pub fn header(wide: bool) -> Vec<&'static str> {
    let mut header = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if wide {
        header.extend(["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
    }
    header
}

/// One pod's cells.
#[must_use]
pub fn row(pod: &Value, wide: bool, now: Timestamp) -> Row {
    let summary = summarize(pod);
    let mut row = vec![
        field::text(pod, "/metadata/name").to_owned(),
        format!("{}/{}", summary.ready, summary.total),
        summary.status.clone(),
        restarts(&summary, now),
        age::since(field::time(pod, "/metadata/creationTimestamp"), now),
    ];
    if wide {
        row.extend([
            field::text_or_none(pod, "/status/podIP").to_owned(),
            field::text_or_none(pod, "/spec/nodeName").to_owned(),
            field::text_or_none(pod, "/status/nominatedNodeName").to_owned(),
            readiness_gates(pod),
        ]);
    }
    row
}

/// What the columns of a pod say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Containers that are ready.
    pub ready: usize,
    /// Containers that count: main ones and sidecars.
    pub total: usize,
    /// The STATUS word.
    pub status: String,
    /// RESTARTS.
    pub restarts: u32,
    /// When a counted container last ended.
    pub last_restart: Option<Timestamp>,
}

impl Summary {
    fn count(&mut self, status: &ContainerStatus) {
        self.restarts += status.restart_count;
        let ended = status.last_state.terminated.as_ref().and_then(|ended| ended.finished_at);
        self.last_restart = self.last_restart.max(ended);
    }
}

/// Works READY, STATUS and RESTARTS out of an API object.
#[must_use]
pub fn summarize(pod: &Value) -> Summary {
    let status = status(pod);
    let sidecars = sidecars(pod);
    let main = field::list(pod, "/spec/containers").len();
    let mut summary = Summary {
        ready: 0,
        total: main + sidecars.len(),
        status: initial_word(&status),
        restarts: 0,
        last_restart: None,
    };
    let mut of_sidecars = summary.clone();
    let initializing = walk_init(pod, &status, &sidecars, (&mut summary, &mut of_sidecars));
    if !initializing || condition(&status, "Initialized") {
        (summary.restarts, summary.last_restart) = (of_sidecars.restarts, of_sidecars.last_restart);
        walk_main(&status, &mut summary);
    }
    if field::some(pod, "/metadata/deletionTimestamp").is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            "Unknown".clone_into(&mut summary.status);
        } else if !status.phase.is_terminal() {
            "Terminating".clone_into(&mut summary.status);
        }
    }
    summary
}

/// The status of an API object; empty if it has none.
#[must_use]
pub fn status(pod: &Value) -> PodStatus {
    pod.get("status").and_then(|status| serde_json::from_value(status.clone()).ok()).unwrap_or_default()
}

/// The names of the sidecars: init containers that are always restarted.
fn sidecars(pod: &Value) -> Vec<&str> {
    field::list(pod, "/spec/initContainers")
        .iter()
        .filter(|container| field::text(container, "/restartPolicy") == "Always")
        .map(|container| field::text(container, "/name"))
        .collect()
}

fn condition(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().any(|condition| condition.kind == kind && condition.status == "True")
}

fn initial_word(status: &PodStatus) -> String {
    let gated = status.conditions.iter().find(|condition| {
        condition.kind == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
    });
    match (gated, status.reason.as_deref()) {
        (Some(_), _) => "SchedulingGated".to_owned(),
        (None, Some(reason)) if !reason.is_empty() => reason.to_owned(),
        _ => format!("{:?}", status.phase),
    }
}

/// Walks the init containers up to the first that is not done; tells whether there is one. The first summary counts
/// all restarts on the way, the second those of sidecars.
fn walk_init(
    pod: &Value,
    status: &PodStatus,
    sidecars: &[&str],
    (all, of_sidecars): (&mut Summary, &mut Summary),
) -> bool {
    let total = field::list(pod, "/spec/initContainers").len();
    for (index, container) in status.init_container_statuses.iter().enumerate() {
        let sidecar = sidecars.contains(&container.name.as_str());
        all.count(container);
        if sidecar {
            of_sidecars.count(container);
        }
        let started = container.started == Some(true);
        match &container.state.terminated {
            Some(ended) if ended.exit_code == 0 => continue,
            Some(ended) => {
                all.status = format!("Init:{}", ended_word(ended.reason.as_deref(), ended.exit_code))
            }
            None if sidecar && started => {
                all.ready += usize::from(container.ready);
                continue;
            }
            None => all.status = format!("Init:{}", waiting_word(container, index, total)),
        }
        return true;
    }
    false
}

fn waiting_word(container: &ContainerStatus, index: usize, total: usize) -> String {
    let reason = container.state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    match reason {
        Some(reason) if !reason.is_empty() && reason != "PodInitializing" => reason.to_owned(),
        _ => format!("{index}/{total}"),
    }
}

/// Why a container ended: its reason, else its signal, else its exit code. An exit code above 128 says a signal.
fn ended_word(reason: Option<&str>, exit_code: i32) -> String {
    match reason {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        _ => format!("ExitCode:{exit_code}"),
    }
}

/// Walks the main containers from last to first, so that the first one has the last word.
fn walk_main(status: &PodStatus, summary: &mut Summary) {
    let mut running = false;
    let mut error = None;
    for container in status.container_statuses.iter().rev() {
        summary.count(container);
        let waiting = container.state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
        if let Some(reason) = waiting.filter(|reason| !reason.is_empty()) {
            reason.clone_into(&mut summary.status);
        } else if let Some(ended) = &container.state.terminated {
            summary.status = ended_word(ended.reason.as_deref(), ended.exit_code);
            if ended.exit_code != 0 {
                error = Some(summary.status.clone());
            }
        } else if container.ready && container.state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.status == "Completed" {
        if running && condition(status, "Ready") {
            "Running".clone_into(&mut summary.status);
        } else if let Some(error) = error {
            summary.status = error;
        } else if running {
            "NotReady".clone_into(&mut summary.status);
        }
    }
}

fn restarts(summary: &Summary, now: Timestamp) -> String {
    match summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, age::since(Some(last), now))
        }
        _ => summary.restarts.to_string(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = field::list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let status = status(pod);
    let met = gates.iter().filter(|gate| condition(&status, field::text(gate, "/conditionType"))).count();
    format!("{met}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2024-01-02T03:05:00Z".parse().unwrap()
    }

    fn ended(reason: Option<&str>, code: i32) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason, "finishedAt": "2024-01-02T03:04:55Z"}})
    }

    fn waiting(reason: &str) -> Value {
        json!({"waiting": {"reason": reason}})
    }

    fn running() -> Value {
        json!({"running": {"startedAt": "2024-01-02T03:04:05Z"}})
    }

    fn container(name: &str, state: Value, ready: bool) -> Value {
        let started = state.get("running").is_some();
        json!({"name": name, "state": state, "ready": ready, "started": started, "restartCount": 0})
    }

    fn pod(phase: &str, init: &[Value], main: &[Value]) -> Value {
        let spec = |statuses: &[Value]| -> Vec<Value> {
            statuses
                .iter()
                .map(|status| json!({"name": status["name"], "restartPolicy": status["policy"]}))
                .collect()
        };
        json!({
            "metadata": {"name": "web", "creationTimestamp": "2024-01-02T03:04:00Z"},
            "spec": {"initContainers": spec(init), "containers": spec(main)},
            "status": {"phase": phase, "initContainerStatuses": init, "containerStatuses": main, "conditions": []},
        })
    }

    fn word(pod: &Value) -> String {
        let summary = summarize(pod);
        format!("{}/{} {}", summary.ready, summary.total, summary.status)
    }

    #[test]
    fn status_words_of_main_containers() {
        let main = |states: &[Value]| -> Vec<Value> {
            let names = ["a", "b", "c"];
            states
                .iter()
                .zip(names)
                .map(|(state, name)| container(name, state.clone(), state.get("running").is_some()))
                .collect()
        };
        for (phase, states, expected) in [
            ("Pending", vec![waiting("ContainerCreating")], "0/1 ContainerCreating"),
            ("Running", vec![running()], "1/1 Running"),
            ("Running", vec![ended(Some("Error"), 1)], "0/1 Error"),
            ("Running", vec![waiting("CrashLoopBackOff")], "0/1 CrashLoopBackOff"),
            ("Succeeded", vec![ended(Some("Completed"), 0)], "0/1 Completed"),
            ("Failed", vec![ended(Some("OOMKilled"), 137)], "0/1 OOMKilled"),
            ("Failed", vec![ended(None, 3)], "0/1 ExitCode:3"),
            ("Running", vec![ended(Some("Completed"), 0), running()], "1/2 NotReady"),
            ("Failed", vec![ended(Some("Completed"), 0), ended(Some("Error"), 3)], "0/2 Error"),
            ("Running", vec![waiting("ErrImagePull"), waiting("CrashLoopBackOff")], "0/2 ErrImagePull"),
        ] {
            assert_eq!(word(&pod(phase, &[], &main(&states))), expected);
        }
    }

    #[test]
    fn status_words_while_initializing() {
        let creating = container("app", waiting("PodInitializing"), false);
        let init = |one: Value, two: Value| [container("i1", one, false), container("i2", two, false)];
        for (states, expected) in [
            (init(running(), waiting("PodInitializing")), "0/1 Init:0/2"),
            (init(ended(Some("Completed"), 0), running()), "0/1 Init:1/2"),
            (init(ended(Some("Error"), 1), waiting("PodInitializing")), "0/1 Init:Error"),
            (init(ended(None, 2), waiting("PodInitializing")), "0/1 Init:ExitCode:2"),
            (init(waiting("CrashLoopBackOff"), waiting("PodInitializing")), "0/1 Init:CrashLoopBackOff"),
            (init(ended(Some("Completed"), 0), ended(Some("Completed"), 0)), "0/1 PodInitializing"),
        ] {
            assert_eq!(word(&pod("Pending", &states, std::slice::from_ref(&creating))), expected);
        }
    }

    #[test]
    fn sidecars_count_as_containers() {
        let mut sidecar = container("s", running(), true);
        sidecar["policy"] = json!("Always");
        sidecar["restartCount"] = json!(2);
        let pod = pod("Running", &[sidecar], &[container("app", running(), true)]);
        assert_eq!(word(&pod), "2/2 Running");
        assert_eq!(summarize(&pod).restarts, 2);
    }

    #[test]
    fn deletion_shows_until_the_phase_is_terminal() {
        let mut alive = pod("Running", &[], &[container("app", running(), true)]);
        alive["metadata"]["deletionTimestamp"] = json!("2024-01-02T03:05:30Z");
        assert_eq!(word(&alive), "1/1 Terminating");
        let mut over = pod("Succeeded", &[], &[container("app", ended(Some("Completed"), 0), false)]);
        over["metadata"]["deletionTimestamp"] = json!("2024-01-02T03:05:30Z");
        assert_eq!(word(&over), "0/1 Completed");
    }

    #[test]
    fn a_pod_without_statuses_shows_its_phase_or_reason() {
        assert_eq!(word(&pod("Pending", &[], &[])), "0/0 Pending");
        let mut evicted = pod("Failed", &[], &[]);
        evicted["status"]["reason"] = json!("Evicted");
        assert_eq!(word(&evicted), "0/0 Evicted");
    }

    #[test]
    fn restarts_tell_when_the_last_one_was() {
        let mut app = container("app", running(), true);
        app["restartCount"] = json!(3);
        app["lastState"] = ended(Some("Error"), 1);
        let row = row(&pod("Running", &[], &[app]), true, now());
        assert_eq!(
            row,
            ["web", "1/1", "Running", "3 (5s ago)", "60s", "<none>", "<none>", "<none>", "<none>"]
        );
    }

    #[test]
    fn plain_init_restarts_disappear_after_initialization() {
        let mut init = container("i", ended(Some("Completed"), 0), true);
        init["restartCount"] = json!(2);
        let initialized = pod("Running", std::slice::from_ref(&init), &[container("app", running(), true)]);
        assert_eq!(summarize(&initialized).restarts, 0);
        init["state"] = waiting("CrashLoopBackOff");
        let initializing = pod("Pending", &[init], &[container("app", waiting("PodInitializing"), false)]);
        assert_eq!(summarize(&initializing).restarts, 2);
    }
}
