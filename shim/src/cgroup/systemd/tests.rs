//! Units, properties, annotations and messages, and a real message bus.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use serde_json::{Value as Json, json};

use super::bus::{Bus, Error, Peer, Until};
use super::manager::{Manager, start_body};
use super::message::{Kind, Malformed, Message, Value};
use super::properties::{Property, Target, of_limits, of_new_unit};
use super::*;
use crate::cgroup::resources::Version;

fn unit(path: &str) -> Result<Unit, Invalid> {
    Unit::from_oci_path(Some(path), "id", "system.slice")
}

#[test]
fn a_path_for_systemd_names_slice_prefix_and_unit() {
    let scope = unit("machine-a.slice:libpod:77").unwrap();
    assert_eq!(scope.name, "libpod-77.scope");
    assert_eq!(scope.path().unwrap(), Path::new("/machine.slice/machine-a.slice/libpod-77.scope"));
    assert_eq!(unit(":crio:77").unwrap().path().unwrap(), Path::new("/system.slice/crio-77.scope"));
    assert_eq!(unit("-.slice:x:y").unwrap().path().unwrap(), Path::new("/x-y.scope"));
    assert_eq!(unit("a.slice::a-b.slice").unwrap().name, "a-b.slice");
    let default = Unit::from_oci_path(None, "id", "user.slice").unwrap();
    assert_eq!((default.slice.as_str(), default.name.as_str()), ("user.slice", "hull-id.scope"));
}

#[test]
fn other_paths_for_systemd_are_refused() {
    let error = unit("/a/b").unwrap_err().to_string();
    let expected = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead";
    assert_eq!(error, expected);
    for slice in ["a", "a--b.slice", "-a.slice", "a/b.slice", ".slice"] {
        let error = unit(&format!("{slice}:x:y")).unwrap_err().to_string();
        assert_eq!(error, format!("invalid slice name: {slice}"));
    }
    assert!(unit("a.slice:x:../y").is_err());
}

const DEVICES: &str = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n136 other\n";
const V2: Target<'_> = Target { version: Version::V2, systemd: 252, devices: DEVICES };
const V1: Target<'_> = Target { version: Version::V1, systemd: 252, devices: DEVICES };

fn resources(json: Json) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn limits(json: Json, target: Target<'_>) -> Vec<(String, Value)> {
    let all = of_limits(&resources(json), target).unwrap();
    all.into_iter().map(|property| (property.name, property.value)).collect()
}

fn numbers(expected: &[(&str, u64)]) -> Vec<(String, Value)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), Value::U64(*value))).collect()
}

#[test]
fn limits_become_properties() {
    let all = || {
        json!({
            "memory": { "limit": 100, "swap": 150, "reservation": 50 },
            "cpu": { "shares": 1024, "quota": 5500, "period": 10_000 },
            "pids": { "limit": 7 }
        })
    };
    let expected = [
        ("MemoryMax", 100),
        ("MemoryLow", 50),
        ("MemorySwapMax", 50),
        ("CPUWeight", 100),
        ("CPUQuotaPeriodUSec", 10_000),
        ("CPUQuotaPerSecUSec", 550_000),
        ("TasksMax", 7),
    ];
    assert_eq!(limits(all(), V2), numbers(&expected));
    let expected = [
        ("MemoryLimit", 100),
        ("CPUShares", 1024),
        ("CPUQuotaPeriodUSec", 10_000),
        ("CPUQuotaPerSecUSec", 550_000),
        ("TasksMax", 7),
    ];
    assert_eq!(limits(all(), V1), numbers(&expected));
}

#[test]
fn what_systemd_counts_coarser_is_rounded_up() {
    let quota = |quota: i64| limits(json!({ "cpu": { "quota": quota } }), V2);
    assert_eq!(quota(1), numbers(&[("CPUQuotaPerSecUSec", 10_000)]));
    assert_eq!(quota(100_000), numbers(&[("CPUQuotaPerSecUSec", 1_000_000)]));
    assert_eq!(quota(-1), numbers(&[("CPUQuotaPerSecUSec", u64::MAX)]));
    assert_eq!(limits(json!({ "pids": { "limit": 0 } }), V2), numbers(&[("TasksMax", 1)]));
    assert_eq!(limits(json!({ "pids": { "limit": -1 } }), V2), numbers(&[("TasksMax", u64::MAX)]));
    let unlimited = numbers(&[("MemoryMax", u64::MAX), ("MemorySwapMax", u64::MAX)]);
    assert_eq!(limits(json!({ "memory": { "limit": -1 } }), V2), unlimited);
    assert_eq!(limits(json!({ "cpu": { "idle": 1, "shares": 9 } }), V2), numbers(&[("CPUWeight", 0)]));
}

#[test]
fn sets_become_bits_where_systemd_knows_them() {
    let cpus = || json!({ "cpu": { "cpus": "0-1,8" } });
    let bits = Value::Array("y".into(), vec![Value::Byte(3), Value::Byte(1)]);
    assert_eq!(limits(cpus(), V2), [("AllowedCPUs".to_owned(), bits)]);
    assert!(limits(cpus(), Target { systemd: 243, ..V2 }).is_empty());
}

#[test]
fn unified_values_are_told_to_systemd_too() {
    let unified = json!({ "unified": { "memory.high": "5", "pids.max": "max", "cpu.max": "5000 10000", "memory.oom.group": "1" } });
    let expected = [
        ("CPUQuotaPeriodUSec", 10_000),
        ("CPUQuotaPerSecUSec", 500_000),
        ("MemoryHigh", 5),
        ("TasksMax", u64::MAX),
    ];
    assert_eq!(limits(unified, V2), numbers(&expected));
}

fn new_unit(json: Json, annotations: &[(&str, &str)]) -> Vec<Property> {
    let annotations: HashMap<String, String> =
        annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    of_new_unit(&unit("a.slice:x:y").unwrap(), Some(7), &resources(json), &annotations, V2).unwrap()
}

#[test]
fn a_new_unit_is_delegated_and_restricted() {
    let json =
        json!({ "devices": [{ "allow": false, "access": "rwm" }], "unified": { "memory.oom.group": "1" } });
    let all = new_unit(json, &[("org.systemd.property.TimeoutStopSec", "uint64 5"), ("other", "x")]);
    let find =
        |name: &str| all.iter().rev().find(|property| property.name == name).map(|it| it.value.clone());
    assert_eq!(find("Slice"), Some(Value::Text("a.slice".into())));
    assert_eq!(find("Delegate"), Some(Value::Bool(true)));
    assert_eq!(find("DefaultDependencies"), Some(Value::Bool(false)));
    assert_eq!(find("PIDs"), Some(Value::Array("u".into(), vec![Value::U32(7)])));
    assert_eq!(find("OOMPolicy"), Some(Value::Text("kill".into())));
    assert_eq!(find("TimeoutStopUSec"), Some(Value::U64(5_000_000)));
    assert_eq!(find("DevicePolicy"), Some(Value::Text("strict".into())));
    let Some(Value::Array(_, entries)) = find("DeviceAllow") else { panic!("no list of devices") };
    let entry = |device: &str, access: &str| {
        Value::Tuple(vec![Value::Text(device.to_owned()), Value::Text(access.to_owned())])
    };
    let expected = [("/dev/char/1:3", "rwm"), ("char-pts", "rwm"), ("char-*", "m"), ("block-*", "m")];
    assert!(expected.iter().all(|(device, access)| entries.contains(&entry(device, access))), "{entries:?}");
    let open = new_unit(json!({ "devices": [{ "allow": true, "access": "rwm" }] }), &[]);
    assert!(open.contains(&Property { name: "DevicePolicy".into(), value: Value::Text("auto".into()) }));
}

fn annotated(name: &str, value: &str) -> Result<Property, String> {
    let annotations = HashMap::from([(format!("org.systemd.property.{name}"), value.to_owned())]);
    let all = annotation::properties(&annotations).map_err(|error| error.to_string())?;
    Ok(all.into_iter().next().unwrap())
}

#[test]
fn annotations_are_read_as_gvariant_has_them() {
    let texts = |texts: &[&str]| {
        Value::Array("s".into(), texts.iter().map(|text| Value::Text((*text).to_owned())).collect())
    };
    let cases = [
        ("true", Value::Bool(true)),
        ("5", Value::I32(5)),
        ("uint64 0x10", Value::U64(16)),
        ("int64 -3", Value::I64(-3)),
        ("byte 7", Value::Byte(7)),
        ("1.5", Value::F64(1.5)),
        ("'a \\'b\\''", Value::Text("a 'b'".into())),
        ("\"x\"", Value::Text("x".into())),
        ("['a.service', 'b.service']", texts(&["a.service", "b.service"])),
        ("@as []", texts(&[])),
        ("@au [1,2]", Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)])),
        (
            "[('a', true)]",
            Value::Array("(sb)".into(), vec![Value::Tuple(vec![Value::Text("a".into()), Value::Bool(true)])]),
        ),
    ];
    for (text, value) in cases {
        assert_eq!(annotated("After", text).unwrap().value, value, "{text}");
    }
    let seconds = annotated("RuntimeMaxSec", "2").unwrap();
    assert_eq!((seconds.name.as_str(), seconds.value), ("RuntimeMaxUSec", Value::U64(2_000_000)));
    let given = annotated("RuntimeMaxUSec", "uint64 2").unwrap();
    assert_eq!((given.name.as_str(), given.value), ("RuntimeMaxUSec", Value::U64(2)));
}

#[test]
fn annotations_that_are_none_are_refused() {
    for value in
        ["", "[]", "'a", "[1, 'a']", "5 6", "byte 256", "(1", "@as", "é", "[[[[[[[[[[[[[[[[[[[[1", "'\\"]
    {
        assert!(annotated("After", value).is_err(), "{value}");
    }
    assert!(annotated("x y", "1").is_err() && annotated("ab", "1").is_err());
    assert!(annotated("StopSec", "'a'").unwrap_err().contains("not a number of seconds"));
    assert!(annotated("StopSec", "int64 -1").is_err());
}

/// What systemd's own library makes of this call: `busctl call … StartTransientUnit 'ssa(sv)a(sa(sv))' …`.
const GOLDEN: &str = "6c0104015801000002000000b600000001016f00190000002f6f72672f667265656465736b746f702f73797374656d643100\
000000000000030173001200000053746172745472616e7369656e74556e697400000000000002017300200000006f72672e667265656465736b746f\
702e73797374656d64312e4d616e61676572000000000000000006017300180000006f72672e667265656465736b746f702e73797374656d64310000\
0000000000000801670010737361287376296128736128737629290000000c00000068756c6c2d612e73636f706500000000070000007265706c6163\
6500280100000000000005000000536c696365000173000000000c00000073797374656d2e736c69636500000000000000000800000044656c656761\
7465000162000100000000000000040000005049447300026175000000000400000092100000090000004d656d6f72794d6178000174000000000000\
000000001000000000000b000000416c6c6f7765644350557300026179000200000003010000000000000b000000446576696365416c6c6f77000561\
28737329000032000000000000000d0000002f6465762f636861722f313a330000000300000072776d000000000006000000636861722d2a00000100\
00006d000000000000000500000057616e7473000261730000000c00000007000000782e736c69636500070000004e6f7468696e6700056128737329\
0000000000000000000000000000";

fn golden() -> Vec<u8> {
    let digits: Vec<u8> = GOLDEN.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn golden_call() -> Message {
    let text = |text: &str| Value::Text(text.to_owned());
    let device = |device, access| Value::Tuple(vec![text(device), text(access)]);
    let property = |name: &str, value| Property { name: name.to_owned(), value };
    let properties = [
        property("Slice", text("system.slice")),
        property("Delegate", Value::Bool(true)),
        property("PIDs", Value::Array("u".into(), vec![Value::U32(4242)])),
        property("MemoryMax", Value::U64(1 << 20)),
        property("AllowedCPUs", Value::Array("y".into(), vec![Value::Byte(3), Value::Byte(1)])),
        property(
            "DeviceAllow",
            Value::Array("(ss)".into(), vec![device("/dev/char/1:3", "rwm"), device("char-*", "m")]),
        ),
        property("Wants", Value::Array("s".into(), vec![text("x.slice")])),
        property("Nothing", Value::Array("(ss)".into(), Vec::new())),
    ];
    let name = "org.freedesktop.systemd1";
    let body = start_body("hull-a.scope", &properties);
    let mut call = Message::call(
        name,
        "/org/freedesktop/systemd1",
        &format!("{name}.Manager"),
        "StartTransientUnit",
        body,
    );
    call.serial = 2;
    call
}

#[test]
fn a_call_is_encoded_as_systemd_itself_does() {
    let (golden, call) = (golden(), golden_call());
    assert_eq!(Message::from_bytes(&golden).unwrap(), call);
    let ours = call.to_bytes();
    assert_eq!(Message::from_bytes(&ours).unwrap(), call);
    // The header's fields may stand in any order, and the flags say that nobody may ask the user for a password.
    let body = golden.len() - 0x158;
    assert_eq!(ours.len(), golden.len());
    assert_eq!(ours[body..], golden[body..]);
    assert_eq!(Message::length(golden.first_chunk().unwrap()), Ok(golden.len()));
}

#[test]
fn foreign_bytes_are_refused_and_never_a_panic() {
    let golden = golden();
    for length in 0..golden.len() {
        assert!(Message::from_bytes(&golden[..length]).is_err(), "{length}");
    }
    for at in 0..golden.len() {
        for value in [0, 1, 0x7f, 0xff, b'a', b'(', b'v'] {
            let mut broken = golden.clone();
            broken[at] = value;
            // Some of these are messages still; none of them breaks anything.
            drop(Message::from_bytes(&broken));
            drop(Message::length(broken.first_chunk().unwrap()));
        }
    }
    let mut long = golden;
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Message::length(long.first_chunk().unwrap()), Err(Malformed("it is too long")));
}

#[test]
fn a_message_of_the_other_byte_order_is_read() {
    let call = Message::call("a.b", "/a", "a.b", "C", vec![Value::U32(258), Value::Text("x".into())]);
    let mut bytes = b"B\x01\x00\x01\x00\x00\x00\x0a\x00\x00\x00\x00".to_vec();
    let fields: [(u8, &str, &str); 4] = [(1, "o", "/a"), (2, "s", "a.b"), (3, "s", "C"), (6, "s", "a.b")];
    bytes.extend([0; 4]);
    for (code, kind, text) in fields {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend([code, 1, kind.as_bytes()[0], 0]);
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.bytes().chain([0]));
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend([8, 1, b'g', 0, 2, b'u', b's', 0]);
    let length = (bytes.len() - 16) as u32;
    bytes[12..16].copy_from_slice(&length.to_be_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend([0, 0, 1, 2, 0, 0, 0, 1, b'x', 0]);
    assert_eq!(Message::from_bytes(&bytes).unwrap(), call);
}

/// A message bus of the test's own.
struct Daemon {
    process: Child,
    directory: std::path::PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn daemon() -> Option<Daemon> {
    let directory = std::env::temp_dir().join(format!("hull-bus-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let config = directory.join("bus.conf");
    let policy = r#"<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>"#;
    let text = format!(
        "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">{policy}</policy></busconfig>",
        directory.join("bus").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile"]);
    match command.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(process) => Some(Daemon { process, directory }),
        Err(error) => {
            std::fs::remove_dir_all(&directory).unwrap();
            eprintln!("skipped: dbus-daemon: {error}");
            None
        }
    }
}

fn until() -> Until {
    Until::after(Duration::from_secs(20))
}

/// Plays the manager: knows one failed unit, and starts and stops others.
fn play_manager(mut bus: Bus) {
    let text = |text: &str| Value::Text(text.to_owned());
    let (mut failed, mut jobs) = (true, 0_u32);
    loop {
        let Ok(call) = bus.receive(until()) else { return };
        let Some(member) = call.member.clone().filter(|_| call.kind == Kind::Call) else { continue };
        let mut answer = Message { kind: Kind::Return, answers: Some(call.serial), ..call.clone() };
        (answer.destination, answer.sender) = (call.sender.clone(), None);
        (answer.path, answer.interface, answer.member) = (None, None, None);
        answer.body = Vec::new();
        let unit = call.body.first().and_then(Value::text).unwrap_or_default();
        match member.as_str() {
            "StartTransientUnit" if failed || unit.starts_with("there") => {
                (answer.kind, answer.error) =
                    (Kind::Error, Some("org.freedesktop.systemd1.UnitExists".into()));
                answer.body = vec![text("it is there already")];
            }
            "StartTransientUnit" | "StopUnit" => {
                jobs += 1;
                let path = |number| Value::Path(format!("/org/freedesktop/systemd1/job/{number}"));
                let result = if unit.starts_with("bad") { "failed" } else { "done" };
                for (number, result) in [(99, "failed"), (jobs, result)] {
                    let body = vec![Value::U32(number), path(number), text(unit), text(result)];
                    let name = "org.freedesktop.systemd1";
                    let mut signal = Message::call(
                        name,
                        "/org/freedesktop/systemd1",
                        &format!("{name}.Manager"),
                        "JobRemoved",
                        body,
                    );
                    (signal.kind, signal.destination) = (Kind::Signal, None);
                    bus.send(signal).unwrap();
                }
                answer.body = vec![path(jobs)];
            }
            "ResetFailedUnit" => failed = false,
            "Get" => answer.body = vec![Value::Variant(Box::new(text("252.38-1~deb12u1")))],
            "SetUnitProperties" => assert_eq!(call.body[1], Value::Bool(true)),
            _ => {}
        }
        bus.send(answer).unwrap();
    }
}

#[test]
fn units_come_and_go_over_a_real_bus() {
    let Some(daemon) = daemon() else { return };
    let peers = [Peer::Bus(daemon.directory.join("none")), Peer::Bus(daemon.directory.join("bus"))];
    let connect = || {
        for _ in 0..1000 {
            if let Ok(bus) = Bus::connect(&peers, until()) {
                return bus;
            }
            nix::poll::poll(&mut [], 10_u16).unwrap();
        }
        panic!("the bus does not come up")
    };
    let mut service = connect();
    let name = vec![Value::Text("org.freedesktop.systemd1".into()), Value::U32(0)];
    let bus = "org.freedesktop.DBus";
    service.ask(Message::call(bus, "/org/freedesktop/DBus", bus, "RequestName", name), until()).unwrap();
    let manager = std::thread::spawn(|| play_manager(service));
    let mut client = Manager::connect_to(&peers).unwrap();
    assert_eq!(client.version().unwrap(), 252);
    let properties = new_unit(json!({ "memory": { "limit": 100 } }), &[]);
    client.start("good.scope", &properties).unwrap();
    client.set("good.scope", &properties).unwrap();
    client.stop("good.scope").unwrap();
    assert!(client.start("there.slice", &properties).unwrap_err().is_existing_unit());
    client.ensure("there.slice", &properties, &properties).unwrap();
    client.ensure("new.slice", &properties, &properties).unwrap();
    let error = client.start("bad.scope", &properties).unwrap_err();
    assert_eq!(error.to_string(), "error creating systemd unit `bad.scope`: got `failed`");
    let unknown = Message::call("no.such.name", "/", "a.b", "C", Vec::new());
    let error = connect().ask(unknown, until()).unwrap_err();
    assert!(matches!(&error, Error::Answer { name, .. } if name.contains("ServiceUnknown")), "{error}");
    drop(daemon);
    manager.join().unwrap();
    assert!(matches!(client.version(), Err(Error::Broken { .. })));
    assert!(matches!(Manager::connect_to(&peers), Err(Error::NoSystemd(_))));
}
