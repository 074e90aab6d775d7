//! Whatever else belongs to a pod dies: pause, shim, keeper, an init, a host task, the command line.

use std::fs;
use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::pod_files::kill_now;
use hull_tests::{Host, PodFiles, host, process, wait_until};

use super::steps::rich;
use super::{SOON, events, running, statuses, two_containers};

/// What a container does that goes on until it is killed.
const LOOP: &str = "    command: [sh, -c, 'while :; do sleep 0.1; done']";

#[test]
fn a_pod_without_shim_supervisor_or_pause_is_deleted_whole() {
    let host = host!();
    type Harm = fn(&PodFiles);
    let harms: [(&str, Harm); 7] = [
        ("keeper", |files| files.processes().keeper.into_iter().for_each(kill_now)),
        ("keeper and shim", |files| assert!(files.kill_shim_for_good() > 0)),
        ("shim", |files| assert!(files.kill_shim() > 0)),
        ("shim and supervisor", |files| {
            let supervisor = files.processes().supervisor;
            files.kill_shim();
            supervisor.into_iter().for_each(kill_now);
        }),
        ("pause", |files| files.processes().pause.into_iter().for_each(kill_now)),
        ("shim and pause", |files| {
            let pause = files.processes().pause;
            files.kill_shim();
            pause.into_iter().for_each(kill_now);
        }),
        ("all of it", |files| {
            let all = files.processes();
            files.kill_shim_for_good();
            all.supervisor.into_iter().chain(all.pause).for_each(kill_now);
            all.containers.values().for_each(|instance| kill_now(instance.pid));
        }),
    ];
    for (what, harm) in harms {
        host.apply(&two_containers("a"));
        let (files, _) = running(&host, "a");
        harm(&files);
        let output = host.hull(&["delete", "pod", "a"]);
        assert!(output.status.success(), "{what}: {output}");
        host.assert_clean();
    }
}

#[test]
fn a_killed_pause_gives_the_pod_a_new_sandbox() {
    let host = host!();
    host.apply(&busybox("name: a", LOOP));
    let (files, before) = running(&host, "a");
    let pause = files.processes().pause.unwrap();
    kill_now(pause);
    host.wait_pod("a", SOON, "a container in a new sandbox", |pod| {
        let status = &statuses(pod)["main"];
        status["state"]["running"].is_object() && status["restartCount"] == 1
    });
    let after = files.processes();
    assert_ne!(after.pause, Some(pause));
    assert_ne!(after.containers["main"].id, before["main"].id);
    let told = events(&host);
    assert!(told.iter().any(|(reason, ..)| reason == "SandboxChanged"), "{told:?}");
    assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n");
    host.delete("a", &[]);
    host.assert_clean();
}

#[test]
fn an_init_killed_from_outside_is_restarted() {
    let host = host!();
    host.apply(&busybox("name: a", LOOP));
    let (files, before) = running(&host, "a");
    kill_now(before["main"].pid);
    let pod = host.wait_pod("a", SOON, "a restart", |pod| {
        let status = &statuses(pod)["main"];
        status["state"]["running"].is_object() && status["restartCount"] == 1
    });
    assert_eq!(statuses(&pod)["main"]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(statuses(&pod)["main"]["lastState"]["terminated"]["reason"], "Error");
    assert_ne!(files.processes().containers["main"].id, before["main"].id);
    host.delete("a", &["--now"]);
    host.assert_clean();
}

/// Waits until the shim of a pod runs a task of this name, and kills that; none if the pod runs before.
fn kill_task(files: &PodFiles, host: &Host, task: &str) -> bool {
    let wanted = format!("task {task}");
    let root = host.root().to_string_lossy().into_owned();
    wait_until(SOON, task, || {
        let found = process::all().into_iter().find(|pid| {
            let line = process::command_line(*pid);
            line.contains(&root) && line.ends_with(&wanted)
        });
        match found {
            Some(pid) => {
                kill_now(pid);
                Ok(true)
            }
            None if files.processes().containers.contains_key("main") => Ok(false),
            None => Err("not seen".to_owned()),
        }
    })
}

#[test]
fn a_killed_host_task_is_made_good() {
    let host = host!();
    for task in ["network-up", "volumes-up", "rootfs-up"] {
        let mut apply = host.start_debug(&["apply", "-f", "-"], &rich("a"));
        let files = PodFiles::wait(&host, "a", SOON);
        kill_task(&files, &host, task);
        // A failed start is tried again by the kubelet's rules, after ten seconds at most.
        host.wait_row("a", Duration::from_secs(40), "2/2", "Running");
        apply.wait(SOON);
        host.delete("a", &["--now"]);
        host.assert_clean();
    }
}

#[test]
fn one_name_applied_by_ten_at_once_is_one_pod() {
    let host = host!();
    let mut applies: Vec<_> =
        (0..10).map(|_| host.start_debug(&["apply", "-f", "-"], &two_containers("a"))).collect();
    let outcomes: Vec<_> =
        applies.iter_mut().map(|apply| (apply.wait(SOON), apply.lines().join("\n"))).collect();
    let created = outcomes.iter().filter(|(_, said)| said.contains("pod/a created")).count();
    assert_eq!(created, 1, "{outcomes:#?}");
    for (status, said) in &outcomes {
        let one_of =
            said.contains("created") || said.contains("unchanged") || said.contains("already exists");
        assert!(one_of, "{status} {said}");
    }
    running(&host, "a");
    assert_eq!(fs::read_dir(host.root().join("run/pods")).unwrap().count(), 1);
    host.delete("a", &["--now"]);
    host.assert_clean();
}

#[test]
fn a_command_line_killed_in_apply_or_delete_leaves_a_whole_pod_or_none() {
    let host = host!();
    for milliseconds in [0, 5, 10, 15, 20, 30, 40, 60, 90, 150] {
        let apply = host.start_debug(&["apply", "-f", "-", "--wait"], &two_containers("a"));
        hull_tests::wait::pause(Duration::from_millis(milliseconds));
        kill_now(apply.pid().cast_signed());
        drop(apply);
        // Applied again it is there, made now or then.
        let again = host.apply(&two_containers("a"));
        assert!(again.contains("created") || again.contains("unchanged"), "{again}");
        running(&host, "a");
        let delete = host.start(&["delete", "pod", "a", "--now"]);
        hull_tests::wait::pause(Duration::from_millis(milliseconds));
        kill_now(delete.pid().cast_signed());
        drop(delete);
        host.delete("a", &["--now", "--ignore-not-found"]);
        host.assert_clean();
    }
}
