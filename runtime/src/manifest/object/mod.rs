//! Services, ConfigMaps and Secrets: defaults, checks, and the bytes of their keys.
//!
//! An accepted object is still a raw one, but a good one: the functions here are the only way in, and
//! `store::objects` keeps what they give out.

mod keys;
mod service;

pub use keys::{accept_config_map, accept_secret};
pub use service::accept_service;

#[cfg(test)]
mod tests;
