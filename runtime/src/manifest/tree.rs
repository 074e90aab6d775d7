//! YAML or JSON text as a tree that knows the line of every value.
//!
//! The tree stands between the text and the typed objects, so that an unknown field or a wrong type
//! can be reported with its full path and its line, all of them at once. Limits keep a small text from
//! growing into a large tree: nesting, aliases and their expansion are all bounded.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
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
    /// A mapping, in order; a key may be there twice.
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
    /// The line, if it is known.
    pub(super) fn line(&self) -> Option<u64> {
        Some(self.line).filter(|line| *line > 0)
    }

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

/// Reads the documents of `text`, and says what is wrong with the first that is malformed: nothing behind it is read.
pub(super) fn parse(text: &str) -> (Vec<Node>, Option<Malformed>) {
    if text.len() > MAX_TEXT {
        let text = format!("is {} bytes long, at most {MAX_TEXT} are read", text.len());
        return (Vec::new(), Some(Malformed { line: None, text }));
    }
    if text.trim_start().starts_with('{') {
        // JSON's escapes are not all YAML's; whatever is not JSON may still be a YAML flow mapping.
        if let Ok(nodes) = parse_json(text) {
            return (nodes, None);
        }
    }
    match parse_yaml(text) {
        Ok(nodes) => (nodes, None),
        Err(malformed) => (parse_yaml(before(text, malformed.line)).unwrap_or_default(), Some(malformed)),
    }
}

/// The documents before the one with this line. Three dashes at the start of a line begin a document, wherever they stand.
fn before(text: &str, line: Option<u64>) -> &str {
    let mut end = 0;
    let mut at = 0;
    let lines = line.and_then(|line| usize::try_from(line).ok()).unwrap_or_default();
    for line in text.split_inclusive('\n').take(lines) {
        if line.starts_with("---") {
            end = at;
        }
        at += line.len();
    }
    &text[..end]
}

/// Reads the one value that a JSON text is.
pub(super) fn json(text: &[u8]) -> Result<Node, serde_json::Error> {
    serde_json::from_slice(text).map(Placed::<NoLines>::node)
}

fn parse_json(text: &str) -> Result<Vec<Node>, serde_json::Error> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Placed<NoLines>>();
    documents.map(|document| document.map(Placed::<NoLines>::node)).collect()
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
        // Both are told with their field's path, by `decode::faults`.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let documents = serde_saphyr::from_multiple_with_options::<Spanned<Placed<Lines>>>(text, options);
    let documents = documents.map(|documents| documents.into_iter().map(Placed::<Lines>::node).collect());
    documents.map_err(|error| {
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        Malformed { line, text: text_of(error.without_snippet()) }
    })
}

/// What the reader's texts say to programmers is said to people here.
fn text_of(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::NullIntoString { .. } => "a key is missing before the colon".to_owned(),
        serde_saphyr::Error::BinaryNotUtf8 { .. } => {
            "what !!binary stands for is no text in UTF-8".to_owned()
        }
        other => first_line(&other.to_string()),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// How a format tells where a value stands.
trait Place {
    /// A value together with its place.
    type With<T: DeserializeOwned>: DeserializeOwned;

    /// The line and the value.
    fn split<T: DeserializeOwned>(with: Self::With<T>) -> (u64, T);
}

/// YAML: the parser knows the line.
struct Lines;

impl Place for Lines {
    type With<T: DeserializeOwned> = Spanned<T>;

    fn split<T: DeserializeOwned>(with: Spanned<T>) -> (u64, T) {
        (with.referenced.line(), with.value)
    }
}

/// JSON: nobody knows the line.
struct NoLines;

impl Place for NoLines {
    type With<T: DeserializeOwned> = T;

    fn split<T: DeserializeOwned>(with: T) -> (u64, T) {
        (0, with)
    }
}

/// A value on its way from a format with places of kind `P`.
struct Placed<P>(Value, PhantomData<P>);

impl<P: Place> Placed<P> {
    fn node(with: P::With<Self>) -> Node {
        let (line, value) = P::split(with);
        Node { line, value: value.0 }
    }
}

impl<'de, P: Place> Deserialize<'de> for Placed<P> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = from.deserialize_any(ValueVisitor::<P>(PhantomData))?;
        Ok(Self(value, PhantomData))
    }
}

struct ValueVisitor<P>(PhantomData<P>);

impl<'de, P: Place> Visitor<'de> for ValueVisitor<P> {
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
        while let Some(item) = items.next_element()? {
            list.push(Placed::<P>::node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(key) = entries.next_key()? {
            let (line, key) = P::split::<String>(key);
            list.push(Entry { line, key, node: Placed::<P>::node(entries.next_value()?) });
        }
        Ok(Value::Map(list))
    }
}
