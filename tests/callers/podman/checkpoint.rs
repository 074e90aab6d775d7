//! podman's checkpoints, which it asks of the runtime, with a criu that works on this kernel.

use hull_tests::{Output, command, criu, skip, wait_until};

use super::{IMAGE, Podman};
use crate::place::LIMIT;

const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.05; done";

impl Podman {
    /// Runs podman where it finds criu.
    #[track_caller]
    fn with_criu(&self, arguments: &[&str]) -> Output {
        command::run(self.command(arguments).env("PATH", criu::path().unwrap()), "", LIMIT)
    }

    /// Waits until the counter of a container is beyond `least`; where it is then.
    #[track_caller]
    fn counts_beyond(&self, name: &str, least: u64) -> u64 {
        wait_until(LIMIT, "the next count", || {
            let output = self.with_criu(&["exec", name, "cat", "/dev/shm/count"]);
            match output.stdout.trim().parse() {
                Ok(count) if count > least => Ok(count),
                _ => Err(output.to_string()),
            }
        })
    }
}

#[test]
fn a_container_is_checkpointed_and_goes_on() {
    if let Err(reason) = criu::program() {
        skip!("{reason}");
    }
    let podman = caller!(Podman);
    podman.with_criu(&["run", "-d", "--network=none", "--name=one", IMAGE, "sh", "-c", COUNTER]).ok();
    let before = podman.counts_beyond("one", 5);
    podman.with_criu(&["container", "checkpoint", "one"]).ok();
    assert_eq!(podman.field("one", ".State.Status"), "exited");
    podman.with_criu(&["container", "restore", "one"]).ok();
    assert_eq!(podman.field("one", ".State.Status"), "running");
    let after = podman.counts_beyond("one", before);
    assert!(after < before + 2000, "it began anew, or ran on");
    podman.with_criu(&["stop", "--time=0", "one"]).ok();
    podman.with_criu(&["rm", "one"]).ok();
}

#[test]
fn a_checkpoint_is_moved_in_an_archive() {
    if let Err(reason) = criu::program() {
        skip!("{reason}");
    }
    let podman = caller!(Podman);
    podman.with_criu(&["run", "-d", "--network=none", "--name=one", IMAGE, "sh", "-c", COUNTER]).ok();
    let before = podman.counts_beyond("one", 5);
    podman.with_criu(&["exec", "one", "touch", "/made"]).ok();
    let archive = podman.place.text("moved.tar");
    podman.with_criu(&["container", "checkpoint", "--leave-running", "--export", &archive, "one"]).ok();
    podman.counts_beyond("one", before);
    podman.with_criu(&["rm", "--force", "--time=0", "one"]).ok();
    podman.with_criu(&["container", "restore", "--import", &archive, "--name=two"]).ok();
    podman.counts_beyond("two", before);
    podman.with_criu(&["exec", "two", "test", "-e", "/made"]).ok();
    podman.with_criu(&["rm", "--force", "--time=0", "two"]).ok();
}
