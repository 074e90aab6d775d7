//! The form that a reader wants objects in: as they are, or as rows of a table that kubectl prints unseen.
//!
//! A reader asks for `application/json;as=Table;g=meta.k8s.io;v=v1`. Columns and cells are those of `hull get`.

use hyper::HeaderMap;
use hyper::header::ACCEPT;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::object;
use super::query::Query;
use super::status::Status;
use crate::print;

/// What objects are sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Objects,
    /// As tables.
    Table(Include),
}

/// What each row tells of its object beside the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Event,
}

impl Form {
    /// The first form of the `Accept` header that is known; objects without any.
    pub(super) fn of(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let table = accepted.flat_map(|list| list.split(',')).find_map(is_table).unwrap_or(false);
        let include = match query.text("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                let message = format!("includeObject: {other:?} is none of None, Metadata, Object");
                return Err(Status::bad_request(message));
            }
        };
        Ok(if table { Self::Table(include) } else { Self::Objects })
    }

    /// One object.
    pub(super) fn one(self, kind: Kind, object: Value, now: Timestamp) -> Value {
        match self {
            Self::Objects => object,
            Self::Table(include) => {
                let version = object["metadata"]["resourceVersion"].clone();
                table((kind, include), vec![object], version, now)
            }
        }
    }

    /// All objects of a list.
    pub(super) fn list(self, kind: Kind, items: Vec<Value>, generation: u64, now: Timestamp) -> Value {
        match self {
            Self::Objects => object::list(kind.name(), items, generation),
            Self::Table(include) => table((kind, include), items, json!(generation.to_string()), now),
        }
    }
}

/// Whether one media type is a table; none if it is of a kind that is not known here.
fn is_table(media: &str) -> Option<bool> {
    let mut parts = media.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let value = |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    match (value("as"), value("g"), value("v")) {
        (None, _, _) => Some(false),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(true),
        (Some(_), _, _) => None,
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Event => "Event",
        }
    }

    fn titles(self, wide: bool) -> Vec<&'static str> {
        match self {
            Self::Pod => print::pod::header(wide),
            Self::Event => print::events::get_header(wide),
        }
    }

    fn cells(self, object: &Value, now: Timestamp) -> Vec<String> {
        match self {
            Self::Pod => print::pod::row(object, true, now),
            Self::Event => print::events::get_row(object, true, now),
        }
    }
}

fn table((kind, include): (Kind, Include), items: Vec<Value>, version: Value, now: Timestamp) -> Value {
    let narrow = kind.titles(false);
    let column = |title: &&str| {
        // Those of less weight are shown with `-o wide` alone.
        let priority = i32::from(!narrow.contains(title));
        let format = if *title == "NAME" { "name" } else { "" };
        json!({"name": capitalised(title), "type": "string", "format": format, "description": "", "priority": priority})
    };
    let columns: Vec<Value> = kind.titles(true).iter().map(column).collect();
    let row = |object: Value| {
        let cells = kind.cells(&object, now);
        match include {
            Include::None => json!({"cells": cells}),
            Include::Metadata => json!({"cells": cells, "object": metadata(&object)}),
            Include::Object => json!({"cells": cells, "object": object}),
        }
    };
    let rows: Vec<Value> = items.into_iter().map(row).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": columns, "rows": rows,
    })
}

fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    })
}

/// `LAST SEEN` as the API has it: `Last Seen`; short words are abbreviations.
fn capitalised(title: &str) -> String {
    let word = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) if word.len() > 2 => format!("{first}{}", rest.to_lowercase()),
        _ => word.to_owned(),
    };
    title.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn form(accept: &'static str, query: &str) -> Result<Form, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Form::of(&headers, &Query::parse(query))
    }

    #[test]
    fn the_first_form_that_is_known_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(kubectl, "").unwrap(), Form::Table(Include::Metadata));
        assert_eq!(form(kubectl, "includeObject=Object").unwrap(), Form::Table(Include::Object));
        assert!(form(kubectl, "includeObject=All").is_err());
        for plain in [
            "application/json",
            "*/*",
            "text/html",
            "application/json;as=Table;v=v2;g=meta.k8s.io",
            "application/json, application/json;as=Table;v=v1;g=meta.k8s.io",
        ] {
            assert_eq!(form(plain, "").unwrap(), Form::Objects, "{plain}");
        }
    }

    #[test]
    fn columns_of_a_wide_table_have_less_weight() {
        let now = "2024-01-02T03:05:00Z".parse().unwrap();
        let pod =
            json!({"metadata": {"name": "web", "resourceVersion": "7"}, "status": {"phase": "Pending"}});
        let table = Form::Table(Include::Metadata).one(Kind::Pod, pod, now);
        assert_eq!(table["metadata"]["resourceVersion"], "7");
        let columns: Vec<(&str, i64)> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_i64().unwrap()))
            .collect();
        let narrow = [("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0)];
        let wide = [("IP", 1), ("Node", 1), ("Nominated Node", 1), ("Readiness Gates", 1)];
        assert_eq!(columns, [&narrow[..], &wide].concat());
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns.len());
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "web");
        let events = Form::Table(Include::None).list(Kind::Event, vec![json!({})], 1, now);
        assert_eq!(events["columnDefinitions"][0]["name"], "Last Seen");
        assert_eq!(events["rows"][0]["object"], Value::Null);
    }
}
