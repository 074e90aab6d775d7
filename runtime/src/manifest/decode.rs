//! A tree as typed objects; what does not fit is reported with its full path and line.
//!
//! This is a serde data format. A field that no struct asks for reaches `Decoder::deserialize_ignored_any`,
//! which notes it and goes on, so one pass finds all unknown fields. A wrong type ends the pass. A field
//! that is `null` counts as absent, as it does for the Kubernetes API.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::tree::{Entry, Node, Value};

/// One thing that is wrong with an object's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the text, from 1, if known.
    pub line: Option<u64>,
    /// What is wrong, with the path of the field.
    pub text: String,
}

/// Reads `node` as a `T`, or says everything that is wrong with it.
pub(super) fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, Vec<Problem>> {
    let unknown = RefCell::new(Vec::new());
    let result = T::deserialize(Decoder { node, path: Path::Root, known: &[], unknown: &unknown });
    let mut problems = unknown.into_inner();
    match result {
        Ok(value) if problems.is_empty() => Ok(value),
        Ok(_) => Err(problems),
        Err(Mismatch(problem)) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

/// What no object can hold, whatever its kind is: a field that is set twice, a number that is none.
pub(super) fn faults(node: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    note_faults(node, Path::Root, &mut problems);
    problems
}

fn note_faults(node: &Node, path: Path<'_>, problems: &mut Vec<Problem>) {
    match &node.value {
        Value::Float(number) if !number.is_finite() => {
            let text = format!("{path}: is no number that can be used; write it in quotes if it is text");
            problems.push(Problem { line: Some(node.line), text });
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                note_faults(item, Path::Item { parent: &path, index }, problems);
            }
        }
        Value::Map(entries) => {
            let mut first = BTreeMap::new();
            for entry in entries {
                let path = Path::Field { parent: &path, name: &entry.key };
                match first.insert(&entry.key, entry.line) {
                    Some(0) => problems.push(Problem { line: None, text: format!("{path}: is set twice") }),
                    Some(line) => problems.push(Problem {
                        line: Some(entry.line),
                        text: format!("{path}: is set twice, before in line {line}"),
                    }),
                    None => {}
                }
                note_faults(&entry.node, path, problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// Where a value stands in its object.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field { parent: &'a Path<'a>, name: &'a str },
    Item { parent: &'a Path<'a>, index: usize },
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field { parent: Path::Root, name } => out.write_str(name),
            Self::Field { parent, name } => write!(out, "{parent}.{name}"),
            Self::Item { parent, index } => write!(out, "{parent}[{index}]"),
        }
    }
}

/// The error of this data format: the first wrong type.
#[derive(Debug)]
struct Mismatch(Problem);

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.text)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(Problem { line: None, text: text.to_string() })
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected_text(&expected.to_string());
        Self::custom(format_args!("{} does not fit into {expected}", found_text(found)))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected_text(&expected.to_string());
        Self::custom(format_args!(
            "expected {expected}, found {}{}",
            found_text(found),
            remedy(found, &expected)
        ))
    }
}

fn found_text(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => format!("the text {text:?}"),
        de::Unexpected::Bool(value) => value.to_string(),
        de::Unexpected::Signed(value) => format!("the number {value}"),
        de::Unexpected::Unsigned(value) => format!("the number {value}"),
        de::Unexpected::Float(value) => format!("the number {value}"),
        de::Unexpected::Seq => "a list".into(),
        de::Unexpected::Map => "a mapping".into(),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".into(),
        other => other.to_string(),
    }
}

/// Rust's names of types as people say them.
fn expected_text(expected: &str) -> String {
    match expected {
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        "i32" | "i64" | "u32" | "u64" => "a whole number".into(),
        other if other.starts_with("struct ") => "a mapping".into(),
        other => other.into(),
    }
}

/// What would have worked, where it is plain.
fn remedy(found: de::Unexpected<'_>, expected: &str) -> String {
    match found {
        de::Unexpected::Str("yes" | "on" | "y" | "Yes" | "On") if expected.contains("bool") => {
            "; write true".into()
        }
        de::Unexpected::Str("no" | "off" | "n" | "No" | "Off") if expected.contains("bool") => {
            "; write false".into()
        }
        de::Unexpected::Bool(value) if expected.contains("string") => format!("; write \"{value}\""),
        de::Unexpected::Signed(value) if expected.contains("string") => format!("; write \"{value}\""),
        de::Unexpected::Unsigned(value) if expected.contains("string") => format!("; write \"{value}\""),
        de::Unexpected::Float(value) if expected.contains("string") => format!("; write \"{value}\""),
        _ => String::new(),
    }
}

/// One value on its way into a type.
#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    path: Path<'a>,
    /// Names of the fields of the struct that holds this value.
    known: &'static [&'static str],
    unknown: &'a RefCell<Vec<Problem>>,
}

impl Decoder<'_> {
    /// Puts the place before an error that comes from below and has none yet.
    fn place(&self, error: Mismatch) -> Mismatch {
        let Mismatch(problem) = error;
        if problem.line.is_some() {
            return Mismatch(problem);
        }
        let text = match self.path {
            Path::Root => problem.text,
            path => format!("{path}: {}", problem.text),
        };
        Mismatch(Problem { line: Some(self.node.line), text })
    }

    fn note_unknown(&self) {
        let mut text = format!("unknown field \"{}\"", self.path);
        if let Path::Field { name, .. } = self.path
            && let Some(known) = nearest(name, self.known)
        {
            text.push_str(&format!(", did you mean \"{known}\"?"));
        }
        self.unknown.borrow_mut().push(Problem { line: Some(self.node.line), text });
    }
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let result = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => Err(de::Error::custom(format_args!("the number {value} is too large"))),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(list) => visitor.visit_seq(Items { decoder: self, list, index: 0 }),
            Value::Map(entries) => {
                visitor.visit_map(Fields { decoder: self, entries, index: 0, known: None })
            }
        };
        result.map_err(|error| self.place(error))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let Value::Map(entries) = &self.node.value else {
            let found = match &self.node.value {
                // serde would take the items of a list for the fields of the struct.
                Value::List(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
                _ => self.deserialize_any(visitor),
            };
            return found.map_err(|error| self.place(error));
        };
        let fields = Fields { decoder: self, entries, index: 0, known: Some(known) };
        visitor.visit_map(fields).map_err(|error| self.place(error))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.note_unknown();
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map enum identifier
    }
}

struct Items<'a> {
    decoder: Decoder<'a>,
    list: &'a [Node],
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some(node) = self.list.get(self.index) else {
            return Ok(None);
        };
        let path = Path::Item { parent: &self.decoder.path, index: self.index };
        self.index += 1;
        seed.deserialize(Decoder { node, path, ..self.decoder }).map(Some)
    }
}

struct Fields<'a> {
    decoder: Decoder<'a>,
    entries: &'a [Entry],
    index: usize,
    /// The fields of a struct; none for a plain mapping.
    known: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        // Null is absence for a known field; an unknown one is still reported.
        while let (Some(known), Some(entry)) = (self.known, self.entries.get(self.index))
            && entry.node.value == Value::Null
            && known.contains(&entry.key.as_str())
        {
            self.index += 1;
        }
        let Some(entry) = self.entries.get(self.index) else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Mismatch> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let entry = &self.entries[self.index];
        self.index += 1;
        let path = Path::Field { parent: &self.decoder.path, name: &entry.key };
        let known = self.known.unwrap_or_default();
        let mut node = std::borrow::Cow::Borrowed(&entry.node);
        if self.known.is_some() && node.line != entry.line && entry.line > 0 {
            // An unknown field is reported at its key, not at the first line of its value.
            if !known.contains(&entry.key.as_str()) {
                node = std::borrow::Cow::Owned(Node { line: entry.line, value: Value::Null });
            }
        }
        seed.deserialize(Decoder { node: &node, path, known, ..self.decoder })
    }
}

/// The known name that `name` most likely stands for.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let best = known.iter().map(|known| (distance(&lower, &known.to_ascii_lowercase()), *known)).min()?;
    let allowed = if name.len() < 5 { 1 } else { 2 };
    (best.0 <= allowed).then_some(best.1)
}

/// Levenshtein distance; long names are not compared.
fn distance(one: &str, other: &str) -> usize {
    if one.len() > 64 || other.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
