//! The seccomp profile that podman gives (docker's is nearly the same), as a runtime gets it: resolved for a container
//! with the default capabilities on x86_64.

use serde_json::{Value, json};

/// From Debian's golang-github-containers-common.
const FILE: &str = "/usr/share/containers/seccomp.json";
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Reads and resolves it: rules of other architectures and for further capabilities are left out.
pub(crate) fn resolved() -> Result<Value, String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    let profile: Value = serde_json::from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
    let rules = profile["syscalls"].as_array().ok_or_else(|| format!("{FILE}: no syscalls"))?;
    let rules: Vec<Value> = rules.iter().filter(|rule| applies(rule)).map(plain).collect();
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet").unwrap_or(&json!(38)),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }))
}

fn applies(rule: &Value) -> bool {
    let listed = |part: &str, field: &str, has: &dyn Fn(&str) -> bool| {
        let names = rule[part][field].as_array().map(Vec::as_slice).unwrap_or_default();
        (!names.is_empty(), names.iter().filter_map(Value::as_str).any(has))
    };
    let capability = |name: &str| CAPABILITIES.contains(&name);
    let architecture = |name: &str| name == "amd64" || name == "x86_64";
    let included = |(asked, has): (bool, bool)| !asked || has;
    included(listed("includes", "caps", &capability))
        && included(listed("includes", "arches", &architecture))
        && !listed("excludes", "caps", &capability).1
        && !listed("excludes", "arches", &architecture).1
}

/// The fields of runtime-spec.
fn plain(rule: &Value) -> Value {
    let mut plain = json!({"names": rule["names"], "action": rule["action"]});
    for (name, is_empty) in [
        ("args", rule["args"].as_array().is_none_or(Vec::is_empty)),
        ("errnoRet", rule["errnoRet"].is_null()),
    ] {
        if !is_empty {
            plain[name] = rule[name].clone();
        }
    }
    plain
}

/// A filter as a compiler makes it of such a profile, for the floor: a search tree over system call numbers, here one
/// that allows all of them.
pub(crate) fn tree() -> Vec<u8> {
    const LOAD_NUMBER: (u16, u8, u8, u32) = (0x20, 0, 0, 0);
    [vec![LOAD_NUMBER], branch(0, LEAVES)].concat().into_iter().flat_map(bytes).collect()
}

/// Leaves of the tree, which has 128 instructions then.
const LEAVES: u32 = 64;
/// What one leaf decides of.
const NUMBERS: u32 = 8;

fn branch(from: u32, leaves: u32) -> Vec<(u16, u8, u8, u32)> {
    const RETURN_ALLOW: (u16, u8, u8, u32) = (0x06, 0, 0, 0x7fff_0000);
    if leaves == 1 {
        return vec![RETURN_ALLOW];
    }
    let (half, middle) = (leaves / 2, from + leaves / 2);
    let (low, high) = (branch(from, half), branch(middle, half));
    let jump_if_at_least = (0x35, low.len() as u8, 0, middle * NUMBERS);
    [vec![jump_if_at_least], low, high].concat()
}

fn bytes((code, yes, no, value): (u16, u8, u8, u32)) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), value.to_ne_bytes());
    [a, b, yes, no, c, d, e, f]
}
