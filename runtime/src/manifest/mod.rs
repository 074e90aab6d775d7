//! YAML to raw Kubernetes objects to types that cannot be wrong; errors name the field as kubectl does.
//!
//! ```text
//! text -- tree --> nodes with lines -- decode --> raw objects -- defaults, accept --> typed pod
//! ```
//!
//! [`load()`] reads a file of objects, [`identify()`] says which there are; [`accept()`] checks a Pod and gives out what the rest of hull works with,
//! beside the object that the API shows. Which fields hull honours is told in `docs/fields.md`.

mod accept;
mod changed;
mod decode;
mod defaults;
mod invalid;
mod load;
mod names;
mod object;
pub mod pod;
pub mod quantity;
pub mod raw;
mod tree;

pub use accept::{Accepted, Identity, accept};
pub use changed::{Change, Update, changed, replaced};
pub use decode::Problem;
pub use invalid::{FieldError, Invalid};
pub use load::{Error, Kind, Loaded, Named, identify, load, load_request, reload};
pub use object::{accept_config_map, accept_secret, accept_service};

#[cfg(test)]
mod tests;
