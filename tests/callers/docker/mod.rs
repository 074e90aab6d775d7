//! The docker engine, which calls the runtime through containerd's shim.

mod containers;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hull_tests::{Output, wait_until};

use crate::place::{LIMIT, Place, end, find, run, run_on_terminal, runtime};

/// The image.
pub(super) const IMAGE: &str = "busybox:latest";

/// An engine of its own, in a network namespace of its own.
pub(super) struct Docker {
    pub(super) place: Place,
    daemon: Child,
}

impl Docker {
    /// Starts it and loads the image.
    pub(super) fn new() -> Result<Self, String> {
        let place = Place::new(&["dockerd", "docker", "containerd", "containerd-shim-runc-v2", "script"])?;
        place.directory("client");
        let settings = serde_json::json!({
            "data-root": place.path("data"), "exec-root": place.path("exec"), "pidfile": place.path("pid"),
            "hosts": [format!("unix://{}", place.text("sock"))], "group": "root",
            "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "ip-masq": false,
            "exec-opts": ["native.cgroupdriver=cgroupfs"], "storage-driver": "overlay2",
            "default-runtime": "tried", "runtimes": {"tried": {"path": runtime()?}},
        });
        let settings = place.write("daemon.json", &settings.to_string());
        let log = File::create(place.path("log")).map_err(|error| error.to_string())?;
        let mut command = Command::new("unshare");
        command.arg("--net").arg(find("dockerd")?).args(["--config-file", &settings]);
        command.stdin(Stdio::null()).stderr(log).stdout(Stdio::null());
        let daemon = command.spawn().map_err(|error| format!("dockerd: {error}"))?;
        let docker = Self { place, daemon };
        wait_until(LIMIT, "docker engine", || match docker.docker(&["version"]) {
            output if output.status.success() => Ok(()),
            output => Err(output.to_string()),
        });
        let archive = docker.root_file_system().display().to_string();
        let loaded = docker.docker(&["import", "--change", "ENV PATH=/bin", &archive, IMAGE]);
        if loaded.status.success() { Ok(docker) } else { Err(loaded.to_string()) }
    }

    /// An archive with busybox: this docker does not read OCI archives.
    fn root_file_system(&self) -> PathBuf {
        let directory = PathBuf::from(self.place.directory("rootfs"));
        for below in ["bin", "etc", "tmp"] {
            self.place.directory(&format!("rootfs/{below}"));
        }
        std::fs::copy("/usr/bin/busybox", directory.join("bin/busybox")).unwrap();
        self.place.write("rootfs/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        let listed = run({
            let mut busybox = Command::new("/usr/bin/busybox");
            busybox.arg("--list");
            busybox
        });
        for name in listed.ok().lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", directory.join("bin").join(name)).unwrap();
        }
        let archive = self.place.path("rootfs.tar");
        pack(&directory, &archive);
        archive
    }

    /// docker with these arguments.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(find("docker").unwrap());
        command.env("DOCKER_CONFIG", self.place.path("client")).env("DOCKER_BUILDKIT", "0");
        command.env("DOCKER_HOST", format!("unix://{}", self.place.text("sock"))).args(arguments);
        command
    }

    /// Runs docker to its end.
    #[track_caller]
    pub(super) fn docker(&self, arguments: &[&str]) -> Output {
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
        self.docker(&[&["run", "--rm", "--network=none"], flags, &[IMAGE, "sh", "-c", script]].concat())
    }

    /// Starts a container that runs this.
    #[track_caller]
    pub(super) fn up(&self, name: &str, flags: &[&str], script: &str) {
        let line = [&["run", "-d", "--network=none", "--name", name], flags, &[IMAGE, "sh", "-c", script]];
        self.docker(&line.concat()).ok();
    }

    /// A field of a container.
    #[track_caller]
    pub(super) fn field(&self, name: &str, field: &str) -> String {
        let format = format!("{{{{{field}}}}}");
        self.docker(&["inspect", name, "--format", &format]).ok().trim().to_owned()
    }

    /// Waits until a field has this value.
    #[track_caller]
    pub(super) fn becomes(&self, name: &str, field: &str, wanted: &str) {
        wait_until(LIMIT, wanted, || match self.field(name, field) {
            value if value == wanted => Ok(()),
            value => Err(value),
        });
    }
}

fn pack(directory: &Path, archive: &Path) {
    let mut builder = tar::Builder::new(File::create(archive).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", directory).unwrap();
    builder.finish().unwrap();
}

impl Drop for Docker {
    fn drop(&mut self) {
        let listed = self.docker(&["ps", "-aq"]).stdout;
        for id in listed.lines() {
            self.docker(&["rm", "--force", id]);
        }
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.place.path("log")).unwrap_or_default());
        }
        end(&mut self.daemon);
    }
}
