//! One bundle with busybox as its root file system, and a root directory of its own for the runtime that is tried:
//! `hull-oci`, or the one that `HULL_TEST_RUNTIME` names.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hull_tests::{Output, binaries, command, wait_until};
use serde_json::{Value, json};

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(30);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A bundle of its own for each case.
pub(crate) struct Bundle {
    /// What the container is called; no other has this name, here or on the host.
    pub(crate) id: String,
    /// The bundle.
    pub(crate) directory: PathBuf,
    runtime: PathBuf,
    config: Value,
    /// Options that come before every command.
    globals: &'static [&'static str],
    /// Guards that the runtime is to go without.
    without: &'static str,
    /// Where the runtime looks for programs, if not where we do.
    path: Option<OsString>,
}

/// A bundle, or the end of the case where there cannot be one.
#[macro_export]
macro_rules! bundle {
    () => {
        match $crate::bundle::Bundle::new() {
            Ok(bundle) => bundle,
            Err(reason) => hull_tests::skip!("{reason}"),
        }
    };
}

/// The runtime that is tried.
pub(crate) fn runtime() -> Result<PathBuf, String> {
    match std::env::var_os("HULL_TEST_RUNTIME") {
        Some(other) => Ok(other.into()),
        None => binaries::program("hull-oci"),
    }
}

/// Whether an established runtime is tried, as a check on the cases themselves.
pub(crate) fn is_peer() -> bool {
    std::env::var_os("HULL_TEST_RUNTIME").is_some()
}

impl Bundle {
    /// Makes it; the reason where that is not possible.
    pub(crate) fn new() -> Result<Self, String> {
        if std::env::var_os("HULL_TEST_NAMESPACES").is_none() {
            return Err("not root in namespaces of its own; try: make test-oci".to_owned());
        }
        // Cgroups are the host's, and pids those of a namespace: another run beside this one has the same.
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|error| error.to_string())?;
        let random = random.split('-').next().unwrap_or_default();
        let id = format!("oci-{random}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&id);
        let bundle = Self {
            runtime: runtime()?,
            config: config(&id),
            directory,
            id,
            globals: &[],
            without: "",
            path: None,
        };
        bundle.fill().map_err(|error| error.to_string())?;
        bundle.write();
        Ok(bundle)
    }

    fn fill(&self) -> std::io::Result<()> {
        let rootfs = self.directory.join("rootfs");
        for below in ["bin", "dev", "etc", "proc", "sys", "tmp", "run", "work"] {
            fs::create_dir_all(rootfs.join(below))?;
        }
        command::copy_program("/usr/bin/busybox".as_ref(), &rootfs.join("bin/busybox"));
        for name in [
            "sh", "sleep", "true", "false", "cat", "id", "ls", "env", "echo", "kill", "test", "stty", "pwd",
            "grep", "readlink",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name))?;
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
        )
    }

    /// Changes the configuration.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        change(&mut self.config);
        self.write();
        self
    }

    /// What the container executes.
    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.configure(|config| config["process"]["args"] = json!(args))
    }

    /// A shell that runs this.
    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", script])
    }

    fn write(&self) {
        fs::write(self.directory.join("config.json"), self.config.to_string()).unwrap();
    }

    /// From now on the runtime goes without these guards, so that an attack succeeds; false where it cannot: it is not
    /// ours, or a release build.
    pub(crate) fn go_without(&mut self, guards: &'static str) -> bool {
        let mut probe = Command::new(&self.runtime);
        let answer = command::run(probe.arg("--version").env("HULL_WITHOUT", "no guard"), "", LIMIT);
        let knows = answer.stderr.contains("no guard is called");
        if knows {
            self.without = guards;
        } else {
            println!("not shown: the attack succeeds without {guards}; the runtime has no such build");
        }
        knows
    }

    /// From now on the runtime looks for programs there.
    pub(crate) fn look_in(&mut self, path: OsString) -> &mut Self {
        self.path = Some(path);
        self
    }

    /// From now on these options come before every command.
    pub(crate) fn globals(&mut self, options: &'static [&'static str]) -> &mut Self {
        self.globals = options;
        self
    }

    /// Uses a copy of the runtime from now on, which is returned: one that may be spoiled.
    pub(crate) fn copy_runtime(&mut self) -> PathBuf {
        let copy = self.path(&self.runtime.file_name().unwrap_or_default().to_string_lossy());
        command::copy_program(&self.runtime, &copy);
        self.runtime.clone_from(&copy);
        copy
    }

    /// The container is deleted and forgotten.
    #[track_caller]
    pub(crate) fn delete(&self) {
        self.oci(&["delete", "--force", &self.id]).ok();
    }

    /// The root directory of the runtime.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// A path below the bundle.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The runtime with its root directory, in the bundle.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.root()).args(self.globals).args(args).current_dir(&self.directory);
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        if !self.without.is_empty() {
            command.env("HULL_WITHOUT", self.without);
        }
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn oci(&self, args: &[&str]) -> Output {
        command::run(&mut self.command(args), "", LIMIT)
    }

    /// Runs a command whose output the container inherits: it goes to files, since a pipe would not end.
    #[track_caller]
    pub(crate) fn detached(&self, args: &[&str]) -> Output {
        self.to_files(self.command(args))
    }

    /// The same for a command that is prepared.
    #[track_caller]
    pub(crate) fn to_files(&self, mut command: Command) -> Output {
        let [out, err] = ["stdout", "stderr"].map(|name| File::create(self.path(name)).unwrap());
        let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let status = wait_until(LIMIT, "end of the command", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        Output {
            status,
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
            command: format!("{command:?}"),
        }
    }

    /// A file of the bundle.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// `create`.
    #[track_caller]
    pub(crate) fn create(&self) -> &Self {
        self.detached(&["create", &self.id]).ok();
        self
    }

    /// `create` and `start`.
    #[track_caller]
    pub(crate) fn up(&self) -> &Self {
        self.detached(&["run", "-d", &self.id]).ok();
        self
    }

    /// `state`, as JSON.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.oci(&["state", &self.id]).ok()).unwrap()
    }

    /// Its status now.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a status.
    #[track_caller]
    pub(crate) fn becomes(&self, wanted: &str) {
        wait_until(LIMIT, wanted, || match self.status() {
            status if status == wanted => Ok(()),
            status => Err(status),
        });
    }

    /// Waits until a file of the bundle has this text.
    #[track_caller]
    pub(crate) fn shows(&self, name: &str, wanted: &str) {
        wait_until(LIMIT, wanted, || match self.read(name) {
            text if text.contains(wanted) => Ok(()),
            text => Err(text),
        });
    }

    /// Runs a command in the container.
    #[track_caller]
    pub(crate) fn exec(&self, args: &[&str]) -> Output {
        self.oci(&[&["exec", &self.id], args].concat())
    }

    /// Its groups, one for each hierarchy that has it.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let below = hierarchies.map(|entry| entry.path().join(&self.id));
        below.chain([Path::new("/sys/fs/cgroup").join(&self.id)]).filter(|path| path.is_dir()).collect()
    }

    /// Whether nothing is left of the container.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        assert!(!self.root().join(&self.id).exists(), "its state is still there");
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "@seccomp" {
                continue;
            }
            let ended = self.command(&["delete", "--force", &name]).stderr(Stdio::null()).status();
            if !ended.is_ok_and(|status| status.success()) {
                eprintln!("{name} could not be deleted");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
    }
}

fn config(id: &str) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "box",
        "process": {
            "terminal": false, "args": ["/bin/sleep", "1000"], "cwd": "/", "env": ["PATH=/bin", "TERM=xterm"],
            "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
