//! `list`: every container below the root directory.

use nix::unistd::{Uid, User};
use serde_json::Value;

use crate::oci::command::parse::Parsed;
use crate::oci::container::{Container, print};
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::store;

pub(super) fn list(global: &Global<'_>, given: &Parsed) -> Result<(), Error> {
    let all = store::all(&global.root)?;
    let containers = all.into_iter().map(|(place, record)| Container { place, record });
    if given.is_on("quiet") {
        let ids: Vec<String> = containers.map(|one| format!("{}\n", one.record.id)).collect();
        return print(&ids.concat());
    }
    let states: Vec<Value> = containers.map(|one| one.state(&owner(one.record.owner))).collect();
    match given.value("format").unwrap_or("table") {
        "table" => print(&table(&states)),
        "json" if states.is_empty() => print("null"),
        "json" => print(&Value::Array(states).to_string()),
        other => Err(Error::Refused(format!("invalid format option: {other}"))),
    }
}

/// The name of a user, from the host's passwd; `#uid` for one without, as runc has it.
fn owner(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("#{uid}"), |user| user.name)
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "id"),
    ("PID", "pid"),
    ("STATUS", "status"),
    ("BUNDLE", "bundle"),
    ("CREATED", "created"),
    ("OWNER", "owner"),
];

/// As Go's tabwriter aligns it for runc: at least 12 wide, three blanks between.
fn table(states: &[Value]) -> String {
    let text = |state: &Value, key: &str| match &state[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = states.iter().map(|state| COLUMNS.map(|(_, key)| text(state, key)));
    let rows: Vec<[String; 6]> =
        std::iter::once(COLUMNS.map(|(head, _)| head.to_owned())).chain(rows).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len();
            let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let width = if last { 0 } else { (widest + 3).max(12) };
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_as_runc_aligns_them() {
        let state = json!({"id": "c", "pid": 7, "status": "running", "bundle": "/a/long/bundle", "created": "T",
            "owner": "root"});
        let header = "ID          PID         STATUS      BUNDLE           CREATED     OWNER\n";
        let row = "c           7           running     /a/long/bundle   T           root\n";
        assert_eq!(table(&[state]), format!("{header}{row}"));
    }
}
