//! Where one caller keeps everything: a directory that goes with the case, with whatever is mounted in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hull_tests::wait::{now, pause};
use hull_tests::{Output, binaries, command, process};
use nix::mount::{MntFlags, umount2};

/// How long one command may take: each starts programs of tens of megabytes, on a machine that others use.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Groups that callers make and leave, below each hierarchy.
const PARENTS: [&str; 2] = ["libpod_parent", "docker"];

/// A place, or the end of the case where there cannot be one: `caller!(Podman)`.
#[macro_export]
macro_rules! caller {
    ($kind:ident) => {
        match $kind::new() {
            Ok(caller) => caller,
            Err(reason) => hull_tests::skip!("{reason}"),
        }
    };
}

/// The runtime that is tried.
pub(crate) fn runtime() -> Result<PathBuf, String> {
    match std::env::var_os("HULL_TEST_RUNTIME") {
        Some(other) => find(&other.to_string_lossy()),
        None => binaries::program("hull-oci"),
    }
}

/// Whether an established runtime is tried, as a check on the cases themselves.
pub(crate) fn is_peer() -> bool {
    std::env::var_os("HULL_TEST_RUNTIME").is_some()
}

/// A program of the system. Those that were put beside Debian's by hand do not count.
pub(crate) fn find(name: &str) -> Result<PathBuf, String> {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|place| Path::new(place).join(name));
    places
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| format!("{name} is missing; try: tests/setup --callers"))
}

/// The archive of an image with busybox.
pub(crate) fn archive() -> Result<PathBuf, String> {
    let archives = binaries::image_archives()?;
    let found = archives.into_iter().find(|path| path.ends_with("busybox.tar"));
    found.ok_or_else(|| "there is no archive of busybox; try: make images".to_owned())
}

/// A directory of its own.
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// Makes it, where these programs are; the reason where that is not possible.
    pub(crate) fn new(programs: &[&str]) -> Result<Self, String> {
        if std::env::var_os("HULL_TEST_NAMESPACES").is_none() {
            return Err("not root in namespaces of its own; try: make test-callers".to_owned());
        }
        for program in programs {
            find(program)?;
        }
        // Short: there are sockets in it.
        let made = nix::unistd::mkdtemp(&std::env::temp_dir().join("call-XXXXXX"));
        let directory = made.map_err(|error| format!("a directory in {}: {error}", "/tmp"))?;
        users().arrive();
        Ok(Self { directory })
    }

    /// Its name, which no other has.
    pub(crate) fn name(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file into it, and says where.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Makes a directory in it, and says where.
    #[track_caller]
    pub(crate) fn directory(&self, name: &str) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        self.text(name)
    }

    /// Waits for processes that speak of it: podman's cleanup writes there after the container is removed.
    fn await_quiet(&self) {
        let place = self.directory.display().to_string();
        let speaks = |pid: i32| pid != own_pid() && process::command_line(pid).contains(&place);
        let start = now();
        while process::all().into_iter().any(speaks) {
            if start.elapsed() > LIMIT {
                return eprintln!("{place}: processes that speak of it do not end");
            }
            pause(Duration::from_millis(20));
        }
    }

    /// What is mounted in it, the last first.
    fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut inside: Vec<_> = points.filter(|point| point.starts_with(&self.directory)).collect();
        inside.reverse();
        inside
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.await_quiet();
        for point in self.mounts() {
            if let Err(error) = umount2(&point, MntFlags::MNT_DETACH) {
                eprintln!("{}: {error}", point.display());
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
        let own = [self.name()];
        groups(&own).iter().for_each(|group| remove_group(group));
        users().leave();
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Output {
    command::run(&mut command, "", LIMIT)
}

/// A script that tells its terminal and, once that has one, its size: callers give it just after the start, and `stty` of
/// busybox says nothing, without failing, as long as there is none.
pub(crate) fn tell_terminal(exit: u8) -> String {
    format!(
        "tty; for i in $(seq 100); do size=$(stty size); [ -z \"$size\" ] || break; sleep 0.05; done; echo \"$size\"; exit {exit}"
    )
}

/// The same on a terminal of script(1), of 33 rows and 99 columns. Its input stays open: at an end of input script
/// would type into the terminal.
#[track_caller]
pub(crate) fn run_on_terminal(command: &Command) -> (Option<i32>, String) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")));
    let line = quoted.collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 99; {line}"), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = hull_tests::Running::start(&mut script);
    let status = running.wait(LIMIT);
    (status.code(), running.lines().join("\n"))
}

/// The cases at work in this process. Callers leave their groups behind; the last case removes what the first one
/// did not find.
struct Users {
    count: usize,
    found: Vec<PathBuf>,
}

static USERS: Mutex<Users> = Mutex::new(Users { count: 0, found: Vec::new() });

fn users() -> MutexGuard<'static, Users> {
    USERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Users {
    fn arrive(&mut self) {
        if self.count == 0 {
            self.found = groups(&PARENTS);
        }
        self.count += 1;
    }

    fn leave(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            for parent in groups(&PARENTS).iter().filter(|parent| !self.found.contains(parent)) {
                remove_group(parent);
            }
        }
    }
}

/// The groups with these names, below each hierarchy.
pub(crate) fn groups<T: AsRef<Path>>(names: &[T]) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let each = hierarchies.flat_map(|entry| names.iter().map(move |name| entry.path().join(name)));
    each.filter(|path| path.is_dir()).collect()
}

/// Removes a group after those below it; the kernel keeps one that has processes.
fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(group) {
        eprintln!("{}: {error}", group.display());
    }
}

/// Ends a daemon of ours: asks it first, so that it removes what it made.
pub(crate) fn end(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
    // It may have ended by itself; it is reaped either way.
    let asked = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).is_ok();
    let start = now();
    while asked && start.elapsed() < LIMIT && matches!(daemon.try_wait(), Ok(None)) {
        pause(Duration::from_millis(20));
    }
    if matches!(daemon.try_wait(), Ok(None)) && daemon.kill().is_err() {
        eprintln!("process {pid} could not be ended");
    }
    if let Err(error) = daemon.wait() {
        eprintln!("process {pid}: {error}");
    }
}
