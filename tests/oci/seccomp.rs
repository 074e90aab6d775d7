//! Seccomp profiles that ask an agent (oci-runtime.md 4.10).

use serde_json::{Value, json};

use crate::bundle::is_peer;
use crate::console::{listen, receive};

fn notified(no_new_privileges: bool, change: impl FnOnce(&mut Value)) {
    let mut bundle = bundle!();
    let (agent, path) = listen(&bundle, "agent.sock");
    bundle.configure(|config| {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "about",
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
        });
        change(config);
    });
    let joins = bundle.read("config.json").contains("/ns/pid");
    bundle.up();
    let (of_init, _listener) = receive(&agent);
    let of_init: Value = serde_json::from_str(&of_init).unwrap();
    assert_eq!((&of_init["fds"], &of_init["metadata"]), (&json!(["seccompFd"]), &json!("about")));
    let pid = bundle.state()["pid"].clone();
    assert_eq!(of_init["state"]["id"], json!(bundle.id));
    if no_new_privileges || !joins || is_peer() {
        // Else the process that made the init installed it.
        assert_eq!(of_init["pid"], pid);
    }
    let file = bundle.path("pid").display().to_string();
    bundle.detached(&["exec", "-d", "--pid-file", &file, &bundle.id, "/bin/sleep", "999"]).ok();
    let (of_exec, _listener) = receive(&agent);
    let of_exec: Value = serde_json::from_str(&of_exec).unwrap();
    assert_eq!((&of_exec["fds"], &of_exec["metadata"]), (&json!(["seccompFd"]), &json!("about")));
    if no_new_privileges || is_peer() {
        // Else a process that has ended by then installed it, unseen by the container.
        assert_eq!(of_exec["pid"].to_string(), bundle.read("pid"));
    }
    assert_eq!(of_exec["state"]["id"], json!(bundle.id));
    if !is_peer() {
        // runc 1.1 tells of the exec'd process itself.
        assert_eq!((&of_exec["state"]["pid"], &of_exec["state"]["status"]), (&pid, &json!("running")));
    }
}

fn may_trace(config: &mut Value) {
    for set in ["bounding", "permitted", "effective"] {
        let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.push(json!("CAP_SYS_PTRACE"));
    }
}

#[test]
fn the_agent_gets_the_listener_of_init_and_exec() {
    notified(true, |_| {});
}

#[test]
fn the_agent_gets_it_where_the_filter_comes_before_capabilities_are_dropped() {
    notified(false, |_| {});
}

#[test]
fn the_agent_gets_it_of_an_init_that_joins_a_pid_namespace() {
    for no_new_privileges in [true, false] {
        let first = bundle!();
        first.up();
        let path = format!("/proc/{}/ns/pid", first.state()["pid"]);
        notified(no_new_privileges, |config| {
            config["linux"]["namespaces"][0] = json!({"type": "pid", "path": path});
        });
    }
}

#[test]
fn the_agent_gets_it_from_a_process_that_a_tracer_must_not_see() {
    notified(true, may_trace);
    notified(false, may_trace);
}

#[test]
fn the_call_that_hands_the_listener_over_cannot_wait_for_it() {
    let mut bundle = bundle!();
    if is_peer() {
        return println!("left out: runc hands it over in another way");
    }
    let (_agent, path) = listen(&bundle, "agent.sock");
    bundle.configure(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("cannot be used for sendmsg"), "{told}");
}

#[test]
fn an_agent_that_is_not_there_is_told() {
    let mut bundle = bundle!();
    bundle.configure(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/nonexistent/agent.sock",
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("failed to connect with seccomp agent"), "{told}");
}

/// A profile that denies these calls, in force before hull has said its last.
fn deny(bundle: &mut crate::bundle::Bundle, calls: &[&str], action: &str) {
    bundle.configure(|config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": calls, "action": action}],
        });
    });
}

#[test]
fn a_creation_ends_when_the_filter_kills_who_makes_the_init() {
    let first = bundle!();
    first.up();
    let path = format!("/proc/{}/ns/pid", first.state()["pid"]);
    for call in ["sendmsg", "write"] {
        let mut bundle = bundle!();
        deny(&mut bundle, &[call], "SCMP_ACT_KILL_PROCESS");
        bundle.configure(|config| config["linux"]["namespaces"][0] = json!({"type": "pid", "path": path}));
        // It need not fail, but it comes back.
        bundle.detached(&["create", &bundle.id]);
        bundle.delete();
        bundle.assert_gone();
    }
    let listed = first.exec(&["ls", "/proc"]).ok();
    let processes = listed.split_whitespace().filter(|name| name.parse::<u32>().is_ok()).count();
    assert_eq!(processes, 2, "{listed}");
}

#[test]
fn a_filter_that_forbids_messages_does_not_keep_a_container_from_being_made() {
    let first = bundle!();
    first.up();
    let path = format!("/proc/{}/ns/pid", first.state()["pid"]);
    for joins in [false, true] {
        let mut bundle = bundle!();
        let calls = ["sendmsg", "sendto", "recvfrom", "recvmsg", "socket", "socketpair"];
        deny(&mut bundle, &calls, "SCMP_ACT_ERRNO");
        if joins {
            bundle
                .configure(|config| config["linux"]["namespaces"][0] = json!({"type": "pid", "path": path}));
        }
        bundle.up();
        assert_eq!(bundle.status(), "running");
        assert_eq!(bundle.exec(&["echo", "in"]).ok(), "in\n");
        bundle.delete();
        bundle.assert_gone();
    }
}

#[test]
fn an_init_that_dies_of_its_filter_is_not_told_as_created() {
    let mut bundle = bundle!();
    deny(&mut bundle, &["read"], "SCMP_ACT_ERRNO");
    bundle.detached(&["create", &bundle.id]).fails(1);
    if !is_peer() {
        // runc 1.1 leaves a group.
        bundle.assert_gone();
    }
}
