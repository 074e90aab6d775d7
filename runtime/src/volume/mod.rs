//! Volumes: a pure plan, and the host task that carries it out.
//!
//! [`plan`] turns a pod's volumes into [`Step`]s, which can be printed; [`up`] carries them out on the host and may be
//! repeated at any time; [`down`] removes all of it. `hull task volumes-up` and `volumes-down` call those two with their
//! standard input.

pub mod step;

pub use step::{Step, directory, sub_path_target};
