//! Volumes and where containers mount them.

use std::collections::BTreeSet;

use crate::manifest::pod::{
    DownwardItem, EnvValue, HostPathKind, KeyToPath, ObjectSource, ProjectedSource, Propagation,
    RecursiveReadOnly, SubPath, Volume, VolumeMount, VolumeSource,
};
use crate::manifest::{names, raw};

use super::{At, Errors, Scope, env, given, named, one_of, required, resources};

/// Reads `spec.volumes`.
pub(super) fn volumes(raw: &[raw::Volume], scope: &Scope<'_>, errors: &mut Errors) -> Vec<Volume> {
    let at = At::root("spec").field("volumes");
    let mut seen = BTreeSet::new();
    let mut volumes = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let at_name = at.field("name");
        let name = named(raw.name.as_ref(), &at_name, names::label, errors);
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&at_name, name);
        }
        for source in raw.sources().iter().skip(1) {
            errors.forbidden(&at.field(source), "may not specify more than 1 volume type");
        }
        if let Some(source) = source(raw, &at, scope, errors) {
            volumes.push(Volume { name: name.to_owned(), source });
        }
    }
    volumes
}

fn source(raw: &raw::Volume, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> Option<VolumeSource> {
    for name in raw.unsupported_sources() {
        let why = "use emptyDir, hostPath, configMap, secret, downwardAPI or projected";
        errors.not_supported(&at.field(name), why);
    }
    if let Some(dir) = &raw.empty_dir {
        return Some(empty_dir(dir, &at.field("emptyDir"), errors));
    }
    if let Some(path) = &raw.host_path {
        return Some(host_path(path, &at.field("hostPath"), errors));
    }
    if let Some(map) = &raw.config_map {
        let at = at.field("configMap");
        return Some(VolumeSource::ConfigMap(ObjectSource {
            name: named(map.name.as_ref(), &at.field("name"), names::subdomain, errors).to_owned(),
            items: items(&map.items, &at.field("items"), errors),
            default_mode: default_mode(map.default_mode, &at, errors),
            optional: map.optional == Some(true),
        }));
    }
    if let Some(secret) = &raw.secret {
        let at = at.field("secret");
        return Some(VolumeSource::Secret(ObjectSource {
            name: named(secret.secret_name.as_ref(), &at.field("secretName"), names::subdomain, errors)
                .to_owned(),
            items: items(&secret.items, &at.field("items"), errors),
            default_mode: default_mode(secret.default_mode, &at, errors),
            optional: secret.optional == Some(true),
        }));
    }
    if let Some(files) = &raw.downward_api {
        let at = at.field("downwardAPI");
        return Some(VolumeSource::DownwardApi {
            items: downward(&files.items, &at.field("items"), scope, errors),
            default_mode: default_mode(files.default_mode, &at, errors),
        });
    }
    raw.projected.as_ref().map(|raw| projected(raw, &at.field("projected"), scope, errors))
}

fn empty_dir(raw: &raw::EmptyDir, at: &At, errors: &mut Errors) -> VolumeSource {
    let at_medium = at.field("medium");
    let medium = raw.medium.as_deref().unwrap_or_default();
    let memory = match medium {
        "" => false,
        "Memory" => true,
        name if name.starts_with("HugePages") => {
            errors.not_supported(&at_medium, "containers have no huge pages; use Memory, or leave it out");
            false
        }
        other => {
            errors.unsupported(&at_medium, other, &["", "Memory"]);
            false
        }
    };
    let limit = raw.size_limit.as_ref();
    let limit = limit.and_then(|limit| resources::amount(limit, &at.field("sizeLimit"), errors));
    // Zero is no limit, as for the kubelet.
    let size_limit = limit.map(resources::bytes).filter(|bytes| *bytes > 0);
    if size_limit.is_some() && !memory {
        errors.not_supported(&at.field("sizeLimit"), "only kept with medium: Memory; leave it out");
    }
    VolumeSource::EmptyDir { memory, size_limit }
}

fn host_path(raw: &raw::HostPath, at: &At, errors: &mut Errors) -> VolumeSource {
    let at_path = at.field("path");
    let path = required(raw.path.as_ref(), &at_path, errors);
    if path.split('/').any(|part| part == "..") {
        errors.invalid(&at_path, path, "must not contain '..'");
    }
    if !path.is_empty() && !path.starts_with('/') {
        errors.invalid(&at_path, path, "must be an absolute path");
    }
    let kinds = [
        ("", HostPathKind::Unset),
        ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
        ("Directory", HostPathKind::Directory),
        ("FileOrCreate", HostPathKind::FileOrCreate),
        ("File", HostPathKind::File),
        ("Socket", HostPathKind::Socket),
        ("CharDevice", HostPathKind::CharDevice),
        ("BlockDevice", HostPathKind::BlockDevice),
    ];
    let kind = one_of(raw.kind.as_ref(), &at.field("type"), &kinds, errors);
    VolumeSource::HostPath { path: path.to_owned(), kind }
}

fn default_mode(raw: Option<i32>, at: &At, errors: &mut Errors) -> u32 {
    mode(raw, &at.field("defaultMode"), errors).unwrap_or(0o644)
}

fn mode(raw: Option<i32>, at: &At, errors: &mut Errors) -> Option<u32> {
    let mode = raw?;
    if !(0..=0o777).contains(&mode) {
        errors.invalid(at, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
    u32::try_from(mode).ok()
}

/// A file's place in its volume.
fn file_path(raw: Option<&String>, at: &At, errors: &mut Errors) -> String {
    let path = named(raw, at, names::descending_path, errors);
    if path.starts_with("..") && !path.split('/').any(|part| part == "..") {
        errors.invalid(at, path, "must not start with '..'");
    }
    path.to_owned()
}

fn items(raw: &[raw::KeyToPath], at: &At, errors: &mut Errors) -> Vec<KeyToPath> {
    let items = raw.iter().enumerate().map(|(index, item)| {
        let at = at.index(index);
        KeyToPath {
            key: required(item.key.as_ref(), &at.field("key"), errors).to_owned(),
            path: file_path(item.path.as_ref(), &at.field("path"), errors),
            mode: mode(item.mode, &at.field("mode"), errors),
        }
    });
    items.collect()
}

fn downward(
    raw: &[raw::DownwardApiFile],
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Vec<DownwardItem> {
    let mut items = Vec::new();
    for (index, item) in raw.iter().enumerate() {
        let at = at.index(index);
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => {
                EnvValue::Field(env::field_ref(field, &env::FILE_FIELDS, &at.field("fieldRef"), errors))
            }
            (None, Some(resource)) => {
                let at = at.field("resourceFieldRef");
                let at_name = at.field("containerName");
                let name = required(resource.container_name.as_ref(), &at_name, errors);
                let mut all = scope.spec.containers.iter().chain(&scope.spec.init_containers);
                if !name.is_empty() && !all.any(|container| container.name.as_deref() == Some(name)) {
                    errors.not_found(&at_name, name);
                }
                EnvValue::Resource(env::resource_ref(resource, &at, errors))
            }
            (Some(_), Some(_)) => {
                errors.invalid(
                    &at,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
                continue;
            }
            (None, None) => {
                errors.required(&at, "one of fieldRef and resourceFieldRef is required");
                continue;
            }
        };
        let path = file_path(item.path.as_ref(), &at.field("path"), errors);
        items.push(DownwardItem { path, value, mode: mode(item.mode, &at.field("mode"), errors) });
    }
    items
}

fn projected(raw: &raw::Projected, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> VolumeSource {
    let default_mode = default_mode(raw.default_mode, at, errors);
    let at_sources = at.field("sources");
    if raw.sources.is_empty() {
        errors.required(&at_sources, "");
    }
    let mut sources = Vec::new();
    for (index, source) in raw.sources.iter().enumerate() {
        let at = at_sources.index(index);
        let before = sources.len();
        if let Some(map) = &source.config_map {
            let source = projection(map, default_mode, &at.field("configMap"), errors);
            sources.push(ProjectedSource::ConfigMap(source));
        }
        if let Some(secret) = &source.secret {
            let source = projection(secret, default_mode, &at.field("secret"), errors);
            sources.push(ProjectedSource::Secret(source));
        }
        if let Some(files) = &source.downward_api {
            let at = at.field("downwardAPI").field("items");
            sources.push(ProjectedSource::DownwardApi(downward(&files.items, &at, scope, errors)));
        }
        let refused = refuse_projections(source, &at, errors);
        match sources.len() - before + refused {
            0 => errors.required(&at, "must specify a source"),
            1 => (),
            _ => errors.forbidden(&at, "may not specify more than 1 volume type per source"),
        }
    }
    conflicts(&sources, at, errors);
    VolumeSource::Projected { sources, default_mode }
}

fn refuse_projections(source: &raw::ProjectedSource, at: &At, errors: &mut Errors) -> usize {
    let refused = [
        ("clusterTrustBundle", source.cluster_trust_bundle.is_some()),
        ("podCertificate", source.pod_certificate.is_some()),
        ("serviceAccountToken", source.service_account_token.is_some()),
    ];
    let refused: Vec<_> = refused.into_iter().filter(|(_, found)| *found).collect();
    for (name, _) in &refused {
        errors.not_supported(&at.field(name), "there is no API server that would issue it");
    }
    refused.len()
}

fn projection(raw: &raw::ObjectProjection, default_mode: u32, at: &At, errors: &mut Errors) -> ObjectSource {
    ObjectSource {
        name: named(raw.name.as_ref(), &at.field("name"), names::subdomain, errors).to_owned(),
        items: items(&raw.items, &at.field("items"), errors),
        default_mode,
        optional: raw.optional == Some(true),
    }
}

/// Two sources may not write the same path.
fn conflicts(sources: &[ProjectedSource], at: &At, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for source in sources {
        let paths: Vec<&String> = match source {
            ProjectedSource::ConfigMap(object) | ProjectedSource::Secret(object) => {
                object.items.iter().map(|item| &item.path).collect()
            }
            ProjectedSource::DownwardApi(items) => items.iter().map(|item| &item.path).collect(),
        };
        for path in paths.into_iter().filter(|path| !path.is_empty()) {
            if !seen.insert(path) {
                errors.invalid(&at.field("path"), path, "conflicting duplicate paths");
            }
        }
    }
}

/// Reads `volumeMounts`.
pub(super) fn mounts(
    raw: &raw::Container,
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Vec<VolumeMount> {
    let mut seen = BTreeSet::new();
    let mut mounts = Vec::new();
    for (index, mount) in raw.volume_mounts.iter().enumerate() {
        let at = at.index(index);
        let name = required(mount.name.as_ref(), &at.field("name"), errors);
        if !name.is_empty() && scope.volume(name).is_none() {
            errors.not_found(&at.field("name"), name);
        }
        let at_path = at.field("mountPath");
        let path = required(mount.mount_path.as_ref(), &at_path, errors);
        if !path.is_empty() && !seen.insert(path) {
            errors.invalid(&at_path, path, "must be unique");
        }
        let privileged =
            raw.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
        let propagation = propagation(mount, privileged, &at, errors);
        mounts.push(VolumeMount {
            name: name.to_owned(),
            // A relative path counts from the root.
            mount_path: format!("/{}", path.trim_start_matches('/')),
            sub_path: sub_path(mount, &at, errors),
            read_only: mount.read_only == Some(true),
            recursive_read_only: recursive(mount, propagation, &at, errors),
            propagation,
        });
    }
    mounts
}

fn propagation(raw: &raw::VolumeMount, privileged: bool, at: &At, errors: &mut Errors) -> Propagation {
    let Some(text) = &raw.mount_propagation else {
        return Propagation::Private;
    };
    let words = [
        ("None", Propagation::Private),
        ("HostToContainer", Propagation::HostToContainer),
        ("Bidirectional", Propagation::Bidirectional),
    ];
    let at = at.field("mountPropagation");
    let propagation = one_of(Some(text), &at, &words, errors);
    if propagation == Propagation::Bidirectional && !privileged {
        errors.forbidden(&at, "Bidirectional mount propagation is available only to privileged containers");
    }
    propagation
}

fn sub_path(raw: &raw::VolumeMount, at: &At, errors: &mut Errors) -> SubPath {
    let mut checked = |text: &str, field: &str| {
        let at = at.field(field);
        names::descending_path(text).into_iter().for_each(|fault| errors.invalid(&at, text, fault));
        text.to_owned()
    };
    match (given(raw.sub_path.as_ref()), given(raw.sub_path_expr.as_ref())) {
        (None, None) => SubPath::Whole,
        (Some(path), None) => SubPath::Path(checked(path, "subPath")),
        (None, Some(expression)) => SubPath::Expression(checked(expression, "subPathExpr")),
        (Some(_), Some(expression)) => {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&at.field("subPathExpr"), expression, detail);
            SubPath::Whole
        }
    }
}

fn recursive(
    raw: &raw::VolumeMount,
    propagation: Propagation,
    at: &At,
    errors: &mut Errors,
) -> RecursiveReadOnly {
    let Some(text) = &raw.recursive_read_only else {
        return RecursiveReadOnly::Disabled;
    };
    let at = at.field("recursiveReadOnly");
    let values = [
        ("Disabled", RecursiveReadOnly::Disabled),
        ("IfPossible", RecursiveReadOnly::IfPossible),
        ("Enabled", RecursiveReadOnly::Enabled),
    ];
    let mode = one_of(Some(text), &at, &values, errors);
    let wanted = mode != RecursiveReadOnly::Disabled;
    if wanted && raw.read_only != Some(true) {
        errors.forbidden(&at, "may only be specified when readOnly is true");
    }
    if wanted && propagation != Propagation::Private {
        errors.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
    }
    mode
}
