//! The server with a driver that is played by the test.

use std::os::fd::OwnedFd;
use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use hull_shim::wire::Exit;
use serde_json::json;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Error, Follower, PodRef};
use super::*;
use crate::core::status::{Event, EventType};
use crate::driver::handle::{Change, Deletion, Order, Output, Refusal, Session, Snapshot, View};
use crate::manifest::{FieldError, Invalid};

/// A pod whose driver is the test.
struct Played {
    client: Client,
    pod: PodRef,
    orders: mpsc::Receiver<Order>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    changes: broadcast::Sender<Change>,
    layout: Layout,
    handle: Handle,
    server: JoinSet<()>,
    _root: tempfile::TempDir,
}

fn clock() -> Timestamp {
    "2024-01-02T03:05:00Z".parse().unwrap()
}

fn accepted() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"nodeName": "node1", "containers": [{"name": "app"}, {"name": "side"}]},
    })
}

fn view(generation: u64, state: Value) -> Arc<View> {
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "app", "state": state}]});
    Arc::new(View {
        object: Arc::new(accepted()),
        generation,
        deletion: None,
        status: serde_json::from_value(status).unwrap(),
    })
}

/// With this label and running.
fn labelled(generation: u64, app: &str) -> Arc<View> {
    let mut object = accepted();
    object["metadata"]["labels"]["app"] = app.into();
    Arc::new(View { object: Arc::new(object), ..View::clone(&view(generation, running())) })
}

/// Being deleted.
fn deleting(view: &View) -> Arc<View> {
    Arc::new(View { deletion: Some(Deletion { timestamp: clock(), grace_seconds: 5 }), ..view.clone() })
}

fn running() -> Value {
    json!({"running": {"startedAt": "2024-01-02T03:04:05Z"}})
}

fn event(count: u32) -> Arc<Event> {
    Arc::new(Event {
        name: "web.1".into(),
        kind: EventType::Normal,
        reason: "Started".into(),
        message: "Container started".into(),
        field_path: "spec.containers{app}".into(),
        source: "kubelet".into(),
        count,
        first_timestamp: clock(),
        last_timestamp: clock(),
    })
}

impl Played {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        std::fs::create_dir_all(layout.pod("u1").dir()).unwrap();
        let link = layout.name_link("default", "web");
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("../../pods/u1", link).unwrap();
        let (order_sender, orders) = mpsc::channel(4);
        let first = Arc::new(Snapshot { view: view(1, running()), events: vec![event(1)] });
        let (snapshot, reader) = watch::channel(first);
        let changes = broadcast::channel(16).0;
        let handle = Handle::new(order_sender, reader, changes.clone());
        let client = Client::new(layout.clone());
        let pod = client.find("default", "web").unwrap().unwrap();
        let server = JoinSet::new();
        let mut played = Self { client, pod, orders, snapshot, changes, layout, handle, server, _root: root };
        played.serve();
        played
    }

    /// Serves in place of whoever did so before.
    fn serve(&mut self) {
        self.server = JoinSet::new();
        let listener = socket::listen(&self.layout.pod("u1").api_socket()).unwrap();
        let facts = Facts::new(&accepted(), &self.layout, clock);
        self.server.spawn(serve(listener, self.handle.clone(), facts));
    }

    /// What the driver does when the pod changed.
    fn show(&self, view: Arc<View>) {
        let events = self.snapshot.borrow().events.clone();
        self.snapshot.send_replace(Arc::new(Snapshot { view: Arc::clone(&view), events }));
        self.changes.send(Change::Pod(view)).ok();
    }

    fn log(&self) -> std::path::PathBuf {
        let directory = self.layout.pod_logs("default", "web", "u1").join("app");
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("0.log")
    }

    async fn body(&self, url: &str) -> String {
        let mut reply = self.client.stream(&self.pod, url).await.unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reply.piece().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    async fn refusal(&self, url: &str) -> Status {
        match self.client.stream(&self.pod, url).await {
            Err(Error::Status(status)) => status,
            other => panic!("{url}: {other:?}"),
        }
    }
}

fn append(path: &Path, line: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "2024-01-02T03:04:05Z stdout F {line}").unwrap();
}

#[tokio::test]
async fn a_supervisor_that_ends_while_it_is_connected_to_has_a_successor() {
    let mut played = Played::new();
    let shim = std::fs::File::create(played.layout.pod("u1").shim_lock()).unwrap();
    rustix::fs::flock(&shim, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (client, pod) = (played.client.clone(), played.pod.clone());
    // It ends before the client has looked whether it is connected.
    let (answer, ()) = tokio::join!(biased; client.pod(&pod), async { played.serve() });
    assert_eq!(answer.unwrap()["kind"], "Pod");
}

#[tokio::test]
async fn the_pod_is_shown_as_accepted_with_its_status() {
    let played = Played::new();
    let pod = played.client.pod(&played.pod).await.unwrap();
    assert_eq!(pod["kind"], "Pod");
    assert_eq!(pod["metadata"]["resourceVersion"], "1");
    assert_eq!(pod["spec"]["nodeName"], "node1");
    assert_eq!(pod["status"]["phase"], "Running");
    let list = played.client.get(&played.pod, "/api/v1/pods").await.unwrap();
    assert_eq!(list["items"][0], pod);
    for empty in ["/api/v1/namespaces/other/pods", "/api/v1/pods?labelSelector=app%3Ddb"] {
        let list = played.client.get(&played.pod, empty).await.unwrap();
        assert_eq!(list["items"], json!([]), "{empty}");
    }
}

#[tokio::test]
async fn refusals_are_status_objects() {
    let played = Played::new();
    let status = played.refusal("/api/v1/namespaces/default/pods/db").await;
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "pods \"db\" not found");
    let path = played.pod.path("/log");
    for (query, message) in [
        ("", "a container name must be specified for pod web, choose one of: [app side]"),
        ("?container=x", "container x is not valid for pod web"),
        ("?container=app&previous=true", "previous terminated container \"app\" in pod \"web\" not found"),
    ] {
        let status = played.refusal(&format!("{path}{query}")).await;
        assert_eq!((status.code, status.message.as_str()), (400, message));
    }
}

#[tokio::test]
async fn a_watch_shows_what_is_and_what_comes() {
    let played = Played::new();
    let mut follower = Follower::of_pod(&played.client, &played.pod);
    let first = follower.next().await.unwrap().unwrap();
    assert_eq!((first.kind.as_str(), &first.object["metadata"]["resourceVersion"]), ("ADDED", &json!("1")));
    // The driver may repeat what was seen; it does not come again.
    played.show(view(1, running()));
    played.show(view(2, running()));
    let second = follower.next().await.unwrap().unwrap();
    assert_eq!(
        (second.kind.as_str(), &second.object["metadata"]["resourceVersion"]),
        ("MODIFIED", &json!("2"))
    );
    played.changes.send(Change::Gone(deleting(&view(3, running())))).unwrap();
    assert_eq!(follower.next().await.unwrap().unwrap().kind, "DELETED");
    assert!(follower.next().await.is_none());
}

/// What a watch says next: what happened, to which version, with which label.
fn line(update: &Value) -> [String; 3] {
    let text = |pointer| update.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    [text("/type"), text("/object/metadata/resourceVersion"), text("/object/metadata/labels/app")]
}

#[tokio::test]
async fn a_pod_whose_labels_change_comes_to_and_goes_from_a_watch_that_selects() {
    let played = Played::new();
    let url = |version: &str| format!("/api/v1/pods?labelSelector=app%3Ddb&resourceVersion={version}");
    let mut lines = played.client.watch(&played.pod, url("0")).await.unwrap();
    for (generation, app) in [(2, "db"), (3, "db"), (4, "web"), (5, "web"), (6, "db")] {
        played.show(labelled(generation, app));
    }
    let told = [["ADDED", "2", "db"], ["MODIFIED", "3", "db"], ["DELETED", "4", "db"], ["ADDED", "6", "db"]];
    for wanted in told {
        assert_eq!(line(&lines.next().await.unwrap().unwrap()), wanted);
    }
    // Whoever saw the pod before may have it still.
    played.show(labelled(7, "web"));
    let mut current = played.client.watch(&played.pod, url("7")).await.unwrap();
    let mut late = played.client.watch(&played.pod, url("6")).await.unwrap();
    assert_eq!(line(&late.next().await.unwrap().unwrap()), ["DELETED", "7", "web"]);
    played.show(labelled(8, "db"));
    assert_eq!(line(&current.next().await.unwrap().unwrap()), ["ADDED", "8", "db"]);
    // The end of a pod that a reader does not have is none of its business.
    played.show(labelled(9, "web"));
    played.changes.send(Change::Gone(labelled(10, "web"))).unwrap();
    assert_eq!(line(&current.next().await.unwrap().unwrap()), ["DELETED", "9", "db"]);
    assert_eq!(current.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_pod_that_is_no_longer_selected_is_followed_until_its_end() {
    let played = Played::new();
    let subject =
        client::Subject { namespace: None, names: Vec::new(), resource: "pods", labels: "app=web".into() };
    let mut follower = Follower::new(&played.client, subject);
    let mut next = async || {
        let client::Update { kind, object } = follower.next().await.unwrap().unwrap();
        line(&json!({"type": kind, "object": object}))
    };
    assert_eq!(next().await, ["ADDED", "1", "web"]);
    played.show(labelled(2, "db"));
    assert_eq!(next().await, ["DELETED", "2", "web"]);
    played.show(labelled(3, "web"));
    assert_eq!(next().await, ["ADDED", "3", "web"]);
    // Also one that is being deleted may go and come.
    played.show(deleting(&labelled(4, "web")));
    assert_eq!(next().await, ["MODIFIED", "4", "web"]);
    played.show(deleting(&labelled(5, "db")));
    assert_eq!(next().await, ["DELETED", "5", "web"]);
    played.show(deleting(&labelled(6, "web")));
    assert_eq!(next().await, ["ADDED", "6", "web"]);
    played.changes.send(Change::Gone(deleting(&labelled(6, "web")))).unwrap();
    assert_eq!(next().await, ["DELETED", "6", "web"]);
}

#[tokio::test]
async fn events_are_counted_up() {
    let played = Played::new();
    let mut lines = played.client.watch(&played.pod, "/api/v1/events".into()).await.unwrap();
    let first = lines.next().await.unwrap().unwrap();
    assert_eq!(first["type"], "ADDED");
    assert_eq!(first["object"]["involvedObject"]["fieldPath"], "spec.containers{app}");
    assert_eq!(first["object"]["source"], json!({"component": "kubelet", "host": "node1"}));
    played.changes.send(Change::Event(event(1))).unwrap();
    played.changes.send(Change::Event(event(2))).unwrap();
    let second = lines.next().await.unwrap().unwrap();
    assert_eq!((&second["type"], &second["object"]["count"]), (&json!("MODIFIED"), &json!(2)));
}

#[tokio::test]
async fn events_of_more_than_an_hour_ago_are_not_told() {
    let played = Played::new();
    let last_timestamp = clock() - jiff::SignedDuration::from_secs(3601);
    let old = Event { name: "web.0".into(), last_timestamp, ..(*event(1)).clone() };
    let view = Arc::clone(&played.snapshot.borrow().view);
    played.snapshot.send_replace(Arc::new(Snapshot { view, events: vec![Arc::new(old), event(2)] }));
    let list: Value = serde_json::from_str(&played.body("/api/v1/events").await).unwrap();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["count"]), (1, &json!(2)));
    let mut lines = played.client.watch(&played.pod, "/api/v1/events".into()).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap()["object"]["count"], json!(2));
}

#[tokio::test]
async fn deletion_is_ordered_with_its_grace_period() {
    let mut played = Played::new();
    let (client, pod) = (played.client.clone(), played.pod.clone());
    let answer = tokio::spawn(async move { client.delete(&pod, Some(5)).await });
    let Some(Order::Delete { grace_seconds, reply }) = played.orders.recv().await else {
        panic!("another order")
    };
    assert_eq!(grace_seconds, Some(5));
    let mut deleting = View::clone(&view(2, running()));
    deleting.deletion = Some(Deletion { timestamp: clock(), grace_seconds: 5 });
    reply.send(Ok(Arc::new(deleting))).unwrap();
    let pod = answer.await.unwrap().unwrap();
    assert_eq!(pod["metadata"]["deletionTimestamp"], "2024-01-02T03:05:00Z");
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 5);
}

#[tokio::test]
async fn what_may_not_change_is_refused_by_name() {
    let mut played = Played::new();
    let (client, pod) = (played.client.clone(), played.pod.clone());
    let object = json!({"metadata": {"name": "web", "labels": {"app": "db"}}});
    let answer = tokio::spawn(async move { client.replace(&pod, &object).await });
    let Some(Order::Replace { pod, reply }) = played.orders.recv().await else { panic!("another order") };
    assert_eq!(pod.metadata.labels["app"], "db");
    let errors = vec![FieldError { field: "spec".into(), body: "Forbidden: no".into() }];
    let invalid = Invalid { kind: "Pod", name: "web".into(), errors };
    reply.send(Err(invalid.into())).unwrap();
    let Error::Status(status) = answer.await.unwrap().unwrap_err() else { panic!("another error") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert_eq!(status.message, "Pod \"web\" is invalid: spec: Forbidden: no");
}

#[tokio::test]
async fn what_is_put_has_the_place_of_its_path_and_no_other() {
    let mut played = Played::new();
    let put = async |object: Value| match played.client.replace(&played.pod, &object).await {
        Err(Error::Status(status)) => (status.code, status.message),
        other => panic!("{other:?}"),
    };
    let placed = |meta: Value| json!({"metadata": meta});
    for (object, message) in [
        (
            placed(json!({"name": "web", "namespace": "prod"})),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            placed(json!({"name": "db"})),
            "the name of the object (db) does not match the name on the URL (web)",
        ),
        (
            json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}}),
            "Service in version \"v1\" cannot be handled as a Pod",
        ),
        (
            json!({"metadata": {"label": {}}, "spec": {"contaners": [], "nodeName": 3}}),
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"metadata.label\", \
             did you mean \"labels\"?, unknown field \"spec.contaners\", did you mean \"containers\"?, \
             spec.nodeName: expected a string, found the number 3; write \"3\"",
        ),
        (
            json!([]),
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: expected a mapping, found a list",
        ),
    ] {
        assert_eq!(put(object).await, (400, message.to_owned()));
    }
    let (client, pod) = (played.client.clone(), played.pod.clone());
    let answer = tokio::spawn(async move { client.replace(&pod, &placed(json!({}))).await });
    let Some(Order::Replace { pod, reply }) = played.orders.recv().await else { panic!("another order") };
    let place = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    assert_eq!(place, (Some("default"), Some("web")));
    reply.send(Err(Refusal::Conflict { name: "web".into(), why: "no".into() })).unwrap();
    let Error::Status(status) = answer.await.unwrap().unwrap_err() else { panic!("another error") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(status.message, "Operation cannot be fulfilled on pods \"web\": no");
}

#[tokio::test]
async fn a_log_is_followed_to_the_end_of_its_instance() {
    let played = Played::new();
    let log = played.log();
    append(&log, "one");
    append(&log, "two");
    let path = played.pod.path("/log?container=app");
    assert_eq!(played.body(&path).await, "one\ntwo\n");
    assert_eq!(played.body(&format!("{path}&tailLines=1")).await, "two\n");
    assert_eq!(played.body(&format!("{path}&sinceSeconds=30")).await, "");
    let mut reply = played.client.stream(&played.pod, &format!("{path}&follow=true")).await.unwrap();
    assert_eq!(reply.piece().await.unwrap().unwrap(), "one\ntwo\n");
    append(&log, "three");
    assert_eq!(reply.piece().await.unwrap().unwrap(), "three\n");
    append(&log, "last");
    played.show(view(2, json!({"terminated": {"exitCode": 0, "containerID": "hull://1"}})));
    assert_eq!(reply.piece().await.unwrap().unwrap(), "last\n");
    assert_eq!(reply.piece().await.unwrap(), None);
}

#[tokio::test]
async fn changed_objects_wake_the_driver() {
    let mut played = Played::new();
    let (client, pod) = (played.client.clone(), played.pod.clone());
    let url = pod.collection("services/db");
    tokio::spawn(async move { client.object_changed(&pod, &url).await.unwrap() });
    assert!(matches!(played.orders.recv().await, Some(Order::ObjectsChanged)));
}

/// The process's ends of its streams.
struct Process {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    exit: tokio::sync::oneshot::Sender<Exit>,
    sizes: mpsc::Receiver<(u16, u16)>,
}

fn process() -> (Session, Process) {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK | rustix::pipe::PipeFlags::CLOEXEC).unwrap()
    };
    let (stdin_read, stdin_write) = pipe();
    let (stdout, stdout_write) = pipe();
    let (stderr, stderr_write) = pipe();
    let (exit, exited) = tokio::sync::oneshot::channel();
    let (resize, sizes) = mpsc::channel(4);
    let output = Output::Pipes { stdout, stderr };
    let session = Session { stdin: Some(stdin_write), output, exit: Some(exited), resize };
    (session, Process { stdin: Some(stdin_read), stdout: stdout_write, stderr: stderr_write, exit, sizes })
}

#[tokio::test]
async fn exec_carries_all_streams_and_the_exit_code() {
    let mut played = Played::new();
    let (client, pod) = (played.client.clone(), played.pod.clone());
    let url = pod
        .path("/exec?container=app&command=sh&command=-c&command=a%20b&stdin=true&stdout=true&stderr=true");
    let socket =
        tokio::spawn(async move { client.web_socket(&pod, &url, session::PROTOCOLS[0]).await.unwrap() });
    let Some(Order::Exec { container, args, tty, stdin, reply }) = played.orders.recv().await else {
        panic!("another order")
    };
    assert_eq!(
        (container.as_str(), args, tty, stdin),
        ("app", vec!["sh".to_owned(), "-c".into(), "a b".into()], None, true)
    );
    let (session, mut process) = process();
    reply.send(Ok(session)).unwrap();
    let mut socket = socket.await.unwrap();
    for message in [&b"\x00input"[..], b"\x04{\"Width\":100,\"Height\":30}", b"\xff\x00"] {
        socket.send(Message::binary(message.to_vec())).await.unwrap();
    }
    assert_eq!(process.sizes.recv().await, Some((100, 30)));
    let mut stdin = tokio::net::unix::pipe::Receiver::from_owned_fd(process.stdin.take().unwrap()).unwrap();
    let mut input = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stdin, &mut input).await.unwrap();
    assert_eq!(input, "input");
    rustix::io::write(&process.stderr, b"err").unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), &b"\x02err"[..]);
    // The last bytes are not lost, though others hold the pipe open.
    rustix::io::write(&process.stdout, b"out").unwrap();
    process.exit.send(Exit::Code(7)).unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), &b"\x01out"[..]);
    let status = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(status[0], 3);
    let status: Value = serde_json::from_slice(&status[1..]).unwrap();
    assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
    assert!(socket.next().await.unwrap().unwrap().is_close());
}

#[tokio::test]
async fn a_refused_exec_is_told_before_the_upgrade() {
    let mut played = Played::new();
    let (client, pod) = (played.client.clone(), played.pod.clone());
    let url = pod.path("/exec?container=app&command=sh&stdout=true");
    let answer = tokio::spawn(async move { client.web_socket(&pod, &url, session::PROTOCOLS[0]).await });
    let Some(Order::Exec { reply, .. }) = played.orders.recv().await else { panic!("another order") };
    reply.send(Err(Refusal::NotRunning("app".into()))).unwrap();
    match answer.await.unwrap() {
        Err(Error::Status(status)) => assert_eq!(status.message, "container not found (\"app\")"),
        other => panic!("{other:?}"),
    }
    let status = played.refusal(&played.pod.path("/exec?container=app&command=sh&stdout=true")).await;
    assert!(status.message.contains("WebSocket"), "{status}");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_not_found() {
    let played = Played::new();
    std::fs::remove_dir_all(played.layout.pod("u1").dir()).unwrap();
    assert!(played.client.pod(&played.pod).await.unwrap_err().is_not_found());
}
