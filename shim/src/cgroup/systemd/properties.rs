//! A unit's properties from a container's limits. Pure.
//!
//! systemd counts in its own units: weights by runc's curve, CPU time per second and in whole percent, sets as bits.
//! What it cannot say is said wider, never narrower: the group's own files and device program are exact.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::message::Value;
use super::{Unit, annotation};
use crate::cgroup::devices::{self, Kind, Rule, list};
use crate::cgroup::resources::{Invalid, Version, ranges, swap_alone, weight};

/// One property.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As systemd's D-Bus interface has it.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// What the properties are made for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// cgroup v1 or v2.
    pub version: Version,
    /// systemd's version.
    pub systemd: u32,
    /// `/proc/devices`, where device numbers have the names that systemd knows.
    pub devices: &'a str,
}

/// systemd's word for no limit.
const INFINITY: u64 = u64::MAX;
const DEFAULT_PERIOD: u64 = 100_000;

/// The properties while they are collected.
#[derive(Default)]
struct Properties(Vec<Property>);

impl Properties {
    fn set(&mut self, name: &str, value: Value) {
        self.0.push(Property { name: name.to_owned(), value });
    }

    fn number(&mut self, name: &str, value: u64) {
        self.set(name, Value::U64(value));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.set(name, Value::Text(value.to_owned()));
    }
}

/// What `StartTransientUnit` is given for a new container: the unit, its first process, its limits and what
/// annotations `org.systemd.property.*` add.
///
/// # Errors
/// The limits or the annotations make no sense.
pub fn of_new_unit(
    unit: &Unit,
    pid: Option<u32>,
    resources: &LinuxResources,
    annotations: &HashMap<String, String>,
    target: Target<'_>,
) -> Result<Vec<Property>, Invalid> {
    let mut all = Properties::default();
    all.text("Description", &format!("hull container {}", unit.name));
    if unit.is_slice() {
        all.set("Wants", Value::Array("s".to_owned(), vec![Value::Text(unit.slice.clone())]));
    } else {
        all.text("Slice", &unit.slice);
        all.set("Delegate", Value::Bool(true));
    }
    if let Some(pid) = pid {
        all.set("PIDs", Value::Array("u".to_owned(), vec![Value::U32(pid)]));
    }
    let block = match target.version {
        Version::V1 => "BlockIOAccounting",
        Version::V2 => "IOAccounting",
    };
    for name in ["MemoryAccounting", "CPUAccounting", block, "TasksAccounting"] {
        all.set(name, Value::Bool(true));
    }
    all.set("DefaultDependencies", Value::Bool(false));
    if let Some(group) = resources.unified().as_ref().and_then(|unified| unified.get("memory.oom.group")) {
        match group.trim() {
            "0" => all.text("OOMPolicy", "continue"),
            "1" => all.text("OOMPolicy", "kill"),
            // The kernel says what is wrong with it when it is written.
            _ => {}
        }
    }
    restrict(resources, target, &mut all)?;
    all.0.extend(of_limits(resources, target)?);
    all.0.extend(annotation::properties(annotations)?);
    Ok(all.0)
}

/// What `SetUnitProperties` is given when limits change. Device rules stay.
///
/// # Errors
/// The limits make no sense.
pub fn of_limits(resources: &LinuxResources, target: Target<'_>) -> Result<Vec<Property>, Invalid> {
    let mut all = Properties::default();
    memory(resources, target.version, &mut all)?;
    if let Some(cpu) = resources.cpu() {
        weights(cpu, target, &mut all);
        quota(cpu.quota().unwrap_or_default(), cpu.period().unwrap_or_default(), target, &mut all);
    }
    if let (Version::V1, Some(weight)) =
        (target.version, resources.block_io().as_ref().and_then(|it| it.weight()))
        && weight != 0
    {
        all.number("BlockIOWeight", weight.into());
    }
    match resources.pids().as_ref().map(|pids| pids.limit()) {
        None => {}
        // systemd takes no 0; the group's own file does.
        Some(limit) => all.number("TasksMax", u64::try_from(limit).map_or(INFINITY, |limit| limit.max(1))),
    }
    if let Some(cpu) = resources.cpu() {
        set("AllowedCPUs", "cpus", cpu.cpus().as_deref(), target, &mut all)?;
        set("AllowedMemoryNodes", "mems", cpu.mems().as_deref(), target, &mut all)?;
    }
    if target.version == Version::V2 {
        unified(resources, target, &mut all)?;
    }
    Ok(all.0)
}

fn memory(resources: &LinuxResources, version: Version, all: &mut Properties) -> Result<(), Invalid> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    let mut bytes = |name: &str, value: Option<i64>| {
        if let Some(value) = value.filter(|value| *value != 0) {
            all.number(name, u64::try_from(value).unwrap_or(INFINITY));
        }
    };
    if version == Version::V1 {
        bytes("MemoryLimit", memory.limit());
        return Ok(());
    }
    bytes("MemoryMax", memory.limit());
    bytes("MemoryLow", memory.reservation());
    if let Some(swap) = swap_alone(memory)? {
        all.number("MemorySwapMax", u64::try_from(swap).unwrap_or(INFINITY));
    }
    Ok(())
}

fn weights(cpu: &LinuxCpu, target: Target<'_>, all: &mut Properties) {
    let shares = cpu.shares().filter(|shares| *shares != 0);
    match (target.version, shares) {
        (Version::V1, Some(shares)) => all.number("CPUShares", shares),
        // A weight of none is what systemd calls idle.
        (Version::V2, _) if cpu.idle() == Some(1) && target.systemd >= 252 => all.number("CPUWeight", 0),
        (Version::V2, Some(shares)) => all.number("CPUWeight", weight(shares)),
        (Version::V1 | Version::V2, None) => {}
    }
}

fn quota(quota: i64, period: u64, target: Target<'_>, all: &mut Properties) {
    if period != 0 && target.systemd >= 242 {
        all.number("CPUQuotaPeriodUSec", period);
    }
    if quota == 0 && period == 0 {
        return;
    }
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    let per_second = match u64::try_from(quota) {
        // systemd keeps whole percents: rounded up, so that the group below can have all of its quota.
        Ok(quota) if quota > 0 => {
            (quota.saturating_mul(1_000_000) / period).div_ceil(10_000).saturating_mul(10_000)
        }
        _ => INFINITY,
    };
    all.number("CPUQuotaPerSecUSec", per_second);
}

fn set(
    name: &str,
    field: &'static str,
    list: Option<&str>,
    target: Target<'_>,
    all: &mut Properties,
) -> Result<(), Invalid> {
    let Some(list) = list.map(str::trim).filter(|list| !list.is_empty() && target.systemd >= 244) else {
        return Ok(());
    };
    let ranges = ranges(list).ok_or_else(|| Invalid::Set { field, list: list.to_owned() })?;
    let mut bits: Vec<u8> = Vec::new();
    for number in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        let at = usize::from(number / 8);
        if bits.len() <= at {
            bits.resize(at + 1, 0);
        }
        if let Some(byte) = bits.get_mut(at) {
            *byte |= 1 << (number % 8);
        }
    }
    all.set(name, Value::Array("y".to_owned(), bits.into_iter().map(Value::Byte).collect()));
    Ok(())
}

/// Files that systemd would write too, and over ours when it next looks at the unit.
fn unified(resources: &LinuxResources, target: Target<'_>, all: &mut Properties) -> Result<(), Invalid> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    for (file, value) in files {
        let value = value.trim();
        let number = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
        let name = match file.as_str() {
            "cpu.max" => {
                let (limit, period) = value.split_once(' ').unwrap_or((value, "100000"));
                let period = period.trim().parse().unwrap_or(DEFAULT_PERIOD);
                quota(limit.parse().unwrap_or_default(), period, target, all);
                continue;
            }
            "cpuset.cpus" => {
                set("AllowedCPUs", "cpus", Some(value), target, all)?;
                continue;
            }
            "cpuset.mems" => {
                set("AllowedMemoryNodes", "mems", Some(value), target, all)?;
                continue;
            }
            "cpu.weight" => "CPUWeight",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            _ => continue,
        };
        // What is no number the kernel refuses, with its name.
        if let Some(number) = number() {
            all.number(name, number);
        }
    }
    Ok(())
}

fn restrict(resources: &LinuxResources, target: Target<'_>, all: &mut Properties) -> Result<(), Invalid> {
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    let none = Value::Array("(ss)".to_owned(), Vec::new());
    // A list of what is denied, and one with holes, systemd does not have: it lets all pass to our own program.
    let allowed = list::allowed(&rules);
    let policy = if allowed.is_some() { "strict" } else { "auto" };
    all.text("DevicePolicy", policy);
    // Of a list, an empty value clears what is there.
    all.set("DeviceAllow", none);
    if let Some(allowed) = allowed {
        let entries = allowed.iter().map(|rule| entry(rule, target.devices)).collect();
        all.set("DeviceAllow", Value::Array("(ss)".to_owned(), entries));
    }
    Ok(())
}

fn entry(rule: &Rule, names: &str) -> Value {
    let sort = if rule.kind == Some(Kind::Block) { "block" } else { "char" };
    let device = match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{sort}/{major}:{minor}"),
        (Some(major), None) => {
            let name = device_name(names, sort, major).unwrap_or_else(|| major.to_string());
            format!("{sort}-{name}")
        }
        // It has no word for one minor number of all majors.
        (None, _) => format!("{sort}-*"),
    };
    Value::Tuple(vec![Value::Text(device), Value::Text(rule.access.to_string())])
}

/// What `/proc/devices` calls a major number.
fn device_name(names: &str, sort: &str, major: u32) -> Option<String> {
    let heading = if sort == "block" { "Block devices:" } else { "Character devices:" };
    let lines = names.lines().skip_while(|line| *line != heading).skip(1);
    let mut lines = lines.take_while(|line| !line.ends_with(':'));
    lines.find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then(|| name.trim().to_owned())
    })
}
