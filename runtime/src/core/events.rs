//! Counting of events as the kubelet's recorder does it: aggregation, counting, spam filter (reference 9.3).
//!
//! ```text
//!  event --> aggregate (10th distinct message) --> count (same row again) --> token bucket --> written
//! ```
//! Messages are remembered by a hash only, so that the record stays small.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::{Event, EventType};
use super::time::{Mono, Now};

const DISTINCT: usize = 10;
const GROUP_LIFE: Duration = Duration::from_secs(600);
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// Rows remembered at most; the kubelet remembers 4096 for all pods of its node.
const ROWS: usize = 512;

/// What is to be told.
#[derive(Debug, Clone)]
pub(super) struct News {
    /// Is it a problem.
    pub(super) kind: EventType,
    /// One word.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
    /// Empty for the pod itself.
    pub(super) field_path: String,
    /// `kubelet` or `default-scheduler`.
    pub(super) source: &'static str,
}

/// The memory of the recorder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counter {
    groups: BTreeMap<String, Group>,
    rows: BTreeMap<u64, Row>,
    buckets: BTreeMap<String, Bucket>,
    newest_name: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    messages: Vec<u64>,
    last: Mono,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    name: i64,
    count: u32,
    first: Timestamp,
    last: Mono,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Bucket {
    tokens: u32,
    since: Mono,
}

impl Counter {
    /// Counts one event of the pod of this name; answers the row to write, if any.
    pub(super) fn count(&mut self, pod: &str, news: News, now: Now) -> Option<Event> {
        let combined = self.aggregate(&news, now.mono);
        let message = match combined {
            true => format!("(combined from similar events): {}", news.message),
            false => news.message.clone(),
        };
        let group = group_key(&news);
        let key = match combined {
            true => hash(&[&group]),
            false => hash(&[&group, &news.field_path, &news.message]),
        };
        let (name, count, first) = self.count_row(key, now);
        self.take_token(&news, now.mono).then(|| Event {
            name: format!("{pod}.{name:x}"),
            kind: news.kind,
            reason: news.reason.to_owned(),
            message,
            field_path: news.field_path,
            source: news.source.to_owned(),
            count,
            first_timestamp: first,
            last_timestamp: whole_seconds(now.wall),
        })
    }

    fn aggregate(&mut self, news: &News, now: Mono) -> bool {
        let group = self.groups.entry(group_key(news)).or_insert(Group { messages: Vec::new(), last: now });
        if now.since(group.last) > GROUP_LIFE {
            group.messages.clear();
        }
        group.last = now;
        let message = hash(&[&news.message]);
        if !group.messages.contains(&message) {
            group.messages.push(message);
        }
        if group.messages.len() < DISTINCT {
            return false;
        }
        group.messages.remove(0);
        true
    }

    fn count_row(&mut self, key: u64, now: Now) -> (i64, u32, Timestamp) {
        if !self.rows.contains_key(&key) && self.rows.len() >= ROWS {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.last).map(|(key, _)| *key);
            oldest.map(|oldest| self.rows.remove(&oldest));
        }
        let newest_name = &mut self.newest_name;
        let row = self.rows.entry(key).or_insert_with(|| {
            let wall = i64::try_from(now.wall.as_nanosecond()).unwrap_or(i64::MAX);
            *newest_name = wall.max(newest_name.saturating_add(1));
            Row { name: *newest_name, count: 0, first: whole_seconds(now.wall), last: now.mono }
        });
        row.count = row.count.saturating_add(1);
        row.last = now.mono;
        (row.name, row.count, row.first)
    }

    fn take_token(&mut self, news: &News, now: Mono) -> bool {
        let bucket = self
            .buckets
            .entry(format!("{} {:?}", news.source, news.kind))
            .or_insert(Bucket { tokens: BURST, since: now });
        let refills = now.since(bucket.since).as_secs() / REFILL.as_secs();
        bucket.tokens = bucket.tokens.saturating_add(u32::try_from(refills).unwrap_or(BURST)).min(BURST);
        bucket.since = match bucket.tokens {
            BURST => now,
            _ => bucket.since + Duration::from_secs(refills * REFILL.as_secs()),
        };
        let granted = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        granted
    }
}

/// Timestamps that people see have whole seconds.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn group_key(news: &News) -> String {
    format!("{} {:?} {}", news.source, news.kind, news.reason)
}

/// FNV-1a over the parts, with a separator between them.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        let wall = Timestamp::from_second(1_700_000_000 + i64::try_from(seconds).expect("small"));
        Now { mono: Mono(Duration::from_secs(seconds)), wall: wall.expect("in range") }
    }

    fn news(message: &str) -> News {
        News {
            kind: EventType::Warning,
            reason: "Unhealthy",
            message: message.to_owned(),
            field_path: "spec.containers{app}".to_owned(),
            source: "kubelet",
        }
    }

    #[test]
    fn a_repeated_event_counts_up_in_the_same_row() {
        let mut counter = Counter::default();
        let first = counter.count("web", news("x"), at(0)).expect("written");
        let second = counter.count("web", news("x"), at(7)).expect("written");
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(first.name, second.name);
        assert_eq!(second.first_timestamp, first.first_timestamp);
        assert_eq!(second.last_timestamp, at(7).wall);
    }

    #[test]
    fn the_tenth_distinct_message_is_combined() {
        let mut counter = Counter::default();
        let rows: Vec<Event> =
            (0..15).filter_map(|n| counter.count("web", news(&n.to_string()), at(n))).collect();
        assert_eq!(rows[8].message, "8");
        assert_eq!(rows[9].message, "(combined from similar events): 9");
        assert_eq!(rows[14].message, "(combined from similar events): 14");
        assert_eq!((rows[14].count, &rows[14].name), (6, &rows[9].name));
    }

    #[test]
    fn old_messages_do_not_count_as_similar() {
        let mut counter = Counter::default();
        for n in 0..9 {
            counter.count("web", news(&n.to_string()), at(n));
        }
        let row = counter.count("web", news("late"), at(700)).expect("written");
        assert_eq!(row.message, "late");
    }

    #[test]
    fn a_storm_is_counted_but_not_written() {
        let mut counter = Counter::default();
        let written = (0..100).filter_map(|_| counter.count("web", news("x"), at(0))).count();
        assert_eq!(written, 25);
        let later = counter.count("web", news("x"), at(300)).expect("one token came back");
        assert_eq!(later.count, 101);
        assert!(counter.count("web", news("x"), at(301)).is_none());
    }
}
