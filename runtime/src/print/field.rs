//! Reading fields of API objects by JSON pointer, with the empty value where there is none.

use jiff::Timestamp;
use serde_json::Value;

/// The text at `pointer`; empty when there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The text at `pointer`, or `<none>` when there is none or it is empty.
#[must_use]
pub fn text_or_none<'a>(object: &'a Value, pointer: &str) -> &'a str {
    match text(object, pointer) {
        "" => "<none>",
        found => found,
    }
}

/// The list at `pointer`; empty when there is none.
#[must_use]
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The entries of the map of strings at `pointer`, sorted by key.
#[must_use]
pub fn pairs<'a>(object: &'a Value, pointer: &str) -> Vec<(&'a str, &'a str)> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let mut pairs: Vec<_> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// The number at `pointer`; 0 when there is none.
#[must_use]
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether the field at `pointer` is true.
#[must_use]
pub fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The field at `pointer`, unless it is missing or null.
#[must_use]
pub fn some<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

/// The time at `pointer`.
#[must_use]
pub fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// A scalar as Go's `%v` prints it: texts bare, the rest as JSON, nothing for null.
#[must_use]
pub fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_field_is_empty() {
        let object = json!({"a": {"b": "c", "n": null}});
        assert_eq!(text(&object, "/a/b"), "c");
        assert_eq!(text(&object, "/a/x"), "");
        assert_eq!(text_or_none(&object, "/a/n"), "<none>");
        assert!(some(&object, "/a/n").is_none());
        assert!(list(&object, "/a/b").is_empty());
        assert_eq!(number(&object, "/q"), 0);
    }
}
