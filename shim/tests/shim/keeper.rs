//! The keeper of a shim, which starts its successor: what goes on meanwhile, and what the successor finds.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hull_shim::wire::{Answer, Command, Exit, InstanceState, Report};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cases::Case;
use crate::looks::{await_some, find, is_alive};
use crate::pod::{Pod, signal};

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[
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
    (
        "an_instance_that_is_made_once_more_is_heard_by_a_successor",
        an_instance_that_is_made_once_more_is_heard_by_a_successor,
    ),
    ("a_killed_keeper_takes_nothing_along", a_killed_keeper_takes_nothing_along),
    (
        "a_shim_that_is_killed_again_and_again_is_succeeded",
        a_shim_that_is_killed_again_and_again_is_succeeded,
    ),
];

/// Writes to an instance as an attached client does.
pub(crate) fn feed(pod: &mut Pod, instance: &hull_shim::wire::InstanceId, text: &str) {
    nix::unistd::write(input(pod, instance), text.as_bytes()).unwrap();
}

/// The standard input of an instance, as an attached client has it.
pub(crate) fn input(pod: &mut Pod, instance: &hull_shim::wire::InstanceId) -> OwnedFd {
    let (answer, mut descriptors) = pod.ask_with(Command::Attach { instance: instance.clone() }, &[]);
    assert_eq!((answer, descriptors.len()), (Ok(Answer::Attached), 2));
    descriptors.swap_remove(0)
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

fn an_instance_that_is_made_once_more_is_heard_by_a_successor() {
    let (mut pod, _) = Pod::start("twice", |_| ());
    pod.get_a_keeper();
    let fails = pod.root.join("fails");
    let hook = format!("until [ -e {} ]; do sleep 0.05; done; exit 1", fails.display());
    let config = pod.bundle("c", &["true"], |config| {
        let hook = json!({"path": "/bin/busybox", "args": ["sh", "-c", hook], "env": ["PATH=/bin:/usr/bin"]});
        config["hooks"] = json!({"createRuntime": [hook]});
    });
    let wanted = pod.tell(Command::Create(Box::new(config)), &[]);
    // A record is written meanwhile, and none when its creation fails.
    pod.launch("b", &["sleep", "1000"]);
    let temporary = pod.layout.shim_record().with_extension("json.new");
    fs::create_dir(&temporary).unwrap();
    fs::write(fails, "").unwrap();
    let failed = pod.expect(|report| match report {
        Report::Done { id, result } if *id == wanted => Some(result.clone()),
        _ => None,
    });
    assert!(failed.is_err(), "{failed:?}");
    pod.launch("c", &["sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done"]);
    fs::remove_dir(&temporary).unwrap();
    pod.launch("d", &["sleep", "1000"]);
    pod.drop_supervisor();
    signal(pod.residents()[0], Signal::SIGKILL);
    pod.greet();
    let lines = || pod.log("c").lines().count();
    let before = lines();
    await_some("what it writes from here on", || (lines() > before + 5).then_some(()));
    end_pod(&mut pod);
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
