//! `pause` and `resume`: the freezer.

use crate::oci::container::Container;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::status::Status;

pub(super) fn pause(global: &Global<'_>, id: &str) -> Result<(), Error> {
    let (container, _held) = Container::hold(global, id)?;
    match container.status() {
        Status::Running | Status::Created => container.record.cgroup.freeze(),
        other => Err(Error::NotPausable(other)),
    }
}

pub(super) fn resume(global: &Global<'_>, id: &str) -> Result<(), Error> {
    let (container, _held) = Container::hold(global, id)?;
    match container.status() {
        Status::Paused => container.record.cgroup.thaw(),
        _ => Err(Error::NotPaused),
    }
}
