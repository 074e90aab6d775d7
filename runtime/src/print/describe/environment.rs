//! The environment of a described container.

use serde_json::Value;

use super::super::field;
use super::Page;

/// Both blocks: what comes from whole objects, and single variables.
pub(super) fn all(page: &mut Page, pod: &Value, container: &Value) {
    let sources = field::list(container, "/envFrom");
    if !sources.is_empty() {
        page.line(2, "Environment Variables from:");
    }
    for source in sources {
        page.line(3, &from_object(source));
    }
    let variables = field::list(container, "/env");
    page.line(2, if variables.is_empty() { "Environment:\t<none>" } else { "Environment:" });
    for variable in variables {
        let name = field::text(variable, "/name");
        match field::some(variable, "/valueFrom") {
            Some(source) => page.entry(3, name, &from_field(source, pod, container)),
            None => literal(page, name, field::text(variable, "/value")),
        }
    }
}

fn from_object(source: &Value) -> String {
    let (kind, reference) = match field::some(source, "/configMapRef") {
        Some(reference) => ("ConfigMap", reference),
        None => ("Secret", &source["secretRef"]),
    };
    let prefix = match field::text(source, "/prefix") {
        "" => String::new(),
        prefix => format!(" with prefix '{prefix}'"),
    };
    let optional = field::is_true(reference, "/optional");
    format!("{}\t{kind}{prefix}\tOptional: {optional}", field::text(reference, "/name"))
}

fn literal(page: &mut Page, name: &str, value: &str) {
    for (index, line) in value.split('\n').enumerate() {
        match index {
            0 => page.entry(3, name, line),
            _ => page.line(3, &format!("\t{line}")),
        }
    }
}

fn from_field(source: &Value, pod: &Value, container: &Value) -> String {
    if let Some(reference) = field::some(source, "/fieldRef") {
        let path = field::text(reference, "/fieldPath");
        let version = match field::text(reference, "/apiVersion") {
            "" => "v1",
            version => version,
        };
        return format!("{} ({version}:{path})", metadata(pod, path));
    }
    if let Some(reference) = field::some(source, "/resourceFieldRef") {
        return resource(reference, container);
    }
    let (what, reference) = match field::some(source, "/secretKeyRef") {
        Some(reference) => ("in secret", reference),
        None => ("of config map", &source["configMapKeyRef"]),
    };
    let (key, name) = (field::text(reference, "/key"), field::text(reference, "/name"));
    let optional = field::is_true(reference, "/optional");
    format!("<set to the key '{key}' {what} '{name}'>\tOptional: {optional}")
}

/// The value of a field, as far as kubectl knows it on its side; blank otherwise.
fn metadata<'a>(pod: &'a Value, path: &str) -> &'a str {
    match path {
        "metadata.name" => field::text(pod, "/metadata/name"),
        "metadata.namespace" => field::text(pod, "/metadata/namespace"),
        _ => "",
    }
}

fn resource(reference: &Value, container: &Value) -> String {
    let name = field::text(reference, "/resource");
    let (list, resource) = name.split_once('.').unwrap_or((name, ""));
    let quantity = container.pointer(&format!("/resources/{list}/{resource}")).map(field::scalar);
    let divisor =
        reference.get("divisor").map(field::scalar).and_then(|text| milli(&text)).filter(|value| *value > 0);
    let value = match quantity.as_deref().and_then(milli) {
        Some(milli) => milli.div_ceil(divisor.unwrap_or(1000)).to_string(),
        None => "0".to_owned(),
    };
    if value == "0" && matches!(name, "limits.cpu" | "limits.memory") {
        return format!("node allocatable ({name})");
    }
    format!("{value} ({name})")
}

/// A quantity in thousandths.
fn milli(quantity: &str) -> Option<u128> {
    let digits = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(digits);
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000_u128.pow(2),
        "G" => 1000 * 1000_u128.pow(3),
        "T" => 1000 * 1000_u128.pow(4),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.get(..fraction.len().min(9))?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scaled = whole.checked_mul(scale)?.checked_add(part)?;
    Some(scaled.checked_mul(factor)?.div_ceil(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths() {
        assert_eq!(milli("250m"), Some(250));
        assert_eq!(milli("1.5"), Some(1500));
        assert_eq!(milli("2Ki"), Some(2_048_000));
        assert_eq!(milli("1x"), None);
    }
}
