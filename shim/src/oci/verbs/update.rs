//! `update`: other limits for a container that there is (oci-runtime.md section 2.3).

use std::io::Read;
use std::path::Path;

use oci_spec::runtime::{LinuxResources, Spec};
use serde_json::{Value, json};

use crate::oci::command::parse::{Misuse, Parsed};
use crate::oci::container::Container;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::make::refuse;
use crate::oci::quantity;
use crate::oci::status::Status;
use crate::oci::units;

pub(super) fn update(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let (container, held) = Container::hold(global, id)?;
    if container.status() == Status::Stopped {
        return Err(Error::NotRunning);
    }
    share(&container, given)?;
    let change = change(given)?;
    let mut config = crate::oci::config::parse(container.place.config()?)?;
    let stored = stored(&config);
    let group = container.record.cgroup.needed()?;
    let unit = container.record.cgroup.unit.as_deref();
    // systemd writes too, and counts coarser: what is exact comes after it, as at a creation.
    let announce = |limits: &_| unit.map_or(Ok(()), |unit| units::update(unit, &group, limits));
    group.update(&stored, &change, announce, |merged| {
        store(&mut config, merged);
        let bytes =
            serde_json::to_vec(&config).map_err(|error| Error::Json("config.json".to_owned(), error))?;
        container.place.keep_config(&bytes, &held)
    })
}

/// Another share of cache and memory bandwidth.
fn share(container: &Container, given: &Parsed) -> Result<(), Error> {
    let flags: &[&'static str] =
        if given.value("resources").is_some() { &[] } else { &["l3-cache-schema", "mem-bw-schema"] };
    let given = flags.iter().filter_map(|flag| given.value(flag));
    let lines: Vec<String> = given.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Ok(());
    }
    match &container.record.resctrl {
        Some(group) => group.write(&lines).map_err(refuse),
        None if crate::resctrl::is_there() => {
            Err(Error::Refused("config.json has no linux.intelRdt".to_owned()))
        }
        None => Err(Error::Refused("Intel RDT: l3 cache schema is not enabled".to_owned())),
    }
}

fn stored(config: &Spec) -> LinuxResources {
    let linux = config.linux().as_ref();
    linux.and_then(|linux| linux.resources().clone()).unwrap_or_default()
}

fn store(config: &mut Spec, resources: LinuxResources) {
    if let Some(linux) = config.linux_mut().as_mut() {
        linux.set_resources(Some(resources));
    }
}

/// What is to change: the file alone, or what the flags say.
fn change(given: &Parsed) -> Result<LinuxResources, Error> {
    if let Some(file) = given.value("resources") {
        return read(file);
    }
    let mut cpu = json!({});
    for (flag, field) in [
        ("cpu-share", "shares"),
        ("cpu-quota", "quota"),
        ("cpu-period", "period"),
        ("cpu-burst", "burst"),
        ("cpu-rt-runtime", "realtimeRuntime"),
        ("cpu-rt-period", "realtimePeriod"),
        ("cpu-idle", "idle"),
    ] {
        set(&mut cpu, field, given.number::<i64>(flag)?.map(Value::from));
    }
    set(&mut cpu, "cpus", given.value("cpuset-cpus").map(Value::from));
    set(&mut cpu, "mems", given.value("cpuset-mems").map(Value::from));
    let mut memory = json!({});
    for (flag, field) in [("memory", "limit"), ("memory-reservation", "reservation"), ("memory-swap", "swap")]
    {
        set(&mut memory, field, size(given, flag)?.map(Value::from));
    }
    if memory["limit"] == -1 && memory.get("swap").is_none() {
        memory["swap"] = json!(-1);
    }
    let mut resources = json!({"cpu": cpu, "memory": memory});
    if let Some(weight) = given.number::<u16>("blkio-weight")? {
        resources["blockIO"] = json!({"weight": weight});
    }
    if let Some(limit) = given.number::<i64>("pids-limit")? {
        resources["pids"] = json!({"limit": limit});
    }
    decode("the flags of update", resources)
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[field] = value;
    }
}

fn size(given: &Parsed, flag: &'static str) -> Result<Option<i64>, Error> {
    let Some(text) = given.value(flag) else {
        return Ok(None);
    };
    let invalid = || Misuse::Invalid { value: text.to_owned(), flag };
    Ok(Some(quantity::bytes(text).ok_or_else(invalid)?))
}

fn read(file: &str) -> Result<LinuxResources, Error> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(Error::file("read", Path::new("/dev/stdin")))?
    } else {
        std::fs::read(file).map_err(Error::file("read", Path::new(file)))?
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| Error::Json(file.to_owned(), error))?;
    decode(file, value)
}

/// Reads resources; zeros, which containerd and CRI-O write for "as it is", count as absent.
fn decode(what: &str, mut value: Value) -> Result<LinuxResources, Error> {
    for group in ["cpu", "memory", "blockIO"] {
        if let Some(fields) = value.get_mut(group).and_then(Value::as_object_mut) {
            fields.retain(|name, value| name == "idle" || !(value == &json!(0) || value == &json!("")));
        }
    }
    serde_json::from_value(value).map_err(|error| Error::Json(what.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids};

    use super::*;
    use crate::oci::command::parse::Order;
    use crate::oci::command::table::Command;

    fn of(line: &[&str]) -> Result<LinuxResources, Error> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let command = Command::named("update").unwrap();
        change(&Parsed::new(command.flags, Order::Anywhere, &words)?)
    }

    #[test]
    fn flags_say_what_changes() {
        let change =
            of(&["--memory", "64m", "--cpu-quota=-1", "--pids-limit", "10", "--cpuset-cpus=0-1"]).unwrap();
        assert_eq!(change.memory().as_ref().and_then(LinuxMemory::limit), Some(64 << 20));
        assert_eq!(change.cpu().as_ref().and_then(LinuxCpu::quota), Some(-1));
        assert_eq!(change.pids().as_ref().map(LinuxPids::limit), Some(10));
        assert_eq!(change.cpu().as_ref().unwrap().cpus().as_deref(), Some("0-1"));
    }

    #[test]
    fn memory_without_limit_has_swap_without_limit() {
        let memory = *of(&["--memory", "-1"]).unwrap().memory();
        assert_eq!(memory.and_then(|memory| memory.swap()), Some(-1));
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        let told = of(&["--memory", "much"]).unwrap_err().to_string();
        assert_eq!(told, "invalid value \"much\" for flag -memory: parse error");
    }

    #[test]
    fn zeros_of_a_file_change_nothing() {
        let change =
            decode("x", json!({"cpu": {"shares": 0, "cpus": "", "quota": 5}, "memory": {"limit": 0}}))
                .unwrap();
        let cpu = change.cpu().as_ref().unwrap();
        assert_eq!((cpu.shares(), cpu.cpus().as_deref(), cpu.quota()), (None, None, Some(5)));
        assert_eq!(change.memory().as_ref().and_then(LinuxMemory::limit), None);
    }
}
