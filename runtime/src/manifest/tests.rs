//! Whole manifests: the ones that users have, and bad ones with the exact text of their errors.

mod refusals;

use jiff::Timestamp;

use super::*;

const INIT_CHAIN: &str = include_str!("testdata/init-chain.yaml");
const SERVICES: &str = include_str!("testdata/init-chain-services.yaml");
const HOOKS: &str = include_str!("testdata/lifecycle-hooks.yaml");
const LIVENESS_EXEC: &str = include_str!("testdata/liveness-exec.yaml");
const LIVENESS_TCP: &str = include_str!("testdata/liveness-tcp.yaml");
const READINESS: &str = include_str!("testdata/readiness-httpget.yaml");

fn identity() -> Identity {
    Identity {
        uid: "c0ffee00-0000-4000-8000-000000000001".into(),
        created: "2025-01-02T03:04:05.678Z".parse().unwrap(),
    }
}

/// The objects of a text that has no errors.
fn loaded(text: &str) -> Vec<Loaded> {
    load(text, "x").into_iter().map(|loaded| loaded.unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn raw_pod(text: &str) -> raw::Pod {
    match loaded(text).remove(0) {
        Loaded::Pod(pod) => *pod,
        other => panic!("{other:?}"),
    }
}

fn accepted(text: &str) -> Accepted {
    accept(raw_pod(text), identity()).unwrap_or_else(|error| panic!("{error}"))
}

/// A pod `web` whose container `app` has these further lines.
fn with_container(lines: &str) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: app\n    image: nginx:1\n",
    );
    lines.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    text
}

/// A pod `web` with these further lines in its spec.
fn with_spec(lines: &str) -> String {
    let mut text = with_container("");
    lines.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    text
}

fn refusal(text: &str) -> String {
    match accept(raw_pod(text), identity()) {
        Ok(accepted) => panic!("was accepted: {:?}", accepted.pod),
        Err(invalid) => invalid.to_string(),
    }
}

fn load_error(text: &str) -> String {
    match load(text, "web.yaml").remove(0) {
        Ok(loaded) => panic!("was loaded: {loaded:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_example_pods_are_accepted_as_they_stand() {
    for (text, name, init, main) in [
        (INIT_CHAIN, "test-initc", 2, 1),
        (HOOKS, "lifecycle-demo", 0, 1),
        (LIVENESS_EXEC, "liveness-exec-test", 0, 1),
        (LIVENESS_TCP, "readiness-tcpsocket", 0, 1),
        (READINESS, "readiness-test", 0, 1),
    ] {
        let pod = accepted(text).pod;
        assert_eq!(pod.meta.name, name);
        assert_eq!((pod.spec.init_containers.len(), pod.spec.containers.len()), (init, main), "{name}");
    }
}

#[test]
fn the_example_services_are_read() {
    let loaded = loaded(SERVICES);
    let names: Vec<_> = loaded
        .iter()
        .map(|object| match object {
            Loaded::Service(service) => service.metadata.name.as_deref().unwrap_or_default(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["mysvc", "mydb"]);
}

#[test]
fn probes_and_hooks_come_out_with_their_defaults() {
    let pod = accepted(READINESS).pod;
    let probe = pod.spec.containers[0].readiness.clone().unwrap();
    assert_eq!(
        probe,
        pod::Probe {
            handler: pod::Handler::HttpGet(pod::HttpGet {
                https: false,
                host: None,
                port: pod::Port::Number(80),
                path: "/index1.html".into(),
                headers: Vec::new(),
            }),
            initial_delay_seconds: 1,
            timeout_seconds: 1,
            period_seconds: 3,
            success_threshold: 1,
            failure_threshold: 3,
            grace_seconds: None,
        }
    );
    let hooks = accepted(HOOKS).pod.spec.containers.remove(0);
    let quit = ["/usr/sbin/nginx", "-s", "quit"].map(str::to_owned).to_vec();
    assert_eq!(hooks.pre_stop, Some(pod::Handler::Exec(quit)));
}

#[test]
fn a_volume_is_recursively_read_only_as_it_says() {
    use pod::RecursiveReadOnly::{Disabled, Enabled, IfPossible};
    let mounted = |line: &str| {
        let text =
            with_container(&format!("volumeMounts: [{{name: v, mountPath: /v, readOnly: true{line}}}]"));
        accepted(&(text + "  volumes: [{name: v, emptyDir: {}}]\n")).pod.spec.containers[0].mounts[0].clone()
    };
    for (line, wanted) in [
        ("", Disabled),
        (", recursiveReadOnly: Disabled", Disabled),
        (", recursiveReadOnly: IfPossible", IfPossible),
        (", recursiveReadOnly: Enabled", Enabled),
    ] {
        assert_eq!(mounted(line).recursive_read_only, wanted, "{line}");
    }
}

#[test]
fn the_object_shows_defaults_and_identity() {
    let shown = serde_json::to_value(accepted(LIVENESS_TCP).object).unwrap();
    assert_eq!(
        shown,
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "readiness-tcpsocket",
                "namespace": "default",
                "uid": "c0ffee00-0000-4000-8000-000000000001",
                "generation": 1,
                "creationTimestamp": "2025-01-02T03:04:05Z",
            },
            "spec": {
                "containers": [{
                    "name": "redis",
                    "image": "redis",
                    "imagePullPolicy": "Always",
                    "livenessProbe": {
                        "failureThreshold": 3,
                        "initialDelaySeconds": 5,
                        "periodSeconds": 3,
                        "successThreshold": 1,
                        "tcpSocket": { "port": 6379 },
                        "timeoutSeconds": 1,
                    },
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30,
            },
        })
    );
}

#[test]
fn an_accepted_pod_reads_back_the_same() {
    for text in [INIT_CHAIN, HOOKS, LIVENESS_EXEC, LIVENESS_TCP, READINESS] {
        let first = accepted(text);
        let json = serde_json::to_string(&first.object).unwrap();
        assert_eq!(reload(&json).unwrap(), first);
    }
    assert!(matches!(reload("{"), Err(Error::Record(_))));
    assert!(matches!(reload("{}"), Err(Error::Stale(_))));
}

#[test]
fn json_and_lists_are_read_like_yaml() {
    let object = serde_json::to_value(raw_pod(LIVENESS_EXEC)).unwrap();
    assert_eq!(raw_pod(&object.to_string()), raw_pod(LIVENESS_EXEC));
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [object, object]}).to_string();
    assert_eq!(loaded(&list).len(), 2);
    let two = format!("{object}\n{object}");
    assert_eq!(loaded(&two).len(), 2);
    assert!(loaded("").is_empty());
    assert!(loaded("---\n# nothing\n---\n").is_empty());
}

#[test]
fn what_cannot_be_read_does_not_keep_other_objects_back() {
    let config = |name: &str| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    let names = |text: &str| -> Vec<String> {
        let objects = load(text, "x.yaml").into_iter();
        objects
            .map(|object| match object {
                Ok(Loaded::ConfigMap(map)) => map.metadata.name.unwrap(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => error.to_string().split_once(' ').unwrap().0.to_owned(),
            })
            .collect()
    };
    let other = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    let unknown = format!("{}sata: {{}}\n", config("u"));
    let text = [config("a"), other.to_owned(), unknown, config("b")].concat();
    assert_eq!(names(&text), ["a", "x.yaml:6:", "x.yaml:13:", "b"]);
    // Where malformed text ends nobody knows.
    let malformed = [config("a"), config("b"), "metadata: [".to_owned(), config("c")].concat();
    let found = names(&malformed);
    assert_eq!(found[0], "a");
    assert_eq!((found.len(), found[1].starts_with("x.yaml:")), (2, true), "{found:?}");
}

#[test]
fn an_object_is_named_by_a_manifest_that_would_not_be_taken() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\nsepc: [1]\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {}\n---\n{apiVersion: v1, kind: Widget}\n";
    let found: Vec<_> =
        identify(text, "x").into_iter().map(|found| found.map_err(|e| e.to_string())).collect();
    assert_eq!(found[0], Ok(Named { kind: Kind::Pod, namespace: Some("n".into()), name: "a".into() }));
    assert_eq!(found[1], Err("x:6: metadata.name is not set".into()));
    assert!(found[2].as_ref().unwrap_err().contains("no matches for kind \"Widget\""));
}

#[test]
fn null_is_absence_and_an_octal_mode_is_octal() {
    let text = with_spec("hostname: null\nvolumes:\n- name: c\n  configMap: {name: c, defaultMode: 0400}");
    let pod = accepted(&text).pod;
    assert_eq!(pod.spec.hostname, "web");
    match &pod.spec.volumes[0].source {
        pod::VolumeSource::ConfigMap(source) => assert_eq!(source.default_mode, 0o400),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_fields_are_named_with_path_line_and_guess() {
    let text =
        with_container("imagee: x\nports:\n- containerport: 80\nenv:\n- {name: A, valu: b}\nzzzzzz:\n  a: 1");
    assert_eq!(
        load_error(&text),
        "web.yaml:9: unknown field \"spec.containers[0].imagee\", did you mean \"image\"?\n\
         web.yaml:11: unknown field \"spec.containers[0].ports[0].containerport\", did you mean \"containerPort\"?\n\
         web.yaml:13: unknown field \"spec.containers[0].env[0].valu\", did you mean \"value\"?\n\
         web.yaml:14: unknown field \"spec.containers[0].zzzzzz\""
    );
}

#[test]
fn wrong_types_are_named_with_path_and_line() {
    for (lines, error) in [
        (
            "env: [{name: A, value: 8080}]",
            "web.yaml:9: spec.containers[0].env[0].value: expected a string, found the number 8080; write \"8080\"",
        ),
        (
            "stdin: yes",
            "web.yaml:9: spec.containers[0].stdin: expected a boolean, found the text \"yes\"; write true",
        ),
        (
            "command: sleep 1",
            "web.yaml:9: spec.containers[0].command: expected a list, found the text \"sleep 1\"",
        ),
        (
            "securityContext: []",
            "web.yaml:9: spec.containers[0].securityContext: expected a mapping, found a list",
        ),
        (
            "ports: [{containerPort: http}]",
            "web.yaml:9: spec.containers[0].ports[0].containerPort: expected a whole number, found the text \"http\"",
        ),
        (
            "ports: [{containerPort: 99999999999}]",
            "web.yaml:9: spec.containers[0].ports[0].containerPort: the number 99999999999 does not fit into a whole number",
        ),
        (
            "livenessProbe: {httpGet: {port: [1]}}",
            "web.yaml:9: spec.containers[0].livenessProbe.httpGet.port: expected a number or a name, found a list",
        ),
    ] {
        let found = load_error(&with_container(lines));
        assert!(found.starts_with(error), "{lines}: {found}");
    }
}

#[test]
fn what_is_no_object_is_refused_with_its_line() {
    for (text, error) in [
        ("a: [", "web.yaml:1: "),
        ("- a", "web.yaml:1: a Kubernetes object is a mapping with apiVersion, kind and metadata"),
        ("kind: Pod", "web.yaml:1: apiVersion is not set; write apiVersion: v1"),
        ("apiVersion: v1", "web.yaml:1: kind is not set; write, say, kind: Pod"),
        (
            "---\napiVersion: apps/v1\nkind: Deployment",
            "web.yaml:2: no matches for kind \"Deployment\" in version \"apps/v1\"; hull takes Pod, Service, \
             ConfigMap, Secret and List, all in version \"v1\"",
        ),
        ("apiVersion: v1\nkind: List", "web.yaml:1: a List has its objects in items"),
        ("apiVersion: v1\nkind: Pod\nkind: Pod", "web.yaml:3: kind: is set twice, before in line 2"),
        ("{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"kind\": \"Pod\"}", "web.yaml: kind: is set twice"),
        ("apiVersion: v1\nkind: Pod\n: x", "web.yaml:3: a key is missing before the colon"),
    ] {
        let found = load_error(text);
        assert!(found.starts_with(error), "{text:?}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn what_no_object_can_hold_is_told_with_its_field() {
    let wrong = with_container(
        "image: nginx:2\nresources: {limits: {memory: 1e400}}\nenv: [{name: A, name: B, value: .nan}]",
    );
    assert_eq!(
        load_error(&wrong),
        "web.yaml:9: spec.containers[0].image: is set twice, before in line 8\n\
         web.yaml:10: spec.containers[0].resources.limits.memory: is no number that can be used; write it in quotes if it is text\n\
         web.yaml:11: spec.containers[0].env[0].name: is set twice, before in line 11\n\
         web.yaml:11: spec.containers[0].env[0].value: is no number that can be used; write it in quotes if it is text"
    );
}

#[test]
fn bombs_are_refused() {
    let deep = "[".repeat(10_000);
    let block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let json = format!("{{\"a\":{}", "[".repeat(100_000));
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let anchors: String = (0..5_000).map(|n| format!("- &x{n} 1\n")).collect();
    let long = " ".repeat(5 << 20);
    for text in [deep, block, json, laughs, anchors, long] {
        let found = load_error(&text);
        assert!(found.len() < 400, "{found}");
    }
}

#[test]
fn resources_are_exact() {
    let lines =
        "resources:\n  limits: {cpu: 0.5, memory: 64Mi}\n  requests: {cpu: 100m, ephemeral-storage: '1e3'}";
    let accepted = accepted(&with_container(lines));
    let resources = &accepted.pod.spec.containers[0].resources;
    assert_eq!((resources.cpu_request, resources.cpu_limit), (Some(100), Some(500)));
    assert_eq!((resources.memory_request, resources.memory_limit), (Some(64 << 20), Some(64 << 20)));
    assert_eq!((resources.ephemeral_request, resources.ephemeral_limit), (Some(1000), None));
    let shown = serde_json::to_value(&accepted.object.spec.containers[0].resources).unwrap();
    let expected = serde_json::json!({
        "limits": {"cpu": "500m", "memory": "64Mi"},
        "requests": {"cpu": "100m", "ephemeral-storage": "1e3", "memory": "64Mi"},
    });
    assert_eq!(shown, expected);
}

#[test]
fn fields_of_a_scheduler_are_accepted_and_shown() {
    let text = with_spec(
        "nodeSelector: {a: b}\ntolerations: [{key: k, operator: Exists}]\naffinity: {nodeAffinity: {}}\n\
         serviceAccount: robot\nimagePullSecrets: [{name: s}]\ntopologySpreadConstraints: [{maxSkew: 1}]\n\
         priorityClassName: high\nautomountServiceAccountToken: false\nnodeName: here",
    );
    let accepted = accepted(&text);
    assert_eq!(accepted.pod.spec.service_account, "robot");
    let shown = serde_json::to_value(&accepted.object.spec).unwrap();
    assert_eq!(shown["tolerations"], serde_json::json!([{"key": "k", "operator": "Exists"}]));
    assert_eq!(shown["affinity"], serde_json::json!({"nodeAffinity": {}}));
    assert_eq!(shown["serviceAccountName"], "robot");
}

#[test]
fn a_sidecar_may_have_probes_and_hooks() {
    let text = with_spec(
        "initContainers:\n- name: side\n  image: a\n  restartPolicy: Always\n  startupProbe: {tcpSocket: {port: web}}\n  \
         lifecycle: {preStop: {sleep: {seconds: 30}}}",
    );
    let side = accepted(&text).pod.spec.init_containers.remove(0);
    assert_eq!(side.restart_policy, Some(pod::RestartPolicy::Always));
    assert_eq!(side.pre_stop, Some(pod::Handler::Sleep { seconds: 30 }));
    assert!(side.startup.is_some());
}

#[test]
fn a_container_inherits_the_pods_security() {
    let text = with_spec(
        "securityContext: {runAsUser: 5, runAsNonRoot: true, seccompProfile: {type: Unconfined}, fsGroup: 7}\n\
         initContainers:\n- name: i\n  image: a\n  securityContext: {runAsUser: 6, capabilities: {drop: [all], add: [CAP_NET_RAW]}}",
    );
    let spec = accepted(&text).pod.spec;
    assert_eq!(spec.containers[0].security.run_as_user, Some(5));
    assert!(spec.containers[0].security.run_as_non_root);
    assert_eq!(spec.containers[0].security.seccomp, pod::Seccomp::Unconfined);
    let init = &spec.init_containers[0].security;
    assert_eq!(init.run_as_user, Some(6));
    assert_eq!(
        (&init.drop_capabilities[..], &init.add_capabilities[..]),
        (&["ALL".into()][..], &["NET_RAW".into()][..])
    );
    assert_eq!(spec.security.fs_group, Some(7));
}

#[test]
fn a_pod_that_a_cluster_printed_is_accepted_anew() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, uid: old, resourceVersion: '7', creationTimestamp: \
        2020-01-01T00:00:00Z, deletionTimestamp: null, managedFields: [{a: 1}], ownerReferences: [{kind: X}]}\n\
        spec: {containers: [{name: app, image: a, resources: {}}], priority: 0, preemptionPolicy: PreemptLowerPriority}\n\
        status: {phase: Running, conditions: [{type: Ready}]}";
    let object = accepted(text).object;
    assert_eq!(object.metadata.uid, Some(identity().uid));
    assert_eq!((object.status, object.metadata.resource_version), (None, None));
    assert!(object.metadata.managed_fields.is_empty());
}

#[test]
fn the_time_of_creation_has_whole_seconds() {
    let created: Timestamp = "2025-01-02T03:04:05Z".parse().unwrap();
    assert_eq!(accepted(HOOKS).pod.meta.created, created);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_makes_load_panic(text in "(?s).{0,200}") {
        let _loaded = load(&text, "x");
    }

    #[test]
    fn no_yaml_like_text_makes_load_panic(
        parts in proptest::collection::vec("(\\{|\\}|\\[|\\]|: |- |\n|\n  |&a |\\*a |<<: |\\||>|'|\"|#|%|!!|a|1e9|---|,|\\?)", 0..60)
    ) {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {}", parts.concat());
        let _loaded = load(&text, "x");
    }

    #[test]
    fn no_change_of_a_manifest_makes_it_panic(
        which in 0_usize..5, at in 0_usize..2000, insert in "[ \\[\\]{}:,\n0-9a-z'\"-]{0,4}", remove in 0_usize..6
    ) {
        let mut text: String = [INIT_CHAIN, HOOKS, LIVENESS_EXEC, LIVENESS_TCP, READINESS][which].into();
        let at = at % text.len();
        let end = (at + remove).min(text.len());
        text.replace_range(at..end, &insert);
        for object in load(&text, "x").into_iter().flatten() {
            if let Loaded::Pod(pod) = object {
                let _accepted = accept(*pod, identity());
            }
        }
    }
}
