//! An instance's root file system: an overlay of its image's layers, and the host tasks that mount and
//! unmount it.
//!
//! The option string of mount(2) is limited to a page. Where the layers' names do not fit, or hold a
//! character that separates options, each layer is opened and named by its descriptor, in about 17 bytes.
//! See overlayfs.rst.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hull_shim::layout::Layout;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::store::{Image, LEASE, Lease, Store};
use super::tree;

/// What fits into a page beside the terminating NUL.
const OPTIONS_LIMIT: usize = 4095;
/// Nothing of an instance outlives it, so nothing needs syncing (`volatile`); and no layer may lead into
/// another place, whatever its attributes say.
const OPTIONS: &str = "index=off,metacopy=off,redirect_dir=nofollow";
const VOLATILE: &str = ",volatile";

/// A lease being written; a killed task leaves it.
const LEASE_UNFINISHED: &str = "lease.json.new";

const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// Input of `rootfs-up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsUpInput {
    /// The root that is needed now.
    #[serde(flatten)]
    pub first: RootfsInput,
    /// Those that will be needed next: one task is cheaper than one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<RootfsInput>,
}

/// Input of `rootfs-down`, and which root `rootfs-up` mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootfsInput {
    /// `sha256:…`, the id of an image in the store. `rootfs-down` does not look at it.
    pub image_id: String,
    /// The instance's directory.
    pub instance_dir: PathBuf,
    /// Where it has on disk what it writes.
    pub writable_dir: PathBuf,
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// The mounted root.
    pub rootfs: PathBuf,
}

/// What `rootfs-up` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// The mounted root.
    pub rootfs: PathBuf,
    /// Of the others, the directories of the instances whose roots are mounted, too.
    #[serde(default)]
    pub also: Vec<PathBuf>,
}

/// How an overlay is named to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// By the paths themselves.
    Paths(String),
    /// By descriptors, opened in this order: lower directories from the top down, upper, work.
    Descriptors(Vec<PathBuf>),
}

/// The directories of one overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overlay {
    /// From the top down.
    lower: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
}

impl Overlay {
    fn plan(&self) -> Plan {
        let paths = || self.lower.iter().chain([&self.upper, &self.work]);
        let text: Option<Vec<&str>> = paths().map(|path| path.to_str()).collect();
        if let Some(names) =
            text.filter(|names| !names.iter().any(|name| name.contains([':', ',', '\\', '"'])))
        {
            let options = options(&names);
            if options.len() + VOLATILE.len() <= OPTIONS_LIMIT {
                return Plan::Paths(options);
            }
        }
        Plan::Descriptors(paths().cloned().collect())
    }
}

/// The option string for lower directories, upper and work.
fn options(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [lower @ .., upper, work] => {
            format!("lowerdir={},upperdir={upper},workdir={work},{OPTIONS}", lower.join(":"))
        }
        _ => String::new(),
    }
}

/// Mounts the root that is needed now, and those needed next as far as that works: what fails there is tried again,
/// and told, when its turn comes.
///
/// # Errors
/// Those of [`rootfs_up`].
pub fn rootfs_up_all(layout: &Layout, input: &RootfsUpInput) -> Result<Mounted, Error> {
    let Rootfs { rootfs } = rootfs_up(layout, &input.first)?;
    let mounted = input.also.iter().filter(|next| rootfs_up(layout, next).is_ok());
    Ok(Mounted { rootfs, also: mounted.map(|next| next.instance_dir.clone()).collect() })
}

/// Mounts an instance's root at `<instance_dir>/rootfs`, with `upper` and `work` in its directory on disk. Fine if it
/// is mounted already.
///
/// # Errors
/// When there is no such image, or the kernel refuses; the text tells why where that is known.
pub fn rootfs_up(layout: &Layout, input: &RootfsInput) -> Result<Rootfs, Error> {
    let store = Store::open(layout);
    let instance = &input.instance_dir;
    let target = instance.join("rootfs");
    let lease = instance.join(LEASE);
    if tree::is_mount_point(&target)? {
        if read_lease(&lease).is_some_and(|lease| lease.image_id == input.image_id) {
            return Ok(Rootfs { rootfs: target });
        }
        unmount(&target)?;
    }
    let image = take_lease(&store, input, &lease)?;
    let (upper, work) = (input.writable_dir.join("upper"), input.writable_dir.join("work"));
    // An earlier mount that ended without its task leaves marks in `work` that forbid the next one.
    tree::remove(&work)?;
    tree::create_private(&input.writable_dir)?;
    for directory in [&target, &upper, &work] {
        make_directory(directory)?;
    }
    let mut lower: Vec<PathBuf> = image.layers.iter().rev().cloned().collect();
    if lower.is_empty() {
        let empty = instance.join("empty");
        make_directory(&empty)?;
        lower.push(empty);
    }
    mount(&image, &Overlay { lower, upper, work }, &target)?;
    Ok(Rootfs { rootfs: target })
}

/// Unmounts an instance's root and removes it, what was written to it, and the lease. Fine if all is gone.
///
/// # Errors
/// When something stays: a directory cannot be removed, or holds another mount.
pub fn rootfs_down(_layout: &Layout, input: &RootfsInput) -> Result<(), Error> {
    let instance = &input.instance_dir;
    let target = instance.join("rootfs");
    unmount(&target)?;
    tree::remove(&input.writable_dir)?;
    for name in ["empty", "rootfs", LEASE_UNFINISHED, LEASE] {
        tree::remove(&instance.join(name))?;
    }
    Ok(())
}

/// Finds the image and notes that this instance uses its layers, as one step towards whoever removes
/// images.
fn take_lease(store: &Store, input: &RootfsInput, path: &Path) -> Result<Image, Error> {
    let missing = || Error::NoSuchImage(input.image_id.clone());
    if !store.root().exists() {
        return Err(missing());
    }
    let _hold = store.hold_layers()?;
    let image = store.resolve(&input.image_id)?.ok_or_else(missing)?;
    let names = image.layers.iter().filter_map(|layer| layer.file_name());
    let layers = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let lease = Lease { image_id: input.image_id.clone(), layers };
    let text = serde_json::to_vec(&lease).expect("strings can be written as JSON");
    // Whole, but not synced: it need not outlive the host, as the instance does not.
    let temporary = path.with_file_name(LEASE_UNFINISHED);
    std::fs::write(&temporary, text).map_err(Error::io("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(Error::io("replace", path))?;
    Ok(image)
}

fn read_lease(path: &Path) -> Option<Lease> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn make_directory(path: &Path) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        result => result.map_err(Error::io("create", path))?,
    }
    // The upper directory's mode is the root's; the umask must not change it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io("set the mode of", path))
}

fn mount(image: &Image, overlay: &Overlay, target: &Path) -> Result<(), Error> {
    let mut opened: Vec<OwnedFd> = Vec::new();
    let options = match overlay.plan() {
        Plan::Paths(options) => options,
        Plan::Descriptors(paths) => {
            for path in &paths {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                opened.push(rustix::fs::open(path, flags, Mode::empty()).map_err(Error::io("open", path))?);
            }
            let names = opened.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()));
            options(&names.collect::<Vec<_>>())
        }
    };
    if options.len() + VOLATILE.len() > OPTIONS_LIMIT {
        let limit = OPTIONS_LIMIT / "/proc/self/fd/100:".len() - 2;
        return Err(Error::TooManyLayers { id: image.id.clone(), count: overlay.lower.len(), limit });
    }
    // `volatile` came with Linux 5.10.
    let mut result = mount_overlay(target, &(options.clone() + VOLATILE));
    if result == Err(Errno::INVAL) {
        result = mount_overlay(target, &options);
    }
    result.map_err(|errno| Error::Overlay {
        target: target.to_owned(),
        reason: reason(errno, overlay),
        source: errno.into(),
    })
}

fn mount_overlay(target: &Path, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
}

/// What is known about a refusal.
fn reason(errno: Errno, overlay: &Overlay) -> Option<String> {
    if errno == Errno::NODEV {
        return Some("this kernel has no overlayfs".into());
    }
    if let Some(missing) = overlay.lower.iter().find(|lower| !lower.exists()) {
        return Some(format!("layer {} is missing; import the image again", missing.display()));
    }
    let upper = overlay.upper.display();
    if matches!(errno, Errno::PERM | Errno::ACCESS) {
        return Some("it needs CAP_SYS_ADMIN in the namespace that owns the mounts".into());
    }
    let status = File::open(&overlay.upper).ok().and_then(|file| rustix::fs::fstatfs(&file).ok())?;
    if u64::try_from(status.f_type).ok() == Some(OVERLAYFS_MAGIC) {
        return Some(format!(
            "{upper} is itself on an overlay, which cannot hold the writable layer of another; \
             use --root to put hull on a disk or a tmpfs"
        ));
    }
    let bare =
        rustix::fs::setxattr(&overlay.upper, "trusted.overlay.try", b"", rustix::fs::XattrFlags::empty());
    match bare {
        Err(Errno::OPNOTSUPP) => Some(format!(
            "the file system of {upper} has no trusted extended attributes; use --root to put hull on another"
        )),
        _ => None,
    }
}

/// Takes away whatever is mounted on a path; what is busy goes when its last user does.
fn unmount(target: &Path) -> Result<(), Error> {
    // Each turn takes one mount of a stack off.
    while tree::is_mount_point(target)? {
        let result = match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) => rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
            result => result,
        };
        match result {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(Error::io("unmount", target)(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "rootfs_tests.rs"]
mod tests;
