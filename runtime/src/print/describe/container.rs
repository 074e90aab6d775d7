//! The containers of a described pod.

use serde_json::Value;

use super::super::{age, field};
use super::{Page, environment};

/// One list of containers under its title.
pub(super) fn all(page: &mut Page, pod: &Value, title: &str, specs: &str, statuses: &str) {
    page.line(0, &format!("{title}:"));
    let statuses = field::list(pod, &format!("/status/{statuses}"));
    for container in field::list(pod, &format!("/spec/{specs}")) {
        let name = field::text(container, "/name");
        let status = statuses.iter().find(|status| field::text(status, "/name") == name);
        page.line(1, &format!("{name}:"));
        identity(page, container, status);
        words(page, "Command", field::list(container, "/command"));
        words(page, "Args", field::list(container, "/args"));
        if let Some(status) = status {
            states(page, status);
        }
        if let Some(wanted) = container.get("resources") {
            resources(page, 2, wanted);
        }
        for (title, kind) in
            [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
        {
            if let Some(probe) = field::some(container, &format!("/{kind}")) {
                page.entry(2, title, &probe_text(probe));
            }
        }
        environment::all(page, pod, container);
        mounts(page, container);
    }
}

fn identity(page: &mut Page, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        page.entry(2, "Container ID", field::text(status, "/containerID"));
    }
    page.entry(2, "Image", field::text(container, "/image"));
    if let Some(status) = status {
        page.entry(2, "Image ID", field::text(status, "/imageID"));
    }
    let ports = field::list(container, "/ports");
    entry_of_ports(page, "Port", ports.iter().map(port).collect());
    entry_of_ports(page, "Host Port", ports.iter().map(host_port).collect());
    seccomp(page, 2, container.get("securityContext"));
}

fn entry_of_ports(page: &mut Page, title: &str, ports: Vec<String>) {
    match ports.as_slice() {
        [] => page.entry(2, title, "<none>"),
        [port] => page.entry(2, title, port),
        ports => page.entry(2, &format!("{title}s"), &ports.join(", ")),
    }
}

fn protocol(port: &Value) -> &str {
    match field::text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

fn port(port: &Value) -> String {
    let text = format!("{}/{}", field::number(port, "/containerPort"), protocol(port));
    match field::text(port, "/name") {
        "" => text,
        name => format!("{text} ({name})"),
    }
}

fn host_port(port: &Value) -> String {
    format!("{}/{}", field::number(port, "/hostPort"), protocol(port))
}

/// The seccomp profile of a `securityContext`, if it names one.
pub(super) fn seccomp(page: &mut Page, level: usize, security: Option<&Value>) {
    let Some(profile) = security.and_then(|security| field::some(security, "/seccompProfile")) else {
        return;
    };
    page.entry(level, "SeccompProfile", field::text(profile, "/type"));
    if field::text(profile, "/type") == "Localhost" {
        let level = if level == 0 { 0 } else { level + 1 };
        page.entry(level, "LocalhostProfile", field::text(profile, "/localhostProfile"));
    }
}

fn words(page: &mut Page, title: &str, words: &[Value]) {
    if words.is_empty() {
        return;
    }
    page.line(2, &format!("{title}:"));
    for line in words.iter().filter_map(Value::as_str).flat_map(|word| word.split('\n')) {
        page.line(3, line);
    }
}

fn states(page: &mut Page, status: &Value) {
    state(page, "State", status.get("state").unwrap_or(&Value::Null));
    if let Some(last) = status.get("lastState").filter(|last| field::some(last, "/terminated").is_some()) {
        state(page, "Last State", last);
    }
    page.entry(2, "Ready", if field::is_true(status, "/ready") { "True" } else { "False" });
    page.entry(2, "Restart Count", &field::number(status, "/restartCount").to_string());
}

fn state(page: &mut Page, title: &str, state: &Value) {
    if let Some(running) = field::some(state, "/running") {
        page.entry(2, title, "Running");
        page.entry(3, "Started", &age::rfc1123(field::time(running, "/startedAt")));
    } else if let Some(ended) = field::some(state, "/terminated") {
        page.entry(2, title, "Terminated");
        page.entry_if(3, "Reason", field::text(ended, "/reason"));
        page.entry_if(3, "Message", field::text(ended, "/message"));
        page.entry(3, "Exit Code", &field::number(ended, "/exitCode").to_string());
        if field::number(ended, "/signal") > 0 {
            page.entry(3, "Signal", &field::number(ended, "/signal").to_string());
        }
        page.entry(3, "Started", &age::rfc1123(field::time(ended, "/startedAt")));
        page.entry(3, "Finished", &age::rfc1123(field::time(ended, "/finishedAt")));
    } else {
        page.entry(2, title, "Waiting");
        page.entry_if(3, "Reason", field::text(state, "/waiting/reason"));
    }
}

/// Limits and requests, sorted by name.
pub(super) fn resources(page: &mut Page, level: usize, resources: &Value) {
    for (title, key) in [("Limits", "limits"), ("Requests", "requests")] {
        let Some(quantities) = resources.get(key).and_then(Value::as_object) else {
            continue;
        };
        if quantities.is_empty() {
            continue;
        }
        page.line(level, &format!("{title}:"));
        let mut quantities: Vec<_> = quantities.iter().collect();
        quantities.sort_by_key(|(name, _)| name.as_str());
        for (name, quantity) in quantities {
            page.entry(level + 1, name, &field::scalar(quantity));
        }
    }
}

/// What a probe does, and its numbers.
fn probe_text(probe: &Value) -> String {
    let number = |name: &str, default: i64| match field::number(probe, name) {
        0 => default,
        number => number,
    };
    let numbers = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("/initialDelaySeconds", 0),
        number("/timeoutSeconds", 1),
        number("/periodSeconds", 10),
        number("/successThreshold", 1),
        number("/failureThreshold", 3),
    );
    format!("{} {numbers}", handler(probe))
}

fn handler(probe: &Value) -> String {
    if let Some(exec) = field::some(probe, "/exec") {
        let words: Vec<_> = field::list(exec, "/command").iter().map(field::scalar).collect();
        format!("exec [{}]", words.join(" "))
    } else if let Some(get) = field::some(probe, "/httpGet") {
        format!("http-get {}", url(get))
    } else if let Some(socket) = field::some(probe, "/tcpSocket") {
        format!("tcp-socket {}:{}", field::text(socket, "/host"), field::scalar(&socket["port"]))
    } else if let Some(grpc) = field::some(probe, "/grpc") {
        format!("grpc <pod>:{} {}", field::number(grpc, "/port"), field::text(grpc, "/service"))
    } else {
        "unknown".to_owned()
    }
}

fn url(get: &Value) -> String {
    let scheme = match field::text(get, "/scheme") {
        "" => "http".to_owned(),
        scheme => scheme.to_lowercase(),
    };
    let host = match field::text(get, "/host") {
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let mut path = String::new();
    for byte in field::text(get, "/path").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => path.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => {
                path.push(char::from(byte));
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}:{}{slash}{path}", field::scalar(&get["port"]))
}

fn mounts(page: &mut Page, container: &Value) {
    let mut mounts: Vec<&Value> = field::list(container, "/volumeMounts").iter().collect();
    mounts.sort_by_key(|mount| field::text(mount, "/mountPath"));
    page.line(2, if mounts.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    for mount in mounts {
        let mut flags =
            vec![if field::is_true(mount, "/readOnly") { "ro".to_owned() } else { "rw".to_owned() }];
        if !field::text(mount, "/subPath").is_empty() {
            flags.push(format!("path={:?}", field::text(mount, "/subPath")));
        }
        let (path, name) = (field::text(mount, "/mountPath"), field::text(mount, "/name"));
        page.line(3, &format!("{path} from {name} ({})", flags.join(",")));
    }
}
