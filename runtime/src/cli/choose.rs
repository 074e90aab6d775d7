//! Which container of a pod is meant (reference 10.5).

use serde_json::Value;

use super::context::Context;
use super::print::field;
use super::{Error, Result};

/// The annotation that names the container to take when none is named.
const DEFAULT: &str = "/metadata/annotations/kubectl.kubernetes.io~1default-container";

/// The container's name: the one that was asked for, or the default one.
pub(super) fn container(context: &Context, pod: &Value, asked: Option<&str>, quiet: bool) -> Result<String> {
    let (chosen, note) = decide(pod, asked)?;
    if let Some(note) = note.filter(|_| !quiet) {
        context.note(&note);
    }
    Ok(chosen)
}

fn decide(pod: &Value, asked: Option<&str>) -> Result<(String, Option<String>)> {
    let all = all(pod);
    if let Some(asked) = asked {
        if all.iter().any(|(name, _)| name == asked) {
            return Ok((asked.to_owned(), None));
        }
        let name = field::text(pod, "/metadata/name");
        return Err(Error::Usage(format!(
            "container {asked} is not valid for pod {name} out of: {}",
            listed(&all)
        )));
    }
    let default = field::text(pod, DEFAULT);
    if all.iter().any(|(name, _)| name == default) {
        return Ok((default.to_owned(), None));
    }
    let Some((first, _)) = all.first() else {
        return Err(Error::Usage("the pod has no containers".to_owned()));
    };
    let note = (all.len() > 1).then(|| format!("Defaulted container {first:?} out of: {}", listed(&all)));
    Ok((first.clone(), note))
}

/// Main containers, ephemeral ones, init containers, each with what is said about it.
fn all(pod: &Value) -> Vec<(String, &'static str)> {
    let lists = [
        ("/spec/containers", ""),
        ("/spec/ephemeralContainers", " (ephem)"),
        ("/spec/initContainers", " (init)"),
    ];
    let names = |(list, suffix)| {
        field::list(pod, list)
            .iter()
            .map(move |container| (field::text(container, "/name").to_owned(), suffix))
    };
    lists.into_iter().flat_map(names).collect()
}

fn listed(all: &[(String, &str)]) -> String {
    all.iter().map(|(name, suffix)| format!("{name}{suffix}")).collect::<Vec<_>>().join(", ")
}

/// All containers in the order in which their logs are printed.
pub(super) fn in_log_order(pod: &Value) -> Vec<String> {
    let lists = ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"];
    let names =
        |list| field::list(pod, list).iter().map(|container| field::text(container, "/name").to_owned());
    lists.into_iter().flat_map(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_main_container_is_the_default() {
        let mut pod = json!({
            "metadata": {"name": "web"},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]},
        });
        let note = "Defaulted container \"a\" out of: a, b, i (init)".to_owned();
        assert_eq!(decide(&pod, None).unwrap(), ("a".to_owned(), Some(note)));
        assert_eq!(decide(&pod, Some("i")).unwrap(), ("i".to_owned(), None));
        assert_eq!(
            decide(&pod, Some("x")).unwrap_err().text(),
            "error: container x is not valid for pod web out of: a, b, i (init)"
        );
        pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "b"});
        assert_eq!(decide(&pod, None).unwrap(), ("b".to_owned(), None));
        assert_eq!(in_log_order(&pod), ["i", "a", "b"]);
    }
}
