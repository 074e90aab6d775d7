//! Containers that are made, used and deleted in random order by commands that are killed at random points: at the end
//! `delete --force` has an answer for everything, and nothing is left on the host.
//!
//! `make soak` runs it with `HULL_SOAK` containers; `HULL_SOAK_SEED` repeats a run, as far as time lets it.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use hull_tests::wait::{now, pause};
use serde_json::json;

use crate::bundle::Bundle;

/// How many are made unless `HULL_SOAK` says otherwise.
const DEFAULT: u32 = 60;
/// Longer than any command takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
/// A command that takes so long may wait for a container that is paused.
const PAUSED: Duration = Duration::from_secs(2);
/// One command in so many is killed.
const KILLED: u64 = 3;

/// A small generator of numbers; xorshift64*.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("HULL_SOAK_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
            u64::from_str_radix(&uuid[..8], 16).unwrap()
        });
        println!("HULL_SOAK_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// What is asked of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Run,
    Attached,
    Start,
    Exec,
    ExecDetached,
    Kill,
    Pause,
    Resume,
    State,
    Delete,
    Force,
}

/// Those that make something come up more often.
const VERBS: [Verb; 18] = [
    Verb::Create,
    Verb::Create,
    Verb::Create,
    Verb::Run,
    Verb::Attached,
    Verb::Start,
    Verb::Start,
    Verb::Start,
    Verb::Exec,
    Verb::Exec,
    Verb::ExecDetached,
    Verb::ExecDetached,
    Verb::Kill,
    Verb::Pause,
    Verb::Resume,
    Verb::State,
    Verb::Delete,
    Verb::Force,
];

impl Verb {
    fn makes(self) -> bool {
        matches!(self, Self::Create | Self::Run | Self::Attached)
    }

    fn line(self, id: &str) -> Vec<&str> {
        match self {
            Self::Create => vec!["create", id],
            Self::Run => vec!["run", "--detach", id],
            Self::Attached => vec!["run", id],
            Self::Start => vec!["start", id],
            Self::Exec => vec!["exec", id, "/bin/true"],
            Self::ExecDetached => vec!["exec", "--detach", id, "/bin/sleep", "1000"],
            Self::Kill => vec!["kill", id, "KILL"],
            Self::Pause => vec!["pause", id],
            Self::Resume => vec!["resume", id],
            Self::State => vec!["state", id],
            Self::Delete => vec!["delete", id],
            Self::Force => vec!["delete", "--force", id],
        }
    }
}

/// Containers of different kinds, since each is made and joined in its own way.
fn slots() -> Result<Vec<Bundle>, String> {
    let mut slots = Vec::new();
    for kind in 0..6 {
        let mut bundle = Bundle::new()?;
        let marker = format!("HULL_SOAK_ID={}", bundle.id);
        bundle.configure(|config| {
            config["process"]["env"] = json!(["PATH=/bin", marker]);
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            match kind {
                // Nothing dies with its init.
                1 => namespaces.retain(|one| one["type"] != "pid"),
                2 => {
                    namespaces.push(json!({"type": "user"}));
                    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
                }
                // Processes join it by way of another.
                3 => config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_PTRACE"]),
                4 => {
                    config["hooks"] = json!({
                        "createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}],
                    });
                }
                5 => config["process"]["args"] = json!(["/bin/true"]),
                _ => {}
            }
        });
        slots.push(bundle);
    }
    Ok(slots)
}

#[test]
fn commands_killed_at_random_leave_nothing_that_delete_does_not_remove() {
    if crate::bundle::is_peer() {
        // A runc that is killed while it makes groups leaves them.
        return;
    }
    let slots = match slots() {
        Ok(slots) => slots,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let wanted = std::env::var("HULL_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT);
    let (mut random, mut made, mut killed, mut well) = (Random::new(), 0, 0, 0);
    let mut waiting: Vec<(usize, Verb, Child)> = Vec::new();
    while made < wanted {
        let (slot, verb) = (random.below(slots.len() as u64) as usize, VERBS[random.below(18) as usize]);
        let mut child = begin(&slots[slot], verb);
        if random.below(KILLED) == 0 {
            // Nothing waits for a time here: the time is what is random.
            pause(Duration::from_micros(random.below(15_000)));
            child.kill().unwrap();
            killed += 1;
        }
        if verb.makes() {
            made += 1;
        }
        if verb == Verb::Attached || random.below(4) == 0 {
            // What comes next runs beside it.
            waiting.push((slot, verb, child));
        } else {
            well += u32::from(end(&slots[slot], verb, child));
        }
        if waiting.len() > 4 {
            let (slot, verb, child) = waiting.swap_remove(random.below(5) as usize);
            settle(&slots[slot], verb, child);
        }
    }
    for (slot, verb, child) in waiting {
        settle(&slots[slot], verb, child);
    }
    println!("{made} containers, {killed} commands killed, {well} did what they were to");
    for slot in &slots {
        let ended = end(slot, Verb::Force, begin(slot, Verb::Force));
        assert!(ended, "{}", slot.read("stderr"));
        assert_nothing_is_left(slot);
    }
}

fn begin(slot: &Bundle, verb: Verb) -> Child {
    let stderr = fs::File::options().create(true).append(true).open(slot.path("stderr")).unwrap();
    let mut command = slot.command(&verb.line(&slot.id));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
}

/// Ends a command that may wait for its container.
fn settle(slot: &Bundle, verb: Verb, mut child: Child) {
    let start = now();
    // Its container may not be there yet when it is first deleted.
    while verb == Verb::Attached && child.try_wait().unwrap().is_none() && start.elapsed() < LIMIT {
        end(slot, Verb::Force, begin(slot, Verb::Force));
        pause(Duration::from_millis(20));
    }
    end(slot, verb, child);
}

/// Waits for a command; whether it succeeded.
#[track_caller]
fn end(slot: &Bundle, verb: Verb, mut child: Child) -> bool {
    let start = now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if verb == Verb::Exec && start.elapsed() > PAUSED && status(slot) == "paused" {
            // Another command has paused the container since; this one waits for what it executes there.
            end(slot, Verb::Resume, begin(slot, Verb::Resume));
        }
        if start.elapsed() > LIMIT {
            let stack = fs::read_to_string(format!("/proc/{}/stack", child.id())).unwrap_or_default();
            let (status, processes) = (status(slot), processes(slot));
            child.kill().unwrap();
            panic!(
                "{verb:?} of {} hangs ({status})\n{stack}\n{processes:#?}\n{}",
                slot.id,
                slot.read("stderr")
            );
        }
        pause(Duration::from_millis(1));
    };
    let told = slot.read("stderr");
    assert!(!told.contains("panicked"), "{told}");
    status.success()
}

/// What the runtime says of the container, if there is one.
fn status(slot: &Bundle) -> String {
    let told = slot.oci(&["state", &slot.id]);
    let state: serde_json::Value = serde_json::from_str(&told.stdout).unwrap_or_default();
    state["status"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_nothing_is_left(slot: &Bundle) {
    slot.assert_gone();
    let mut state: Vec<_> =
        fs::read_dir(slot.root()).into_iter().flatten().flatten().map(|one| one.file_name()).collect();
    // Compiled filters belong to no container.
    state.retain(|name| name != "@seccomp");
    assert!(state.is_empty(), "{state:?}");
    assert_eq!(mounts(&slot.directory), [""; 0]);
    let processes = processes(slot);
    assert!(processes.is_empty(), "{processes:?}");
    let mut files: Vec<_> =
        fs::read_dir(&slot.directory).unwrap().flatten().map(|one| one.file_name()).collect();
    files.retain(|name| !["config.json", "rootfs", "root", "stderr"].contains(&&*name.to_string_lossy()));
    assert!(files.is_empty(), "{files:?}");
}

/// Processes of a container or of its runtime that have not ended.
fn processes(slot: &Bundle) -> Vec<String> {
    let names = |pid: &i32, file: &str| {
        let text = hull_tests::process::file(*pid, file);
        text.contains(&slot.id)
    };
    let all = hull_tests::process::all().into_iter().filter(|pid| hull_tests::process::is_alive(*pid));
    let ours = all.filter(|pid| {
        *pid != std::process::id().cast_signed()
            && ["environ", "cmdline", "cgroup"].iter().any(|file| names(pid, file))
    });
    let shown = |pid| {
        let (line, state) = (hull_tests::process::command_line(pid), hull_tests::process::state(pid));
        format!("{pid} {state:?} {line} {}", hull_tests::process::file(pid, "stack"))
    };
    ours.map(shown).collect()
}

/// Mounts below a directory.
fn mounts(below: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point).starts_with(below));
    table.lines().filter(point).map(str::to_owned).collect()
}
