//! What is not part of a container: mounts of the host, devices, namespaces by path.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use super::{LIMIT, assert_unknown, checkpoint, counting, counts_beyond, restore, there_and_back, up};
use crate::bundle::is_peer;

#[test]
fn mounts_of_the_host_are_there_again() {
    let mut bundle = counting!();
    fs::create_dir_all(bundle.path("volume")).unwrap();
    fs::write(bundle.path("file"), "a file\n").unwrap();
    fs::create_dir_all(bundle.path("rootfs/var")).unwrap();
    std::os::unix::fs::symlink("/run", bundle.path("rootfs/var/run")).unwrap();
    let bind = |to: &str, from: &str, more: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["bind", more]});
    let (volume, file) =
        (bundle.path("volume").display().to_string(), bundle.path("file").display().to_string());
    bundle.configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(bind("/data", &volume, "rw"));
        mounts.push(bind("/etc/one file", &file, "ro"));
        mounts.push(bind("/data/inner", &file, "ro"));
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        mounts.push(bind("/tmp/inside", &volume, "rw"));
        mounts.push(bind("/var/run/linked", &volume, "rw"));
        mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}));
        mounts.push(
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}),
        );
    });
    up(&bundle);
    bundle.exec(&["/bin/sh", "-c", "echo kept > /tmp/kept; echo shm > /dev/shm/kept"]).ok();
    let before = attributes(&bundle);
    there_and_back(&bundle, &[], || {
        // A volume as whoever moves a container has it: empty.
        fs::remove_file(bundle.path("volume/inner")).unwrap();
        fs::write(bundle.path("volume/new"), "from outside\n").unwrap();
    });
    if !is_peer() {
        // runc 1.1 shows the host's groups afterwards, and /data/inner can be written.
        assert_eq!(attributes(&bundle), before);
    }
    let files = [
        "/bin/cat",
        "/data/new",
        "/tmp/inside/new",
        "/run/linked/new",
        "/etc/one file",
        "/data/inner",
        "/tmp/kept",
        "/dev/shm/kept",
    ];
    let shown = bundle.exec(&files).ok();
    assert_eq!(shown, "from outside\n".repeat(3) + "a file\na file\nkept\nshm\n");
    bundle.exec(&["/bin/sh", "-c", "echo > '/etc/one file'"]).fails(1);
    if !is_peer() {
        // On v2 it sees all of the host's, having no cgroup namespace.
        if !is_v2() {
            let group = bundle.exec(&["/bin/cat", "/sys/fs/cgroup/pids/cgroup.procs"]).ok();
            assert!(group.lines().any(|pid| pid == "1"), "{group}");
        }
    }
    bundle.delete();
    assert_unknown(&bundle);
}

#[test]
fn a_mount_below_a_mount_of_the_host_is_there_again() {
    if is_peer() {
        // runc names the mounts of config.json alone, and criu refuses what is mounted below them.
        return;
    }
    let mut bundle = counting!();
    let volume = bundle.path("volume").display().to_string();
    fs::create_dir_all(bundle.path("volume/below")).unwrap();
    let mount = |target: &str| {
        let mounted = nix::mount::mount(
            Some("tmpfs"),
            target,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        );
        mounted.unwrap();
    };
    mount(&format!("{volume}/below"));
    bundle.configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]}));
        mounts.push(json!({"destination": "/data/own", "type": "tmpfs", "source": "tmpfs"}));
    });
    up(&bundle);
    bundle.exec(&["/bin/sh", "-c", "echo kept > /data/own/kept"]).ok();
    there_and_back(&bundle, &[], || {
        fs::write(bundle.path("volume/below/new"), "from below\n").unwrap();
    });
    let shown = bundle.exec(&["/bin/cat", "/data/below/new", "/data/own/kept"]).ok();
    assert_eq!(shown, "from below\nkept\n");
    bundle.delete();
    nix::mount::umount(format!("{volume}/below").as_str()).unwrap();
}

/// The mounts of the container, with the part of their file system that they show, and their attributes.
fn attributes(bundle: &crate::bundle::Bundle) -> BTreeSet<String> {
    let table = "while read -r _ _ _ root at options _; do echo $root $at $options; done < /proc/1/mountinfo";
    bundle.exec(&["/bin/sh", "-c", table]).ok().lines().map(str::to_owned).collect()
}

fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn a_cgroup_namespace_shows_no_more_than_before() {
    if is_peer() {
        // runc 1.1 leaves the container in the host's.
        return;
    }
    let mut bundle = counting!();
    bundle.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        let mount =
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    up(&bundle);
    let own = if is_v2() { "/sys/fs/cgroup/cgroup.procs" } else { "/sys/fs/cgroup/pids/cgroup.procs" };
    let seen = || (attributes(&bundle), bundle.exec(&["/bin/cat", "/proc/1/cgroup"]).ok());
    let members = || bundle.exec(&["/bin/cat", own]).ok().lines().any(|pid| pid == "1");
    let before = seen();
    assert!(members() && before.1.lines().all(|line| line.ends_with(":/")), "{before:#?}");
    there_and_back(&bundle, &[], || ());
    assert_eq!(seen(), before);
    assert!(members());
    bundle.delete();
}

#[test]
fn hierarchies_that_are_shown_twice_stay_read_only() {
    let mut bundle = counting!();
    bundle.configure(|config| {
        let options = ["ro", "nosuid", "nodev", "noexec"];
        for to in ["/sys/fs/cgroup", "/cg"] {
            let mount = json!({"destination": to, "type": "cgroup", "source": "cgroup", "options": options});
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
    });
    up(&bundle);
    let before = attributes(&bundle);
    there_and_back(&bundle, &[], || ());
    // runc 1.1 shows the host's groups afterwards, and they can be written.
    assert!(attributes(&bundle) == before || is_peer(), "{before:#?} {:#?}", attributes(&bundle));
}

#[test]
fn mounts_below_stay_restricted_as_far_as_the_container_had_them() {
    if is_peer() {
        // criu refuses what is mounted below.
        return;
    }
    let mut bundle = counting!();
    let volume = bundle.path("volume").display().to_string();
    fs::create_dir_all(bundle.path("volume/sub")).unwrap();
    fs::create_dir_all(bundle.path("volume/own")).unwrap();
    let kind = Some("tmpfs");
    let sub = format!("{volume}/sub");
    nix::mount::mount(kind, sub.as_str(), kind, nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    bundle.configure(|config| {
        for (to, more) in [("/d1", &[][..]), ("/d2", &["rro", "rnosuid", "rnoexec"]), ("/d3", &["ro"])] {
            let options: Vec<_> = std::iter::once(&"rbind").chain(more).collect();
            let mount = json!({"destination": to, "type": "bind", "source": volume, "options": options});
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
        let own =
            json!({"destination": "/d2/own", "type": "bind", "source": volume, "options": ["bind", "nodev"]});
        config["mounts"].as_array_mut().unwrap().push(own);
    });
    up(&bundle);
    let before = attributes(&bundle);
    there_and_back(&bundle, &[], || ());
    assert_eq!(attributes(&bundle), before);
    bundle.delete();
    // A checkpoint of another runtime tells nothing of mounts: then the configuration does.
    bundle.configure(|config| drop(config["mounts"].as_array_mut().unwrap().pop()));
    up(&bundle);
    let before = attributes(&bundle);
    there_and_back(&bundle, &[], || fs::remove_file(bundle.path("checkpoint/mountinfo")).unwrap());
    assert_eq!(attributes(&bundle), before);
    bundle.delete();
    nix::mount::umount(sub.as_str()).unwrap();
}

#[test]
fn places_for_mounts_are_made_in_a_root_that_has_none() {
    let mut bundle = counting!();
    bundle.configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/made/below", "type": "tmpfs", "source": "tmpfs"}));
    });
    up(&bundle);
    there_and_back(&bundle, &[], || {
        fs::remove_dir(bundle.path("rootfs/made/below")).unwrap();
        fs::remove_dir(bundle.path("rootfs/made")).unwrap();
    });
}

#[test]
fn a_network_namespace_by_path_is_joined_again() {
    let mut bundle = counting!();
    let name = bundle.id.clone();
    let path = format!("/run/netns/{name}");
    let ip = |args: &[&str]| assert!(std::process::Command::new("ip").args(args).status().unwrap().success());
    ip(&["netns", "add", &name]);
    ip(&["-n", &name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
    ip(&["-n", &name, "addr", "add", "10.9.8.7/24", "dev", "veth0"]);
    bundle.configure(|config| config["linux"]["namespaces"][1] = json!({"type": "network", "path": path}));
    up(&bundle);
    there_and_back(&bundle, &[], || ());
    let shown = bundle.exec(&["/bin/busybox", "ip", "addr"]).ok();
    assert!(shown.contains("10.9.8.7"), "{shown}");
    bundle.delete();
    ip(&["netns", "del", &name]);
}

#[test]
fn a_connection_over_the_loopback_goes_on() {
    let mut bundle = counting!();
    bundle.script(
        "/bin/busybox nc -l -p 7000 -e /bin/cat & sleep 0.3
         (i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done) | /bin/busybox nc 127.0.0.1 7000 |
             while read -r i; do echo $i > /work/count; done",
    );
    up(&bundle);
    counts_beyond(&bundle, 3);
    let told = checkpoint(&bundle, &[]).fails(1);
    if !is_peer() {
        assert!(told.contains("consider using --tcp-established"), "{told}");
        assert!(told.contains("checkpoint/dump.log"), "{told}");
    }
    assert_eq!(bundle.status(), "running");
    let at = counts_beyond(&bundle, super::count(&bundle).unwrap_or_default());
    checkpoint(&bundle, &["--tcp-established"]).ok();
    if is_peer() {
        // It leaves the interface down, over which the connection goes.
        return;
    }
    restore(&bundle, &["--tcp-established"]).ok();
    let now = counts_beyond(&bundle, at);
    assert!(now < at + 1000, "it began anew");
    let limit = LIMIT;
    hull_tests::wait_until(limit, "the connection", || {
        let shown = bundle.exec(&["/bin/busybox", "netstat", "-tn"]).ok();
        if shown.contains("ESTABLISHED") { Ok(()) } else { Err(shown) }
    });
}

#[test]
fn root_of_a_user_namespace_comes_back() {
    if is_peer() {
        // The directory that runc makes is closed to it.
        return;
    }
    let mut bundle = counting!();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    let owned =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.path("rootfs")).status();
    assert!(owned.unwrap().success());
    up(&bundle);
    there_and_back(&bundle, &[], || ());
    let shown =
        bundle.exec(&["/bin/sh", "-c", "id -u; cat /proc/self/uid_map; echo > /dev/null && echo open"]).ok();
    assert!(shown.starts_with("0\n") && shown.contains("100000") && shown.contains("open"), "{shown}");
}
