//! procfs and sysfs, which masks, labels and sysctls stand on (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561,
//! CVE-2023-28642, CVE-2025-52881).

use std::fs;

use serde_json::json;

#[test]
fn proc_is_not_mounted_on_what_a_link_names() {
    let mut bundle = target!();
    bundle.relink("proc", "/tmp");
    bundle.expose();
    bundle.args(&["/bin/test", "-e", "/tmp/self"]);
    bundle.oci(&["run", &bundle.id]).fails(1);
    if bundle.go_without("ordinary") {
        bundle.oci(&["run", &bundle.id]).ok();
    }
}

#[test]
fn sysfs_is_not_mounted_on_what_a_link_names() {
    let mut bundle = target!();
    bundle.relink("sys", "tmp");
    bundle.expose();
    bundle.args(&["/bin/test", "-e", "/tmp/kernel"]);
    bundle.oci(&["run", &bundle.id]).fails(1);
    if bundle.go_without("ordinary") {
        bundle.oci(&["run", &bundle.id]).ok();
    }
}

#[test]
fn no_volume_takes_the_place_of_proc_or_a_part_of_it() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    fs::write(bundle.path("host/keys"), "forged").unwrap();
    bundle.expose();
    bundle.mount("/proc", "bind", &host, &["bind"]);
    bundle.args(&["/bin/grep", "forged", "/proc/keys"]);
    bundle.oci(&["run", &bundle.id]).fails(1);
    if bundle.go_without("procfs") {
        bundle.oci(&["run", &bundle.id]).ok();
    }
}

#[test]
fn a_link_of_the_image_leads_no_volume_into_proc() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    fs::write(bundle.path("host/forged"), "").unwrap();
    bundle.relink("link", "/proc/sys");
    bundle.expose();
    bundle.mount("/link", "bind", &host, &["bind"]);
    bundle.args(&["/bin/test", "-e", "/proc/sys/forged"]);
    bundle.oci(&["run", &bundle.id]).fails(1);
    if bundle.go_without("procfs") {
        bundle.oci(&["run", &bundle.id]).ok();
    }
}

#[test]
fn a_sysctl_is_not_written_to_what_lies_over_it() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    fs::create_dir_all(bundle.path("host/ipv4")).unwrap();
    fs::write(bundle.path("host/ipv4/ip_forward"), "untouched").unwrap();
    bundle.expose();
    bundle.mount("/proc/sys/net", "bind", &host, &["bind"]);
    bundle.configure(|config| config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
    bundle.args(&["/bin/true"]);
    bundle.oci(&["run", &bundle.id]).fails(1);
    assert_eq!(bundle.read("host/ipv4/ip_forward"), "untouched");
    // Even where the volume has come to lie there, only the sysctl itself is written.
    if bundle.go_without("procfs") {
        bundle.oci(&["run", &bundle.id]).ok();
        assert_eq!(bundle.read("host/ipv4/ip_forward"), "untouched");
        bundle.go_without("procfs,private-procfs");
        bundle.oci(&["run", &bundle.id]).ok();
        assert!(bundle.read("host/ipv4/ip_forward").starts_with('1'));
    }
}

#[test]
fn a_label_is_not_written_to_what_the_container_has_for_proc() {
    let mut bundle = target!();
    bundle.expose();
    bundle.configure(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
    });
    bundle.script(
        "/bin/busybox mount -t tmpfs tmpfs /proc && /bin/busybox mkdir -p /proc/thread-self/attr/apparmor &&
         echo untouched > /proc/thread-self/attr/apparmor/exec && echo ready > /ready; exec sleep 1000",
    );
    bundle.up().shows("rootfs/ready", "ready");
    let attack = ["exec", "--apparmor", "anything", &bundle.id, "true"];
    let shown = ["exec", &bundle.id, "cat", "/proc/thread-self/attr/apparmor/exec"];
    assert!(!bundle.oci(&attack).status.success());
    assert_eq!(bundle.oci(&shown).ok(), "untouched\n");
    if bundle.go_without("private-procfs") {
        let attack = ["exec", "--apparmor", "anything", &bundle.id, "true"];
        drop(bundle.oci(&attack));
        let shown = ["exec", &bundle.id, "cat", "/proc/thread-self/attr/apparmor/exec"];
        assert!(bundle.oci(&shown).ok().starts_with("exec anything"));
    }
}

#[test]
fn a_proc_that_is_none_is_not_written_to() {
    let mut bundle = target!();
    bundle.host_directory();
    fs::write(bundle.path("host/forged"), "untouched").unwrap();
    bundle.args(&["/bin/true"]);
    bundle.configure(|config| config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
    let runtime = bundle.command(&["run", &bundle.id]);
    let script = "mount --bind host/forged /proc/sys/net/ipv4/ip_forward && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(&bundle.directory);
    bundle.to_files(command);
    assert_eq!(bundle.read("host/forged"), "untouched");
}
