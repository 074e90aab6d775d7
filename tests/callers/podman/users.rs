//! podman of an ordinary user, who has a range of subordinate ids in a mount namespace of the case's own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use hull_tests::command::copy_program;
use hull_tests::{Output, wait_until};

use super::IMAGE;
use crate::place::{LIMIT, Place, archive, end, find, run, run_on_terminal, runtime, tell_terminal};

/// Ids that nobody else has.
const ID: u32 = 54321;

/// The user, with a home of its own.
struct User {
    place: Place,
    /// Holds the mount namespace in which the user exists.
    holder: Child,
}

impl User {
    /// Makes the user and loads the image.
    fn new() -> Result<Self, String> {
        let programs =
            ["podman", "conmon", "catatonit", "script", "newuidmap", "newgidmap", "setpriv", "nsenter"];
        let place = Place::new(&programs)?;
        let runtime = runtime()?;
        for (name, from) in [("runtime", runtime), ("image.tar", archive()?)] {
            copy_program(&from, &place.path(name));
        }
        for name in ["", "runtime", "image.tar"] {
            std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        for name in ["home", "run"] {
            let path = place.directory(name);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
            chown(&path, Some(ID), Some(ID)).unwrap();
        }
        place.write(
            "containers.conf",
            "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4000:4000\"]\nlog_driver = \"k8s-file\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             runtime_supports_json = [\"runtime\"]\n",
        );
        let holder = hold(&place)?;
        let user = Self { place, holder };
        let loaded = user.podman(&["load", "-q", "-i", &user.place.text("image.tar")]);
        if loaded.status.success() { Ok(user) } else { Err(loaded.to_string()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(find("nsenter").unwrap());
        let id = ID.to_string();
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).current_dir("/");
        command.args([
            "--wd=/",
            "--",
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "env",
            "-i",
        ]);
        let path = std::env::var("PATH").unwrap_or_default();
        for (name, value) in [
            ("PATH", path),
            ("TERM", "xterm".to_owned()),
            ("HOME", self.place.text("home")),
            ("XDG_RUNTIME_DIR", self.place.text("run")),
            ("CONTAINERS_CONF", self.place.text("containers.conf")),
        ] {
            command.arg(format!("{name}={value}"));
        }
        command.arg(find("podman").unwrap()).arg("--runtime").arg(self.place.path("runtime")).args(arguments);
        command
    }

    #[track_caller]
    fn podman(&self, arguments: &[&str]) -> Output {
        run(self.command(arguments))
    }

    #[track_caller]
    fn shell(&self, flags: &[&str], script: &str) -> Output {
        self.podman(&[&["run", "--rm", "--network=none"], flags, &[IMAGE, "sh", "-c", script]].concat())
    }
}

/// Whoever is to be a user needs a name, and subordinate ids.
fn hold(place: &Place) -> Result<Child, String> {
    let append = |file: &str, line: &str| {
        let old = std::fs::read_to_string(format!("/etc/{file}")).unwrap_or_default();
        place.write(&format!("etc/{file}"), &format!("{old}{line}\n"));
    };
    append("passwd", &format!("caller:x:{ID}:{ID}::{}:/bin/sh", place.text("home")));
    append("group", &format!("caller:x:{ID}:"));
    append("subuid", "caller:200000:65536");
    append("subgid", "caller:200000:65536");
    let script = "for each in passwd group subuid subgid; do
        [ -e /etc/$each ] || : >/etc/$each
        mount --bind \"$1/$each\" /etc/$each || exit 1
    done
    echo up; exec cat";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh", &place.text("etc")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
    let mut line = String::new();
    let pipe = holder.stdout.take().ok_or("no pipe")?;
    BufReader::new(pipe).read_line(&mut line).map_err(|error| format!("unshare: {error}"))?;
    if line.trim() == "up" { Ok(holder) } else { Err("the user's files cannot be mounted".to_owned()) }
}

impl Drop for User {
    fn drop(&mut self) {
        let all = ["--force", "--all", "--time=0"];
        // The last one ends the process that holds the user's namespaces.
        for line in [["pod", "rm"].as_slice(), &["rm"], &["system", "migrate"]] {
            let flags = if line[0] == "system" { &[][..] } else { &all };
            let ended = self.podman(&[line, flags].concat());
            if !ended.status.success() {
                eprintln!("{ended}");
            }
        }
        end(&mut self.holder);
    }
}

#[test]
fn a_user_runs_containers() {
    let user = caller!(User);
    assert_eq!(user.shell(&[], "id -u; touch /x && ls /x").ok(), "0\n/x\n");
    user.shell(&[], "exit 7").fails(7);
    let told = user.podman(&["run", "--rm", "--network=none", IMAGE, "nonesuch"]).fails(127);
    assert!(told.contains("executable file not found in $PATH"), "{told}");
    user.podman(&[
        "run",
        "-d",
        "--name=one",
        "--network=none",
        IMAGE,
        "sh",
        "-c",
        "echo first; exec sleep 1000",
    ])
    .ok();
    wait_until(LIMIT, "its first line", || match user.podman(&["logs", "one"]).ok() {
        text if text == "first\n" => Ok(()),
        text => Err(text),
    });
    assert_eq!(user.podman(&["exec", "one", "id", "-u"]).ok(), "0\n");
    user.podman(&["exec", "one", "sh", "-c", "exit 9"]).fails(9);
    assert_eq!(user.podman(&["exec", "-u", "1000:1001", "one", "id", "-g"]).ok(), "1001\n");
    let script = tell_terminal(3);
    let (status, shown) = run_on_terminal(&user.command(&["exec", "-it", "one", "sh", "-c", &script]));
    assert_eq!(status, Some(3), "{shown}");
    assert!(shown.contains("/dev/pts/") && shown.contains("33 99"), "{shown}");
    user.podman(&["kill", "--signal=KILL", "one"]).ok();
    assert_eq!(user.podman(&["wait", "one"]).ok(), "137\n");
    user.podman(&["rm", "one"]).ok();
    assert_eq!(user.podman(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_users_ids_are_mapped() {
    let user = caller!(User);
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let map = user.shell(&[], "cat /proc/self/uid_map").ok();
    assert_eq!(words(map), ["0", "54321", "1", "1", "200000", "65536"]);
    assert_eq!(user.shell(&["--userns=keep-id"], "id -u; id -g").ok(), "54321\n54321\n");
    assert_eq!(user.shell(&["--user=1000:1001"], "id -u; id -g").ok(), "1000\n1001\n");
    assert!(user.shell(&["--privileged"], "grep CapEff /proc/self/status").ok().contains("000001ff"));
    let denied = user.shell(&["--cap-drop=all"], "chown 1:1 /etc/passwd").fails(1);
    assert!(denied.contains("not permitted"), "{denied}");
    let home = user.place.text("home");
    let volume = format!("--volume={home}:/v");
    user.shell(&[&volume], "echo content > /v/file").ok();
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(user.place.path("home/file")).unwrap());
    assert_eq!(owner, ID);
    assert!(user.shell(&[&format!("{volume}:ro")], "touch /v/x").fails(1).contains("Read-only file system"));
    assert!(user.shell(&[], "ls -l /dev/null").ok().contains("1,   3"));
}

#[test]
fn a_user_has_pods_and_builds_images() {
    let user = caller!(User);
    let shared = "--share=pid,net,ipc,uts";
    user.podman(&["pod", "create", "--name=pod", "--network=none", "--hostname=shared", shared]).ok();
    user.podman(&["run", "-d", "--pod=pod", "--name=one", IMAGE, "sleep", "1000"]).ok();
    assert_eq!(user.podman(&["run", "--rm", "--pod=pod", IMAGE, "hostname"]).ok(), "shared\n");
    assert!(user.podman(&["exec", "one", "ps"]).ok().contains("sleep 1000"));
    user.podman(&["pod", "rm", "--force", "--time=0", "pod"]).ok();
    let context = user.place.directory("context");
    std::fs::copy("/usr/bin/busybox", user.place.path("context/busybox")).unwrap();
    let recipe = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"mkdir\", \"/made\"]\n\
                  CMD [\"/bin/busybox\", \"ls\", \"-d\", \"/made\"]\n";
    user.place.write("context/Containerfile", recipe);
    user.podman(&[
        "build",
        "-q",
        "--network=none",
        "--isolation=oci",
        "--pull-never",
        "-t",
        "built",
        &context,
    ])
    .ok();
    assert_eq!(user.podman(&["run", "--rm", "--network=none", "localhost/built"]).ok(), "/made\n");
}
