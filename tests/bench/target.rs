//! The targets of the project, each a ratio of two figures of the same run or a figure and its limit.

use std::time::Duration;

use crate::hull::WITHOUT_CLIENT;
use crate::measure::Medians;

pub(crate) const APPLY: &str = "hull apply --wait";
pub(crate) const PLAY: &str = "podman kube play";
pub(crate) const CRUN_EXEC: &str = "crun exec";
pub(crate) const FLOOR: &str = "fork and execve of the same program alone";
pub(crate) const CREATE: &str = "hull, one more container in a pod";
pub(crate) const CRUN_CREATE: &str = "crun create + start";

/// Which figure of an operation.
#[derive(Clone, Copy)]
enum Figure {
    Wall,
    Cpu,
    Peak,
}

/// `what` takes at most `share` of what `of` takes.
struct Ratio {
    what: &'static str,
    of: &'static str,
    figure: Figure,
    share: f64,
}

/// A verb of `hull-oci` takes less than that of a crun that is linked statically, as hull is.
const fn verb(what: &'static str, of: &'static str, figure: Figure) -> Ratio {
    Ratio { what, of, figure, share: 1.0 }
}

const RATIOS: [Ratio; 25] = [
    Ratio { what: APPLY, of: PLAY, figure: Figure::Wall, share: 0.1 },
    Ratio { what: WITHOUT_CLIENT, of: CRUN_EXEC, figure: Figure::Cpu, share: 0.05 },
    Ratio { what: WITHOUT_CLIENT, of: FLOOR, figure: Figure::Cpu, share: 2.0 },
    Ratio { what: CREATE, of: CRUN_CREATE, figure: Figure::Cpu, share: 0.2 },
    Ratio { what: "hull-oci run", of: "floor", figure: Figure::Wall, share: 1.5 },
    Ratio { what: "hull-oci run", of: "floor", figure: Figure::Cpu, share: 1.5 },
    Ratio { what: "hull-oci run, seccomp", of: "floor, seccomp", figure: Figure::Wall, share: 1.5 },
    Ratio { what: "hull-oci run, seccomp", of: "floor, seccomp", figure: Figure::Cpu, share: 1.5 },
    verb("hull-oci run", "static crun run", Figure::Wall),
    verb("hull-oci run, seccomp", "static crun run, seccomp", Figure::Wall),
    verb("hull-oci create", "static crun create", Figure::Wall),
    verb("hull-oci start", "static crun start", Figure::Wall),
    verb("hull-oci state", "static crun state", Figure::Wall),
    verb("hull-oci exec", "static crun exec", Figure::Wall),
    verb("hull-oci kill", "static crun kill", Figure::Wall),
    verb("hull-oci delete", "static crun delete", Figure::Wall),
    verb("hull-oci 200 runs", "static crun 200 runs", Figure::Wall),
    verb("hull-oci run, 1,000 mounts", "static crun run, 1,000 mounts", Figure::Wall),
    verb("hull-oci run: peak", "static crun run: peak", Figure::Peak),
    verb("hull-oci create: peak", "static crun create: peak", Figure::Peak),
    verb("hull-oci start: peak", "static crun start: peak", Figure::Peak),
    verb("hull-oci state: peak", "static crun state: peak", Figure::Peak),
    verb("hull-oci exec: peak", "static crun exec: peak", Figure::Peak),
    verb("hull-oci kill: peak", "static crun kill: peak", Figure::Peak),
    verb("hull-oci delete: peak", "static crun delete: peak", Figure::Peak),
];

/// Most kB of PSS per pod, with so many pods.
const MEMORY: (usize, u64) = (100, 2048);

/// A figure of memory among the times: kB as nanoseconds of both.
fn kilobytes(name: String, count: u64) -> (String, Duration, Duration) {
    (name, Duration::from_nanos(count), Duration::from_nanos(count))
}

/// What a pod takes, with so many of them.
pub(crate) fn memory(pods: usize, each: u64) -> (String, Duration, Duration) {
    kilobytes(memory_name(pods), each)
}

/// The most that an operation took.
pub(crate) fn peak(operation: &str, count: u64) -> (String, Duration, Duration) {
    kilobytes(format!("{operation}: peak"), count)
}

fn memory_name(pods: usize) -> String {
    format!("kB of PSS per pod with {pods} pods")
}

/// Prints each target, what was measured, and whether that reaches it.
pub(crate) fn show(medians: &Medians) {
    println!("targets (medians)");
    println!("  {:<62} {:>9} {:>9}", "", "target", "measured");
    for ratio in RATIOS {
        let find = |name| {
            let found = medians.iter().find(|(known, ..)| known == name);
            found.map(|(_, wall, cpu)| match ratio.figure {
                Figure::Wall | Figure::Peak => wall.as_secs_f64(),
                Figure::Cpu => cpu.as_secs_f64(),
            })
        };
        let (Some(what), Some(of)) = (find(ratio.what), find(ratio.of)) else { continue };
        let figure = match ratio.figure {
            Figure::Wall => "wall",
            Figure::Cpu => "CPU",
            Figure::Peak => "memory",
        };
        // Only one operation has parts, and they are those of an exec.
        let what_name =
            if ratio.what == WITHOUT_CLIENT { "hull exec without the client" } else { ratio.what };
        row(&format!("{figure}: {what_name} / {}", ratio.of), (ratio.share, what / of), 2);
    }
    let name = memory_name(MEMORY.0);
    if let Some((_, each, _)) = medians.iter().find(|(known, ..)| *known == name) {
        row(&name, (MEMORY.1 as f64, each.as_nanos() as f64), 0);
    }
}

fn row(name: &str, (target, measured): (f64, f64), digits: usize) {
    let verdict = if measured <= target { "reached" } else { "missed" };
    println!("  {name:<62} {target:>9.digits$} {measured:>9.digits$}  {verdict}");
}
