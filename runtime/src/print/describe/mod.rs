//! `describe pod` (reference 10.3): blocks of `key:<tab>value` lines, two blanks of indentation per level.
//!
//! Each line is written with its tabs; they are aligned block by block at the end.

mod container;
mod environment;
mod volume;

use jiff::Timestamp;
use serde_json::Value;

use super::{age, columns, events, field, table};

/// Longest annotation on one line.
const ANNOTATION: usize = 140;

/// Lines being written.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// One line at an indentation level.
    fn line(&mut self, level: usize, text: &str) {
        self.0.extend(std::iter::repeat_n("  ", level));
        self.0.push_str(&table::escape(text));
        self.0.push('\n');
    }

    /// `key:<tab>value`.
    fn entry(&mut self, level: usize, key: &str, value: &str) {
        self.line(level, &format!("{key}:\t{value}"));
    }

    /// `key:<tab>value` unless the value is empty.
    fn entry_if(&mut self, level: usize, key: &str, value: &str) {
        if !value.is_empty() {
            self.entry(level, key, value);
        }
    }
}

/// Describes a pod, with its events unless they were not asked for.
#[must_use]
pub fn pod(pod: &Value, recorded: Option<&[Value]>, now: Timestamp) -> String {
    let mut page = Page::default();
    head(&mut page, pod);
    labels(&mut page, "Labels", &field::pairs(pod, "/metadata/labels"));
    annotations(&mut page, pod);
    status(&mut page, pod, now);
    if let Some(resources) = field::some(pod, "/spec/resources") {
        page.line(0, "Resources:");
        container::resources(&mut page, 1, resources);
    }
    if !field::list(pod, "/spec/initContainers").is_empty() {
        container::all(&mut page, pod, "Init Containers", "initContainers", "initContainerStatuses");
    }
    container::all(&mut page, pod, "Containers", "containers", "containerStatuses");
    conditions(&mut page, pod);
    volume::all(&mut page, pod);
    page.entry(0, "QoS Class", field::text(pod, "/status/qosClass"));
    labels(&mut page, "Node-Selectors", &field::pairs(pod, "/spec/nodeSelector"));
    tolerations(&mut page, pod);
    let Some(recorded) = recorded else {
        return columns::align(&page.0, columns::DESCRIBE, None);
    };
    if recorded.is_empty() {
        page.entry(0, "Events", "<none>");
    }
    let mut text = columns::align(&page.0, columns::DESCRIBE, None);
    if !recorded.is_empty() {
        text.push_str(&columns::align(&event_table(recorded, now), columns::DESCRIBE, None));
    }
    text
}

fn head(page: &mut Page, pod: &Value) {
    page.entry(0, "Name", field::text(pod, "/metadata/name"));
    page.entry(0, "Namespace", field::text(pod, "/metadata/namespace"));
    if let Some(priority) = field::some(pod, "/spec/priority") {
        page.entry(0, "Priority", &field::scalar(priority));
    }
    page.entry_if(0, "Priority Class Name", field::text(pod, "/spec/priorityClassName"));
    page.entry_if(0, "Runtime Class Name", field::text(pod, "/spec/runtimeClassName"));
    page.entry_if(0, "Service Account", field::text(pod, "/spec/serviceAccountName"));
    match field::text(pod, "/spec/nodeName") {
        "" => page.entry(0, "Node", "<none>"),
        node => page.entry(0, "Node", &format!("{node}/{}", field::text(pod, "/status/hostIP"))),
    }
    if let Some(start) = field::time(pod, "/status/startTime") {
        page.entry(0, "Start Time", &age::rfc1123(Some(start)));
    }
}

fn labels(page: &mut Page, title: &str, labels: &[(&str, &str)]) {
    if labels.is_empty() {
        page.entry(0, title, "<none>");
    }
    for (index, (key, value)) in labels.iter().enumerate() {
        match index {
            0 => page.entry(0, title, &format!("{key}={value}")),
            _ => page.line(0, &format!("\t{key}={value}")),
        }
    }
}

fn annotations(page: &mut Page, pod: &Value) {
    let mut annotations = field::pairs(pod, "/metadata/annotations");
    annotations.retain(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration");
    if annotations.is_empty() {
        page.entry(0, "Annotations", "<none>");
    }
    for (index, (key, value)) in annotations.iter().enumerate() {
        let title = if index == 0 { "Annotations:" } else { "" };
        let value = value.strip_suffix('\n').unwrap_or(value);
        if value.len() + key.len() + 2 <= ANNOTATION && !value.contains('\n') {
            page.line(0, &format!("{title}\t{key}: {value}"));
            continue;
        }
        page.line(0, &format!("{title}\t{key}:"));
        for line in value.split('\n') {
            page.line(0, &format!("\t  {}", cut(line, ANNOTATION - 2)));
        }
    }
}

/// At most the first `bytes` bytes of a text, a little less where a character would be split.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &text[..end])
}

fn status(page: &mut Page, pod: &Value, now: Timestamp) {
    let phase = field::text(pod, "/status/phase");
    match field::time(pod, "/metadata/deletionTimestamp") {
        Some(deletion) if !matches!(phase, "Succeeded" | "Failed") => {
            page.entry(0, "Status", &format!("Terminating (lasts {})", age::since(Some(deletion), now)));
            let grace = field::number(pod, "/metadata/deletionGracePeriodSeconds");
            page.entry(0, "Termination Grace Period", &format!("{grace}s"));
        }
        _ => page.entry(0, "Status", phase),
    }
    page.entry_if(0, "Reason", field::text(pod, "/status/reason"));
    page.entry_if(0, "Message", field::text(pod, "/status/message"));
    container::seccomp(page, 0, pod.pointer("/spec/securityContext"));
    page.entry(0, "IP", field::text(pod, "/status/podIP"));
    let addresses = field::list(pod, "/status/podIPs");
    if addresses.is_empty() {
        page.entry(0, "IPs", "<none>");
    } else {
        page.line(0, "IPs:");
    }
    for address in addresses {
        page.entry(1, "IP", field::text(address, "/ip"));
    }
    page.entry_if(0, "NominatedNodeName", field::text(pod, "/status/nominatedNodeName"));
}

fn conditions(page: &mut Page, pod: &Value) {
    let conditions = field::list(pod, "/status/conditions");
    let status = |kind: &str| {
        let found = conditions.iter().find(|condition| field::text(condition, "/type") == kind);
        found.map_or("<none>", |condition| field::text(condition, "/status"))
    };
    let gates = field::list(pod, "/spec/readinessGates");
    if !gates.is_empty() {
        page.line(0, "Readiness Gates:");
        page.line(1, "Type\tStatus");
    }
    for gate in gates {
        let kind = field::text(gate, "/conditionType");
        page.line(1, &format!("{kind} \t{} ", status(kind)));
    }
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus");
    }
    for condition in conditions {
        let text = |pointer| field::text(condition, pointer);
        page.line(1, &format!("{} \t{} ", text("/type"), text("/status")));
    }
}

fn tolerations(page: &mut Page, pod: &Value) {
    let mut tolerations: Vec<&Value> = field::list(pod, "/spec/tolerations").iter().collect();
    tolerations.sort_by_key(|toleration| field::text(toleration, "/key"));
    if tolerations.is_empty() {
        page.entry(0, "Tolerations", "<none>");
    }
    for (index, each) in tolerations.iter().enumerate() {
        let title = if index == 0 { "Tolerations:" } else { "" };
        page.line(0, &format!("{title}\t{}", toleration(each)));
    }
}

fn toleration(toleration: &Value) -> String {
    let part = |pointer| field::text(toleration, pointer);
    let (key, value, effect) = (part("/key"), part("/value"), part("/effect"));
    let mut text = key.to_owned();
    if !value.is_empty() {
        text.push_str(&format!("={value}"));
    }
    if !effect.is_empty() {
        text.push_str(&format!(":{effect}"));
    }
    if part("/operator") == "Exists" && value.is_empty() {
        text.push_str(if text.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = field::some(toleration, "/tolerationSeconds") {
        text.push_str(&format!(" for {seconds}s"));
    }
    text
}

fn event_table(recorded: &[Value], now: Timestamp) -> String {
    let mut recorded = recorded.to_vec();
    events::sort(&mut recorded);
    let mut page = Page::default();
    page.line(0, "Events:");
    page.line(1, "Type\tReason\tAge\tFrom\tMessage");
    page.line(1, "----\t------\t----\t----\t-------");
    for event in &recorded {
        let text = |pointer| field::text(event, pointer);
        let from = match text("/source/component") {
            "" => text("/reportingComponent"),
            component => component,
        };
        let message = match (text("/involvedObject/fieldPath"), text("/message").trim()) {
            ("", message) => message.to_owned(),
            (path, message) => format!("{path}: {message}"),
        };
        let age = events::seen(event, now);
        page.line(1, &format!("{}\t{}\t{age}\t{from}\t{message}", text("/type"), text("/reason")));
    }
    page.0
}

#[cfg(test)]
mod tests;
