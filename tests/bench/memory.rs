//! What stays in memory per pod: PSS of the processes that stand beside the containers.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hull_tests::wait::pause;
use hull_tests::{process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::measure::{execute, reap};

/// Prints one figure and gives it: the sum over all pods in kB, divided by their number.
pub(crate) fn show(name: &str, pods: usize, sum: Option<Result<u64, String>>) -> Option<u64> {
    let figure = sum.unwrap_or_else(|| Err("see below".to_owned())).map(|sum| sum / pods as u64);
    let text = match &figure {
        Ok(each) => each.to_string(),
        Err(reason) => format!("skipped: {}", reason.trim()),
    };
    println!("  {name:<44} {pods:>10} {text:>8}");
    figure.ok()
}

/// The sum of PSS over these processes, once it has come to rest: they may be starting still.
pub(crate) fn proportional(pids: &[i32]) -> u64 {
    let sum = || pids.iter().filter_map(|pid| process::memory_kb(*pid, "Pss")).sum::<u64>();
    let mut before = sum();
    wait_until(Duration::from_secs(60), "memory at rest", || {
        pause(Duration::from_millis(300));
        let now = sum();
        let moved = now.abs_diff(before);
        before = now;
        if moved <= now / 100 { Ok(now) } else { Err(format!("{now} kB, still moving")) }
    })
}

/// One shim per pod, idle and without a container, which is less than it takes with one.
pub(crate) fn containerd(place: &Path, pods: usize) -> Result<u64, String> {
    let mut shims = Vec::new();
    let result = (0..pods).try_for_each(|number| {
        shims.push(shim(place, &format!("s{pods}-{number}"))?);
        Ok::<_, String>(())
    });
    let pids: Vec<i32> = shims.iter().map(|(pid, _)| *pid).collect();
    let sum = proportional(&pids);
    for pid in &pids {
        if let Err(error) = kill(Pid::from_raw(*pid), Signal::SIGKILL) {
            eprintln!("containerd-shim-runc-v2 {pid}: {error}");
        }
    }
    let gone = || {
        if pids.iter().any(|pid| process::is_alive(*pid)) { Err("still there".to_owned()) } else { Ok(()) }
    };
    wait_until(Duration::from_secs(10), "end of the shims", gone);
    reap();
    result.map(|()| sum)
}

/// Starts a shim as containerd does; it lives while its log, a FIFO, has a reader.
fn shim(place: &Path, id: &str) -> Result<(i32, File), String> {
    let bundle = place.join("shims").join(id);
    let say = |error: std::io::Error| format!("{}: {error}", bundle.display());
    fs::create_dir_all(&bundle).map_err(say)?;
    fs::write(bundle.join("config.json"), r#"{"ociVersion":"1.0.2","annotations":{}}"#).map_err(say)?;
    let log = bundle.join("log");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).map_err(|error| say(error.into()))?;
    let reader = File::options().read(true).write(true).open(&log).map_err(say)?;
    let mut start = Command::new("containerd-shim-runc-v2");
    start.args([
        "-namespace",
        "bench",
        "-address",
        "/run/hull-bench-none.sock",
        "-publish-binary",
        "/bin/true",
    ]);
    start.args(["-id", id, "start"]).current_dir(&bundle);
    execute(&mut start)?;
    let serves = |pid: &i32| {
        let words = process::command_line(*pid);
        words.contains("containerd-shim-runc-v2") && words.contains(&format!("-id {id} "))
    };
    let pid = wait_until(Duration::from_secs(10), "containerd's shim", || {
        process::all().into_iter().find(serves).ok_or_else(|| "none".to_owned())
    });
    Ok((pid, reader))
}
