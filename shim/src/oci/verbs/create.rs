//! `create`: a container whose init waits for `start`.

use crate::container::engine::plan::Start;
use crate::oci::command::parse::Parsed;
use crate::oci::container::print;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::handover::Front;
use crate::oci::make::Blueprint;
use crate::oci::protect;

pub(super) fn create(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    protect::ensure()?;
    let create = || {
        let blueprint = Blueprint::new(global, id, given, (Front::Detached, Start::Later))?;
        if given.is_on("dry-run") {
            return print(&blueprint.print());
        }
        blueprint.create(global, None).map(drop)
    };
    create().map_err(|error| Error::Make("create", Box::new(error)))
}
