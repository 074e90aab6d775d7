//! The life of a container under podman.

use std::time::Duration;

use hull_tests::{command, wait_until};

use super::{IMAGE, Podman};
use crate::place::{LIMIT, groups, is_peer, tell_terminal};

#[test]
fn a_command_runs_and_its_status_is_told() {
    let podman = caller!(Podman);
    assert_eq!(podman.shell(&[], "echo hi").ok(), "hi\n");
    podman.shell(&[], "exit 7").fails(7);
    let mut cat = podman.command(&["run", "--rm", "-i", "--network=none", IMAGE, "cat"]);
    assert_eq!(command::run(&mut cat, "from outside\n", LIMIT).ok(), "from outside\n");
}

#[test]
fn a_program_that_cannot_be_executed_has_the_status_of_a_shell() {
    let podman = caller!(Podman);
    let run = |name| podman.podman(&["run", "--rm", "--network=none", IMAGE, name]);
    let told = run("nonesuch").fails(127);
    assert!(told.contains("executable file not found in $PATH"), "{told}");
    assert!(run("/etc").fails(126).contains("permission denied"));
    podman.sleeper("one", &[]);
    let exec = |name| podman.podman(&["exec", "one", name]);
    assert!(exec("nonesuch").fails(127).contains("executable file not found in $PATH"));
    assert!(exec("/etc").fails(126).contains("ermission denied"));
    // What cannot be given is told by the creation too.
    let told = podman.shell(&["--ulimit", "nofile=100:99999999"], "true").fails(126);
    assert!(told.contains("create failed") && told.contains("operation not permitted"), "{told}");
}

#[test]
fn a_script_without_its_interpreter_cannot_be_executed() {
    let podman = caller!(Podman);
    podman.place.write("script", "#!/no/such\n");
    let script = podman.place.path("script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let volume = format!("{}:/script:ro", script.display());
    let told = podman.podman(&["run", "--rm", "--network=none", "-v", &volume, IMAGE, "/script"]);
    assert!(told.to_string().contains("no such file or directory"), "{told}");
    // hull-oci tells of it at the start, where podman has one status for whatever fails; runc leaves it to the process, with 1.
    told.fails(if is_peer() { 1 } else { 126 });
    assert_eq!(podman.podman(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_container_in_the_background_is_seen_and_ended() {
    let podman = caller!(Podman);
    let script = "echo first; trap 'echo ending; exit 5' TERM; while :; do sleep 0.1; done";
    podman.podman(&["run", "-d", "--name=one", "--network=none", IMAGE, "sh", "-c", script]).ok();
    wait_until(LIMIT, "its first line", || match podman.podman(&["logs", "one"]).ok() {
        text if text.contains("first") => Ok(()),
        text => Err(text),
    });
    assert!(podman.podman(&["ps", "--format", "{{.Names}} {{.Status}}"]).ok().starts_with("one Up"));
    assert!(podman.podman(&["top", "one", "pid", "args"]).ok().contains("sh -c"));
    podman.podman(&["stop", "--time=20", "one"]).ok();
    assert_eq!(podman.field("one", ".State.Status"), "exited");
    assert_eq!(podman.field("one", ".State.ExitCode"), "5");
    assert_eq!(podman.podman(&["logs", "one"]).ok(), "first\nending\n");
    podman.podman(&["start", "one"]).ok();
    podman.podman(&["restart", "--time=0", "one"]).ok();
    podman.podman(&["kill", "--signal=KILL", "one"]).ok();
    assert_eq!(podman.podman(&["wait", "one"]).ok(), "137\n");
    podman.podman(&["rm", "one"]).ok();
    assert_eq!(podman.podman(&["ps", "-aq"]).ok(), "");
}

#[test]
fn commands_run_inside_with_and_without_a_terminal() {
    let podman = caller!(Podman);
    podman.sleeper("one", &[]);
    let exec = |flags: &[&str], script: &str| {
        podman.podman(&[&["exec"], flags, &["one", "sh", "-c", script]].concat())
    };
    assert_eq!(exec(&[], "cat /proc/1/cmdline | tr '\\0' ' '").ok(), "sleep 1000 ");
    exec(&[], "exit 9").fails(9);
    assert_eq!(
        exec(&["-u", "1000:1000", "-w", "/tmp", "-e", "A=b"], "id -u; pwd; echo $A").ok(),
        "1000\n/tmp\nb\n"
    );
    assert!(exec(&["--privileged"], "grep CapEff /proc/self/status").ok().contains("000001ff"));
    let (status, shown) = podman.on_terminal(&["exec", "-it", "one", "sh", "-c", &tell_terminal(3)]);
    assert_eq!(status, Some(3), "{shown}");
    assert!(shown.contains("/dev/pts/") && shown.contains("33 99"), "{shown}");
    podman.podman(&["exec", "-d", "one", "touch", "/made"]).ok();
    wait_until(LIMIT, "file of a detached command", || {
        let output = podman.podman(&["exec", "one", "test", "-e", "/made"]);
        if output.status.success() { Ok(()) } else { Err(output.to_string()) }
    });
}

#[test]
fn a_container_has_a_terminal() {
    let podman = caller!(Podman);
    let line = ["run", "--rm", "-it", "--network=none", IMAGE, "sh", "-c", &tell_terminal(5)];
    let (status, shown) = podman.on_terminal(&line);
    assert_eq!(status, Some(5), "{shown}");
    assert!(shown.contains("/dev/pts/0") && shown.contains("33 99"), "{shown}");
}

#[test]
fn a_container_is_paused_measured_and_given_other_limits() {
    let podman = caller!(Podman);
    podman.sleeper("one", &["--memory=64m"]);
    let format = "{{.PIDs}} {{.MemUsage}}";
    let stats = podman.podman(&["stats", "--no-stream", "--format", format, "one"]).ok();
    assert!(stats.starts_with("1 ") && stats.contains("/ 67.11MB"), "{stats}");
    podman.podman(&["pause", "one"]).ok();
    assert_eq!(podman.field("one", ".State.Status"), "paused");
    podman.podman(&["exec", "one", "true"]).fails(255);
    podman.podman(&["unpause", "one"]).ok();
    podman.podman(&["exec", "one", "true"]).ok();
    podman.podman(&["update", "--memory=100m", "one"]).ok();
    let limit = ["exec", "one", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    assert_eq!(podman.podman(&limit).ok(), "104857600\n");
}

#[test]
fn a_container_that_is_only_initialized_starts_later() {
    let podman = caller!(Podman);
    podman.podman(&["create", "--name=one", "--network=none", IMAGE, "echo", "created"]).ok();
    podman.podman(&["init", "one"]).ok();
    assert_eq!(podman.field("one", ".State.Status"), "initialized");
    assert_eq!(podman.podman(&["start", "--attach", "one"]).ok(), "created\n");
    podman.podman(&["create", "--name=two", "--network=none", IMAGE, "true"]).ok();
    podman.podman(&["init", "two"]).ok();
    podman.podman(&["rm", "--force", "--time=0", "two"]).ok();
}

#[test]
fn health_is_checked_and_failures_restart() {
    let podman = caller!(Podman);
    podman.sleeper("one", &["--health-cmd=test -e /well", "--health-interval=disable"]);
    podman.podman(&["healthcheck", "run", "one"]).fails(1);
    podman.podman(&["exec", "one", "touch", "/well"]).ok();
    podman.podman(&["healthcheck", "run", "one"]).ok();
    let line =
        ["run", "-d", "--name=two", "--network=none", "--restart=on-failure:2", IMAGE, "sh", "-c", "exit 1"];
    podman.podman(&line).ok();
    wait_until(LIMIT, "two restarts", || match podman.field("two", ".RestartCount") {
        count if count == "2" => Ok(()),
        other => Err(other),
    });
}

#[test]
fn files_are_copied_and_changes_kept() {
    let podman = caller!(Podman);
    podman.sleeper("one", &[]);
    let file = podman.place.write("file", "content");
    podman.podman(&["cp", &file, "one:/file"]).ok();
    assert_eq!(podman.podman(&["exec", "one", "cat", "/file"]).ok(), "content");
    assert!(podman.podman(&["diff", "one"]).ok().contains("A /file"));
    podman.podman(&["commit", "-q", "one", "kept:latest"]).ok();
    let line = ["run", "--rm", "--network=none", "localhost/kept:latest", "cat", "/file"];
    assert_eq!(podman.podman(&line).ok(), "content");
}

#[test]
fn a_descriptor_of_the_caller_is_handed_on() {
    let podman = caller!(Podman);
    let file = podman.place.write("file", "through the descriptor");
    let line =
        podman.command(&["run", "--rm", "--network=none", "--preserve-fds=1", IMAGE, "sh", "-c", "cat <&3"]);
    let words = std::iter::once(line.get_program()).chain(line.get_args());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "file=$1; shift; exec \"$@\" 3<\"$file\"", "sh", &file]).args(words);
    shell.envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(command::run(&mut shell, "", LIMIT).ok(), "through the descriptor");
}

#[test]
fn a_service_tells_that_it_is_ready() {
    let podman = caller!(Podman);
    let socket = podman.place.path("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let line = ["run", "-d", "--name=one", "--network=none", "--sdnotify=conmon", IMAGE, "sleep", "1000"];
    let mut command = podman.command(&line);
    command::run(command.env("NOTIFY_SOCKET", &socket), "", LIMIT).ok();
    let mut buffer = [0; 4096];
    let mut told = String::new();
    while !told.contains("READY=1") {
        let length = listener.recv(&mut buffer).unwrap_or_else(|error| panic!("{error} after {told:?}"));
        told.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[test]
fn nothing_is_left_of_a_container_that_is_removed() {
    let podman = caller!(Podman);
    podman.sleeper("one", &[]);
    let id = podman.field("one", ".Id");
    let pid = podman.field("one", ".State.Pid");
    podman.podman(&["rm", "--force", "--time=0", "one"]).ok();
    assert!(!std::path::Path::new("/proc").join(&pid).exists());
    assert_eq!(groups(&[format!("libpod_parent/libpod-{id}")]), Vec::<std::path::PathBuf>::new());
    let mut list = std::process::Command::new(crate::place::runtime().unwrap());
    let listed = command::run(list.args(["list", "-q"]), "", LIMIT);
    assert!(!listed.stdout.contains(&id), "{listed}");
    assert!(is_peer() || listed.status.success(), "{listed}");
}

#[test]
fn a_terminal_is_attached_to_later() {
    let podman = caller!(Podman);
    let script = "read line; echo got $line; exit 6";
    podman.podman(&["run", "-di", "--name=one", "--network=none", IMAGE, "sh", "-c", script]).ok();
    command::run(&mut podman.command(&["attach", "one"]), "a line\n", LIMIT);
    assert_eq!(podman.podman(&["wait", "one"]).ok(), "6\n");
    assert_eq!(podman.podman(&["logs", "one"]).ok(), "got a line\n");
}

#[test]
fn a_runtime_that_podman_does_not_know_tells_the_same() {
    let podman = caller!(Podman);
    // Without the log in JSON podman reads what the runtime says.
    let settings = std::fs::read_to_string(podman.place.path("containers.conf")).unwrap();
    podman.place.write("containers.conf", &settings.replace("\"hull-oci\", \"runc\", ", ""));
    let run = |name| podman.podman(&["run", "--rm", "--network=none", IMAGE, name]);
    assert!(run("nonesuch").fails(127).contains("executable file not found in $PATH"));
    assert!(run("/etc").fails(126).contains("permission denied"));
    podman.sleeper("one", &[]);
    podman.podman(&["exec", "one", "nonesuch"]).fails(127);
    podman.podman(&["exec", "one", "sh", "-c", "exit 9"]).fails(9);
}
