//! Writes an OCI image layout as a tar archive.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Result, failed, layer};

const CREATED: &str = "2026-01-01T00:00:00Z";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A packed layer.
pub(crate) struct Layer {
    media_type: String,
    diff_id: String,
    packed: Vec<u8>,
}

impl Layer {
    /// Packs a tar stream as most images do.
    pub(crate) fn gzip(tar: Vec<u8>) -> Result<Self> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let packed = encoder.write_all(&tar).and_then(|()| encoder.finish());
        Self::packed("gzip", &tar, packed)
    }

    /// Packs a tar stream as newer images do.
    pub(crate) fn zstd(tar: Vec<u8>) -> Result<Self> {
        Self::packed("zstd", &tar, zstd::encode_all(tar.as_slice(), 6))
    }

    fn packed(kind: &str, tar: &[u8], packed: std::io::Result<Vec<u8>>) -> Result<Self> {
        let packed = packed.map_err(|error| format!("cannot pack a layer by {kind}: {error}"))?;
        Ok(Self { media_type: format!("{LAYER}+{kind}"), diff_id: digest(tar), packed })
    }
}

struct Archive {
    files: Vec<(String, Vec<u8>)>,
}

impl Archive {
    /// Adds a blob, and describes it.
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.files.push((format!("blobs/{}", digest.replace(':', "/")), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// Writes an archive of one image, whole or not at all.
pub(crate) fn write(path: &Path, name: &str, config: &Value, layers: &[Layer]) -> Result<()> {
    let mut archive = Archive { files: Vec::new() };
    let blobs: Vec<Value> =
        layers.iter().map(|layer| archive.blob(&layer.media_type, &layer.packed)).collect();
    let config = json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
    });
    let config = archive.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": blobs});
    let mut manifest = archive.blob(media_type, manifest.to_string().as_bytes());
    manifest["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    archive.files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    archive.files.push(("index.json".into(), index.to_string().into_bytes()));
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, tar(&archive.files)?).map_err(failed("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(failed("replace", path))
}

fn tar(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(layer::TIME);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, data.as_slice()).map_err(failed("pack", Path::new(name)))?;
    }
    builder.into_inner().map_err(|error| format!("cannot finish the archive: {error}"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `sha256:…`
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
