//! podman, which calls the runtime itself and through conmon.

mod build;
mod checkpoint;
mod containers;
mod isolation;
mod pods;
mod users;

use std::process::Command;

use hull_tests::{Output, command};

use crate::place::{LIMIT, Place, archive, find, run, run_on_terminal, runtime};

/// The image.
pub(super) const IMAGE: &str = "docker.io/library/busybox:latest";

/// podman with storage and settings of its own.
pub(super) struct Podman {
    pub(super) place: Place,
    runtime: String,
}

impl Podman {
    /// Configures it and loads the image.
    pub(super) fn new() -> Result<Self, String> {
        let place = Place::new(&["podman", "conmon", "catatonit", "script"])?;
        let runtime = runtime()?.display().to_string();
        // podman 4.3 swaps soft and hard in a pod's own container, so they are equal; by default it asks for more than
        // a process without CAP_SYS_RESOURCE may give.
        let networks = place.directory("networks");
        let settings = format!(
            "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4000:4000\"]\nlog_driver = \"k8s-file\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             runtime_supports_json = [\"hull-oci\", \"runc\", \"crun\"]\n[network]\nnetwork_config_dir = \"{networks}\"\n"
        );
        place.write("containers.conf", &settings);
        let podman = Self { place, runtime };
        let archive = archive()?.display().to_string();
        let loaded = podman.podman(&["load", "-q", "-i", &archive]);
        if loaded.status.success() { Ok(podman) } else { Err(loaded.to_string()) }
    }

    /// podman with these arguments.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let place = &self.place;
        let mut command = Command::new(find("podman").unwrap());
        command.env("CONTAINERS_CONF", place.path("containers.conf")).env_remove("NOTIFY_SOCKET");
        command.args(["--root", &place.text("storage"), "--runroot", &place.text("run")]);
        command.args(["--tmpdir", &place.text("run/tmp"), "--runtime", &self.runtime]).args(arguments);
        command
    }

    /// Runs podman to its end.
    #[track_caller]
    pub(super) fn podman(&self, arguments: &[&str]) -> Output {
        run(self.command(arguments))
    }

    /// The same on a terminal: exit status and what is shown.
    #[track_caller]
    pub(super) fn on_terminal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run_on_terminal(&self.command(arguments))
    }

    /// Runs a shell in a container that goes at its end.
    #[track_caller]
    pub(super) fn shell(&self, flags: &[&str], script: &str) -> Output {
        self.podman(&[&["run", "--rm", "--network=none"], flags, &[IMAGE, "sh", "-c", script]].concat())
    }

    /// Starts a container that sleeps.
    #[track_caller]
    pub(super) fn sleeper(&self, name: &str, flags: &[&str]) {
        let line = [&["run", "-d", "--network=none", "--name", name], flags, &[IMAGE, "sleep", "1000"]];
        self.podman(&line.concat()).ok();
    }

    /// A field of a container.
    #[track_caller]
    pub(super) fn field(&self, name: &str, field: &str) -> String {
        let format = format!("{{{{{field}}}}}");
        self.podman(&["inspect", name, "--format", &format]).ok().trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for line in [
            ["pod", "rm", "--force", "--all", "--time=0"].as_slice(),
            &["rm", "--force", "--all", "--time=0"],
        ] {
            let removed = command::run(&mut self.command(line), "", LIMIT);
            if !removed.status.success() {
                eprintln!("{removed}");
            }
        }
    }
}
