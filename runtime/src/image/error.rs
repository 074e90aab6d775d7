//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::reference;

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is no reference.
    #[error("cannot parse image name {name:?}")]
    Reference {
        /// As given.
        name: String,
        /// Why.
        source: reference::Error,
    },
    /// A system call on a path of hull's own failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A document does not parse.
    #[error("{what} is not the JSON that it should be")]
    Json {
        /// Which document.
        what: String,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A document is larger than anyone may ask us to hold in memory.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which document.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A document breaks a rule of the image specification.
    #[error("{what} {problem}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Content that a document names is missing.
    #[error("{what} is missing in {archive}")]
    Missing {
        /// Which file or blob.
        what: String,
        /// Where it was looked for.
        archive: String,
    },
    /// Content does not have the digest that names it.
    #[error("{what} has digest {found}, expected {expected}")]
    Digest {
        /// Which content.
        what: String,
        /// Computed.
        found: Digest,
        /// Promised.
        expected: Digest,
    },
    /// Content does not have the size that its descriptor tells.
    #[error("{what} has {found} bytes, its descriptor says {expected}")]
    Size {
        /// Which content.
        what: String,
        /// Counted.
        found: u64,
        /// Promised.
        expected: u64,
    },
    /// There is nothing for this host.
    #[error("{what} has no image for {wanted}; it has {found}")]
    Platform {
        /// Which index or image.
        what: String,
        /// This host, `linux/amd64`.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// The source is neither an OCI layout nor a docker archive.
    #[error("{archive} is neither an OCI image layout nor a `docker save` archive")]
    UnknownFormat {
        /// The source.
        archive: String,
    },
    /// `--name` was given for several images.
    #[error("{archive} holds {count} images, --name fits only one")]
    NameForMany {
        /// The source.
        archive: String,
        /// How many.
        count: usize,
    },
    /// A tar stream is damaged.
    #[error("damaged tar stream: {problem}")]
    Tar {
        /// How.
        problem: String,
    },
    /// Reading a stream failed.
    #[error("cannot read {what}")]
    Read {
        /// Which stream.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// An entry of a layer asks for something that is not done.
    #[error("layer entry {name:?}: {problem}")]
    Entry {
        /// The entry's name in the archive.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An entry of a layer cannot be made.
    #[error("layer entry {name:?}: cannot {step}")]
    EntryIo {
        /// The entry's name in the archive.
        name: String,
        /// The step that failed.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no such image.
    #[error("no such image: {0}")]
    NoSuchImage(String),
    /// A short id fits several images.
    #[error("image id {0:?} is ambiguous")]
    Ambiguous(String),
    /// The overlay cannot be mounted.
    #[error("cannot mount an overlay on {}{}", target.display(), explain(.reason))]
    Overlay {
        /// The mount point.
        target: PathBuf,
        /// What we know about it.
        reason: Option<String>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The image has more layers than an overlay can have.
    #[error("image {id} has {count} layers; an overlay takes at most {limit}")]
    TooManyLayers {
        /// Which.
        id: String,
        /// Its layers.
        count: usize,
        /// What fits.
        limit: usize,
    },
    /// A file of a rootfs is larger than asked for.
    #[error("{path} in the image is larger than {limit} bytes")]
    FileTooLarge {
        /// The path inside the rootfs.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// A path of a rootfs is not a regular file.
    #[error("{path} in the image is not a regular file")]
    NotAFile {
        /// The path inside the rootfs.
        path: String,
    },
    /// Writing the answer failed.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

fn explain(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
}

impl Error {
    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownFormat { .. } => Some(
                "make one with: skopeo copy docker://NAME oci-archive:FILE, or docker save NAME -o FILE"
                    .into(),
            ),
            Self::NoSuchImage(_) => Some("see what is there with: hull image ls".into()),
            Self::Platform { wanted, .. } => Some(format!("export the image for {wanted}")),
            Self::NameForMany { .. } => Some("leave --name out; the archive's own names are used".into()),
            _ => None,
        }
    }

    /// For `map_err`: `action` on `path` failed.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: source.into() }
    }
}
