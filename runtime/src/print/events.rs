//! Tables of events (reference 9.4).

use jiff::Timestamp;
use serde_json::Value;

use super::table::Row;
use super::{age, field};

/// Oldest first, by when they last happened.
pub fn sort(events: &mut [Value]) {
    events.sort_by_key(|event| field::time(event, "/lastTimestamp"));
}

/// The columns of `get events`.
#[must_use]
pub fn get_header(wide: bool) -> Vec<&'static str> {
    if wide {
        vec![
            "LAST SEEN",
            "TYPE",
            "REASON",
            "OBJECT",
            "SUBOBJECT",
            "SOURCE",
            "MESSAGE",
            "FIRST SEEN",
            "COUNT",
            "NAME",
        ]
    } else {
        vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    }
}

/// A row of `get events`.
#[must_use]
pub fn get_row(event: &Value, wide: bool, now: Timestamp) -> Row {
    let text = |pointer| field::text(event, pointer).to_owned();
    let kind = field::text(event, "/involvedObject/kind").to_lowercase();
    let object = format!("{kind}/{}", field::text(event, "/involvedObject/name"));
    let message = text("/message").trim().to_owned();
    let last = age::since(field::time(event, "/lastTimestamp"), now);
    let mut row = vec![last, text("/type"), text("/reason"), object];
    if wide {
        let source = match (field::text(event, "/source/component"), field::text(event, "/source/host")) {
            (component, "") => component.to_owned(),
            (component, host) => format!("{component}, {host}"),
        };
        let first = age::since(field::time(event, "/firstTimestamp"), now);
        let count = field::number(event, "/count").to_string();
        row.extend([
            text("/involvedObject/fieldPath"),
            source,
            message,
            first,
            count,
            text("/metadata/name"),
        ]);
    } else {
        row.push(message);
    }
    row
}

/// The columns of `events`.
#[must_use]
pub fn header() -> Vec<&'static str> {
    vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
}

/// A row of `events`.
#[must_use]
pub fn row(event: &Value, now: Timestamp) -> Row {
    let text = |pointer| field::text(event, pointer).to_owned();
    let object = format!("{}/{}", text("/involvedObject/kind"), text("/involvedObject/name"));
    vec![seen(event, now), text("/type"), text("/reason"), object, text("/message").trim().to_owned()]
}

/// How old an event is, with its count.
#[must_use]
pub fn seen(event: &Value, now: Timestamp) -> String {
    age::counted(
        field::time(event, "/firstTimestamp"),
        field::time(event, "/lastTimestamp"),
        field::number(event, "/count"),
        now,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Value {
        json!({
            "metadata": {"name": "web.17"},
            "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{app}"},
            "type": "Warning", "reason": "BackOff", "message": "Back-off restarting\n", "count": 6,
            "source": {"component": "kubelet", "host": "node1"},
            "firstTimestamp": "2024-01-02T03:04:00Z", "lastTimestamp": "2024-01-02T03:05:25Z",
        })
    }

    #[test]
    fn each_command_has_its_own_columns() {
        let now = "2024-01-02T03:05:30Z".parse().unwrap();
        assert_eq!(
            row(&event(), now),
            ["5s (x6 over 90s)", "Warning", "BackOff", "Pod/web", "Back-off restarting"]
        );
        assert_eq!(
            get_row(&event(), false, now),
            ["5s", "Warning", "BackOff", "pod/web", "Back-off restarting"]
        );
        let wide = get_row(&event(), true, now);
        assert_eq!(wide.len(), get_header(true).len());
        assert_eq!(
            wide[4..],
            ["spec.containers{app}", "kubelet, node1", "Back-off restarting", "90s", "6", "web.17"]
        );
    }
}
