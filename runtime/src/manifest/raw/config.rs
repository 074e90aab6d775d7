//! `ConfigMap` and `Secret`.

use std::collections::BTreeMap;

use super::{ObjectMeta, objects};

objects! {
    /// A ConfigMap. `binary_data` is base64.
    ConfigMap {
        api_version: Option<String>,
        kind: Option<String>,
        metadata: ObjectMeta,
        binary_data: BTreeMap<String, String>,
        data: BTreeMap<String, String>,
        immutable: Option<bool>,
    }
    /// A Secret. `data` is base64; `string_data` is merged into it when the object is accepted.
    Secret {
        api_version: Option<String>,
        kind: Option<String>,
        metadata: ObjectMeta,
        data: BTreeMap<String, String>,
        immutable: Option<bool>,
        string_data: BTreeMap<String, String>,
        #[serde(rename = "type")]
        secret_type: Option<String>,
    }
}
