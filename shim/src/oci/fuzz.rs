//! What of this reads foreign bytes, for the fuzz targets in `tests/fuzz`. No other build has it.

use std::path::Path;
use std::sync::OnceLock;

use oci_spec::runtime::Spec;

use super::command::parse::{Order, Parsed};
use super::command::table::{Command, GLOBAL};
use super::store::Record;
use super::{config, quantity, signal};
use crate::cgroup::resources::{self, Devices, Live, Version};
use crate::container::engine::files::{Abilities, Base, ChangeRoot};
use crate::container::engine::plan::{CgroupView, Keyring, Known, MakerRights, Plan, Start};
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::sys::process::Vector;

/// A place that no configuration finds anything in.
const NOWHERE: &str = "/nonexistent/bundle/rootfs";

/// `config.json`, up to the plan of what would be done, in words.
pub fn config(bytes: &[u8]) {
    if let Ok(spec) = config::parse(bytes) {
        drop(config::check_version(&spec));
        plan(&spec);
    }
}

/// A list of mount options, one per line.
pub fn options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let options: Vec<&str> = text.lines().collect();
    for (kind, destination) in
        [("tmpfs", "/a"), ("bind", "/b"), ("cgroup", "/sys/fs/cgroup"), ("proc", "/proc")]
    {
        let spec = serde_json::json!({
            "ociVersion": "1.0.0", "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": destination, "type": kind, "source": "/s", "options": options}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "user"}],
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 9}],
                "gidMappings": [{"containerID": 0, "hostID": 0, "size": 9}]},
        });
        plan(&serde_json::from_value(spec).expect("it is a configuration whatever the options are"));
    }
}

fn plan(spec: &Spec) {
    static KERNEL: OnceLock<Abilities> = OnceLock::new();
    let Ok(process) = config::check(spec.process().as_ref()) else { return };
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        for version in [Version::V1, Version::V2] {
            if let Ok(plan) = resources::plan(resources, version, Devices::Restrict, &Live::default()) {
                drop(plan.to_string());
            }
        }
    }
    let Ok(identity) = Identity::new(spec, Path::new(NOWHERE), process.oom_score_adj()) else { return };
    let args = process.args().clone().unwrap_or_default();
    let Ok(program) = Program::new(&identity, &args, &[]) else { return };
    for maker in [MakerRights::Root, MakerRights::Rootless] {
        let known = Known {
            id: "fuzz",
            bundle: Path::new("/nonexistent/bundle"),
            sandbox: None,
            cgroup: CgroupView::V1(vec![("cpu,cpuacct".to_owned(), "/sys/fs/cgroup/cpu,cpuacct/x".into())]),
            maker,
            kernel: *KERNEL.get_or_init(Abilities::probe),
            root: Path::new(NOWHERE),
            change_root: ChangeRoot::Pivot,
            base: Base::Host,
            keyring: Keyring::New,
            start: Start::Later,
        };
        if let Ok(plan) = Plan::new(spec, &known, &|| Vector::new(Vec::new()), &program.environment) {
            assert!(!plan.to_string().is_empty(), "a plan has steps");
        }
    }
}

/// The process of `exec`.
pub fn process(bytes: &[u8]) {
    let Ok((process, _)) = config::parse_process("process.json", bytes) else { return };
    if config::check(Some(&process)).is_err() {
        return;
    }
    let mut spec = Spec::default();
    spec.set_process(Some(process));
    if let Ok(identity) = Identity::new(&spec, Path::new(NOWHERE), None) {
        let args = spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default();
        drop(Program::new(&identity, &args, &[]));
    }
}

/// A container's record.
pub fn state(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let written = serde_json::to_vec(&record).expect("a record is JSON");
        let again: Record = serde_json::from_slice(&written).expect("what was written is read");
        assert_eq!(serde_json::to_vec(&again).expect("a record is JSON"), written);
        drop(record.cgroup.group());
    }
}

/// A command line, one word per line.
pub fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    for word in &words {
        drop((signal::parse(word), quantity::bytes(word)));
    }
    let Ok(global) = Parsed::new(GLOBAL, Order::First, &words) else { return };
    let Some((name, rest)) = global.arguments.split_first() else { return };
    if let Some(command) = Command::named(name)
        && let Ok(given) = Parsed::new(command.flags, command.order, rest)
    {
        for flag in command.flags {
            drop((given.is_on(flag.name), given.value(flag.name), given.number::<i64>(flag.name)));
        }
    }
}
