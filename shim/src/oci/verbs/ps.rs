//! `ps`: the processes of a container, as host pids or through the host's `ps`.

use std::process::Command;

use crate::oci::command::parse::Parsed;
use crate::oci::container::{Container, print};
use crate::oci::error::Error;
use crate::oci::global::Global;

pub(super) fn ps(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let container = Container::find(global, id)?;
    let mut pids = container.record.cgroup.pids();
    pids.sort_unstable();
    match given.value("format").unwrap_or("table") {
        "json" => print(&format!("{}\n", serde_json::Value::from(pids))),
        "table" => {
            let options = match &given.arguments[1..] {
                [] => vec!["-ef".to_owned()],
                options => options.to_vec(),
            };
            let run = Command::new("ps").args(&options).output();
            let output = run.map_err(Error::file("execute", std::path::Path::new("ps")))?;
            let text = String::from_utf8_lossy(&output.stdout);
            if !output.status.success() {
                let told = String::from_utf8_lossy(&output.stderr);
                return Err(Error::Refused(format!("ps {}: {}", options.join(" "), told.trim_end())));
            }
            print(&select(&text, &pids)?)
        }
        other => Err(Error::Refused(format!("invalid format option: {other}"))),
    }
}

/// The header and the lines whose PID column is among `pids`.
fn select(table: &str, pids: &[i32]) -> Result<String, Error> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::Refused("couldn't find PID field in ps output".to_owned()))?;
    let mut selected = format!("{header}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse::<i32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            selected.push_str(line);
            selected.push('\n');
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_pid_column() {
        let table = "UID   PID CMD\nroot    1 init\nroot   12 sh 1\n\n";
        assert_eq!(select(table, &[12]).unwrap(), "UID   PID CMD\nroot   12 sh 1\n");
        assert!(select("CMD\nsh\n", &[1]).is_err());
        assert!(select("", &[1]).is_err());
    }
}
