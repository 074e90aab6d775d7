//! The harness itself: a check for leftovers that finds nothing is worth nothing.

use std::fs;
use std::process::{Command, Stdio};

use hull_tests::{Host, process, skip};
use nix::mount::{MsFlags, mount};

#[test]
fn leftovers_of_a_host_are_found_and_removed() {
    let host = match Host::without_images() {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    assert_eq!(host.leftovers(), Vec::<String>::new());
    let root = host.root().to_owned();

    let pod = root.join("run/pods/5ce7e8b5-0f5c-4d5e-9b52-3d0e4a1a9c11");
    fs::create_dir_all(&pod).unwrap();
    mount(Some("left"), &pod, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    // A program that names the root, as the shim and the supervisor do.
    let mut child = Command::new("tail")
        .args(["-f", "/dev/null"])
        .arg(root.join("x"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(
        host.command("busybox")
            .args(["ip", "link", "add", "left0", "type", "bridge"])
            .status()
            .unwrap()
            .success()
    );

    let left = host.leftovers().join("\n");
    let pid = child.id();
    for expected in [format!("mount {}", pod.display()), format!("process {pid} "), "link left0".into()] {
        assert!(left.contains(&expected), "{expected} is not in\n{left}");
    }
    drop(host);
    assert!(!root.exists());
    assert!(!process::is_alive(pid.cast_signed()));
    child.wait().unwrap();
}
