//! The phase, from what the containers show (reference 8.1, 8.2).

use super::input::ContainerKind;
use super::restart::{RESTARTING_ALL, Verdict, verdict};
use super::status::{ContainerStatus, Phase};
use crate::manifest::pod::{Container, PodSpec};

/// What the phase is decided from.
pub(super) struct Facts<'a> {
    /// The pod.
    pub(super) spec: &'a PodSpec,
    /// In spec order.
    pub(super) init: &'a [ContainerStatus],
    /// In any order.
    pub(super) main: &'a [ContainerStatus],
    /// Nothing will run any more.
    pub(super) over: bool,
    /// A main container was created in the present sandbox.
    pub(super) main_created: bool,
}

#[derive(Debug, Default)]
struct Counts {
    pending_init: u32,
    failed_init_final: u32,
    pending_sidecar: u32,
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_final: u32,
    succeeded: u32,
}

/// The phase that these facts amount to.
pub(super) fn phase(facts: &Facts<'_>) -> Phase {
    let counts = count(facts);
    let by_exits = match counts.stopped == counts.succeeded {
        true => Phase::Succeeded,
        false => Phase::Failed,
    };
    let all_stopped = counts.running == 0 && counts.stopped > 0 && counts.unknown == 0;
    if counts.failed_init_final > 0 {
        Phase::Failed
    } else if counts.pending_init > 0
        || (counts.pending_sidecar > 0 && !facts.main_created)
        || counts.waiting > 0
    {
        Phase::Pending
    } else if counts.running > 0 && counts.unknown == 0 {
        Phase::Running
    } else if all_stopped && (facts.over || counts.stopped == counts.stopped_final) {
        by_exits
    } else if all_stopped {
        Phase::Running
    } else {
        Phase::Pending
    }
}

fn count(facts: &Facts<'_>) -> Counts {
    let mut counts = Counts::default();
    for container in facts.spec.all_containers() {
        let find = |status: &&ContainerStatus| status.name == container.name.as_str();
        let status = facts.init.iter().chain(facts.main).find(find);
        match ContainerKind::of(facts.spec, &container.name) {
            Some(ContainerKind::Init) => count_init(&mut counts, facts.spec, container, status),
            Some(ContainerKind::Sidecar) => count_sidecar(&mut counts, status),
            Some(ContainerKind::Main) | None => count_main(&mut counts, facts.spec, container, status),
        }
    }
    counts
}

/// The exit that counts: of the state shown, or of the last one while the container waits.
fn exit(status: &ContainerStatus) -> Option<i32> {
    let shown = status.state.terminated.as_ref().or(status.last_state.terminated.as_ref());
    shown.map(|shown| shown.exit_code)
}

fn is_final(spec: &PodSpec, container: &Container, status: &ContainerStatus, code: i32) -> bool {
    let waiting = status.state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    waiting != Some(RESTARTING_ALL) && verdict(spec, container, code) == Verdict::Stay
}

fn count_init(counts: &mut Counts, spec: &PodSpec, container: &Container, status: Option<&ContainerStatus>) {
    let Some(status) = status.filter(|status| status.state.running.is_none()) else {
        counts.pending_init += 1;
        return;
    };
    match exit(status) {
        Some(0) => {}
        Some(code) => counts.failed_init_final += u32::from(is_final(spec, container, status, code)),
        None => counts.pending_init += 1,
    }
}

fn count_sidecar(counts: &mut Counts, status: Option<&ContainerStatus>) {
    let Some(status) = status else {
        counts.unknown += 1;
        return;
    };
    if status.state.running.is_some() {
        counts.running += 1;
        counts.pending_sidecar += u32::from(status.started != Some(true));
    } else if exit(status).is_none() {
        counts.pending_sidecar += 1;
        counts.waiting += 1;
    }
}

fn count_main(counts: &mut Counts, spec: &PodSpec, container: &Container, status: Option<&ContainerStatus>) {
    let Some(status) = status else {
        counts.unknown += 1;
        return;
    };
    if status.state.running.is_some() {
        counts.running += 1;
        return;
    }
    match exit(status) {
        Some(code) => {
            counts.stopped += 1;
            counts.stopped_final += u32::from(is_final(spec, container, status, code));
            let has_ended = status.state.terminated.is_some();
            counts.succeeded += u32::from(has_ended && code == 0);
        }
        None => counts.waiting += 1,
    }
}
