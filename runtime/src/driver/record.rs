//! The pod's record: the state of `core`, written whole before anyone is told of it.
//!
//! It names the boot that it was written in: boot-time clocks of another boot mean nothing, and neither do
//! the processes that it speaks of.

use std::path::Path;

use hull_shim::layout::BOOT_ID;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::core::State;
use crate::store::file;

/// Version of the record's shape, and of what else is on disk.
const VERSION: u32 = 2;

/// Read by itself: another version has another shape.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Record<S> {
    version: u32,
    boot: String,
    state: S,
}

/// A record that this supervisor cannot go on from.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// It is not JSON of the right shape.
    #[error("it cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// Another hull wrote it.
    #[error("it has version {0}, this supervisor knows {VERSION}; delete the pod with --force")]
    Version(u32),
}

/// The state to go on from; none at the beginning of a pod's life (also after a reboot).
///
/// # Errors
/// The file is there but cannot be used.
pub fn load(path: &Path) -> Result<Option<State>, Error> {
    let Some(text) = file::read_if_there(path)? else { return Ok(None) };
    let Header { version } = serde_json::from_str(&text).map_err(Damaged::from)?;
    if version != VERSION {
        return Err(Damaged::Version(version).into());
    }
    let record: Record<State> = serde_json::from_str(&text).map_err(Damaged::from)?;
    Ok((record.boot == boot()?).then_some(record.state))
}

/// Writes the state down, durably.
///
/// # Errors
/// Names the file; the older record is then still there.
pub fn save(path: &Path, state: &State) -> Result<(), Error> {
    let record = Record { version: VERSION, boot: boot()?, state };
    let json = serde_json::to_vec(&record).map_err(Damaged::from)?;
    Ok(file::write_whole(path, &json, 0o600)?)
}

fn boot() -> Result<String, Error> {
    thread_local! {
        static BOOT: std::cell::OnceCell<String> = const { std::cell::OnceCell::new() };
    }
    if let Some(boot) = BOOT.with(|boot| boot.get().cloned()) {
        return Ok(boot);
    }
    let boot = file::read(Path::new(BOOT_ID))?.trim().to_owned();
    BOOT.with(|cell| cell.set(boot.clone()).ok());
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused_whatever_its_shape() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        std::fs::write(&path, r#"{"version": 1, "boot": "", "state": {}}"#).unwrap();
        assert!(matches!(load(&path), Err(Error::Record(Damaged::Version(1)))));
    }
}
