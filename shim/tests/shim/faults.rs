//! What must hold when something of a pod dies, or cannot be read, at a bad moment.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use hull_shim::layout::Layout;
use hull_shim::wire::{Answer, Command, Exit, Failure, InstanceState};
use serde_json::json;

use crate::cases::Case;
use crate::looks::{await_some, find, is_alive};
use crate::pod::{Pod, exec_config};
use crate::stand_in::{CONFINED, HUNT, ROTATOR};

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[
    ("what_was_being_made_goes_with_its_shim", what_was_being_made_goes_with_its_shim),
    ("a_successor_ends_the_execs_of_its_predecessor", a_successor_ends_the_execs_of_its_predecessor),
    ("what_an_exec_left_running_outlives_the_shim", what_an_exec_left_running_outlives_the_shim),
    (
        "a_group_that_was_busy_is_not_taken_from_who_comes_next",
        a_group_that_was_busy_is_not_taken_from_who_comes_next,
    ),
    (
        "a_pod_removed_meanwhile_is_no_pod_and_leaves_nothing",
        a_pod_removed_meanwhile_is_no_pod_and_leaves_nothing,
    ),
    (
        "an_unreadable_configuration_loses_no_exit_and_kills_nobody",
        an_unreadable_configuration_loses_no_exit_and_kills_nobody,
    ),
    ("a_log_that_cannot_be_opened_is_gone_on_with_later", a_log_that_cannot_be_opened_is_gone_on_with_later),
    (
        "a_supervisor_that_cannot_start_is_tried_ever_later",
        a_supervisor_that_cannot_start_is_tried_ever_later,
    ),
    (
        "an_exec_cannot_be_caught_with_more_power_than_the_container",
        an_exec_cannot_be_caught_with_more_power_than_the_container,
    ),
    ("a_confined_supervisor_can_do_little", a_confined_supervisor_can_do_little),
    ("a_rotation_of_a_log_holds_nobody_up", a_rotation_of_a_log_holds_nobody_up),
];

/// Names of the groups of exec'd processes of an instance, in whichever hierarchy.
fn leaves(pod: &Pod, instance: &str) -> Vec<String> {
    let below = |group: &Path| fs::read_dir(group.join(instance)).into_iter().flatten().flatten();
    let names = pod.cgroups().iter().flat_map(|group| below(group)).collect::<Vec<_>>();
    let names = names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("exec-")).collect()
}

/// Execs a command that goes on; its pid.
fn begin_exec(pod: &mut Pod, instance: &hull_shim::wire::InstanceId, script: &str) -> i32 {
    let null = fs::File::open("/dev/null").unwrap();
    let config = exec_config(instance, 900, &["sh", "-c", script], None);
    match pod.ask_with(Command::Exec(Box::new(config)), &[null.as_raw_fd(); 3]).0 {
        Ok(Answer::Exec { pid }) => pid,
        other => panic!("{other:?}"),
    }
}

fn a_successor_ends_the_execs_of_its_predecessor() {
    let (mut pod, _) = Pod::start("oldexec", |_| ());
    let instance = pod.launch("c", &["sleep", "1000"]);
    let pid = begin_exec(&mut pod, &instance, "sleep 900 & exec sleep 1000");
    assert_eq!(leaves(&pod, "c.0").len(), 1);
    pod.kill_shim();
    assert!(is_alive(pid));
    pod.start_shim();
    let again = pod.greet();
    assert!(matches!(find(&again, &instance).state, InstanceState::Running { .. }));
    await_some("the end of the exec'd process", || (!is_alive(pid)).then_some(()));
    await_some("the end of its group", || leaves(&pod, "c.0").is_empty().then_some(()));
    let (exit, _, _) = pod.run(&instance, &["true"], None);
    assert_eq!(exit, Exit::Code(0));
}

fn what_an_exec_left_running_outlives_the_shim() {
    let (mut pod, _) = Pod::start("daemon", |_| ());
    let instance = pod.launch("c", &["sleep", "1000"]);
    let (exit, _, _) = pod.run(&instance, &["sh", "-c", "sleep 777 > /dev/null 2>&1 & exit 0"], None);
    assert_eq!(exit, Exit::Code(0));
    await_some("the end of the leaf", || leaves(&pod, "c.0").is_empty().then_some(()));
    pod.kill_shim();
    pod.start_shim();
    pod.greet();
    let script = "for p in /proc/[0-9]*; do grep -q 777 $p/cmdline && echo here; done; true";
    let (_, _, output) = pod.run(&instance, &["sh", "-c", script], None);
    assert!(output.contains("here"), "{output:?}");
    let usage = pod.ask(Command::Statistics { instance: Some(instance.clone()) });
    assert!(matches!(&usage, Ok(Answer::Statistics(usage)) if usage.pids == 2), "{usage:?}");
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends() && pod.cgroups().is_empty());
}

fn a_group_that_was_busy_is_not_taken_from_who_comes_next() {
    let (mut pod, _) = Pod::start("busy", |_| ());
    let config = pod.bundle("c", &["sleep", "1000"], |_| ());
    let instance = pod.launch_config(config.clone());
    pod.ask(Command::Kill { instance: instance.clone() }).unwrap();
    assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
    // Somebody is in it, so that it cannot be removed yet.
    let group = pod.cgroups_below().into_iter().find(|group| group.ends_with("c.0")).unwrap();
    let mut guest = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(group.join("cgroup.procs"), guest.id().to_string()).unwrap();
    assert_eq!(pod.ask(Command::Forget { instance }), Ok(Answer::Ok));
    // The same once more, as after a creation that failed.
    let instance = pod.launch_config(config);
    guest.kill().unwrap();
    guest.wait().unwrap();
    let leaf = group.join("leaf");
    fs::create_dir(&leaf).unwrap();
    // Longer than the shim waits before it tries again.
    assert_eq!(pod.run(&instance, &["sleep", "1"], None).0, Exit::Code(0));
    assert!(leaf.is_dir());
    fs::remove_dir(leaf).unwrap();
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends() && pod.cgroups().is_empty());
}

fn a_pod_removed_meanwhile_is_no_pod_and_leaves_nothing() {
    let (mut pod, _) = Pod::start("removed", |_| ());
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends());
    // Killed between the last steps of a removal.
    fs::create_dir_all(pod.layout.dir()).unwrap();
    fs::write(pod.layout.shim_record(), "{}").unwrap();
    fs::write(pod.layout.shim_lock(), "").unwrap();
    let said = pod.start_detached();
    assert!(said.starts_with("0pod test-removed-") && said.contains("it is gone"), "{said}");
    assert!(!pod.layout.dir().exists(), "{:?}", fs::read_dir(pod.layout.dir()).unwrap().collect::<Vec<_>>());
    let said = pod.start_detached();
    assert!(said.contains("it is gone"), "{said}");
    // Many that come while the pod is taken away: whoever is first, none of them serves what is half gone.
    for _ in 0..20 {
        fs::create_dir_all(pod.layout.dir()).unwrap();
        fs::write(pod.layout.shim_lock(), "").unwrap();
        let remover = {
            let directory = pod.layout.dir().to_owned();
            // The shim may have been first.
            std::thread::spawn(move || while fs::remove_dir_all(&directory).is_err() && directory.exists() {})
        };
        let said = pod.start_detached();
        remover.join().unwrap();
        assert!(said.starts_with('0'), "{said}");
        assert!(!pod.layout.dir().exists());
    }
}

fn an_unreadable_configuration_loses_no_exit_and_kills_nobody() {
    let (mut pod, _) = Pod::start("unreadable", |_| ());
    let running =
        pod.launch("c", &["sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done"]);
    pod.await_log("c", "ready");
    let ended = pod.launch("d", &["sh", "-c", "exit 3"]);
    let end = pod.exit_of(&ended);
    let pid = pod.init_of(&running);
    pod.kill_shim();
    let (layout, root) = (pod.layout.clone(), pod.root.clone());
    let hidden =
        |name: &str| (layout.instance(name, 0).join("config.json"), root.join(format!("{name}.json")));
    for name in ["c", "d"] {
        let (from, to) = hidden(name);
        fs::rename(from, to).unwrap();
    }
    pod.start_shim();
    let again = pod.greet();
    assert_eq!(find(&again, &ended).state, InstanceState::Exited(end));
    assert!(matches!(find(&again, &running).state, InstanceState::Running { .. }));
    assert!(is_alive(pid));
    assert!(pod.diagnostics().contains("take up c.0: read "), "{}", pod.diagnostics());
    let null = fs::File::open("/dev/null").unwrap();
    let config = exec_config(&running, 901, &["true"], None);
    let (answer, _) = pod.ask_with(Command::Exec(Box::new(config)), &[null.as_raw_fd(); 3]);
    assert!(
        matches!(&answer, Err(Failure::Other { message }) if message.contains("config.json")),
        "{answer:?}"
    );
    // Once it can be read again, so can be exec'd, with the container's own identity.
    let (to, from) = hidden("c");
    fs::rename(from, to).unwrap();
    let (exit, _, output) = pod.run(&running, &["grep", "Seccomp:", "/proc/self/status"], None);
    assert_eq!((exit, output.as_str()), (Exit::Code(0), "Seccomp:\t2\n"));
    assert_eq!(pod.ask(Command::Signal { instance: running.clone(), signal: 15 }), Ok(Answer::Ok));
    assert!(matches!(pod.exit_of(&running).exit, Exit::Code(6) | Exit::Unknown));
    assert_eq!(pod.ask(Command::Forget { instance: ended }), Ok(Answer::Ok));
}

fn a_log_that_cannot_be_opened_is_gone_on_with_later() {
    let (mut pod, _) = Pod::start("nolog", |_| ());
    let instance = pod.launch("c", &["sh", "-c", "while :; do echo tick; sleep 0.02; done"]);
    pod.await_log("c", "tick");
    let ended = pod.launch("d", &["sh", "-c", "exit 3"]);
    let end = pod.exit_of(&ended);
    let pid = pod.init_of(&instance);
    pod.kill_shim();
    let directory = pod.log_path("c").parent().unwrap().to_owned();
    fs::rename(&directory, pod.root.join("log.away")).unwrap();
    fs::write(&directory, "in the way").unwrap();
    pod.start_shim();
    let again = pod.greet();
    assert_eq!(find(&again, &ended).state, InstanceState::Exited(end));
    assert!(matches!(find(&again, &instance).state, InstanceState::Running { .. }));
    assert!(is_alive(pid));
    let complaints = |pod: &Pod| pod.diagnostics().matches("c.log: ").count();
    await_some("a complaint", || (complaints(&pod) > 0).then_some(()));
    fs::remove_file(&directory).unwrap();
    await_some("the log", || fs::read_to_string(pod.log_path("c")).ok().filter(|text| text.contains("tick")));
    assert_eq!(complaints(&pod), 1, "{}", pod.diagnostics());
    assert_eq!(fs::metadata(pod.log_path("c")).unwrap().permissions().mode() & 0o777, 0o640);
}

fn a_supervisor_that_cannot_start_is_tried_ever_later() {
    let (mut pod, _) = Pod::start("vain", |_| ());
    pod.kill_shim();
    let attempts = pod.root.join("attempts");
    pod.start_shim_in_vain(&attempts);
    let count = || fs::read(&attempts).map_or(0, |letters| letters.len());
    await_some("an attempt", || (count() >= 1).then_some(()));
    #[expect(clippy::disallowed_methods, reason = "a test that measures")]
    let begun = Instant::now();
    await_some("a third attempt", || (count() >= 3).then_some(()));
    // One second, then two.
    let took = begun.elapsed().as_millis();
    assert!((2800..6000).contains(&took), "{took} ms");
    let said = pod.diagnostics();
    assert_eq!(said.matches("the supervisor ended: Code(3)").count(), 1, "{said}");
    assert_eq!(json!(said.matches("it is started again in 1 s").count()), json!(1));
}

fn an_exec_cannot_be_caught_with_more_power_than_the_container() {
    for no_new_privileges in [true, false] {
        let (mut pod, _) = Pod::start("hunt", |_| ());
        let config = pod.bundle("c", &["/bin/hunter", HUNT], |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            let sets = config["process"]["capabilities"].as_object_mut().unwrap();
            sets.values_mut().for_each(|set| set.as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE")));
        });
        fs::copy(std::env::current_exe().unwrap(), config.bundle.join("rootfs/bin/hunter")).unwrap();
        let instance = pod.launch_config(config);
        pod.await_log("c", "hunting");
        for _ in 0..100 {
            let (exit, _, _) = pod.run(&instance, &["true"], None);
            assert_eq!(exit, Exit::Code(0));
        }
        assert!(!pod.log("c").contains("caught"), "{no_new_privileges}: {}", pod.log("c"));
    }
}

/// No record names an instance before its init is there.
fn what_was_being_made_goes_with_its_shim() {
    let (mut pod, _) = Pod::start("unmade", |_| ());
    let groups = pod.cgroups_below().len();
    let config = pod.bundle("c", &["sleep", "1000"], |config| {
        config["hooks"] = json!({"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]});
    });
    pod.tell(Command::Create(Box::new(config)), &[]);
    let members = |group: &Path| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let inits = || -> Vec<i32> {
        let found = pod.cgroups_below().into_iter().filter(|group| group.ends_with("c.0"));
        found
            .flat_map(|group| members(&group).lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    };
    await_some("its hook", || (inits().len() >= 2 * groups).then_some(()));
    let begun = inits();
    pod.drop_supervisor();
    pod.kill_shim();
    pod.start_shim();
    pod.greet();
    pod.await_cgroups_below(groups);
    await_some("the end of its init", || (!begun.iter().any(|pid| is_alive(*pid))).then_some(()));
    let config = pod.bundle("c", &["sleep", "1000"], |_| ());
    pod.launch_config(config);
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends());
}

fn a_confined_supervisor_can_do_little() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).arg(CONFINED).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn a_rotation_of_a_log_holds_nobody_up() {
    let (mut pod, _) = Pod::start("rotation", |_| ());
    let print = "yes 0123456789abcdef0123456789abcdef | head -n 170000; exec sleep 1000";
    let instance = pod.launch("c", &["sh", "-c", print]);
    let said = format!("{}{ROTATOR}", pod.log_path("c").display());
    let rotator = await_some("a rotation", || fs::read_to_string(&said).ok()?.parse().ok());
    pod.drop_supervisor();
    assert_eq!(pod.greet().supervisor_starts, 1);
    assert!(is_alive(rotator));
    assert_eq!(pod.ask(Command::StopSandbox), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
    assert!(!is_alive(rotator));
    // Logs that the supervisor could not remove go before what they are found by.
    let logs = Layout::new(Some(pod.root.clone())).pod_logs("default", "rotation", &pod.uid);
    fs::create_dir_all(logs.join("c")).unwrap();
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends() && !logs.exists() && !pod.layout.disk().exists());
}
