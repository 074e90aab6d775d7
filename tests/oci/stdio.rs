//! What the process inherits: streams, descriptors, variables (oci-runtime.md 2.9).

use std::process::{Command, Stdio};

use crate::bundle::{Bundle, is_peer};

#[test]
fn streams_of_a_detached_container_are_the_callers() {
    let mut bundle = bundle!();
    bundle.script("echo out; echo err >&2; readlink /proc/self/fd/1").configure(|config| {
        config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    });
    bundle.up();
    bundle.shows("stdout", "out\n");
    bundle.shows("stderr", "err\n");
}

#[test]
fn in_the_foreground_output_is_copied_to_its_end() {
    let mut bundle = bundle!();
    bundle.script("i=0; while test $i -lt 20000; do echo 0123456789; i=$((i+1)); done; echo end >&2");
    let output = bundle.oci(&["run", &bundle.id]);
    assert_eq!(output.stderr, "end\n");
    assert_eq!(output.ok().len(), 20_000 * 11);
}

#[test]
fn input_of_the_foreground_ends_with_the_callers() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat"]);
    let mut command = bundle.command(&["run", &bundle.id]);
    let output = hull_tests::command::run(&mut command, "text", std::time::Duration::from_secs(30));
    assert_eq!(output.ok(), "text");
}

#[test]
fn signals_are_handed_on() {
    let mut bundle = bundle!();
    bundle.script("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let mut run = hull_tests::Running::start(&mut bundle.command(&["run", &bundle.id]));
    let limit = std::time::Duration::from_secs(15);
    run.wait_line(limit, "ready", |line| line == "ready");
    let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(run.wait(limit).code(), Some(3));
    bundle.assert_gone();
}

/// Runs a line of shell in which `$OCI` is the runtime with its root directory.
fn shell(bundle: &Bundle, line: &str) -> hull_tests::Output {
    let runtime = bundle.command(&[]);
    let words = std::iter::once(runtime.get_program()).chain(runtime.get_args());
    let oci = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("OCI", oci).env("ID", &bundle.id).current_dir(&bundle.directory);
    command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    bundle.to_files(command)
}

#[test]
fn a_stream_that_is_closed_is_the_null_device() {
    if is_peer() {
        // What Go's runtime opens first takes its place.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("for each in 0 2; do readlink /proc/self/fd/$each; done > /work/streams");
    shell(&bundle, "$OCI run --detach $ID <&- 2>&-").ok();
    bundle.shows("rootfs/work/streams", "/dev/null\n/dev/null\n");
}

#[test]
fn a_reader_that_goes_away_kills_no_command() {
    let bundle = bundle!();
    if is_peer() {
        // Go's runtime dies of SIGPIPE on its standard output.
        return;
    }
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let output = bundle.command(&["features"]).stdout(write).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("/dev/stdout: broken pipe"), "{told}");
}

#[test]
fn descriptors_are_preserved_on_request_and_not_otherwise() {
    let mut bundle = bundle!();
    bundle.script("ls /proc/self/fd");
    let all = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let output = shell(&bundle, "$OCI run $ID 3</dev/null 4</dev/null 5</dev/null");
    assert_eq!(all(&output.ok()), ["0", "1", "2", "3"]);
    let output = shell(&bundle, "$OCI run --preserve-fds 2 $ID 3</dev/null 4</dev/null 5</dev/null");
    assert_eq!(all(&output.ok()), ["0", "1", "2", "3", "4", "5"]);
    if !is_peer() {
        // Go's runtime has opened the next one by the time runc looks.
        assert!(!shell(&bundle, "$OCI run --preserve-fds 2 $ID 3</dev/null").status.success());
    }
    bundle.assert_gone();
}

#[test]
fn exec_preserves_descriptors_on_request() {
    let bundle = bundle!();
    bundle.up();
    std::fs::write(bundle.path("file"), "of the caller").unwrap();
    let output =
        shell(&bundle, "$OCI exec --preserve-fds 1 $ID sh -c 'cat <&3; ls /proc/self/fd' 3<file 4</dev/null");
    assert_eq!(output.ok(), "of the caller0\n1\n2\n3\n4\n");
    let output = shell(&bundle, "$OCI exec $ID ls /proc/self/fd 3<file 4</dev/null");
    assert_eq!(output.ok(), "0\n1\n2\n3\n");
    if is_peer() {
        // runc 1.1 has them for a container alone.
        return;
    }
    let output = shell(
        &bundle,
        "export LISTEN_FDS=1 LISTEN_PID=$$; exec $OCI exec $ID sh -c 'cat <&3; echo \" $LISTEN_FDS\"' 3<file",
    );
    assert_eq!(output.ok(), "of the caller 1\n");
}

#[test]
fn a_log_file_is_not_taken_for_a_preserved_descriptor() {
    if is_peer() {
        // runc looks at the number alone.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("ls /proc/self/fd");
    assert!(!shell(&bundle, "$OCI --log log run --preserve-fds 1 $ID").status.success());
}

#[test]
fn descriptors_of_socket_activation_are_preserved_and_told() {
    let mut bundle = bundle!();
    bundle.script("ls /proc/self/fd; echo $LISTEN_FDS $LISTEN_PID");
    let output =
        shell(&bundle, "export LISTEN_FDS=2 LISTEN_PID=$$; exec $OCI run $ID 3</dev/null 4</dev/null").ok();
    assert!(output.contains("\n2 1\n"), "{output}");
    // runc 1.1 hands one of its own on besides.
    assert!(is_peer() || output.starts_with("0\n1\n2\n3\n4\n5\n2 1"), "{output}");
}

#[test]
fn streams_belong_to_the_user_but_the_null_device_does_not() {
    use std::os::unix::fs::MetadataExt;

    let mut bundle = bundle!();
    bundle.configure(|config| config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000}));
    // Its standard input is the host's null device.
    bundle.create();
    let owner = |path: &std::path::Path| std::fs::metadata(path).unwrap().uid();
    assert_eq!((owner(&bundle.path("stdout")), owner(&bundle.path("stderr"))), (1000, 1000));
    assert_eq!(owner(std::path::Path::new("/dev/null")), 0);
}

#[test]
fn a_pid_file_is_written_whole_in_place_of_what_was_there() {
    let bundle = bundle!();
    let (file, elsewhere) = (bundle.path("pid"), bundle.path("elsewhere"));
    std::fs::write(&elsewhere, "not this").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    bundle.detached(&["create", "--pid-file", "pid", &bundle.id]).ok();
    assert!(std::fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(bundle.read("pid"), bundle.state()["pid"].to_string());
    assert_eq!(bundle.read("elsewhere"), "not this");
    let left: Vec<_> = std::fs::read_dir(&bundle.directory).unwrap().flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".pid")), "{left:?}");
}

#[test]
fn a_service_manager_is_told_when_the_container_is_ready() {
    if is_peer() {
        // The same is true of runc, whose socket is where its own state is.
        return;
    }
    let mut bundle = bundle!();
    let host = std::os::unix::net::UnixDatagram::bind(bundle.path("host.sock")).unwrap();
    host.set_read_timeout(Some(std::time::Duration::from_secs(15))).unwrap();
    bundle.script(
        "test -d /run/notify || exit 1; grep -q '/run/notify ro,nosuid,nodev,noexec' /proc/self/mountinfo || exit 2
        echo \"at $NOTIFY_SOCKET\"; until test -e /tmp/go; do sleep 0.05; done
        echo asked; sleep 1000",
    );
    let mut command = bundle.command(&["run", "-d", &bundle.id]);
    command.env("NOTIFY_SOCKET", bundle.path("host.sock"));
    let [out, err] = ["stdout", "stderr"].map(|name| std::fs::File::create(bundle.path(name)).unwrap());
    let mut run = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
    bundle.shows("stdout", "at /run/notify/notify.sock");
    // What a program in the container would send; there is none in the image that does.
    let inside = bundle.root().join(&bundle.id).join("notify/notify.sock");
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"STATUS=starting", &inside).unwrap();
    sender.send_to(b"STATUS=up\nREADY=1", &inside).unwrap();
    let mut buffer = [0; 256];
    let mut next = || {
        let length = host.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), format!("MAINPID={}", bundle.state()["pid"]));
    // Its descriptor, not taken, is closed: what came before was read.
    assert_eq!(next(), "BARRIER=1");
    assert!(run.wait().unwrap().success());
    assert_eq!(bundle.status(), "running");
}
