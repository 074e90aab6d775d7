//! The two engines side by side, and our own with each step made to fail.

use std::fmt::Write as _;

use hull_shim::wire::{Answer, Command, Exit, Failure};
use serde_json::{Value, json};

use crate::cases::Case;
use crate::looks::kernel;
use crate::pod::Pod;

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[
    ("both_engines_make_the_same_container", both_engines_make_the_same_container),
    ("a_step_that_fails_leaves_nothing_of_the_instance", a_step_that_fails_leaves_nothing_of_the_instance),
    ("what_no_pod_has_is_refused", what_no_pod_has_is_refused),
    ("creating_costs_little", creating_costs_little),
];

/// What a process sees of itself and of its container.
const VIEW: &str = "
    for f in status limits cgroup oom_score_adj attr/current mountinfo; do
        echo \"== $f\"; busybox cat /proc/self/$f 2>/dev/null
    done
    echo '== env'; busybox env | busybox sort
    echo '== fd'; for f in 0 1 2 3 4 5 6 7 8 9; do
        [ -e /proc/$$/fd/$f ] && echo $f $(busybox readlink /proc/$$/fd/$f | busybox sed 's/[0-9]//g')
    done
    echo '== ns'; for n in pid net ipc uts mnt cgroup user time; do echo $n $(busybox readlink /proc/self/ns/$n); done
    echo '== dev'; busybox ls -l /dev | busybox awk '{print $1, $3, $4, $5, $6, $NF}' | busybox sed 's/ [0-9]*$//'
    echo '== place'; busybox pwd; busybox hostname; echo $$; umask
    echo '== closed'; busybox ls /proc/scsi /proc/keys 2>&1; busybox cat /proc/keys; ( echo 1 > /proc/sys/vm/laptop_mode ) 2>&1
";

fn rich(config: &mut Value) {
    config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 23});
    config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]);
    config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/scsi", "/proc/nothing"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/irq"]);
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.extend([
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
               "options": ["nosuid", "noexec", "nodev", "ro"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "noexec", "mode=1777", "size=1m"]}),
        json!({"destination": "/data", "type": "bind", "source": "/usr/share",
               "options": ["rbind", "ro", "nosuid", "rprivate"]}),
    ]);
}

/// What one engine makes of the rich configuration.
fn view(engine: &str) -> Vec<(String, Vec<String>)> {
    // The same name, so that paths and hostname are the same.
    let (mut pod, _) = Pod::start_with("same", &[("HULL_ENGINE", engine)], |_| ());
    let config = pod.bundle("c", &["sh", "-c", VIEW], rich);
    let instance = pod.launch_config(config);
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(1), "{}", pod.log("c"));
    let mut parts: Vec<(String, Vec<String>)> = Vec::new();
    // A shell writes some messages piece by piece.
    let mut whole = String::new();
    for line in pod.log("c").lines() {
        let mut fields = line.splitn(4, ' ').skip(2);
        let tag = fields.next();
        whole.push_str(fields.next().unwrap_or_default());
        if tag == Some("P") {
            continue;
        }
        let line = std::mem::take(&mut whole);
        let text = line.as_str();
        match (text.strip_prefix("== "), parts.last_mut()) {
            (Some(name), _) => parts.push((name.to_owned(), Vec::new())),
            (None, Some((name, lines))) => lines.extend(normal(name, text)),
            (None, None) => {}
        }
    }
    parts
}

/// A line without what differs from one container to the next; none for what is about the process alone.
fn normal(part: &str, line: &str) -> Option<String> {
    const VARYING: [&str; 11] =
        ["Pid", "PPid", "Tgid", "Ngid", "NStgid", "NSpid", "NSpgid", "NSsid", "Vm", "Rss", "voluntary"];
    const SIZES: [&str; 5] = ["nonvoluntary", "Hugetlb", "FDSize", "SigQ", "Name"];
    match part {
        "status" => {
            let varies = VARYING.iter().chain(&SIZES).any(|name| line.starts_with(name));
            (!varies).then(|| line.to_owned())
        }
        "mountinfo" => {
            // Numbers of mounts, devices and peer groups.
            let fields: Vec<&str> = line.split(' ').collect();
            let dash = fields.iter().position(|field| *field == "-")?;
            let optional =
                fields.get(6..dash)?.iter().map(|field| field.split(':').next().unwrap_or_default());
            // The kernel's null device from the host, as runc has it, against the container's own; and libcontainer adds
            // nosuid, nodev and noexec to paths that are to be read-only.
            if ["/proc/keys", "/proc/sys", "/proc/irq"].contains(fields.get(4)?) {
                return None;
            }
            let mut text = fields.get(3..6)?.join(" ");
            for field in optional {
                write!(text, " {field}").ok()?;
            }
            Some(format!("{text} {}", fields.get(dash..)?.join(" ")))
        }
        // New ones have numbers of their own; joined ones are compared by the names that they have in common.
        "ns" => {
            let (name, number) = line.split_once(' ')?;
            Some(if name == "user" || name == "time" { format!("{name} {number}") } else { name.to_owned() })
        }
        _ => Some(line.to_owned()),
    }
}

fn both_engines_make_the_same_container() {
    if kernel() < (5, 12) {
        return println!("left out: libcontainer needs mount_setattr(2), of Linux 5.12");
    }
    let (own, other) = (view("own"), view("libcontainer"));
    let mut differences = String::new();
    for ((name, ours), (_, theirs)) in own.iter().zip(&other) {
        for line in ours.iter().filter(|line| !theirs.contains(line)) {
            writeln!(differences, "{name}: only ours: {line}").unwrap();
        }
        for line in theirs.iter().filter(|line| !ours.contains(line)) {
            writeln!(differences, "{name}: only theirs: {line}").unwrap();
        }
    }
    assert_eq!(own.len(), other.len());
    assert!(differences.is_empty(), "{differences}");
}

fn a_step_that_fails_leaves_nothing_of_the_instance() {
    let file = std::env::temp_dir().join(format!("hull-fault-{}", std::process::id()));
    let path = file.display().to_string();
    let (mut pod, _) = Pod::start_with("fault", &[("HULL_ENGINE_FAULT", &path)], |_| ());
    let before = pod.cgroups_below().len();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let mounted = mounts();
    let mut failed = 0;
    loop {
        let config = pod.bundle("c", &["true"], rich);
        std::fs::write(&file, format!("{failed}:{}", nix::errno::Errno::EUCLEAN as i32)).unwrap();
        let bundle = config.bundle.clone();
        match pod.ask(Command::Create(Box::new(config))) {
            Err(Failure::Create { message }) => {
                assert!(message.ends_with(": structure needs cleaning"), "step {failed}: {message}");
            }
            Ok(Answer::Created { .. }) => break,
            other => panic!("{other:?}"),
        }
        let left = |name: &str| bundle.join(name).exists();
        assert!(!["go", "start", "stdout", "stderr"].into_iter().any(left), "a FIFO is left");
        pod.await_cgroups_below(before);
        assert_eq!(mounts(), mounted);
        failed += 1;
        // The rootfs is made anew.
        std::fs::remove_dir_all(&bundle).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    assert!(failed > 15, "only {failed} steps");
}

fn what_no_pod_has_is_refused() {
    let (mut pod, _) = Pod::start("left", |_| ());
    let config = pod.bundle("c", &["true"], |config| config["linux"]["intelRdt"] = json!({}));
    match pod.ask(Command::Create(Box::new(config))) {
        Err(Failure::Create { message }) => assert!(message.contains("linux.intelRdt is for"), "{message}"),
        other => panic!("{other:?}"),
    }
}

/// With HULL_TIMING set: what one instance costs from create to its end, for the shim and for the init.
fn creating_costs_little() {
    let Some(count) = std::env::var("HULL_TIMING").ok().and_then(|count| count.parse::<u32>().ok()) else {
        return;
    };
    for engine in ["own", "libcontainer"] {
        let (mut pod, _) = Pod::start_with("cost", &[("HULL_ENGINE", engine)], |_| ());
        let mut ticks = 0;
        for number in 0..=count {
            let name = format!("c{number}");
            let config = pod.bundle(&name, &["true"], |_| ());
            if number == 1 {
                ticks = pod.cpu_ticks();
            }
            let instance = pod.launch_config(config);
            assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
            pod.ask(Command::Forget { instance }).unwrap();
        }
        let each = (pod.cpu_ticks() - ticks) as f64 * 10.0 / f64::from(count);
        println!("{engine}: {each:.2} ms of CPU for create, start, end and forget");
    }
}
