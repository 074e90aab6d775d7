//! Label and field selectors.

use serde_json::Value;

use super::query::Query;
use super::status::Status;

/// What an object must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    /// The selectors of a list or watch request.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn of_query(query: &Query) -> Result<Self, Status> {
        Self::parse(
            query.text("labelSelector").unwrap_or_default(),
            query.text("fieldSelector").unwrap_or_default(),
        )
    }

    /// Reads both kinds; an empty text selects everything.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, Status> {
        let read =
            |text: &str| split(text).iter().map(|part| requirement(part)).collect::<Result<Vec<_>, _>>();
        Ok(Self { labels: read(labels)?, fields: read(fields)? })
    }

    /// Whether an object is selected.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let label =
            |key: &str| object.pointer("/metadata/labels").and_then(|labels| labels.get(key)?.as_str());
        let field =
            |path: &str| object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
        self.labels.iter().all(|each| each.holds(label(&each.key)))
            && self.fields.iter().all(|each| each.holds(Some(field(&each.key).unwrap_or_default())))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|each| each == value));
        match &self.test {
            Test::In(values) => among(values),
            Test::NotIn(values) => !among(values),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
        }
    }
}

/// Cuts at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(text: &str) -> Result<Requirement, Status> {
    let (key, test) = if let Some((key, value)) = text.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Test::In(vec![value.trim().to_owned()]))
    } else if let Some((head, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Test::In(values)),
            Some((key, "notin")) => (key, Test::NotIn(values)),
            _ => return Err(unreadable(text)),
        }
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Test::Missing)
    } else {
        (text, Test::Exists)
    };
    let key = key.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(unreadable(text));
    }
    Ok(Requirement { key: key.to_owned(), test })
}

fn unreadable(text: &str) -> Status {
    Status::bad_request(format!(
        "unable to parse requirement {text:?}: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_select() {
        let pod = json!({"metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}}});
        for (labels, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("missing!=x", true),
            ("app in (a, web)", true),
            ("app notin (a,web),tier", false),
            ("tier", true),
            ("!tier", false),
            ("!other", true),
        ] {
            assert_eq!(Selector::parse(labels, "").unwrap().matches(&pod), expected, "{labels}");
        }
        assert!(Selector::parse("app like (x)", "").is_err());
        assert!(Selector::parse("=x", "").is_err());
    }

    #[test]
    fn fields_select() {
        let event = json!({"involvedObject": {"kind": "Pod", "name": "web"}});
        assert!(
            Selector::parse("", "involvedObject.name=web,involvedObject.kind=Pod").unwrap().matches(&event)
        );
        assert!(!Selector::parse("", "involvedObject.name!=web").unwrap().matches(&event));
    }
}
