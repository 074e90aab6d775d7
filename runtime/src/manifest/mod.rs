//! YAML to raw Kubernetes objects to types that cannot be wrong; errors name the field as kubectl does.

pub mod pod;
