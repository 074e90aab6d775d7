//! A shim that is killed has a successor, which takes up what it left: containers, exits, half-made pods.

use std::fs;
use std::time::Duration;

use hull_tests::pod_files::kill_now;
use hull_tests::{PodFiles, host, process, wait_until};

use crate::crash::{
    assert_same_containers, events, logged, rich, running, statuses, two_containers, wait_for_number,
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

#[test]
fn exits_while_no_shim_is_there_are_seen_with_their_codes() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    files.kill_shim();
    let sleeper = before["sleeper"].pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sleeper), nix::sys::signal::Signal::SIGTERM).unwrap();
    wait_until(SOON, "end of the sleeper", || {
        if process::is_alive(sleeper) { Err(String::new()) } else { Ok(()) }
    });
    host.wait_pod("a", SOON, "its end", |pod| statuses(pod)["sleeper"]["state"]["terminated"].is_object());
    let ended = statuses(&host.pod("a").unwrap())["sleeper"]["state"]["terminated"].clone();
    assert_eq!(ended["exitCode"], 7, "{ended}");
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
        host.start_debug(&["apply", "-f", "-"], &rich("a")).wait(SOON);
        host.wait_row("a", SOON, "2/2", "Running");
        let files = PodFiles::find(&host, "a").unwrap();
        let mut delete = host.start(&["delete", "pod", "a"]);
        wait_until(SOON, moment, || {
            let record = fs::read_to_string(files.file("shim.json")).unwrap_or_default();
            let said = record.contains(moment) || files.diagnostics().contains(moment);
            if said || !files.file("").exists() { Ok(()) } else { Err(files.diagnostics()) }
        });
        if let Some(shim) = files.processes().shim {
            kill_now(shim);
        }
        assert!(delete.wait(Duration::from_secs(40)).success(), "{moment}: {:?}", delete.lines());
        host.assert_clean();
    }
}
