//! An ordinary user, without a group that was delegated (oci-runtime.md 6). Ranges of ids and podman are the callers' cases.

use std::process::Command;
use std::time::Duration;

use hull_tests::{Output, command};
use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

/// An id that nobody else has.
const ID: u32 = 54_322;
const LIMIT: Duration = Duration::from_secs(30);

/// Makes the bundle one of an ordinary user.
fn give_away(bundle: &mut Bundle) {
    bundle.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for (field, id) in [("uidMappings", ID), ("gidMappings", ID)] {
            config["linux"][field] = json!([{"containerID": 0, "hostID": id, "size": 1}]);
        }
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.remove("cgroupsPath");
    });
    let id = ID.to_string();
    let mut chown = Command::new("chown");
    command::run(chown.args(["-R", &format!("{id}:{id}")]).arg(&bundle.directory), "", LIMIT).ok();
}

/// The runtime as that user calls it.
fn as_user(bundle: &Bundle, arguments: &[&str]) -> Output {
    let wanted = bundle.command(arguments);
    let id = ID.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).current_dir(&bundle.directory);
    command.arg(wanted.get_program()).args(wanted.get_args());
    command.env("XDG_RUNTIME_DIR", &bundle.directory).env_remove("NOTIFY_SOCKET").env("USER", "caller");
    bundle.to_files(command)
}

#[test]
fn a_user_makes_a_container_enters_and_deletes_it() {
    let mut bundle = bundle!();
    give_away(&mut bundle);
    as_user(&bundle, &["run", "-d", &bundle.id]).ok();
    let state: Value = serde_json::from_str(&as_user(&bundle, &["state", &bundle.id]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    let inside = |script: &str| as_user(&bundle, &["exec", &bundle.id, "/bin/sh", "-c", script]).ok();
    assert_eq!(inside("id -u; cat /proc/self/setgroups"), "0\ndeny\n");
    let map = inside("cat /proc/self/uid_map");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &ID.to_string(), "1"]);
    // The devices are the host's, since nobody but root makes any.
    assert_eq!(inside("echo x > /dev/null; test -c /dev/zero && echo there"), "there\n");
    as_user(&bundle, &["kill", &bundle.id, "KILL"]).ok();
    as_user(&bundle, &["delete", "--force", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn what_a_user_cannot_have_is_refused() {
    if is_peer() {
        // The texts are those of runc 1.5.
        return;
    }
    type Row = (fn(&mut Value), &'static str);
    let rows: [Row; 5] = [
        (
            |config| config["process"]["user"]["additionalGids"] = json!([7]),
            "cannot set any additional groups in a rootless container",
        ),
        (
            |config| config["linux"]["netDevices"] = json!({"eth0": {}}),
            "network devices are not supported for rootless containers",
        ),
        (
            |config| {
                let linux = config["linux"].as_object_mut().unwrap();
                linux.remove("uidMappings");
                linux.remove("gidMappings");
                linux["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "user");
            },
            "rootless container requires user namespaces",
        ),
        (
            |config| {
                let map = config["linux"]["uidMappings"].clone();
                let mount = json!({"destination": "/work", "source": "/tmp", "options": ["bind"],
                    "uidMappings": map, "gidMappings": map});
                config["mounts"].as_array_mut().unwrap().push(mount);
            },
            "id-mapped mounts are not supported for rootless containers",
        ),
        (
            |config| {
                let mount =
                    json!({"destination": "/work", "type": "tmpfs", "source": "x", "options": ["uid=7"]});
                config["mounts"].as_array_mut().unwrap().push(mount);
            },
            "cannot specify uid=7 mount option for rootless container",
        ),
    ];
    let mut wrong = Vec::new();
    for (change, text) in rows {
        let mut bundle = bundle!();
        give_away(&mut bundle);
        bundle.configure(change);
        let told = as_user(&bundle, &["create", &bundle.id]).fails(1);
        if !told.contains(text) {
            wrong.push(format!("{text:?} was not told, but {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
