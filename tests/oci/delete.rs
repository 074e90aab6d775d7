//! `delete` (oci-runtime.md 2.2).

use std::fs;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::bundle::is_peer;

#[test]
fn what_is_not_there_is_an_error_unless_forced() {
    let bundle = bundle!();
    assert!(bundle.oci(&["delete", "nonesuch"]).fails(1).contains("container does not exist"));
    let forced = bundle.oci(&["delete", "--force", "nonesuch"]);
    assert_eq!((forced.stderr.as_str(), forced.stdout.as_str()), ("", ""));
    forced.ok();
}

#[test]
fn a_running_container_is_deleted_by_force_only() {
    let bundle = bundle!();
    bundle.up();
    let told = bundle.oci(&["delete", &bundle.id]).fails(1);
    assert!(
        told.contains(&format!("cannot delete container {} that is not stopped: running", bundle.id)),
        "{told}"
    );
    assert_eq!(bundle.status(), "running");
    bundle.oci(&["delete", "-f", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn a_created_container_is_deleted_without_force() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["delete", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    let bundle = bundle!();
    bundle.up();
    bundle.oci(&["pause", &bundle.id]).ok();
    assert!(bundle.oci(&["delete", &bundle.id]).fails(1).contains("not stopped: paused"));
    bundle.oci(&["delete", "--force", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn a_directory_without_a_record_is_removed() {
    let bundle = bundle!();
    std::fs::create_dir_all(bundle.root().join("left/over")).unwrap();
    bundle.oci(&["delete", "--force", "left"]).ok();
    assert!(!bundle.root().join("left").exists());
}

#[test]
fn groups_of_which_one_is_missing_are_removed_all_the_same() {
    // As a runtime leaves them that is killed while it makes them.
    let bundle = bundle!();
    bundle.up();
    let groups = bundle.groups();
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    for group in groups.iter().filter(|group| group.to_string_lossy().contains("/freezer/")) {
        hull_tests::wait_until(std::time::Duration::from_secs(15), "an empty group", || {
            std::fs::remove_dir(group).map_err(|error| error.to_string())
        });
    }
    bundle.oci(&["delete", &bundle.id]).ok();
    bundle.assert_gone();
}

#[test]
fn a_container_that_another_command_deletes_meanwhile_is_gone_by_force() {
    if is_peer() {
        // It has no such lock.
        return;
    }
    let bundle = bundle!();
    bundle.create();
    let place = bundle.root().join(&bundle.id);
    let lock = Flock::lock(fs::File::open(&place).unwrap(), FlockArg::LockExclusive).unwrap();
    let mut delete = bundle.command(&["delete", "--force", &bundle.id]).spawn().unwrap();
    let waiting = format!("{} ", nix::libc::SYS_flock);
    hull_tests::wait_until(Duration::from_secs(20), "the wait for the lock", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", delete.id())).unwrap_or_default();
        if call.starts_with(&waiting) { Ok(()) } else { Err(call) }
    });
    let aside = bundle.path("aside");
    fs::rename(&place, &aside).unwrap();
    drop(lock);
    assert!(delete.wait().unwrap().success());
    fs::rename(&aside, &place).unwrap();
    bundle.delete();
    bundle.assert_gone();
}
