//! Quality of service, from requests and limits (reference 8.7).

use crate::manifest::pod::{PodSpec, Resources};

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn qos_class(spec: &PodSpec) -> &'static str {
    let set = |value: Option<u64>| value.filter(|value| *value > 0);
    let pairs = |resources: &Resources| {
        [
            (set(resources.cpu_request), set(resources.cpu_limit)),
            (set(resources.memory_request), set(resources.memory_limit)),
        ]
    };
    let mut all = spec.all_containers().flat_map(|container| pairs(&container.resources));
    let mut again = spec.all_containers().flat_map(|container| pairs(&container.resources));
    if all.all(|(request, limit)| request.is_none() && limit.is_none()) {
        "BestEffort"
    } else if again.all(|(request, limit)| limit.is_some() && request.or(limit) == limit) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
