//! The API on a pod's socket: Kubernetes' own, for `curl`, and for an unmodified kubectl behind a relay.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_tests::{Host, Output, Running, command, host, process, skip, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo said; exec sleep 1000']}
";

const PODS: &str = "http://pod/api/v1/namespaces/default/pods";

/// The socket of the only pod: the one below its directory that answers.
pub(crate) fn socket(host: &Host) -> PathBuf {
    let uid = host.pod("web").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let directory = host.root().join("run/pods").join(uid);
    let sockets: Vec<PathBuf> = walk(&directory)
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "api.sock"))
        .collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    sockets[0].clone()
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn curl(socket: &Path, words: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--unix-socket"]).arg(socket).args(words);
    command::run(&mut curl, "", Duration::from_secs(30))
}

fn json(output: Output) -> Value {
    let text = output.ok();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn curl_reads_watches_and_deletes_a_pod() {
    let host = host!();
    host.apply_ready(POD);
    let socket = socket(&host);
    let pod = json(curl(&socket, &[&format!("{PODS}/web")]));
    assert_eq!((&pod["kind"], &pod["status"]["phase"]), (&"Pod".into(), &"Running".into()));
    let list = json(curl(&socket, &[PODS]));
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&"PodList".into(), Some(1)));
    let missing = json(curl(&socket, &[&format!("{PODS}/x")]));
    assert_eq!(
        (&missing["kind"], &missing["code"], &missing["reason"]),
        (&"Status".into(), &404.into(), &"NotFound".into())
    );
    assert_eq!(curl(&socket, &[&format!("{PODS}/web/log?container=main")]).ok(), "said\n");
    let events = json(curl(&socket, &["http://pod/api/v1/namespaces/default/events"]));
    let reasons: Vec<&Value> =
        events["items"].as_array().unwrap().iter().map(|event| &event["reason"]).collect();
    assert!(reasons.contains(&&Value::from("Started")), "{reasons:?}");

    let mut watch = Command::new("curl");
    watch.args(["-sSN", "--unix-socket"]).arg(&socket).arg(format!("{PODS}?watch=true"));
    let watch = Running::start(&mut watch);
    let of_type = |kind: &'static str| move |line: &str| line.contains(&format!("\"type\":\"{kind}\""));
    watch.wait_line(SOON, "ADDED", of_type("ADDED"));
    let deleted = json(curl(&socket, &["-X", "DELETE", &format!("{PODS}/web")]));
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 1, "{deleted:#}");
    watch.wait_line(SOON, "MODIFIED", of_type("MODIFIED"));
    watch.wait_line(SOON, "DELETED", of_type("DELETED"));
    drop(watch);
    host.assert_clean();
}

#[test]
fn an_object_that_is_put_must_be_of_this_pod_as_it_is() {
    let host = host!();
    host.apply_ready(POD);
    let socket = socket(&host);
    let url = format!("{PODS}/web");
    let put = |object: &Value| {
        json(curl(
            &socket,
            &["-X", "PUT", "-H", "Content-Type: application/json", "-d", &object.to_string(), &url],
        ))
    };
    let read = json(curl(&socket, &[&url]));
    let mut labelled = read.clone();
    labelled["metadata"]["labels"] = serde_json::json!({"app": "web"});
    let stored = put(&labelled);
    assert_eq!(stored["metadata"]["labels"]["app"], "web", "{stored:#}");
    for (pointer, value, code) in [
        ("/metadata/resourceVersion", &read["metadata"]["resourceVersion"], 409),
        ("/metadata/uid", &"another".into(), 409),
        ("/metadata/namespace", &"prod".into(), 400),
        ("/metadata/name", &"db".into(), 400),
    ] {
        let mut wrong = stored.clone();
        wrong["metadata"]["labels"]["app"] = "db".into();
        *wrong.pointer_mut(pointer).unwrap() = value.clone();
        let answer = put(&wrong);
        assert_eq!(
            (&answer["kind"], &answer["code"]),
            (&"Status".into(), &code.into()),
            "{pointer}: {answer:#}"
        );
    }
    assert_eq!(json(curl(&socket, &[&url]))["metadata"], stored["metadata"]);
    host.leave_nothing();
}

/// Listens on loopback of the host's network namespace and passes each connection to the socket, as long as
/// the process runs.
pub(crate) fn relay(host: &Host, socket: PathBuf) -> u16 {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let listener = process::in_network_of(host.network_pid(), bind).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = UnixStream::connect(&socket) else { return };
            pass(client, server);
        }
    });
    port
}

fn pass(client: TcpStream, server: UnixStream) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        // A broken connection ends both ways alike.
        drop(std::io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    let (mut from_server, mut to_client) = (server, client);
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_server, &mut to_client));
        drop(to_client.flush());
        drop(to_client.shutdown(Shutdown::Both));
    });
}

/// A kubectl that speaks to a relay; none where there is no kubectl.
pub(crate) fn kubectl_command(host: &Host, port: u16) -> Option<Command> {
    Command::new("kubectl").args(["version", "--client"]).output().ok()?;
    let mut kubectl = host.command("kubectl");
    kubectl.env("HOME", host.root()).env("KUBECONFIG", "/dev/null");
    kubectl.arg(format!("--server=http://127.0.0.1:{port}"));
    Some(kubectl)
}

#[test]
fn an_unmodified_kubectl_works_on_it() {
    let host = host!();
    host.apply_ready(POD);
    let port = relay(&host, socket(&host));
    if kubectl_command(&host, port).is_none() {
        skip!("needs kubectl");
    }
    let kubectl = |words: &[&str]| {
        let mut kubectl = kubectl_command(&host, port).unwrap();
        command::run(kubectl.args(words), "", Duration::from_secs(30))
    };
    assert_eq!(kubectl(&["get", "pods", "-o", "name"]).ok(), "pod/web\n");
    // Tables are made by the server: kubectl prints what hull prints.
    for words in
        [&["get", "pods", "-o", "wide"][..], &["get", "pod", "web", "--no-headers"], &["get", "pods", "-A"]]
    {
        let (theirs, ours) = (kubectl(words).ok(), host.hull(words).ok());
        let words = |text: &str| {
            let cells = text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            // The age may have grown in between.
            cells
                .into_iter()
                .filter(|cell| {
                    !cell.ends_with('s') || !cell.starts_with(|first: char| first.is_ascii_digit())
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&theirs), words(&ours));
    }
    let events = kubectl(&["get", "events"]).ok();
    let titles: Vec<&str> = events.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    assert!(events.contains("Normal   Started") && events.contains("pod/web"), "{events}");
    let watch = Running::start(kubectl_command(&host, port).unwrap().args(["get", "pods", "-w"]));
    watch.wait_line(SOON, "a row", |line| line.starts_with("web    1/1     Running   0"));
    assert_eq!(kubectl(&["get", "pod", "web", "-o", "jsonpath={.status.phase}"]).ok(), "Running");
    let details = kubectl(&["describe", "pod", "web"]).ok();
    assert!(details.contains("Container started") || details.contains("Started"), "{details}");
    assert_eq!(kubectl(&["logs", "web"]).ok(), "said\n");
    assert_eq!(kubectl(&["exec", "web", "--", "echo", "hello"]).ok(), "hello\n");
    assert_eq!(kubectl(&["exec", "web", "--", "sh", "-c", "exit 5"]).status.code(), Some(5));
    let missing = kubectl(&["get", "pod", "x"]).fails(1);
    assert_eq!(missing, "Error from server (NotFound): pods \"x\" not found\n");
    wait_until(SOON, "events", || {
        let events = kubectl(&["events"]).ok();
        if events.contains("Started") { Ok(()) } else { Err(events) }
    });
    kubectl(&["delete", "pod", "web", "--wait=false"]).ok();
    watch.wait_line(SOON, "the end", |line| line.starts_with("web    1/1     Terminating   0"));
    drop(watch);
    host.assert_clean();
}
