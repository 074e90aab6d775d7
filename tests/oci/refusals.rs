//! What is refused in which state, in the texts that callers match (oci-runtime.md 2.2, 2.5).

use serde_json::json;

use crate::bundle::{Bundle, is_peer};

/// A command, without the id that comes last or first, and the text of its refusal.
type Row<'a> = (&'a [&'a str], &'static str);

/// `line` for the container, whose id stands for `@`.
fn told(bundle: &Bundle, line: &[&str]) -> (String, Option<i32>) {
    let line: Vec<&str> = line.iter().map(|word| if *word == "@" { &bundle.id } else { *word }).collect();
    let output = bundle.oci(&line);
    (output.stderr, output.status.code())
}

fn check(bundle: &Bundle, rows: &[Row<'_>]) {
    let mut wrong = Vec::new();
    for (line, text) in rows {
        let (told, status) = told(bundle, line);
        let wanted = if line[0] == "exec" { 255 } else { 1 };
        if !told.contains(text) || status != Some(wanted) {
            wrong.push(format!("{line:?}: {status:?}, {told:?} instead of {text:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_verb_tells_of_a_container_that_is_not_there() {
    let bundle = bundle!();
    let missing = "container does not exist";
    check(
        &bundle,
        &[
            (&["state", "@"], missing),
            (&["start", "@"], missing),
            (&["kill", "@"], missing),
            (&["kill", "--all", "@"], missing),
            (&["delete", "@"], missing),
            (&["exec", "@", "true"], missing),
            (&["ps", "@"], missing),
            (&["events", "@"], missing),
            (&["events", "--stats", "@"], missing),
            (&["pause", "@"], missing),
            (&["resume", "@"], missing),
            (&["update", "--pids-limit", "5", "@"], missing),
        ],
    );
    assert!(!bundle.root().join(&bundle.id).exists());
}

#[test]
fn a_stopped_container_refuses_what_needs_a_process() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/true"]).up();
    bundle.becomes("stopped");
    check(
        &bundle,
        &[
            (&["start", "@"], "cannot start a container that has stopped"),
            (&["kill", "@", "KILL"], "container not running"),
            (&["exec", "@", "true"], "cannot exec in a stopped container"),
            (&["pause", "@"], "container not running"),
            (&["resume", "@"], "container not paused"),
            (&["update", "--pids-limit", "5", "@"], "container not running"),
            (&["events", "--stats", "@"], "is not running"),
        ],
    );
    assert_eq!(
        bundle.oci(&["ps", "-f", "json", &bundle.id]).ok().trim(),
        if is_peer() { "null" } else { "[]" }
    );
    bundle.oci(&["kill", "-a", &bundle.id]).ok();
}

#[test]
fn a_paused_container_refuses_what_a_paused_one_cannot_do() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["pause", &bundle.id]).ok();
    check(
        &bundle,
        &[
            (&["start", "@"], "cannot start a container in the paused state"),
            (
                &["pause", "@"],
                if is_peer() { "not running" } else { "container not running or created: paused" },
            ),
            (&["exec", "@", "true"], "cannot exec in a paused container (use --ignore-paused to override)"),
            (&["delete", "@"], "that is not stopped: paused"),
        ],
    );
    assert_eq!(bundle.status(), "paused");
    bundle.oci(&["resume", &bundle.id]).ok();
    assert_eq!(bundle.status(), "created");
    bundle.oci(&["start", &bundle.id]).ok();
    check(&bundle, &[(&["resume", "@"], "container not paused")]);
}

#[test]
fn a_group_that_is_frozen_is_not_taken() {
    if is_peer() {
        // runc 1.1 only warns of processes, and looks no further.
        return;
    }
    let bundle = bundle!();
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (group, file, text) = match v2 {
        true => ("/sys/fs/cgroup", "cgroup.freeze", "1"),
        false => ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN"),
    };
    let group = std::path::Path::new(group).join(&bundle.id);
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join(file), text).unwrap();
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("container's cgroup unexpectedly frozen"), "{told}");
    assert!(!bundle.root().join(&bundle.id).exists());
    std::fs::remove_dir(&group).unwrap();
}

#[test]
fn too_little_memory_for_an_init_is_told() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["linux"]["resources"]["memory"] = json!({"limit": 4096, "swap": 4096}));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    // On a host with few pages of its own in use, runc dies before its init reads what it is to do.
    assert!(is_peer() || told.contains("container init was OOM-killed (memory limit too low?)"), "{told}");
    bundle.assert_gone();
    if is_peer() {
        return;
    }
    for run in [vec!["run", &bundle.id], vec!["run", "--detach", &bundle.id]] {
        let told = bundle.detached(&run).fails(1);
        assert!(told.contains("container init was OOM-killed (memory limit too low?)"), "{run:?}: {told}");
        bundle.assert_gone();
    }
}

#[test]
fn a_program_that_cannot_be_one_is_told_in_the_words_that_callers_match() {
    let mut bundle = bundle!();
    std::fs::write(bundle.path("rootfs/work/plain"), "text").unwrap();
    // docker: 127 for the first kind of words, 126 for the second; podman has the same classes.
    let missing = ["executable file not found in $PATH", "no such file or directory", "not a directory"];
    let refused = ["permission denied", "is a directory", "operation not permitted"];
    let rows = [
        ("nonesuch", missing),
        ("/nonesuch", missing),
        ("/etc/passwd/x", missing),
        ("/work", refused),
        ("/work/plain", refused),
    ];
    for (program, words) in rows {
        bundle.args(&[program]);
        for (verb, flags) in [("create", &[][..]), ("run", &[]), ("run", &["-d"])] {
            let told = bundle.detached(&[&[verb], flags, &[bundle.id.as_str()]].concat()).fails(1);
            assert!(words.iter().any(|word| told.contains(word)), "{verb} {program}: {told}");
            assert!(told.contains(&format!("runc {verb} failed")), "{told}");
        }
    }
    bundle.args(&["/bin/sleep", "1000"]).up();
    for (program, words) in rows {
        let told = bundle.exec(&[program]).fails(255);
        assert!(told.contains("exec failed"), "{told}");
        assert!(words.iter().any(|word| told.contains(word)), "{program}: {told}");
    }
}

/// Groups of the caller's, under the container's name in every hierarchy.
fn own_groups(bundle: &crate::bundle::Bundle) -> Vec<std::path::PathBuf> {
    let top = std::path::Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(top).unwrap().flatten().map(|entry| entry.path());
    let is_hierarchy = |path: &std::path::PathBuf| {
        !path.is_symlink() && path.join("cgroup.procs").exists() && !path.join("cgroup.controllers").exists()
    };
    let roots: Vec<_> = if top.join("cgroup.controllers").exists() {
        vec![top.to_owned()]
    } else {
        below.filter(is_hierarchy).collect()
    };
    let groups: Vec<_> = roots.iter().map(|root| root.join(&bundle.id)).collect();
    groups.iter().for_each(|group| std::fs::create_dir(group).unwrap());
    groups
}

#[test]
fn a_creation_that_fails_leaves_the_callers_groups_and_tells_what_failed() {
    if is_peer() {
        // runc 1.1 removes them.
        return;
    }
    let mut bundle = bundle!();
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]);
    bundle.configure(|config| config["hooks"] = json!({"createRuntime": hook}));
    let groups = own_groups(&bundle);
    // Somebody was killed there for want of memory once.
    let memory = groups.iter().find(|group| group.join("memory.stat").exists()).unwrap();
    let file = if memory.join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" };
    std::fs::write(memory.join(file), "4194304").unwrap();
    let greedy = format!(
        "echo $$ >{}/cgroup.procs; head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null",
        memory.display()
    );
    let ended = std::process::Command::new("sh").args(["-c", &greedy]).status().unwrap();
    std::fs::write(memory.join(file), if file == "memory.max" { "max" } else { "-1" }).unwrap();
    assert!(!ended.success());
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    let left = groups.iter().all(|group| group.exists());
    for group in &groups {
        drop(std::fs::remove_dir(group));
    }
    assert!(told.contains("createRuntime") && !told.contains("OOM"), "{told}");
    assert!(left, "a group that the creation did not make is gone");
    bundle.assert_gone();
}
