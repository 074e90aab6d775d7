//! Time and processor time of an operation, and the table of several operations in interleaved rounds.
//!
//! Processor time is what every child and adopted child used that was reaped in the meantime (getrusage(2),
//! `RUSAGE_CHILDREN`; this process is a subreaper), plus what the caller adds for processes that stay.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hull_tests::process;
use hull_tests::wait::now;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// What one operation took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Sample {
    /// The same spread over `count` operations.
    pub(crate) fn each(self, count: u32) -> Self {
        Self { wall: self.wall / count, cpu: self.cpu / count }
    }
}

/// Processor time of all children reaped so far.
fn children_time() -> Duration {
    reap();
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return Duration::ZERO;
    };
    let one = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(micros.unsigned_abs())
    };
    one(usage.user_time()) + one(usage.system_time())
}

/// Reaps adopted orphans. Called between commands only, when no child of ours runs that someone waits for.
pub(crate) fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Processor time of one process that stays, with that of its reaped children.
pub(crate) fn resident_time(pid: i32) -> Duration {
    let running = process::file(pid, "schedstat");
    let own = running.split_whitespace().next().and_then(|text| text.parse().ok()).map(Duration::from_nanos);
    own.unwrap_or_default() + Duration::from_millis(10 * process::children_ticks(pid).unwrap_or(0))
}

/// Measures `work`, with the processor time of `residents` added.
pub(crate) fn timed(residents: &[i32], work: impl FnOnce() -> Result<(), String>) -> Result<Sample, String> {
    let of_residents = || residents.iter().map(|pid| resident_time(*pid)).sum::<Duration>();
    let (cpu, resident, start) = (children_time(), of_residents(), now());
    work()?;
    let wall = start.elapsed();
    let used = children_time().saturating_sub(cpu) + of_residents().saturating_sub(resident);
    Ok(Sample { wall, cpu: used })
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

/// A command measured by itself.
pub(crate) fn timed_command(program: &str, arguments: &[&str]) -> Result<Sample, String> {
    timed(&[], || execute(Command::new(program).args(arguments)).map(drop))
}

/// One operation of one program.
pub(crate) struct Contender<'a> {
    name: &'static str,
    operation: Box<dyn FnMut() -> Result<Sample, String> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, operation: impl FnMut() -> Result<Sample, String> + 'a) -> Self {
        Self { name, operation: Box::new(operation) }
    }
}

/// Runs every contender once per round and prints the table; the first round only warms up.
pub(crate) fn compare(title: &str, rounds: usize, contenders: Vec<Contender<'_>>, skipped: &mut Vec<String>) {
    println!("{title}");
    println!("  {:<34} {:>10} {:>10} {:>10} {:>10}", "", "wall least", "median", "CPU least", "median");
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
                skipped.push(format!("{}: {}", contender.name, reason.trim()));
                false
            }
        });
    }
    for (contender, samples) in running {
        let sorted = |part: fn(&Sample) -> Duration| {
            let mut values: Vec<_> = samples.iter().map(part).collect();
            values.sort();
            let show = |value: Option<&Duration>| {
                value.map_or_else(String::new, |time| format!("{:.2}", milliseconds(*time)))
            };
            (show(values.first()), show(values.get(values.len() / 2)))
        };
        let (wall, cpu) = (sorted(|sample| sample.wall), sorted(|sample| sample.cpu));
        println!("  {:<34} {:>10} {:>10} {:>10} {:>10}", contender.name, wall.0, wall.1, cpu.0, cpu.1);
    }
    println!();
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
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
