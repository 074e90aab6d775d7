//! `--output`: objects as JSON, YAML, names or through a JSONPath template.

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};

use super::jsonpath::Template;
use super::resource::Kind;

/// A value of `--output`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("jsonpath", template)) => {
                Template::parse(template).map(Self::JsonPath).map_err(|error| error.to_string())
            }
            _ => match text {
                "wide" => Ok(Self::Wide),
                "json" => Ok(Self::Json),
                "yaml" => Ok(Self::Yaml),
                "name" => Ok(Self::Name),
                _ => Err(format!(
                    "unable to match a printer suitable for the output format {text:?}, allowed formats are: json,jsonpath,name,wide,yaml"
                )),
            },
        }
    }
}

/// Prints a list of objects as one document.
pub(super) fn list(format: &Format, kind: Kind, objects: Vec<Value>) -> String {
    if *format == Format::Name {
        return objects.iter().map(|each| object(format, kind, each)).collect();
    }
    let list =
        json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}});
    object(format, kind, &list)
}

/// Prints one object.
pub(super) fn object(format: &Format, kind: Kind, object: &Value) -> String {
    match format {
        Format::Json => indented(object),
        // kubectl has no wide form of a single document either; the table is printed elsewhere.
        Format::Yaml | Format::Wide => yaml(object),
        Format::Name => format!("{}\n", name(kind, object)),
        Format::JsonPath(template) => template.render(object),
    }
}

/// `pod/web`
fn name(kind: Kind, object: &Value) -> String {
    format!("{}/{}", kind.singular(), object["metadata"]["name"].as_str().unwrap_or_default())
}

/// JSON with the four blanks that kubectl indents with.
fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("values have string keys and serialise");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn yaml(value: &Value) -> String {
    let mut text = serde_saphyr::to_string(value).expect("values have string keys and serialise");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_prints_an_object() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "web", "labels": {"on": "true", "v": "1.0"}}});
        let print = |format: &str| object(&format.parse().unwrap(), Kind::Pod, &pod);
        assert_eq!(print("name"), "pod/web\n");
        assert_eq!(print("jsonpath={.metadata.name}"), "web");
        assert!(print("json").starts_with("{\n    \"kind\": \"Pod\",\n    \"metadata\": {\n"));
        let read: Value = serde_saphyr::from_str(&print("yaml")).unwrap();
        assert_eq!(read, pod);
        assert!("table".parse::<Format>().is_err());
    }

    #[test]
    fn a_list_is_one_document() {
        let pods = vec![json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b"}})];
        assert_eq!(list(&Format::Name, Kind::Pod, pods.clone()), "pod/a\npod/b\n");
        let read: Value = serde_json::from_str(&list(&Format::Json, Kind::Pod, pods)).unwrap();
        assert_eq!(read["kind"], "List");
        assert_eq!(read["items"][1]["metadata"]["name"], "b");
    }
}
