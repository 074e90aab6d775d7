//! Bad pods, with the exact text of their errors: kubectl's.

use super::*;

#[test]
fn several_errors_stand_on_lines_of_their_own() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: A_b}], restartPolicy: Often}";
    assert_eq!(
        refusal(text),
        "The Pod \"web\" is invalid: \n\
         * spec.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case \
         alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
         or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')\n\
         * spec.containers[0].image: Required value\n\
         * spec.restartPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"Never\", \"OnFailure\""
    );
}

/// Lines of a container and the one error that they bring.
const BAD_CONTAINERS: &[(&str, &str)] = &[
    (
        "imagePullPolicy: Sometimes",
        "imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
    ),
    (
        "terminationMessagePolicy: No",
        "terminationMessagePolicy: Invalid value: \"No\": must be 'File' or 'FallbackToLogsOnError'",
    ),
    ("ports: [{}]", "ports[0].containerPort: Required value"),
    (
        "ports: [{containerPort: 65536}]",
        "ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    (
        "ports: [{containerPort: 1, protocol: tcp}]",
        "ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
    ),
    (
        "ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]",
        "ports[1].name: Duplicate value: \"a\"",
    ),
    (
        "ports: [{containerPort: 1, name: '80'}]",
        "ports[0].name: Invalid value: \"80\": must contain at least one letter (a-z)",
    ),
    (
        "ports: [{containerPort: 1, hostPort: 1}]",
        "ports[0].hostPort: not supported by hull: ports of the host are not mapped yet; use hostNetwork, or the pod's address",
    ),
    (
        "env: [{name: A=B, value: c}]",
        "env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
    ),
    ("env: [{value: c}]", "env[0].name: Required value"),
    (
        "env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
        "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
    ),
    (
        "env: [{name: A, valueFrom: {}}]",
        "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
    ),
    (
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.foo}}}]",
        "env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.foo\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
    ),
    (
        "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Ki}}}]",
        "env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1, 1m are supported with the cpu resource",
    ),
    (
        "env: [{name: A, valueFrom: {configMapKeyRef: {name: c}}}]",
        "env[0].valueFrom.configMapKeyRef.key: Required value",
    ),
    (
        "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: f, key: K}}}]",
        "env[0].valueFrom.fileKeyRef.volumeName: Not found: \"v\"",
    ),
    ("envFrom: [{}]", "envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"),
    ("volumeMounts: [{name: data, mountPath: /d}]", "volumeMounts[0].name: Not found: \"data\""),
    (
        "resources: {requests: {cpu: 2}, limits: {cpu: 1}}",
        "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
    ),
    (
        "resources: {limits: {cpu: -1}}",
        "resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
    ),
    (
        "resources: {limits: {memory: 1Mb}}",
        "resources.limits[memory]: Invalid value: \"1Mb\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    (
        "resources: {limits: {hugepages-2Mi: 2Mi}}",
        "resources.limits[hugepages-2Mi]: not supported by hull: only cpu, memory and ephemeral-storage can be asked for",
    ),
    (
        "resources: {limits: {cpus: 1}}",
        "resources.limits[cpus]: Invalid value: \"cpus\": must be a standard resource for containers",
    ),
    ("livenessProbe: {}", "livenessProbe: Required value: must specify a handler type"),
    (
        "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}",
        "livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
    ),
    ("livenessProbe: {exec: {}}", "livenessProbe.exec.command: Required value"),
    (
        "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
        "livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        "livenessProbe: {tcpSocket: {port: 0}}",
        "livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    (
        "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}",
        "livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}",
        "livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 5}",
        "readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
    ),
    (
        "startupProbe: {httpGet: {port: 1, scheme: http}}",
        "startupProbe.httpGet.scheme: Unsupported value: \"http\": supported values: \"HTTP\", \"HTTPS\"",
    ),
    (
        "startupProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b'}]}}",
        "startupProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
    ),
    (
        "lifecycle: {preStop: {sleep: {seconds: 31}}}",
        "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
    ),
    ("lifecycle: {postStart: {}}", "lifecycle.postStart: Required value: must specify a handler type"),
    (
        "lifecycle: {stopSignal: SIGINT}",
        "lifecycle.stopSignal: not supported by hull: the image's STOPSIGNAL is used; set it there, or send the signal from preStop",
    ),
    (
        "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]",
        "restartPolicy: Required value: must specify restartPolicy when restart rules are used",
    ),
    ("volumeDevices: [{}]", "volumeDevices: not supported by hull: there are no block volumes"),
    (
        "securityContext: {procMount: Unmasked}",
        "securityContext.procMount: not supported by hull: it needs hostUsers: false",
    ),
    (
        "securityContext: {runAsUser: -1}",
        "securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
        "securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        "securityContext: {seLinuxOptions: {}}",
        "securityContext.seLinuxOptions: not supported by hull: SELinux labels are not set",
    ),
    (
        "securityContext: {appArmorProfile: {type: Localhost}}",
        "securityContext.appArmorProfile: not supported by hull: AppArmor profiles are not loaded; use Unconfined, or leave it out",
    ),
    (
        "securityContext: {seccompProfile: {type: Localhost}}",
        "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
    ),
    (
        "securityContext: {capabilities: {add: [NET_FOO]}}",
        "securityContext.capabilities.add[0]: Invalid value: \"NET_FOO\": is no capability of Linux",
    ),
];

#[test]
fn bad_containers_are_refused_in_kubectls_words() {
    for (lines, error) in BAD_CONTAINERS {
        let expected = format!("The Pod \"web\" is invalid: spec.containers[0].{error}");
        assert_eq!(refusal(&with_container(lines)), expected, "{lines}");
    }
}

/// Lines of a spec and the one error that they bring.
const BAD_SPECS: &[(&str, &str)] = &[
    (
        "activeDeadlineSeconds: 0",
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    ("dnsPolicy: None", "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    (
        "dnsConfig: {nameservers: [x]}",
        "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    ),
    ("dnsConfig: {options: [{}]}", "spec.dnsConfig.options[0]: Required value: must not be empty"),
    (
        "hostAliases: [{ip: '1'}]",
        "spec.hostAliases[0].ip: Invalid value: \"1\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    ),
    (
        "shareProcessNamespace: true\nhostPID: true",
        "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    (
        "runtimeClassName: gvisor",
        "spec.runtimeClassName: not supported by hull: there is one runtime; leave it out",
    ),
    (
        "hostUsers: false",
        "spec.hostUsers: not supported by hull: user namespaces are not there yet; leave it out or set true",
    ),
    (
        "ephemeralContainers: [{}]",
        "spec.ephemeralContainers: not supported by hull: a pod starts without them",
    ),
    (
        "os: {name: windows}",
        "spec.os.name: not supported by hull: containers run on Linux; set linux or leave it out",
    ),
    ("readinessGates: [{conditionType: ''}]", "spec.readinessGates[0].conditionType: Required value"),
    ("initContainers: [{name: app, image: a}]", "spec.initContainers[0].name: Duplicate value: \"app\""),
    (
        "initContainers: [{name: i, image: a, livenessProbe: {tcpSocket: {port: 1}}}]",
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    ),
    ("volumes: [{name: a}, {name: a}]", "spec.volumes[1].name: Duplicate value: \"a\""),
    (
        "volumes: [{name: a, emptyDir: {}, hostPath: {path: /}}]",
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    ),
    (
        "volumes: [{name: a, nfs: {}}]",
        "spec.volumes[0].nfs: not supported by hull: use emptyDir, hostPath, configMap, secret, downwardAPI or projected",
    ),
    (
        "volumes: [{name: a, hostPath: {path: /a/../b}}]",
        "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
    ),
    ("volumes: [{name: a, configMap: {}}]", "spec.volumes[0].configMap.name: Required value"),
    (
        "volumes: [{name: a, secret: {secretName: s, defaultMode: 01000}}]",
        "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
    ),
    (
        "volumes: [{name: a, projected: {sources: [{serviceAccountToken: {}}]}}]",
        "spec.volumes[0].projected.sources[0].serviceAccountToken: not supported by hull: there is no API server that would issue it",
    ),
    (
        "volumes: [{name: a, downwardAPI: {items: [{path: ../x, fieldRef: {fieldPath: metadata.name}}]}}]",
        "spec.volumes[0].downwardAPI.items[0].path: Invalid value: \"../x\": must not contain '..'",
    ),
    (
        "securityContext: {sysctls: [{name: kernel.pid_max, value: '1'}]}",
        "spec.securityContext.sysctls[0].name: Forbidden: this sysctl belongs to the whole host, not to a pod",
    ),
    (
        "hostNetwork: true\ninitContainers: [{name: i, image: a, ports: [{containerPort: 1, hostPort: 2}]}]",
        "spec.initContainers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
    ),
    (
        "hostNetwork: true\ninitContainers: [{name: i, image: a, ports: [{containerPort: 1}, {containerPort: 1}]}]",
        "spec.initContainers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
    ),
    (
        "hostnameOverride: a\nhostNetwork: true",
        "spec.hostnameOverride: Forbidden: hostnameOverride cannot be used with hostNetwork",
    ),
];

#[test]
fn bad_specs_are_refused_in_kubectls_words() {
    for (lines, error) in BAD_SPECS {
        let expected = format!("The Pod \"web\" is invalid: {error}");
        assert_eq!(refusal(&with_spec(lines)), expected, "{lines}");
    }
}

#[test]
fn bad_metadata_is_refused() {
    let base = raw_pod(&with_container(""));
    let refused = |change: fn(&mut raw::Pod)| {
        let mut pod = base.clone();
        change(&mut pod);
        accept(pod, identity()).unwrap_err().to_string()
    };
    let no_name = refused(|pod| pod.metadata.name = None);
    assert_eq!(
        no_name,
        "The Pod \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    let label = refused(|pod| drop(pod.metadata.labels.insert("a".into(), "b c".into())));
    assert!(
        label.starts_with(
            "The Pod \"web\" is invalid: metadata.labels: Invalid value: \"b c\": a valid label"
        )
    );
    let big = refused(|pod| drop(pod.metadata.annotations.insert("a".into(), "x".repeat(256 << 10))));
    assert_eq!(
        big,
        "The Pod \"web\" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes"
    );
    let none = refused(|pod| pod.spec.containers.clear());
    assert_eq!(none, "The Pod \"web\" is invalid: spec.containers: Required value");
}
