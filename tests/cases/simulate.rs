//! `hull simulate`: what a manifest's life would be, without running it.

use std::time::Duration;

use hull_tests::{Host, binaries, skip};

/// A host without images: nothing is to run on it.
fn host() -> Result<Host, String> {
    Host::without_images()
}

fn simulate(host: &Host, file: &str, words: &[&str]) -> String {
    let path = binaries::manifest(file).to_string_lossy().into_owned();
    host.hull(&[&["simulate", "-f", &path], words].concat()).ok()
}

/// The first words of each row: the time and READY, STATUS, RESTARTS, or the time and an event's reason.
fn rows(text: &str, words: usize) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().take(words).collect::<Vec<_>>().join(" ");
    text.lines().skip(1).map(line).collect()
}

#[test]
fn a_failing_liveness_probe_restarts_again_and_again() {
    let host = match host() {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    let words = ["--fail-probe", "busybox/liveness=30s", "--for", "3m", "--delete", "2m"];
    let text = simulate(&host, "liveness-exec.yaml", &words);
    let all = rows(&text, 4);
    let statuses: Vec<&str> = all.iter().map(String::as_str).filter(|row| row.contains("/1 ")).collect();
    assert_eq!(
        statuses,
        [
            "0s 0/1 ContainerCreating 0",
            "0s 1/1 Running 0",
            "36s 1/1 Running 1",
            "1m12s 1/1 Running 2",
            "1m48s 1/1 Running 3",
            "2m0s 1/1 Terminating 3",
            "2m0s 0/1 Error 3",
        ],
        "{text}"
    );
    assert!(text.contains("Liveness probe failed: simulated failure"), "{text}");
    assert!(text.contains("Container busybox failed liveness probe, will be restarted"), "{text}");
    assert_eq!(simulate(&host, "liveness-exec.yaml", &words), text, "the same every time");
    host.assert_clean();
}

#[test]
fn init_containers_and_back_off_take_their_time() {
    let host = match host() {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    let start = hull_tests::wait::now();
    let text = simulate(
        &host,
        "init-chain.yaml",
        &["--exit", "init-mysvc=2s:1", "--exit", "init-mysvc=10s", "--exit", "mypod=3s:1", "--for", "30m"],
    );
    assert!(start.elapsed() < Duration::from_secs(20), "half an hour took {:?}", start.elapsed());
    let all = rows(&text, 4);
    for row in ["2s 0/1 Init:Error 0", "12s 0/1 Init:1/2 1", "12s 1/1 Running 0", "15s 0/1 Error 0"] {
        assert!(all.iter().any(|each| each == row), "{row}: {text}");
    }
    // Five minutes is the longest pause.
    let starts = all.iter().filter(|row| row.contains("1/1 Running")).count();
    assert!((8..14).contains(&starts), "{starts}: {text}");
    host.assert_clean();
}

#[test]
fn what_cannot_be_simulated_is_told() {
    let host = match host() {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    let path = binaries::manifest("liveness-exec.yaml").to_string_lossy().into_owned();
    for (words, wanted) in [
        (&["--exit", "x=1s"][..], "error: container x is not one of the pod's: busybox\n"),
        (
            &["--exit", "busybox=soon"],
            "error: --exit busybox=soon is not understood\nhint: for example --exit app=20s:1, app=5s or app=1m:oom\n",
        ),
    ] {
        let said = host.hull(&[&["simulate", "-f", &path], words].concat()).fails(1);
        assert_eq!(said, wanted);
    }
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 1}]}}";
    let said = host.hull_with_input(&["simulate", "-f", "-"], service).fails(1);
    assert_eq!(said, "error: -: one pod can be simulated, no less and no more\n");
    host.assert_clean();
}
