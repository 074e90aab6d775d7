//! The volumes of a described pod.

use serde_json::Value;

use super::super::field;
use super::Page;

/// The block of all volumes.
pub(super) fn all(page: &mut Page, pod: &Value) {
    let volumes = field::list(pod, "/spec/volumes");
    page.line(0, if volumes.is_empty() { "Volumes:\t<none>" } else { "Volumes:" });
    for volume in volumes {
        page.line(1, &format!("{}:", field::text(volume, "/name")));
        source(page, volume);
    }
}

fn source(page: &mut Page, volume: &Value) {
    let of = |key: &str| volume.get(key).filter(|source| !source.is_null());
    if let Some(path) = of("hostPath") {
        page.entry(2, "Type", "HostPath (bare host directory volume)");
        page.entry(2, "Path", field::text(path, "/path"));
        page.entry(2, "HostPathType", field::text(path, "/type"));
    } else if let Some(object) = of("secret") {
        page.entry(2, "Type", "Secret (a volume populated by a Secret)");
        page.entry(2, "SecretName", field::text(object, "/secretName"));
        page.entry(2, "Optional", optional(object));
    } else if let Some(object) = of("configMap") {
        page.entry(2, "Type", "ConfigMap (a volume populated by a ConfigMap)");
        page.entry(2, "Name", field::text(object, "/name"));
        page.entry(2, "Optional", optional(object));
    } else if let Some(fields) = of("downwardAPI") {
        page.entry(2, "Type", "DownwardAPI (a volume populated by information about the pod)");
        page.line(2, "Items:");
        items(page, fields);
    } else if let Some(projected) = of("projected") {
        page.entry(2, "Type", "Projected (a volume that contains injected data from multiple sources)");
        field::list(projected, "/sources").iter().for_each(|source| projection(page, source));
    } else if let Some(image) = of("image") {
        page.entry(2, "Type", "Image (a container image or OCI artifact)");
        page.entry(2, "Reference", field::text(image, "/reference"));
        page.entry(2, "PullPolicy", field::text(image, "/pullPolicy"));
    } else {
        empty_dir(page, of("emptyDir").unwrap_or(&Value::Null));
    }
}

fn empty_dir(page: &mut Page, source: &Value) {
    page.entry(2, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
    page.entry(2, "Medium", field::text(source, "/medium"));
    let limit = field::some(source, "/sizeLimit").map(field::scalar).filter(|limit| limit != "0");
    page.entry(2, "SizeLimit", limit.as_deref().unwrap_or("<unset>"));
}

fn items(page: &mut Page, fields: &Value) {
    for item in field::list(fields, "/items") {
        let path = field::text(item, "/path");
        for source in ["/fieldRef/fieldPath", "/resourceFieldRef/resource"] {
            if field::some(item, source).is_some() {
                page.line(3, &format!("{} -> {path}", field::text(item, source)));
            }
        }
    }
}

fn projection(page: &mut Page, source: &Value) {
    if let Some(object) = field::some(source, "/secret") {
        page.entry(2, "SecretName", field::text(object, "/name"));
        page.entry(2, "Optional", optional(object));
    } else if field::some(source, "/downwardAPI").is_some() {
        page.entry(2, "DownwardAPI", "true");
    } else if let Some(object) = field::some(source, "/configMap") {
        page.entry(2, "ConfigMapName", field::text(object, "/name"));
        page.entry(2, "Optional", optional(object));
    }
}

fn optional(object: &Value) -> &'static str {
    if field::is_true(object, "/optional") { "true" } else { "false" }
}
