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
fn a_hook_that_runs_inside_reaches_nothing_of_the_runtimes() {
    let mut bundle = bundle!();
    let list = "for each in /proc/1/fd/*; do readlink $each; done >>/work/found; true";
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", list], "env": ["PATH=/bin"]}]);
    // The host's procfs is among what the init has on its way then.
    bundle.args(&["true"]).configure(|config| {
        config["hooks"] = json!({"startContainer": hook});
        config["process"]["oomScoreAdj"] = json!(100);
        // Without it nobody sees what the init has.
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
        }
    });
    bundle.oci(&["run", &bundle.id]).ok();
    bundle.create().oci(&["start", &bundle.id]).ok();
    let found = bundle.read("rootfs/work/found");
    assert!(!found.is_empty());
    // Its streams, what the hook prints, the gate, and the hook itself.
    let (kinds, files) =
        (["pipe:", "/dev/null", "/memfd:", "anon_inode:[pidfd]"], ["go", "start", "stdout", "stderr"]);
    let is_plain = |link: &str| {
        kinds.iter().any(|kind| link.starts_with(kind))
            || files.iter().any(|file| link.ends_with(&format!("/{file}")))
    };
    let strange: Vec<&str> = found.lines().filter(|link| !is_plain(link)).collect();
    // runc's has its FIFO, by a path of its own, and more.
    assert!(is_peer() || strange.is_empty(), "{strange:?} of {found}");
}

#[test]
fn a_start_that_is_killed_while_hooks_run_leaves_a_container_that_is_running() {
    if is_peer() {
        // runc's start has come back by then.
        return;
    }
    let mut bundle = bundle!();
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo >/work/hook; read go </work/go"]}]);
    bundle.configure(|config| config["hooks"] = json!({"startContainer": hook})).create();
    let go = bundle.path("rootfs/work/go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let mut start = bundle.command(&["start", &bundle.id]).spawn().unwrap();
    bundle.shows("rootfs/work/hook", "\n");
    start.kill().unwrap();
    start.wait().unwrap();
    assert_eq!(bundle.status(), "created");
    std::fs::write(go, "\n").unwrap();
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

/// Where a hook of that kind writes: it sees the host's files, or the container's.
fn note(bundle: &Bundle, kind: &str) -> String {
    match kind {
        "startContainer" => format!("/tmp/{kind}"),
        _ => bundle.path("rootfs/tmp").join(kind).display().to_string(),
    }
}

/// One hook of each kind that runs a script, `@` being the file that it notes things in.
fn all(bundle: &Bundle, script: &str, env: &Value) -> Value {
    let hook = |kind: &&str| {
        let script = script.replace('@', &note(bundle, kind));
        let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        if !env.is_null() {
            hook["env"] = env.clone();
        }
        ((*kind).to_owned(), json!([hook]))
    };
    Value::Object(KINDS.iter().map(hook).collect())
}

/// From creation to deletion; what the hook of each kind noted.
fn noted(bundle: &mut Bundle, script: &str, env: &Value) -> Vec<(&'static str, String)> {
    let hooks = all(bundle, script, env);
    bundle.configure(|config| config["hooks"] = hooks);
    let mut create = bundle.command(&["create", &bundle.id]);
    create.env("CALLER", "create");
    bundle.to_files(create).ok();
    for verb in ["start", "delete"] {
        let force = if verb == "delete" { &["--force"][..] } else { &[] };
        let mut command = bundle.command(&[&[verb], force, &[bundle.id.as_str()]].concat());
        bundle
            .to_files({
                command.env("CALLER", verb);
                command
            })
            .ok();
    }
    KINDS.iter().map(|kind| (*kind, bundle.read(&format!("rootfs/tmp/{kind}")))).collect()
}

#[test]
fn hooks_run_in_the_namespaces_and_groups_of_their_kind() {
    let mut bundle = bundle!();
    let script = "for each in mnt uts net; do readlink /proc/self/ns/$each; done > @
        grep -q ':/@ID' /proc/self/cgroup && echo inside >> @ || echo outside >> @";
    let script = script.replace("@ID", &bundle.id);
    let own = ["mnt", "uts", "net"].map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap());
    let own = own.map(|link| link.display().to_string());
    for (kind, seen) in noted(&mut bundle, &script, &Value::Null) {
        let lines: Vec<&str> = seen.lines().collect();
        let inside = ["createContainer", "startContainer"].contains(&kind);
        assert_eq!(lines.len(), 4, "{kind}: {seen}");
        for (line, own) in lines.iter().zip(&own) {
            assert_eq!(line != own, inside, "{kind}: {seen}");
        }
        assert_eq!(lines[3], if inside { "inside" } else { "outside" }, "{kind}");
    }
}

#[test]
fn a_hook_has_the_environment_that_it_was_given_or_the_callers() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["process"]["env"] = json!(["PATH=/bin", "OWN=container"]));
    for (kind, seen) in noted(&mut bundle, "env > @", &json!(["PATH=/bin:/usr/bin", "GIVEN=yes"])) {
        assert!(seen.contains("GIVEN=yes\n"), "{kind}: {seen}");
        assert!(!seen.contains("CALLER=") && !seen.contains("OWN="), "{kind}: {seen}");
    }
    for (kind, seen) in noted(&mut bundle, "env > @", &Value::Null) {
        let verb = match kind {
            "startContainer" => {
                assert!(seen.contains("OWN=container\n") && !seen.contains("CALLER="), "{kind}: {seen}");
                continue;
            }
            // Neither says whose it is in the container's namespaces; runc 1.1 has poststart at the creation.
            "createContainer" => continue,
            "poststart" if is_peer() => "create",
            "poststart" => "start",
            "poststop" => "delete",
            _ => "create",
        };
        assert!(seen.contains(&format!("CALLER={verb}\n")) && !seen.contains("OWN="), "{kind}: {seen}");
    }
}

#[test]
fn every_hook_reads_the_whole_state() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["annotations"] = json!({"org.example.key": "value"}));
    let id = bundle.id.clone();
    let path = bundle.directory.canonicalize().unwrap();
    for (kind, seen) in noted(&mut bundle, "cat > @", &json!(["PATH=/bin:/usr/bin"])) {
        let state: Value =
            serde_json::from_str(&seen).unwrap_or_else(|error| panic!("{kind}: {error}: {seen}"));
        assert_eq!(state["id"], json!(id), "{kind}");
        assert_eq!(state["bundle"], json!(path), "{kind}");
        assert!(
            state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")),
            "{kind}: {seen}"
        );
        assert_eq!(state["annotations"], json!({"org.example.key": "value"}), "{kind}");
        let pid = state["pid"].as_i64();
        assert!(kind == "poststop" || pid.is_some_and(|pid| pid > 0), "{kind}: {seen}");
    }
}

#[test]
fn hooks_of_one_kind_run_in_the_order_of_their_list() {
    let mut bundle = bundle!();
    let hook = |bundle: &Bundle, kind: &str, word: &str| {
        let script = format!("echo {word} >> {}", note(bundle, kind));
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
    };
    let words = ["one", "two", "three"];
    let list = |kind: &&str| {
        ((*kind).to_owned(), Value::Array(words.iter().map(|word| hook(&bundle, kind, word)).collect()))
    };
    let hooks = Value::Object(KINDS.iter().map(list).collect());
    bundle.configure(|config| config["hooks"] = hooks).up();
    bundle.delete();
    for kind in KINDS {
        assert_eq!(bundle.read(&format!("rootfs/tmp/{kind}")), "one\ntwo\nthree\n", "{kind}");
    }
}

#[test]
fn arguments_of_a_hook_begin_with_its_name() {
    let mut bundle = bundle!();
    let out = bundle.path("out").display().to_string();
    let program = bundle.path("program");
    std::fs::write(&program, format!("#!/bin/sh\necho $# $1 >> {out}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shell =
        json!({"path": "/bin/sh", "args": ["a name", "-c", format!("echo $0 $1 >> {out}"), "zero", "first"]});
    bundle.configure(|config| {
        config["hooks"] = json!({"createRuntime": [
            {"path": program, "args": ["name", "one"]}, {"path": program}, shell,
        ]});
    });
    bundle.create();
    assert_eq!(bundle.read("out"), "1 one\n0\nzero first\n");
}

#[test]
fn a_hook_that_cannot_be_run_is_told() {
    let mut bundle = bundle!();
    for (hook, words) in [
        (json!({"path": "/nonexistent/hook"}), "/nonexistent/hook"),
        // runtime-spec: the path is absolute, and a time limit greater than zero.
        (json!({"path": "relative"}), "relative"),
        (json!({"path": "/bin/true", "timeout": 0}), "timeout"),
        (json!({"path": "/bin/true", "timeout": -1}), "timeout"),
    ] {
        if is_peer() && hook["path"] != "/nonexistent/hook" {
            // runc looks at neither.
            continue;
        }
        bundle.configure(|config| config["hooks"] = json!({"createRuntime": [hook]}));
        let told = bundle.detached(&["create", &bundle.id]).fails(1);
        assert!(told.contains(words), "{told}");
        bundle.assert_gone();
    }
}

#[test]
fn a_failing_poststart_hook_ends_the_container() {
    let (bundle, output) = match Bundle::new() {
        Ok(_) => failing("poststart"),
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let told = output.fails(1);
    assert!(told.contains("exit status 3"), "{told}");
    bundle.assert_gone();
    let hook = json!([{"path": "/bin/false"}]);
    let mut bundle = bundle!();
    bundle.configure(|config| config["hooks"] = json!({"poststart": hook}));
    if is_peer() {
        // It has run them at the creation.
        return;
    }
    bundle.create();
    let told = bundle.oci(&["start", &bundle.id]).fails(1);
    assert!(told.contains("poststart hook #0"), "{told}");
    // What is left is deleted as any container that ended, if it is there.
    bundle.oci(&["delete", &bundle.id]);
    bundle.assert_gone();
}
