//! Images: references, the store, import and unpacking, overlay rootfs.
//!
//! The store is an OCI image layout with unpacked layers beside it; see [`store`]. Everything here is
//! blocking and belongs in a short-lived process (`hull image …`, host tasks), except
//! [`store::Store::resolve`], which reads a few small files.
//!
//! **Invariant:** the bytes of an image are never trusted. Every path of a layer is resolved by
//! descriptor inside the layer's own directory, and nothing is used before its digest was checked.

pub mod digest;
pub mod document;
pub mod error;
pub mod reference;
pub mod rootfs;
pub mod store;
pub mod verbs;

mod attributes;
mod bundle;
mod choose;
mod compression;
mod import;
mod index;
mod resolve;
mod tarball;
#[cfg(test)]
mod testing;
mod tree;
mod unpack;

pub use document::ImageConfig;
pub use error::Error;
pub use import::Source;
pub use reference::Reference;
pub use rootfs::{rootfs_down, rootfs_up_all};
pub use store::{Image, Removed, Store};
