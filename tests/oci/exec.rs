//! `exec` (oci-runtime.md 2.2, 5).

use serde_json::json;

use crate::bundle::is_peer;

#[test]
fn a_command_runs_inside_and_its_status_is_told() {
    let bundle = bundle!();
    bundle.up();
    assert_eq!(bundle.exec(&["echo", "-n", "hello"]).ok(), "hello");
    bundle.exec(&["/bin/sh", "-c", "exit 42"]).fails(42);
    bundle.exec(&["/bin/sh", "-c", "kill -9 $$"]).fails(137);
    assert_eq!(bundle.exec(&["cat", "/proc/1/cmdline"]).ok(), "/bin/sleep\u{0}1000\u{0}");
}

#[test]
fn standard_input_reaches_the_process_to_its_end() {
    let bundle = bundle!();
    bundle.up();
    let mut command = bundle.command(&["exec", &bundle.id, "cat"]);
    let text = "line\n".repeat(30_000);
    let output = hull_tests::command::run(&mut command, &text, std::time::Duration::from_secs(30));
    assert_eq!(output.ok().len(), text.len());
}

#[test]
fn failures_of_the_runtime_have_status_255() {
    let bundle = bundle!();
    assert!(bundle.exec(&["true"]).fails(255).contains("does not exist"));
    bundle.up();
    let told = bundle.exec(&["nonesuch"]).fails(255);
    assert!(told.contains("exec failed") && told.contains("executable file not found in $PATH"), "{told}");
    assert!(bundle.exec(&["/etc/passwd"]).fails(255).contains("permission denied"));
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    assert!(bundle.exec(&["true"]).fails(255).contains("cannot exec in a stopped container"));
}

#[test]
fn flags_of_the_process_are_its_own() {
    let bundle = bundle!();
    bundle.up();
    assert_eq!(bundle.exec(&["ls", "-d", "/"]).ok(), "/\n");
    let exec = |flags: &[&str], script: &str| {
        let line = [&["exec"], flags, &[bundle.id.as_str(), "/bin/sh", "-c", script]].concat();
        bundle.oci(&line).ok()
    };
    assert_eq!(exec(&["--cwd", "/tmp"], "pwd"), "/tmp\n");
    assert_eq!(exec(&["-e", "A=1", "-e", "B=2"], "echo $A$B"), "12\n");
    assert_eq!(exec(&["--user", "1000:1001"], "id -u; id -g"), "1000\n1001\n");
    assert_eq!(exec(&["-u", "1000", "-g", "7", "-g", "8"], "id -G"), "0 7 8\n");
    let status = exec(&["--cap", "CAP_SYS_NICE"], "cat /proc/self/status");
    let line = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(u64::from_str_radix(&line("CapEff:"), 16).unwrap() & 1 << 23, 1 << 23);
    // CVE-2022-29162.
    assert_eq!(line("CapInh:"), "0000000000000000");
    assert_eq!(line("NoNewPrivs:"), "1");
}

#[test]
fn a_process_file_says_everything() {
    let bundle = bundle!();
    bundle.up();
    let process = json!({"args": ["/bin/sh", "-c", "id -u; pwd; echo $X"], "cwd": "/tmp", "env": ["X=y", "PATH=/bin"],
        "user": {"uid": 1000, "gid": 1000}});
    std::fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    let file = bundle.path("process.json").display().to_string();
    assert_eq!(bundle.oci(&["exec", "--process", &file, &bundle.id]).ok(), "1000\n/tmp\ny\n");
}

#[test]
fn detached_it_comes_back_and_the_pid_file_has_the_pid() {
    let bundle = bundle!();
    bundle.up();
    let file = bundle.path("pid").display().to_string();
    bundle.detached(&["exec", "-d", "--pid-file", &file, &bundle.id, "/bin/sleep", "999"]).ok();
    let pid = bundle.read("pid");
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(command, "/bin/sleep\u{0}999\u{0}");
}

#[test]
fn a_paused_container_takes_none_unless_asked_to() {
    let bundle = bundle!();
    bundle.up();
    bundle.oci(&["pause", &bundle.id]).ok();
    let told = bundle.exec(&["true"]).fails(255);
    assert!(told.contains("cannot exec in a paused container (use --ignore-paused to override)"), "{told}");
    bundle.oci(&["resume", &bundle.id]).ok();
    bundle.oci(&["exec", "--ignore-paused", &bundle.id, "true"]).ok();
}

#[test]
fn only_the_standard_descriptors_are_open() {
    let bundle = bundle!();
    bundle.up();
    // The one more is that of the directory which ls reads.
    assert_eq!(
        bundle.exec(&["ls", "/proc/self/fd"]).ok().split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
}

#[test]
fn a_working_directory_outside_is_refused() {
    let bundle = bundle!();
    bundle.up();
    // CVE-2024-21626.
    for number in 3..12 {
        let directory = format!("/proc/self/fd/{number}");
        bundle.oci(&["exec", "--cwd", &directory, &bundle.id, "true"]).fails(255);
    }
}

#[test]
fn it_lands_in_the_containers_group_or_one_below() {
    let bundle = bundle!();
    bundle.up();
    let groups = bundle.exec(&["cat", "/proc/self/cgroup"]).ok();
    assert!(groups.lines().any(|line| line.ends_with(&format!("/{}", bundle.id))), "{groups}");
    // cgroup v2 has one group for all controllers, and no names for them here.
    let memory = bundle.groups().into_iter().find(|group| group.starts_with("/sys/fs/cgroup/memory"));
    let prefix = if memory.is_some() { "memory:" } else { "" };
    let group = memory.unwrap_or_else(|| std::path::Path::new("/sys/fs/cgroup").join(&bundle.id));
    std::fs::create_dir(group.join("below")).unwrap();
    let into = |path: &str| {
        bundle.oci(&["exec", "--cgroup", &format!("{prefix}{path}"), &bundle.id, "cat", "/proc/self/cgroup"])
    };
    let groups = into("below").ok();
    assert!(groups.lines().any(|line| line.ends_with(&format!("/{}/below", bundle.id))), "{groups}");
    if !is_peer() {
        into("../..").fails(255);
    }
}

#[test]
fn it_lands_in_a_group_of_its_own_for_each_controller_that_is_named() {
    let bundle = bundle!();
    bundle.up();
    let of = |controller: &str| {
        bundle.groups().into_iter().find(|group| group.starts_with(format!("/sys/fs/cgroup/{controller}")))
    };
    let (Some(memory), Some(pids)) = (of("memory"), of("pids")) else {
        return println!("left out: cgroup v2 has one group for all controllers");
    };
    for group in [&memory, &pids] {
        std::fs::create_dir(group.join("one")).unwrap();
        std::fs::create_dir(group.join("two")).unwrap();
    }
    let lands = |flags: &[&str]| {
        let groups = bundle.oci(&[&["exec"], flags, &[&bundle.id, "cat", "/proc/self/cgroup"]].concat()).ok();
        ["memory", "pids"].map(|controller| {
            let line =
                groups.lines().find(|line| line.contains(&format!(":{controller}:"))).unwrap_or_default();
            line.rsplit('/').next().unwrap_or_default().to_owned()
        })
    };
    assert_eq!(lands(&["--cgroup", "memory:one", "--cgroup", "pids:two"]), ["one", "two"]);
    assert_eq!(lands(&["--cgroup", "memory,pids:two"]), ["two", "two"]);
    assert_eq!(lands(&["--cgroup", "pids:one"]), [bundle.id.as_str(), "one"]);
    for flag in ["nonesuch:one", "memory:nonesuch"] {
        bundle.oci(&["exec", "--cgroup", flag, &bundle.id, "true"]).fails(255);
    }
}

#[test]
fn a_user_namespace_is_joined() {
    let mut bundle = bundle!();
    bundle.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    bundle.up();
    let map = bundle.exec(&["cat", "/proc/self/uid_map"]).ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(bundle.oci(&["exec", "--user", "7", &bundle.id, "id", "-u"]).ok(), "7\n");
}

#[test]
fn the_host_binary_cannot_be_reached_from_inside() {
    // CVE-2019-5736: what executes is a copy that nobody can write to.
    let mut bundle = bundle!();
    std::fs::write(bundle.path("rootfs/bin/evil"), "#!/proc/self/exe\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.path("rootfs/bin/evil"), executable).unwrap();
    let before = std::fs::read(crate::bundle::runtime().unwrap()).unwrap_or_default();
    bundle.args(&["/bin/sleep", "1000"]).up();
    let output = bundle.exec(&["/bin/evil"]);
    assert!(!output.status.success() || !output.stdout.is_empty());
    assert!(std::fs::read(crate::bundle::runtime().unwrap()).unwrap_or_default() == before);
}

#[test]
fn standard_output_belongs_to_the_user() {
    let bundle = bundle!();
    bundle.up();
    let line =
        ["exec", "--user", "1000", &bundle.id, "/bin/sh", "-c", "echo hi >/dev/stdout; echo ho >/dev/stderr"];
    let output = bundle.oci(&line);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hi\n", "ho\n"));
}

#[test]
fn what_fails_after_the_program_runs_leaves_no_process() {
    let bundle = bundle!();
    bundle.up();
    let line = ["exec", "-d", "--pid-file", "/nonexistent/x", &bundle.id, "/bin/sleep", "77"];
    bundle.detached(&line).fails(255);
    let inside = bundle.exec(&["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline"]).ok();
    assert!(!inside.contains("sleep\u{0}77"), "{inside}");
}

#[test]
fn it_has_the_session_keyring_of_the_container() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["linux"]["maskedPaths"] = json!([]));
    bundle.up();
    // Another than its owner sees it only where it is his session's.
    let keys = bundle.oci(&["exec", "--user", "1000", &bundle.id, "cat", "/proc/keys"]).ok();
    assert_eq!(keys.matches(&format!("_ses.{}", bundle.id)).count(), 1, "{keys}");
}

#[test]
fn without_a_new_keyring_it_has_the_callers() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["linux"]["maskedPaths"] = json!([]));
    bundle.detached(&["run", "-d", "--no-new-keyring", &bundle.id]).ok();
    let keys = bundle.exec(&["cat", "/proc/keys"]).ok();
    assert!(!keys.contains(&format!("_ses.{}", bundle.id)), "{keys}");
}

#[test]
fn a_capability_that_nobody_knows_is_left_out_with_a_warning() {
    let mut bundle = bundle!();
    bundle.up();
    let exec = |bundle: &crate::bundle::Bundle| {
        bundle.oci(&["exec", "--cap", "CAP_NONESUCH", &bundle.id, "echo", "in"])
    };
    assert_eq!(exec(&bundle).ok(), "in\n");
    bundle.globals(&["--debug"]);
    assert!(exec(&bundle).stderr.contains("CAP_NONESUCH"));
}
