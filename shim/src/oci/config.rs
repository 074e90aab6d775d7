//! Reading `config.json` and `process.json`.

use std::io::Read;
use std::path::Path;

use oci_spec::runtime::{IOPriorityClass, MemoryPolicyModeType, Process, Spec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
use super::global::Global;
use super::log::Log;
use crate::container::seccomp::Cache;
use crate::container::seccomp::aside::{self, KnownFilter};
use crate::container::spec::adapt;

/// What most configurations are smaller than, in bytes.
const USUAL: usize = 16 << 10;

/// Reads the bundle's configuration.
pub(crate) fn read(bundle: &Path) -> Result<Vec<u8>, Error> {
    let path = bundle.join("config.json");
    let mut bytes = Vec::with_capacity(USUAL);
    // Its size is not asked for: the reads tell as well.
    let read = std::fs::File::open(&path).and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoConfig),
        Err(error) => Err(Error::file("read", &path)(error)),
    }
}

/// Takes a configuration apart. It is in a box, since it is of some kilobytes, and moved often.
pub(crate) fn parse(bytes: &[u8]) -> Result<Box<Spec>, Error> {
    parse_knowing(bytes).map(|(spec, _)| spec)
}

/// The same for what makes a process of the container: the capabilities that it names and nobody knows, and what is known
/// of its seccomp filter.
pub(crate) fn parse_for(
    global: &Global<'_>,
    bytes: &[u8],
) -> Result<(Box<Spec>, Vec<String>, KnownFilter), Error> {
    aside::read(bytes, &mut Cache::on_disk(global.root.filters()), parse_knowing)
}

/// The same, and the capabilities that it names and nobody knows.
pub(crate) fn parse_knowing(bytes: &[u8]) -> Result<(Box<Spec>, Vec<String>), Error> {
    serde_json::from_slice(bytes).map(|spec| (spec, Vec::new())).or_else(|first| parse_adapted(bytes, first))
}

/// One that was not understood, perhaps only for names that runtime-spec wants ignored, or that oci-spec has otherwise. Not a part of
/// its caller, whose stack it would make pages larger.
#[cold]
#[inline(never)]
fn parse_adapted(bytes: &[u8], first: serde_json::Error) -> Result<(Box<Spec>, Vec<String>), Error> {
    let failed = |error| Error::Json("config.json".to_owned(), error);
    let mut value: Value = serde_json::from_slice(bytes).map_err(failed)?;
    let unknown = value.get_mut("process").map(adapt).unwrap_or_default();
    let parsed = Box::deserialize(&value).map(|spec| (spec, unknown));
    parsed.map_err(|_| refused(&value).map_or_else(|| failed(first), Error::Refused))
}

/// Takes a process apart; and the capabilities that it names and nobody knows.
pub(crate) fn parse_process(what: &str, bytes: &[u8]) -> Result<(Process, Vec<String>), Error> {
    let failed = |error| Error::Json(what.to_owned(), error);
    let mut value: Value = serde_json::from_slice(bytes).map_err(failed)?;
    let unknown = adapt(&mut value);
    serde_json::from_value(value).map(|process| (process, unknown)).map_err(failed)
}

/// Tells of capabilities that are left out, in runc's words.
pub(crate) fn warn_of_unknown(log: &Log, unknown: &[String]) {
    if !unknown.is_empty() {
        log.warn(&format!("ignoring unknown or unavailable capabilities: {}", unknown.join(" ")));
    }
}

/// What runc says of values that it does not know, where it has words of its own.
fn refused(config: &Value) -> Option<String> {
    let (process, linux) = (config.get("process"), config.get("linux"));
    let field = |object: Option<&Value>, field: &str| object?.get(field).cloned();
    if let Some(scheduler) = field(process, "scheduler")
        && scheduler.get("policy").is_none_or(|policy| policy == "")
    {
        return Some("scheduler policy is required".to_owned());
    }
    let unknown = |object: Option<Value>, key: &str, known: fn(Value) -> bool| {
        let value = object?.get(key).cloned()?;
        (!known(value.clone())).then(|| value.to_string())
    };
    let class = unknown(field(process, "ioPriority"), "class", is::<IOPriorityClass>);
    let mode = unknown(field(linux, "memoryPolicy"), "mode", is::<MemoryPolicyModeType>);
    class
        .map(|class| format!("invalid ioPriority.Class: {class}"))
        .or(mode.map(|mode| format!("invalid memory policy mode: {mode}")))
}

fn is<T: DeserializeOwned>(value: Value) -> bool {
    serde_json::from_value::<T>(value).is_ok()
}

/// What has to hold for every process, in the words of runc.
pub(crate) fn check(process: Option<&Process>) -> Result<&Process, Error> {
    let refuse = |text: &str| Err(Error::Refused(text.to_owned()));
    let Some(process) = process else {
        return refuse("process property must not be empty");
    };
    if process.cwd().as_os_str().is_empty() {
        return refuse("Cwd property must not be empty");
    }
    if !process.cwd().is_absolute() {
        return refuse("Cwd must be an absolute path");
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return refuse("args must not be empty");
    }
    Ok(process)
}

/// Versions of runtime-spec that differ in their first number differ in meaning.
pub(crate) fn check_version(spec: &Spec) -> Result<(), Error> {
    let version = spec.version();
    match version.split_once('.') {
        Some(("1" | "0", _)) => Ok(()),
        _ => Err(Error::Refused(format!("ociVersion {version:?} is not supported, only 1.x is"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_capabilities_are_ignored() {
        let spec =
            br#"{"ociVersion": "1.0.0", "new": 1, "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
            "args": ["x"], "capabilities": {"bounding": ["CAP_KILL", "CAP_FUTURE"]}}}"#;
        let (spec, unknown) = parse_knowing(spec).unwrap();
        assert_eq!(unknown, ["\"CAP_FUTURE\""]);
        let process = check(spec.process().as_ref()).unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
        check_version(&spec).unwrap();
    }

    #[test]
    fn flags_of_a_scheduler_have_the_names_of_runtime_spec() {
        let process = r#"{"cwd": "/", "user": {}, "scheduler": {"policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]}}"#;
        let flags = |process: &Process| process.scheduler().as_ref().unwrap().flags().clone().unwrap();
        let (alone, _) = parse_process("p", process.as_bytes()).unwrap();
        assert_eq!(flags(&alone).len(), 3);
        let spec = parse(format!(r#"{{"ociVersion": "1.0.0", "process": {process}}}"#).as_bytes()).unwrap();
        assert_eq!(flags(spec.process().as_ref().unwrap()), flags(&alone));
    }

    #[test]
    fn what_is_wrong_with_a_process_is_told_as_runc_tells_it() {
        let told = |json: &str| {
            let (process, _) = parse_process("p", json.as_bytes()).unwrap();
            check(Some(&process)).unwrap_err().to_string()
        };
        let user = r#""user": {"uid": 0, "gid": 0}"#;
        assert_eq!(
            told(&format!(r#"{{"cwd": "x", "args": ["a"], {user}}}"#)),
            "Cwd must be an absolute path"
        );
        assert_eq!(told(&format!(r#"{{"cwd": "/", "args": [], {user}}}"#)), "args must not be empty");
        assert_eq!(check(None).unwrap_err().to_string(), "process property must not be empty");
    }
}
