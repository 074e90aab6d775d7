//! What must hold when something of a pod dies, or cannot be read, at a bad moment.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hull_shim::layout::Layout;
use hull_shim::wire::{Answer, Command, Exit, Failure, InstanceState};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cases::Case;
use crate::looks::{await_some, find};
use crate::pod::{Pod, exec_config, signal};
use crate::stand_in::{CONFINED, HUNT, ROTATOR};

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[
    ("what_was_being_made_goes_with_its_shim", what_was_being_made_goes_with_its_shim),
    ("a_successor_ends_the_execs_of_its_predecessor", a_successor_ends_the_execs_of_its_predecessor),
    ("what_an_exec_left_running_outlives_the_shim", what_an_exec_left_running_outlives_the_shim),
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
    (
        "a_killed_shim_takes_neither_terminal_nor_input_along",
        a_killed_shim_takes_neither_terminal_nor_input_along,
    ),
    ("an_exit_while_no_shim_is_there_has_its_code", an_exit_while_no_shim_is_there_has_its_code),
    (
        "what_is_written_while_no_shim_is_there_is_in_the_log",
        what_is_written_while_no_shim_is_there_is_in_the_log,
    ),
    ("no_record_of_a_successor_lacks_an_instance", no_record_of_a_successor_lacks_an_instance),
    (
        "a_record_that_cannot_be_read_now_does_not_end_the_keeper",
        a_record_that_cannot_be_read_now_does_not_end_the_keeper,
    ),
    (
        "whoever_asks_for_a_pod_does_not_wait_for_its_keeper",
        whoever_asks_for_a_pod_does_not_wait_for_its_keeper,
    ),
    ("a_killed_keeper_takes_nothing_along", a_killed_keeper_takes_nothing_along),
    (
        "a_shim_that_is_killed_again_and_again_is_succeeded",
        a_shim_that_is_killed_again_and_again_is_succeeded,
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

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
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

/// Writes to an instance as an attached client does.
fn feed(pod: &mut Pod, instance: &hull_shim::wire::InstanceId, text: &str) {
    let (answer, descriptors) = pod.ask_with(Command::Attach { instance: instance.clone() }, &[]);
    assert_eq!((answer, descriptors.len()), (Ok(Answer::Attached), 2));
    nix::unistd::write(&descriptors[0], text.as_bytes()).unwrap();
}

fn end_pod(pod: &mut Pod) {
    let residents = pod.residents();
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    pod.await_gone();
    await_some("the end of shim and keeper", || (!residents.into_iter().any(is_alive)).then_some(()));
    assert!(pod.cgroups().is_empty());
}

fn a_killed_shim_takes_neither_terminal_nor_input_along() {
    let (mut pod, _) = Pod::start("keeps", |_| ());
    pod.get_a_keeper();
    let script = "while read x; do echo got $x; stty size; done; sleep 1000";
    let mut config =
        pod.bundle("t", &["sh", "-c", script], |config| config["process"]["terminal"] = json!(true));
    config.stdin = true;
    let terminal = pod.launch_config(config);
    let mut config = pod.bundle("c", &["cat"], |_| ());
    config.stdin = true;
    let reader = pod.launch_config(config);
    let mut config = pod.bundle("o", &["cat"], |_| ());
    (config.stdin, config.stdin_once) = (true, true);
    let once = pod.launch_config(config);
    let (_, client) = pod.ask_with(Command::Attach { instance: once.clone() }, &[]);
    for round in 1..=3 {
        let [shim, keeper] = pod.residents();
        signal(shim, Signal::SIGKILL);
        pod.greet();
        assert_eq!(pod.residents()[1], keeper);
        feed(&mut pod, &terminal, &format!("line{round}\n"));
        feed(&mut pod, &reader, &format!("input{round}\n"));
        pod.await_log("t", &format!("got line{round}"));
        pod.await_log("c", &format!("input{round}"));
        let resize = Command::Resize { instance: terminal.clone(), exec: None, size: (100, 30 + round) };
        assert_eq!(pod.ask(resize), Ok(Answer::Ok));
        feed(&mut pod, &terminal, "again\n");
        // A terminal's line may come in two pieces.
        pod.await_log("t", &format!(" {} 100", 30 + round));
    }
    // Input that ends still ends.
    assert_eq!(pod.ask(Command::CloseStdin { instance: reader.clone() }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&reader).exit, Exit::Code(0));
    drop(client);
    assert_eq!(pod.exit_of(&once).exit, Exit::Code(0));
    assert_eq!(pod.ask(Command::Kill { instance: terminal.clone() }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&terminal).exit, Exit::Signaled(9));
    end_pod(&mut pod);
}

const OBEDIENT: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";

fn an_exit_while_no_shim_is_there_has_its_code() {
    let (mut pod, hello) = Pod::start("code", |_| ());
    pod.get_a_keeper();
    let ended = pod.launch("c", &["sh", "-c", OBEDIENT]);
    let later = pod.launch("d", &["sh", "-c", OBEDIENT]);
    let both = [ended.clone(), later.clone()];
    both.iter().for_each(|instance| pod.await_log(&instance.container, "ready"));
    let pids = both.each_ref().map(|instance| pod.init_of(instance));
    let [shim, keeper] = pod.residents();
    // Nobody is there who could see it.
    signal(keeper, Signal::SIGSTOP);
    signal(shim, Signal::SIGKILL);
    signal(pids[0], Signal::SIGTERM);
    await_some("the end of the container", || (!is_alive(pids[0])).then_some(()));
    signal(keeper, Signal::SIGCONT);
    let again = pod.greet();
    assert_eq!(again.sandbox, hello.sandbox);
    assert_eq!(pod.exit_of(&ended).exit, Exit::Code(7));
    // And one that a successor did not start itself.
    assert_eq!(pod.ask(Command::Signal { instance: later.clone(), signal: 15 }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&later).exit, Exit::Code(7));
    end_pod(&mut pod);
}

/// Kills the shim, and has its keeper take no notice of it before that is let go on; the keeper.
fn kill_unnoticed(pod: &Pod) -> i32 {
    let [shim, keeper] = pod.residents();
    signal(keeper, Signal::SIGSTOP);
    signal(shim, Signal::SIGKILL);
    await_some("the end of the shim", || (!is_alive(shim)).then_some(()));
    keeper
}

fn what_is_written_while_no_shim_is_there_is_in_the_log() {
    let (mut pod, _) = Pod::start("words", |_| ());
    pod.get_a_keeper();
    let script = "trap 'echo last words; echo -n the end >&2; exit 7' TERM; echo -n half; while :; do sleep 0.02; done";
    let instance = pod.launch("c", &["sh", "-c", script]);
    // What has no newline yet is there at once.
    pod.await_log("c", "stdout P half");
    for _ in 0..2 {
        signal(pod.residents()[0], Signal::SIGKILL);
        pod.greet();
    }
    let pid = pod.init_of(&instance);
    let keeper = kill_unnoticed(&pod);
    signal(pid, Signal::SIGTERM);
    await_some("the end of the container", || (!is_alive(pid)).then_some(()));
    assert!(!pod.log("c").contains("words"));
    signal(keeper, Signal::SIGCONT);
    pod.greet();
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(7));
    let log = pod.log("c");
    let said: Vec<&str> = log.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect();
    assert_eq!(said, ["stdout P half", "stdout F last words", "stderr P the end"]);
    end_pod(&mut pod);
}

fn no_record_of_a_successor_lacks_an_instance() {
    let (mut pod, _) = Pod::start("whole", |_| ());
    pod.get_a_keeper();
    let names = ["a", "b", "c", "d"];
    let instances = names.map(|name| pod.launch(name, &["sh", "-c", OBEDIENT]));
    names.iter().for_each(|name| pod.await_log(name, "ready"));
    let pids = instances.each_ref().map(|instance| pod.init_of(instance));
    let keeper = kill_unnoticed(&pod);
    for pid in &pids[..3] {
        signal(*pid, Signal::SIGTERM);
        await_some("the end of a container", || (!is_alive(*pid)).then_some(()));
    }
    let (record, is_over) = (pod.layout.shim_record(), Arc::new(AtomicBool::new(false)));
    let reader = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut seen = 0;
            while !is_over.load(Ordering::Relaxed) {
                let record: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
                let known = record["instances"].as_array().unwrap();
                assert!(
                    known.len() == 4
                        && known.iter().all(|one| one["init"] != json!(null) || one["ended"] != json!(null)),
                    "{record:#}"
                );
                seen += 1;
            }
            seen
        })
    };
    signal(keeper, Signal::SIGCONT);
    pod.greet();
    is_over.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    for instance in &instances[..3] {
        assert_eq!(pod.exit_of(instance).exit, Exit::Code(7));
    }
    assert!(is_alive(pids[3]));
    end_pod(&mut pod);
}

fn a_record_that_cannot_be_read_now_does_not_end_the_keeper() {
    let (mut pod, _) = Pod::start("patient", |_| ());
    pod.get_a_keeper();
    let mut config = pod.bundle("c", &["cat"], |_| ());
    config.stdin = true;
    let reader = pod.launch_config(config);
    let keeper = kill_unnoticed(&pod);
    let (record, away) = (pod.layout.shim_record(), pod.root.join("shim.json.away"));
    fs::rename(&record, &away).unwrap();
    fs::create_dir(&record).unwrap();
    signal(keeper, Signal::SIGCONT);
    await_some("a word about it", || {
        pod.diagnostics().contains("cannot take the pod up: read ").then_some(())
    });
    fs::remove_dir(&record).unwrap();
    fs::rename(&away, &record).unwrap();
    pod.greet();
    assert_eq!(pod.residents()[1], keeper);
    feed(&mut pod, &reader, "still here\n");
    pod.await_log("c", "still here");
    end_pod(&mut pod);
}

fn whoever_asks_for_a_pod_does_not_wait_for_its_keeper() {
    let (mut pod, _) = Pod::start("wanted", |_| ());
    pod.get_a_keeper();
    let keeper = pod.residents()[1];
    #[expect(clippy::disallowed_methods, reason = "a test that measures")]
    let begun = Instant::now();
    for _ in 0..12 {
        let shim = pod.residents()[0];
        signal(shim, Signal::SIGKILL);
        await_some("the end of the shim", || (!is_alive(shim)).then_some(()));
        assert_eq!(pod.start_detached(), "1");
        pod.greet();
        assert_eq!(pod.residents()[1], keeper);
    }
    // Its pauses alone would be half a minute.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    end_pod(&mut pod);
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

fn a_killed_keeper_takes_nothing_along() {
    let (mut pod, _) = Pod::start("alone", |_| ());
    pod.get_a_keeper();
    let wards = pod.launch("c", &["sh", "-c", OBEDIENT]);
    pod.await_log("c", "ready");
    signal(pod.residents()[0], Signal::SIGKILL);
    pod.greet();
    let own = pod.launch("d", &["sh", "-c", OBEDIENT]);
    pod.await_log("d", "ready");
    let [shim, keeper] = pod.residents();
    signal(keeper, Signal::SIGKILL);
    await_some("a word about it", || pod.diagnostics().contains("this one goes on without").then_some(()));
    assert!(is_alive(shim));
    for (instance, exact) in [(wards, false), (own, true)] {
        let (exit, _, _) = pod.run(&instance, &["true"], None);
        assert_eq!(exit, Exit::Code(0));
        assert_eq!(pod.ask(Command::Signal { instance: instance.clone(), signal: 15 }), Ok(Answer::Ok));
        let exit = pod.exit_of(&instance).exit;
        // A kernel before 6.15 does not tell of one that somebody else reaped.
        assert!(exit == Exit::Code(7) || !exact && exit == Exit::Unknown, "{exit:?}");
    }
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    pod.await_gone();
}

fn a_shim_that_is_killed_again_and_again_is_succeeded() {
    let (mut pod, _) = Pod::start("again", |_| ());
    pod.get_a_keeper();
    let instance = pod.launch("c", &["sleep", "1000"]);
    for _ in 0..5 {
        signal(pod.residents()[0], Signal::SIGKILL);
        let again = pod.greet();
        assert!(matches!(find(&again, &instance).state, InstanceState::Running { .. }));
    }
    let (exit, _, _) = pod.run(&instance, &["true"], None);
    assert_eq!(exit, Exit::Code(0));
    end_pod(&mut pod);
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
