//! One function per reader of foreign bytes. A target asserts what must hold for any input; above all that
//! nothing panics.

#[cfg(feature = "pod")]
mod pod;
mod shim;

/// A target and its name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All that this build has.
pub(crate) fn all() -> impl Iterator<Item = Target> {
    #[cfg(feature = "pod")]
    let pod = pod::ALL;
    #[cfg(not(feature = "pod"))]
    let pod: &[Target] = &[];
    shim::ALL.iter().chain(pod).copied()
}
