//! What a manifest that is applied again would change (reference `pod-lifecycle.md` 1.4).

use std::collections::BTreeMap;

use serde_json::Value;

use super::accept::{self, Accepted};
use super::defaults;
use super::invalid::{At, Errors, Invalid};
use super::pod::ContainerName;
use super::raw::{Any, Container, ObjectMeta, Pod, PodSpec};

/// What re-applying a Pod would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Nothing.
    Unchanged,
    /// Something that may change in a pod that exists.
    Allowed(Change),
    /// Something that may not, in kubectl's words.
    Forbidden(Invalid),
}

/// What changes in a pod that stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Containers of either list with another image.
    pub images: Vec<ContainerName>,
    /// `spec.activeDeadlineSeconds` was set or lowered.
    pub active_deadline: bool,
    /// Tolerations were added.
    pub tolerations: bool,
    /// Labels or annotations differ.
    pub metadata: bool,
}

impl Change {
    /// Whether the spec differs, and not only what is said about it.
    #[must_use]
    pub fn of_spec(&self) -> bool {
        *self != Self { metadata: self.metadata, ..Self::default() }
    }
}

/// Compares the object of an accepted pod with a manifest of the same name.
#[must_use]
pub fn changed(old: &Pod, new: &Pod) -> Update {
    let new = completed(old, new);
    let mut errors = Errors::default();
    let at = At::root("spec");
    let change = Change {
        images: images(&old.spec, &new.spec),
        active_deadline: deadline(&old.spec, &new.spec, &at, &mut errors),
        tolerations: tolerations(&old.spec, &new.spec, &at, &mut errors),
        metadata: metadata(&old.metadata) != metadata(&new.metadata),
    };
    rest(&old.spec, &new.spec, &at, &mut errors);
    match errors.finish("Pod", new.metadata.name.as_deref(), change) {
        Err(invalid) => Update::Forbidden(invalid),
        Ok(change) if change == Change::default() => Update::Unchanged,
        Ok(change) => Update::Allowed(change),
    }
}

/// The accepted pod after a change: the manifest, with the identity that the pod has. A change of the spec is a new generation.
///
/// # Errors
/// The manifest is not valid.
pub fn replaced(old: &Pod, new: &Pod, change: &Change) -> Result<Accepted, Invalid> {
    let mut new = completed(old, new);
    new.metadata.name.clone_from(&old.metadata.name);
    new.metadata.namespace.clone_from(&old.metadata.namespace);
    let (uid, created) = (old.metadata.uid.as_deref().unwrap_or_default(), old.metadata.creation_timestamp);
    accept::identify(&mut new.metadata, uid, created.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
    let generation = old.metadata.generation.unwrap_or(1);
    new.metadata.generation = Some(generation + i64::from(change.of_spec()));
    new.status = None;
    accept::again(new)
}

/// A manifest with what it leaves out and the pod has.
fn completed(old: &Pod, new: &Pod) -> Pod {
    let mut new = new.clone();
    keep_pull_policies(&old.spec.containers, &mut new.spec.containers);
    keep_pull_policies(&old.spec.init_containers, &mut new.spec.init_containers);
    // The binding to a node is not the manifest's; one that names another node is a change, though.
    if new.spec.node_name.is_none() {
        new.spec.node_name.clone_from(&old.spec.node_name);
    }
    defaults::pod(&mut new);
    new
}

type Texts = BTreeMap<String, String>;

fn metadata(meta: &ObjectMeta) -> (&Texts, &Texts) {
    (&meta.labels, &meta.annotations)
}

/// A pull policy that the manifest leaves out stays what it is, also if the new image has another default.
fn keep_pull_policies(old: &[Container], new: &mut [Container]) {
    for (old, new) in old.iter().zip(new) {
        if old.name == new.name && new.image_pull_policy.is_none() {
            new.image_pull_policy.clone_from(&old.image_pull_policy);
        }
    }
}

fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().chain(&spec.containers)
}

fn images(old: &PodSpec, new: &PodSpec) -> Vec<ContainerName> {
    let differ = all(old).zip(all(new)).filter(|(old, new)| old.image != new.image);
    differ.map(|(_, new)| ContainerName::new(new.name.as_deref().unwrap_or_default())).collect()
}

fn deadline(old: &PodSpec, new: &PodSpec, at: &At, errors: &mut Errors) -> bool {
    let at = at.field("activeDeadlineSeconds");
    match (old.active_deadline_seconds, new.active_deadline_seconds) {
        (Some(old), Some(new)) if new > old => {
            errors.invalid(&at, new, "must be less than or equal to previous value");
            false
        }
        (Some(_), None) => {
            errors.invalid(&at, &Value::Null, "must not update from a positive integer to nil value");
            false
        }
        (old, new) => old != new,
    }
}

fn tolerations(old: &PodSpec, new: &PodSpec, at: &At, errors: &mut Errors) -> bool {
    let without_seconds = |toleration: &Any| {
        let mut toleration = toleration.clone();
        if let Some(fields) = toleration.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    let kept: Vec<_> = new.tolerations.iter().map(without_seconds).collect();
    if old.tolerations.iter().any(|toleration| !kept.contains(&without_seconds(toleration))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(&at.field("tolerations"), detail);
    }
    old.tolerations != new.tolerations
}

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Everything else stays as it is.
fn rest(old: &PodSpec, new: &PodSpec, at: &At, errors: &mut Errors) {
    let lists = [
        ("containers", old.containers.len(), new.containers.len()),
        ("initContainers", old.init_containers.len(), new.init_containers.len()),
    ];
    for (field, old, new) in lists {
        if old != new {
            errors.forbidden(&at.field(field), "pod updates may not add or remove containers");
            return;
        }
    }
    let mut differences = Vec::new();
    difference(&fixed(old), &fixed(new), "spec", &mut differences);
    if !differences.is_empty() {
        errors.forbidden(at, &format!("{FIXED}\n{}", differences.join("\n")));
    }
}

/// The spec without what may change.
fn fixed(spec: &PodSpec) -> Value {
    let mut spec = spec.clone();
    spec.active_deadline_seconds = None;
    spec.tolerations.clear();
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        container.image = None;
    }
    // Serialising plain structs with string keys cannot fail; if it did, both sides would be null.
    serde_json::to_value(spec).unwrap_or_default()
}

/// Notes each place where two values differ, deepest first differing place only.
fn difference(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let get =
                    |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                difference(&get(old), &get(new), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                difference(old, new, &format!("{path}[{index}]"), found);
            }
        }
        (old, new) if old != new => found.push(format!("  {path}: {old} -> {new}")),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Loaded, load};
    use super::*;

    fn pod(image: &str, spec: &str) -> Pod {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers: [{{name: app, image: {image}}}]\n{spec}"
        );
        match load(&text, "x").remove(0).unwrap() {
            Loaded::Pod(pod) => *pod,
            other => panic!("{other:?}"),
        }
    }

    fn update(old: &Pod, new: &Pod) -> Update {
        let mut old = old.clone();
        defaults::pod(&mut old);
        changed(&old, new)
    }

    #[test]
    fn the_same_manifest_changes_nothing() {
        let old = pod("nginx", "");
        assert_eq!(update(&old, &old), Update::Unchanged);
    }

    #[test]
    fn a_bound_pod_is_unchanged_by_a_manifest_that_names_no_node() {
        let new = pod("nginx", "");
        let mut old = new.clone();
        old.spec.node_name = Some("here".to_owned());
        assert_eq!(update(&old, &new), Update::Unchanged);
        let elsewhere = pod("nginx", "  nodeName: elsewhere");
        assert!(matches!(update(&old, &elsewhere), Update::Forbidden(_)));
    }

    #[test]
    fn an_image_may_change_without_its_pull_policy() {
        let change = Change { images: vec![ContainerName::new("app")], ..Change::default() };
        assert_eq!(update(&pod("nginx", ""), &pod("nginx:1", "")), Update::Allowed(change));
    }

    #[test]
    fn a_changed_pod_keeps_its_identity_and_counts_changes_of_its_spec() {
        let mut old = pod("nginx", "");
        defaults::pod(&mut old);
        old.metadata.uid = Some("u1".into());
        old.metadata.generation = Some(3);
        old.spec.node_name = Some("here".into());
        let mut new = pod("nginx:1", "");
        new.metadata.labels.insert("a".into(), "b".into());
        let Update::Allowed(change) = changed(&old, &new) else { panic!("it may change") };
        let Accepted { pod, object } = replaced(&old, &new, &change).unwrap();
        assert_eq!((pod.meta.uid.as_str(), pod.meta.generation), ("u1", 4));
        assert_eq!((pod.spec.containers[0].image.as_str(), &pod.meta.labels["a"]), ("nginx:1", &"b".into()));
        assert_eq!(object.spec.node_name.as_deref(), Some("here"));
        // The policy that the old image had by default stays.
        assert_eq!(object.spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
        let said = Change { metadata: true, ..Change::default() };
        assert_eq!(replaced(&old, &old, &said).unwrap().pod.meta.generation, 3);
    }

    #[test]
    fn a_changed_pod_stays_what_and_where_it_is() {
        let mut old = pod("nginx", "");
        defaults::pod(&mut old);
        old.metadata.namespace = Some("prod".into());
        let mut new = old.clone();
        (new.metadata.name, new.metadata.namespace) = (Some("other".into()), None);
        let said = Change { metadata: true, ..Change::default() };
        let Accepted { pod, object } = replaced(&old, &new, &said).unwrap();
        assert_eq!((pod.meta.name.as_str(), pod.meta.namespace.as_str()), ("web", "prod"));
        assert_eq!(object.metadata.namespace.as_deref(), Some("prod"));
    }

    #[test]
    fn labels_may_change() {
        let old = pod("nginx", "");
        let mut new = old.clone();
        new.metadata.labels.insert("a".into(), "b".into());
        assert_eq!(update(&old, &new), Update::Allowed(Change { metadata: true, ..Change::default() }));
    }

    #[test]
    fn a_deadline_may_be_lowered_but_not_raised_or_removed() {
        let (none, ten, twenty) =
            (pod("a", ""), pod("a", "  activeDeadlineSeconds: 10"), pod("a", "  activeDeadlineSeconds: 20"));
        let allowed = Update::Allowed(Change { active_deadline: true, ..Change::default() });
        assert_eq!(update(&none, &ten), allowed);
        assert_eq!(update(&twenty, &ten), allowed);
        let text = |update| match update {
            Update::Forbidden(invalid) => invalid.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            text(update(&ten, &twenty)),
            "The Pod \"web\" is invalid: spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal \
             to previous value"
        );
        assert_eq!(
            text(update(&ten, &none)),
            "The Pod \"web\" is invalid: spec.activeDeadlineSeconds: Invalid value: null: must not update from a \
             positive integer to nil value"
        );
    }

    #[test]
    fn other_fields_are_fixed_and_named() {
        match update(&pod("a", ""), &pod("a", "  restartPolicy: Never\n  hostNetwork: true")) {
            Update::Forbidden(invalid) => {
                let text = invalid.to_string();
                assert!(
                    text.starts_with(
                        "The Pod \"web\" is invalid: spec: Forbidden: pod updates may not change"
                    )
                );
                assert!(text.ends_with(
                    "\n  spec.hostNetwork: null -> true\n  spec.restartPolicy: \"Always\" -> \"Never\""
                ));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn containers_are_neither_added_nor_removed() {
        match update(&pod("a", ""), &pod("a", "  initContainers: [{name: i, image: a}]")) {
            Update::Forbidden(invalid) => assert_eq!(
                invalid.to_string(),
                "The Pod \"web\" is invalid: spec.initContainers: Forbidden: pod updates may not add or remove \
                 containers"
            ),
            other => panic!("{other:?}"),
        }
    }
}
