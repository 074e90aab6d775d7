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

/// Which of the two times of an operation.
#[derive(Clone, Copy)]
enum Time {
    Wall,
    Cpu,
}

/// `what` takes at most `share` of the time of `of`.
struct Ratio {
    what: &'static str,
    of: &'static str,
    time: Time,
    share: f64,
}

/// A verb of `hull-oci` takes less than that of a crun that is linked statically, as hull is.
const fn verb(what: &'static str, of: &'static str, time: Time) -> Ratio {
    Ratio { what, of, time, share: 1.0 }
}

const RATIOS: [Ratio; 18] = [
    Ratio { what: APPLY, of: PLAY, time: Time::Wall, share: 0.1 },
    Ratio { what: WITHOUT_CLIENT, of: CRUN_EXEC, time: Time::Cpu, share: 0.05 },
    Ratio { what: WITHOUT_CLIENT, of: FLOOR, time: Time::Cpu, share: 2.0 },
    Ratio { what: CREATE, of: CRUN_CREATE, time: Time::Cpu, share: 0.2 },
    Ratio { what: "hull-oci run", of: "floor", time: Time::Wall, share: 1.5 },
    Ratio { what: "hull-oci run", of: "floor", time: Time::Cpu, share: 1.5 },
    Ratio { what: "hull-oci run, seccomp", of: "floor, seccomp", time: Time::Wall, share: 1.5 },
    Ratio { what: "hull-oci run, seccomp", of: "floor, seccomp", time: Time::Cpu, share: 1.5 },
    verb("hull-oci run", "static crun run", Time::Wall),
    verb("hull-oci run, seccomp", "static crun run, seccomp", Time::Wall),
    verb("hull-oci create", "static crun create", Time::Wall),
    verb("hull-oci start", "static crun start", Time::Wall),
    verb("hull-oci state", "static crun state", Time::Wall),
    verb("hull-oci exec", "static crun exec", Time::Wall),
    verb("hull-oci kill", "static crun kill", Time::Wall),
    verb("hull-oci delete", "static crun delete", Time::Wall),
    verb("hull-oci 200 runs", "static crun 200 runs", Time::Wall),
    verb("hull-oci run, 1,000 mounts", "static crun run, 1,000 mounts", Time::Wall),
];

/// Most kB of PSS per pod, with so many pods.
const MEMORY: (usize, u64) = (100, 2048);

/// A figure of memory among the times: kB as nanoseconds of both.
pub(crate) fn memory(pods: usize, each: u64) -> (String, Duration, Duration) {
    (memory_name(pods), Duration::from_nanos(each), Duration::from_nanos(each))
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
            found.map(|(_, wall, cpu)| match ratio.time {
                Time::Wall => wall.as_secs_f64(),
                Time::Cpu => cpu.as_secs_f64(),
            })
        };
        let (Some(what), Some(of)) = (find(ratio.what), find(ratio.of)) else { continue };
        let time = match ratio.time {
            Time::Wall => "wall",
            Time::Cpu => "CPU",
        };
        // Only one operation has parts, and they are those of an exec.
        let what_name =
            if ratio.what == WITHOUT_CLIENT { "hull exec without the client" } else { ratio.what };
        row(&format!("{time}: {what_name} / {}", ratio.of), (ratio.share, what / of), 2);
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
