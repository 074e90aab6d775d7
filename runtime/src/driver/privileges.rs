//! What the supervisor keeps of root's power once it stands (design section 9, rule 7).
//!
//! Everything privileged is the shim's and the host tasks': the supervisor only reads and writes files,
//! some of them other users' (images, volumes), and talks on sockets that it holds already.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Gives up every capability but the one to read and write files whoever owns them, for good.
///
/// # Errors
/// The kernel refuses, which it does not for a set that only shrinks.
pub fn drop_all_but_files() -> io::Result<()> {
    set_no_new_privs(true)?;
    let kept = CapabilitySet::DAC_OVERRIDE;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}
