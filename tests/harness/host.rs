//! One machine as hull sees it: its own `--root`, its own network namespace.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;

use crate::binaries;
use crate::command::{self, Output, Running};
use crate::leftovers::{Places, Search};
use crate::wait::wait_until;
use crate::watch::Watch;

/// No single command takes longer; those that wait for a pod have limits of their own.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A machine for one case.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    hull: PathBuf,
    /// It has mounts of its own, and hull is in its usual places.
    is_usual: bool,
    /// Holds the namespaces; ends when its standard input is closed, so also when we die.
    holder: Child,
    /// Every pod that was ever seen here, to recognise what belongs to them.
    uids: Mutex<BTreeSet<String>>,
}

impl Host {
    /// A machine with the test images in its store; the reason when there cannot be one here.
    pub fn new() -> Result<Self, String> {
        let host = Self::without_images()?;
        let store = shared_images(&host)?;
        let library = host.root.join("lib");
        fs::create_dir_all(&library).map_err(|error| format!("{}: {error}", library.display()))?;
        symlink(store, library.join("images")).map_err(|error| format!("{}: {error}", library.display()))?;
        Ok(host)
    }

    /// A machine where hull gets no `--root`: with mounts of its own, a `/run` in memory that nothing can be executed
    /// from, as Debian has it, and a `/var` on the disk of the tests.
    pub fn usual() -> Result<Self, String> {
        let mut host = Self::without_images()?;
        let images = shared_images(&host)?.to_owned();
        let script = USUAL.replace("IMAGES", &images.to_string_lossy());
        let script = script.replace("ROOT", &host.root.to_string_lossy()).replace("RUN", RUN);
        let holder = hold(&["--net", "--mount", "--propagation", "private"], &script)?;
        end(&mut std::mem::replace(&mut host.holder, holder));
        host.is_usual = true;
        Ok(host)
    }

    /// What a reboot does to a host in its usual places: nothing of its pods lives, `/run` is empty, and what they have
    /// on disk is of another boot.
    ///
    /// # Panics
    /// When it does not work.
    pub fn reboot(&self) {
        let uids = self.note_pods();
        self.search(&uids).end_processes();
        let script = format!("umount --recursive --lazy /run && {RUN}");
        let status = self.command("sh").args(["-c", &script]).status();
        assert!(status.is_ok_and(|status| status.success()), "a new /run");
        let pods = fs::read_dir(self.places().lib.join("pods")).expect("pods have directories on disk");
        for pod in pods.flatten() {
            let mark = pod.path().join("boot_id");
            fs::remove_file(&mark).and_then(|()| symlink("another", mark)).expect("another boot");
        }
    }

    /// A machine with an empty image store.
    pub fn without_images() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        if std::env::var_os("HULL_TEST_NAMESPACES").is_none() {
            return Err("needs namespaces of its own; run it as: tests/run cargo test".to_owned());
        }
        for name in ["hull-shim", "hull-pause"] {
            binaries::program(name)?;
        }
        let hull = binaries::program("hull")?;
        // Short, because sockets below it have at most 107 bytes of path; and not by pid, which another run
        // in another PID namespace may have too.
        let root = nix::unistd::mkdtemp(&std::env::temp_dir().join("hull-XXXXXX"))
            .map_err(|error| format!("a directory in {}: {error}", std::env::temp_dir().display()))?;
        let holder = hold(&["--net"], "")?;
        Ok(Self { root, hull, is_usual: false, holder, uids: Mutex::default() })
    }

    /// hull's directories.
    #[must_use]
    pub fn places(&self) -> Places {
        if self.is_usual {
            let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
            let [run, lib, logs] = ["run/hull", "var/lib/hull", "var/log/pods"].map(|place| root.join(place));
            return Places { run, lib, logs };
        }
        let [run, lib, logs] = ["run", "lib", "log/pods"].map(|place| self.root.join(place));
        Places { run, lib, logs }
    }

    /// The directory given as `--root`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The process whose network namespace is this host's.
    #[must_use]
    pub fn network_pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that runs `program` on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        if self.is_usual {
            command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        }
        command.arg("--").arg(program);
        command.env("NO_COLOR", "1").env("COLUMNS", "200");
        command
    }

    /// The command `hull <arguments>`, not yet started.
    #[must_use]
    pub fn hull_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.hull);
        if !self.is_usual {
            command.arg("--root").arg(&self.root);
        }
        command.args(arguments);
        command
    }

    /// Runs `hull <arguments>` to its end.
    #[track_caller]
    pub fn hull(&self, arguments: &[&str]) -> Output {
        self.hull_with_input(arguments, "")
    }

    /// The same with something to read on standard input.
    #[track_caller]
    pub fn hull_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let output = command::run(&mut self.hull_command(arguments), input, COMMAND_LIMIT);
        self.note_pods();
        output
    }

    /// Starts `hull <arguments>` in the background.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.hull_command(arguments))
    }

    /// Starts `get pods -w`.
    #[track_caller]
    pub fn watch_pods(&self) -> Watch {
        Watch::of(self.start(&["get", "pods", "-w"]))
    }

    /// The same with all that the pods' supervisors see and do in their diagnostics, and this standard input.
    #[track_caller]
    pub fn start_debug(&self, arguments: &[&str], input: &str) -> Running {
        let mut running = Running::start(self.hull_command(arguments).env("HULL_LOG", "debug"));
        running.write(input);
        running.close_input();
        running
    }

    /// Applies a manifest given as text.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.hull_with_input(&["apply", "-f", "-"], manifest).ok()
    }

    /// Applies a manifest given as text, and waits until its pods are ready or have completed.
    #[track_caller]
    pub fn apply_ready(&self, manifest: &str) -> String {
        self.hull_with_input(&["apply", "-f", "-", "--wait", "--timeout=30s"], manifest).ok()
    }

    /// Deletes every pod at once, and checks that nothing stays.
    ///
    /// # Panics
    /// When something stays.
    #[track_caller]
    pub fn leave_nothing(&self) {
        self.hull(&["delete", "pods", "--all", "-A", "--now"]).ok();
        self.assert_clean();
    }

    /// Applies a file of `demo/`.
    #[track_caller]
    pub fn apply_demo(&self, file: &str) -> String {
        let path = binaries::manifest(file);
        self.hull(&["apply", "-f", &path.to_string_lossy()]).ok()
    }

    /// Deletes a pod, and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be deleted.
    #[track_caller]
    pub fn delete(&self, name: &str, flags: &[&str]) {
        let output = self.hull(&[&["delete", "pod", name], flags].concat());
        assert!(output.status.success(), "{output}");
    }

    /// The Pod object as the API shows it; the reason when there is none.
    pub fn pod(&self, name: &str) -> Result<Value, String> {
        let output = self.hull(&["get", "pod", name, "-o", "json"]);
        if !output.status.success() {
            return Err(output.to_string());
        }
        serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {output}"))
    }

    /// Waits until the Pod object satisfies `wanted`.
    #[track_caller]
    pub fn wait_pod(
        &self,
        name: &str,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_until(limit, what, || {
            let pod = self.pod(name)?;
            if wanted(&pod) { Ok(pod) } else { Err(format!("{:#}", pod["status"])) }
        })
    }

    /// The columns of `get pods NAME`: name, ready, status, restarts (one or several words), age.
    pub fn columns(&self, name: &str) -> Result<Vec<String>, String> {
        let output = self.hull(&["get", "pods", name, "--no-headers"]);
        if !output.status.success() {
            return Err(output.to_string());
        }
        Ok(output.stdout.split_whitespace().map(str::to_owned).collect())
    }

    /// Waits until `get pods` shows this READY and this STATUS.
    #[track_caller]
    pub fn wait_row(&self, name: &str, limit: Duration, ready: &str, status: &str) {
        wait_until(limit, &format!("{name} {ready} {status}"), || {
            let columns = self.columns(name)?;
            let found = columns.get(1).zip(columns.get(2));
            let wanted = found.is_some_and(|(is_ready, is)| is_ready == ready && is == status);
            if wanted { Ok(()) } else { Err(columns.join(" ")) }
        });
    }

    /// Runs a command in the pod's only or default container.
    #[track_caller]
    pub fn exec(&self, name: &str, command: &[&str]) -> Output {
        self.hull(&[&["exec", name, "--"], command].concat())
    }

    /// What `hull` left on this machine: nothing, once every pod is deleted. Each line names one thing.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let uids = self.note_pods();
        self.search(&uids).describe()
    }

    fn search<'a>(&'a self, uids: &'a BTreeSet<String>) -> Search<'a> {
        Search { root: &self.root, places: self.places(), uids, network_pid: self.holder.id() }
    }

    /// Cgroups that name a pod of this host.
    #[must_use]
    pub fn cgroups(&self) -> Vec<String> {
        let uids = self.note_pods();
        self.search(&uids).cgroups().iter().map(|path| path.display().to_string()).collect()
    }

    /// Whether a cgroup path names a pod that this host ever had.
    #[must_use]
    pub fn speaks_of_pod(&self, text: &str) -> bool {
        let uids = self.note_pods();
        self.search(&uids).is_ours(text)
    }

    /// Waits until nothing is left; removal may go on a little after `delete` has answered.
    ///
    /// # Panics
    /// When something stays.
    #[track_caller]
    pub fn assert_clean(&self) {
        wait_until(Duration::from_secs(10), "clean machine", || {
            let left = self.leftovers();
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }

    /// Remembers the pods that are here now; returns all that ever were.
    fn note_pods(&self) -> BTreeSet<String> {
        let Ok(mut uids) = self.uids.lock() else {
            return BTreeSet::new();
        };
        let entries = fs::read_dir(self.places().run.join("pods")).into_iter().flatten().flatten();
        uids.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()));
        uids.clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
        let uids = self.note_pods();
        self.search(&uids).remove();
        end(&mut self.holder);
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("{}: {error}", self.root.display());
        }
    }
}

impl Host {
    /// After a failure: what hull's own processes said about themselves.
    fn report(&self) {
        for uid in self.note_pods() {
            let path = self.places().run.join("pods").join(&uid).join("hull.log");
            if let Ok(text) = fs::read_to_string(&path) {
                eprintln!("--- {}\n{text}", path.display());
            }
        }
    }
}

const RUN: &str = "mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs /run";

const USUAL: &str = "mkdir -p ROOT/lib/hull/images ROOT/log && \
    mount --bind IMAGES ROOT/lib/hull/images && \
    mount --rbind ROOT/lib /var/lib && mount --bind ROOT/log /var/log && \
    RUN && ";

/// A process in new namespaces whose loopback is up, after what `script` does there.
fn hold(namespaces: &[&str], script: &str) -> Result<Child, String> {
    let say = |error: &dyn std::fmt::Display| format!("a network namespace: {error}");
    let mut holder = Command::new("unshare")
        .args(namespaces)
        .args(["--", "sh", "-c", &format!("{script}busybox ip link set lo up && echo up && exec cat")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| say(&error))?;
    let mut line = String::new();
    let pipe = holder.stdout.take().ok_or_else(|| say(&"no pipe"))?;
    BufReader::new(pipe).read_line(&mut line).map_err(|error| say(&error))?;
    if line.trim() == "up" { Ok(holder) } else { Err(say(&"its first commands failed")) }
}

/// Closing its input ends a holder.
fn end(holder: &mut Child) {
    drop(holder.stdin.take());
    if let Err(error) = holder.wait() {
        eprintln!("network namespace: {error}");
    }
}

/// The store with all test images, filled once per test run: `/run` is the run's own (tests/run).
fn shared_images(host: &Host) -> Result<&'static Path, String> {
    static STORE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let filled = STORE.get_or_init(|| {
        let archives = binaries::image_archives()?;
        let say = |error: std::io::Error| format!("the shared image store: {error}");
        let root = Path::new("/run/hull-test-images");
        fs::create_dir_all(root).map_err(say)?;
        // Another test process (nextest) may be filling it right now.
        let lock = fs::File::create(root.join("lock")).map_err(say)?;
        lock.lock().map_err(say)?;
        let done = root.join("done");
        for archive in archives.iter().filter(|_| !done.exists()) {
            let mut import = host.command(&host.hull);
            import.arg("--root").arg(root).args(["image", "import"]).arg(archive);
            let output = command::run(&mut import, "", Duration::from_secs(300));
            if !output.status.success() {
                return Err(output.to_string());
            }
        }
        fs::write(done, "").map_err(say)?;
        Ok(root.join("lib/images"))
    });
    filled.as_deref().map_err(Clone::clone)
}
