//! Making a pod: claim its name, record it, start its shim, wait until it answers; undo all of it on failure.
//!
//! ```text
//! lock -> name link (dangling) -> directory .new-<uid> with its files -> rename to <uid> -> start shim -> unlock -> wait
//! ```
//!
//! **Invariant:** a pod is recorded once its directory has its final name. Whatever a killed process left before that (a dangling
//! link, a hidden directory) is swept away under the same lock by the next one; after that the pod is
//! simply one whose shim died, and whoever looks at it next starts one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_shim::layout::{BOOT_ID, Layout, PodLayout};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::accept::Accepted;
use super::boot;
use crate::api::client::shim;

/// The file that is locked while names are claimed.
pub(super) const LOCK: &str = "apply.lock";

/// How long a new pod may take until it answers: its network is made meanwhile.
const ANSWER: Duration = Duration::from_secs(30);

/// Why a pod was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mark of this boot.
    #[error(transparent)]
    Mark(#[from] crate::store::file::FileError),
    /// Its name is taken.
    #[error("pods {name:?} already exists")]
    Exists {
        /// The name.
        name: String,
    },
    /// Its shim.
    #[error(transparent)]
    Shim(#[from] shim::Error),
}

impl Error {
    /// What may help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("hull runs as root; or give a directory of your own with --root".to_owned())
            }
            Self::Shim(shim::Error::Execute { .. }) => {
                Some("install hull-shim beside hull, or anywhere in PATH".to_owned())
            }
            Self::File { .. } | Self::Mark(_) | Self::Exists { .. } | Self::Shim(_) => None,
        }
    }

    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }
}

/// A random UUID, version 4.
///
/// # Errors
/// The kernel has no random numbers.
pub fn uid() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    got.map_err(|error| Error::file("read", Path::new("/dev/urandom"))(error.into()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// Makes a pod and waits until it answers.
///
/// # Errors
/// Its name is taken, a file cannot be written, or the shim does not come up. Nothing is left then.
pub async fn pod(layout: &Layout, accepted: &Accepted) -> Result<(), Error> {
    let uid = &accepted.sandbox.uid;
    let started = {
        let _lock = lock(layout)?;
        boot::mark(layout)?;
        sweep(layout);
        let claim = Claim::new(layout, accepted)?;
        record(layout, accepted)?;
        let started = shim::start(layout, uid)?;
        claim.keep();
        started
    };
    match started.answers(layout, uid, ANSWER).await {
        // It was killed, and what it made by then is recorded: a successor goes on from there.
        Err(shim::Error::Ended { .. }) => Ok(shim::revive(layout, uid).await?),
        Err(refused @ shim::Error::Refused { .. }) => {
            // It has made nothing, and nobody owns the pod: it goes away as it came.
            let _lock = lock(layout)?;
            drop(Claim { layout, accepted, kept: false });
            Err(refused.into())
        }
        answered => Ok(answered?),
    }
}

/// Held while names are claimed and records appear.
pub(super) fn lock(layout: &Layout) -> Result<File, Error> {
    let run = layout.run();
    directory(run)?;
    let path = run.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(Error::file("open", &path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| Error::file("lock", &path)(error.into()))?;
    Ok(file)
}

fn directory(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(Error::file("create", path))
}

/// Removes what killed processes left: pods that were never recorded, and those that had given up their name, the
/// last step but one of an end; and what pods of an earlier boot had on disk. Called under the lock, so nobody is at
/// work on it.
fn sweep(layout: &Layout) {
    for uid in left_on_disk(layout) {
        remove_left(layout, &uid);
    }
    for entry in fs::read_dir(layout.pods()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".new-") {
            remove_harmlessly(fs::remove_dir_all(entry.path()), &entry.path());
        } else if !shim::lives(layout, &name) && !is_named(layout, &name) {
            remove_left(layout, &name);
        }
    }
}

fn remove_left(layout: &Layout, uid: &str) {
    if let Err(error) = shim::remove(layout, uid) {
        tracing::warn!(%error, uid, "cannot remove what a pod left");
    }
}

/// Pods that have a directory on disk and none among those of this boot. One of this boot has another `/run`, and may
/// live although nobody holds it: its shim may have been killed. One that is held is of another host, or about to say
/// of which boot it is.
fn left_on_disk(layout: &Layout) -> Vec<String> {
    let Ok(boot) = fs::read_to_string(BOOT_ID) else { return Vec::new() };
    let is_of_now =
        |pod: &PodLayout| fs::read_link(pod.disk_boot()).is_ok_and(|of| of == Path::new(boot.trim()));
    let is_left = |pod: &PodLayout| !pod.dir().exists() && !is_of_now(pod) && !is_held(pod.disk());
    let entries = fs::read_dir(layout.disks()).into_iter().flatten().flatten();
    let uids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    uids.filter(|uid| is_left(&layout.pod(uid))).collect()
}

fn is_held(directory: &Path) -> bool {
    let locked = |file: File| flock(&file, FlockOperation::NonBlockingLockExclusive);
    File::open(directory).is_ok_and(|file| locked(file) == Err(rustix::io::Errno::WOULDBLOCK))
}

/// Whether a name leads to the pod. One whose `sandbox.json` cannot be read counts as named.
fn is_named(layout: &Layout, uid: &str) -> bool {
    let text = fs::read(layout.pod(uid).sandbox_config()).unwrap_or_default();
    let Ok(config) = serde_json::from_slice::<hull_shim::wire::SandboxConfig>(&text) else { return true };
    let link = layout.name_link(&config.namespace, &config.name);
    fs::read_link(link).is_ok_and(|target| target.ends_with(uid))
}

/// What is left over here is found again by the next sweep.
fn remove_harmlessly(removed: io::Result<()>, path: &Path) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove what a pod left");
        }
        _ => {}
    }
}

/// A claimed name, given back with everything behind it unless it is kept.
struct Claim<'a> {
    layout: &'a Layout,
    accepted: &'a Accepted,
    kept: bool,
}

impl<'a> Claim<'a> {
    fn new(layout: &'a Layout, accepted: &'a Accepted) -> Result<Self, Error> {
        let sandbox = &accepted.sandbox;
        let link = layout.name_link(&sandbox.namespace, &sandbox.name);
        if let Some(parent) = link.parent() {
            directory(parent)?;
        }
        // Under the lock a dangling link belongs to nobody.
        if fs::symlink_metadata(&link).is_ok() {
            if link.exists() {
                return Err(Error::Exists { name: sandbox.name.clone() });
            }
            fs::remove_file(&link).map_err(Error::file("remove", &link))?;
        }
        let target = Path::new("../../pods").join(&sandbox.uid);
        symlink(target, &link).map_err(Error::file("create", &link))?;
        Ok(Self { layout, accepted, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let sandbox = &self.accepted.sandbox;
        let pod = self.layout.pod(&sandbox.uid);
        for place in [pod.disk(), pod.dir()] {
            remove_harmlessly(fs::remove_dir_all(place), place);
        }
        let link = self.layout.name_link(&sandbox.namespace, &sandbox.name);
        remove_harmlessly(fs::remove_file(&link), &link);
    }
}

/// Writes the pod's directory under a hidden name and gives it the final one when it is complete.
fn record(layout: &Layout, accepted: &Accepted) -> Result<(), Error> {
    let pod = layout.pod(&accepted.sandbox.uid);
    let hidden = layout.pods().join(format!(".new-{}", accepted.sandbox.uid));
    directory(&layout.pods())?;
    let made = fs::DirBuilder::new().mode(0o700).create(&hidden);
    made.map_err(Error::file("create", &hidden))?;
    let write = || -> Result<(), Error> {
        write(&hidden, &pod.manifest(), &accepted.object)?;
        write(&hidden, &pod.sandbox_config(), &accepted.sandbox)?;
        fs::rename(&hidden, pod.dir()).map_err(Error::file("rename", &hidden))?;
        let pods = layout.pods();
        File::open(&pods).and_then(|pods| pods.sync_all()).map_err(Error::file("sync", &pods))
    };
    write().inspect_err(|_| remove_harmlessly(fs::remove_dir_all(&hidden), &hidden))
}

/// Writes the file that will be `path`, in the hidden directory.
fn write(hidden: &Path, path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let path = hidden.join(path.file_name().unwrap_or_default());
    let json = serde_json::to_vec(value).expect("records have string keys and serialise");
    let written = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()));
    written.map_err(Error::file("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accepted(uid: &str) -> Accepted {
        let mut objects = super::super::accept::read(
            "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: a, image: busybox}]}}",
            "-",
        );
        let object = objects.remove(0).unwrap();
        object.accept("default", (uid, "2024-01-02T03:04:05Z".parse().unwrap()), None).unwrap().unwrap()
    }

    #[test]
    fn uids_are_random_uuids_of_version_4() {
        let (one, two) = (uid().unwrap(), uid().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!("89ab".contains(&one[19..20]));
    }

    #[test]
    fn a_name_is_claimed_once_and_given_back() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        let (first, second) = (accepted("u1"), accepted("u2"));
        let claim = Claim::new(&layout, &first).unwrap();
        record(&layout, &first).unwrap();
        assert!(matches!(Claim::new(&layout, &second), Err(Error::Exists { .. })));
        let manifest = layout.name_link("default", "web").join("manifest.json");
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        assert_eq!(manifest["metadata"]["uid"], json!("u1"));
        drop(claim);
        assert_eq!(fs::read_dir(layout.pods()).unwrap().count(), 0);
        Claim::new(&layout, &second).unwrap();
    }

    #[test]
    fn what_is_on_disk_is_left_over_without_a_pod_unless_it_is_of_this_boot_or_held() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        assert!(left_on_disk(&layout).is_empty());
        let now = fs::read_to_string(BOOT_ID).unwrap();
        for uid in ["alive", "held", "now", "then", "unmarked"] {
            fs::create_dir_all(layout.pod(uid).disk()).unwrap();
        }
        for (uid, boot) in [("now", now.trim()), ("then", "0")] {
            symlink(boot, layout.pod(uid).disk_boot()).unwrap();
        }
        fs::create_dir_all(layout.pod("alive").dir()).unwrap();
        let held = File::open(layout.pod("held").disk()).unwrap();
        flock(&held, FlockOperation::LockShared).unwrap();
        let mut left = left_on_disk(&layout);
        left.sort_unstable();
        assert_eq!(left, ["then", "unmarked"]);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_away() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        fs::create_dir_all(layout.pods().join(".new-u0")).unwrap();
        let link = layout.name_link("default", "web");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("../../pods/u0", &link).unwrap();
        let _lock = lock(&layout).unwrap();
        sweep(&layout);
        assert!(!layout.pods().join(".new-u0").exists());
        Claim::new(&layout, &accepted("u1")).unwrap().keep();
        assert_eq!(fs::read_link(link).unwrap(), Path::new("../../pods/u1"));
    }
}
