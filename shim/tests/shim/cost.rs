//! What the shim's part in a pod costs (`make bench`): one more container, and a process in a container.
//!
//! Figures are CPU time from the scheduler's own books (`/proc/<pid>/schedstat`, proc(5)), of the shim and of the processes that it
//! makes; nothing of a supervisor, a rootfs or an image is in them. What the container's own program does at its start is, unless
//! the row says "up to its program": that one is `hull-pause`, which does next to nothing.

use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use hull_shim::wire::{Answer, Command, CreateConfig, Exit, InstanceId};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::pod::Pod;

/// Containers of one pod that are measured together, and how often.
const MEMBERS: u32 = 20;
const ROUNDS: u32 = 5;
/// Execs per round.
const EXECS: u32 = 500;

/// Measures and prints what is chosen of `members`, `execs`, `crowd`, `output` and `floor`.
pub(crate) fn print(chosen: &dyn Fn(&str) -> bool) {
    println!("from the shim, milliseconds each; least and median of {ROUNDS} rounds");
    let (mut pod, _) = Pod::start("cost", |_| ());
    for (name, change) in [("", plain as fn(&mut Value)), (", with seccomp and a user", confined)] {
        let least = pod.bundle("c", &[LEAST], change);
        if chosen("members") && install_least(&pod, &least) {
            print_members(&mut pod, &format!("{name}, up to its program"), &least);
        }
        let config = pod.bundle("c", &["sleep", "1000"], change);
        if chosen("members") {
            print_members(&mut pod, name, &config);
        }
        if chosen("execs") {
            let instance = pod.launch_config(numbered(&config, 9000));
            let rounds: Vec<_> = (0..ROUNDS).map(|_| execs(&mut pod, &instance)).collect();
            row(&format!("exec of true{name}: CPU of the shim"), &rounds, |one| one.shim);
            row(&format!("exec of true{name}: CPU"), &rounds, |one| one.shim + one.init);
            row(&format!("exec of true{name}: wall"), &rounds, |one| one.wall);
            end(&mut pod, vec![instance]);
        }
    }
    drop(pod);
    if chosen("crowd") {
        in_a_crowd();
    }
    if chosen("output") {
        outputs();
    }
    if chosen("floor") {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| floor()).collect();
        row("fork, execve and wait alone: CPU", &rounds, |one| one.init);
        row("fork, execve and wait alone: wall", &rounds, |one| one.wall);
    }
}

/// The least program, in a container.
const LEAST: &str = "/bin/hull-pause";

/// Puts it into the rootfs, if `make build` has built it.
fn install_least(pod: &Pod, config: &CreateConfig) -> bool {
    let program = std::fs::read(pod.root.join("bin/hull-pause")).unwrap();
    let is_built = program.starts_with(b"\x7fELF");
    if is_built {
        let place = config.bundle.join("rootfs").join(LEAST.trim_start_matches('/'));
        std::fs::copy(pod.root.join("bin/hull-pause"), place).unwrap();
    }
    is_built
}

fn print_members(pod: &mut Pod, name: &str, config: &CreateConfig) {
    let rounds: Vec<_> = (0..ROUNDS).map(|round| members(pod, config, round)).collect();
    row(&format!("create and start of a member{name}: CPU of the shim"), &rounds, |one| one.shim);
    row(&format!("create and start of a member{name}: CPU of its init"), &rounds, |one| one.init);
    row(&format!("create and start of a member{name}: CPU"), &rounds, |one| one.shim + one.init);
    row(&format!("create and start of a member{name}: wall"), &rounds, |one| one.wall);
}

/// The same on a host with more mounts.
fn in_a_crowd() {
    crowd();
    let (mut pod, _) = Pod::start("crowd", |_| ());
    let config = pod.bundle("c", &["sleep", "1000"], plain);
    let rounds: Vec<_> = (0..ROUNDS).map(|round| members(&mut pod, &config, round)).collect();
    row("create and start of a member, 1,000 mounts: CPU", &rounds, |one| one.shim + one.init);
}

/// Output to the log: a great deal of it at once, and line by line.
fn outputs() {
    let (mut pod, _) = Pod::start("output", |_| ());
    let line = "a line of some length, as programs write them into their logs\n";
    let much = line.repeat(200_000_000 / line.len());
    let lines = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo a line of some length $i; done";
    for (name, args) in [
        ("200 MB of output, 64 kB at once", &["dd", "if=/tmp/x", "bs=64k"][..]),
        ("100,000 lines of output, each at once", &["sh", "-c", lines]),
    ] {
        let config = pod.bundle("c", args, plain);
        std::fs::write(config.bundle.join("rootfs/tmp/x"), &much).unwrap();
        let rounds: Vec<_> = (0..ROUNDS).map(|round| output(&mut pod, &numbered(&config, round))).collect();
        row(&format!("{name}: CPU of the shim"), &rounds, |one| one.shim);
        row(&format!("{name}: wall"), &rounds, |one| one.wall);
    }
}

fn output(pod: &mut Pod, config: &CreateConfig) -> Cost {
    let (before, clock) = (on_processor(pod.shim_pid()), now());
    let instance = pod.launch_config(config.clone());
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
    let cost =
        Cost { shim: on_processor(pod.shim_pid()) - before, init: Duration::ZERO, wall: clock.elapsed() };
    assert_eq!(pod.ask(Command::Forget { instance }), Ok(Answer::Ok));
    std::fs::remove_file(&config.log).unwrap();
    cost
}

/// A thousand more mounts in this namespace, which ends with us.
fn crowd() {
    for _ in 0..1000 {
        let (place, none) = ("/mnt", None::<&str>);
        mount(Some(place), place, none, MsFlags::MS_BIND, none).unwrap();
    }
}

/// What one operation took.
struct Cost {
    shim: Duration,
    init: Duration,
    wall: Duration,
}

fn row(name: &str, rounds: &[Cost], figure: fn(&Cost) -> Duration) {
    let mut figures: Vec<_> = rounds.iter().map(|one| figure(one).as_secs_f64() * 1e3).collect();
    figures.sort_by(f64::total_cmp);
    println!("  {name:<68} {:>7.2} {:>7.2}", figures[0], figures[figures.len() / 2]);
}

fn plain(_: &mut Value) {}

/// As engines have it: an ordinary user, and a filter of hundreds of calls.
fn confined(config: &mut Value) {
    config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [10]});
    let profile = std::fs::read("/usr/share/containers/seccomp.json").ok();
    let allowed = profile.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).map_or_else(
        || json!([{"names": ["reboot", "mount", "bpf"], "action": "SCMP_ACT_ERRNO"}]),
        |profile| {
            let all = profile["syscalls"].as_array().cloned().unwrap_or_default();
            let names =
                all.iter().filter(|one| one["action"] == "SCMP_ACT_ALLOW").map(|one| one["names"].clone());
            names.map(|names| json!({"names": names, "action": "SCMP_ACT_ALLOW"})).collect()
        },
    );
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": allowed});
    if allowed.as_array().is_some_and(|all| all.len() == 1) {
        config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_ALLOW");
    }
}

fn numbered(config: &CreateConfig, number: u32) -> CreateConfig {
    let instance = InstanceId { container: "c".into(), attempt: number };
    CreateConfig { instance, id: format!("c{number}"), ..config.clone() }
}

fn members(pod: &mut Pod, config: &CreateConfig, round: u32) -> Cost {
    let before = on_processor(pod.shim_pid());
    let clock = now();
    let numbers = round * MEMBERS..(round + 1) * MEMBERS;
    let instances: Vec<_> = numbers.map(|number| pod.launch_config(numbered(config, number))).collect();
    let wall = clock.elapsed() / MEMBERS;
    let shim = (on_processor(pod.shim_pid()) - before) / MEMBERS;
    let init: Duration = instances.iter().map(|one| on_processor(pod.init_of(one).cast_unsigned())).sum();
    end(pod, instances);
    Cost { shim, init: init / MEMBERS, wall }
}

fn execs(pod: &mut Pod, instance: &InstanceId) -> Cost {
    let (before, ticks) = (on_processor(pod.shim_pid()), pod.child_ticks());
    let clock = now();
    for _ in 0..EXECS {
        assert_eq!(pod.run(instance, &["true"], None).0, Exit::Code(0));
    }
    let wall = clock.elapsed() / EXECS;
    let shim = (on_processor(pod.shim_pid()) - before) / EXECS;
    Cost { shim, init: Duration::from_millis((pod.child_ticks() - ticks) * 10) / EXECS, wall }
}

/// The least that any process costs.
fn floor() -> Cost {
    let ticks = || crate::looks::ticks_of_children(std::process::id());
    let (before, clock) = (ticks(), now());
    for _ in 0..EXECS {
        let status = Process::new("/bin/busybox").arg("true").stdin(Stdio::null()).status();
        assert!(status.unwrap().success());
    }
    let wall = clock.elapsed() / EXECS;
    Cost { shim: Duration::ZERO, init: Duration::from_millis((ticks() - before) * 10) / EXECS, wall }
}

fn end(pod: &mut Pod, instances: Vec<InstanceId>) {
    for instance in instances {
        pod.ask(Command::Kill { instance: instance.clone() }).unwrap();
        assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
        assert_eq!(pod.ask(Command::Forget { instance }), Ok(Answer::Ok));
    }
}

/// How long a process has run on a processor.
fn on_processor(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
fn now() -> Instant {
    Instant::now()
}
