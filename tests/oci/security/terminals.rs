//! `/dev/console` and the multiplexer of terminals, which an image or a container puts something else in the place of
//! (CVE-2025-52565).

use std::os::unix::net::UnixListener;
use std::time::Duration;

use hull_tests::command::Running;
use hull_tests::wait_until;
use serde_json::json;

use crate::bundle::Bundle;

/// A socket that takes a terminal.
fn socket(bundle: &Bundle, name: &str) -> (UnixListener, String) {
    let path = bundle.path(name);
    (UnixListener::bind(&path).unwrap(), path.display().to_string())
}

#[test]
fn a_console_that_is_a_link_leads_the_terminal_nowhere_else() {
    let mut bundle = target!();
    std::fs::write(bundle.path("rootfs/target"), "").unwrap();
    bundle.relink("dev/console", "/target");
    bundle.keep_mounts(&["/proc", "/dev/pts"]);
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let (_socket, path) = socket(&bundle, "socket");
    let create = ["create", "--console-socket", &path, &bundle.id.clone()];
    assert!(!bundle.detached(&create).status.success());
    bundle.delete();
    if bundle.go_without("terminal") {
        bundle.detached(&create).ok();
        bundle.oci(&["start", &bundle.id]).ok();
        bundle.exec(&["test", "-c", "/target"]).ok();
    }
}

#[test]
fn what_an_image_has_for_the_multiplexer_is_not_opened() {
    let mut bundle = target!();
    std::fs::create_dir_all(bundle.path("rootfs/dev/pts")).unwrap();
    bundle.keep_mounts(&["/proc"]);
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let (_socket, path) = socket(&bundle, "socket");
    let create = ["create", "--console-socket", &path, &bundle.id.clone()];
    let victim = Running::start(&mut trap(&bundle.path("rootfs/dev/pts/ptmx")));
    victim.wait_line(Duration::from_secs(10), "trap", |line| line == "set");
    assert!(!bundle.detached(&create).status.success());
    bundle.delete();
    assert!(!victim.lines().contains(&"opened".to_owned()));
    if bundle.go_without("terminal") {
        drop(bundle.detached(&create));
        victim.wait_line(Duration::from_secs(10), "trap that snaps", |line| line == "opened");
    }
}

/// A FIFO whose other end somebody else has to open.
fn trap(fifo: &std::path::Path) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "mkfifo \"$1\"; echo set; : >\"$1\"; echo opened", "sh"]).arg(fifo);
    command
}

#[test]
fn what_a_container_has_for_the_multiplexer_is_not_opened_by_exec() {
    let mut bundle = target!();
    bundle.keep_mounts(&["/proc", "/dev"]);
    let (_socket, path) = socket(&bundle, "socket");
    bundle.script(
        "/bin/busybox mkdir -p /dev/pts; /bin/busybox mkfifo /dev/pts/ptmx; echo set >/set;
         : >/dev/pts/ptmx; echo opened >/opened; exec sleep 1000",
    );
    bundle.up().shows("rootfs/set", "set");
    let exec = ["exec", "--tty", "--detach", "--console-socket", &path, &bundle.id.clone(), "true"];
    assert!(!bundle.detached(&exec).status.success());
    assert!(!bundle.path("rootfs/opened").exists());
    if bundle.go_without("terminal") {
        drop(bundle.detached(&exec));
        wait_until(Duration::from_secs(10), "trap that snaps", || {
            if bundle.path("rootfs/opened").exists() { Ok(()) } else { Err("not opened".to_owned()) }
        });
    }
}
