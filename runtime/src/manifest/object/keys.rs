//! ConfigMaps and Secrets: their keys and the bytes behind them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::accept::{Identity, identify, meta};
use super::super::invalid::{At, Errors, Invalid};
use super::super::names;
use super::super::raw::{ConfigMap, Secret};

/// Bytes that all values of an object may have together.
const SIZE: usize = 1 << 20;

/// Checks a ConfigMap; the object gets its identity.
pub fn accept_config_map(mut map: ConfigMap, identity: &Identity) -> Result<ConfigMap, Invalid> {
    map.metadata.namespace.get_or_insert_with(|| "default".into());
    identify(&mut map.metadata, &identity.uid, identity.created);
    map.metadata.generation = None;
    let mut errors = Errors::default();
    meta(&map.metadata, names::subdomain, &mut errors);
    check_keys(map.data.keys(), &At::root("data"), &mut errors);
    let at_binary = At::root("binaryData");
    check_keys(map.binary_data.keys(), &at_binary, &mut errors);
    for key in map.data.keys().filter(|key| map.binary_data.contains_key(*key)) {
        errors.invalid(&At::root("data").key(key), key, "duplicate of key present in binaryData");
    }
    let binary = decode_all(&map.binary_data, &at_binary, &mut errors);
    let size = map.data.values().map(String::len).chain(binary.values().map(Vec::len)).sum();
    check_size(size, &mut errors);
    let name = map.metadata.name.clone();
    errors.finish("ConfigMap", name.as_deref(), map)
}

/// Checks a Secret and merges `stringData` into `data`; the object gets its identity.
pub fn accept_secret(mut secret: Secret, identity: &Identity) -> Result<Secret, Invalid> {
    secret.metadata.namespace.get_or_insert_with(|| "default".into());
    if secret.secret_type.as_deref().is_none_or(str::is_empty) {
        secret.secret_type = Some("Opaque".into());
    }
    identify(&mut secret.metadata, &identity.uid, identity.created);
    secret.metadata.generation = None;
    for (key, text) in std::mem::take(&mut secret.string_data) {
        secret.data.insert(key, STANDARD.encode(text));
    }
    let mut errors = Errors::default();
    meta(&secret.metadata, names::subdomain, &mut errors);
    let at = At::root("data");
    check_keys(secret.data.keys(), &at, &mut errors);
    let values = decode_all(&secret.data, &at, &mut errors);
    check_size(values.values().map(Vec::len).sum(), &mut errors);
    check_type(&secret, &at, &mut errors);
    let name = secret.metadata.name.clone();
    errors.finish("Secret", name.as_deref(), secret)
}

fn check_keys<'a>(keys: impl Iterator<Item = &'a String>, at: &At, errors: &mut Errors) {
    for key in keys {
        let at = at.key(key);
        names::key(key).into_iter().for_each(|fault| errors.invalid(&at, key, fault));
    }
}

fn check_size(size: usize, errors: &mut Errors) {
    if size > SIZE {
        errors.too_long(&At::root("[]"), SIZE);
    }
}

/// Keys that a type of Secret must have.
fn check_type(secret: &Secret, at: &At, errors: &mut Errors) {
    let required: &[&str] = match secret.secret_type.as_deref().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/basic-auth" => {
            if !secret.data.contains_key("username") && !secret.data.contains_key("password") {
                errors.required(&at.key("username"), "");
                errors.required(&at.key("password"), "");
            }
            &[]
        }
        _ => &[],
    };
    for key in required.iter().filter(|key| !secret.data.contains_key(**key)) {
        errors.required(&at.key(key), "");
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|byte| !b"\r\n".contains(byte)).collect();
    STANDARD.decode(text).ok()
}

/// The values of base64 texts. What is wrong is told without the value, which may be secret.
fn decode_all(texts: &BTreeMap<String, String>, at: &At, errors: &mut Errors) -> BTreeMap<String, Vec<u8>> {
    let mut values = BTreeMap::new();
    for (key, text) in texts {
        match decode(text) {
            Some(value) => drop(values.insert(key.clone(), value)),
            None => errors.invalid(
                &at.key(key),
                "<hidden>",
                "must be base64; plain text goes into stringData or data",
            ),
        }
    }
    values
}

impl ConfigMap {
    /// All keys and their bytes.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, Vec<u8>> {
        let texts = self.data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        let binary = self.binary_data.iter().filter_map(|(key, text)| Some((key.clone(), decode(text)?)));
        texts.chain(binary).collect()
    }
}

impl Secret {
    /// All keys and their bytes.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, Vec<u8>> {
        self.data.iter().filter_map(|(key, text)| Some((key.clone(), decode(text)?))).collect()
    }
}
