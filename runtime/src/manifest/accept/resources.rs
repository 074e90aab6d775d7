//! Requests, limits and amounts.

use std::collections::BTreeMap;

use crate::manifest::quantity::Quantity;
use crate::manifest::{pod, raw};

use super::{At, Errors, NEGATIVE};

/// Reads the resources of one container, after defaulting.
pub(super) fn resources(
    raw: Option<&raw::ResourceRequirements>,
    at: &At,
    errors: &mut Errors,
) -> pod::Resources {
    let Some(raw) = raw else {
        return pod::Resources::default();
    };
    if !raw.claims.is_empty() {
        errors.not_supported(&at.field("claims"), "no driver is there that could allocate devices");
    }
    let limits = amounts(&raw.limits, &at.field("limits"), errors);
    // A request that was copied from its limit would only repeat the limit's errors.
    let own: BTreeMap<_, _> =
        raw.requests.iter().filter(|(name, amount)| raw.limits.get(*name) != Some(amount)).collect();
    let at_requests = at.field("requests");
    let requests = amounts(own, &at_requests, errors);
    for (name, request) in &requests {
        if let Some(limit) = limits.get(name).filter(|limit| request > limit) {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&at_requests, &request.to_string(), detail);
        }
    }
    if limits.contains_key("ephemeral-storage") {
        errors.not_supported(
            &at.field("limits").key("ephemeral-storage"),
            "disk space is not limited; leave it out",
        );
    }
    let limit = |name| limits.get(name).copied();
    let request = |name| requests.get(name).copied().or_else(|| limit(name));
    pod::Resources {
        cpu_request: request("cpu").map(milli),
        cpu_limit: limit("cpu").map(milli),
        memory_request: request("memory").map(bytes),
        memory_limit: limit("memory").map(bytes),
        ephemeral_request: request("ephemeral-storage").map(bytes),
        ephemeral_limit: limit("ephemeral-storage").map(bytes),
    }
}

fn milli(quantity: Quantity) -> u64 {
    u64::try_from(quantity.milli().max(0)).unwrap_or(u64::MAX)
}

/// A quantity as whole bytes, rounded up.
pub(super) fn bytes(quantity: Quantity) -> u64 {
    u64::try_from(quantity.units().max(0)).unwrap_or(u64::MAX)
}

fn amounts<'a>(
    raw: impl IntoIterator<Item = (&'a String, &'a raw::Quantity)>,
    at: &At,
    errors: &mut Errors,
) -> BTreeMap<&'a str, Quantity> {
    let mut amounts = BTreeMap::new();
    for (name, text) in raw {
        let at = at.key(name);
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                if let Some(quantity) = amount(text, &at, errors) {
                    amounts.insert(name.as_str(), quantity);
                }
            }
            name if name.contains('/') || name.starts_with("hugepages-") => {
                errors.not_supported(&at, "only cpu, memory and ephemeral-storage can be asked for");
            }
            name => errors.invalid(&at, name, "must be a standard resource for containers"),
        }
    }
    amounts
}

/// Reads an amount that may not be negative.
pub(super) fn amount(text: &raw::Quantity, at: &At, errors: &mut Errors) -> Option<Quantity> {
    match Quantity::parse(&text.0) {
        Ok(quantity) if quantity.milli() < 0 => errors.invalid(at, &text.0, NEGATIVE),
        Ok(quantity) => return Some(quantity),
        Err(error) => errors.invalid(at, &text.0, error),
    }
    None
}
