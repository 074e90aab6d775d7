//! Naming objects on the command line: `pod web`, `pods`, `pod/web svc/db`, `pods,svc`.

use super::{Error, Result};

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Pod
    Pod,
    /// Service
    Service,
    /// `ConfigMap`
    ConfigMap,
    /// Secret
    Secret,
    /// Event
    Event,
}

impl Kind {
    /// Reads any of the names that kubectl takes.
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "pod" | "pods" | "po" => Ok(Self::Pod),
            "service" | "services" | "svc" => Ok(Self::Service),
            "configmap" | "configmaps" | "cm" => Ok(Self::ConfigMap),
            "secret" | "secrets" => Ok(Self::Secret),
            "event" | "events" | "ev" => Ok(Self::Event),
            _ => Err(Error::Hinted {
                message: format!("the server doesn't have a resource type {text:?}"),
                hint: "there are pods, services, configmaps, secrets and events".to_owned(),
            }),
        }
    }

    /// As in paths and in `pods "x" not found`.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Service => "services",
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::Event => "events",
        }
    }

    /// As in `pod/web`.
    #[must_use]
    pub fn singular(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
            Self::Event => "event",
        }
    }

    /// As in manifests.
    #[must_use]
    pub fn object(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Event => "Event",
        }
    }
}

/// What the arguments of a verb name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// None means all of the kind.
    pub(super) name: Option<String>,
}

/// Reads `TYPE[,TYPE] [NAME…]` or `TYPE/NAME…`.
pub(super) fn targets(words: &[String]) -> Result<Vec<Target>> {
    let Some((first, names)) = words.split_first() else {
        return Err(Error::Hinted {
            message: "you must specify the type of object".to_owned(),
            hint: "for example: pods, pod web, pod/web, svc".to_owned(),
        });
    };
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| slashed(word)).collect();
    }
    let kinds = first.split(',').map(Kind::parse).collect::<Result<Vec<_>>>()?;
    let of_kind = |kind| -> Vec<Target> {
        match names {
            [] => vec![Target { kind, name: None }],
            names => names.iter().map(|name| Target { kind, name: Some(name.clone()) }).collect(),
        }
    };
    Ok(kinds.into_iter().flat_map(of_kind).collect())
}

fn slashed(word: &str) -> Result<Target> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            Ok(Target { kind: Kind::parse(kind)?, name: Some(name.to_owned()) })
        }
        Some(_) => Err(Error::Usage(format!(
            "arguments in resource/name form must have a single resource and name, not {word:?}"
        ))),
        None => Err(Error::Usage(format!(
            "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form ({word:?})"
        ))),
    }
}

/// The name in `web` or `pod/web`.
pub(super) fn pod_name(word: &str) -> Result<String> {
    match word.split_once('/') {
        None => Ok(word.to_owned()),
        Some((kind, name)) if Kind::parse(kind)? == Kind::Pod => Ok(name.to_owned()),
        Some((kind, _)) => Err(Error::Usage(format!("{kind} is not a pod"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Option<Vec<(&'static str, Option<String>)>> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let targets = targets(&words).ok()?;
        Some(targets.into_iter().map(|target| (target.kind.singular(), target.name)).collect())
    }

    #[test]
    fn objects_are_named_as_for_kubectl() {
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(read("po"), Some(vec![("pod", None)]));
        assert_eq!(read("pods a b"), Some(vec![("pod", named("a")), ("pod", named("b"))]));
        assert_eq!(read("pod/a svc/b"), Some(vec![("pod", named("a")), ("service", named("b"))]));
        assert_eq!(read("pods,svc"), Some(vec![("pod", None), ("service", None)]));
        for wrong in ["nodes", "pod/a b", "pod/", "pod/a/b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
