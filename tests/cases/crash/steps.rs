//! The supervisor dies at each step of a pod's beginning and of its end.

use hull_tests::pod_files::kill_now;
use hull_tests::{Host, PodFiles, host, wait_until};

use super::{SLEEPER, SOON, events};

/// Starts a pod with everything that a start can have.
pub(crate) fn rich(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 3
  restartPolicy: Always
  volumes: [{{name: data, emptyDir: {{}}}}]
  initContainers:
  - {{name: first, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo one >> /data/init'], volumeMounts: [{{name: data, mountPath: /data}}]}}
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, {SLEEPER:?}]
    volumeMounts: [{{name: data, mountPath: /data}}]
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, 'echo started >> /data/hook']}}}}
      preStop: {{exec: {{command: [sh, -c, 'echo stopping >> /data/hook']}}}}
    startupProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}
    readinessProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}
  - {{name: other, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, {SLEEPER:?}]}}
"
    )
}

/// Kills the supervisor as soon as its diagnostics speak of `moment`.
fn kill_supervisor_at(host: &Host, name: &str, moment: &str) {
    let files = PodFiles::wait(host, name, SOON);
    wait_until(SOON, moment, || {
        if files.diagnostics().contains(moment) { Ok(()) } else { Err(files.diagnostics()) }
    });
    files.kill_supervisor();
}

#[test]
fn a_supervisor_killed_at_any_step_of_a_start_changes_nothing() {
    let host = host!();
    let up = |moment: Option<&str>| {
        let mut apply = host.start_debug(&["apply", "-f", "-"], &rich("a"));
        if let Some(moment) = moment {
            kill_supervisor_at(&host, "a", moment);
        }
        host.wait_row("a", SOON, "2/2", "Running");
        let status = apply.wait(SOON);
        assert!(status.success(), "{moment:?}: {:?}", apply.lines());
        let told = events(&host);
        let inits = host.exec("a", &["cat", "/data/init"]).ok();
        assert_eq!(host.columns("a").unwrap()[3], "0", "{moment:?}");
        host.delete("a", &["--now"]);
        (told, inits)
    };
    let undisturbed = up(None);
    for moment in [
        "SandboxUp",
        "PrepareVolumes",
        "action=EnsureImage",
        "action=CreateContainer",
        "input=Created",
        "action=StartContainer",
        "input=Started",
        "input=Exited",
        "action=RunHook",
        "input=HookDone",
        "action=RunProbe",
        "input=ProbeDone",
    ] {
        assert_eq!(up(Some(moment)), undisturbed, "{moment}");
    }
    host.assert_clean();
}

#[test]
fn a_supervisor_killed_at_any_step_of_a_deletion_delays_nothing() {
    let host = host!();
    for moment in [
        "input=Delete",
        "hook: PreStop",
        "action=Signal",
        "input=Exited { instance: InstanceId { container: \"main\"",
        "action=StopSandbox",
        "input=SandboxStopped",
        "action=Finish",
    ] {
        host.start_debug(&["apply", "-f", "-"], &rich("a")).wait(SOON);
        host.wait_row("a", SOON, "2/2", "Running");
        let files = PodFiles::find(&host, "a").unwrap();
        let mut delete = host.start(&["delete", "pod", "a"]);
        wait_until(SOON, moment, || {
            let gone = !files.file("").exists();
            if gone || files.diagnostics().contains(moment) { Ok(()) } else { Err(files.diagnostics()) }
        });
        if let Some(supervisor) = files.processes().supervisor {
            kill_now(supervisor);
        }
        assert!(delete.wait(SOON).success(), "{moment}: {:?}", delete.lines());
        host.assert_clean();
    }
}
