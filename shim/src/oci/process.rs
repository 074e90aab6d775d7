//! The process that `exec` is asked for: that of a file, or the container's own with what the flags change.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::{Capability, LinuxCapabilities, Process, Spec};

use super::command::parse::Parsed;
use super::config;
use super::error::Error;
use super::handover::Preserved;

/// Decides what is to be executed, and as whom; and which capabilities nobody knows.
pub(crate) fn process(
    spec: &Spec,
    given: &Parsed,
    preserved: Preserved,
) -> Result<(Process, Vec<String>), Error> {
    let (mut process, unknown) = match given.value("process") {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(Error::file("open", Path::new(path)))?;
            config::parse_process(path, &bytes)?
        }
        None => changed(spec, given)?,
    };
    let mut variables = process.env().clone().unwrap_or_default();
    variables.extend(preserved.variables());
    process.set_env(Some(variables));
    config::check(Some(&process))?;
    Ok((process, unknown))
}

fn changed(spec: &Spec, given: &Parsed) -> Result<(Process, Vec<String>), Error> {
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::Refused("process property must not be empty".to_owned()))?;
    let args = given.arguments.get(1..).unwrap_or_default();
    if args.is_empty() {
        return Err(Error::Refused("exec args cannot be empty".to_owned()));
    }
    process.set_args(Some(args.to_vec()));
    process.set_terminal(Some(given.is_on("tty")));
    process.set_console_size(None);
    if let Some(cwd) = given.value("cwd").filter(|cwd| !cwd.is_empty()) {
        process.set_cwd(cwd.into());
    }
    let mut variables = process.env().clone().unwrap_or_default();
    variables.extend(given.values("env").map(str::to_owned));
    process.set_env(Some(variables));
    if given.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(given.is_on("no-new-privs")));
    }
    if let Some(profile) = given.value("apparmor").filter(|profile| !profile.is_empty()) {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = given.value("process-label").filter(|label| !label.is_empty()) {
        process.set_selinux_label(Some(label.to_owned()));
    }
    set_user(&mut process, given)?;
    let (known, unknown): (Vec<_>, Vec<_>) = given.values("cap").map(capability).partition(Result::is_ok);
    let more: Vec<Capability> = known.into_iter().flatten().collect();
    if !more.is_empty() {
        let sets = with_capabilities(process.capabilities().clone().unwrap_or_default(), &more);
        process.set_capabilities(Some(sets));
    }
    Ok((process, unknown.into_iter().filter_map(Result::err).collect()))
}

fn set_user(process: &mut Process, given: &Parsed) -> Result<(), Error> {
    let mut user = process.user().clone();
    let number = |what: &str, text: &str| {
        let parsed = text.parse::<u32>();
        parsed.map_err(|_| Error::Refused(format!("parsing {text:?} as int for {what} failed")))
    };
    if let Some(text) = given.value("user").filter(|text| !text.is_empty()) {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        user.set_uid(number("uid", uid)?);
        if let Some(gid) = gid {
            user.set_gid(number("gid", gid)?);
        }
    }
    let groups = given.values("additional-gids").flat_map(|text| text.split(','));
    let groups = groups.map(|text| number("additional gid", text)).collect::<Result<Vec<_>, _>>()?;
    if !groups.is_empty() {
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    Ok(())
}

/// A capability by its name, or what was given where nobody knows it.
fn capability(text: &str) -> Result<Capability, String> {
    let name = text.to_ascii_uppercase();
    Capability::from_str(name.strip_prefix("CAP_").unwrap_or(&name)).map_err(|_| format!("{text:?}"))
}

/// Adds to what the process may do; not to what it hands on (CVE-2022-29162), unless it hands on already.
fn with_capabilities(mut sets: LinuxCapabilities, more: &[Capability]) -> LinuxCapabilities {
    let add = |set: &Option<HashSet<Capability>>| {
        Some(set.iter().flatten().chain(more).copied().collect::<HashSet<_>>())
    };
    let (bounding, effective, permitted) =
        (add(sets.bounding()), add(sets.effective()), add(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    if sets.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
        let ambient = add(sets.ambient());
        sets.set_ambient(ambient);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::command::parse::Order;
    use crate::oci::command::table::Command;

    fn of(line: &[&str]) -> Result<Process, Error> {
        with_unknown(line).map(|(process, _)| process)
    }

    fn with_unknown(line: &[&str]) -> Result<(Process, Vec<String>), Error> {
        let spec = br#"{"ociVersion": "1.0.0", "process": {"terminal": true, "cwd": "/", "args": ["x"], "env": ["A=1"],
            "user": {"uid": 1, "gid": 1, "additionalGids": [5]}, "capabilities": {"bounding": ["CAP_KILL"]}}}"#;
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let command = Command::named("exec").unwrap();
        let given = Parsed::new(command.flags, Order::First, &words)?;
        process(&config::parse(spec).unwrap(), &given, Preserved::default())
    }

    #[test]
    fn flags_change_the_containers_process() {
        let line = [
            "-u",
            "7:8",
            "-g",
            "1",
            "-g",
            "2,3",
            "-e",
            "B=2",
            "--cwd",
            "/tmp",
            "-c",
            "net_admin",
            "id",
            "ls",
            "-l",
        ];
        let process = of(&line).unwrap();
        assert_eq!(process.args().as_deref().unwrap(), ["ls", "-l"]);
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        assert_eq!(process.user().additional_gids().as_deref().unwrap(), [1, 2, 3]);
        assert_eq!(process.env().as_deref().unwrap(), ["A=1", "B=2"]);
        assert_eq!((process.cwd().to_str(), process.terminal()), (Some("/tmp"), Some(false)));
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 2);
        assert!(sets.effective().as_ref().unwrap().contains(&Capability::NetAdmin));
        assert!(sets.inheritable().is_none() && sets.ambient().is_none());
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert!(of(&["id"]).unwrap_err().to_string().contains("args cannot be empty"));
        assert!(of(&["-u", "root", "id", "x"]).is_err());
        assert_eq!(of(&["--cwd", "x", "id", "x"]).unwrap_err().to_string(), "Cwd must be an absolute path");
    }
    #[test]
    fn a_capability_that_nobody_knows_is_left_out_and_told() {
        let line = ["-c", "CAP_NONESUCH", "-c", "CAP_NET_RAW", "id", "x"];
        let (process, unknown) = with_unknown(&line).unwrap();
        assert_eq!(unknown, ["\"CAP_NONESUCH\""]);
        let sets = process.capabilities().as_ref().unwrap();
        assert!(sets.bounding().as_ref().unwrap().contains(&Capability::NetRaw));
    }
}
