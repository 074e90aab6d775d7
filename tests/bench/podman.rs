//! podman with storage, network and runtime of its own, made to work where hard limits cannot be raised.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hull_tests::process;
use serde_json::Value;

use crate::Arguments;
use crate::measure::{Meter, Sample, execute, reap};
use crate::memory::proportional;

/// What is played: the same as hull's.
pub(crate) const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: bench
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: one, image: docker.io/library/busybox:latest, imagePullPolicy: Never, command: [sleep, '100000']}
  - {name: two, image: docker.io/library/busybox:latest, imagePullPolicy: Never, command: [sleep, '100000']}
";

/// Parent of podman's groups; `kube play` takes no other.
const GROUP: &str = "libpod_parent";

/// A podman of our own.
pub(crate) struct Podman {
    directory: PathBuf,
    manifest: PathBuf,
    /// The machine had podman's cgroup before us.
    group_was_there: bool,
}

impl Podman {
    /// Configures it and loads the image.
    pub(crate) fn new(arguments: &Arguments, directory: &Path) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("{}: {error}", directory.display());
        let run = directory.join("run");
        fs::create_dir_all(&run).map_err(say)?;
        crate::measure::mount_memory(&run)?;
        let own = std::env::current_exe().map_err(say)?;
        let runtime = directory.join("runtime");
        fs::write(&runtime, format!("#!/bin/sh\nexec {} --strip-rlimits crun \"$@\"\n", own.display()))
            .map_err(say)?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).map_err(say)?;
        let networks = directory.join("networks");
        fs::create_dir_all(&networks).map_err(say)?;
        let config = format!(
            "[containers]\ndefault_ulimits = []\nlog_driver = \"k8s-file\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\nruntime = \"bench\"\nnetwork_cmd_path = \"\"\n[engine.runtimes]\nbench = [\"{}\"]\n\
             [network]\nnetwork_config_dir = \"{}\"\n",
            runtime.display(),
            networks.display()
        );
        fs::write(directory.join("containers.conf"), config).map_err(say)?;
        let manifest = directory.join("pod.yaml");
        fs::write(&manifest, POD).map_err(say)?;
        let group_was_there = Path::new("/sys/fs/cgroup/systemd").join(GROUP).exists();
        let podman = Self { directory: directory.to_owned(), manifest, group_was_there };
        podman.load(arguments)?;
        Ok(podman)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        command.arg("--root").arg(self.directory.join("storage"));
        command.arg("--runroot").arg(self.directory.join("run"));
        command.arg("--tmpdir").arg(self.directory.join("run/tmp"));
        command
    }

    /// The image that hull uses too, or one with busybox alone where there is no archive.
    fn load(&self, arguments: &Arguments) -> Result<(), String> {
        let archive = arguments.images.join("busybox.tar");
        if archive.exists() {
            execute(self.command().args(["load", "-i"]).arg(archive))?;
            return Ok(());
        }
        let rootfs = self.directory.join("rootfs");
        crate::oci::make_rootfs(&rootfs)?;
        let archive = self.directory.join("rootfs.tar");
        execute(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&archive).arg("."))?;
        execute(
            self.command()
                .args(["import", "--change", "ENV=PATH=/bin"])
                .arg(archive)
                .arg("docker.io/library/busybox:latest"),
        )
        .map(drop)
    }

    /// `kube play` until everything runs; removal is outside of the measurement.
    pub(crate) fn pod_up(&self, meter: &Meter) -> Result<Sample, String> {
        let groups = || vec![GROUP.to_owned()];
        let sample = meter
            .timed(groups, || execute(self.command().args(["kube", "play"]).arg(&self.manifest)).map(drop));
        let removed = self.remove_all();
        let sample = sample?;
        removed?;
        Ok(sample)
    }

    fn remove_all(&self) -> Result<(), String> {
        let removed = execute(self.command().args(["pod", "rm", "--force", "--all", "--time", "0"]));
        reap();
        removed.map(drop)
    }

    /// The sum of PSS of every conmon with `pods` pods: one per container, and one for each pod's infra container.
    pub(crate) fn memory(&self, pods: usize) -> Result<u64, String> {
        let path = self.directory.join("many.yaml");
        let result = (0..pods).try_for_each(|number| {
            let text = POD.replace("name: bench", &format!("name: bench-{number}"));
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            execute(self.command().args(["kube", "play"]).arg(&path)).map(drop)
        });
        let place = self.directory.to_string_lossy();
        let monitors = process::all().into_iter().filter(|pid| {
            let words = process::command_line(*pid);
            process::file(*pid, "comm").trim() == "conmon" && words.contains(place.as_ref())
        });
        let sum = proportional(&monitors.collect::<Vec<_>>());
        let removed = self.remove_all();
        result?;
        removed?;
        Ok(sum)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let pods = self.remove_all();
        let images = execute(self.command().args(["rmi", "--all", "--force"])).map(drop);
        for reason in [pods, images].into_iter().filter_map(Result::err) {
            eprintln!("{}", reason.trim());
        }
        if !self.group_was_there {
            crate::oci::remove_groups(GROUP);
        }
        // podman keeps its store's directory mounted.
        crate::measure::unmount(&self.directory.join("storage/overlay"));
        crate::measure::unmount(&self.directory.join("run"));
    }
}

/// Takes `process.rlimits` out of the bundle's config.json where there is one, then becomes the runtime.
pub(crate) fn strip_and_execute(words: &[String]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("--strip-rlimits needs a runtime")?;
    let place = arguments.iter().position(|word| word == "--bundle" || word == "-b");
    if let Some(bundle) = place.and_then(|place| arguments.get(place + 1)) {
        let path = Path::new(bundle).join("config.json");
        let say = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| say(&error))?;
        let mut config: Value = serde_json::from_str(&text).map_err(|error| say(&error))?;
        if let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) {
            process.remove("rlimits");
            process.remove("oomScoreAdj");
        }
        fs::write(&path, config.to_string()).map_err(|error| say(&error))?;
    }
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{program}: {error}"))
}
