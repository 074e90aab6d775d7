//! From `create` to `delete`: states, their JSON, and what each refuses (oci-runtime.md 1, 2.2).

use serde_json::{Value, json};

use crate::bundle::is_peer;

#[test]
fn a_container_is_created_started_and_deleted() {
    let bundle = bundle!();
    bundle.create();
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], bundle.id);
    // runc 1.1 tells its own version, later ones that of the configuration.
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1.0.2"), "{state}");
    let real = bundle.directory.canonicalize().unwrap();
    assert_eq!(state["bundle"], real.display().to_string());
    assert_eq!(state["rootfs"], real.join("rootfs").display().to_string());
    assert!(state["created"].as_str().unwrap().contains('T') && state["owner"] == "");
    let pid = state["pid"].as_i64().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}/ns/net")).exists());
    bundle.oci(&["start", &bundle.id]).ok();
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.state()["pid"], pid);
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    bundle.oci(&["delete", &bundle.id]).ok();
    assert!(bundle.oci(&["state", &bundle.id]).fails(1).contains("does not exist"));
    bundle.assert_gone();
}

#[test]
fn a_state_is_printed_with_nothing_on_standard_error() {
    let bundle = bundle!();
    bundle.create();
    let output = bundle.oci(&["state", &bundle.id]);
    assert_eq!(output.stderr, "");
    assert!(output.ok().starts_with("{\n  \""));
}

#[test]
fn annotations_are_part_of_the_state() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["annotations"] = json!({"org.example.key": "value"}));
    assert_eq!(bundle.create().state()["annotations"], json!({"org.example.key": "value"}));
}

#[test]
fn an_id_is_taken_once() {
    let bundle = bundle!();
    bundle.create();
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    // runc 1.1 says `container with given ID already exists: X`.
    assert!(told.contains("container with given ID already exists"), "{told}");
    assert_eq!(bundle.status(), "created");
}

#[test]
fn an_id_is_a_plain_name() {
    let bundle = bundle!();
    for id in ["..", "a/b", "a b", "ä"] {
        let told = bundle.detached(&["create", id]).fails(1);
        assert!(told.contains("invalid container ID format") || told.contains("invalid id format"), "{told}");
    }
}

#[test]
fn only_a_created_container_is_started() {
    let bundle = bundle!();
    bundle.up();
    let told = bundle.oci(&["start", &bundle.id]).fails(1);
    assert!(told.contains("cannot start an already running container"), "{told}");
    bundle.oci(&["kill", &bundle.id, "9"]).ok();
    bundle.becomes("stopped");
    let told = bundle.oci(&["start", &bundle.id]).fails(1);
    assert!(told.contains("cannot start a container that has stopped"), "{told}");
    assert!(bundle.oci(&["start", "nonesuch"]).fails(1).contains("does not exist"));
}

#[test]
fn a_container_whose_init_died_at_its_gate_is_not_started() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    assert!(bundle.oci(&["start", &bundle.id]).fails(1).contains("has stopped"));
}

#[test]
fn changes_of_the_bundle_after_create_have_no_effect() {
    let mut bundle = bundle!();
    bundle.script("echo before > /tmp/out; sleep 1000").create();
    bundle.script("echo after > /tmp/out; sleep 1000");
    bundle.oci(&["start", &bundle.id]).ok();
    bundle.shows("rootfs/tmp/out", "before");
}

#[test]
fn run_tells_the_status_of_the_process_and_leaves_nothing() {
    let mut bundle = bundle!();
    bundle.script("exit 7");
    bundle.oci(&["run", &bundle.id]).fails(7);
    bundle.assert_gone();
    bundle.script("kill -9 $$; sleep 100").configure(|config| {
        // PID 1 of a namespace of its own does not die of its own SIGKILL.
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    });
    bundle.oci(&["run", &bundle.id]).fails(137);
    bundle.assert_gone();
}

#[test]
fn run_with_keep_leaves_the_container_stopped() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/true"]);
    bundle.oci(&["run", "--keep", &bundle.id]).ok();
    assert_eq!(bundle.status(), "stopped");
    bundle.oci(&["delete", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn run_detached_comes_back_while_the_container_runs() {
    let bundle = bundle!();
    bundle.up();
    assert_eq!(bundle.status(), "running");
    bundle.oci(&["delete", "--force", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn the_pid_file_has_the_pid_and_nothing_else() {
    let bundle = bundle!();
    let file = bundle.path("pid").display().to_string();
    bundle.detached(&["create", "--pid-file", &file, &bundle.id]).ok();
    assert_eq!(bundle.read("pid"), bundle.state()["pid"].to_string());
}

#[test]
fn a_bundle_without_configuration_is_told() {
    let bundle = bundle!();
    std::fs::remove_file(bundle.path("config.json")).unwrap();
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("JSON specification file config.json not found"), "{told}");
    bundle.assert_gone();
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let mut bundle = bundle!();
    bundle.args(&["nonesuch"]);
    let told = bundle.oci(&["run", &bundle.id]).fails(1);
    assert!(told.contains("executable file not found in $PATH"), "{told}");
    bundle.assert_gone();
    bundle.args(&["/bin/nonesuch"]);
    assert!(bundle.oci(&["run", &bundle.id]).fails(1).contains("no such file or directory"));
    bundle.args(&["/etc/passwd"]);
    assert!(bundle.oci(&["run", &bundle.id]).fails(1).contains("permission denied"));
    bundle.assert_gone();
}

#[test]
fn a_script_whose_interpreter_is_not_there_is_told_at_its_start() {
    let mut bundle = bundle!();
    let script = bundle.path("rootfs/work/script");
    std::fs::write(&script, "#!/no/such\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.args(&["/work/script"]);
    let told = bundle.oci(&["run", &bundle.id]).fails(1);
    assert!(told.contains("/work/script") && told.contains("no such file or directory"), "{told}");
    bundle.assert_gone();
    // The file itself is there, and only the kernel knows how to execute it.
    bundle.create();
    let started = bundle.oci(&["start", &bundle.id]);
    if is_peer() {
        // It comes back before execve; whoever called reads of it on the container's standard error, and gets status 1.
        started.ok();
    } else {
        let told = started.fails(1);
        assert!(told.contains("/work/script") && told.contains("no such file or directory"), "{told}");
    }
    bundle.becomes("stopped");
    bundle.oci(&["delete", &bundle.id]).ok();
    bundle.assert_gone();
    bundle.args(&["/bin/sleep", "1000"]).up();
    // runc tells of it here too as if the process did.
    let told = bundle.exec(&["/work/script"]).fails(if is_peer() { 1 } else { 255 });
    assert!(told.contains("/work/script") && told.contains("no such file or directory"), "{told}");
}

#[test]
fn create_says_what_failed_under_its_own_name() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["process"]["args"] = json!([]));
    assert!(bundle.detached(&["create", &bundle.id]).fails(1).contains("args must not be empty"));
    bundle.args(&["/bin/true"]).configure(|config| config["process"]["cwd"] = json!("relative"));
    assert!(bundle.detached(&["create", &bundle.id]).fails(1).contains("Cwd must be an absolute path"));
    bundle.configure(|config| {
        config["process"]["cwd"] = json!("/");
        config["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"});
    });
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("runc create failed: "), "{told}");
    assert!(
        told.contains("kernel.core_pattern") && told.contains("is not in a separate kernel namespace"),
        "{told}"
    );
    bundle.assert_gone();
}

#[test]
fn containers_are_listed() {
    let bundle = bundle!();
    bundle.create();
    let table = bundle.oci(&["list"]).ok();
    assert!(table.starts_with("ID ") && table.contains(&bundle.id) && table.contains("created"), "{table}");
    assert_eq!(bundle.oci(&["list", "-q"]).ok(), format!("{}\n", bundle.id));
    let all: Value = serde_json::from_str(&bundle.oci(&["list", "--format=json"]).ok()).unwrap();
    assert_eq!((&all[0]["id"], &all[0]["owner"]), (&bundle.id.clone().into(), &"root".into()));
}

#[test]
fn an_empty_list_is_null_and_a_missing_root_an_error() {
    let bundle = bundle!();
    // runc 1.1 takes a missing root directory for an empty one.
    assert!(is_peer() || bundle.oci(&["list"]).fails(1).contains("no such file or directory"));
    std::fs::create_dir_all(bundle.root()).unwrap();
    assert_eq!(bundle.oci(&["list", "-f", "json"]).ok().trim(), "null");
    assert_eq!(bundle.oci(&["list"]).ok().lines().count(), 1);
}

#[test]
fn many_at_once_do_not_get_in_each_others_way() {
    let bundle = bundle!();
    let creations: Vec<_> = (0..8)
        .map(|at| {
            let mut command = bundle.command(&["create", &bundle.id]);
            let log = std::fs::File::create(bundle.path(&format!("log{at}"))).unwrap();
            command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command.spawn().unwrap()
        })
        .collect();
    let good =
        creations.into_iter().filter_map(|mut child| child.wait().ok()).filter(|end| end.success()).count();
    assert_eq!(good, 1);
    assert_eq!(bundle.status(), "created");
}

#[test]
fn create_fails_for_a_program_that_is_not_there() {
    let mut bundle = bundle!();
    bundle.args(&["nonesuch"]);
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(
        told.contains("runc create failed") && told.contains("executable file not found in $PATH"),
        "{told}"
    );
    bundle.args(&["/bin/nonesuch"]);
    assert!(bundle.detached(&["create", &bundle.id]).fails(1).contains("no such file or directory"));
    bundle.assert_gone();
}

#[test]
fn create_fails_for_a_limit_that_may_not_be_given() {
    let mut bundle = bundle!();
    // More than the kernel has for anybody.
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 4_000_000_000_u64}]);
    bundle.configure(|config| config["process"]["rlimits"] = limit);
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("runc create failed") && told.contains("operation not permitted"), "{told}");
    bundle.assert_gone();
}

#[test]
fn no_limit_of_processes_is_zero_for_some_callers() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["linux"]["resources"]["pids"] = json!({"limit": 0}));
    bundle.script("true; echo forked; sleep 1000");
    bundle.up();
    bundle.shows("stdout", "forked");
}

#[test]
fn home_comes_from_what_is_mounted_over_passwd() {
    let mut bundle = bundle!();
    std::fs::write(bundle.path("passwd"), "root:x:0:0:root:/mounted:/bin/sh\n").unwrap();
    std::fs::create_dir(bundle.path("etc")).unwrap();
    std::fs::write(bundle.path("etc/passwd"), "root:x:0:0:root:/directory:/bin/sh\n").unwrap();
    bundle.args(&["/bin/sh", "-c", "echo $HOME"]);
    let home = |bundle: &crate::bundle::Bundle| bundle.oci(&["run", &bundle.id]).ok();
    assert_eq!(home(&bundle), "/root\n");
    for (source, destination, expected) in
        [("etc", "/etc", "/directory\n"), ("passwd", "/etc/passwd", "/mounted\n")]
    {
        let source = bundle.path(source).display().to_string();
        let mount =
            json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
        bundle.configure(|config| config["mounts"].as_array_mut().unwrap().push(mount));
        assert_eq!(home(&bundle), expected);
    }
}
