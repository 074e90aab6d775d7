//! `features`: what this runtime understands; runtime-spec `features.md`. Only the annotation [`SLOWER`]
//! depends on the host.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::SPEC_VERSION;
use super::error::Error;
use crate::container::capability;
use crate::container::engine::files::option_names;
use crate::container::engine::kernel::slower_ways;
use crate::harmless;

/// What the kernel lacks, so that hull goes slower ways; not there where it lacks nothing.
const SLOWER: &str = "org.hull.kernel.lacks";

/// Prints it.
pub(super) fn print() -> Result<(), Error> {
    let mut text = String::new();
    indent(&features(), 0, &mut text);
    text.push('\n');
    super::container::print(&text)
}

fn features() -> Value {
    let mut options: Vec<String> = option_names().collect();
    options.sort_unstable();
    options.dedup();
    let capabilities: Vec<String> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    let mut features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": seccomp(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true}
        },
        "annotations": {
            "org.opencontainers.runc.version": super::VERSION,
            "org.opencontainers.runc.checkpoint.enabled": "true"
        },
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.systemd.property.", "org.criu.config"]
    });
    let slower = slower_ways();
    if !slower.is_empty() {
        features["annotations"][SLOWER] = json!(slower.join(", "));
    }
    features
}

fn seccomp() -> Value {
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE"
        ],
        "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "knownFlags": [
            "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ],
        "supportedFlags": [
            "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ]
    })
}

/// JSON with four blanks per level, as runc prints it; serde_json's own has two.
fn indent(value: &Value, level: usize, out: &mut String) {
    let blanks = |level: usize| " ".repeat(level * 4);
    // Writing to a String cannot fail.
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                harmless(write!(out, "{comma}\n{}{}: ", blanks(level + 1), Value::from(key.as_str())));
                indent(value, level + 1, out);
            }
            harmless(write!(out, "\n{}}}", blanks(level)));
        }
        Value::Array(all) if !all.is_empty() => {
            out.push('[');
            for (at, value) in all.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                harmless(write!(out, "{comma}\n{}", blanks(level + 1)));
                indent(value, level + 1, out);
            }
            harmless(write!(out, "\n{}]", blanks(level)));
        }
        plain => harmless(write!(out, "{plain}")),
    }
}

/// The same layout for another command.
pub(super) fn four_blanks(value: &Value) -> String {
    let mut text = String::new();
    indent(value, 0, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_the_same_json() {
        let text = four_blanks(&features());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), features());
        assert!(text.contains("\n    \"annotations\""), "{text}");
    }

    #[test]
    fn callers_find_what_they_look_for() {
        let features = features();
        let options = features["mountOptions"].as_array().unwrap();
        assert!(options.contains(&json!("rro")) && options.contains(&json!("tmpcopyup")));
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], json!(true));
        assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
    }
}
