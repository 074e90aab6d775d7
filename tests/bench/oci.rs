//! crun and runc by hand: a bundle with busybox, a sandbox to join, one container that stays for exec.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::measure::{Meter, Sample, execute, own_group, reap};

/// Operations in one sample of what is very short.
const REPEAT: u32 = 20;

/// A runtime with the command line of runc.
pub(crate) struct Runtime {
    program: &'static str,
    directory: PathBuf,
    sandbox: Child,
    count: Cell<u32>,
}

impl Runtime {
    /// Makes the bundle and a running container; the reason when this machine does not let it.
    pub(crate) fn new(program: &'static str, directory: &Path) -> Result<Self, String> {
        make_rootfs(&directory.join("rootfs"))?;
        // Holds network, IPC and UTS namespaces, as a pod's pause does; ends when its input closes.
        let sandbox = Command::new("unshare")
            .args(["--net", "--ipc", "--uts", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let runtime = Self { program, directory: directory.to_owned(), sandbox, count: Cell::new(0) };
        runtime.joinable()?;
        runtime.create("stays")?;
        Ok(runtime)
    }

    /// The namespaces are there once `unshare` has become `cat`.
    fn joinable(&self) -> Result<(), String> {
        let pid = self.sandbox.id().cast_signed();
        let limit = std::time::Duration::from_secs(5);
        hull_tests::wait_until(limit, "sandbox", || {
            let name = hull_tests::process::file(pid, "comm");
            if name.trim() == "cat" { Ok(()) } else { Err(name) }
        });
        Ok(())
    }

    /// Writes a bundle and returns its directory.
    fn bundle(&self, id: &str) -> Result<PathBuf, String> {
        let bundle = self.directory.join(id);
        let text = self.config(id).to_string();
        let say = |error| format!("{}: {error}", bundle.display());
        fs::create_dir_all(&bundle).map_err(say)?;
        fs::write(bundle.join("config.json"), text).map_err(say)?;
        Ok(bundle)
    }

    fn config(&self, id: &str) -> Value {
        let namespace = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{}/ns/{file}", self.sandbox.id())});
        let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"];
        let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": self.directory.join("rootfs"), "readonly": true},
            "process": {
                "args": ["/bin/sleep", "100000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": true,
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.group()),
                "namespaces": [
                    {"type": "pid"}, {"type": "mount"},
                    namespace("network", "net"), namespace("ipc", "ipc"), namespace("uts", "uts"),
                ],
                "resources": {
                    "cpu": {"shares": 512, "quota": 50000, "period": 100_000},
                    "memory": {"limit": 128 << 20}, "pids": {"limit": 100},
                },
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        })
    }

    /// The parent of our containers' groups, below the one whose time is counted.
    fn group(&self) -> String {
        format!("{}/{}", own_group(), self.program)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.directory.join("state")).args(arguments);
        command
    }

    fn create(&self, id: &str) -> Result<(), String> {
        let bundle = self.bundle(id)?;
        execute(self.command(&["create", "--bundle"]).arg(bundle).arg(id))?;
        execute(&mut self.command(&["start", id])).map(drop)
    }

    /// Kills and removes a container.
    fn remove(&self, id: &str) -> Result<(), String> {
        execute(&mut self.command(&["delete", "--force", id]))?;
        reap();
        Ok(())
    }

    /// exec of `/bin/true` in the container that stays.
    pub(crate) fn exec(&self, meter: &Meter) -> Result<Sample, String> {
        meter.timed(Vec::new, || execute(&mut self.command(&["exec", "stays", "/bin/true"])).map(drop))
    }

    /// The same program without a container: what the kernel takes to make and end a process.
    pub(crate) fn plain_true(&self, meter: &Meter) -> Result<Sample, String> {
        let program = self.directory.join("rootfs/bin/true");
        let work = || (0..REPEAT).try_for_each(|_| execute(&mut Command::new(&program)).map(drop));
        meter.timed(Vec::new, work).map(|sample| sample.each(REPEAT))
    }

    /// create and start of a further container, which is then removed outside of the measurement.
    pub(crate) fn create_start(&self, meter: &Meter) -> Result<Sample, String> {
        self.count.set(self.count.get() + 1);
        let id = format!("c{}", self.count.get());
        let sample = meter.timed(Vec::new, || self.create(&id))?;
        self.remove(&id)?;
        Ok(sample)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Err(reason) = self.remove("stays") {
            eprintln!("{}", reason.trim());
        }
        drop(self.sandbox.stdin.take());
        // The reaper of orphans may have been first; either way it is gone.
        drop(self.sandbox.wait());
        remove_groups(&self.group());
    }
}

/// A root filesystem with a static busybox.
pub(crate) fn make_rootfs(rootfs: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", rootfs.display());
    for directory in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(directory)).map_err(say)?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.ok_or("busybox is missing; try: tests/setup")?;
    fs::copy(busybox, rootfs.join("bin/busybox")).map_err(say)?;
    for applet in ["sh", "sleep", "true"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).map_err(say)?;
    }
    Ok(())
}

/// Removes groups of this name and those below them: runtimes remove a container's own one only.
pub(crate) fn remove_groups(name: &str) {
    let top = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&top).into_iter().flatten().flatten().map(|entry| entry.path());
    // v2 alone is mounted at the top. Where v2 is hidden (tests/run) there is a plain directory, which is ours alone.
    let hierarchies = if top.join("cgroup.procs").exists() { vec![top] } else { below.collect() };
    for hierarchy in hierarchies.iter().filter(|path| path.join("cgroup.procs").exists()) {
        remove_group(&hierarchy.join(name));
    }
}

/// Removes a group after those below it.
fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    if group.is_dir()
        && let Err(error) = fs::remove_dir(group)
    {
        eprintln!("{}: {error}", group.display());
    }
}
