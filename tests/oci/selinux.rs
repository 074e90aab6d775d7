//! `process.selinuxLabel` and `linux.mountLabel`, where SELinux is on: the test machine with `--selinux` (`make test-vm` has
//! none; see docs/testing-pods-in-a-vm.md). The labels are those of Debian's policy, and the caller is unconfined.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_tests::{command, wait_until};
use serde_json::json;

use crate::bundle::{Bundle, is_peer};

/// What a container's process is, and another one, whose files it may not have.
const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const OTHER: &str = "system_u:system_r:container_t:s0:c3,c4";
/// What it may read and write.
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";
/// No policy has it.
const IMPOSSIBLE: &str = "system_u:system_r:hull_of_nobody_t:s0";
/// A domain that the policy has, and that nobody who is unconfined enters.
const FORBIDDEN: &str = "system_u:system_r:svirt_t:s0";
/// How long a command may take, also in an emulated machine.
const SOON: Duration = Duration::from_secs(60);

/// Whether SELinux is on, and whether it forbids anything.
fn enforce() -> Option<bool> {
    fs::read_to_string("/sys/fs/selinux/enforce").ok().map(|enforce| enforce.starts_with('1'))
}

/// A bundle, or the end of the case where SELinux is off.
macro_rules! labelled {
    () => {
        if enforce().is_none() {
            return println!("left out: SELinux is off; try: tests/vm/run --kernel qemu --selinux enforcing");
        } else {
            let bundle = bundle!();
            label(&bundle.path("rootfs"), FILES);
            bundle
        }
    };
}

/// Gives a tree of files a label.
#[track_caller]
fn label(tree: &Path, label: &str) {
    command::run(Command::new("chcon").args(["-R", "-h", label]).arg(tree), "", SOON).ok();
}

/// The label of a file.
#[track_caller]
fn label_of(file: &Path) -> String {
    command::run(Command::new("stat").args(["-c", "%C"]).arg(file), "", SOON).ok().trim().to_owned()
}

/// The label of a process, as the kernel tells it to the host.
fn label_of_process(pid: &str) -> String {
    let label = fs::read_to_string(format!("/proc/{}/attr/current", pid.trim())).unwrap_or_default();
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// What the host sees of a path in the container.
fn inside(bundle: &Bundle, path: &str) -> PathBuf {
    Path::new("/proc").join(bundle.state()["pid"].to_string()).join("root").join(path)
}

/// The label of a process that `exec` starts with these flags.
#[track_caller]
fn executed(bundle: &Bundle, flags: &[&str]) -> String {
    let pid_file = bundle.path("executed");
    let pid_path = pid_file.display().to_string();
    let line =
        [&["exec", "-d", "--pid-file", &pid_path], flags, &[&bundle.id, "/bin/sleep", "1000"]].concat();
    bundle.detached(&line).ok();
    let pid = fs::read_to_string(pid_file).unwrap();
    // The pid file is there before the program is.
    wait_until(SOON, "the program", || match fs::read_to_string(format!("/proc/{pid}/cmdline")) {
        Ok(line) if line.starts_with("/bin/sleep") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    label_of_process(&pid)
}

#[test]
fn a_container_and_what_is_executed_in_it_have_its_label() {
    let mut bundle = labelled!();
    bundle.script("cat /proc/self/attr/current >/work/label; exec sleep 1000");
    bundle.configure(|config| config["process"]["selinuxLabel"] = json!(LABEL)).up();
    bundle.shows("rootfs/work/label", LABEL);
    assert_eq!(label_of_process(&bundle.state()["pid"].to_string()), LABEL);
    // One that is executed has the container's, although nobody says so.
    assert_eq!(executed(&bundle, &[]), LABEL);
    // Categories that are its own.
    label(&bundle.path("rootfs/bin/busybox"), "system_u:object_r:container_file_t:s0");
    assert_eq!(executed(&bundle, &["--process-label", OTHER]), OTHER);
    assert_eq!(executed(&bundle, &[&format!("--process-label={OTHER}")]), OTHER);
    bundle.delete();
}

#[test]
fn a_process_may_have_a_label_of_its_own() {
    let bundle = labelled!();
    bundle.up();
    let own = label_of_process("self");
    assert_eq!(label_of_process(&bundle.state()["pid"].to_string()), own);
    assert_eq!(executed(&bundle, &[]), own);
    assert_eq!(executed(&bundle, &["--process-label", LABEL]), LABEL);
    let process = json!({
        "args": ["/bin/sh", "-c", "cat /proc/self/attr/current >/work/label"], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}, "selinuxLabel": LABEL,
    });
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    bundle.oci(&["exec", "-p", "process.json", &bundle.id]).ok();
    bundle.shows("rootfs/work/label", LABEL);
    bundle.delete();
}

#[test]
fn mounts_that_take_one_have_the_mount_label() {
    let mut bundle = labelled!();
    bundle.configure(|config| {
        config["linux"]["mountLabel"] = json!(FILES);
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/sys/firmware"]);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]}));
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
        mounts.push(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}));
    });
    fs::write(bundle.path("rootfs/run/copied"), "").unwrap();
    bundle.up();
    for path in [
        "dev",
        "dev/null",
        "dev/fd",
        "dev/pts",
        "dev/pts/ptmx",
        "dev/shm",
        "dev/mqueue",
        "tmp",
        "run",
        "run/copied",
        "sys/firmware",
    ] {
        assert_eq!(label_of(&inside(&bundle, path)), FILES, "{path}");
    }
    // These have labels of the policy's own, whatever a mount says.
    for path in ["proc", "sys", "sys/fs/cgroup"] {
        assert_ne!(label_of(&inside(&bundle, path)), FILES, "{path}");
    }
    // The label is the mounts', not the process's.
    assert_eq!(label_of_process(&bundle.state()["pid"].to_string()), label_of_process("self"));
    bundle.delete();
}

#[test]
fn features_say_that_there_are_labels() {
    let bundle = labelled!();
    let features: serde_json::Value = serde_json::from_str(&bundle.oci(&["features"]).ok()).unwrap();
    assert_eq!(features["linux"]["selinux"]["enabled"], json!(true), "{features}");
}

#[test]
fn without_a_mount_label_mounts_have_what_the_policy_says() {
    let bundle = labelled!();
    bundle.up();
    for path in ["dev", "dev/pts", "dev/shm", "sys/firmware"] {
        assert_ne!(label_of(&inside(&bundle, path)), FILES, "{path}");
    }
    bundle.delete();
}

/// The session keyring is made with the label of the processes, which could not use one of the caller's. The program that
/// asks for it is the container's.
#[test]
fn the_session_keyring_has_the_label_of_the_processes() {
    let mut bundle = labelled!();
    let source = bundle.path("keyring.c");
    let text = r#"
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int main(void) {
            char label[256] = "";
            if (syscall(SYS_keyctl, 17, -3, label, sizeof label) < 0) perror(label);
            FILE *out = fopen("/work/keyring", "w");
            fprintf(out, "%s\n", label);
            fclose(out);
            pause();
        }
    "#;
    fs::write(&source, text).unwrap();
    let program = bundle.path("rootfs/bin/keyring");
    command::run(Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source), "", SOON).ok();
    label(&bundle.path("rootfs"), FILES);
    bundle.args(&["/bin/keyring"]).configure(|config| config["process"]["selinuxLabel"] = json!(LABEL)).up();
    bundle.shows("rootfs/work/keyring", &format!("{LABEL}\n"));
    // What is executed joins that one.
    fs::write(bundle.path("rootfs/work/keyring"), "").unwrap();
    bundle.detached(&["exec", "-d", &bundle.id, "/bin/keyring"]).ok();
    bundle.shows("rootfs/work/keyring", &format!("{LABEL}\n"));
    bundle.delete();
}

#[test]
fn a_label_that_the_policy_does_not_know_is_told_with_its_field() {
    let mut bundle = labelled!();
    let mut told = Vec::new();
    bundle.configure(|config| config["process"]["selinuxLabel"] = json!(IMPOSSIBLE));
    told.push(("process.selinuxLabel", bundle.detached(&["create", &bundle.id]).fails(1)));
    bundle.assert_gone();
    told.push((
        "process.selinuxLabel",
        bundle.detached(&["create", "--no-new-keyring", &bundle.id]).fails(1),
    ));
    bundle.assert_gone();
    bundle.configure(|config| {
        config["process"]["selinuxLabel"] = json!("");
        config["linux"]["mountLabel"] = json!(IMPOSSIBLE);
    });
    told.push(("linux.mountLabel", bundle.detached(&["create", &bundle.id]).fails(1)));
    bundle.assert_gone();
    bundle.configure(|config| config["linux"]["mountLabel"] = json!("")).up();
    let line = ["exec", "--process-label", IMPOSSIBLE, &bundle.id, "/bin/true"];
    told.push(("process.selinuxLabel", bundle.oci(&line).fails(255)));
    bundle.delete();
    for (field, text) in told {
        // runc has the file and the kernel's word.
        let wanted: &[&str] = if is_peer() { &["invalid argument"] } else { &[field, IMPOSSIBLE] };
        assert!(wanted.iter().all(|word| text.contains(word)), "{field}: {text}");
    }
}

#[test]
fn a_label_that_the_policy_forbids_is_told_at_start() {
    let mut bundle = labelled!();
    // With no_new_privs the kernel has another word for it.
    for (kept, reason) in [(true, "operation not permitted"), (false, "permission denied")] {
        bundle.configure(|config| {
            config["process"]["noNewPrivileges"] = json!(kept);
            config["process"]["selinuxLabel"] = json!(FORBIDDEN);
        });
        if enforce() != Some(true) {
            // A permissive kernel writes it to its log and does it all the same.
            bundle.up();
            assert_eq!(label_of_process(&bundle.state()["pid"].to_string()), FORBIDDEN);
            bundle.delete();
            continue;
        }
        bundle.create();
        let started = bundle.oci(&["start", &bundle.id]);
        if is_peer() {
            // runc's init is on its own by then: start knows nothing of it.
            bundle.shows("stderr", reason);
            bundle.delete();
            continue;
        }
        let mut told = vec![started.fails(1)];
        bundle.delete();
        // A command likewise.
        bundle.configure(|config| config["process"]["selinuxLabel"] = json!("")).up();
        told.push(bundle.oci(&["exec", "--process-label", FORBIDDEN, &bundle.id, "/bin/true"]).fails(255));
        bundle.exec(&["/bin/true"]).ok();
        bundle.delete();
        for text in told {
            assert!(
                [reason, "process.selinuxLabel", FORBIDDEN].iter().all(|word| text.contains(word)),
                "{text}"
            );
        }
    }
}

/// What labels are for: a container has its own files, and neither those of another nor the host's.
#[test]
fn a_container_has_the_files_of_its_own_label_only() {
    let mut bundle = labelled!();
    fs::write(bundle.path("rootfs/work/others"), "others'").unwrap();
    fs::write(bundle.path("rootfs/work/own"), "own").unwrap();
    label(&bundle.path("rootfs/work/own"), FILES);
    label(&bundle.path("rootfs/work/others"), "system_u:object_r:container_file_t:s0:c3,c4");
    bundle.script(
        "cat /work/own >/tmp/seen; cat /work/others >>/tmp/seen || echo refused >>/tmp/seen; exec sleep 1000",
    );
    bundle.configure(|config| {
        config["process"]["selinuxLabel"] = json!(LABEL);
        config["linux"]["mountLabel"] = json!(FILES);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    });
    bundle.up();
    let wanted = if enforce() == Some(true) { "ownrefused\n" } else { "ownothers'" };
    let seen = inside(&bundle, "tmp/seen");
    wait_until(SOON, wanted, || match fs::read_to_string(&seen) {
        Ok(text) if text == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    });
    bundle.delete();
}
