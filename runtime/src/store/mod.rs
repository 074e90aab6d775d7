//! Records on disk: objects (Services, ConfigMaps, Secrets), where pods can be reached, the pod's record, the event
//! journal, logs.

pub mod endpoints;
pub mod file;
pub mod follow;
pub mod journal;
pub mod objects;
pub mod rotate;
