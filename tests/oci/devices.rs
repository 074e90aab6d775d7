//! Devices: nodes, links, and which of them may be used (oci-runtime.md 4.7).

use std::fs;

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

#[track_caller]
fn run(bundle: &Bundle) -> String {
    bundle.oci(&["run", &bundle.id]).ok()
}

/// Nodes may be made, and the kernel lets its log be read.
fn may_make_nodes(config: &mut Value) {
    for set in ["bounding", "permitted", "effective"] {
        let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.extend([json!("CAP_MKNOD"), json!("CAP_SYSLOG")]);
    }
}

#[test]
fn the_usual_devices_and_links_are_there() {
    let mut bundle = bundle!();
    bundle.script(
        "cd /dev; /bin/busybox stat -c '%n %F %a %u %g %t:%T' null zero full random urandom tty
         for each in fd stdin stdout stderr core ptmx; do echo $each $(readlink $each); done",
    );
    let seen = run(&bundle);
    let mut wanted = String::new();
    for (name, number) in [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ] {
        wanted += &format!("{name} character special file 666 0 0 {number}\n");
    }
    wanted += "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n";
    let core = if std::path::Path::new("/proc/kcore").exists() { " /proc/kcore" } else { "" };
    assert_eq!(seen, format!("{wanted}core{core}\nptmx pts/ptmx\n"));
}

#[test]
fn a_directory_for_devices_that_is_bound_is_left_as_it_is() {
    let mut bundle = bundle!();
    let own = bundle.path("own");
    fs::create_dir(&own).unwrap();
    // runc looks for this one.
    let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRUSR);
    nix::sys::stat::mknod(&own.join("null"), kind, mode, nix::sys::stat::makedev(1, 3)).unwrap();
    let mount = json!({"destination": "/dev", "type": "bind", "source": own, "options": ["bind"]});
    bundle.args(&["/bin/ls", "-A", "/dev"]).configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(mount);
    });
    assert_eq!(run(&bundle), "null\n");
}

#[test]
fn devices_of_the_configuration_are_made_as_it_says() {
    let mut bundle = bundle!();
    bundle.configure(|config| {
        config["linux"]["devices"] = json!([
            {"type": "c", "path": "/dev/char", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 1000, "gid": 1001},
            {"type": "b", "path": "/dev/sub/block", "major": 7, "minor": 99, "fileMode": 0o600, "uid": 0, "gid": 6},
            {"type": "u", "path": "/dev/unbuffered", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0},
            {"type": "p", "path": "/dev/fifo", "fileMode": 0o622, "uid": 7, "gid": 8},
        ]);
    });
    bundle.script(
        "/bin/busybox stat -c '%F %a %u %g %t:%T' /dev/char /dev/sub/block /dev/unbuffered /dev/fifo",
    );
    let wanted = [
        "character special file 640 1000 1001 1:3",
        "block special file 600 0 6 7:63",
        "character special file 666 0 0 1:5",
        "fifo 622 7 8 0:0",
        "",
    ];
    assert_eq!(run(&bundle), wanted.join("\n"));
}

#[test]
fn a_file_in_a_devices_place_that_is_another_is_an_error() {
    if is_peer() {
        // runc 1.1 takes whatever is there.
        return;
    }
    let mut bundle = bundle!();
    fs::write(bundle.path("rootfs/work/device"), "").unwrap();
    let device = json!({"type": "c", "path": "/work/device", "major": 1, "minor": 3, "fileMode": 0o666});
    bundle.configure(|config| config["linux"]["devices"] = json!([device]));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("/work") && told.contains("device 1:3") && told.contains("file exists"), "{told}");
    bundle.assert_gone();
}

/// What comes of opening nodes of `1:11` and `1:7` for reading and for writing.
fn attempts(bundle: &mut Bundle, rules: &Value) -> String {
    bundle.configure(|config| config["linux"]["resources"]["devices"] = rules.clone());
    bundle.script(
        "/bin/busybox mknod /tmp/log c 1 11; /bin/busybox mknod /tmp/full c 1 7
         (: < /tmp/log) 2>/dev/null && echo log read; (: > /tmp/log) 2>/dev/null && echo log written
         (: < /tmp/full) 2>/dev/null && echo full read; echo end",
    );
    bundle.configure(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/tmp");
        let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "x"});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    run(bundle)
}

#[test]
fn of_the_rules_that_fit_a_device_the_last_one_counts() {
    let mut bundle = bundle!();
    bundle.configure(may_make_nodes);
    let deny = json!({"allow": false, "access": "rwm"});
    let log = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 1, "minor": 11, "access": access});
    let rows = [
        (json!([deny]), "full read\nend\n"),
        (json!([deny, log(true, "r")]), "log read\nfull read\nend\n"),
        (json!([deny, log(true, "w")]), "log written\nfull read\nend\n"),
        (json!([deny, log(true, "rwm")]), "log read\nlog written\nfull read\nend\n"),
        (json!([deny, log(true, "rwm"), log(false, "w")]), "log read\nfull read\nend\n"),
        (
            json!([deny, {"allow": true, "type": "c", "major": 1, "access": "rw"}]),
            "log read\nlog written\nfull read\nend\n",
        ),
        (json!([{"allow": true, "access": "rwm"}]), "log read\nlog written\nfull read\nend\n"),
        (
            json!([deny, {"allow": true, "type": "b", "major": 1, "minor": 11, "access": "rwm"}]),
            "full read\nend\n",
        ),
    ];
    for (rules, wanted) in rows {
        assert_eq!(attempts(&mut bundle, &rules), wanted, "{rules}");
    }
}

#[test]
fn what_the_runtime_allows_besides_may_be_used() {
    let mut bundle = bundle!();
    bundle.configure(may_make_nodes);
    // Any node may be made, and some used: terminals, tunnels and the usual ones.
    bundle.script(
        "cd /work; for each in 'c 1 11' 'b 7 99' 'c 10 200' 'c 5 2' 'c 1 5'; do /bin/busybox mknod \"$each\" $each || echo none; done
         for each in *; do (: < \"$each\") 2>&1 | grep -q 'not permitted' && echo \"$each\" denied; done; echo end",
    );
    assert_eq!(run(&bundle), "b 7 99 denied\nc 1 11 denied\nend\n");
}
