//! Flags that no other case is about (oci-runtime.md 2.1, 2.2): each does what it says, in every spelling.

use serde_json::json;

use crate::bundle::{Bundle, is_peer};

/// The runtime, called from another directory than the bundle.
fn from_elsewhere(bundle: &Bundle, line: &[&str]) -> hull_tests::Output {
    let mut command = bundle.command(line);
    command.current_dir("/");
    bundle.to_files(command)
}

#[test]
fn the_bundle_is_named_by_a_flag() {
    let bundle = bundle!();
    let path = bundle.directory.display().to_string();
    let assigned = [format!("--bundle={path}"), format!("-b={path}")];
    for flags in [&["--bundle", &path][..], &["-b", &path], &[&assigned[0]], &[&assigned[1]]] {
        for verb in [&["create"][..], &["run", "--detach"], &["run", "-d"]] {
            from_elsewhere(&bundle, &[verb, flags, &[&bundle.id]].concat()).ok();
            assert_eq!(bundle.state()["bundle"], path);
            bundle.delete();
        }
    }
    let told = from_elsewhere(&bundle, &["create", "--bundle", "/nonexistent", &bundle.id]).fails(1);
    assert!(told.contains("/nonexistent") && told.contains("no such file or directory"), "{told}");
}

#[test]
fn without_pivot_the_root_is_the_same() {
    let mut bundle = bundle!();
    bundle.script("ls /; cat /proc/self/mountinfo");
    let mounts = |text: &str| text.lines().filter(|line| line.contains(" - ")).count();
    let pivoted = bundle.oci(&["run", &bundle.id]).ok();
    let moved = bundle.oci(&["run", "--no-pivot", &bundle.id]).ok();
    assert!(moved.starts_with("bin\ndev\n") && moved.contains("\nwork\n"), "{moved}");
    assert_eq!(mounts(&moved), mounts(&pivoted), "{moved}");
    bundle.assert_gone();
}

#[test]
fn without_pivot_no_root_is_private() {
    let mut bundle = bundle!();
    for class in ["private", "rprivate"] {
        bundle.configure(|config| config["linux"]["rootfsPropagation"] = json!(class));
        let told = bundle.detached(&["create", "--no-pivot", &bundle.id]).fails(1);
        assert!(told.contains("[r]private is not safe"), "{told}");
        bundle.assert_gone();
    }
}

#[test]
fn without_a_subreaper_the_status_is_told_all_the_same() {
    let mut bundle = bundle!();
    bundle.script("exit 9");
    bundle.oci(&["run", "--no-subreaper", &bundle.id]).fails(9);
    // go-runc has one dash.
    bundle.oci(&["run", "-no-subreaper", &bundle.id]).fails(9);
    bundle.assert_gone();
}

#[test]
fn every_flag_of_exec_has_its_spellings() {
    let bundle = bundle!();
    bundle.up();
    let exec = |flags: &[&str], script: &str| {
        let line = [&["exec"], flags, &[bundle.id.as_str(), "/bin/sh", "-c", script]].concat();
        bundle.oci(&line).ok()
    };
    let rows: [(&[&str], &str, &str); 12] = [
        (&["--cwd=/tmp"], "pwd", "/tmp\n"),
        (&["--env", "A=1", "--env=B=2"], "echo $A$B", "12\n"),
        // The last one counts.
        (&["-e", "TERM=other"], "echo $TERM", "other\n"),
        (&["--user=1000"], "id -u; id -g", "1000\n0\n"),
        (&["-u=1000:1001"], "id -u; id -g", "1000\n1001\n"),
        (&["--additional-gids", "7", "--additional-gids=8"], "id -G", "0 7 8\n"),
        (&["--no-new-privs"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        (&["-c", "CAP_SYS_NICE"], "grep CapEff /proc/self/status", "CapEff:\t0000000020800420\n"),
        (&["--cap=CAP_SYS_NICE"], "grep CapBnd /proc/self/status", "CapBnd:\t0000000020800420\n"),
        (&["--preserve-fds", "0"], "echo nothing", "nothing\n"),
        (&["--tty=false"], "test -t 0 || echo none", "none\n"),
        (&["--detach=false"], "echo waited", "waited\n"),
    ];
    for (flags, script, wanted) in rows {
        assert_eq!(exec(flags, script), wanted, "{flags:?}");
    }
    for flag in ["-p", "--process"] {
        let process = json!({"args": ["/bin/echo", "told"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        std::fs::write(bundle.path("process.json"), process.to_string()).unwrap();
        assert_eq!(bundle.oci(&["exec", flag, "process.json", &bundle.id]).ok(), "told\n");
    }
    let told = bundle.oci(&["exec", "-p", "nonesuch.json", &bundle.id]).fails(255);
    assert!(told.contains("nonesuch.json") && told.contains("no such file or directory"), "{told}");
    let told = bundle.oci(&["exec", "--user", "name", &bundle.id, "true"]).fails(255);
    assert!(told.contains("name") && told.contains("uid"), "{told}");
}

#[test]
fn no_new_privileges_are_asked_for_by_exec_alone() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["process"]["noNewPrivileges"] = json!(false)).up();
    let status = |flags: &[&str]| {
        let line = [&["exec"], flags, &[&bundle.id, "grep", "NoNewPrivs", "/proc/self/status"]].concat();
        bundle.oci(&line).ok()
    };
    assert_eq!(status(&[]), "NoNewPrivs:\t0\n");
    assert_eq!(status(&["--no-new-privs"]), "NoNewPrivs:\t1\n");
}

#[test]
fn a_label_or_profile_that_the_host_cannot_apply_is_an_error() {
    let mut bundle = bundle!();
    let label = "system_u:system_r:container_t:s0:c1,c2";
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() || is_peer() {
        // runc 1.1 writes the label and sees what comes of it.
        return;
    }
    let selinux = "selinux label is specified in config, but selinux is disabled or not supported";
    for change in [
        (|config, label| config["process"]["selinuxLabel"] = json!(label))
            as fn(&mut serde_json::Value, &str),
        |config, label| config["linux"]["mountLabel"] = json!(label),
    ] {
        bundle.configure(|config| change(config, label));
        for verb in [&["create"][..], &["run"], &["run", "-d"]] {
            let told = bundle.detached(&[verb, &[bundle.id.as_str()]].concat()).fails(1);
            assert!(told.contains(selinux), "{told}");
            bundle.assert_gone();
        }
        bundle.configure(|config| change(config, ""));
    }
    bundle.up();
    let told = bundle.oci(&["exec", "--process-label", label, &bundle.id, "true"]).fails(255);
    assert!(told.contains(selinux), "{told}");
    let process = json!({"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "selinuxLabel": label});
    std::fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    let told = bundle.oci(&["exec", "-p", "process.json", &bundle.id]).fails(255);
    assert!(told.contains(selinux), "{told}");
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        let told = bundle.oci(&["exec", "--apparmor", "profile", &bundle.id, "true"]).fails(255);
        assert!(told.contains("apparmor profile is specified in config, but apparmor is disabled"), "{told}");
    }
}

#[test]
fn flags_before_the_command_have_their_spellings() {
    let bundle = bundle!();
    let root = bundle.root().display().to_string();
    std::fs::create_dir_all(&root).unwrap();
    let call = |words: &[&str]| {
        let mut command = std::process::Command::new(crate::bundle::runtime().unwrap());
        let command = command.args(words).current_dir(&bundle.directory);
        hull_tests::command::run(command, "", std::time::Duration::from_secs(30))
    };
    for flags in [&["--root", &root][..], &["-root", &root], &["--root", "root"], &["-root=root"]] {
        assert_eq!(call(&[flags, &["list", "-q"]].concat()).ok(), "", "{flags:?}");
    }
    for value in ["true", "false", "auto"] {
        call(&["--root", &root, "--rootless", value, "list", "-q"]).ok();
    }
    // runc looks at it where it makes a difference to it alone.
    let told = call(&["--root", &root, "--rootless", "perhaps", "list"]);
    assert!(is_peer() || told.fails(1).contains("perhaps"));
    call(&["--root", &root, "--debug", "--criu", "/usr/sbin/criu", "list", "-q"]).ok();
    assert!(call(&["--root", &root, "nonesuch"]).fails(if is_peer() { 3 } else { 1 }).contains("nonesuch"));
}

#[test]
fn a_log_of_text_has_a_line_for_an_error() {
    let bundle = bundle!();
    let told = bundle.oci(&["--log", "log", "--log-format", "text", "state", "nonesuch"]).fails(1);
    assert_eq!(told, "container does not exist\n");
    let line = bundle.read("log");
    assert!(
        line.starts_with("time=\"") && line.ends_with("level=error msg=\"container does not exist\"\n"),
        "{line}"
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(bundle.path("log")).unwrap());
    assert_eq!(mode & 0o777, 0o644);
}
