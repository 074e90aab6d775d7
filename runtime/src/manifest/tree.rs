//! YAML or JSON text as a tree that knows the line of every value.
//!
//! The tree stands between the text and the typed objects, so that an unknown field or a wrong type
//! can be reported with its full path and its line, all of them at once. Limits keep a small text from
//! growing into a large tree: nesting, aliases and their expansion are all bounded.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Longest manifest that is read, in bytes; a Kubernetes object is at most 1.5 MiB.
pub(super) const MAX_TEXT: usize = 4 << 20;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Line, from 1; 0 when unknown.
    pub(super) line: u64,
    /// The value.
    pub(super) value: Value,
}

/// A value of YAML's JSON-like schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, `null`, `~`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a point or an exponent.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Line of the key, from 1; 0 when unknown.
    pub(super) line: u64,
    /// The key.
    pub(super) key: String,
    /// What it maps to.
    pub(super) node: Node,
}

/// Text that is neither YAML nor JSON, or too large.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Malformed {
    /// Line, if known.
    pub(super) line: Option<u64>,
    /// What is wrong, in one line.
    pub(super) text: String,
}

impl Node {
    /// The entry of a mapping.
    pub(super) fn entry(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// The text of a mapping's entry.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads all documents of `text`; empty ones are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Malformed> {
    if text.len() > MAX_TEXT {
        let text = format!("is {} bytes long, at most {MAX_TEXT} are read", text.len());
        return Err(Malformed { line: None, text });
    }
    if text.trim_start().starts_with('{') {
        // JSON's escapes are not all YAML's; whatever is not JSON may still be a YAML flow mapping.
        if let Ok(nodes) = parse_json(text) {
            return Ok(nodes);
        }
    }
    parse_yaml(text)
}

fn parse_json(text: &str) -> Result<Vec<Node>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

fn parse_yaml(text: &str) -> Result<Vec<Node>, Malformed> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 48,
            flow_nesting_limit: 48,
            max_events: 400_000,
            max_nodes: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_documents: 1_024,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        legacy_octal_numbers: true,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        let rendered = error.without_snippet().to_string();
        Malformed { line, text: first_line(&rendered) }
    })
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(from)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut seen = std::collections::BTreeSet::new();
        let mut list = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            if !seen.insert(key.value.clone()) {
                return Err(de::Error::custom(format!("key {:?} is set twice", key.value)));
            }
            let (line, key) = (key.referenced.line(), key.value);
            list.push(Entry { line, key, node: entries.next_value()? });
        }
        Ok(Value::Map(list))
    }
}
