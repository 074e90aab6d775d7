//! Names as Kubernetes checks them (reference `pod-lifecycle.md` 1.3): each function says everything that
//! is wrong with a name, in the API server's words, or nothing.

/// Longest DNS label.
const LABEL: usize = 63;
/// Longest DNS subdomain, and longest key of a ConfigMap.
pub(super) const SUBDOMAIN: usize = 253;

const LABEL_FORMAT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
    and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
    validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_FORMAT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
    used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_FORMAT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
    start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
    regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_FORMAT: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
    validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_FORMAT: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
    '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
    '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const ENV_FORMAT: &str = "a valid environment variable name must consist only of printable ASCII characters \
    other than '='";
const KEY_FORMAT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const HEADER_FORMAT: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
    'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

/// What is wrong with a name.
pub(super) type Faults = Vec<String>;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(|byte| lower_alphanumeric(*byte)))
        && bytes.iter().all(|byte| lower_alphanumeric(*byte) || *byte == b'-')
}

fn is_qualified_part(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn faults(rules: [(bool, String); 2]) -> Faults {
    rules.into_iter().filter(|(good, _)| !good).map(|(_, text)| text).collect()
}

/// A DNS-1123 label.
pub(super) fn label(name: &str) -> Faults {
    faults([(name.len() <= LABEL, too_long(LABEL)), (is_label(name), LABEL_FORMAT.into())])
}

/// A DNS-1035 label: the name of a Service.
pub(super) fn label_1035(name: &str) -> Faults {
    let good = is_label(name) && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    faults([(name.len() <= LABEL, too_long(LABEL)), (good, LABEL_1035_FORMAT.into())])
}

/// A DNS-1123 subdomain.
pub(super) fn subdomain(name: &str) -> Faults {
    let good = name.split('.').all(is_label);
    faults([(name.len() <= SUBDOMAIN, too_long(SUBDOMAIN)), (good, SUBDOMAIN_FORMAT.into())])
}

/// The key of a label, of an annotation, or a condition: `[prefix/]name`.
pub(super) fn qualified(name: &str) -> Faults {
    let mut faults = Faults::new();
    let part = match name.split_once('/') {
        Some((_, part)) if part.contains('/') => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                QUALIFIED_FORMAT.trim_start_matches("name part ")
            )];
        }
        Some(("", part)) => {
            faults.push("prefix part must be non-empty".into());
            part
        }
        Some((prefix, part)) => {
            faults.extend(subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")));
            part
        }
        None => name,
    };
    if part.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if part.len() > LABEL {
        faults.push(format!("name part {}", too_long(LABEL)));
    }
    if !is_qualified_part(part) {
        faults.push(QUALIFIED_FORMAT.into());
    }
    faults
}

/// The value of a label.
pub(super) fn label_value(value: &str) -> Faults {
    let good = value.is_empty() || is_qualified_part(value);
    faults([(value.len() <= LABEL, too_long(LABEL)), (good, LABEL_VALUE_FORMAT.into())])
}

/// The name of an environment variable.
pub(super) fn env(name: &str) -> Faults {
    let good = name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if good { Faults::new() } else { vec![ENV_FORMAT.into()] }
}

/// The key of a ConfigMap or Secret.
pub(super) fn key(key: &str) -> Faults {
    let mut faults = Faults::new();
    if key.len() > SUBDOMAIN {
        faults.push(too_long(SUBDOMAIN));
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        faults.push(KEY_FORMAT.into());
    }
    match key {
        "." => faults.push("must not be '.'".into()),
        ".." => faults.push("must not be '..'".into()),
        _ if key.starts_with("..") => faults.push("must not start with '..'".into()),
        _ => (),
    }
    faults
}

/// The name of an HTTP header.
pub(super) fn header(name: &str) -> Faults {
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good { Faults::new() } else { vec![HEADER_FORMAT.into()] }
}

/// The name of a port.
pub(super) fn port(name: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > 15 {
        faults.push("must be no more than 15 characters".into());
    }
    if !name.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

/// A sysctl, with dots or slashes.
pub(super) fn is_sysctl(name: &str) -> bool {
    let segment = |part: &str| {
        let bytes = part.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(|byte| lower_alphanumeric(*byte)))
            && bytes.iter().all(|byte| lower_alphanumeric(*byte) || b"-_".contains(byte))
    };
    name.len() <= SUBDOMAIN && name.split(['.', '/']).all(segment)
}

/// A relative path without `..`; the fault is the API server's.
pub(super) fn descending_path(path: &str) -> Faults {
    let mut faults = Faults::new();
    if path.starts_with('/') {
        faults.push("must be a relative path".into());
    }
    if path.split('/').any(|part| part == "..") {
        faults.push("must not contain '..'".into());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_have_no_faults() {
        assert!(label("a").is_empty() && label("0-a").is_empty());
        assert!(subdomain("web.example.com").is_empty());
        assert!(qualified("example.com/My_name.x").is_empty() && qualified("app").is_empty());
        assert!(label_value("").is_empty() && label_value("v1.2_x").is_empty());
        assert!(env("my.var-1").is_empty() && key("a.b_c-D").is_empty() && port("http-1").is_empty());
        assert!(is_sysctl("net.ipv4.tcp_syncookies") && is_sysctl("net/ipv4/ip_forward"));
    }

    #[test]
    fn bad_names_have_faults() {
        for name in ["", "A", "-a", "a-", "a.b", "a_b", "ä"] {
            assert_eq!(label(name), [LABEL_FORMAT], "{name}");
        }
        assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(label_1035("1a"), [LABEL_1035_FORMAT]);
        assert_eq!(subdomain("a..b"), [SUBDOMAIN_FORMAT]);
        assert_eq!(qualified("/a"), ["prefix part must be non-empty"]);
        assert!(!qualified("a/b/c").is_empty() && !qualified("a/").is_empty());
        assert_eq!(env("A=B"), [ENV_FORMAT]);
        assert_eq!(key(".."), ["must not be '..'"]);
        assert_eq!(key("..a"), ["must not start with '..'"]);
        assert_eq!(port("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port("a--b"), ["must not contain consecutive hyphens"]);
        assert!(!is_sysctl("net..x") && !is_sysctl(""));
    }
}
