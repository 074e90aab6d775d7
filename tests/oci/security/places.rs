//! Places of mounts and devices, which an image or a neighbour in a shared volume wants to be elsewhere
//! (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::bundle::Bundle;

#[test]
fn links_of_the_image_lead_mounts_nowhere_else() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    bundle.relink("out", &host);
    bundle.relink("up", &format!("../../../../../..{host}"));
    bundle.among_the_hosts_mounts();
    bundle.mount("/out/made/here", "tmpfs", "tmpfs", &[]);
    bundle.mount("/up/file", "bind", "/etc/passwd", &["bind"]);
    bundle.args(&["/bin/true"]);
    bundle.oci(&["run", &bundle.id]).ok();
    assert_eq!(bundle.entries("host"), [""; 0]);
    if bundle.go_without("in-root") {
        // What comes of it is of no interest, but where it comes.
        drop(bundle.oci(&["run", &bundle.id]));
        assert!(!bundle.entries("host").is_empty());
    }
}

#[test]
fn a_device_directory_that_is_a_link_gets_no_devices_outside() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    bundle.relink("dev", &host);
    bundle.among_the_hosts_mounts();
    bundle.keep_mounts(&["/proc"]);
    bundle.args(&["/bin/true"]);
    drop(bundle.oci(&["run", &bundle.id]));
    assert_eq!(bundle.entries("host"), [""; 0]);
    bundle.delete();
    if bundle.go_without("in-root") {
        drop(bundle.oci(&["run", &bundle.id]));
        assert!(bundle.entries("host").contains(&"null".to_owned()));
    }
}

#[test]
fn a_neighbour_who_exchanges_directories_for_links_reaches_nothing_outside() {
    let mut bundle = target!();
    bundle.host_directory();
    let volume = bundle.path("volume");
    bundle.among_the_hosts_mounts();
    bundle.mount("/shared", "bind", &volume.display().to_string(), &["rbind"]);
    bundle.mount("/shared/dir/made/here", "tmpfs", "tmpfs", &[]);
    bundle.mount("/shared/dir/file", "bind", "/etc/passwd", &["bind"]);
    bundle.args(&["/bin/true"]);
    assert!(!escapes(&bundle, 60), "something was made outside of the root");
    if bundle.go_without("in-root") {
        assert!(escapes(&bundle, 300), "the race is never won, so the case shows nothing");
    }
}

/// Runs the container so many times beside a neighbour; whether anything appeared on the host.
fn escapes(bundle: &Bundle, rounds: u32) -> bool {
    let neighbour = Neighbour::begin(bundle);
    let mut escaped = false;
    for _ in 0..rounds {
        // Whether it can be made is up to the neighbour; where it is made is not.
        drop(bundle.oci(&["run", &bundle.id]));
        drop(bundle.oci(&["delete", "--force", &bundle.id]));
        escaped |= !bundle.entries("host").is_empty();
        if escaped {
            break;
        }
    }
    drop(neighbour);
    escaped
}

/// Exchanges `dir` of the shared volume for a link to the host, over and over.
struct Neighbour {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Neighbour {
    fn begin(bundle: &Bundle) -> Self {
        let volume = bundle.path("volume");
        if volume.exists() {
            fs::remove_dir_all(&volume).unwrap();
        }
        fs::create_dir_all(volume.join("dir")).unwrap();
        std::os::unix::fs::symlink(bundle.path("host"), volume.join("link")).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let thread = std::thread::spawn(move || exchange(&volume, &told));
        Self { done, thread: Some(thread) }
    }
}

fn exchange(volume: &Path, done: &AtomicBool) {
    let (dir, link) = (volume.join("dir"), volume.join("link"));
    let exchange = || renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    while !done.load(Ordering::Relaxed) {
        exchange();
        exchange();
        // It is the directory again. What was made inside must be made again.
        for name in ["made", "file"] {
            let path = dir.join(name);
            drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the neighbour panicked");
        }
    }
}

#[test]
fn the_root_file_system_is_no_link() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    bundle.relink("../link", &host);
    bundle.configure(|config| config["root"] = json!({"path": "link"}));
    let told = bundle.oci(&["run", &bundle.id]).fails(1);
    assert!(told.contains("symlink"), "{told}");
}
