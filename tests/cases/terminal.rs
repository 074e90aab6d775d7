//! hull on a terminal: colour, progress, window sizes. The terminal is a pty of script(1).

use std::process::Command;
use std::time::Duration;

use hull_tests::{Host, Output, Running, command, host, wait_until};

const SOON: Duration = Duration::from_secs(10);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}
";

/// A command line with `HULL` for hull's words, on a terminal of 33 rows and 99 columns.
fn on_terminal(host: &Host, line: &str) -> Command {
    let hull = host.hull_command(&[]);
    let words: Vec<String> =
        hull.get_args().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let line = line.replace("HULL", &words.join(" "));
    let mut script = host.command("script");
    script.args(["-qec", &format!("stty rows 33 cols 99; {line}"), "/dev/null"]);
    script.env_remove("NO_COLOR").env_remove("COLUMNS");
    script
}

fn run(script: &mut Command) -> Output {
    command::run(script, "", SOON)
}

const GREEN: &str = "\x1b[32mRunning\x1b[0m";

#[test]
fn colour_is_for_terminals_and_can_be_switched_off() {
    let host = host!();
    host.apply_ready(POD);
    assert!(run(&mut on_terminal(&host, "HULL get pods")).ok().contains(GREEN));
    for plain in ["HULL get pods --color never", "NO_COLOR=1 HULL get pods", "HULL get pods | cat"] {
        let said = run(&mut on_terminal(&host, plain)).ok();
        assert!(said.contains("Running") && !said.contains('\x1b'), "{plain}: {said:?}");
    }
    let mut piped = host.hull_command(&["get", "pods"]);
    let piped = run(piped.env_remove("NO_COLOR")).ok();
    assert!(piped.contains("Running") && !piped.contains('\x1b'), "{piped:?}");
    assert!(host.hull(&["get", "pods", "--color", "always"]).ok().contains(GREEN));
    host.leave_nothing();
}

#[test]
fn progress_is_shown_on_a_terminal_and_wiped_away() {
    let host = host!();
    let manifest = host.root().join("pod.yaml");
    std::fs::write(&manifest, POD).unwrap();
    let line = format!("HULL apply --wait -f {}", manifest.display());
    let said = run(&mut on_terminal(&host, &line)).ok();
    let (progress, rest) = said.split_once("pod/web: starting").unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(progress, "\r\x1b[K");
    assert!(rest.starts_with("\r\x1b[Kpod/web created"), "{rest:?}");
    let piped = host.hull(&["apply", "--wait", "-f", &manifest.to_string_lossy()]);
    assert_eq!((piped.stdout.as_str(), piped.stderr.as_str()), ("pod/web unchanged\n", ""));
    host.leave_nothing();
}

#[test]
fn a_window_has_its_size_when_the_command_starts() {
    let host = host!();
    host.apply_ready(POD);
    for _ in 0..5 {
        // Its input stays open: at an end of input script(1) would type into the terminal.
        let mut running = Running::start(&mut on_terminal(&host, "HULL exec -it web -- stty size"));
        assert!(running.wait(SOON).success());
        let size = running.wait_line(SOON, "the size", |line| !line.trim().is_empty());
        assert_eq!(size.trim(), "33 99");
    }
    let asked = run(&mut on_terminal(&host, "HULL exec -it web -- sh -c 'exit 7'"));
    assert_eq!(asked.status.code(), Some(7), "{asked}");
    host.leave_nothing();
}

#[test]
fn a_window_that_changes_is_followed() {
    let host = host!();
    host.apply_ready(POD);
    let watching = "T=$(tty); (until test -e DIR/go; do sleep 0.05; done; stty rows 40 cols 50 <$T) & \
                    HULL exec -it web -- sh -c 'echo ready; while :; do stty size; sleep 0.1; done'";
    let watching = watching.replace("DIR", &host.root().to_string_lossy());
    let running = Running::start(&mut on_terminal(&host, &watching));
    running.wait_line(SOON, "the first size", |line| line.trim() == "33 99");
    std::fs::write(host.root().join("go"), "").unwrap();
    running.wait_line(SOON, "the new size", |line| line.trim() == "40 50");
    drop(running);
    host.leave_nothing();
}

#[test]
fn a_container_can_be_entered_while_the_hook_of_its_restart_runs() {
    let host = host!();
    host.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    volumeMounts: [{name: shared, mountPath: /shared}]
    command: [sh, -c, 'test -e /shared/first && { touch /shared/second; exec sleep 1000; }; touch /shared/first']
    lifecycle: {postStart: {exec: {command: [sh, -c, 'until test -e /shared/go; do sleep 0.1; done']}}}
",
    );
    wait_until(SOON, "exec while the hook runs", || {
        let output = host.exec("web", &["sh", "-c", "test -e /shared/second && touch /shared/go"]);
        if output.status.success() { Ok(()) } else { Err(output.to_string()) }
    });
    let pod = host.wait_pod("web", SOON, "the hook's end", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
    });
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
    host.leave_nothing();
}
