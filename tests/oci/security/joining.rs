//! What a container sees of a process that joins it, and what that hands on (CVE-2016-9962, CVE-2022-29162).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hull_tests::command::copy_program;
use serde_json::json;

use crate::bundle::Bundle;

/// Directories that are searched in vain before the one that has the program: time for a look.
fn long_path() -> String {
    format!("PATH={}/bin", "/x:".repeat(40_000))
}

#[test]
fn nobody_looks_into_a_process_that_joins() {
    let mut bundle = target!();
    bundle.script("while :; do for p in /proc/[0-9]*; do readlink $p/exe; done >>/seen; done");
    bundle.up().shows("rootfs/seen", "busybox");
    assert!(!is_seen(&bundle, 10), "{}", bundle.read("rootfs/seen"));
    if bundle.go_without("hidden") {
        assert!(is_seen(&bundle, 100), "nobody looks, so the case shows nothing");
    }
}

/// Whether the runtime's own file was seen behind one of so many processes.
fn is_seen(bundle: &Bundle, rounds: u32) -> bool {
    let path = long_path();
    (0..rounds).any(|_| {
        bundle.oci(&["exec", "--env", &path, &bundle.id, "true"]).ok();
        let seen = bundle.read("rootfs/seen");
        // Whatever it is called (the file of a mount that is nowhere is `/`), it is no program of the image.
        seen.lines().any(|line| line != "/bin/busybox")
    })
}

#[test]
fn a_file_with_inheritable_capabilities_gains_none() {
    let mut bundle = target!();
    bundle.configure(|config| config["process"]["noNewPrivileges"] = json!(false));
    let program = bundle.path("rootfs/work/busybox");
    copy_program("/usr/bin/busybox".as_ref(), &program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // Version 2, effective; CAP_KILL inheritable; capabilities(7) and the kernel's vfs_cap_data.
    let kill = 1_u32 << 5;
    let words = [0x0200_0001_u32, 0, kill, 0, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(&program, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
    bundle.up();
    let gained = |bundle: &Bundle, more: &[&str]| {
        let line =
            [&["exec", "--user", "1000"], more, &[&bundle.id, "/work/busybox", "cat", "/proc/self/status"]];
        let status = bundle.oci(&line.concat()).ok();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default().trim();
        u64::from_str_radix(line, 16).unwrap() & u64::from(kill) != 0
    };
    assert!(!gained(&bundle, &[]) && !gained(&bundle, &["--cap", "CAP_NET_RAW"]));
    let status = bundle.exec(&["cat", "/proc/self/status"]).ok();
    assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
    if bundle.go_without("inheritable") {
        assert!(gained(&bundle, &[]) && gained(&bundle, &["--cap", "CAP_NET_RAW"]));
    }
}

/// A second container in the PID namespace of the first, which may trace.
fn neighbour(first: &Bundle) -> Option<Bundle> {
    let mut second = Bundle::new().ok()?;
    let pid = first.state()["pid"].as_i64()?;
    second.configure(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces[0] = json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")});
    });
    Some(second)
}

fn may_trace(bundle: &mut Bundle) {
    bundle.configure(|config| {
        for set in ["bounding", "permitted", "effective"] {
            let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
            set.push(json!("CAP_SYS_PTRACE"));
        }
    });
}

#[test]
fn a_container_that_waits_for_its_start_shows_its_neighbour_nothing_of_the_hosts() {
    let mut first = target!();
    may_trace(&mut first);
    first.up();
    let second = neighbour(&first).unwrap();
    second.create();
    let script = "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || { ls -l $p/fd; grep CapEff $p/status; }; done";
    let seen = first.exec(&["/bin/sh", "-c", script]).ok();
    assert!(seen.contains("/go") && !seen.contains("-> /proc") && !seen.contains("socket:"), "{seen}");
    assert!(!seen.contains("000001ff"), "{seen}");
    for number in 3..40 {
        let script =
            format!("for p in /proc/[0-9]*; do echo x >$p/fd/{number}/../../{}/pwned; done", first.id);
        drop(first.exec(&["/bin/sh", "-c", &script]));
    }
    assert!(!std::env::temp_dir().join(&first.id).join("pwned").exists());
}

#[test]
fn a_neighbour_sees_nothing_of_a_process_that_joins() {
    let first = target!();
    first.up();
    fs::write(first.path("secret"), "the host's").unwrap();
    let secret = first.path("secret").display().to_string();
    let mut second = neighbour(&first).unwrap();
    may_trace(&mut second);
    let look = format!(
        "while :; do for p in /proc/[0-9]*; do cat $p/root{secret} && echo >>/seen; done; echo >/rounds; done 2>/errors"
    );
    second.script(&look).up().shows("rootfs/rounds", "\n");
    let path = long_path();
    for _ in 0..20 {
        first.oci(&["exec", "--env", &path, &first.id, "true"]).ok();
    }
    assert!(!second.path("rootfs/seen").exists());
}

/// Mounts that give whoever looks the time for it: meanwhile the init that is being made has the host's root.
fn linger(bundle: &mut Bundle) {
    let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"});
    bundle.configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.extend(std::iter::repeat_n(mount, 3000));
    });
}

/// Whether procfs can be mounted for another PID namespace than one's own, as of Linux 6.18.
fn has_procfs_by_namespace() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(6), Some(18))
}

#[test]
fn a_container_sees_nothing_of_one_that_is_made_in_its_pid_namespace() {
    let mut first = target!();
    if !has_procfs_by_namespace() {
        return println!("left out: here the init joins at once, as under runc; docs/engine.md");
    }
    may_trace(&mut first);
    fs::write(first.path("secret"), "the host's").unwrap();
    let secret = first.path("secret").display().to_string();
    let look = format!(
        "while :; do for p in /proc/[0-9]*; do cat $p/root{secret} && echo >>/seen
        grep CapEff $p/status >>/rights; ls -l $p/fd >>/files; done; echo >/rounds; done 2>/errors"
    );
    first.script(&look).up().shows("rootfs/rounds", "\n");
    let mut second = neighbour(&first).unwrap();
    linger(&mut second);
    for verb in [&["create"][..], &["run", "-d"], &["run"]] {
        second.script("echo $$; readlink /proc/self/ns/pid");
        second.detached(&[verb, &[second.id.as_str()]].concat()).ok();
        second.delete();
    }
    assert!(!first.path("rootfs/seen").exists());
    let rights = first.read("rootfs/rights");
    assert!(!rights.contains("000001ff"), "{rights}");
    let files = first.read("rootfs/files");
    assert!(!files.contains("-> /proc\n"), "{files}");
    if second.go_without("unseen") {
        second.create();
        assert!(first.path("rootfs/seen").exists(), "nobody looks, so the case shows nothing");
    }
}

#[test]
fn a_container_that_joins_a_pid_namespace_is_a_whole_one() {
    let first = target!();
    first.up();
    let mut second = neighbour(&first).unwrap();
    // Its procfs is that of the namespace, its session and its terminal are its own, its parent is nobody inside.
    second.script("cat /proc/1/cmdline; echo; readlink /proc/self/exe");
    let text = second.oci(&["run", &second.id]).ok();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/bin/sleep\u{0}1000\u{0}"), "{text}");
    second.script("grep ' /proc ' /proc/self/mountinfo");
    let shown = second.oci(&["run", &second.id]).ok();
    assert!(shown.contains(" - proc proc "), "{shown}");
    second.configure(|config| config["process"]["terminal"] = json!(true));
    second.script(
        "read -r pid name state parent group session rest </proc/self/stat; echo session $session pid $$
        : </dev/tty && echo controlled; sleep 1000; :",
    );
    let (listener, path) = crate::console::listen(&second, "console");
    second.detached(&["create", "--console-socket", &path, &second.id]).ok();
    let (_, master) = crate::console::receive(&listener);
    second.oci(&["start", &second.id]).ok();
    let text = crate::console::shows(&master, "controlled");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[2]), ("session", words[3], "pid"), "{text}");
    // And it ends as any other does.
    assert_eq!(second.exec(&["echo", "there"]).ok(), "there\n");
    second.oci(&["kill", &second.id, "KILL"]).ok();
    second.becomes("stopped");
    second.oci(&["delete", &second.id]).ok();
    second.assert_gone();
    assert_eq!(first.status(), "running");
}

#[test]
fn users_and_processes_of_another_container_are_joined_together() {
    let mut first = target!();
    first.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    first.up();
    let mut second = neighbour(&first).unwrap();
    let pid = first.state()["pid"].to_string();
    second.configure(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    });
    second.script(
        "read -r inside outside rest </proc/self/uid_map; echo $inside $outside; cat /proc/1/cmdline",
    );
    assert_eq!(second.oci(&["run", &second.id]).ok(), "0 100000\n/bin/sleep\u{0}1000\u{0}");
    second.assert_gone();
}

#[test]
fn creations_that_are_killed_while_they_join_leave_nothing() {
    let first = target!();
    first.up();
    let second = neighbour(&first).unwrap();
    for round in 0..40_u64 {
        let mut create = second.command(&["create", &second.id]);
        let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        create.stdin(null()).stdout(null()).stderr(null());
        let mut child = create.spawn().unwrap();
        hull_tests::wait::pause(std::time::Duration::from_millis(round % 20 * 3));
        // It may have come to its end.
        child.kill().ok();
        child.wait().unwrap();
        second.delete();
        second.assert_gone();
    }
    let listed = first.exec(&["ls", "/proc"]).ok();
    let processes = listed.split_whitespace().filter(|name| name.parse::<u32>().is_ok()).count();
    // Its own init, and the one that lists them.
    assert_eq!(processes, 2, "{listed}");
}
