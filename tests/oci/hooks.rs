//! Hooks (oci-runtime.md 3).

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that appends its kind and the status it reads to a file of the bundle.
fn recorder(bundle: &Bundle, kind: &str) -> Value {
    // Inside, the bundle is not there any more: the file is below the root.
    let file = if kind == "startContainer" {
        "/tmp/hooks".to_owned()
    } else {
        bundle.path("rootfs/tmp/hooks").display().to_string()
    };
    let script = format!(
        "read -r state; status=${{state#*'\"status\":\"'}}; echo {kind} ${{status%%'\"'*}} >> {file}"
    );
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

#[test]
fn every_hook_runs_in_its_order_and_knows_the_state() {
    let mut bundle = bundle!();
    let hooks: serde_json::Map<String, Value> =
        KINDS.iter().map(|kind| ((*kind).to_owned(), recorder(&bundle, kind))).collect();
    bundle.configure(|config| config["hooks"] = hooks.into()).create();
    let seen = || bundle.read("rootfs/tmp/hooks");
    let create = "prestart creating\ncreateRuntime creating\ncreateContainer creating\n";
    if is_peer() {
        // runc up to 1.5.0 ran poststart here; runtime-spec wants it after the program runs.
        assert!(seen().starts_with(create), "{}", seen());
    } else {
        assert_eq!(seen(), create);
    }
    bundle.oci(&["start", &bundle.id]).ok();
    let start = format!("{create}startContainer created\npoststart running\n");
    if is_peer() {
        assert!(seen().contains("startContainer") && seen().contains("poststart"));
    } else {
        assert_eq!(seen(), start);
    }
    bundle.oci(&["delete", "--force", &bundle.id]).ok();
    assert!(seen().ends_with("poststop stopped\n"), "{}", seen());
}

#[test]
fn the_pid_that_hooks_are_told_is_the_inits_also_where_it_joins_a_pid_namespace() {
    let first = bundle!();
    first.up();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let mut bundle = Bundle::new().unwrap();
        let inside = kind == "startContainer";
        let file =
            if inside { "/tmp/pid".to_owned() } else { bundle.path("rootfs/tmp/pid").display().to_string() };
        let script = format!("read -r state; pid=${{state#*'\"pid\":'}}; echo ${{pid%%,*}} > {file}");
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
        bundle.configure(|config| {
            config["hooks"] = json!({kind: hook});
            let path = format!("/proc/{}/ns/pid", first.state()["pid"]);
            config["linux"]["namespaces"][0] = json!({"type": "pid", "path": path});
        });
        bundle.up();
        let told = bundle.read("rootfs/tmp/pid");
        let pid = told.trim().trim_end_matches('}');
        // runc tells the hooks that its init runs the pid that it has inside.
        let is_inside = is_peer() && (inside || kind == "createContainer");
        let own = bundle.state()["pid"].to_string();
        assert!(is_inside || pid == own, "{kind}: {told}");
    }
}

#[test]
fn a_start_that_is_killed_while_hooks_run_leaves_a_container_that_is_running() {
    if is_peer() {
        // runc's start has come back by then.
        return;
    }
    let mut bundle = bundle!();
    let script = "echo >/work/hook; until test -e /work/go; do sleep 0.1; done";
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    bundle.configure(|config| config["hooks"] = json!({"startContainer": hook})).create();
    let mut start = bundle.command(&["start", &bundle.id]).spawn().unwrap();
    bundle.shows("rootfs/work/hook", "\n");
    start.kill().unwrap();
    start.wait().unwrap();
    assert_eq!(bundle.status(), "created");
    std::fs::write(bundle.path("rootfs/work/go"), "").unwrap();
    bundle.becomes("running");
    let told = bundle.oci(&["start", &bundle.id]).fails(1);
    assert!(told.contains("cannot start an already running container"), "{told}");
    assert!(!bundle.root().join(&bundle.id).join("go").exists());
    assert_eq!(bundle.exec(&["echo", "in"]).ok(), "in\n");
}

fn failing(kind: &str) -> (Bundle, hull_tests::Output) {
    let mut bundle = Bundle::new().unwrap();
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo told >&2; exit 3"]}]);
    bundle.configure(|config| config["hooks"] = json!({kind: hook}));
    let output = bundle.detached(&["run", "-d", &bundle.id]);
    (bundle, output)
}

#[test]
fn a_failing_hook_undoes_everything() {
    if let Err(reason) = Bundle::new().map(drop) {
        hull_tests::skip!("{reason}");
    }
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let (bundle, output) = failing(kind);
        let told = format!("{output}");
        assert!(told.contains("exit status 3"), "{kind}: {told}");
        if is_peer() && kind == "startContainer" {
            // runc's init tells of it by itself, when run has ended already.
            continue;
        }
        output.fails(1);
        if !is_peer() {
            assert!(told.contains(&format!("error running {kind} hook #0")), "{kind}: {told}");
            assert!(told.contains("stdout: , stderr: told"), "{kind}: {told}");
        }
        bundle.assert_gone();
    }
}

#[test]
fn a_failing_poststop_hook_keeps_nothing_and_the_next_one_runs() {
    let mut bundle = bundle!();
    let next = recorder(&bundle, "poststop")[0].clone();
    let hook = json!({"path": "/bin/false"});
    bundle.configure(|config| config["hooks"] = json!({"poststop": [hook, next]})).create();
    let output = bundle.oci(&["delete", "--force", &bundle.id]);
    if !is_peer() {
        // runtime-spec: a warning, and the remaining hooks run. runc stops at the first and fails.
        output.ok();
        assert_eq!(bundle.read("rootfs/tmp/hooks"), "poststop stopped\n");
    }
    bundle.assert_gone();
}

#[test]
fn a_hook_that_runs_too_long_is_killed() {
    let mut bundle = bundle!();
    let hook = json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    bundle.configure(|config| config["hooks"] = json!({"createRuntime": hook}));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("hook ran past specified timeout of 1.0s"), "{told}");
    bundle.assert_gone();
}

#[test]
fn a_hook_inherits_no_descriptor() {
    let mut bundle = bundle!();
    let out = bundle.path("fds").display().to_string();
    let script = format!("ls /proc/self/fd > {out}");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    bundle.configure(|config| config["hooks"] = json!({"createRuntime": hook})).create();
    // The one more is that of the directory which ls reads.
    assert_eq!(bundle.read("fds").split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}
