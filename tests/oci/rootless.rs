//! An ordinary user, with a group that was delegated and without (oci-runtime.md 6). Ranges of ids and podman are the callers' cases.

use std::path::{Path, PathBuf};
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
    as_user_after(bundle, "", arguments)
}

/// The same after root has done something in a PID namespace of its own.
fn as_user_after(bundle: &Bundle, script: &str, arguments: &[&str]) -> Output {
    let wanted = bundle.command(arguments);
    let id = ID.to_string();
    let mut command = Command::new(if script.is_empty() { "setpriv" } else { "unshare" });
    if !script.is_empty() {
        let script = format!("{script}; exec \"$@\"");
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script, "sh", "setpriv"]);
    }
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
fn a_user_joins_the_users_and_processes_of_another_container_of_his() {
    let mut first = bundle!();
    give_away(&mut first);
    as_user(&first, &["run", "-d", &first.id]).ok();
    let state: Value = serde_json::from_str(&as_user(&first, &["state", &first.id]).ok()).unwrap();
    let mut second = bundle!();
    give_away(&mut second);
    second.configure(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        if !is_peer() {
            // runc 1.1 wants them even so.
            linux.remove("uidMappings");
            linux.remove("gidMappings");
        }
        for one in linux["namespaces"].as_array_mut().unwrap() {
            if one["type"] == "user" || one["type"] == "pid" {
                let kind = one["type"].as_str().unwrap();
                one["path"] = json!(format!("/proc/{}/ns/{kind}", state["pid"]));
            }
        }
    });
    second.script("cat /proc/1/cmdline; id -u");
    let told = as_user(&second, &["run", &second.id]).ok();
    assert_eq!(told, "/bin/sleep\u{0}1000\u{0}0\n");
    as_user(&first, &["delete", "--force", &first.id]).ok();
}

#[test]
fn root_of_a_user_namespace_that_denies_setgroups_makes_a_container_and_enters_it() {
    let mut bundle = bundle!();
    // Groups are the host's, which are not this root's to use.
    bundle.configure(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.remove("cgroupsPath");
    });
    let inside = |bundle: &Bundle, arguments: &[&str]| {
        let wanted = bundle.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--"]).current_dir(&bundle.directory);
        command.arg("sh").args(["-c", "\"$@\"", "sh"]).arg(wanted.get_program()).args(wanted.get_args());
        command.env_remove("NOTIFY_SOCKET").env("XDG_RUNTIME_DIR", &bundle.directory);
        bundle.to_files(command)
    };
    bundle.script("id -u; cat /proc/self/setgroups");
    assert_eq!(inside(&bundle, &["run", &bundle.id]).ok(), "0\ndeny\n");
    bundle.args(&["/bin/sleep", "1000"]);
    inside(&bundle, &["run", "-d", &bundle.id]).ok();
    if !is_peer() {
        // Whoever enters meets the same denial: here root of the host, whom runc 1.1 leaves in his own user namespace.
        assert_eq!(bundle.exec(&["cat", "/proc/self/setgroups"]).ok(), "deny\n");
    }
    bundle.delete();
    if is_peer() {
        // It leaves additional groups out without a word.
        return;
    }
    bundle.configure(|config| config["process"]["user"]["additionalGids"] = json!([7]));
    let told = inside(&bundle, &["run", &bundle.id]).fails(1);
    assert!(told.contains("cannot set any additional groups"), "{told}");
}

#[test]
fn a_user_makes_a_container_where_files_in_memory_are_not_executable_unless_asked() {
    if is_peer() {
        // runc 1.1 does not ask.
        return;
    }
    if std::fs::metadata("/proc/sys/vm/memfd_noexec").is_err() {
        return println!("left out: Linux before 6.3 lets every file in memory be executed");
    }
    let mut bundle = bundle!();
    give_away(&mut bundle);
    bundle.script("echo ran");
    let set = |value: u8| format!("echo {value} >/proc/sys/vm/memfd_noexec");
    assert_eq!(as_user_after(&bundle, &set(1), &["run", &bundle.id]).ok(), "ran\n");
    let told = as_user_after(&bundle, &set(2), &["run", &bundle.id]).fails(1);
    assert!(told.contains("vm.memfd_noexec=2"), "{told}");
}

#[test]
fn what_a_user_cannot_have_is_refused() {
    if is_peer() {
        // The texts are those of runc 1.5.
        return;
    }
    type Row = (fn(&mut Value), &'static str);
    let rows: [Row; 7] = [
        (
            |config| drop(config["linux"].as_object_mut().unwrap().remove("uidMappings")),
            "rootless containers requires at least one UID mapping",
        ),
        (
            |config| drop(config["linux"].as_object_mut().unwrap().remove("gidMappings")),
            "rootless containers requires at least one GID mapping",
        ),
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

#[test]
fn without_a_group_of_its_own_a_container_is_not_paused_or_limited() {
    let mut bundle = bundle!();
    give_away(&mut bundle);
    as_user(&bundle, &["run", "-d", &bundle.id]).ok();
    if !is_peer() {
        // runc 1.1 has other words for each.
        for line in [&["pause"][..], &["update", "--pids-limit", "9"], &["events", "--stats"]] {
            let told = as_user(&bundle, &[line, &[&bundle.id]].concat()).fails(1);
            assert!(told.contains("cgroup not exist"), "{line:?}: {told}");
        }
    }
    assert_eq!(as_user(&bundle, &["state", &bundle.id]).ok().matches("\"running\"").count(), 1);
    as_user(&bundle, &["delete", "--force", &bundle.id]).ok();
}

#[test]
fn without_a_group_of_its_own_limits_are_refused_and_so_is_a_path() {
    let mut bundle = bundle!();
    give_away(&mut bundle);
    // Of devices none is delegated, and rules for them are left out.
    bundle.configure(|config| {
        config["linux"]["resources"] =
            json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 0}});
    });
    bundle.args(&["/bin/echo", "in"]);
    assert_eq!(as_user(&bundle, &["run", &bundle.id]).ok(), "in\n");
    let path = format!("/{}/box", bundle.id);
    let rows = [
        json!({"resources": {"memory": {"limit": 64 << 20}}}),
        json!({"resources": {"cpu": {"shares": 512}}}),
        json!({"resources": {}, "cgroupsPath": path}),
        json!({"resources": {"pids": {"limit": 40}}, "cgroupsPath": path}),
    ];
    for row in rows {
        bundle.configure(|config| {
            config["linux"].as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
        });
        let told = as_user(&bundle, &["run", &bundle.id]).fails(1);
        assert!(told.contains("cgroup"), "{row}: {told}");
        bundle.assert_gone();
    }
}

#[test]
fn what_spec_writes_for_a_user_runs_as_he_is() {
    let mut bundle = bundle!();
    give_away(&mut bundle);
    std::fs::remove_file(bundle.path("config.json")).unwrap();
    as_user(&bundle, &["spec", "--rootless"]).ok();
    let mut config: Value = serde_json::from_str(&bundle.read("config.json")).unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    let sys = mounts.iter().find(|mount| mount["destination"] == "/sys").unwrap();
    let options = sys["options"].as_array().unwrap();
    for option in ["rbind", "ro", "nosuid", "noexec", "nodev"] {
        assert!(options.contains(&json!(option)), "{sys}");
    }
    let all = config.to_string();
    assert!(!all.contains("\"gid=") && !all.contains("\"uid="), "{all}");
    assert!(
        config["linux"].get("resources").is_none_or(|all| all == &Value::Null || all == &json!({})),
        "{all}"
    );
    for field in ["uidMappings", "gidMappings"] {
        assert_eq!(config["linux"][field], json!([{"containerID": 0, "hostID": ID, "size": 1}]));
    }
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!([
        "/bin/sh",
        "-c",
        "id -u; (: > /sys/new) 2>/dev/null || echo closed; : > /dev/null && echo open"
    ]);
    config["process"]["env"] = json!(["PATH=/bin"]);
    bundle.configure(|own| *own = config);
    assert_eq!(as_user(&bundle, &["run", &bundle.id]).ok(), "0\nclosed\nopen\n");
}

/// The directory somewhere below another that has an entry of this name.
fn root_below(directory: &Path, name: &str) -> Option<PathBuf> {
    if directory.join(name).is_dir() {
        return Some(directory.to_owned());
    }
    let below = std::fs::read_dir(directory).ok()?.flatten();
    below.filter_map(|entry| root_below(&entry.path(), name)).next()
}

#[test]
fn a_users_state_is_below_his_runtime_directory() {
    let mut bundle = bundle!();
    give_away(&mut bundle);
    let id = ID.to_string();
    let call = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(crate::bundle::runtime().unwrap());
        command.args(words).current_dir(&bundle.directory).env("XDG_RUNTIME_DIR", bundle.path("own"));
        command.env_remove("NOTIFY_SOCKET").env("USER", "caller");
        bundle.to_files(command)
    };
    std::fs::create_dir(bundle.path("own")).unwrap();
    std::os::unix::fs::chown(bundle.path("own"), Some(ID), Some(ID)).unwrap();
    call(&["run", "-d", &bundle.id]).ok();
    let root = root_below(&bundle.path("own"), &bundle.id).expect("a directory with the container's name");
    let about = std::fs::metadata(&root).unwrap();
    // Sticky, so that nobody cleans it up.
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&about) & 0o7777, 0o1700);
    assert_eq!(call(&["list", "-q"]).ok(), format!("{}\n", bundle.id));
    call(&["delete", "--force", &bundle.id]).ok();
    assert!(!root.join(&bundle.id).exists());
}

/// A group in every hierarchy that root has given to the user, with a group below in which he calls; removed with what
/// is in it.
struct Delegated {
    groups: Vec<PathBuf>,
}

impl Delegated {
    fn new(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let below = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
        let hierarchies: Vec<PathBuf> = match is_v2 {
            true => vec![root.to_owned()],
            // Links are other names of the same.
            false => below.filter(|path| path.is_dir() && !path.is_symlink()).collect(),
        };
        let groups: Vec<PathBuf> = hierarchies.iter().map(|hierarchy| hierarchy.join(name)).collect();
        let made = Self { groups };
        for (hierarchy, group) in hierarchies.iter().zip(&made.groups) {
            made.give(hierarchy, group);
        }
        made
    }

    fn give(&self, hierarchy: &Path, group: &Path) {
        let caller = group.join("caller");
        std::fs::create_dir(group).unwrap();
        std::fs::create_dir(&caller).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // On v1 a new group has none, on v2 those of its parent.
            if let Ok(text) = std::fs::read_to_string(hierarchy.join(file)) {
                std::fs::write(group.join(file), &text).unwrap();
                std::fs::write(caller.join(file), &text).unwrap();
            }
        }
        for controller in ["+memory", "+pids", "+cpu"] {
            // On v2 alone, and as far as there are such.
            for at in [hierarchy, group] {
                std::fs::write(at.join("cgroup.subtree_control"), controller).ok();
            }
        }
        for file in ["", "cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control"] {
            let path = group.join(file);
            if path.exists() {
                std::os::unix::fs::chown(path, Some(ID), Some(ID)).unwrap();
            }
        }
    }

    /// The runtime as the user calls it from there.
    fn call(&self, bundle: &Bundle, arguments: &[&str]) -> Output {
        let wanted = bundle.command(arguments);
        let enter =
            self.groups.iter().map(|group| format!("echo $$ >{}/caller/cgroup.procs", group.display()));
        let script = format!("{}; exec \"$@\"", enter.collect::<Vec<_>>().join("; "));
        let id = ID.to_string();
        let mut command = Command::new("sh");
        command.args([
            "-ec",
            &script,
            "sh",
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--",
        ]);
        command.arg(wanted.get_program()).args(wanted.get_args()).current_dir(&bundle.directory);
        command.env("XDG_RUNTIME_DIR", &bundle.directory).env_remove("NOTIFY_SOCKET").env("USER", "caller");
        bundle.to_files(command)
    }

    /// A file of the container's group.
    fn read(&self, (v1, v2): (&str, &str)) -> String {
        let files = self.groups.iter().flat_map(|group| [v1, v2].map(|file| group.join("box").join(file)));
        let text = files.map(std::fs::read_to_string).find_map(Result::ok);
        text.unwrap_or_else(|| panic!("no {v1} and no {v2}")).trim().to_owned()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in &self.groups {
            for below in ["box", "caller", ""] {
                if let Err(error) = std::fs::remove_dir(group.join(below))
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    eprintln!("{}: {error}", group.join(below).display());
                }
            }
        }
    }
}

#[test]
fn a_user_limits_a_container_in_a_group_that_is_his() {
    if is_peer() {
        // runc 1.1 wants systemd for it.
        return;
    }
    let mut bundle = bundle!();
    give_away(&mut bundle);
    let name = format!("{}-user", bundle.id);
    let limits = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 40},
        "devices": [{"allow": false, "access": "rwm"}]});
    bundle.configure(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{name}/box"));
        config["linux"]["resources"] = limits;
    });
    let own = Delegated::new(&name);
    own.call(&bundle, &["run", "-d", &bundle.id]).ok();
    assert_eq!(own.read(("memory.limit_in_bytes", "memory.max")), (64 << 20).to_string());
    assert_eq!(own.read(("pids.max", "pids.max")), "40");
    let told = own.call(&bundle, &["exec", &bundle.id, "cat", "/proc/self/cgroup"]).ok();
    assert!(told.contains("/box"), "{told}");
    own.call(&bundle, &["update", "--pids-limit", "30", &bundle.id]).ok();
    assert_eq!(own.read(("pids.max", "pids.max")), "30");
    let state = || {
        let text = own.call(&bundle, &["state", &bundle.id]).ok();
        serde_json::from_str::<Value>(&text).unwrap()["status"].as_str().unwrap_or_default().to_owned()
    };
    own.call(&bundle, &["pause", &bundle.id]).ok();
    assert_eq!(state(), "paused");
    own.call(&bundle, &["resume", &bundle.id]).ok();
    assert_eq!(state(), "running");
    let event: Value =
        serde_json::from_str(&own.call(&bundle, &["events", "--stats", &bundle.id]).ok()).unwrap();
    assert_eq!(event["data"]["pids"]["limit"], 30);
    let pids: Value =
        serde_json::from_str(&own.call(&bundle, &["ps", "-f", "json", &bundle.id]).ok()).unwrap();
    assert_eq!(pids.as_array().map(Vec::len), Some(1), "{pids}");
    own.call(&bundle, &["delete", "--force", &bundle.id]).ok();
    assert!(!own.groups.iter().any(|group| group.join("box").exists()));
    bundle.assert_gone();
}
