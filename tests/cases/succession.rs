//! A shim that is killed has a successor, which takes up what it left: containers, exits, half-made pods.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use hull_tests::pod_files::kill_now;
use hull_tests::wait::now;
use hull_tests::{PodFiles, host, process, wait_until};

use crate::crash::steps::rich;
use crate::crash::{
    assert_same_containers, events, logged, running, statuses, two_containers, wait_for_number,
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_killed_shim_gets_a_successor_and_containers_go_on() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    let told = events(&host);
    for _ in 0..3 {
        let old = files.kill_shim();
        let pod = host.pod("a").unwrap();
        assert_ne!(files.processes().shim, Some(old));
        assert_same_containers(&files, &before);
        for (name, status) in statuses(&pod) {
            assert_eq!(status["restartCount"], 0, "{name}");
            assert!(status["state"]["running"].is_object(), "{status}");
        }
        assert_eq!(events(&host), told);
        assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n");
        let newest = logged(&host, &files, "a", "counter").last().copied().unwrap_or_default();
        wait_for_number(&host, &files, "a", newest + 50);
    }
    host.delete("a", &[]);
    host.assert_clean();
}

#[test]
fn a_pod_whose_keeper_and_shim_are_killed_gets_both_with_the_next_command() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    for _ in 0..3 {
        let old = files.processes();
        files.kill_shim_for_good();
        host.pod("a").unwrap();
        let new = files.processes();
        assert!(new.shim.is_some() && new.shim != old.shim, "{new:?}");
        assert!(new.keeper.is_some() && new.keeper != old.keeper, "{new:?}");
        assert_same_containers(&files, &before);
        assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n");
    }
    host.delete("a", &[]);
    host.assert_clean();
}

#[test]
fn a_killed_shim_is_succeeded_though_nobody_asks() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    let old = files.kill_shim();
    wait_until(SOON, "another shim and supervisor", || {
        let now = files.processes();
        let there = now.shim.is_some_and(|shim| shim != old) && now.supervisor.is_some_and(process::is_alive);
        if there { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_same_containers(&files, &before);
    // Its restart policy goes on holding.
    kill_now(before["sleeper"].pid);
    host.wait_pod("a", SOON, "exit code 137", |pod| {
        statuses(pod)["sleeper"]["state"]["terminated"]["exitCode"] == 137
    });
    host.delete("a", &[]);
    host.assert_clean();
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn exits_while_no_shim_is_there_are_seen_with_their_codes() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    let (shim, keeper) = (files.processes().shim.unwrap(), files.processes().keeper.unwrap());
    // A keeper that is stopped starts no successor.
    signal(keeper, Signal::SIGSTOP);
    kill_now(shim);
    let sleeper = before["sleeper"].pid;
    signal(sleeper, Signal::SIGTERM);
    wait_until(SOON, "end of the sleeper", || {
        if process::is_alive(sleeper) { Err(String::new()) } else { Ok(()) }
    });
    assert_eq!(files.processes().shim, None);
    signal(keeper, Signal::SIGCONT);
    host.wait_pod("a", SOON, "its end", |pod| statuses(pod)["sleeper"]["state"]["terminated"].is_object());
    let ended = statuses(&host.pod("a").unwrap())["sleeper"]["state"]["terminated"].clone();
    assert_eq!(ended["exitCode"], 7, "{ended}");
    let log = host.root().join(format!("log/pods/default_a_{}/sleeper/0.log", files.uid()));
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("stdout F last words\n"), "{said:?}");
    // One that ends once the successor is there is seen as it is.
    kill_now(before["counter"].pid);
    let pod = host.wait_pod("a", SOON, "the end of the other", |pod| {
        statuses(pod)["counter"]["state"]["terminated"].is_object()
    });
    assert_eq!(statuses(&pod)["counter"]["state"]["terminated"]["exitCode"], 137, "{pod:#}");
    host.delete("a", &[]);
    host.assert_clean();
}

#[test]
fn a_shim_killed_at_any_step_of_a_start_is_succeeded() {
    let host = host!();
    for moment in [
        "shim.json",
        "\"phase\":\"making\"",
        "\"networkUsed\":true",
        "\"phase\":\"up\"",
        "PrepareVolumes",
        "action=EnsureImage",
        "action=CreateContainer",
        "input=Created",
        "action=StartContainer",
        "input=Started",
        "action=RunHook",
        "action=RunProbe",
    ] {
        let mut apply = host.start_debug(&["apply", "-f", "-"], &rich("a"));
        let files = PodFiles::wait(&host, "a", SOON);
        wait_until(SOON, moment, || {
            let record = fs::read_to_string(files.file("shim.json")).unwrap_or_default();
            let there = moment == "shim.json" && !record.is_empty();
            // A phase may have come and gone between two looks; then the kill comes later.
            let passed = record.contains("\"phase\":\"up\"");
            let said = there || passed && moment.starts_with('"') || record.contains(moment);
            if said || files.diagnostics().contains(moment) { Ok(()) } else { Err(files.diagnostics()) }
        });
        files.kill_shim();
        // `get` starts the successor; what was begun and not recorded is begun again.
        host.wait_row("a", Duration::from_secs(40), "2/2", "Running");
        assert!(apply.wait(SOON).success(), "{moment}: {:?}", apply.lines());
        assert_eq!(host.columns("a").unwrap()[3], "0", "{moment}");
        assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n", "{moment}");
        host.delete("a", &["--now"]);
        host.assert_clean();
    }
}

#[test]
fn a_shim_killed_at_any_step_of_a_deletion_is_succeeded() {
    let host = host!();
    for moment in [
        "input=Delete",
        "hook: PreStop",
        "action=Signal",
        "action=StopSandbox",
        "\"phase\":\"stopping\"",
        "action=Finish",
        "\"finishing\":true",
    ] {
        // The last of them are short, and the shim may be through with it before it is killed.
        let was_hit = (0..10).any(|_| {
            host.start_debug(&["apply", "-f", "-"], &rich("a")).wait(SOON);
            host.wait_row("a", SOON, "2/2", "Running");
            let files = PodFiles::find(&host, "a").unwrap();
            let shim = files.processes().shim.unwrap();
            let mut delete = host.start(&["delete", "pod", "a"]);
            let was_hit = kill_at(&files, shim, moment);
            assert!(delete.wait(Duration::from_secs(40)).success(), "{moment}: {:?}", delete.lines());
            host.assert_clean();
            was_hit
        });
        assert!(was_hit, "{moment}: the shim was never there to be killed");
    }
}

/// Kills the shim as soon as a moment is said; whether it was there.
fn kill_at(files: &PodFiles, shim: i32, moment: &str) -> bool {
    let end = now() + SOON;
    while files.file("sandbox.json").exists() {
        let record = fs::read_to_string(files.file("shim.json")).unwrap_or_default();
        if record.contains(moment) || files.diagnostics().contains(moment) {
            let is_there = process::is_alive(shim) && files.file("sandbox.json").exists();
            kill_now(shim);
            return is_there;
        }
        assert!(now() < end, "{moment}: {}", files.diagnostics());
        std::thread::yield_now();
    }
    false
}
