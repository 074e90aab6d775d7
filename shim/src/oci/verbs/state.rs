//! `state`: what a container does, as JSON.

use crate::oci::container::{Container, print};
use crate::oci::error::Error;
use crate::oci::global::Global;

pub(super) fn state(global: &Global<'_>, id: &str) -> Result<(), Error> {
    let state = Container::find(global, id)?.state("");
    print(&format!("{state:#}"))
}
