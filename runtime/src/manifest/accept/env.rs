//! Environment variables, and the references to fields and keys that volumes use too.

use crate::manifest::pod::{self, ContainerName, EnvValue, FieldRef, ObjectKind, ResourceField};
use crate::manifest::quantity::Quantity;
use crate::manifest::{names, raw};

use super::{At, Errors, Scope, given, named, required};

/// Reads `env`.
pub(super) fn variables(
    raw: &[raw::EnvVar],
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Vec<pod::EnvVar> {
    let mut variables = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let name = named(raw.name.as_ref(), &at.field("name"), names::env, errors).to_owned();
        let literal = raw.value.clone().unwrap_or_default();
        let value = match &raw.value_from {
            None => EnvValue::Literal(literal),
            Some(from) => {
                let at = at.field("valueFrom");
                if !literal.is_empty() {
                    errors.invalid(&at, "", "may not be specified when `value` is not empty");
                }
                value_from(from, &at, scope, errors)
            }
        };
        variables.push(pod::EnvVar { name, value });
    }
    variables
}

fn value_from(raw: &raw::EnvVarSource, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> EnvValue {
    let mut values = Vec::new();
    if let Some(field) = &raw.field_ref {
        values.push(EnvValue::Field(field_ref(field, &ENV_FIELDS, &at.field("fieldRef"), errors)));
    }
    if let Some(resource) = &raw.resource_field_ref {
        values.push(EnvValue::Resource(resource_ref(resource, &at.field("resourceFieldRef"), errors)));
    }
    if let Some(key) = &raw.config_map_key_ref {
        values.push(EnvValue::ConfigMap(key_ref(key, &at.field("configMapKeyRef"), errors)));
    }
    if let Some(key) = &raw.secret_key_ref {
        values.push(EnvValue::Secret(key_ref(key, &at.field("secretKeyRef"), errors)));
    }
    if let Some(file) = &raw.file_key_ref {
        values.push(file_ref(file, &at.field("fileKeyRef"), scope, errors));
    }
    let value = values.pop();
    if !values.is_empty() {
        errors.invalid(at, "", "may not have more than one field specified at a time");
    }
    value.unwrap_or_else(|| {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
            `fileKeyRef`";
        errors.invalid(at, "", detail);
        EnvValue::Literal(String::new())
    })
}

fn key_ref(raw: &raw::KeySelector, at: &At, errors: &mut Errors) -> pod::KeyRef {
    pod::KeyRef {
        name: named(raw.name.as_ref(), &at.field("name"), names::subdomain, errors).to_owned(),
        key: named(raw.key.as_ref(), &at.field("key"), names::key, errors).to_owned(),
        optional: raw.optional == Some(true),
    }
}

fn file_ref(raw: &raw::FileKeySelector, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> EnvValue {
    let volume = required(raw.volume_name.as_ref(), &at.field("volumeName"), errors);
    match scope.volume(volume) {
        None if volume.is_empty() => (),
        None => errors.not_found(&at.field("volumeName"), volume),
        Some(found) if found.empty_dir.is_none() => {
            errors.invalid(&at.field("volumeName"), volume, "referenced volume must be of type emptyDir");
        }
        Some(_) => (),
    }
    EnvValue::File {
        volume: volume.to_owned(),
        path: named(raw.path.as_ref(), &at.field("path"), names::descending_path, errors).to_owned(),
        key: named(raw.key.as_ref(), &at.field("key"), names::env, errors).to_owned(),
        optional: raw.optional == Some(true),
    }
}

/// Reads `envFrom`.
pub(super) fn sources(raw: &[raw::EnvFromSource], at: &At, errors: &mut Errors) -> Vec<pod::EnvFrom> {
    let mut sources = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let prefix = raw.prefix.clone().unwrap_or_default();
        names::env(&prefix).into_iter().for_each(|fault| errors.invalid(&at.field("prefix"), &prefix, fault));
        let (kind, field, object) = match (&raw.config_map_ref, &raw.secret_ref) {
            (Some(object), None) => (ObjectKind::ConfigMap, "configMapRef", object),
            (None, Some(object)) => (ObjectKind::Secret, "secretRef", object),
            (Some(_), Some(_)) => {
                errors.invalid(&at, "", "may not have more than one field specified at a time");
                continue;
            }
            (None, None) => {
                errors.invalid(&at, "", "must specify one of: `configMapRef` or `secretRef`");
                continue;
            }
        };
        let at = at.field(field).field("name");
        let name = named(object.name.as_ref(), &at, names::subdomain, errors).to_owned();
        sources.push(pod::EnvFrom { prefix, kind, name, optional: object.optional == Some(true) });
    }
    sources
}

/// Fields by their paths.
pub(super) type Fields = [(&'static str, FieldRef)];

/// Fields that a variable can show, besides one label or annotation.
const ENV_FIELDS: [(&str, FieldRef); 9] = [
    ("metadata.name", FieldRef::Name),
    ("metadata.namespace", FieldRef::Namespace),
    ("metadata.uid", FieldRef::Uid),
    ("spec.nodeName", FieldRef::NodeName),
    ("spec.serviceAccountName", FieldRef::ServiceAccountName),
    ("status.hostIP", FieldRef::HostIp),
    ("status.hostIPs", FieldRef::HostIps),
    ("status.podIP", FieldRef::PodIp),
    ("status.podIPs", FieldRef::PodIps),
];

/// Fields that a file can show, besides one label or annotation.
pub(super) const FILE_FIELDS: [(&str, FieldRef); 5] = [
    ("metadata.annotations", FieldRef::Annotations),
    ("metadata.labels", FieldRef::Labels),
    ("metadata.name", FieldRef::Name),
    ("metadata.namespace", FieldRef::Namespace),
    ("metadata.uid", FieldRef::Uid),
];

/// Reads a `fieldRef`; `fields` are those allowed here.
pub(super) fn field_ref(
    raw: &raw::ObjectFieldSelector,
    fields: &Fields,
    at: &At,
    errors: &mut Errors,
) -> FieldRef {
    let version = given(raw.api_version.as_ref()).unwrap_or("v1");
    let at_path = at.field("fieldPath");
    let path = required(raw.field_path.as_ref(), &at_path, errors);
    if version != "v1" {
        errors.invalid(
            &at_path,
            path,
            format!("error converting fieldPath: unsupported pod version: {version}"),
        );
        return FieldRef::Name;
    }
    if let Some((name, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return subscript(name, key, at, errors);
    }
    if let Some((_, field)) = fields.iter().find(|(name, _)| *name == path) {
        return field.clone();
    }
    if !path.is_empty() {
        let supported: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        errors.unsupported(&at_path, path, &supported);
    }
    FieldRef::Name
}

/// `metadata.labels['key']`.
fn subscript(name: &str, key: &str, at: &At, errors: &mut Errors) -> FieldRef {
    match name {
        "metadata.labels" => {
            names::qualified(key).into_iter().for_each(|fault| errors.invalid(at, key, fault));
            FieldRef::Label(key.to_owned())
        }
        "metadata.annotations" => {
            let lower = key.to_lowercase();
            names::qualified(&lower).into_iter().for_each(|fault| errors.invalid(at, key, fault));
            FieldRef::Annotation(key.to_owned())
        }
        other => {
            errors.invalid(at, other, "does not support subscript");
            FieldRef::Name
        }
    }
}

const RESOURCES: [(&str, ResourceField); 6] = [
    ("limits.cpu", ResourceField::CpuLimit),
    ("limits.ephemeral-storage", ResourceField::EphemeralLimit),
    ("limits.memory", ResourceField::MemoryLimit),
    ("requests.cpu", ResourceField::CpuRequest),
    ("requests.ephemeral-storage", ResourceField::EphemeralRequest),
    ("requests.memory", ResourceField::MemoryRequest),
];

const CPU_DIVISORS: [&str; 2] = ["1", "1m"];
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Reads a `resourceFieldRef`.
pub(super) fn resource_ref(
    raw: &raw::ResourceFieldSelector,
    at: &At,
    errors: &mut Errors,
) -> pod::ResourceRef {
    let at_resource = at.field("resource");
    let name = required(raw.resource.as_ref(), &at_resource, errors);
    let found = RESOURCES.iter().find(|(known, _)| *known == name);
    if name.contains(".hugepages-") {
        errors.not_supported(&at_resource, "containers have no huge pages");
    } else if found.is_none() && !name.is_empty() {
        errors.unsupported(&at_resource, name, &RESOURCES.map(|(known, _)| known));
    }
    pod::ResourceRef {
        container: given(raw.container_name.as_ref()).map(ContainerName::new),
        resource: found.map_or(ResourceField::CpuLimit, |(_, field)| *field),
        divisor_milli: divisor(raw, name, &at.field("divisor"), errors),
    }
}

/// The divisor in thousandths; absent and zero mean one.
fn divisor(raw: &raw::ResourceFieldSelector, resource: &str, at: &At, errors: &mut Errors) -> u128 {
    let Some(text) = &raw.divisor else {
        return 1000;
    };
    let (subject, allowed): (_, &[&str]) = match resource.split_once('.').map_or(resource, |(_, name)| name) {
        "cpu" => ("cpu", &CPU_DIVISORS),
        "memory" => ("memory", &BYTE_DIVISORS),
        _ => ("local ephemeral storage", &BYTE_DIVISORS),
    };
    match Quantity::parse(&text.0) {
        Err(error) => errors.invalid(at, &text.0, error),
        Ok(quantity) if quantity.milli() == 0 => (),
        Ok(quantity) if allowed.contains(&quantity.to_string().as_str()) => {
            return quantity.milli().unsigned_abs();
        }
        Ok(_) => {
            let allowed = allowed.join(", ");
            let detail = format!("only divisor's values {allowed} are supported with the {subject} resource");
            errors.invalid(at, resource, detail);
        }
    }
    1000
}
