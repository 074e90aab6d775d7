//! Records on disk: objects (Services, ConfigMaps, Secrets), the pod's record, the event journal, logs.

pub mod file;
pub mod follow;
pub mod journal;
pub mod objects;
pub mod rotate;
