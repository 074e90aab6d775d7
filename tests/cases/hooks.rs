//! postStart and preStop for real: what they block, what their failures do, each handler.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hull_tests::pod::{container, read_request, respond, text};
use hull_tests::{Host, PodFiles, host, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A pod `app`: a container `one` with these hooks whose files are at `/out`, and a container `two`.
fn hooked(host: &Host, policy: &str, hooks: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: app}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 4
  containers:
  - name: one
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "trap 'cat /proc/uptime >> /out/term; exit 0' TERM; cat /proc/uptime >> /out/up; sleep 1000 & wait"]
    lifecycle: {hooks}
    volumeMounts: [{{name: out, mountPath: /out}}]
  - name: two
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "trap 'exit 0' TERM; cat /proc/uptime >> /out/two; sleep 1000 & wait"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes: [{{name: out, hostPath: {{path: {}}}}}]
"#,
        host.shared_dir().display()
    )
}

/// The same, where `two` stays until [`leave`]: what is told of the end of `one` is not gone with the pod.
fn held(host: &Host, policy: &str, hooks: &str) -> String {
    hooked(host, policy, hooks)
        .replace("trap 'exit 0' TERM", "trap 'until test -e /out/leave; do sleep 0.1; done; exit 0' TERM")
        .replace("terminationGracePeriodSeconds: 4", "terminationGracePeriodSeconds: 60")
}

/// Lets a pod go that is held, and waits until it is gone.
#[track_caller]
fn leave(host: &Host) {
    std::fs::write(host.shared_dir().join("leave"), "").unwrap();
    host.wait_gone("app", SOON);
}

/// The seconds since boot that a file's first line says.
fn moment(host: &Host, file: &str) -> f64 {
    wait_until(SOON, file, || {
        let lines = host.shared_lines(file);
        let first = lines.first().and_then(|line| line.split(' ').next()?.parse().ok());
        first.ok_or_else(|| "nothing there".to_owned())
    })
}

#[test]
fn a_post_start_hook_holds_back_the_next_container_and_what_is_shown() {
    let host = host!();
    host.apply(&hooked(
        &host,
        "Always",
        "{postStart: {exec: {command: [sh, -c, 'until test -e /out/go; do sleep 0.1; done; echo $HOSTNAME > /out/done']}}}",
    ));
    moment(&host, "up");
    host.wait_event("app", SOON, "Started", "Container started");
    host.wait_row("app", SOON, "0/2", "ContainerCreating");
    let pod = host.pod("app").unwrap();
    assert_eq!(container(&pod, "one")["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(pod["status"]["phase"], "Pending");
    assert!(host.shared_lines("two").is_empty());
    // It runs already, whatever is shown.
    let inside = host.hull(&["exec", "app", "-c", "one", "--", "echo", "inside"]);
    assert_eq!(inside.ok(), "inside\n");
    std::fs::write(host.shared_dir().join("go"), "").unwrap();
    host.wait_row("app", SOON, "2/2", "Running");
    assert_eq!(host.shared_lines("done"), ["app"]);
    host.end(&["app"]);
}

#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let host = host!();
    host.apply(&hooked(
        &host,
        "Always",
        "{postStart: {exec: {command: [sh, -c, 'echo out; echo why >&2; exit 3']}}}",
    ));
    let pod = host.wait_pod("app", SOON, "PostStartHookError", |pod| {
        container(pod, "one")["state"]["waiting"]["reason"] == "PostStartHookError"
    });
    let uid = text(&pod["metadata"]["uid"]);
    assert_eq!(
        container(&pod, "one")["state"]["waiting"]["message"],
        format!(
            "Exec lifecycle hook ([sh -c echo out; echo why >&2; exit 3]) for Container \"one\" in Pod \
             \"app_default({uid})\" failed - error: command 'sh -c echo out; echo why >&2; exit 3' exited with 3: \
             why\n, message: \"out\\nwhy\\n\""
        )
    );
    let event = host.wait_event("app", SOON, "FailedPostStartHook", "PostStartHook failed");
    assert_eq!(event["type"], "Warning");
    host.wait_event("app", SOON, "Killing", "FailedPostStartHook");
    // The others go on, and it is tried again like any container that ended.
    host.wait_pod("app", SOON, "a restart of one, and two running", |pod| {
        container(pod, "one")["restartCount"].as_u64() >= Some(1) && container(pod, "two")["ready"] == true
    });
    host.wait_event("app", SOON, "BackOff", "Back-off restarting failed container one in pod");
    host.end(&["app"]);
}

#[test]
fn a_failed_post_start_hook_under_never_fails_the_pod() {
    let host = host!();
    let manifest = hooked(&host, "Never", "{postStart: {exec: {command: [no-such-program]}}}");
    let only_one = manifest.split("  - name: two").next().unwrap().to_owned()
        + "  volumes:"
        + manifest.rsplit("  volumes:").next().unwrap();
    host.apply(&only_one);
    let pod = host.wait_pod("app", SOON, "the end", |pod| {
        ["Failed", "Succeeded"].contains(&text(&pod["status"]["phase"]))
    });
    assert!(container(&pod, "one")["state"]["terminated"].is_object(), "{pod:#}");
    assert_eq!(container(&pod, "one")["restartCount"], 0);
    host.wait_event("app", SOON, "FailedPostStartHook", "PostStartHook failed");
    host.end(&["app"]);
}

#[track_caller]
fn assert_no_failed_hook(host: &Host) {
    let told = host.events("app").unwrap();
    assert!(!told.iter().any(|event| event["reason"] == "FailedPreStopHook"), "{told:#?}");
}

#[test]
fn an_http_hook_is_content_with_any_answer() {
    let host = host!();
    host.apply(&held(
        &host,
        "Always",
        "{postStart: {exec: {command: [sh, -c, 'until test -e /out/go; do sleep 0.1; done']}}, \
         preStop: {httpGet: {port: 8090, path: '/stop?now=1'}}}",
    ));
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    moment(&host, "up");
    let server = host.serve_in_pod("app", 8090, move |mut stream| {
        *heard.lock().unwrap() = read_request(&mut stream).to_lowercase();
        respond(&mut stream, "500 Internal Server Error", "", "no");
    });
    std::fs::write(host.shared_dir().join("go"), "").unwrap();
    host.wait_row("app", SOON, "2/2", "Running");
    host.begin_end("app", &[]);
    moment(&host, "term");
    let request = asked.lock().unwrap().clone();
    assert!(request.starts_with("get /stop?now=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nuser-agent: kube-lifecycle/1.36\r\n"), "{request}");
    drop(server);
    assert_no_failed_hook(&host);
    leave(&host);
}

#[test]
fn a_hook_s_host_may_be_a_name() {
    let host = host!();
    host.apply(&held(&host, "Always", "{preStop: {httpGet: {host: localhost, port: 8097, path: /stop}}}"));
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    host.wait_row("app", SOON, "2/2", "Running");
    let server = host.serve_in_pod("app", 8097, move |mut stream| {
        *heard.lock().unwrap() = read_request(&mut stream).to_lowercase();
        respond(&mut stream, "200 OK", "", "");
    });
    host.begin_end("app", &[]);
    moment(&host, "term");
    let request = asked.lock().unwrap().clone();
    assert!(request.contains("\r\nhost: localhost:8097\r\n"), "{request}");
    drop(server);
    assert_no_failed_hook(&host);
    leave(&host);
}

#[test]
fn an_https_hook_falls_back_to_http() {
    let host = host!();
    host.apply(&held(
        &host,
        "Always",
        "{preStop: {httpGet: {port: 8091, scheme: HTTPS, httpHeaders: [{name: Authorization, value: secret}, \
         {name: X-Own, value: kept}]}}}",
    ));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    host.wait_row("app", SOON, "2/2", "Running");
    let ip = text(&host.pod("app").unwrap()["status"]["podIP"]).to_owned();
    let server = host.serve_in_pod("app", 8091, move |mut stream| {
        let mut first = [0; 1];
        if stream.peek(&mut first).is_ok() && first[0] == b'G' {
            heard.lock().unwrap().push(read_request(&mut stream).to_lowercase());
            respond(&mut stream, "200 OK", "", "");
        } else {
            // A server of plain HTTP takes a TLS hello for a bad request.
            respond(&mut stream, "400 Bad Request", "", "");
        }
    });
    host.begin_end("app", &[]);
    let told =
        format!("request to HTTPS lifecycle hook {ip}:8091 got HTTP response, retry with HTTP succeeded");
    host.wait_event("app", SOON, "LifecycleHTTPFallback", &told);
    leave(&host);
    drop(server);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains("x-own: kept") && !asked[0].contains("authorization"), "{asked:?}");
}

#[test]
fn a_pre_stop_hook_comes_before_the_stop_signal() {
    let host = host!();
    host.apply(&hooked(
        &host,
        "Always",
        "{preStop: {exec: {command: [sh, -c, 'cat /proc/uptime >> /out/prestop; sleep 1']}}}",
    ));
    host.wait_row("app", SOON, "2/2", "Running");
    moment(&host, "up");
    host.end(&["app"]);
    let waited = moment(&host, "term") - moment(&host, "prestop");
    assert!((0.9..3.0).contains(&waited), "{waited}");
}

#[test]
fn a_failing_pre_stop_hook_does_not_stop_the_stop() {
    let host = host!();
    host.apply(&held(&host, "Always", "{preStop: {exec: {command: ['false']}}}"));
    host.wait_row("app", SOON, "2/2", "Running");
    moment(&host, "up");
    host.begin_end("app", &[]);
    let event = host.wait_event("app", SOON, "FailedPreStopHook", "PreStopHook failed");
    assert_eq!(event["type"], "Warning");
    moment(&host, "term");
    leave(&host);
}

#[test]
fn a_hook_may_sleep_and_a_tcp_hook_never_works() {
    let host = host!();
    host.apply(&held(&host, "Always", "{postStart: {sleep: {seconds: 1}}, preStop: {tcpSocket: {port: 1}}}"));
    host.wait_row("app", SOON, "2/2", "Running");
    let waited = moment(&host, "two") - moment(&host, "up");
    assert!((0.9..4.0).contains(&waited), "{waited}");
    host.begin_end("app", &[]);
    host.wait_event("app", SOON, "FailedPreStopHook", "");
    leave(&host);
}

#[test]
fn a_container_that_exits_during_its_post_start_hook_is_restarted() {
    let host = host!();
    let manifest = hooked(&host, "Always", "{postStart: {exec: {command: [sleep, '100']}}}");
    // The first run ends by itself a moment after its start, which kills the hook in it.
    let manifest = manifest.replacen(
        "cat /proc/uptime >> /out/up; sleep 1000 & wait",
        "cat /proc/uptime >> /out/up; sleep 0.5; exit 6",
        1,
    );
    host.apply(&manifest);
    let pod = host
        .wait_pod("app", SOON, "a restart", |pod| container(pod, "one")["restartCount"].as_u64() >= Some(1));
    assert_eq!(container(&pod, "one")["lastState"]["terminated"]["exitCode"], 6, "{pod:#}");
    host.wait_event("app", SOON, "FailedPostStartHook", "PostStartHook failed");
    host.end(&["app"]);
}

#[test]
fn an_abandoned_pre_stop_hook_goes_on_and_may_still_write() {
    let host = host!();
    let hook = "sleep 2.5; yes | head -c 200000; echo end >> /out/hook; sleep 60";
    let manifest =
        hooked(&host, "Always", &format!("{{preStop: {{exec: {{command: [sh, -c, '{hook}']}}}}}}"));
    // The process outlives its stop signal, until SIGKILL 2 s after it.
    let manifest =
        manifest.replacen("cat /proc/uptime >> /out/term; exit 0", "cat /proc/uptime >> /out/term", 1);
    let manifest = manifest.replacen("sleep 1000 & wait\"]", "while :; do sleep 1; done\"]", 1);
    host.apply(&manifest);
    host.wait_row("app", SOON, "2/2", "Running");
    moment(&host, "up");
    host.begin_end("app", &["--grace-period=2"]);
    host.wait_gone("app", SOON);
    assert_eq!(host.shared_lines("hook"), ["end"]);
}

#[test]
fn a_pre_stop_hook_runs_once_whoever_dies_over_it() {
    type Kill = fn(&PodFiles, &Host);
    // What a shim exec'd ends with it; what the supervisor asked for goes on.
    let deaths: [(Kill, &[&str]); 2] = [
        (
            |files, host| {
                files.replace_supervisor();
                std::fs::write(host.shared_dir().join("go"), "").unwrap();
            },
            &["begin", "end"],
        ),
        (|files, _| assert!(files.kill_shim() > 0), &["begin"]),
    ];
    for (kill, wanted) in deaths {
        let host = host!();
        let hook = "echo begin >> /out/log; until test -e /out/go; do sleep 0.1; done; echo heard; echo end >> /out/log";
        let hook = format!("{{preStop: {{exec: {{command: [sh, -c, '{hook}']}}}}}}");
        host.apply_ready(&hooked(&host, "Always", &hook));
        let files = PodFiles::find(&host, "app").unwrap();
        let mut delete = host.start(&["delete", "pod", "app"]);
        wait_until(SOON, "begin of the hook", || {
            if host.shared_lines("log").is_empty() { Err("nothing yet".to_owned()) } else { Ok(()) }
        });
        kill(&files, &host);
        assert!(delete.wait(SOON).success(), "{:?}", delete.lines());
        assert_eq!(host.shared_lines("log"), wanted);
        // It was stopped gracefully all the same.
        assert_eq!(host.shared_lines("term").len(), 1);
        host.assert_clean();
    }
}
