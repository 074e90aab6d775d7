//! What a shim has after many containers is what it had after a few: memory, descriptors, mounts, cgroups, files, and
//! the time that each takes.
//!
//! `make soak` runs it with `HULL_SOAK` cycles of create, start, exec, kill and forget.

use std::path::Path;

use hull_shim::wire::{Answer, Command, CreateConfig, Exit, InstanceId};

use crate::cases::Case;
use crate::pod::Pod;

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[("a_shim_does_not_grow", a_shim_does_not_grow)];

/// How many cycles unless `HULL_SOAK` says otherwise.
const DEFAULT: u32 = 200;
/// Cycles after which everything is there that is kept for good.
const WARM: u32 = 50;
/// In kilobytes: pages that an allocator has not given back yet.
const SLACK: u64 = 128;

/// What may not grow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Possessions {
    descriptors: usize,
    mounts: usize,
    groups: usize,
    files: usize,
    record: u64,
}

fn a_shim_does_not_grow() {
    let given = std::env::var("HULL_SOAK").ok().and_then(|count| count.parse::<u32>().ok());
    let count = given.unwrap_or(DEFAULT).max(4 * WARM);
    let (mut pod, _) = Pod::start("growth", |_| ());
    let config = pod.bundle("c", &["sleep", "1000"], |_| ());
    let mut next = 0;
    cycles(&mut pod, &config, &mut next, WARM);
    let (possessions, memory) = (possessions(&pod), memory(&pod));
    let quarter = (count - WARM) / 4;
    let first = timed(&mut pod, &config, &mut next, quarter);
    cycles(&mut pod, &config, &mut next, count - WARM - 2 * quarter);
    let last = timed(&mut pod, &config, &mut next, quarter);
    assert_eq!(self::possessions(&pod), possessions);
    let grown = self::memory(&pod);
    println!(
        "{next} cycles: {memory:?} kB, then {grown:?} kB; {first} ticks, then {last} for {quarter} cycles"
    );
    for ((what, before), (_, after)) in memory.iter().zip(&grown) {
        assert!(*after <= before + SLACK, "{what} grew from {before} kB to {after} kB");
    }
    // Other work on the machine blurs it; what grows with the number of cycles would show far more.
    assert!(last <= first * 3 / 2 + 20, "{quarter} cycles took {first} ticks, later {last}");
}

/// CPU time of so many cycles, in hundredths of a second.
fn timed(pod: &mut Pod, config: &CreateConfig, next: &mut u32, count: u32) -> u64 {
    let before = pod.cpu_ticks();
    cycles(pod, config, next, count);
    pod.cpu_ticks() - before
}

/// Makes so many containers, one after the other, each with a further process in it.
fn cycles(pod: &mut Pod, config: &CreateConfig, next: &mut u32, count: u32) {
    for _ in 0..count {
        let instance = InstanceId { container: "c".into(), attempt: *next };
        let config = CreateConfig { instance, id: format!("c{next}"), ..config.clone() };
        *next += 1;
        let instance = pod.launch_config(config);
        assert_eq!(pod.run(&instance, &["true"], None).0, Exit::Code(0));
        pod.ask(Command::Kill { instance: instance.clone() }).unwrap();
        assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
        assert_eq!(pod.ask(Command::Forget { instance }), Ok(Answer::Ok));
    }
}

fn possessions(pod: &Pod) -> Possessions {
    // Those of pause.
    pod.await_cgroups_below(pod.cgroups().iter().filter(|group| group.join("pause").is_dir()).count());
    let process = format!("/proc/{}", pod.shim_pid());
    let lines = std::fs::read_to_string(format!("{process}/mountinfo")).unwrap();
    Possessions {
        descriptors: std::fs::read_dir(format!("{process}/fd")).unwrap().count(),
        mounts: lines.lines().count(),
        groups: pod.cgroups().len(),
        files: files(pod.layout.dir()),
        record: std::fs::metadata(pod.layout.shim_record()).unwrap().len(),
    }
}

fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let below = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => 1 + files(&entry.path()),
        _ => 1,
    };
    entries.map(below).sum()
}

/// What it holds of memory, in kilobytes: all, and its share.
fn memory(pod: &Pod) -> [(&'static str, u64); 2] {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pod.shim_pid())).unwrap();
    ["Rss:", "Pss:"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        (name, line.trim().trim_end_matches(" kB").parse().unwrap())
    })
}
