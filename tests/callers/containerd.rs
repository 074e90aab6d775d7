//! containerd, whose shim calls the runtime for `ctr`.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use hull_tests::{Output, criu, skip, wait_until};

use crate::place::{LIMIT, Place, archive, end, find, groups, run, run_on_terminal, runtime};

const IMAGE: &str = "docker.io/library/busybox:latest";

/// A containerd of its own.
struct Containerd {
    place: Place,
    runtime: String,
    daemon: Child,
}

impl Containerd {
    /// Starts it and loads the image.
    fn new() -> Result<Self, String> {
        let place = Place::new(&["containerd", "ctr", "containerd-shim-runc-v2", "script"])?;
        let runtime = runtime()?.display().to_string();
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
             \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            place.path("root"),
            place.path("state"),
            place.path("sock"),
            place.path("ttrpc"),
        );
        let settings = place.write("config.toml", &settings);
        let log = File::create(place.path("log")).map_err(|error| error.to_string())?;
        let mut command = Command::new(find("containerd")?);
        command.args(["--config", &settings]).stdin(Stdio::null()).stderr(log).stdout(Stdio::null());
        if let Ok(path) = criu::path() {
            // Its shims have its variables, and the runtime has theirs.
            command.env("PATH", path);
        }
        let daemon = command.spawn().map_err(|error| format!("containerd: {error}"))?;
        let containerd = Self { place, runtime, daemon };
        wait_until(LIMIT, "containerd", || match containerd.ctr(&["version"]) {
            output if output.status.success() => Ok(()),
            output => Err(output.to_string()),
        });
        let archive = archive()?.display().to_string();
        let loaded = containerd.ctr(&["images", "import", &archive]);
        if loaded.status.success() { Ok(containerd) } else { Err(loaded.to_string()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(find("ctr").unwrap());
        command.arg("--address").arg(self.place.path("sock"));
        // The runtime's state and the shims' sockets lie below /run by namespace.
        command.arg("--namespace").arg(self.place.name()).args(arguments);
        command
    }

    /// `ctr run` with the runtime that is tried.
    fn run_command(&self, flags: &[&str], id: &str, program: &[&str]) -> Command {
        let tried = ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", &self.runtime];
        self.command(&[&tried, flags, &[IMAGE, id], program].concat())
    }

    #[track_caller]
    fn ctr(&self, arguments: &[&str]) -> Output {
        run(self.command(arguments))
    }

    /// A container that goes at its end.
    #[track_caller]
    fn shell(&self, flags: &[&str], script: &str) -> Output {
        run(self.run_command(&[&["--rm"], flags].concat(), "one", &["sh", "-c", script]))
    }

    /// A container that sleeps.
    #[track_caller]
    fn sleeper(&self, id: &str, flags: &[&str]) {
        run(self.run_command(&[&["--detach"], flags].concat(), id, &["sleep", "1000"])).ok();
    }

    #[track_caller]
    fn exec(&self, id: &str, script: &str) -> Output {
        self.ctr(&["task", "exec", "--exec-id", "more", id, "sh", "-c", script])
    }

    /// Waits until `task ls` shows this status.
    #[track_caller]
    fn becomes(&self, id: &str, status: &str) {
        wait_until(LIMIT, status, || {
            let listed = self.ctr(&["task", "ls"]).ok();
            let line = listed.lines().find(|line| line.starts_with(id)).unwrap_or_default();
            if line.ends_with(status) { Ok(()) } else { Err(listed) }
        });
    }

    /// Ends a container and removes it.
    #[track_caller]
    fn remove(&self, id: &str) {
        self.ctr(&["task", "rm", "--force", id]);
        self.ctr(&["container", "rm", id]).ok();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let listed = self.ctr(&["container", "ls", "-q"]).stdout;
        for id in listed.lines() {
            self.ctr(&["task", "rm", "--force", id]);
            self.ctr(&["container", "rm", id]);
        }
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.place.path("log")).unwrap_or_default());
        }
        end(&mut self.daemon);
    }
}

#[test]
fn a_container_runs_and_its_status_is_told() {
    let containerd = caller!(Containerd);
    assert_eq!(containerd.shell(&[], "echo hi").ok(), "hi\n");
    containerd.shell(&[], "exit 7").fails(7);
    let missing = run(containerd.run_command(&["--rm"], "one", &["nonesuch"]));
    let told = missing.fails(1);
    assert!(
        told.contains("OCI runtime create failed") && told.contains("executable file not found in $PATH"),
        "{told}"
    );
    let (status, shown) =
        run_on_terminal(&containerd.run_command(&["--rm", "--tty"], "one", &["sh", "-c", "tty; exit 4"]));
    assert!(status == Some(4) && shown.contains("/dev/pts/0"), "{status:?} {shown}");
    assert_eq!(containerd.ctr(&["container", "ls", "-q"]).ok(), "");
}

#[test]
fn commands_run_inside() {
    let containerd = caller!(Containerd);
    containerd.sleeper("one", &[]);
    // Debian's runc may tell of a start just before its init executes the program.
    wait_until(LIMIT, "the program", || {
        match containerd.exec("one", "cat /proc/1/cmdline | tr '\\0' ' '").ok() {
            text if text == "sleep 1000 " => Ok(()),
            text => Err(text),
        }
    });
    containerd.exec("one", "exit 9").fails(9);
    let told = containerd.ctr(&["task", "exec", "--exec-id", "more", "one", "nonesuch"]).fails(1);
    assert!(
        told.contains("OCI runtime exec failed") && told.contains("executable file not found in $PATH"),
        "{told}"
    );
    let line = ["task", "exec", "--tty", "--exec-id", "more", "one", "sh", "-c", "tty; exit 4"];
    let (status, shown) = run_on_terminal(&containerd.command(&line));
    assert!(status == Some(4) && shown.contains("/dev/pts/0"), "{status:?} {shown}");
    assert!(
        containerd
            .exec("one", "cat /proc/self/cgroup")
            .ok()
            .contains(&format!("memory:/{}/one", containerd.place.name()))
    );
    containerd.remove("one");
}

#[test]
fn a_task_is_signalled_and_removed() {
    let containerd = caller!(Containerd);
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let log = containerd.place.text("output");
    let flags = ["--detach", "--log-uri", &format!("file://{log}")];
    run(containerd.run_command(&flags, "one", &["sh", "-c", script])).ok();
    wait_until(LIMIT, "its output", || match std::fs::read_to_string(&log) {
        Ok(text) if text.contains("ready") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    containerd.ctr(&["task", "kill", "--signal", "SIGTERM", "one"]).ok();
    containerd.becomes("one", "STOPPED");
    assert!(
        containerd.ctr(&["task", "kill", "one"]).fails(1).contains("process already finished: not found")
    );
    let removed = containerd.ctr(&["task", "rm", "one"]);
    assert!(removed.status.code() == Some(5) || removed.stderr.contains("exit code 5"), "{removed}");
    containerd.ctr(&["container", "rm", "one"]).ok();
    containerd.sleeper("two", &[]);
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "--all", "two"]).ok();
    containerd.becomes("two", "STOPPED");
    containerd.remove("two");
}

#[test]
fn a_task_is_paused_and_measured() {
    let containerd = caller!(Containerd);
    containerd.sleeper("one", &["--memory-limit", "67108864", "--cpus", "0.5"]);
    let metrics = containerd.ctr(&["task", "metrics", "one"]).ok();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    };
    assert_eq!(
        (value("memory.limit_in_bytes").as_str(), value("pids.current").as_str()),
        ("67108864", "1"),
        "{metrics}"
    );
    assert!(value("cpuacct.usage ").parse::<u64>().unwrap() > 0, "{metrics}");
    assert!(containerd.ctr(&["task", "ps", "one"]).ok().lines().count() == 2);
    containerd.ctr(&["task", "pause", "one"]).ok();
    containerd.becomes("one", "PAUSED");
    assert!(containerd.exec("one", "true").fails(1).contains("cannot exec in a paused"));
    containerd.ctr(&["task", "resume", "one"]).ok();
    containerd.becomes("one", "RUNNING");
    containerd.exec("one", "true").ok();
    containerd.remove("one");
}

#[test]
fn flags_are_seen_inside() {
    let containerd = caller!(Containerd);
    let inside = |flags: &[&str], script: &str| containerd.shell(flags, script);
    assert_eq!(inside(&["--env", "A=b", "--cwd", "/tmp"], "pwd; echo $A").ok(), "/tmp\nb\n");
    assert!(inside(&["--privileged"], "grep CapEff /proc/self/status").ok().contains("000001ff"));
    assert!(inside(&["--cap-drop", "CAP_CHOWN"], "grep CapEff /proc/self/status").ok().contains("a80425fa"));
    assert!(inside(&["--seccomp"], "grep Seccomp: /proc/self/status").ok().contains('2'));
    assert!(inside(&["--read-only"], "touch /x").fails(1).contains("Read-only file system"));
    assert_eq!(inside(&["--no-pivot"], "echo hi").ok(), "hi\n");
    let volume = containerd.place.directory("volume");
    let mount = format!("type=bind,src={volume},dst=/v,options=rbind:ro");
    assert!(inside(&["--mount", &mount], "grep ' /v ' /proc/mounts").ok().contains(" ro,"));
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(inside(&["--net-host"], "readlink /proc/self/ns/net").ok().trim(), own);
    assert_eq!(
        inside(&["--with-ns", "network:/proc/1/ns/net"], "readlink /proc/self/ns/net").ok().trim(),
        own
    );
    let pid_file = containerd.place.text("pid");
    inside(&["--pid-file", &pid_file], "true").ok();
    assert!(std::fs::read_to_string(pid_file).unwrap().parse::<u32>().is_ok());
}

#[test]
fn a_task_is_checkpointed_and_comes_back_in_another_container() {
    if let Err(reason) = criu::program() {
        skip!("{reason}");
    }
    let containerd = caller!(Containerd);
    let script = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.05; done";
    run(containerd.run_command(&["--detach"], "one", &["sh", "-c", script])).ok();
    let beyond = |id: &str, least: u64| {
        wait_until(LIMIT, "the next count", || {
            let output = containerd.exec(id, "cat /dev/shm/count");
            match output.stdout.trim().parse::<u64>() {
                Ok(count) if count > least => Ok(count),
                _ => Err(output.to_string()),
            }
        })
    };
    let at = beyond("one", 5);
    let images = containerd.place.directory("images");
    containerd.ctr(&["task", "checkpoint", "--image-path", &images, "one"]).ok();
    assert!(containerd.place.path("images/inventory.img").exists());
    containerd.becomes("one", "RUNNING");
    containerd.ctr(&["container", "checkpoint", "--task", "one", "checkpoint:one"]).ok();
    containerd.remove("one");
    containerd.ctr(&["container", "restore", "--live", "two", "checkpoint:one"]).ok();
    containerd.becomes("two", "RUNNING");
    beyond("two", at);
    containerd.remove("two");
}

#[test]
fn nothing_is_left_of_a_container_that_is_removed() {
    let containerd = caller!(Containerd);
    containerd.sleeper("one", &[]);
    let namespace = containerd.place.name();
    let group = format!("{namespace}/one");
    assert!(!groups(&[&group]).is_empty());
    let state = std::path::Path::new("/run/containerd/runc").join(&namespace).join("one");
    assert!(state.exists(), "{} is missing", state.display());
    containerd.remove("one");
    assert_eq!(groups(&[&group]), Vec::<std::path::PathBuf>::new());
    assert!(!state.exists(), "{} is still there", state.display());
}
