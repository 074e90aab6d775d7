//! What `process` of a configuration becomes (oci-runtime.md 4.2, 4.3), as the process itself sees it.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

/// The runtime, called after a line of shell, and what it printed.
fn run_after(bundle: &Bundle, line: &str) -> String {
    let runtime = bundle.command(&["run", &bundle.id]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{line}; exec \"$@\""), "sh"]).arg(runtime.get_program());
    command.args(runtime.get_args()).current_dir(&bundle.directory).env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null());
    bundle.to_files(command).ok()
}

fn run(bundle: &Bundle) -> String {
    bundle.oci(&["run", &bundle.id]).ok()
}

/// Sets fields of `process`.
fn process(bundle: &mut Bundle, fields: &Value) {
    bundle.configure(|config| {
        for (name, value) in fields.as_object().unwrap() {
            config["process"][name] = value.clone();
        }
    });
}

#[test]
fn of_two_variables_of_one_name_the_last_one_counts() {
    let mut bundle = bundle!();
    process(&mut bundle, &json!({"args": ["/bin/env"], "env": ["PATH=/bin", "A=1", "B==", "A=2"]}));
    let seen = run(&bundle);
    let mut lines: Vec<&str> = seen.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "B==", "HOME=/root", "PATH=/bin"]);
}

#[test]
fn a_variable_with_a_zero_byte_is_refused() {
    let mut bundle = bundle!();
    process(&mut bundle, &json!({"env": ["PATH=/bin", "A=one\u{0}two"]}));
    bundle.detached(&["create", &bundle.id]).fails(1);
    bundle.assert_gone();
}

#[test]
fn home_is_filled_in_for_whoever_has_none() {
    let mut bundle = bundle!();
    let rows = [(json!([]), 1000, "/tmp"), (json!([]), 4242, "/"), (json!(["HOME=/own"]), 1000, "/own")];
    // runc 1.1 leaves an empty one empty.
    let later = [(json!(["HOME="]), 1000, "/tmp")];
    for (env, uid, home) in rows.iter().chain(if is_peer() { &[][..] } else { &later }) {
        let user = json!({"uid": uid, "gid": uid});
        process(&mut bundle, &json!({"args": ["/bin/sh", "-c", "echo $HOME"], "env": env, "user": user}));
        assert_eq!(run(&bundle), format!("{home}\n"), "{env} {uid}");
    }
}

#[test]
fn a_working_directory_that_is_missing_is_made_for_an_ordinary_user_too() {
    let mut bundle = bundle!();
    bundle.script("pwd; /bin/busybox stat -c '%a %u' .");
    process(&mut bundle, &json!({"cwd": "/new/below", "user": {"uid": 1000, "gid": 1000}}));
    assert_eq!(run(&bundle), "/new/below\n755 0\n");
}

#[test]
fn a_working_directory_that_only_its_user_may_enter_is_entered() {
    let mut bundle = bundle!();
    let own = bundle.path("rootfs/own");
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
    bundle.script("pwd");
    process(&mut bundle, &json!({"cwd": "/own", "user": {"uid": 1000, "gid": 1000}}));
    assert_eq!(run(&bundle), "/own\n");
}

/// Every kind of limit, its line in `/proc/self/limits`, and values that anybody may have.
const LIMITS: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1 << 40, 1 << 41),
    ("RLIMIT_CORE", "Max core file size", 0, 4096),
    ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
    ("RLIMIT_DATA", "Max data size", 1 << 39, 1 << 40),
    ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
    ("RLIMIT_LOCKS", "Max file locks", 100, 200),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_NOFILE", "Max open files", 64, 128),
    ("RLIMIT_NPROC", "Max processes", 300, 400),
    ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 10_000, 20_000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 50, 60),
    ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
];

#[test]
fn every_limit_holds_for_the_container_and_what_is_executed_in_it() {
    let mut bundle = bundle!();
    let limits: Vec<Value> = LIMITS
        .iter()
        .map(|(kind, _, soft, hard)| json!({"type": kind, "soft": soft, "hard": hard}))
        .collect();
    process(&mut bundle, &json!({"rlimits": limits}));
    bundle.up();
    for place in ["/proc/1/limits", "/proc/self/limits"] {
        let seen = bundle.exec(&["/bin/cat", place]).ok();
        for (kind, name, soft, hard) in LIMITS {
            let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[..2], [soft.to_string(), hard.to_string()], "{place} {kind}");
        }
    }
}

#[test]
fn the_score_for_want_of_memory_is_set_or_left_as_it_is() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    let callers = "echo 77 >/proc/self/oom_score_adj";
    assert_eq!(run_after(&bundle, callers), "77\n");
    process(&mut bundle, &json!({"oomScoreAdj": 500}));
    assert_eq!(run_after(&bundle, callers), "500\n");
    bundle.args(&["/bin/sleep", "1000"]).up();
    assert_eq!(bundle.exec(&["/bin/cat", "/proc/self/oom_score_adj"]).ok(), "500\n");
}

#[test]
fn files_are_made_with_the_users_mask() {
    let mut bundle = bundle!();
    bundle.script("umask");
    if !is_peer() {
        // runc 1.1 leaves the caller's.
        assert_eq!(run_after(&bundle, "umask 077"), "0022\n");
    }
    process(&mut bundle, &json!({"user": {"uid": 0, "gid": 0, "umask": 0o27}}));
    assert_eq!(run_after(&bundle, "umask 077"), "0027\n");
    bundle.args(&["/bin/sleep", "1000"]).up();
    // runc 1.1 forgets it here.
    assert!(is_peer() || bundle.exec(&["/bin/sh", "-c", "umask"]).ok() == "0027\n");
}

#[test]
fn a_user_has_his_groups_and_no_others() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status"]);
    process(&mut bundle, &json!({"user": {"uid": 1000, "gid": 1001, "additionalGids": [7, 1_000_000]}}));
    let ids = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
    assert_eq!(run(&bundle), format!("Uid:\t{}\nGid:\t{}\nGroups:\t7 1000000 \n", ids(1000), ids(1001)));
    process(&mut bundle, &json!({"user": {"uid": 1000, "gid": 1001}}));
    let seen = run(&bundle);
    assert_eq!(seen.lines().last().unwrap().trim(), "Groups:");
}

/// The sets of capabilities that the container's `grep` shows.
fn capabilities(bundle: &Bundle) -> Vec<(String, u64)> {
    let seen = run(bundle);
    let line = |line: &str| {
        let (name, mask) = line.split_once(":\t")?;
        Some((name.to_owned(), u64::from_str_radix(mask, 16).ok()?))
    };
    seen.lines().filter_map(line).collect()
}

#[test]
fn every_set_of_capabilities_is_what_was_asked_for() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/grep", "^Cap", "/proc/self/status"]);
    let (chown, kill, raw) = ("CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW");
    let (chown_bit, kill_bit, raw_bit) = (1, 1 << 5, 1 << 13);
    let sets = json!({
        "bounding": [chown, kill, raw], "permitted": [chown, kill], "effective": [chown], "inheritable": [chown, kill],
        "ambient": [chown],
    });
    process(&mut bundle, &json!({"capabilities": sets, "user": {"uid": 1000, "gid": 1000}}));
    let set = |name: &str, mask: u64| (name.to_owned(), mask);
    let wanted = [
        set("CapInh", chown_bit | kill_bit),
        // What an ordinary user keeps over execve is what is ambient.
        set("CapPrm", chown_bit),
        set("CapEff", chown_bit),
        set("CapBnd", chown_bit | kill_bit | raw_bit),
        set("CapAmb", chown_bit),
    ];
    assert_eq!(capabilities(&bundle), wanted);
    process(&mut bundle, &json!({"user": {"uid": 0, "gid": 0}}));
    let of_root = capabilities(&bundle);
    assert_eq!(of_root[1], set("CapPrm", chown_bit | kill_bit), "{of_root:?}");
    assert_eq!(of_root[3..], wanted[3..], "{of_root:?}");
}

#[test]
fn without_capabilities_there_are_none() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/grep", "^Cap", "/proc/self/status"]);
    process(&mut bundle, &json!({"capabilities": {}}));
    assert!(capabilities(&bundle).iter().all(|(_, mask)| *mask == 0));
    bundle.configure(|config| drop(config["process"].as_object_mut().unwrap().remove("capabilities")));
    let seen = capabilities(&bundle);
    assert!(seen.iter().all(|(_, mask)| *mask == 0), "{seen:?}");
}

#[test]
fn a_capability_that_cannot_be_ambient_is_left_out() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/grep", "^CapAmb", "/proc/self/status"]);
    let all = json!(["CAP_CHOWN", "CAP_KILL"]);
    let sets = json!({"bounding": all, "permitted": all, "effective": all, "inheritable": ["CAP_CHOWN"], "ambient": all});
    process(&mut bundle, &json!({"capabilities": sets}));
    if is_peer() && !bundle.oci(&["run", &bundle.id]).status.success() {
        // By its version.
        return;
    }
    assert_eq!(capabilities(&bundle), [("CapAmb".to_owned(), 1)]);
}

/// Fields of `/proc/<pid>/stat` that tell how it is scheduled: nice value, real-time priority, policy.
fn scheduled(stat: &str) -> [i64; 3] {
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The first one here is the third of proc_pid_stat(5).
    [19, 40, 41].map(|number| fields[number - 3].parse().unwrap())
}

#[test]
fn every_policy_of_the_scheduler_is_given() {
    if is_peer() {
        // Of runtime-spec 1.1; runc 1.1 does not know it.
        return;
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat", "/proc/self/stat"]);
    if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        // This kernel shares real time out, and groups have none unless they are given some.
        bundle.configure(|config| {
            config["linux"]["resources"]["cpu"] =
                json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 1000});
        });
    }
    let rows = [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), [5, 0, 0]),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), [3, 0, 3]),
        (json!({"policy": "SCHED_IDLE"}), [0, 0, 5]),
        (json!({"policy": "SCHED_FIFO", "priority": 7}), [0, 7, 1]),
        (json!({"policy": "SCHED_RR", "priority": 8}), [0, 8, 2]),
        (json!({"policy": "SCHED_FIFO", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), [0, 9, 1]),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 100_000_000, "period": 100_000_000,
                "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]}),
            [0, 0, 6],
        ),
    ];
    for (scheduler, wanted) in rows {
        process(&mut bundle, &json!({"scheduler": scheduler}));
        let output = bundle.oci(&["run", &bundle.id]);
        assert!(output.status.success(), "{scheduler}: {output}");
        assert_eq!(scheduled(&output.stdout), wanted, "{scheduler}");
    }
    process(&mut bundle, &json!({"scheduler": {"policy": "SCHED_BATCH", "nice": 3}}));
    bundle.args(&["/bin/sleep", "1000"]).up();
    assert_eq!(scheduled(&bundle.exec(&["/bin/cat", "/proc/self/stat"]).ok()), [3, 0, 3]);
}

#[test]
fn every_class_of_io_priority_is_given() {
    if is_peer() {
        // Of runtime-spec 1.1; runc 1.1 does not know it.
        return;
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/busybox", "ionice"]);
    let rows = [
        ("IOPRIO_CLASS_BE", 3, "best-effort: prio 3\n"),
        ("IOPRIO_CLASS_RT", 5, "realtime: prio 5\n"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ];
    for (class, priority, wanted) in rows {
        process(&mut bundle, &json!({"ioPriority": {"class": class, "priority": priority}}));
        let seen = run(&bundle);
        assert!(seen.starts_with(wanted), "{class}: {seen}");
    }
}

#[test]
fn what_is_executed_runs_on_the_processors_that_it_was_given() {
    if is_peer() {
        // Of runtime-spec 1.2; runc 1.1 does not know it.
        return;
    }
    let mut bundle = bundle!();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
    if !allowed.starts_with("0-") {
        return println!("left out: one processor alone");
    }
    process(&mut bundle, &json!({"execCPUAffinity": {"initial": "0", "final": "1"}}));
    bundle.up();
    let on = |output: String| output.trim().rsplit('\t').next().unwrap_or_default().to_owned();
    let look = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];
    assert_eq!(on(bundle.exec(&look).ok()), "1");
    // The container itself is not meant.
    assert_eq!(on(bundle.exec(&["/bin/grep", "Cpus_allowed_list", "/proc/1/status"]).ok()), allowed);
    let process =
        json!({"args": look, "cwd": "/", "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"final": "0"}});
    std::fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    assert_eq!(on(bundle.oci(&["exec", "-p", "process.json", &bundle.id]).ok()), "0");
}
