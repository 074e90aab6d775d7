//! Containers under docker.

use hull_tests::{command, wait_until};

use super::{Docker, IMAGE};
use crate::place::{LIMIT, groups, is_peer, tell_terminal};

#[test]
fn the_engine_knows_the_runtime() {
    let docker = caller!(Docker);
    let told = docker.docker(&["version", "--format", "{{json .Server.Components}}"]).ok();
    assert!(is_peer() || told.contains("hull-oci"), "{told}");
    let told = docker.docker(&["info"]).ok();
    assert!(told.contains("Default Runtime: tried"), "{told}");
}

#[test]
fn a_command_runs_and_its_status_is_told() {
    let docker = caller!(Docker);
    assert_eq!(docker.shell(&[], "echo hi").ok(), "hi\n");
    docker.shell(&[], "exit 7").fails(7);
    docker
        .docker(&[
            "run",
            "-di",
            "--name=one",
            "--network=none",
            IMAGE,
            "sh",
            "-c",
            "read line; echo got $line; exit 6",
        ])
        .ok();
    let attached = command::run(&mut docker.command(&["attach", "one"]), "a line\n", LIMIT);
    attached.fails(6);
    // The client may be gone before the last output comes; it is in the log.
    assert_eq!(docker.docker(&["logs", "one"]).ok(), "got a line\n");
    let run = |name| docker.docker(&["run", "--rm", "--network=none", IMAGE, name]);
    let told = run("nonesuch").fails(127);
    assert!(
        told.contains("runc create failed") && told.contains("executable file not found in $PATH"),
        "{told}"
    );
    assert!(run("/etc").fails(126).contains("permission denied"));
    let mut cat = docker.command(&["run", "--rm", "-i", "--network=none", IMAGE, "cat"]);
    assert_eq!(command::run(&mut cat, "from outside\n", LIMIT).ok(), "from outside\n");
    let line = ["run", "--rm", "-it", "--network=none", IMAGE, "sh", "-c", "tty; exit 4"];
    let (status, shown) = docker.on_terminal(&line);
    assert!(status == Some(4) && shown.contains("/dev/pts/0"), "{status:?} {shown}");
}

#[test]
fn a_script_without_its_interpreter_is_a_program_that_is_not_there() {
    let docker = caller!(Docker);
    docker.place.write("script", "#!/no/such\n");
    let script = docker.place.path("script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let volume = format!("{}:/script:ro", script.display());
    let told = docker.docker(&["run", "--rm", "--network=none", "-v", &volume, IMAGE, "/script"]);
    assert!(told.to_string().contains("no such file or directory"), "{told}");
    // hull-oci tells of it at the start, and docker has its status for it; runc leaves it to the process, with 1.
    told.fails(if is_peer() { 1 } else { 127 });
    assert_eq!(docker.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn commands_run_inside_with_and_without_a_terminal() {
    let docker = caller!(Docker);
    docker.up("one", &[], "exec sleep 1000");
    let exec = |flags: &[&str], script: &str| {
        docker.docker(&[&["exec"], flags, &["one", "sh", "-c", script]].concat())
    };
    assert_eq!(exec(&[], "cat /proc/1/cmdline | tr '\\0' ' '").ok(), "sleep 1000 ");
    exec(&[], "exit 9").fails(9);
    assert_eq!(
        exec(&["-u", "1000:1001", "-w", "/tmp", "-e", "A=b"], "id -u; pwd; echo $A").ok(),
        "1000\n/tmp\nb\n"
    );
    let told = docker.docker(&["exec", "one", "nonesuch"]);
    assert!(told.to_string().contains("executable file not found in $PATH"), "{told}");
    assert!([126, 127].contains(&told.status.code().unwrap()), "{told}");
    let (status, shown) = docker.on_terminal(&["exec", "-it", "one", "sh", "-c", &tell_terminal(3)]);
    assert_eq!(status, Some(3), "{shown}");
    assert!(shown.contains("/dev/pts/") && shown.contains("33 99"), "{shown}");
    // runc 1.1 fails where a capability is missing from the bounding set of the host's own processes.
    if !is_peer() {
        assert!(exec(&["--privileged"], "grep CapEff /proc/self/status").ok().contains("0000003f"));
    }
}

#[test]
fn a_container_in_the_background_is_seen_and_ended() {
    let docker = caller!(Docker);
    docker.up("one", &[], "echo first; trap 'echo ending; exit 5' TERM; while :; do sleep 0.1; done");
    wait_until(LIMIT, "its first line", || match docker.docker(&["logs", "one"]).ok() {
        text if text.contains("first") => Ok(()),
        text => Err(text),
    });
    assert!(docker.docker(&["ps", "--format", "{{.Names}} {{.Status}}"]).ok().starts_with("one Up"));
    assert!(docker.docker(&["top", "one"]).ok().contains("sh -c"));
    docker.docker(&["stop", "--time=20", "one"]).ok();
    assert_eq!(docker.field("one", ".State.ExitCode"), "5");
    assert_eq!(docker.docker(&["logs", "one"]).ok(), "first\nending\n");
    docker.docker(&["start", "one"]).ok();
    docker.docker(&["restart", "--time=0", "one"]).ok();
    docker.docker(&["kill", "--signal=KILL", "one"]).ok();
    assert_eq!(docker.docker(&["wait", "one"]).ok(), "137\n");
    docker.docker(&["rm", "one"]).ok();
    assert_eq!(docker.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_container_is_paused_measured_and_given_other_limits() {
    let docker = caller!(Docker);
    docker.up(
        "one",
        &["--memory=64m", "--memory-swap=128m", "--cpus=0.5", "--pids-limit=33"],
        "exec sleep 1000",
    );
    let files = "memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us";
    let script = format!("cd /sys/fs/cgroup; cat {files}; grep memory: /proc/self/cgroup");
    let seen = docker.docker(&["exec", "one", "sh", "-c", &script]).ok();
    assert!(seen.starts_with("67108864\n33\n50000\n") && seen.contains("memory:/docker/"), "{seen}");
    let stats = docker.docker(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "one"]).ok();
    assert!(stats.starts_with("1 ") && stats.contains("/ 64MiB"), "{stats}");
    docker.docker(&["pause", "one"]).ok();
    assert_eq!(docker.field("one", ".State.Status"), "paused");
    assert!(docker.docker(&["exec", "one", "true"]).fails(1).contains("is paused"));
    docker.docker(&["unpause", "one"]).ok();
    docker.docker(&["update", "--memory=128m", "--memory-swap=256m", "one"]).ok();
    let limit = ["exec", "one", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    assert_eq!(docker.docker(&limit).ok(), "134217728\n");
}

#[test]
fn containers_are_restarted_and_checked() {
    let docker = caller!(Docker);
    docker.up("failing", &["--restart=on-failure:2"], "exit 1");
    docker.becomes("failing", ".RestartCount", "2");
    docker.becomes("failing", ".State.Status", "exited");
    docker.up("always", &["--restart=always"], "exec sleep 1000");
    let pid = docker.field("always", ".State.Pid").parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    docker.becomes("always", ".RestartCount", "1");
    docker.becomes("always", ".State.Status", "running");
    docker.up("well", &["--health-cmd=true", "--health-interval=1s"], "exec sleep 1000");
    docker.becomes("well", ".State.Health.Status", "healthy");
    docker.up("greedy", &["--memory=20m", "--memory-swap=20m"], "tail /dev/zero");
    assert_eq!(docker.docker(&["wait", "greedy"]).ok(), "137\n");
    assert_eq!(docker.field("greedy", ".State.OOMKilled"), "true");
}

#[test]
fn flags_are_seen_inside() {
    let docker = caller!(Docker);
    let inside = |flags: &[&str], script: &str| docker.shell(flags, script);
    let status = |flags: &[&str], line: &str| inside(flags, &format!("grep {line} /proc/self/status")).ok();
    // runc 1.1 fails where a capability is missing from the bounding set of the host's own processes.
    assert!(is_peer() || status(&["--privileged"], "CapEff").contains("0000003f"));
    assert!(status(&["--user=1000:1000", "--cap-drop=ALL"], "CapBnd").contains("0000000000000000"));
    assert!(status(&["--security-opt=seccomp=unconfined"], "Seccomp:").contains('0'));
    assert!(status(&[], "Seccomp:").contains('2'));
    assert!(status(&["--security-opt=no-new-privileges"], "NoNewPrivs").contains('1'));
    assert!(
        inside(&["--read-only", "--tmpfs=/t"], "touch /t/x && touch /x").fails(1).contains("/x: Read-only")
    );
    assert!(inside(&["--init"], "cat /proc/1/cmdline").ok().starts_with("/sbin/docker-init"));
    assert_eq!(inside(&["--ulimit=nofile=100:200"], "ulimit -n; ulimit -Hn").ok(), "100\n200\n");
    let told = inside(&["--ulimit=nofile=100:99999999"], "true");
    assert!(told.stderr.contains("operation not permitted"), "{told}");
    assert_eq!(inside(&["--pids-limit=-1"], "cat /sys/fs/cgroup/pids/pids.max").ok(), "max\n");
    assert_eq!(
        inside(&["--shm-size=3m"], "df -m /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2").ok(),
        "3\n"
    );
    let flags = ["--oom-score-adj=100", "--workdir=/new", "--hostname=foo", "--sysctl=net.ipv4.ip_forward=1"];
    let script = "cat /proc/self/oom_score_adj; pwd; hostname; cat /proc/sys/net/ipv4/ip_forward";
    assert_eq!(inside(&flags, script).ok(), "100\n/new\nfoo\n1\n");
    assert!(inside(&["--cgroupns=private"], "cat /proc/self/cgroup").ok().contains("memory:/\n"));
    assert!(inside(&["--device=/dev/null:/dev/mine:r"], "ls -l /dev/mine").ok().contains("1,   3"));
    let own = std::fs::read_link("/proc/self/ns/uts").unwrap().display().to_string();
    assert_eq!(
        inside(&["--pid=host", "--ipc=host", "--uts=host"], "readlink /proc/self/ns/uts").ok().trim(),
        own
    );
}

#[test]
fn volumes_keep_what_is_written() {
    let docker = caller!(Docker);
    docker.docker(&["volume", "create", "kept"]).ok();
    docker.shell(&["--volume=kept:/v"], "echo content > /v/file").ok();
    assert_eq!(docker.shell(&["--volume=kept:/v"], "cat /v/file").ok(), "content\n");
    let directory = docker.place.directory("shared");
    let volume = format!("--volume={directory}:/v:ro");
    assert!(docker.shell(&[&volume], "touch /v/x").fails(1).contains("Read-only file system"));
}

#[test]
fn files_are_copied_and_images_built() {
    let docker = caller!(Docker);
    docker.up("one", &[], "exec sleep 1000");
    let file = docker.place.write("file", "content");
    docker.docker(&["cp", &file, "one:/file"]).ok();
    assert_eq!(docker.docker(&["exec", "one", "cat", "/file"]).ok(), "content");
    assert!(docker.docker(&["diff", "one"]).ok().contains("A /file"));
    let context = docker.place.directory("context");
    std::fs::copy("/usr/bin/busybox", docker.place.path("context/busybox")).unwrap();
    let recipe = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"mkdir\", \"/made\"]\n\
                  CMD [\"/bin/busybox\", \"ls\", \"-d\", \"/made\"]\n";
    docker.place.write("context/Dockerfile", recipe);
    docker.docker(&["build", "-q", "--network=none", "-t", "built", &context]).ok();
    assert_eq!(docker.docker(&["run", "--rm", "--network=none", "built"]).ok(), "/made\n");
}

#[test]
fn nothing_is_left_of_a_container_that_is_removed() {
    let docker = caller!(Docker);
    docker.up("one", &[], "exec sleep 1000");
    let (id, pid) = (docker.field("one", ".Id"), docker.field("one", ".State.Pid"));
    docker.docker(&["rm", "--force", "one"]).ok();
    assert!(!std::path::Path::new("/proc").join(&pid).exists());
    assert_eq!(groups(&[format!("docker/{id}")]), Vec::<std::path::PathBuf>::new());
}
