//! Looking at one pod of a [`Host`]: its containers' states, its events, the rows of `get pods -w`, and its
//! network from inside.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::command::Running;
use crate::wait::pause;
use crate::{Host, process, wait_until};

impl Host {
    /// A directory for a case's own files, which its pods may mount as hostPath.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn shared_dir(&self) -> PathBuf {
        let path = self.root().join("case");
        std::fs::create_dir_all(&path).expect("the host's own directory can be written");
        path
    }

    /// The lines of a file in [`Host::shared_dir`]; none while it is not there.
    #[must_use]
    pub fn shared_lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.shared_dir().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The events of a pod as objects, oldest first.
    pub fn events(&self, pod: &str) -> Result<Vec<Value>, String> {
        let output = self.hull(&["events", "--for", &format!("pod/{pod}"), "-o", "json"]);
        if !output.status.success() {
            return Err(output.to_string());
        }
        let list: Value =
            serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {output}"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits for an event of this reason whose message contains `text`.
    #[track_caller]
    pub fn wait_event(&self, pod: &str, limit: Duration, reason: &str, text: &str) -> Value {
        wait_until(limit, &format!("event {reason} {text:?}"), || {
            let events = self.events(pod)?;
            let wanted = |event: &&Value| event["reason"] == reason && message_of(event).contains(text);
            events.iter().find(wanted).cloned().ok_or_else(|| shown(&events))
        })
    }

    /// `reason: message` of each event.
    #[must_use]
    pub fn event_lines(&self, pod: &str) -> Vec<String> {
        let events = self.events(pod).unwrap_or_default();
        events.iter().map(|event| format!("{}: {}", text(&event["reason"]), message_of(event))).collect()
    }

    /// Follows the rows of `get pods NAME -w`.
    #[track_caller]
    pub fn follow_rows(&self, pod: &str) -> Rows {
        Rows { running: self.start(&["get", "pods", pod, "-w"]) }
    }

    /// Deletes pods, waits until they are gone, and checks that nothing of them is left.
    #[track_caller]
    pub fn end(&self, pods: &[&str]) {
        let output = self.hull(&[&["delete", "pod"], pods].concat());
        assert!(output.status.success(), "{output}");
        self.assert_clean();
    }

    /// Asks for a pod's deletion with these flags, and does not wait for it.
    #[track_caller]
    pub fn begin_end(&self, pod: &str, flags: &[&str]) {
        let output = self.hull(&[&["delete", "pod", pod, "--wait=false"], flags].concat());
        assert!(output.status.success(), "{output}");
    }

    /// Waits until a pod that is being deleted is gone, whatever others there are.
    #[track_caller]
    pub fn wait_gone_only(&self, pod: &str, limit: Duration) {
        wait_until(limit, &format!("end of pod {pod}"), || match self.pod(pod) {
            Ok(pod) => Err(format!("{:#}", pod["status"])),
            Err(_) => Ok(()),
        });
    }

    /// Waits until a pod that is being deleted is gone, and checks that nothing is left.
    #[track_caller]
    pub fn wait_gone(&self, pod: &str, limit: Duration) {
        self.wait_gone_only(pod, limit);
        self.assert_clean();
    }

    /// The pid of the process that holds the pod's namespaces.
    pub fn pause_pid(&self, pod: &str) -> Result<i32, String> {
        let object = self.pod(pod)?;
        let uid = text(&object["metadata"]["uid"]).to_owned();
        let holds = |pid: &i32| {
            process::file(*pid, "comm").trim() == "hull-pause"
                && process::is_alive(*pid)
                && process::file(*pid, "cgroup").contains(&uid)
        };
        process::all().into_iter().find(holds).ok_or_else(|| "the pod has no hull-pause".to_owned())
    }

    /// The pid of the pod's supervisor.
    pub fn supervisor_pid(&self, pod: &str) -> Result<i32, String> {
        let uid = text(&self.pod(pod)?["metadata"]["uid"]).to_owned();
        let supervises = |pid: &i32| {
            let line = process::command_line(*pid);
            process::is_alive(*pid) && line.contains(" supervise ") && line.contains(&uid)
        };
        process::all().into_iter().find(supervises).ok_or_else(|| "the pod has no supervisor".to_owned())
    }

    /// Answers connections to a port of the pod's network from a thread of this process.
    ///
    /// # Panics
    /// When the pod's network cannot be entered or the port not be listened on.
    #[track_caller]
    pub fn serve_in_pod(
        &self,
        pod: &str,
        port: u16,
        answer: impl Fn(TcpStream) + Send + 'static,
    ) -> PodServer {
        let pid = wait_until(Duration::from_secs(10), "hull-pause", || self.pause_pid(pod));
        let network = File::open(format!("/proc/{pid}/ns/net")).expect("the pod has a network namespace");
        let (ready, listening) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            nix::sched::setns(network.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("root enters any network");
            let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
            listener.set_nonblocking(true).expect("a socket can be told not to block");
            ready.send(()).expect("the case waits for this");
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => answer(stream),
                    Err(_) => pause(Duration::from_millis(5)),
                }
            }
        });
        listening.recv().expect("the server listens");
        PodServer { stop, thread: Some(thread) }
    }
}

/// A server in a pod's network; ends when this goes.
#[derive(Debug)]
pub struct PodServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for PodServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the server in the pod's network panicked");
        }
    }
}

/// A pod whose one container, `main`, is busybox and has a second to end. `metadata` are fields like `name: web`; `rest`
/// are more lines of the container, and then of the pod's spec.
#[must_use]
pub fn busybox(metadata: &str, rest: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{{metadata}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
{rest}"
    )
}

/// Reads a request up to its empty line.
#[must_use]
pub fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0; 1];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
        request.push(byte[0]);
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Sends a whole response: status line, headers, body.
pub fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    if let Err(error) = stream.write_all(text.as_bytes()) {
        eprintln!("the client went away: {error}");
    }
}

/// The rows of a watch.
#[derive(Debug)]
pub struct Rows {
    running: Running,
}

impl Rows {
    /// The STATUS words so far; a repeated one once.
    #[must_use]
    pub fn statuses(&self) -> Vec<String> {
        let lines = self.running.lines();
        let cell = |line: &String| line.split_whitespace().nth(2).map(str::to_owned);
        let mut words: Vec<String> = lines.iter().skip(1).filter_map(cell).collect();
        words.dedup();
        words
    }

    /// Waits until these STATUS words came, in this order, with others between them allowed.
    #[track_caller]
    pub fn wait_statuses(&self, limit: Duration, wanted: &[&str]) {
        wait_until(limit, &format!("rows {wanted:?}"), || {
            let seen = self.statuses();
            let mut left = wanted.iter().peekable();
            for word in &seen {
                left.next_if(|wanted| *wanted == word);
            }
            if left.peek().is_none() { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

/// The status of a container, init containers too.
#[must_use]
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists.iter().filter_map(|list| pod["status"][*list].as_array()).flatten();
    all.into_iter().find(|status| status["name"] == name).unwrap_or(&Value::Null)
}

/// A condition of the pod.
#[must_use]
pub fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let all = pod["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// A string of an object; empty for anything else.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn message_of(event: &Value) -> &str {
    text(&event["message"])
}

fn shown(events: &[Value]) -> String {
    let line =
        |event: &Value| format!("{} x{} {}", text(&event["reason"]), event["count"], message_of(event));
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}
