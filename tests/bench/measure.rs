//! Time and processor time of an operation, and the table of several operations in interleaved rounds.
//!
//! Processor time is read from control groups, to the nanosecond on v1 and the microsecond on v2, which count all that is
//! below one: this process and whatever it starts is in a group below ours, as containers are, and what a program moves out
//! of ours is in groups whose names are known.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hull_tests::process;
use hull_tests::wait::now;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// What one operation took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Processor time of some of those that took part.
    pub(crate) parts: Vec<(&'static str, Duration)>,
}

impl Sample {
    /// The same spread over `count` operations.
    pub(crate) fn each(self, count: u32) -> Self {
        let parts = self.parts.into_iter().map(|(name, time)| (name, time / count)).collect();
        Self { wall: self.wall / count, cpu: self.cpu / count, parts }
    }
}

/// The groups whose processor time is counted.
pub(crate) struct Meter {
    /// The root of the hierarchy that counts.
    root: PathBuf,
    /// Ours, which has no process itself: below it are this process and the containers of OCI runtimes.
    own: PathBuf,
}

/// Names the group below ours that this process is in: a v2 group has either processes or groups with controllers.
const BENCH: &str = "bench";

impl Meter {
    /// Makes a group and enters one below it.
    pub(crate) fn enter() -> Result<Self, String> {
        let top = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
        let v1 = hierarchies.into_iter().find(|path| path.join("cpuacct.usage").exists());
        let root = v1.unwrap_or_else(|| top.to_owned());
        let meter = Self { own: root.join(own_group()), root };
        let bench = meter.own.join(BENCH);
        fs::create_dir_all(&bench).map_err(|error| format!("{}: {error}", bench.display()))?;
        move_into(&bench)?;
        pass_on_controllers(&meter.own)?;
        Ok(meter)
    }

    /// Processor time of everything that this process has started, ever, and of the groups `others`.
    fn used(&self, others: &[String]) -> Duration {
        let others = others.iter().map(|name| usage(&self.root.join(name)));
        (usage(&self.own) + others.sum::<Duration>()).saturating_sub(rusage(UsageWho::RUSAGE_SELF))
    }

    /// Measures `work`, which puts processes also into the groups `others`.
    pub(crate) fn timed(
        &self,
        others: impl Fn() -> Vec<String>,
        work: impl FnOnce() -> Result<(), String>,
    ) -> Result<Sample, String> {
        let (cpu, start) = (self.used(&others()), now());
        work()?;
        let wall = start.elapsed();
        Ok(Sample { wall, cpu: self.used(&others()).saturating_sub(cpu), parts: Vec::new() })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Err(reason) = move_into(&self.root) {
            eprintln!("{reason}");
        }
        crate::oci::remove_groups(&own_group());
    }
}

/// The name of our group in every hierarchy.
pub(crate) fn own_group() -> String {
    format!("hull-bench-{}", std::process::id())
}

fn move_into(group: &Path) -> Result<(), String> {
    let members = group.join("cgroup.procs");
    fs::write(&members, "0").map_err(|error| format!("{}: {error}", members.display()))
}

/// Gives all controllers of a v2 group to those below it, so that whoever makes one there pays for the same ones,
/// whichever runtime was there before. Of v1 there is nothing to give.
fn pass_on_controllers(group: &Path) -> Result<(), String> {
    let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) else { return Ok(()) };
    let control = group.join("cgroup.subtree_control");
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(&control, all.join(" ")).map_err(|error| format!("{}: {error}", control.display()))
}

/// Processor time of a group and those below it; none of one that is not there.
fn usage(group: &Path) -> Duration {
    if let Ok(text) = fs::read_to_string(group.join("cpuacct.usage")) {
        return text.trim().parse().map(Duration::from_nanos).unwrap_or_default();
    }
    let text = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    line.and_then(|text| text.parse().ok()).map(Duration::from_micros).unwrap_or_default()
}

/// Processor time of this process or of its children that were reaped.
pub(crate) fn rusage(who: UsageWho) -> Duration {
    let one = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).unsigned_abs())
    };
    let sum = |usage: Usage| one(usage.user_time()) + one(usage.system_time());
    getrusage(who).map(sum).unwrap_or_default()
}

/// Reaps adopted orphans. Called between commands only, when no child of ours runs that someone waits for.
pub(crate) fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Processor time of one process, without its children.
pub(crate) fn own_time(pid: i32) -> Duration {
    let running = process::file(pid, "schedstat");
    let own = running.split_whitespace().next().and_then(|text| text.parse().ok()).map(Duration::from_nanos);
    own.unwrap_or_default()
}

/// Runs a command to its end; its error output is the reason when it fails.
pub(crate) fn execute(command: &mut Command) -> Result<String, String> {
    // Files, not pipes: a container that stays would hold a pipe open.
    let place = std::env::temp_dir().join(format!("hull-bench-out-{}", std::process::id()));
    let say = |error: std::io::Error| format!("{}: {error}", command.get_program().to_string_lossy());
    let file = std::fs::File::create(&place).map_err(say)?;
    let errors = file.try_clone().map_err(say)?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(errors).status();
    let text = std::fs::read_to_string(&place).unwrap_or_default();
    std::fs::remove_file(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    match status {
        Ok(status) if status.success() => Ok(text),
        Ok(status) => Err(format!("{} {status}: {text}", command.get_program().to_string_lossy())),
        Err(error) => Err(format!("{}: {error}", command.get_program().to_string_lossy())),
    }
}

/// One operation of one program.
pub(crate) struct Contender<'a> {
    name: String,
    operation: Box<dyn FnMut() -> Result<Sample, String> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        operation: impl FnMut() -> Result<Sample, String> + 'a,
    ) -> Self {
        Self { name: name.into(), operation: Box::new(operation) }
    }
}

/// The middle of what every contender took; for ratios.
pub(crate) type Medians = Vec<(String, Duration, Duration)>;

/// Runs every contender once per round and prints the table; the first round only warms up.
pub(crate) fn compare(
    title: &str,
    rounds: usize,
    contenders: Vec<Contender<'_>>,
    skipped: &RefCell<Vec<String>>,
) -> Medians {
    println!("{title}");
    println!("  {:<44} {:>10} {:>8} {:>10} {:>8}", "", "wall least", "median", "CPU least", "median");
    let mut running: Vec<_> = contenders.into_iter().map(|one| (one, Vec::new())).collect();
    for round in 0..=rounds {
        running.retain_mut(|(contender, samples)| match (contender.operation)() {
            Ok(sample) => {
                if round > 0 {
                    samples.push(sample);
                }
                true
            }
            Err(reason) => {
                skipped.borrow_mut().push(format!("{}: {}", contender.name, reason.trim()));
                false
            }
        });
    }
    let mut medians = Medians::new();
    for (contender, samples) in running {
        let wall = sorted(samples.iter().map(|sample| sample.wall));
        row(&contender.name, &wall, &sorted(samples.iter().map(|sample| sample.cpu)), &mut medians);
        for number in 0..samples.first().map_or(0, |sample| sample.parts.len()) {
            let part = samples.iter().filter_map(|sample| sample.parts.get(number));
            let (names, times): (Vec<_>, Vec<_>) = part.copied().unzip();
            row(&format!("  {}", names[0]), &[], &sorted(times.into_iter()), &mut medians);
        }
    }
    println!();
    medians
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times
}

fn middle(sorted: &[Duration]) -> Option<&Duration> {
    sorted.get(sorted.len() / 2)
}

fn row(name: &str, wall: &[Duration], cpu: &[Duration], medians: &mut Medians) {
    let show = |value: Option<&Duration>| {
        value.map_or_else(String::new, |time| format!("{:.2}", time.as_secs_f64() * 1000.0))
    };
    let cells = [wall.first(), middle(wall), cpu.first(), middle(cpu)].map(show);
    println!("  {name:<44} {:>10} {:>8} {:>10} {:>8}", cells[0], cells[1], cells[2], cells[3]);
    let value = |sorted| middle(sorted).copied().unwrap_or_default();
    medians.push((name.trim().to_owned(), value(wall), value(cpu)));
}

/// Mounts a file system in memory, as `/run` is: what programs keep there by default is not on disk.
pub(crate) fn mount_memory(directory: &Path) -> Result<(), String> {
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|error| format!("mount {}: {error}", directory.display()))
}

/// Takes a mount away, if it is there.
pub(crate) fn unmount(directory: &Path) {
    if let Err(error) = umount2(directory, MntFlags::MNT_DETACH)
        && error != nix::Error::EINVAL
        && error != nix::Error::ENOENT
    {
        eprintln!("{}: {error}", directory.display());
    }
}

/// A directory that goes with this value.
#[derive(Debug)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
