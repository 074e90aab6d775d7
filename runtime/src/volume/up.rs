//! The host task that makes volumes; mount(2), hostPath checks in the words of the kubelet.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hull_shim::layout::PodLayout;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::step::{Action, Check, Step};
use super::{Error, Failed, failed, files, sub_path};

/// Largest input that travels inside a message to the shim.
const MAX_INLINE: usize = 48 * 1024;

/// What is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpInput {
    /// The wall clock, for the names of data directories.
    pub now: Timestamp,
    /// In order.
    pub steps: Vec<Step>,
}

/// The input of `hull task volumes-up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskInput {
    /// All of it.
    Steps(UpInput),
    /// A file with an [`UpInput`] as JSON, because a message cannot hold so much. Removed when it is done.
    File(PathBuf),
}

/// Wraps steps for the task; what is too large for a message is put into a file of the pod's directory, `name` with a dot
/// in front. Different callers at one time use different names.
///
/// # Errors
/// The file cannot be written.
pub fn task_input(layout: &PodLayout, name: &str, input: UpInput) -> io::Result<TaskInput> {
    let text = serde_json::to_vec(&input)?;
    if text.len() <= MAX_INLINE {
        return Ok(TaskInput::Steps(input));
    }
    let path = layout.dir().join(format!(".{name}.json"));
    remove_file(&path)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    io::Write::write_all(&mut file, &text)?;
    Ok(TaskInput::File(path))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Carries out the steps of each volume in order, up to the first that fails, and says which failed. What is there already is left
/// as it is, so it may be repeated.
#[must_use]
pub fn up(input: &TaskInput) -> Vec<Error> {
    let carried_out = match input {
        TaskInput::Steps(input) => Ok(carry_out(input)),
        TaskInput::File(path) => carry_out_file(path),
    };
    carried_out.unwrap_or_else(|error| vec![error])
}

fn carry_out_file(path: &Path) -> Result<Vec<Error>, Error> {
    let text = std::fs::read(path).map_err(failed("read", path)).map_err(|error| Error::new("", error))?;
    let input = serde_json::from_slice(&text)
        .map_err(|error| Error::new("", format!("read {}: {error}", path.display())))?;
    let errors = carry_out(&input);
    remove_file(path).map_err(failed("remove", path)).map_err(|error| Error::new("", error))?;
    Ok(errors)
}

fn carry_out(input: &UpInput) -> Vec<Error> {
    let mut errors: Vec<Error> = Vec::new();
    for Step { volume, action } in &input.steps {
        if errors.iter().any(|error| error.volume == *volume) {
            continue;
        }
        if let Err(message) = act(action, input.now) {
            errors.push(Error { volume: volume.clone(), message });
        }
    }
    errors
}

fn act(action: &Action, now: Timestamp) -> Result<(), String> {
    let text = |error: Failed| error.to_string();
    match action {
        Action::Directory { path, mode, group } => directory(path, *mode, *group).map_err(text),
        Action::Tmpfs { path, size, mode, group } => tmpfs(path, *size, *mode, *group).map_err(text),
        Action::HostPath { path, kind } => host_path(path, *kind),
        Action::Files { path, files, group } => files::write(path, files, *group, now).map_err(text),
        Action::SubPath { root, path, target } => sub_path::bind(root, path, target).map_err(text),
    }
}

/// Mode of a directory that a group of its own may write: setgid, so that what is made in it has the same group.
fn shared(mode: u32) -> u32 {
    mode | 0o2770
}

/// Makes a directory beside its place and moves it there, so that it is never seen half made.
fn directory(path: &Path, mode: u32, group: Option<u32>) -> Result<(), Failed> {
    if is_directory(path) {
        return Ok(());
    }
    make_parent(path)?;
    let draft = draft(path);
    make_private(&draft)?;
    if let Some(group) = group {
        std::os::unix::fs::chown(&draft, None, Some(group)).map_err(failed("chown", &draft))?;
    }
    let mode = if group.is_some() { shared(mode) } else { mode };
    std::fs::set_permissions(&draft, Permissions::from_mode(mode)).map_err(failed("chmod", &draft))?;
    std::fs::rename(&draft, path).map_err(failed("rename", path))
}

/// Whether a directory, not a link to one, is there.
fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn make_parent(path: &Path) -> Result<(), Failed> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed("mkdir", parent))
}

/// The name beside `path` under which it is prepared. No volume has a name with a dot.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}

/// Makes a directory for root alone; one that is there already is taken.
fn make_private(path: &Path) -> Result<(), Failed> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_directory(path) => Ok(()),
        made => made.map_err(failed("mkdir", path)),
    }
}

/// Mounts a tmpfs; one that is mounted already stays.
fn tmpfs(path: &Path, size: Option<u64>, mode: u32, group: Option<u32>) -> Result<(), Failed> {
    if !is_directory(path) {
        make_parent(path)?;
        make_private(path)?;
    }
    if is_mount_point(path).map_err(failed("open", path))? {
        return Ok(());
    }
    let mode = if group.is_some() { shared(mode) } else { mode };
    let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let group = group.map(|group| format!(",gid={group}")).unwrap_or_default();
    let options =
        std::ffi::CString::new(format!("mode={mode:o}{size}{group}")).map_err(failed("mount", path))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())
        .map_err(failed("mount tmpfs on", path))
}

/// Whether something is mounted on a directory or file: its parent cannot be left for it.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(true);
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags | OFlags::DIRECTORY, Mode::empty())?;
    match rustix::fs::openat2(parent, name, flags | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::NO_XDEV) {
        Ok(_) => Ok(false),
        Err(rustix::io::Errno::XDEV) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Checks a path of the host, and makes it where its type says so.
fn host_path(path: &Path, kind: Check) -> Result<(), String> {
    if !path.exists() {
        make_host_path(path, kind).map_err(|error| error.to_string())?;
    }
    let found = std::fs::metadata(path).ok().map(|found| found.file_type());
    let (fits, wanted) = match kind {
        Check::Unset => return Ok(()),
        Check::DirectoryOrCreate | Check::Directory => (found.is_some_and(|kind| kind.is_dir()), "directory"),
        Check::FileOrCreate | Check::File => (found.is_some_and(|kind| kind.is_file()), "file"),
        Check::Socket => (found.is_some_and(|kind| kind.is_socket()), "socket file"),
        Check::CharDevice => (found.is_some_and(|kind| kind.is_char_device()), "character device"),
        Check::BlockDevice => (found.is_some_and(|kind| kind.is_block_device()), "block device"),
    };
    let path = path.display();
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {path} is not a {wanted}")) }
}

/// Without a type a missing path becomes a directory, as the runtimes behind the kubelet do it.
fn make_host_path(path: &Path, kind: Check) -> Result<(), Failed> {
    match kind {
        Check::Unset | Check::DirectoryOrCreate => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed("mkdir", path))
        }
        Check::FileOrCreate => {
            let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o644).open(path);
            file.map(drop).map_err(failed("open", path))
        }
        Check::Directory | Check::File | Check::Socket | Check::CharDevice | Check::BlockDevice => Ok(()),
    }
}
