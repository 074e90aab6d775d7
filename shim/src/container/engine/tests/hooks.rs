//! Hooks: when they run, with what, and what their failures do.

use serde_json::{Value, json};

use super::Bundle;

fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 15})
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let Some(bundle) = Bundle::new("busybox cat /order") else { return };
    let order = bundle.directory.join("rootfs/order").display().to_string();
    let line = |name: &str| format!("read -r state; echo {name} \"$state\" >> {order}");
    let container = "read -r state; echo startContainer $PATH \"$state\" >> /order";
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({
            "prestart": [hook(&line("prestart"))],
            "createRuntime": [hook(&line("createRuntime"))],
            "createContainer": [hook(&line("createContainer"))],
            "startContainer": [hook(container)],
        });
    });
    let output = bundle.run().unwrap().output;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 4, "{output}");
    for (line, name) in lines.iter().zip(["prestart", "createRuntime", "createContainer", "startContainer"]) {
        assert!(line.starts_with(name), "{line}");
        let state: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        let status = if name == "startContainer" { "created" } else { "creating" };
        assert_eq!((&state["id"], &state["status"]), (&json!("web"), &json!(status)));
        assert!(state["pid"].as_i64().unwrap() > 1);
    }
    assert!(lines[3].starts_with("startContainer /bin {"), "{}", lines[3]);
}

#[test]
fn a_hook_that_fails_ends_the_making_in_runcs_words() {
    for name in ["prestart", "createRuntime", "createContainer"] {
        let Some(bundle) = Bundle::new("true") else { return };
        let failing = "echo out; echo err >&2; exit 3";
        let bundle = bundle.with(|config| config["hooks"][name] = json!([hook("true"), hook(failing)]));
        let error = bundle.run().unwrap_err();
        assert_eq!(
            error,
            format!("error running {name} hook #1: exit status 3, stdout: out\n, stderr: err\n")
        );
    }
    let Some(bundle) = Bundle::new("true") else { return };
    let bundle = bundle.with(|config| config["hooks"]["startContainer"] = json!([hook("exit 5")]));
    let error = bundle.run().unwrap_err();
    assert!(error.ends_with("error running startContainer hook #0: exit status 5"), "{error}");
}

#[test]
fn what_an_image_has_for_a_start_hook_gets_the_containers_rights() {
    for no_new_privileges in [true, false] {
        let Some(bundle) = Bundle::new("busybox cat /tmp/rights") else { return };
        let tmp = bundle.directory.join("rootfs/tmp");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(tmp, open).unwrap();
        let bundle = bundle.with(|config| {
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            // As common profiles do; by it the hook has to be made, and it is in force in it.
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                    {"names": ["acct"], "action": "SCMP_ACT_ERRNO"},
                ],
            });
            let script = "busybox grep -E '^(CapEff|Seccomp|Uid):' /proc/self/status > /tmp/rights";
            config["hooks"] = json!({"startContainer": [hook(script)]});
        });
        let output = bundle.run().unwrap().output;
        assert!(output.contains("Uid:\t1000\t1000\t1000\t1000"), "{output}");
        assert!(output.contains("CapEff:\t0000000000000000") && output.contains("Seccomp:\t2"), "{output}");
    }
}
