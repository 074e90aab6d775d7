//! `restore`: a container comes back from a checkpoint, by criu, as `run` makes a new one (oci-runtime.md section 2.4).

use super::run;
use crate::oci::command::parse::Parsed;
use crate::oci::criu::restore::Restore;
use crate::oci::criu::settings;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::handover::Front;
use crate::oci::relay::Relay;
use crate::oci::{Code, SUCCESS};
use crate::sys::process;

pub(super) fn restore(global: &Global<'_>, id: &str, given: &Parsed) -> Result<Code, Error> {
    settings::warn(global);
    if given.is_on("detach") {
        Restore::new(global, id, given, Front::Detached)?.perform(global, given, None)?;
        return Ok(SUCCESS);
    }
    let restore = Restore::new(global, id, given, Front::Attached)?;
    if !given.is_on("no-subreaper") {
        process::become_subreaper().map_err(Error::kernel("become a subreaper"))?;
    }
    let mut relay = Relay::new().map_err(Error::kernel("take signals"))?;
    let made = restore.perform(global, given, Some(&mut relay))?;
    run::attend(global, relay, made)
}
