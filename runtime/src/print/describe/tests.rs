//! Pods described, compared with what kubectl prints for them.

use super::*;
use serde_json::json;

fn now() -> Timestamp {
    "2024-01-02T03:05:34Z".parse().unwrap()
}

fn sample() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "priority": 0, "serviceAccountName": "default", "nodeName": "node1",
            "containers": [{
                "name": "app", "image": "busybox:1.36",
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            }],
        },
        "status": {
            "phase": "Running", "hostIP": "10.0.0.2", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}],
            "startTime": "2024-01-02T03:04:05Z", "qosClass": "BestEffort",
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True"}, {"type": "Initialized", "status": "True"},
                {"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "False"},
                {"type": "PodScheduled", "status": "True"},
            ],
            "containerStatuses": [{
                "name": "app", "containerID": "hull://4f", "imageID": "docker.io/library/busybox@sha256:00",
                "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                "lastState": {"terminated": {
                    "exitCode": 1, "reason": "Error",
                    "startedAt": "2024-01-02T03:05:00Z", "finishedAt": "2024-01-02T03:05:01Z",
                }},
            }],
        },
    })
}

fn sample_events() -> Vec<Value> {
    let event = |kind: &str, reason: &str, message: &str, count: u32, first: &str, last: &str| {
        json!({
            "type": kind, "reason": reason, "message": message, "count": count,
            "involvedObject": {"fieldPath": "spec.containers{app}"}, "source": {"component": "kubelet"},
            "firstTimestamp": first, "lastTimestamp": last,
        })
    };
    vec![
        event(
            "Warning",
            "BackOff",
            "Back-off restarting failed container app in pod web_default(5b)",
            6,
            "2024-01-02T03:04:04Z",
            "2024-01-02T03:05:29Z",
        ),
        event("Normal", "Started", "Container started", 4, "2024-01-02T03:04:00Z", "2024-01-02T03:04:54Z"),
    ]
}

/// The sample of the reference, with this runtime's name.
const DESCRIBED: &str = "\
Name:             web
Namespace:        default
Priority:         0
Service Account:  default
Node:             node1/10.0.0.2
Start Time:       Tue, 02 Jan 2024 03:04:05 +0000
Labels:           app=web
Annotations:      <none>
Status:           Running
IP:               10.244.0.5
IPs:
  IP:  10.244.0.5
Containers:
  app:
    Container ID:   hull://4f
    Image:          busybox:1.36
    Image ID:       docker.io/library/busybox@sha256:00
    Port:           8080/TCP (http)
    Host Port:      0/TCP
    State:          Waiting
      Reason:       CrashLoopBackOff
    Last State:     Terminated
      Reason:       Error
      Exit Code:    1
      Started:      Tue, 02 Jan 2024 03:05:00 +0000
      Finished:     Tue, 02 Jan 2024 03:05:01 +0000
    Ready:          False
    Restart Count:  3
    Environment:    <none>
    Mounts:         <none>
Conditions:
  Type                        Status
  PodReadyToStartContainers   True\x20
  Initialized                 True\x20
  Ready                       False\x20
  ContainersReady             False\x20
  PodScheduled                True\x20
Volumes:                      <none>
QoS Class:                    BestEffort
Node-Selectors:               <none>
Tolerations:                  <none>
Events:
  Type     Reason   Age                From     Message
  ----     ------   ----               ----     -------
  Normal   Started  40s (x4 over 94s)  kubelet  spec.containers{app}: Container started
  Warning  BackOff  5s (x6 over 90s)   kubelet  spec.containers{app}: Back-off restarting failed container app in pod web_default(5b)
";

#[test]
fn a_crashing_pod_reads_as_kubectl_shows_it() {
    assert_eq!(pod(&sample(), Some(&sample_events()), now()), DESCRIBED);
}

#[test]
fn events_can_be_none_or_not_asked_for() {
    let text = pod(&sample(), Some(&[]), now());
    assert!(
        text.ends_with("Tolerations:                  <none>\nEvents:                       <none>\n"),
        "{text}"
    );
    assert!(!pod(&sample(), None, now()).contains("Events"));
}

#[test]
fn a_terminating_pod_says_for_how_long() {
    let mut object = sample();
    object["metadata"]["deletionTimestamp"] = json!("2024-01-02T03:05:22Z");
    object["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let text = pod(&object, None, now());
    assert!(text.contains("Status:                    Terminating (lasts 12s)\n"), "{text}");
    assert!(text.contains("Termination Grace Period:  30s\n"), "{text}");
}

#[test]
fn a_container_shows_everything_it_was_given() {
    let mut object = sample();
    object["spec"]["containers"][0] = json!({
        "name": "app", "image": "i", "command": ["sh", "-c", "a\nb"], "args": ["x"],
        "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP", "hostPort": 5353}],
        "resources": {"limits": {"memory": "64Mi", "cpu": "250m"}, "requests": {"cpu": "100m"}},
        "livenessProbe": {"exec": {"command": ["cat", "/tmp/x"]}, "initialDelaySeconds": 1, "periodSeconds": 3},
        "readinessProbe": {"httpGet": {"port": 80, "path": "/index1.html"}},
        "startupProbe": {"tcpSocket": {"port": "redis"}, "failureThreshold": 30},
        "envFrom": [{"configMapRef": {"name": "cm"}}, {"prefix": "P_", "secretRef": {"name": "s", "optional": true}}],
        "env": [
            {"name": "A", "value": "1\n2"},
            {"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        "volumeMounts": [{"name": "v", "mountPath": "/b", "readOnly": true}, {"name": "v", "mountPath": "/a", "subPath": "q"}],
    });
    object["spec"]["volumes"] = json!([
        {"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/h", "type": "Directory"}},
        {"name": "c", "configMap": {"name": "cm"}},
    ]);
    let text = pod(&object, None, now());
    for expected in [
        "    Ports:         80/TCP, 53/UDP\n    Host Ports:    0/TCP, 5353/UDP\n    Command:\n      sh\n      -c\n      a\n      b\n    Args:\n      x\n",
        "    Limits:\n      cpu:     250m\n      memory:  64Mi\n    Requests:\n      cpu:      100m\n",
        "Liveness:   exec [cat /tmp/x] delay=1s timeout=1s period=3s #success=1 #failure=3\n",
        "Readiness:  http-get http://:80/index1.html delay=0s timeout=1s period=10s #success=1 #failure=3\n",
        "Startup:    tcp-socket :redis delay=0s timeout=1s period=10s #success=1 #failure=30\n",
        "    Environment Variables from:\n      cm  ConfigMap                Optional: false\n      s   Secret with prefix 'P_'  Optional: true\n",
        "    Environment:\n      A:   1\n           2\n      IP:   (v1:status.podIP)\n      N:   web (v1:metadata.name)\n      L:   250 (limits.cpu)\n",
        "      K:   <set to the key 'k' in secret 's'>  Optional: false\n",
        "    Mounts:\n      /a from v (rw,path=\"q\")\n      /b from v (ro)\n",
        "Volumes:\n  v:\n    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)\n    Medium:     \n    SizeLimit:  <unset>\n",
        "  h:\n    Type:          HostPath (bare host directory volume)\n    Path:          /h\n    HostPathType:  Directory\n",
        "  c:\n    Type:        ConfigMap (a volume populated by a ConfigMap)\n    Name:        cm\n    Optional:    false\nQoS Class:       BestEffort\n",
    ] {
        assert!(text.contains(expected), "missing:\n{expected}\nin:\n{text}");
    }
}

#[test]
fn long_annotations_go_below_their_key() {
    let mut object = sample();
    object["metadata"]["annotations"] = json!({"a": "short", "b": "x".repeat(200), "c": "1\n2\n"});
    let text = pod(&object, None, now());
    let cut = "x".repeat(138);
    let block = format!(
        "Annotations:      a: short\n                  b:\n                    {cut}...\n                  c:\n                    1\n                    2\nStatus:"
    );
    assert!(text.contains(&block), "{text}");
}

#[test]
fn control_characters_cannot_reach_the_terminal() {
    let mut object = sample();
    object["status"]["message"] = json!("\u{1b}[2Jgone");
    assert!(pod(&object, None, now()).contains("Message:          ^[[2Jgone\n"));
}
