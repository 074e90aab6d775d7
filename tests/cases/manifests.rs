//! The manifests of `demo/`, unchanged: what `get pods -w`, `describe` and `exec` show of each over time.

use std::time::Duration;

use hull_tests::{Host, host, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Waits until `describe` has a line with `text`, and returns that line without its indentation.
#[track_caller]
fn wait_described(host: &Host, pod: &str, limit: Duration, text: &str) -> String {
    wait_until(limit, &format!("{text:?} in the description of {pod}"), || {
        let description = host.hull(&["describe", "pod", pod]).ok();
        let found = description.lines().find(|line| line.contains(text));
        found.map(|line| line.trim().to_owned()).ok_or(description)
    })
}

/// The lines of `describe` of one container, indentation and alignment taken away.
fn described_container(host: &Host, pod: &str, container: &str) -> Vec<String> {
    let description = host.hull(&["describe", "pod", pod]).ok();
    let lines = description.lines().skip_while(|line| *line != format!("  {container}:")).skip(1);
    let own = lines.take_while(|line| line.starts_with("    "));
    own.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The status of a pod's first container.
fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[track_caller]
fn delete(host: &Host, pod: &str, how: &[&str]) {
    let said = host.hull(&[&["delete", "pod", pod], how].concat()).ok();
    assert_eq!(said, format!("pod \"{pod}\" deleted from default namespace\n"));
}

#[test]
fn init_chain_waits_for_its_services_one_after_the_other() {
    let host = host!();
    // Before anything of hull is there: pods to come are seen too.
    let watch = host.watch_pods();
    assert_eq!(host.apply_demo("init-chain.yaml"), "pod/test-initc created\n");
    watch.wait_state("test-initc", SOON, "0/1 Init:0/2");
    wait_until(SOON, "line in the log", || {
        let log = host.hull(&["logs", "test-initc", "-c", "init-mysvc"]).stdout;
        if log.contains("waiting for mysvc\n") { Ok(()) } else { Err(log) }
    });
    let waiting = described_container(&host, "test-initc", "init-mysvc");
    assert!(waiting.contains(&"State: Running".to_owned()), "{waiting:#?}");
    for later in ["init-mydb", "mypod"] {
        let waiting = described_container(&host, "test-initc", later);
        assert!(waiting.contains(&"Reason: PodInitializing".to_owned()), "{waiting:#?}");
    }
    assert_eq!(watch.states("test-initc").last().unwrap(), "0/1 Init:0/2");

    assert_eq!(host.apply_demo("init-chain-services.yaml"), "service/mysvc created\nservice/mydb created\n");
    watch.wait_state("test-initc", SOON, "1/1 Running");
    let states = watch.states("test-initc");
    let after_pending = states.strip_prefix(&["0/1 Pending".to_owned()]).unwrap_or(&states);
    assert_eq!(after_pending, ["0/1 Init:0/2", "0/1 Init:1/2", "0/1 PodInitializing", "1/1 Running"]);
    for done in ["init-mysvc", "init-mydb"] {
        let done = described_container(&host, "test-initc", done);
        for line in
            ["State: Terminated", "Reason: Completed", "Exit Code: 0", "Ready: True", "Restart Count: 0"]
        {
            assert!(done.contains(&line.to_owned()), "{line} is not in {done:#?}");
        }
    }
    let log = host.hull(&["logs", "test-initc", "-c", "init-mydb"]).ok();
    assert!(log.contains("Name:\tmydb.default.svc.cluster.local\n"), "{log}");
    assert_eq!(host.exec("test-initc", &["hostname"]).ok(), "test-initc\n");
    assert_eq!(host.hull(&["logs", "test-initc"]).ok(), "myapp is running!\n");

    delete(&host, "test-initc", &["--now"]);
    // A shell that is process 1 does not hear SIGTERM.
    watch.wait_state("test-initc", SOON, "0/1 Error");
    assert!(watch.states("test-initc").contains(&"1/1 Terminating".to_owned()));
    drop(watch);
    host.assert_clean();
}

#[test]
fn readiness_follows_the_page_that_is_asked_for() {
    let host = host!();
    let watch = host.watch_pods();
    host.apply_demo("readiness-httpget.yaml");
    watch.wait_state("readiness-test", SOON, "0/1 Running");
    let event = wait_described(&host, "readiness-test", SOON, "Readiness probe failed");
    assert!(event.starts_with("Warning  Unhealthy"), "{event}");
    let said = "kubelet            spec.containers{nginx}: Readiness probe failed: HTTP probe failed with statuscode: 404";
    assert!(event.ends_with(said), "{event}");
    let probe =
        "Readiness: http-get http://:80/index1.html delay=1s timeout=1s period=3s #success=1 #failure=3";
    assert!(described_container(&host, "readiness-test", "nginx").contains(&probe.to_owned()));

    let page = "echo 'hello world' > /usr/share/nginx/html/index1.html";
    assert_eq!(host.exec("readiness-test", &["sh", "-c", page]).ok(), "");
    watch.wait_state("readiness-test", SOON, "1/1 Running");
    let states = watch.states("readiness-test");
    let after_pending = states.strip_prefix(&["0/1 Pending".to_owned()]).unwrap_or(&states);
    assert_eq!(after_pending, ["0/1 ContainerCreating", "0/1 Running", "1/1 Running"]);

    // Not ready again after three failures, and nothing is killed for it.
    assert_eq!(host.exec("readiness-test", &["rm", "/usr/share/nginx/html/index1.html"]).ok(), "");
    watch.wait_state("readiness-test", SOON, "0/1 Running");
    let pod = host.pod("readiness-test").unwrap();
    assert_eq!(container(&pod)["restartCount"], 0);
    let ready =
        pod["status"]["conditions"].as_array().unwrap().iter().find(|each| each["type"] == "Ready").unwrap();
    assert_eq!(ready["reason"], "ContainersNotReady");
    assert_eq!(ready["message"], "containers with unready status: [nginx]");
    delete(&host, "readiness-test", &[]);
    drop(watch);
    host.assert_clean();
}

#[test]
fn liveness_by_tcp_leaves_redis_alone_and_it_is_restarted_when_it_stops() {
    let host = host!();
    let watch = host.watch_pods();
    host.apply_demo("liveness-tcp.yaml");
    watch.wait_state("readiness-tcpsocket", SOON, "1/1 Running");
    // Each look of ours is a connection, and each probe is one.
    let mut looks = 0;
    wait_until(SOON, "two probes that redis saw", || {
        let text = host.exec("readiness-tcpsocket", &["redis-cli", "info", "stats"]);
        looks += u32::from(text.status.success());
        let line = text.stdout.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        let total: u32 = line.and_then(|count| count.trim().parse().ok()).ok_or_else(|| text.to_string())?;
        if total >= looks + 2 { Ok(()) } else { Err(format!("{total} connections, {looks} of them ours")) }
    });
    assert_eq!(container(&host.pod("readiness-tcpsocket").unwrap())["restartCount"], 0);
    assert!(!host.hull(&["describe", "pod", "readiness-tcpsocket"]).ok().contains("Unhealthy"));

    // redis takes its client with it, so the exit code of the exec says nothing.
    host.exec("readiness-tcpsocket", &["redis-cli", "shutdown", "nosave"]);
    let pod = host.wait_pod("readiness-tcpsocket", SOON, "running redis after a restart", |pod| {
        container(pod)["restartCount"] == 1 && container(pod)["state"]["running"].is_object()
    });
    let last = &container(&pod)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&0.into(), &"Completed".into()), "{last:#}");
    watch.wait_state("readiness-tcpsocket", SOON, "1/1 Running");
    let states = watch.states("readiness-tcpsocket");
    assert!(
        states.ends_with(&["1/1 Running".into(), "0/1 Completed".into(), "1/1 Running".into()]),
        "{states:?}"
    );
    let columns = host.columns("readiness-tcpsocket").unwrap();
    assert_eq!((columns[3].as_str(), columns[5].as_str()), ("1", "ago)"), "{columns:?}");
    let started = wait_described(&host, "readiness-tcpsocket", SOON, "Container started");
    assert!(started.contains("(x2 over "), "{started}");
    delete(&host, "readiness-tcpsocket", &[]);
    drop(watch);
    host.assert_clean();
}

#[test]
fn hooks_run_after_the_start_and_before_the_stop() {
    let host = host!();
    let watch = host.watch_pods();
    host.apply_demo("lifecycle-hooks.yaml");
    watch.wait_state("lifecycle-demo", SOON, "1/1 Running");
    assert_eq!(host.exec("lifecycle-demo", &["cat", "/tmp/hello.txt"]).ok(), "hello world\n");
    let log = host.start(&["logs", "-f", "lifecycle-demo"]);
    log.wait_line(SOON, "worker of nginx", |line| line.contains("start worker process"));

    let start = hull_tests::wait::now();
    delete(&host, "lifecycle-demo", &[]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "took {took:?} of a grace period of 30 s");
    // A signal from outside the pod has no sender that nginx could see: this one is of `nginx -s quit`.
    log.wait_line(SOON, "signal of the hook", |line| line.contains("signal 3 (SIGQUIT) received from "));
    log.wait_line(SOON, "end of nginx", |line| line.ends_with("[notice] 1#1: exit"));
    watch.wait_state("lifecycle-demo", SOON, "0/1 Completed");
    drop(watch);
    host.assert_clean();
}

#[test]
fn liveness_by_exec_kills_when_the_file_goes_after_a_minute() {
    let host = host!();
    let watch = host.watch_pods();
    host.apply_demo("liveness-exec.yaml");
    watch.wait_state("liveness-exec-test", SOON, "1/1 Running");
    let probe = "Liveness: exec [test -e /tmp/abc.txt] delay=1s timeout=1s period=3s #success=1 #failure=3";
    assert!(described_container(&host, "liveness-exec-test", "busybox").contains(&probe.to_owned()));

    // The file goes after 60 s, the third failure comes 6 to 9 s later.
    let killing = "spec.containers{busybox}: Container busybox failed liveness probe, will be restarted";
    let event = wait_described(&host, "liveness-exec-test", Duration::from_secs(90), killing);
    assert!(event.starts_with("Normal   Killing"), "{event}");
    // On a busy host a probe may time out before: that is another event.
    let event = wait_described(&host, "liveness-exec-test", SOON, "(x3 over ");
    assert!(event.starts_with("Warning  Unhealthy"), "{event}");
    assert!(
        event.ends_with("kubelet            spec.containers{busybox}: Liveness probe failed:"),
        "{event}"
    );

    // A shell that is process 1 does not hear SIGTERM, so the whole grace period of 30 s passes.
    let pod = host.wait_pod("liveness-exec-test", Duration::from_secs(45), "restart", |pod| {
        container(pod)["restartCount"] == 1 && container(pod)["state"]["running"].is_object()
    });
    let last = &container(&pod)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&137.into(), &"Error".into()), "{last:#}");
    assert_eq!(host.exec("liveness-exec-test", &["test", "-e", "/tmp/abc.txt"]).ok(), "");
    let columns = host.columns("liveness-exec-test").unwrap();
    assert_eq!((columns[1].as_str(), columns[2].as_str(), columns[3].as_str()), ("1/1", "Running", "1"));
    delete(&host, "liveness-exec-test", &["--now"]);
    drop(watch);
    host.assert_clean();
}
