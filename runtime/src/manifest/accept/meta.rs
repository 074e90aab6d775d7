//! `metadata`.

use crate::manifest::names;
use crate::manifest::raw::ObjectMeta;

use super::{At, Errors, given};

/// Bytes that all annotations may have together.
const ANNOTATIONS: usize = 256 << 10;

/// Checks the metadata of any object and returns its namespace.
pub(in crate::manifest) fn meta(
    meta: &ObjectMeta,
    name_rule: fn(&str) -> Vec<String>,
    errors: &mut Errors,
) -> String {
    let at = At::root("metadata");
    match given(meta.name.as_ref()) {
        None if meta.generate_name.is_some() => {
            errors.not_supported(&at.field("generateName"), "give the object a name in metadata.name");
        }
        None => errors.required(&at.field("name"), "name or generateName is required"),
        Some(name) => {
            let at = at.field("name");
            name_rule(name).into_iter().for_each(|fault| errors.invalid(&at, name, fault));
        }
    }
    let namespace = given(meta.namespace.as_ref()).unwrap_or("default");
    let namespace_at = at.field("namespace");
    names::label(namespace).into_iter().for_each(|fault| errors.invalid(&namespace_at, namespace, fault));
    if !meta.finalizers.is_empty() {
        errors.not_supported(&at.field("finalizers"), "no controller is there to remove them");
    }
    labels(meta, &at.field("labels"), errors);
    annotations(meta, &at.field("annotations"), errors);
    namespace.to_owned()
}

fn labels(meta: &ObjectMeta, at: &At, errors: &mut Errors) {
    for (key, value) in &meta.labels {
        names::qualified(key).into_iter().for_each(|fault| errors.invalid(at, key, fault));
        names::label_value(value).into_iter().for_each(|fault| errors.invalid(at, value, fault));
    }
}

fn annotations(meta: &ObjectMeta, at: &At, errors: &mut Errors) {
    for key in meta.annotations.keys() {
        let lower = key.to_lowercase();
        names::qualified(&lower).into_iter().for_each(|fault| errors.invalid(at, key, fault));
    }
    let size: usize = meta.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS {
        errors.too_long(at, ANNOTATIONS);
    }
}
