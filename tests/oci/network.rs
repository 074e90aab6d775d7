//! `linux.netDevices` (oci-runtime.md 4.13).

use std::process::Command;
use std::time::Duration;

use hull_tests::{Output, command};
use serde_json::json;

use crate::bundle::{Bundle, is_peer};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs the container from a network namespace of its own, in which `prepare` ran before.
fn run_after(bundle: &Bundle, prepare: &str) -> Output {
    let run = bundle.command(&["run", &bundle.id]);
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-ec", &format!("{prepare}\n\"$@\" && ip -o link"), "sh"]);
    command.arg(run.get_program()).args(run.get_args()).current_dir(&bundle.directory);
    command::run(&mut command, "", LIMIT)
}

#[test]
fn an_interface_moves_with_its_name_and_addresses() {
    if is_peer() {
        // Of runtime-spec 1.3, which Debian's does not know yet.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("/bin/busybox ip -o addr; /bin/busybox ip -o link").configure(|config| {
        config["linux"]["netDevices"] =
            json!({"one": {"name": "net%d"}, "two": {}, "three": {"name": "net%d"}});
    });
    let prepare = "ip link add one type veth peer name p1; ip link add two type veth peer name p2
        ip link add three type veth peer name p3
        ip addr add 10.9.8.7/24 dev one; ip link set one up
        ip addr add 10.9.7.7/24 dev two; ip addr add fd00::7/64 dev two nodad; ip link set two up";
    let shown = run_after(&bundle, prepare).ok();
    let line = |words: &[&str]| shown.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&["net0", "inet 10.9.8.7/24"]), "{shown}");
    assert!(line(&["two", "inet 10.9.7.7/24"]) && line(&["two", "inet6 fd00::7/64"]), "{shown}");
    assert!(line(&["net1", ",UP"]) && line(&["two", ",UP"]), "{shown}");
    // The host's own list came last.
    let (_, host) = shown.rsplit_once("1: lo").unwrap();
    assert!(!host.contains(" two@"), "{shown}");
}

#[test]
fn an_interface_that_is_not_there_is_told_and_the_others_stay() {
    if is_peer() {
        // Of runtime-spec 1.3, which Debian's does not know yet.
        return;
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/true"]).configure(|config| {
        config["linux"]["netDevices"] = json!({"one": {}, "other": {}});
    });
    let prepare = "ip link add one type veth peer name p1; trap 'ip -o link' EXIT";
    let output = run_after(&bundle, prepare);
    assert!(output.stdout.contains(" one@"), "{output}");
    let told = output.fails(1);
    assert!(told.contains("link not found for interface other on runtime namespace"), "{told}");
    bundle.assert_gone();
}

/// What makes a container fail whose interfaces moved already, and what is told of it.
type Row = (fn(&mut serde_json::Value), &'static str);

#[test]
fn interfaces_go_back_where_there_is_no_container_after_all() {
    if is_peer() {
        // Of runtime-spec 1.3, which Debian's does not know yet.
        return;
    }
    let rows: [Row; 4] = [
        (
            |config| {
                config["linux"]["netDevices"] = json!({"one": {"name": "same"}, "two": {"name": "same"}});
            },
            "network device two",
        ),
        (
            |config| config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}),
            "error running createRuntime hook #0",
        ),
        (|config| config["process"]["args"] = json!(["nonesuch"]), "executable file not found in $PATH"),
        (
            |config| {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "user"}));
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
                config["process"]["args"] = json!(["nonesuch"]);
            },
            "executable file not found in $PATH",
        ),
    ];
    let prepare = "ip link add one type veth peer name p1; ip link add two type veth peer name p2
        ip addr add 10.9.8.7/24 dev one; ip addr add fd00::7/64 dev one nodad; ip link set one up
        trap 'ip -o addr; ip -o link' EXIT";
    for (change, text) in rows {
        let mut bundle = bundle!();
        bundle
            .configure(|config| config["linux"]["netDevices"] = json!({"one": {"name": "eth7"}, "two": {}}));
        bundle.configure(change);
        let output = run_after(&bundle, prepare);
        let line =
            |words: &[&str]| output.stdout.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(line(&["one", "inet 10.9.8.7/24"]) && line(&["one", "inet6 fd00::7/64"]), "{output}");
        assert!(line(&[" one@", ",UP"]) && line(&[" two@"]) && !line(&[" two@", ",UP"]), "{output}");
        let told = output.fails(1);
        assert!(told.contains(text), "{told}");
        bundle.assert_gone();
    }
}
