//! What all objects have.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Any, objects};

objects! {
    /// `metadata`.
    ObjectMeta {
        name: Option<String>,
        generate_name: Option<String>,
        namespace: Option<String>,
        self_link: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Timestamp>,
        deletion_timestamp: Option<Timestamp>,
        deletion_grace_period_seconds: Option<i64>,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        owner_references: Vec<Any>,
        finalizers: Vec<String>,
        managed_fields: Vec<Any>,
    }
    /// A reference to an object by its name.
    LocalObjectReference {
        name: Option<String>,
    }
}
