//! The JSON documents of images: index, manifest, configuration, docker's `manifest.json`.
//!
//! As the image specification demands, unknown members are ignored and `null` means absent.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::error::Error;

/// Largest JSON document that is read, as in containerd.
pub(super) const JSON_LIMIT: u64 = 20 * 1024 * 1024;

/// Media types.
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The full name of an image, in a descriptor of `index.json`; containerd's.
pub(super) const NAME: &str = "io.containerd.image.name";
/// The specification's name of an image, in a descriptor of `index.json`.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The image's id, so that looking one up reads no manifest; ours.
pub(super) const IMAGE_ID: &str = "dev.hull.image.id";

/// `null` and absent are the same.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(input).map(Option::unwrap_or_default)
}

fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Points at a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    #[serde(deserialize_with = "nullable")]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    #[serde(deserialize_with = "nullable")]
    pub(super) architecture: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) os: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub(super) variant: String,
}

/// A list of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Index {
    pub(super) schema_version: u32,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub(super) media_type: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) manifests: Vec<Descriptor>,
}

/// One image: its configuration and layers, bottom first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub(super) media_type: String,
    pub(super) config: Descriptor,
    #[serde(deserialize_with = "nullable")]
    pub(super) layers: Vec<Descriptor>,
}

impl Manifest {
    /// Bytes of everything in the store that makes this image, as kubelet events show it.
    pub(super) fn size(&self) -> u64 {
        self.layers.iter().fold(self.config.size, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// A manifest or an index, told apart by its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Index(Index),
    Manifest(Manifest),
}

/// The configuration document, as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ConfigFile {
    #[serde(flatten)]
    pub(super) platform: Platform,
    #[serde(deserialize_with = "nullable")]
    pub(super) created: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) author: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) config: ImageConfig,
    #[serde(deserialize_with = "nullable")]
    pub(super) rootfs: Rootfs,
}

/// The layers' uncompressed digests, bottom first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Rootfs {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub(super) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) diff_ids: Vec<String>,
}

/// How an image wants to be run. Empty means that the image says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user`, `user:group`, `uid`, `uid:gid`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub user: String,
    /// `port/protocol`, sorted.
    #[serde(with = "set", skip_serializing_if = "absent")]
    pub exposed_ports: Vec<String>,
    /// `NAME=value` in order.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub env: Vec<String>,
    /// The command's head.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub entrypoint: Vec<String>,
    /// The command's default arguments.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub cmd: Vec<String>,
    /// Paths that want a volume, sorted.
    #[serde(with = "set", skip_serializing_if = "absent")]
    pub volumes: Vec<String>,
    /// The working directory.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub working_dir: String,
    /// Free for use.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, `TERM` or a number.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub stop_signal: String,
}

/// Go's way to write a set: an object with empty values.
mod set {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer, de::IgnoredAny};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
        let set = Option::<BTreeMap<String, IgnoredAny>>::deserialize(input)?;
        Ok(set.unwrap_or_default().into_keys().collect())
    }

    pub(super) fn serialize<S: Serializer>(set: &[String], output: S) -> Result<S::Ok, S::Error> {
        output.collect_map(set.iter().map(|member| (member, BTreeMap::<(), ()>::new())))
    }
}

/// One image of docker's `manifest.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) layers: Vec<String>,
}

/// Parses a document; `what` names it in the error.
pub(super) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })
}

/// Parses a manifest or an index. A document that could be taken for both is refused.
pub(super) fn parse_node(what: &str, media_type: &str, bytes: &[u8]) -> Result<Node, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default, deserialize_with = "nullable")]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        fs_layers: Option<serde::de::IgnoredAny>,
    }
    let problem = |problem: String| Error::Document { what: what.to_owned(), problem };
    let shape: Shape = parse(what, bytes)?;
    let image = shape.config.is_some() || shape.layers.is_some();
    if shape.manifests.is_some() && image {
        return Err(problem(
            "has both manifests and layers: it could be taken for an index or an image".into(),
        ));
    }
    if shape.fs_layers.is_some() && !image {
        return Err(problem("is a docker schema 1 manifest, which is not supported".into()));
    }
    for said in [media_type, &shape.media_type] {
        let index = matches!(said, OCI_INDEX | DOCKER_INDEX);
        let manifest = matches!(said, OCI_MANIFEST | DOCKER_MANIFEST);
        if index && image || manifest && shape.manifests.is_some() {
            return Err(problem(format!("is not what its media type {said} says")));
        }
    }
    if image {
        return parse(what, bytes).map(Node::Manifest);
    }
    if shape.manifests.is_some() {
        return parse(what, bytes).map(Node::Index);
    }
    Err(problem("is neither an image manifest nor an index".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_absent_and_unknown_members_are_ignored() {
        let text = br#"{"created":null,"os":"linux","architecture":"amd64","new":1,"config":{
            "Env":null,"Cmd":["a"],"Volumes":{"/b":{},"/a":{}},"Labels":null,"StopSignal":"SIGQUIT","OnBuild":[]},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{}]}"#;
        let file: ConfigFile = parse("config", text).unwrap();
        assert_eq!(file.config.cmd, ["a"]);
        assert_eq!(file.config.volumes, ["/a", "/b"]);
        assert_eq!(file.config.stop_signal, "SIGQUIT");
        assert_eq!(file.platform.os, "linux");
        let shown = serde_json::to_value(&file.config).unwrap();
        let expected =
            serde_json::json!({"Cmd": ["a"], "StopSignal": "SIGQUIT", "Volumes": {"/a": {}, "/b": {}}});
        assert_eq!(shown, expected);
        assert_eq!(
            parse::<ConfigFile>("config", br#"{"config":null}"#).unwrap().config,
            ImageConfig::default()
        );
    }

    #[test]
    fn a_document_that_is_both_index_and_manifest_is_refused() {
        let both = br#"{"manifests":[],"layers":[],"config":{"digest":"","size":0}}"#;
        assert!(
            parse_node("x", OCI_INDEX, both).unwrap_err().to_string().contains("both manifests and layers")
        );
        let index = br#"{"manifests":[]}"#;
        assert!(matches!(parse_node("x", OCI_INDEX, index), Ok(Node::Index(_))));
        assert!(parse_node("x", OCI_MANIFEST, index).is_err());
        assert!(parse_node("x", "", br#"{"fsLayers":[]}"#).unwrap_err().to_string().contains("schema 1"));
    }
}
