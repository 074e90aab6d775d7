//! Many calls at once, a full disk, a place that is not ours: no state is spoiled, and every error names the path.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hull_tests::command;
use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

const LIMIT: Duration = Duration::from_secs(60);
const CROWD: usize = 100;

/// A call whose output goes to a file of the bundle, since nobody reads a hundred pipes.
fn call(bundle: &Bundle, at: usize, line: &[&str]) -> (Child, String) {
    let name = format!("call{at}");
    let out = File::create(bundle.path(&name)).unwrap();
    let mut command = bundle.command(line);
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
    (command.spawn().unwrap(), name)
}

#[test]
fn a_hundred_calls_at_once_do_not_spoil_a_container() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["linux"]["resources"]["pids"] = json!({"limit": 50}));
    bundle.up();
    let limit = |at: usize| (60 + at).to_string();
    let calls: Vec<_> = (0..CROWD)
        .map(|at| match at % 5 {
            0 => call(&bundle, at, &["update", "--pids-limit", &limit(at), &bundle.id]),
            1 => call(&bundle, at, &["list", "-f", "json"]),
            2 => call(&bundle, at, &["ps", "-f", "json", &bundle.id]),
            3 => call(&bundle, at, &["events", "--stats", &bundle.id]),
            _ => call(&bundle, at, &["state", &bundle.id]),
        })
        .collect();
    for (at, (mut child, name)) in calls.into_iter().enumerate() {
        let status = child.wait().unwrap();
        let text = bundle.read(&name);
        assert!(status.success(), "{at}: {text}");
        let told: Value = if at % 5 == 0 { Value::Null } else { serde_json::from_str(&text).unwrap() };
        match at % 5 {
            1 => {
                assert_eq!((told.as_array().map(Vec::len), &told[0]["status"]), (Some(1), &json!("running")))
            }
            2 => assert_eq!(told, json!([bundle.state()["pid"]])),
            3 => assert!(told["data"]["pids"]["limit"].as_u64() >= Some(50), "{text}"),
            _ => {}
        }
    }
    // What holds is what one of them asked for, and the next one starts from it.
    let text = bundle.oci(&["events", "--stats", &bundle.id]).ok();
    let holds = serde_json::from_str::<Value>(&text).unwrap()["data"]["pids"]["limit"].as_u64().unwrap();
    assert!((0..CROWD).step_by(5).any(|at| limit(at) == holds.to_string()), "{holds}");
    bundle.oci(&["update", "--memory", "96m", &bundle.id]).ok();
    if !is_peer() {
        let kept = bundle.root().join(&bundle.id).join("config.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
        assert_eq!(kept["linux"]["resources"]["pids"]["limit"], holds);
    }
    bundle.delete();
    bundle.assert_gone();
}

#[test]
fn of_many_starts_at_once_one_starts() {
    if is_peer() {
        // runc takes no lock: more than one start may find the same init at its gate, and one may wait there for ever.
        return;
    }
    let bundle = bundle!();
    bundle.create();
    let calls: Vec<_> = (0..12).map(|at| call(&bundle, at, &["start", &bundle.id])).collect();
    let ended = calls.into_iter().map(|(mut child, name)| (child.wait().unwrap(), bundle.read(&name)));
    let (good, bad): (Vec<_>, Vec<_>) = ended.partition(|(status, _)| status.success());
    assert!(good.len() == 1, "{good:?} {bad:?}");
    let known = |text: &str| text.contains("cannot start an already running container");
    assert!(bad.iter().all(|(_, text)| known(text)), "{bad:?}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn calls_beside_a_delete_find_a_container_or_none() {
    if is_peer() {
        // runc takes no lock: its update beside a delete has many ends.
        return;
    }
    let bundle = bundle!();
    for round in 0..4 {
        bundle.up();
        let mut calls: Vec<_> = (0..20)
            .map(|at| match at % 4 {
                0 => call(&bundle, at, &["update", "--pids-limit", "60", &bundle.id]),
                1 => call(&bundle, at, &["ps", "-f", "json", &bundle.id]),
                2 => call(&bundle, at, &["exec", &bundle.id, "true"]),
                _ => call(&bundle, at, &["kill", &bundle.id, "KILL"]),
            })
            .collect();
        calls.extend((20..24).map(|at| call(&bundle, at, &["delete", "--force", &bundle.id])));
        for (mut child, name) in calls {
            let (status, text) = (child.wait().unwrap(), bundle.read(&name));
            let known =
                ["does not exist", "not running", "stopped container", "No such file", "join the container"]
                    .iter()
                    .chain(&[
                        "no such process",
                        "cgroup not exist",
                        "no such file",
                        "still running",
                        "status 137",
                    ])
                    .any(|words| text.contains(words));
            // An exec that is killed with the container has the status of a killed process.
            assert!(status.success() || status.code() == Some(137) || known, "{round}: {status}: {text}");
        }
        bundle.assert_gone();
    }
}

/// A file system of this size over the root directory of the runtime, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(place: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&place).unwrap();
        let mut mount = Command::new("mount");
        command::run(mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place), "", LIMIT).ok();
        Self(place)
    }

    /// Nothing fits there any more.
    fn fill(&self) {
        let zeros = vec![0; 1 << 20];
        assert!(std::fs::write(self.0.join("@full"), &zeros).is_err());
        assert!(std::fs::write(self.0.join("@fuller"), [0; 1]).is_err());
    }

    fn empty(&self) {
        for name in ["@full", "@fuller"] {
            std::fs::remove_file(self.0.join(name)).unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let ended = Command::new("umount").args(["-l"]).arg(&self.0).status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// The error of `create`, which leaves nothing behind.
fn refused(bundle: &Bundle, disk: &Disk, reason: &str) {
    for verb in [&["create"][..], &["run"], &["run", "-d"]] {
        let told = bundle.detached(&[verb, &[bundle.id.as_str()]].concat()).fails(1);
        assert!(told.contains(&disk.0.display().to_string()) && told.contains(reason), "{told}");
        bundle.assert_gone();
    }
}

#[test]
fn a_full_disk_is_told_with_the_path_and_nothing_is_left() {
    let bundle = bundle!();
    if is_peer() {
        // What it leaves is its own affair.
        return;
    }
    let disk = Disk::mount(bundle.root(), "size=128k");
    disk.fill();
    refused(&bundle, &disk, "no space left on device");
    disk.empty();
    bundle.create();
    disk.fill();
    bundle.oci(&["start", &bundle.id]).ok();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.oci(&["list", "-q"]).ok().contains(&bundle.id));
    assert_eq!(bundle.exec(&["echo", "there"]).ok(), "there\n");
    bundle.oci(&["pause", &bundle.id]).ok();
    bundle.oci(&["resume", &bundle.id]).ok();
    bundle.oci(&["events", "--stats", &bundle.id]).ok();
    let told = bundle.oci(&["update", "--pids-limit", "33", &bundle.id]).fails(1);
    assert!(told.contains("config.json") && told.contains("no space left on device"), "{told}");
    // What could not be kept does not hold either.
    let text = bundle.oci(&["events", "--stats", &bundle.id]).ok();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["data"]["pids"]["limit"], Value::Null);
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    bundle.oci(&["delete", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn a_disk_without_room_for_another_file_is_told_wherever_it_runs_out() {
    let bundle = bundle!();
    if is_peer() {
        return;
    }
    // From none at all to nearly enough: every file of a container is missing once.
    for files in 1..8 {
        let disk = Disk::mount(bundle.root(), &format!("size=1m,nr_inodes={files}"));
        let told = bundle.detached(&["create", &bundle.id]);
        if told.status.success() {
            bundle.delete();
        } else {
            let told = told.fails(1);
            assert!(told.contains(&disk.0.display().to_string()), "{files}: {told}");
            assert!(told.contains("no space left on device"), "{files}: {told}");
        }
        bundle.assert_gone();
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_told_with_the_path() {
    let bundle = bundle!();
    if is_peer() {
        return;
    }
    let disk = Disk::mount(bundle.root(), "ro");
    refused(&bundle, &disk, "read-only file system");
    assert_eq!(bundle.oci(&["list", "-q"]).ok(), "");
    bundle.oci(&["delete", "--force", &bundle.id]).ok();
}

/// The runtime as somebody calls it who has no business with the container.
fn as_stranger(bundle: &Bundle, line: &[&str]) -> hull_tests::Output {
    let wanted = bundle.command(line);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54323", "--regid", "54323", "--clear-groups", "--"]).current_dir("/");
    command.arg(wanted.get_program()).args(wanted.get_args()).env_remove("XDG_RUNTIME_DIR");
    command::run(&mut command, "", LIMIT)
}

#[test]
fn a_stranger_is_told_what_is_not_his() {
    let bundle = bundle!();
    if is_peer() {
        return;
    }
    bundle.create();
    let root = bundle.root();
    let rows: [&[&str]; 11] = [
        &["list"],
        &["state", &bundle.id],
        &["start", &bundle.id],
        &["kill", &bundle.id, "KILL"],
        &["delete", "--force", &bundle.id],
        &["ps", &bundle.id],
        &["events", "--stats", &bundle.id],
        &["pause", &bundle.id],
        &["resume", &bundle.id],
        &["update", "--pids-limit", "9", &bundle.id],
        &["exec", &bundle.id, "true"],
    ];
    for line in rows {
        let told = as_stranger(&bundle, line).fails(if line[0] == "exec" { 255 } else { 1 });
        let names = told.contains(&root.display().to_string());
        assert!(names && told.contains("permission denied"), "{line:?}: {told}");
    }
    assert_eq!(bundle.status(), "created");
    let other = format!("{}-2", bundle.id);
    let directory = bundle.directory.display().to_string();
    let told = as_stranger(&bundle, &["create", "--bundle", &directory, &other]).fails(1);
    assert!(told.contains("permission denied") || told.contains("rootless"), "{told}");
    assert!(!root.join(&other).exists());
}
