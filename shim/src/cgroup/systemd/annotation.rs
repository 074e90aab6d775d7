//! Annotations `org.systemd.property.NAME`, which set properties of a container's unit: values in GVariant's text
//! format, of which this reads what properties are made of: numbers with or without a type, booleans, strings, arrays
//! and tuples.
//!
//! A name that ends in `Sec` is a time in seconds for people and in microseconds for D-Bus, where it ends in `USec`.

use std::collections::HashMap;

use super::message::Value;
use super::properties::Property;
use crate::cgroup::resources::Invalid;

const PREFIX: &str = "org.systemd.property.";

/// The properties that annotations ask for, by name.
///
/// # Errors
/// One has no proper name or value.
pub fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Invalid> {
    let mut all: Vec<_> = annotations.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    all.sort();
    all.into_iter().map(|(name, value)| property(name, value)).collect()
}

fn property(annotation: &str, text: &str) -> Result<Property, Invalid> {
    let fail = |problem| Invalid::Annotation { name: annotation.to_owned(), value: text.to_owned(), problem };
    let name = annotation.strip_prefix(PREFIX).unwrap_or_default();
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(fail("a property's name has at least three letters and nothing else"));
    }
    let value = parse(text).map_err(fail)?;
    match name.strip_suffix("Sec").filter(|short| !short.ends_with('U')) {
        None => Ok(Property { name: name.to_owned(), value }),
        Some(short) => {
            let value = microseconds(&value).ok_or_else(|| fail("it is not a number of seconds"))?;
            Ok(Property { name: format!("{short}USec"), value })
        }
    }
}

fn microseconds(seconds: &Value) -> Option<Value> {
    let whole = match *seconds {
        Value::I16(seconds) => u64::try_from(seconds).ok()?,
        Value::U16(seconds) => seconds.into(),
        Value::I32(seconds) => u64::try_from(seconds).ok()?,
        Value::U32(seconds) => seconds.into(),
        Value::I64(seconds) => u64::try_from(seconds).ok()?,
        Value::U64(seconds) => seconds,
        Value::F64(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            return Some(Value::U64((seconds * 1e6) as u64));
        }
        _ => return None,
    };
    whole.checked_mul(1_000_000).map(Value::U64)
}

/// A value, and nothing behind it.
fn parse(text: &str) -> Result<Value, &'static str> {
    const DEPTH: u8 = 16;
    let mut rest = text.trim();
    let value = read(&mut rest, None, DEPTH)?;
    if rest.trim().is_empty() { Ok(value) } else { Err("something follows the value") }
}

/// The types of which `keyword value` is a value.
const KEYWORDS: [(&str, &str); 10] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
];

/// Reads one value from the front; of the type that is wanted, where one is.
fn read(rest: &mut &str, wanted: Option<&str>, depth: u8) -> Result<Value, &'static str> {
    let depth = depth.checked_sub(1).ok_or("it is nested too deep")?;
    *rest = rest.trim_start();
    match rest.chars().next().ok_or("it ends early")? {
        '@' => {
            let (signature, behind) = rest[1..].split_once(' ').ok_or("a type has no value")?;
            *rest = behind;
            read(rest, Some(signature), depth)
        }
        '[' => {
            let values = sequence(rest, ']', wanted.and_then(|wanted| wanted.strip_prefix('a')), depth)?;
            let first = values.first().map(Value::signature);
            let element = wanted.and_then(|wanted| wanted.strip_prefix('a')).map(str::to_owned).or(first);
            let element = element.ok_or("an empty array needs a type, as in @as []")?;
            if values.iter().any(|value| value.signature() != element) {
                return Err("the elements of an array differ in type");
            }
            Ok(Value::Array(element, values))
        }
        '(' => sequence(rest, ')', None, depth).map(Value::Tuple),
        quote @ ('\'' | '"') => string(rest, quote).map(Value::Text),
        _ => word(rest, wanted, depth),
    }
}

fn sequence(rest: &mut &str, end: char, wanted: Option<&str>, depth: u8) -> Result<Vec<Value>, &'static str> {
    *rest = &rest[1..];
    let mut values = Vec::new();
    loop {
        *rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(end) {
            *rest = behind;
            return Ok(values);
        }
        values.push(read(rest, wanted, depth)?);
        *rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(behind) => *rest = behind,
            None if rest.starts_with(end) => {}
            None => return Err("elements are separated by commas"),
        }
    }
}

fn string(rest: &mut &str, quote: char) -> Result<String, &'static str> {
    let mut text = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            *rest = rest.get(at + 1..).unwrap_or_default();
            return Ok(text);
        }
        let letter =
            if letter == '\\' { letters.next().map(|(_, escaped)| unescape(escaped)) } else { Some(letter) };
        text.push(letter.ok_or("a string does not end")?);
    }
    Err("a string does not end")
}

fn unescape(letter: char) -> char {
    match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

fn word(rest: &mut &str, wanted: Option<&str>, depth: u8) -> Result<Value, &'static str> {
    let end =
        rest.find(|letter: char| letter.is_whitespace() || ",])".contains(letter)).unwrap_or(rest.len());
    let (word, behind) = rest.split_at_checked(end).ok_or("it ends early")?;
    *rest = behind;
    if let Some((_, signature)) = KEYWORDS.iter().find(|(keyword, _)| *keyword == word) {
        return read(rest, Some(signature), depth);
    }
    match (word, wanted) {
        ("true", None | Some("b")) => return Ok(Value::Bool(true)),
        ("false", None | Some("b")) => return Ok(Value::Bool(false)),
        _ => {}
    }
    let is_float = !word.starts_with("0x") && word.contains(['.', 'e']);
    let wanted = wanted.unwrap_or(if is_float { "d" } else { "i" });
    if wanted == "d" {
        return word.parse().map(Value::F64).map_err(|_| "it is not a value");
    }
    let number = integer(word).ok_or("it is not a value")?;
    let converted = match wanted {
        "y" => number.try_into().ok().map(Value::Byte),
        "n" => number.try_into().ok().map(Value::I16),
        "q" => number.try_into().ok().map(Value::U16),
        "i" => number.try_into().ok().map(Value::I32),
        "u" => number.try_into().ok().map(Value::U32),
        "x" => number.try_into().ok().map(Value::I64),
        "t" => number.try_into().ok().map(Value::U64),
        _ => return Err("it is not of its type"),
    };
    converted.ok_or("the number does not fit its type")
}

fn integer(word: &str) -> Option<i128> {
    match word.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}
