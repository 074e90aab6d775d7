//! What a path of the API names.

use super::query;
use super::status::Status;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// `/version`
    Version,
    /// `/api`, `/apis`, `/api/v1`: which resources there are.
    Discovery(Discovery),
    /// The list of pods, of one namespace or of all.
    Pods {
        /// Which.
        namespace: Option<String>,
    },
    /// The list of events, of one namespace or of all.
    Events {
        /// Which.
        namespace: Option<String>,
    },
    /// The pod.
    Pod(PodName),
    /// Its logs.
    Log(PodName),
    /// A process in one of its containers.
    Exec(PodName),
    /// The streams of one of its containers.
    Attach(PodName),
    /// Connections to its ports.
    PortForward(PodName),
    /// A Service, ConfigMap or Secret.
    Object {
        /// `services`, `configmaps`, `secrets`
        kind: String,
    },
}

/// A pod's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Documents that tell clients which resources there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// `/api`
    Versions,
    /// `/apis`
    Groups,
    /// `/api/v1`
    Resources,
}

impl Route {
    /// Reads a path.
    ///
    /// # Errors
    /// It names nothing.
    pub fn parse(path: &str) -> Result<Self, Status> {
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(query::decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz"] => Ok(Self::Health),
            ["version"] => Ok(Self::Version),
            ["api"] => Ok(Self::Discovery(Discovery::Versions)),
            ["apis"] => Ok(Self::Discovery(Discovery::Groups)),
            ["api", "v1", rest @ ..] => Self::core(rest).ok_or_else(Status::no_such_path),
            _ => Err(Status::no_such_path()),
        }
    }

    fn core(parts: &[&str]) -> Option<Self> {
        let namespaced = |namespace: &str| Some(namespace.to_owned());
        Some(match parts {
            [] => Self::Discovery(Discovery::Resources),
            ["pods"] => Self::Pods { namespace: None },
            ["events"] => Self::Events { namespace: None },
            ["namespaces", namespace, "pods"] => Self::Pods { namespace: namespaced(namespace) },
            ["namespaces", namespace, "events"] => Self::Events { namespace: namespaced(namespace) },
            ["namespaces", namespace, "pods", name, rest @ ..] => {
                let pod = PodName { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
                match rest {
                    [] | ["status"] => Self::Pod(pod),
                    ["log"] => Self::Log(pod),
                    ["exec"] => Self::Exec(pod),
                    ["attach"] => Self::Attach(pod),
                    ["portforward"] => Self::PortForward(pod),
                    _ => return None,
                }
            }
            ["namespaces", _, kind @ ("services" | "configmaps" | "secrets"), _] => {
                Self::Object { kind: (*kind).to_owned() }
            }
            _ => return None,
        })
    }

    /// Namespace and name of the pod that the path names, if it names one.
    #[must_use]
    pub fn pod(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pod(pod)
            | Self::Log(pod)
            | Self::Exec(pod)
            | Self::Attach(pod)
            | Self::PortForward(pod) => Some((&pod.namespace, &pod.name)),
            Self::Health
            | Self::Version
            | Self::Discovery(_)
            | Self::Pods { .. }
            | Self::Events { .. }
            | Self::Object { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let web = || PodName { namespace: "default".into(), name: "web".into() };
        for (path, route) in [
            ("/healthz", Route::Health),
            ("/api/v1/pods", Route::Pods { namespace: None }),
            ("/api/v1/namespaces/default/pods", Route::Pods { namespace: Some("default".into()) }),
            ("/api/v1/namespaces/default/pods/web", Route::Pod(web())),
            ("/api/v1/namespaces/default/pods/web/log", Route::Log(web())),
            ("/api/v1/namespaces/default/pods/web/portforward", Route::PortForward(web())),
            ("/api/v1/namespaces/default/pods/web/exec", Route::Exec(web())),
            ("/api/v1/namespaces/default/events/", Route::Events { namespace: Some("default".into()) }),
            ("/api/v1/namespaces/default/services/db", Route::Object { kind: "services".into() }),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route);
        }
        for path in ["/", "/api/v2", "/api/v1/nodes", "/api/v1/namespaces/default/pods/web/x"] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}
