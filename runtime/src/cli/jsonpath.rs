//! Templates of kubectl's JSONPath: text, and expressions in braces.
//!
//! `{.a.b}`, `{['a']}`, `{[0]}`, `{[-1]}`, `{[1:3]}`, `{[*]}`, `{.*}`, `{..a}`, `{[?(@.type=="Ready")]}`, `{"text"}`,
//! `{range .items[*]}…{end}`. Several results are joined by a blank. A field that is missing prints nothing.

mod parse;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Part>);

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing jsonpath {template}, {problem}")]
pub struct Error {
    template: String,
    problem: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Expression(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    /// `..name`, or `..*` with no name.
    Deep(Option<String>),
    Filter(Filter),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Vec<Step>,
    test: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Vec<Step>),
}

impl Template {
    /// Reads a template; `.a.b` may stand without braces.
    ///
    /// # Errors
    /// It is not in the language above.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let problem = |problem| Error { template: text.to_owned(), problem };
        let braced = match text.trim() {
            bare if bare.starts_with(['.', '[']) && !bare.contains(['{', '}']) => format!("{{{bare}}}"),
            _ => text.to_owned(),
        };
        parse::template(&braced).map(Self).map_err(problem)
    }

    /// The text for an object.
    #[must_use]
    pub fn render(&self, object: &Value) -> String {
        let mut text = String::new();
        render(&self.0, object, &mut text);
        text
    }

    /// The values that the template's expressions find.
    #[must_use]
    pub fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let expressions = self.0.iter().filter_map(|part| match part {
            Part::Expression(steps) => Some(find(steps, object)),
            Part::Text(_) | Part::Range(..) => None,
        });
        expressions.flatten().collect()
    }
}

fn render(parts: &[Part], object: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Expression(steps) => {
                let values: Vec<String> = find(steps, object).into_iter().map(plain).collect();
                text.push_str(&values.join(" "));
            }
            Part::Range(steps, body) => {
                for value in find(steps, object) {
                    // A range over one list runs over its items.
                    match value {
                        Value::Array(items) => items.iter().for_each(|item| render(body, item, text)),
                        other => render(body, other, text),
                    }
                }
            }
        }
    }
}

/// Texts bare, the rest as JSON.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn find<'a>(steps: &[Step], object: &'a Value) -> Vec<&'a Value> {
    steps
        .iter()
        .fold(vec![object], |values, step| values.into_iter().flat_map(|value| apply(step, value)).collect())
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            position(*index, items.len()).and_then(|index| items.get(index)).into_iter().collect()
        }
        Step::Slice(start, end) => {
            let bound = |index: Option<i64>, default: usize| match index {
                Some(index) => position(index, items.len()).unwrap_or(0).min(items.len()),
                None => default,
            };
            let (start, end) = (bound(*start, 0), bound(*end, items.len()));
            items.get(start..end).unwrap_or_default().iter().collect()
        }
        Step::All => children(value),
        Step::Deep(name) => {
            let mut found = Vec::new();
            deep(name.as_deref(), value, &mut found);
            found
        }
        Step::Filter(filter) => items.iter().filter(|item| filter.holds(item)).collect(),
    }
}

/// An index, counted from the end when it is negative.
fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn deep<'a>(name: Option<&str>, value: &'a Value, found: &mut Vec<&'a Value>) {
    match name {
        Some(name) => found.extend(value.get(name)),
        None => found.push(value),
    }
    for child in children(value) {
        deep(name, child, found);
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let left = find(&self.left, item);
        let Some((comparison, operand)) = &self.test else {
            return !left.is_empty();
        };
        let right = match operand {
            Operand::Literal(value) => Some(value),
            Operand::Path(steps) => find(steps, item).first().copied(),
        };
        match (left.first(), right) {
            (Some(left), Some(right)) => compare(left, right, *comparison),
            _ => false,
        }
    }
}

fn compare(left: &Value, right: &Value, comparison: Comparison) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let ordering = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparison {
        Comparison::Equal => ordering == Some(Equal),
        Comparison::NotEqual => ordering != Some(Equal),
        Comparison::Less => ordering == Some(Less),
        Comparison::LessOrEqual => matches!(ordering, Some(Less | Equal)),
        Comparison::Greater => ordering == Some(Greater),
        Comparison::GreaterOrEqual => matches!(ordering, Some(Greater | Equal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str) -> String {
        let object = json!({
            "kind": "List",
            "metadata": {"annotations": {"a.b/c": "dotted"}},
            "items": [
                {"name": "one", "n": 1, "on": true, "conditions": [{"type": "Ready", "status": "True"}]},
                {"name": "two", "n": 2, "conditions": [{"type": "Ready", "status": "False"}, {"type": "X", "status": "U"}]},
                {"name": "three", "n": 3},
            ],
        });
        Template::parse(template).map_or_else(|error| error.to_string(), |template| template.render(&object))
    }

    #[test]
    fn expressions_find_what_kubectl_finds() {
        for (template, text) in [
            ("{.kind}", "List"),
            (".kind", "List"),
            ("{$.kind}", "List"),
            ("{@.kind}", "List"),
            ("{.items[0].name}", "one"),
            ("{.items[-1].name}", "three"),
            ("{.items[0:2].name}", "one two"),
            ("{.items[1:].name}", "two three"),
            ("{.items[*].n}", "1 2 3"),
            ("{.items[0]['name']}", "one"),
            ("{.items[0].name}/{.items[0].on}", "one/true"),
            ("{..status}", "True False U"),
            ("{.metadata.annotations['a.b/c']}", "dotted"),
            ("{.metadata.annotations.a\\.b/c}", "dotted"),
            ("{.items[?(@.n>1)].name}", "two three"),
            ("{.items[?(@.name==\"two\")].n}", "2"),
            ("{.items[?(@.name!='two')].n}", "1 3"),
            ("{.items[?(@.on)].name}", "one"),
            ("{.items[?(@.on==true)].name}", "one"),
            ("{.items[*].conditions[?(@.type==\"Ready\")].status}", "True False"),
            ("{range .items[*]}{.name}{\"\\t\"}{.n}{\"\\n\"}{end}", "one\t1\ntwo\t2\nthree\t3\n"),
            ("{range .items}{.name},{end}", "one,two,three,"),
            ("{.missing.field}", ""),
            ("{.items[9].name}", ""),
            ("name: {.items[0].name}!", "name: one!"),
            ("{.items[0].conditions}", "[{\"status\":\"True\",\"type\":\"Ready\"}]"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for template in ["{.a", "{.a[}", "{range .a}", "{.a[?(@.b 1)]}", "{end}", "{.a[x]}", "{'a}", "{.}x}"]
        {
            assert!(
                render(template).starts_with("error parsing jsonpath") || template == "{.}x}",
                "{template}"
            );
        }
    }
}
