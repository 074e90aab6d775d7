//! Mounts (oci-runtime.md 4.6), as the container sees them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

pub(crate) fn add(bundle: &mut Bundle, mount: Value) {
    bundle.configure(|config| config["mounts"].as_array_mut().unwrap().push(mount));
}

pub(crate) fn bind(from: &std::path::Path, to: &str, options: &[&str]) -> Value {
    json!({"destination": to, "type": "none", "source": from, "options": options})
}

#[track_caller]
pub(crate) fn run(bundle: &Bundle) -> String {
    bundle.oci(&["run", &bundle.id]).ok()
}

/// What `mountinfo` has of the last mount at a place: its attributes, its propagation, and what its file system adds.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) attributes: Vec<String>,
    propagation: String,
    of_file_system: Vec<String>,
}

pub(crate) fn shown(mountinfo: &str, place: &str) -> Shown {
    let is_there = |line: &&str| line.split(' ').nth(4) == Some(place);
    let line = mountinfo.lines().rfind(is_there).unwrap_or_else(|| panic!("no {place}: {mountinfo}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let list = |text: Option<&str>| text.unwrap_or_default().split(',').map(str::to_owned).collect();
    Shown {
        attributes: list(left.split(' ').nth(5)),
        propagation: left.split(' ').skip(6).collect::<Vec<_>>().join(" "),
        of_file_system: list(right.split(' ').nth(2)),
    }
}

/// Options of a tmpfs, and words that its attributes or its file system's have then, or with a `!` have not.
const OPTIONS: &[(&[&str], &[&str])] = &[
    (&[], &["rw", "relatime", "!nosuid", "!nodev", "!noexec"]),
    (&["ro"], &["ro"]),
    (&["ro", "rw"], &["rw", "!ro"]),
    (&["nosuid", "nodev", "noexec"], &["nosuid", "nodev", "noexec"]),
    (&["nosuid", "nodev", "noexec", "suid", "dev", "exec"], &["!nosuid", "!nodev", "!noexec"]),
    (&["noatime"], &["noatime", "!relatime"]),
    (&["noatime", "atime"], &["relatime", "!noatime"]),
    (&["nodiratime"], &["nodiratime"]),
    (&["nodiratime", "diratime"], &["!nodiratime"]),
    (&["strictatime"], &["!relatime", "!noatime"]),
    (&["strictatime", "nostrictatime"], &["relatime"]),
    (&["relatime"], &["relatime"]),
    (&["norelatime"], &["relatime"]),
    (&["sync"], &["sync"]),
    (&["sync", "async"], &["!sync"]),
    (&["dirsync"], &["dirsync"]),
    (&["mand", "nomand"], &["!mand"]),
    (&["iversion", "noiversion"], &["rw"]),
    (&["silent", "loud"], &["rw"]),
    (&["size=64k", "mode=700", "nr_inodes=9"], &["size=64k", "mode=700", "nr_inodes=9"]),
    (&["size=64k", "nosuid", "mode=700"], &["size=64k", "mode=700", "nosuid"]),
];

/// Of runc 1.2 and later.
const LATER: &[(&[&str], &[&str])] = &[
    (&["defaults"], &["rw"]),
    (&["nosymfollow"], &["nosymfollow"]),
    (&["nosymfollow", "symfollow"], &["!nosymfollow"]),
    (&["lazytime"], &["lazytime"]),
    (&["lazytime", "nolazytime"], &["!lazytime"]),
];

#[test]
fn every_option_of_a_mount_is_an_attribute_of_it() {
    let mut bundle = bundle!();
    let rows: Vec<_> = OPTIONS.iter().chain(if is_peer() { &[] } else { LATER }).collect();
    for (at, (options, _)) in rows.iter().enumerate() {
        let to = format!("/work/{at}");
        add(
            &mut bundle,
            json!({"destination": to, "type": "tmpfs", "source": format!("row{at}"), "options": options}),
        );
    }
    bundle.args(&["/bin/cat", "/proc/self/mountinfo"]);
    let seen = run(&bundle);
    let mut wrong = Vec::new();
    for (at, (options, words)) in rows.iter().enumerate() {
        let there = shown(&seen, &format!("/work/{at}"));
        let has =
            |word: &str| there.attributes.iter().chain(&there.of_file_system).any(|other| other == word);
        // What is read-only is so as a mount; its file system may be written to through another.
        let holds = |word: &&&str| match word.strip_prefix('!') {
            Some("ro") => !there.attributes.iter().any(|other| other == "ro"),
            Some(word) => !has(word),
            None => has(word),
        };
        if !words.iter().all(|word| holds(&word)) {
            wrong.push(format!("{options:?}: {there:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_bind_has_its_options_at_its_top_or_below_it_too() {
    let mut bundle = bundle!();
    let volume = bundle.path("volume");
    fs::create_dir_all(volume.join("below")).unwrap();
    let below = volume.join("below");
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), none, None::<&str>).unwrap();
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        (&["bind", "ro"], &["ro"], &[]),
        (&["rbind"], &["rw"], &["rw"]),
        (&["rbind", "ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"], &["rw"]),
        (&["rbind", "rro"], &["ro"], &["ro"]),
        (
            &["rbind", "rnosuid", "rnodev", "rnoexec"],
            &["nosuid", "nodev", "noexec"],
            &["nosuid", "nodev", "noexec"],
        ),
        (&["rbind", "rnoatime"], &["noatime"], &["noatime"]),
        (&["rbind", "rnodiratime"], &["nodiratime"], &["nodiratime"]),
        (&["rbind", "rnosymfollow"], &["nosymfollow"], &["nosymfollow"]),
        (&["rbind", "ro", "rrw"], &["rw"], &["rw"]),
    ];
    for (at, (options, ..)) in rows.iter().enumerate() {
        add(&mut bundle, bind(&volume, &format!("/work/{at}"), options));
    }
    bundle.args(&["/bin/cat", "/proc/self/mountinfo"]);
    let output = bundle.oci(&["run", &bundle.id]);
    nix::mount::umount(&below).unwrap();
    let seen = output.ok();
    let mut wrong = Vec::new();
    for (at, (options, top, below)) in rows.iter().enumerate() {
        let place = format!("/work/{at}");
        let mut places = vec![(place.clone(), top)];
        if options.contains(&"rbind") {
            places.push((format!("{place}/below"), below));
        } else {
            assert!(!seen.contains(&format!("{place}/below")), "{seen}");
        }
        for (place, words) in places {
            let there = shown(&seen, &place);
            if !words.iter().all(|word| there.attributes.iter().any(|other| other == word)) {
                wrong.push(format!("{options:?} at {place}: {there:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_mount_has_the_propagation_that_was_asked_for() {
    let mut bundle = bundle!();
    let volume = bundle.path("volume");
    fs::create_dir(&volume).unwrap();
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &volume, Some("tmpfs"), none, None::<&str>).unwrap();
    let shared = nix::mount::MsFlags::MS_SHARED;
    nix::mount::mount(None::<&str>, &volume, None::<&str>, shared, None::<&str>).unwrap();
    let rows = [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ];
    for (option, _) in rows {
        add(&mut bundle, bind(&volume, &format!("/work/{option}"), &["rbind", option]));
    }
    bundle.args(&["/bin/cat", "/proc/self/mountinfo"]);
    let output = bundle.oci(&["run", &bundle.id]);
    nix::mount::umount(&volume).unwrap();
    let seen = output.ok();
    for (option, wanted) in rows {
        let there = shown(&seen, &format!("/work/{option}"));
        let holds =
            if wanted.is_empty() { there.propagation.is_empty() } else { there.propagation.contains(wanted) };
        assert!(holds, "{option}: {there:?}");
    }
}

#[test]
fn the_root_has_the_propagation_that_was_asked_for() {
    if is_peer() {
        // runc 1.1 gives it before it changes the root: shared is lost then, and an unbindable one refused.
        return;
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat", "/proc/self/mountinfo"]);
    for (class, wanted) in
        [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable"), ("slave", "")]
    {
        bundle.configure(|config| config["linux"]["rootfsPropagation"] = json!(class));
        let there = shown(&run(&bundle), "/");
        // A slave without a master, which is what the root of a private namespace is here, is private.
        let holds = if wanted.is_empty() {
            !there.propagation.contains("shared")
        } else {
            there.propagation.contains(wanted)
        };
        assert!(holds, "{class}: {there:?}");
    }
}

#[test]
fn mounts_are_made_in_the_order_of_the_list() {
    let mut bundle = bundle!();
    let [first, second] = ["first", "second"].map(|name| {
        let directory = bundle.path(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("name"), name).unwrap();
        directory
    });
    add(&mut bundle, bind(&first, "/work", &["bind"]));
    add(&mut bundle, bind(&second, "/work/inner", &["bind"]));
    add(&mut bundle, bind(&first, "/tmp/inner", &["bind"]));
    // It covers the one before.
    add(&mut bundle, bind(&second, "/tmp", &["bind"]));
    bundle.script("cat /work/name /work/inner/name /tmp/name; test -e /tmp/inner/name || echo covered");
    assert_eq!(run(&bundle), "firstsecondsecondcovered\n");
}

#[test]
fn what_a_mount_is_put_on_is_made() {
    let mut bundle = bundle!();
    let (file, directory) = (bundle.path("file"), bundle.path("directory"));
    fs::write(&file, "a file").unwrap();
    fs::create_dir(&directory).unwrap();
    add(&mut bundle, bind(&file, "/new/of/a/file", &["bind"]));
    add(&mut bundle, bind(&directory, "/new/of/a/directory", &["bind"]));
    add(&mut bundle, json!({"destination": "/new/tmpfs", "type": "tmpfs", "source": "x"}));
    bundle.script("cat /new/of/a/file; /bin/busybox stat -c ' %F %a' /new/of/a");
    assert_eq!(run(&bundle), "a file directory 755\n");
    assert!(fs::metadata(bundle.path("rootfs/new/of/a/file")).unwrap().is_file());
    assert!(fs::metadata(bundle.path("rootfs/new/of/a/directory")).unwrap().is_dir());
}

#[test]
fn a_source_is_seen_from_the_bundle_and_a_destination_from_the_root() {
    let mut bundle = bundle!();
    fs::write(bundle.path("beside"), "beside").unwrap();
    add(
        &mut bundle,
        json!({"destination": "work/file", "type": "bind", "source": "beside", "options": ["bind"]}),
    );
    bundle.args(&["/bin/cat", "/work/file"]);
    assert_eq!(run(&bundle), "beside");
}

#[test]
fn a_source_that_is_missing_is_told() {
    let mut bundle = bundle!();
    add(&mut bundle, bind("/nonexistent/source".as_ref(), "/work", &["bind"]));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("/nonexistent/source") && told.contains("no such file or directory"), "{told}");
    bundle.assert_gone();
}

#[test]
fn files_that_tell_of_the_machine_may_be_replaced_and_no_others_of_proc() {
    let mut bundle = bundle!();
    let file = bundle.path("file");
    fs::write(&file, "replaced\n").unwrap();
    let names = [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
    ];
    let there: Vec<_> =
        names.iter().filter(|name| std::path::Path::new("/proc").join(name).exists()).collect();
    for name in &there {
        add(&mut bundle, bind(&file, &format!("/proc/{name}"), &["bind", "ro"]));
    }
    let script: Vec<_> = there.iter().map(|name| format!("cat /proc/{name}")).collect();
    bundle.script(&script.join(" && "));
    // runc makes /proc/sys read-only over what was mounted below it, but recursively.
    assert_eq!(run(&bundle), "replaced\n".repeat(there.len()));
    for name in ["version", "sys/kernel/core_pattern", "self/attr/current"] {
        let mut bundle = bundle!();
        add(&mut bundle, bind(&file, &format!("/proc/{name}"), &["bind"]));
        let told = bundle.detached(&["create", &bundle.id]).fails(1);
        assert!(told.contains("cannot be mounted because it is inside /proc") || !is_peer(), "{told}");
        assert!(told.contains("/proc"), "{told}");
        bundle.assert_gone();
    }
}

#[test]
fn a_proc_of_the_host_may_be_bound_and_nothing_else() {
    let mut bundle = bundle!();
    bundle.script("test -d /proc/1 && echo there").configure(|config| {
        config["mounts"][0] =
            json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
    });
    assert_eq!(run(&bundle), "there\n");
    let volume = bundle.path("volume");
    fs::create_dir(&volume).unwrap();
    for mount in [
        bind(&volume, "/proc", &["bind"]),
        json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}),
    ] {
        bundle.configure(|config| config["mounts"][0] = mount);
        let told = bundle.detached(&["create", &bundle.id]).fails(1);
        assert!(told.contains("/proc"), "{told}");
        bundle.assert_gone();
    }
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers_and_a_copy_of_it_on_request() {
    let mut bundle = bundle!();
    let image = bundle.path("rootfs/image");
    fs::create_dir(&image).unwrap();
    fs::set_permissions(&image, PermissionsExt::from_mode(0o1751)).unwrap();
    fs::write(image.join("file"), "of the image").unwrap();
    fs::set_permissions(image.join("file"), PermissionsExt::from_mode(0o640)).unwrap();
    let look = "/bin/busybox stat -c %a /image; cat /image/file 2>/dev/null || echo none";
    let tmpfs = |options: &[&str]| json!({"destination": "/image", "type": "tmpfs", "source": "x", "options": options});
    for (options, wanted) in [
        (&[][..], "1751\nnone\n"),
        (&["mode=700"], "700\nnone\n"),
        (&["tmpcopyup"], "1751\nof the image"),
        (&["tmpcopyup", "ro"], "1751\nof the image"),
    ] {
        bundle.script(look).configure(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/image");
            mounts.push(tmpfs(options));
        });
        let seen = run(&bundle);
        // runc 1.1 heeds the mode only where there was nothing.
        assert!(seen == wanted || is_peer() && options == ["mode=700"], "{options:?}: {seen}");
    }
}

#[test]
fn file_systems_of_the_container_are_its_own() {
    let mut bundle = bundle!();
    add(&mut bundle, json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}));
    bundle.configure(|config| {
        let options = ["ro", "nosuid", "noexec", "nodev"];
        let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    bundle.script(
        "ls /dev/pts /dev/mqueue; : > /dev/mqueue/own && ls /dev/mqueue
         grep -c . /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null
         mkdir() { /bin/busybox mkdir $1 2>/dev/null || echo closed; }; mkdir /sys/fs/cgroup/pids/x; mkdir /sys/fs/cgroup/x",
    );
    let output = bundle.oci(&["run", &bundle.id]);
    let seen = &output.stdout;
    assert!(seen.starts_with("/dev/mqueue:\n\n/dev/pts:\nptmx\nown\n"), "{output}");
    assert!(seen.ends_with("closed\nclosed\n"), "{output}");
    assert!(seen.contains("cgroup.procs:") && !seen.contains("procs:0"), "{output}");
}

#[test]
fn a_directory_for_devices_that_is_read_only_has_them_all_the_same() {
    let mut bundle = bundle!();
    bundle
        .script("(: > /dev/new) 2>/dev/null || echo closed; : > /dev/null && test -c /dev/ptmx && echo open");
    bundle.configure(|config| config["mounts"][1]["options"].as_array_mut().unwrap().push(json!("ro")));
    assert_eq!(run(&bundle), "closed\nopen\n");
}

/// Runs a look at the owner of a file through a mount with these fields, or with options.
fn owner(bundle: &mut Bundle, options: &[&str], fields: &Value) -> hull_tests::Output {
    let volume = bundle.path("volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("file"), "").unwrap();
    std::os::unix::fs::chown(volume.join("file"), Some(1000), Some(2000)).unwrap();
    let mut mount = bind(&volume, "/work", options);
    for (name, value) in fields.as_object().unwrap() {
        mount[name] = value.clone();
    }
    bundle.args(&["/bin/busybox", "stat", "-c", "%u %g", "/work/file"]).configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/work");
        mounts.push(mount);
    });
    bundle.oci(&["run", &bundle.id])
}

#[test]
fn owners_are_mapped_by_a_mount_of_its_own_or_by_the_containers_map() {
    if is_peer() {
        // Of runtime-spec 1.1 and later; runc 1.1 does not know it.
        return;
    }
    let mut bundle = bundle!();
    let map = |from: u32, to: u32| json!([{"containerID": from, "hostID": to, "size": 10_000}]);
    let own = json!({"uidMappings": map(0, 5000), "gidMappings": map(0, 7000)});
    let output = owner(&mut bundle, &["bind"], &own);
    // The kernel refuses it where a file system does not know it.
    if !output.status.success() && output.stderr.contains("invalid argument") {
        return println!(
            "left out: the file system of {} knows no id-mapped mounts",
            bundle.directory.display()
        );
    }
    assert_eq!(output.ok(), "6000 9000\n");
    let told = owner(&mut bundle, &["bind", "idmap"], &json!({})).fails(1);
    assert!(told.contains("id-mapped mounts without mappings need a user namespace"), "{told}");
    bundle.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = map(0, 100_000);
        config["linux"]["gidMappings"] = map(0, 100_000);
    });
    for option in ["idmap", "ridmap"] {
        assert_eq!(owner(&mut bundle, &["rbind", option], &json!({})).ok(), "1000 2000\n", "{option}");
    }
    // Nobody's, without.
    assert_eq!(owner(&mut bundle, &["bind"], &json!({})).ok(), "65534 65534\n");
}

#[test]
fn many_masked_paths_need_no_more_descriptors_than_few() {
    let mut bundle = bundle!();
    let files: Vec<String> = (0..150).map(|number| format!("/work/{number}")).collect();
    files.iter().for_each(|file| std::fs::write(bundle.path(&format!("rootfs{file}")), "seen").unwrap());
    bundle.configure(|config| config["linux"]["maskedPaths"] = json!(files)).script("cat /work/*");
    let mut command = std::process::Command::new("sh");
    let run = bundle.command(&["run", &bundle.id]);
    command.args(["-c", "ulimit -n 110; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    command.current_dir(&bundle.directory);
    assert_eq!(bundle.to_files(command).ok(), "");
}

#[test]
fn groups_of_v2_are_shown_where_the_hosts_sysfs_is_already() {
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return println!("left out: there is no cgroup v2 at /sys/fs/cgroup");
    }
    let mut bundle = bundle!();
    let sysfs = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]});
    bundle.configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys");
        mounts.insert(0, sysfs);
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}));
    });
    let list = ["run", &bundle.id].map(str::to_owned);
    bundle.script("test -e /sys/fs/cgroup/cgroup.procs && test -d /sys/kernel && echo there");
    for own in [false, true] {
        bundle.configure(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|one| one["type"] != "cgroup");
            namespaces.extend(own.then(|| json!({"type": "cgroup"})));
        });
        assert_eq!(bundle.oci(&list.each_ref().map(String::as_str)).ok(), "there\n", "{own}");
    }
}
