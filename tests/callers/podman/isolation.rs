//! What podman's flags give and take, as seen from inside.

use super::{IMAGE, Podman};
use crate::place::is_peer;

/// Lines of `/proc/self/status` inside.
#[track_caller]
fn status(podman: &Podman, flags: &[&str], line: &str) -> String {
    let text = podman.shell(flags, "cat /proc/self/status").ok();
    text.lines().find_map(|one| one.strip_prefix(line)).unwrap_or_default().trim().to_owned()
}

#[test]
fn limits_are_seen_inside() {
    let podman = caller!(Podman);
    let flags = [
        "--memory=64m",
        "--memory-swap=128m",
        "--pids-limit=50",
        "--cpus=0.5",
        "--cpu-shares=200",
        "--cpuset-cpus=0",
    ];
    let files = [
        "memory/memory.limit_in_bytes",
        "memory/memory.memsw.limit_in_bytes",
        "pids/pids.max",
        "cpu/cpu.cfs_quota_us",
        "cpu/cpu.shares",
        "cpuset/cpuset.cpus",
    ];
    let script = format!("cd /sys/fs/cgroup; cat {}", files.join(" "));
    assert_eq!(podman.shell(&flags, &script).ok(), "67108864\n134217728\n50\n50000\n200\n0\n");
    assert_eq!(podman.shell(&["--pids-limit=-1"], "true; cat /sys/fs/cgroup/pids/pids.max").ok(), "max\n");
    let flags = ["--ulimit=nofile=100:200", "--ulimit=nproc=300:400", "--oom-score-adj=100"];
    let script = "ulimit -n; ulimit -Hn; ulimit -u; cat /proc/self/oom_score_adj";
    assert_eq!(podman.shell(&flags, script).ok(), "100\n200\n300\n100\n");
}

#[test]
fn capabilities_follow_the_flags() {
    let podman = caller!(Podman);
    assert_eq!(status(&podman, &["--cap-drop=all"], "CapBnd:"), "0000000000000000");
    assert_eq!(status(&podman, &["--cap-drop=all", "--cap-add=chown"], "CapEff:"), "0000000000000001");
    assert!(status(&podman, &["--privileged"], "CapEff:").starts_with("000001ff"));
    assert_eq!(status(&podman, &["--user=1000"], "CapEff:"), "0000000000000000");
    assert_eq!(status(&podman, &["--user=1000", "--cap-add=net_admin"], "CapAmb:"), "0000000000001000");
    assert_eq!(status(&podman, &["--security-opt=no-new-privileges"], "NoNewPrivs:"), "1");
}

#[test]
fn seccomp_profiles_are_obeyed() {
    let podman = caller!(Podman);
    assert_eq!(status(&podman, &[], "Seccomp:"), "2");
    assert_eq!(status(&podman, &["--security-opt=seccomp=unconfined"], "Seccomp:"), "0");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    let path = podman.place.write("profile.json", profile);
    let flag = format!("--security-opt=seccomp={path}");
    for more in [&[flag.as_str()][..], &[&flag, "--security-opt=no-new-privileges"], &[&flag, "--user=1000"]]
    {
        let told = podman.shell(more, "mkdir /tmp/x").fails(1);
        assert!(told.contains("not supported"), "{told}");
    }
    podman.sleeper("one", &[&flag]);
    assert!(podman.podman(&["exec", "one", "mkdir", "/x"]).fails(1).contains("not supported"));
}

#[test]
fn file_systems_are_mounted_as_asked() {
    let podman = caller!(Podman);
    let volume = podman.place.directory("volume");
    podman.place.write("volume/file", "shared");
    let inside = |flags: &[&str], script: &str| podman.shell(flags, script);
    let told = inside(&["--read-only"], "touch /tmp/x && touch /x").fails(1);
    assert!(told.contains("/x: Read-only file system"), "{told}");
    let read_only = format!("--volume={volume}:/v:ro");
    assert!(inside(&[&read_only], "cat /v/file; touch /v/x").fails(1).contains("Read-only file system"));
    let nosuid = format!("--volume={volume}:/v:rw,nosuid,noexec");
    let options = inside(&[&nosuid], "touch /v/made; grep ' /v ' /proc/mounts").ok();
    assert!(options.contains("nosuid,noexec") && podman.place.path("volume/made").exists(), "{options}");
    let bound = format!("--mount=type=bind,src={volume},dst=/m,ro,bind-propagation=rprivate");
    assert!(inside(&[&bound], "grep ' /m ' /proc/mounts").ok().contains(" ro,"));
    let tmpfs = inside(&["--tmpfs=/t:size=1m,mode=1700"], "grep ' /t ' /proc/mounts; stat -c %a /t").ok();
    assert!(tmpfs.contains("size=1024k") && tmpfs.contains("1700"), "{tmpfs}");
    let shared = inside(&["--shm-size=2m"], "df -m /dev/shm | tail -1").ok();
    assert!(shared.contains(" 2 "), "{shared}");
}

#[test]
fn named_volumes_keep_what_is_written() {
    let podman = caller!(Podman);
    podman.podman(&["volume", "create", "kept"]).ok();
    podman.shell(&["--volume=kept:/v"], "echo content > /v/file").ok();
    assert_eq!(podman.shell(&["--volume=kept:/v"], "cat /v/file").ok(), "content\n");
    // A new volume gets what the image has there.
    assert!(podman.shell(&["--volume=new:/etc"], "cat /etc/passwd").ok().contains("root"));
}

#[test]
fn the_first_process_is_an_init_where_that_is_asked_for() {
    let podman = caller!(Podman);
    assert!(podman.shell(&["--init"], "cat /proc/1/cmdline").ok().starts_with("/run/podman-init"));
}

#[test]
fn users_are_mapped() {
    let podman = caller!(Podman);
    let map = podman.shell(
        &["--uidmap=0:100000:65536", "--gidmap=0:200000:1000"],
        "cat /proc/self/uid_map /proc/self/gid_map",
    );
    let words: Vec<String> = map.ok().split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "200000", "1000"]);
    let owner =
        podman.shell(&["--uidmap=0:100000:65536"], "id -u; stat -c %u /bin/busybox; touch /x && ls -d /x");
    assert_eq!(owner.ok(), "0\n0\n/x\n");
    assert!(podman.shell(&["--userns=host"], "cat /proc/self/uid_map").ok().contains("4294967295"));
    assert_eq!(
        podman.shell(&["--user=1000:1001", "--group-add=7"], "id -u; id -g; id -G").ok(),
        "1000\n1001\n1001 7\n"
    );
}

#[test]
fn namespaces_are_shared_and_separate_as_asked() {
    let podman = caller!(Podman);
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for kind in ["pid", "ipc", "uts"] {
        let script = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(podman.shell(&[&format!("--{kind}=host")], &script).ok().trim(), own(kind));
        assert_ne!(podman.shell(&[], &script).ok().trim(), own(kind));
    }
    podman.sleeper("one", &["--hostname=first"]);
    let joined = podman.shell(
        &["--pid=container:one", "--uts=container:one"],
        "hostname; cat /proc/1/cmdline | tr '\\0' ' '",
    );
    assert_eq!(joined.ok(), "first\nsleep 1000 ");
    assert!(podman.shell(&["--cgroupns=private"], "cat /proc/self/cgroup").ok().contains("memory:/\n"));
    assert!(
        podman.shell(&["--cgroupns=host"], "cat /proc/self/cgroup").ok().contains("memory:/libpod_parent/")
    );
}

#[test]
fn names_variables_and_sysctls_arrive() {
    let podman = caller!(Podman);
    let flags =
        ["--hostname=foo", "--env=A=b", "--umask=077", "--sysctl=net.ipv4.ip_forward=1", "--workdir=/tmp"];
    let script = "hostname; echo $A; umask; cat /proc/sys/net/ipv4/ip_forward; pwd";
    assert_eq!(podman.shell(&flags, script).ok(), "foo\nb\n0077\n1\n/tmp\n");
    let line = ["run", "--rm", "--network=none", "--entrypoint=[]", IMAGE, "/bin/echo", "entry"];
    assert_eq!(podman.podman(&line).ok(), "entry\n");
}

#[test]
fn devices_are_given_and_others_refused() {
    let podman = caller!(Podman);
    let listed = podman
        .shell(&["--device=/dev/null:/dev/mine:r"], "cat /dev/mine; ls -l /dev/mine; echo x > /dev/mine");
    assert!(listed.stdout.contains("1,   3"), "{listed}");
    assert!(listed.stderr.contains("Operation not permitted") || listed.status.success(), "{listed}");
    let made = podman.shell(&["--cap-add=mknod"], "mknod /dev/other b 7 0 && head -c1 /dev/other");
    assert!(made.fails(1).contains("peration not permitted"));
}

#[test]
fn temporary_file_systems_begin_with_what_the_image_has() {
    let podman = caller!(Podman);
    assert!(podman.shell(&["--tmpfs=/etc"], "cat /etc/passwd").ok().contains("root"));
    assert_eq!(podman.shell(&["--tmpfs=/etc:notmpcopyup"], "ls /etc/passwd").status.code(), Some(1));
}

#[test]
fn volumes_may_be_mapped_with_the_users() {
    let podman = caller!(Podman);
    let volume = podman.place.directory("volume");
    podman.place.write("volume/file", "shared");
    let mapped = format!("--volume={volume}:/v:idmap");
    let owner = podman.shell(&["--uidmap=0:100000:65536", &mapped], "stat -c %u /v/file").ok();
    // runc 1.1 knows nothing of mapped mounts.
    assert_eq!(owner, if is_peer() { "65534\n" } else { "0\n" });
    let overlaid = format!("--volume={volume}:/v:O");
    assert_eq!(podman.shell(&[&overlaid], "touch /v/made; ls /v").ok(), "file\nmade\n");
    assert!(!podman.place.path("volume/made").exists());
}

#[test]
fn paths_are_masked_and_unmasked() {
    let podman = caller!(Podman);
    let masked = podman.shell(&["--security-opt=mask=/etc/passwd"], "cat /etc/passwd | wc -c").ok();
    assert_eq!(masked.trim(), "0");
    assert_eq!(podman.shell(&["--security-opt=unmask=ALL"], "grep -c ' /proc' /proc/mounts").ok(), "1\n");
    assert!(podman.shell(&[], "echo 1 >/proc/sys/kernel/panic").fails(1).contains("Read-only file system"));
}

#[test]
fn systemd_finds_what_it_wants() {
    let podman = caller!(Podman);
    let script = "echo $container; grep -c -e ' /run tmpfs' -e ' /tmp tmpfs' -e ' /sys/fs/cgroup/systemd cgroup rw' /proc/mounts";
    assert_eq!(podman.shell(&["--systemd=always"], script).ok(), "podman\n3\n");
}

#[test]
fn hooks_of_the_host_run() {
    let podman = caller!(Podman);
    let hook = |script: &str| {
        let hook = serde_json::json!({
            "version": "1.0.0", "when": {"always": true}, "stages": ["createRuntime"],
            "hook": {"path": "/bin/sh", "args": ["sh", "-c", script]},
        });
        podman.place.write("hooks/hook.json", &hook.to_string());
    };
    let run = || {
        let directory = podman.place.text("hooks");
        podman.podman(&["--hooks-dir", &directory, "run", "--rm", "--network=none", IMAGE, "echo", "ran"])
    };
    let state = podman.place.text("state");
    hook(&format!("cat >{state}"));
    assert_eq!(run().ok(), "ran\n");
    let told: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&state).unwrap()).unwrap();
    assert_eq!(told["status"], "creating");
    assert!(told["bundle"].as_str().is_some_and(|bundle| bundle.starts_with(&podman.place.text("storage"))));
    hook("echo refused >&2; exit 3");
    let told = run().fails(126);
    assert!(told.contains("exit status 3") && told.contains("refused"), "{told}");
}
