//! Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), openat2(2), pivot_root(2), and
//! the few older calls that go with them. Nothing here allocates.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::check;

pub(crate) use libc::{
    MOUNT_ATTR__ATIME as ATIME, MOUNT_ATTR_NOATIME as NOATIME, MOUNT_ATTR_NODEV as NODEV,
    MOUNT_ATTR_NODIRATIME as NODIRATIME, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW as NOSYMFOLLOW, MOUNT_ATTR_RDONLY as RDONLY,
    MOUNT_ATTR_STRICTATIME as STRICTATIME,
};

/// How much of a tree of mounts a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The one mount.
    One,
    /// The mounts below it too.
    Tree,
}

/// How mounts and unmounts travel; mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Both ways.
    Shared,
    /// From the master only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    /// The kernel's flag.
    pub(crate) fn flag(self) -> MsFlags {
        match self {
            Self::Shared => MsFlags::MS_SHARED,
            Self::Slave => MsFlags::MS_SLAVE,
            Self::Private => MsFlags::MS_PRIVATE,
            Self::Unbindable => MsFlags::MS_UNBINDABLE,
        }
    }
}

fn reach_flag(reach: Reach) -> u32 {
    match reach {
        Reach::One => 0,
        Reach::Tree => libc::AT_RECURSIVE as u32,
    }
}

/// Takes ownership of what a call returned that makes a descriptor.
fn made(result: libc::c_long) -> nix::Result<OwnedFd> {
    let number = check(result)?;
    // SAFETY: every caller passes the result of a call that makes a descriptor (close-on-exec) for us, and
    // passes it once; so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// A copy of the mount that holds `path`, with `path` as its root, in no namespace yet.
pub(crate) fn copy(path: &CStr, reach: Reach) -> nix::Result<OwnedFd> {
    open_tree(libc::AT_FDCWD, path, libc::OPEN_TREE_CLONE | reach_flag(reach))
}

/// [`copy`], of a path whose last component is not followed if it is a symbolic link.
pub(crate) fn copy_unfollowed(path: &CStr, reach: Reach) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | reach_flag(reach) | libc::AT_SYMLINK_NOFOLLOW as u32;
    open_tree(libc::AT_FDCWD, path, flags)
}

/// [`copy`], of what a descriptor stands for.
pub(crate) fn copy_of(place: BorrowedFd<'_>, reach: Reach) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | reach_flag(reach) | libc::AT_EMPTY_PATH as u32;
    open_tree(place.as_raw_fd(), c"", flags)
}

/// [`copy_of`], with attributes set and cleared before anybody sees it: open_tree_attr(2) of Linux 6.15.
pub(crate) fn copy_of_with(
    place: BorrowedFd<'_>,
    reach: Reach,
    (attr_set, attr_clr): (u64, u64),
) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | reach_flag(reach) | libc::AT_EMPTY_PATH as u32;
    open_tree_attr(place.as_raw_fd(), c"", flags, (attr_set, attr_clr))
}

/// The same of the mount that holds `path` alone.
pub(crate) fn copy_with(path: &CStr, attributes: (u64, u64)) -> nix::Result<OwnedFd> {
    open_tree_attr(libc::AT_FDCWD, path, libc::OPEN_TREE_CLONE, attributes)
}

fn open_tree_attr(
    at: i32,
    path: &CStr,
    flags: u32,
    (attr_set, attr_clr): (u64, u64),
) -> nix::Result<OwnedFd> {
    /// The same number on every architecture.
    const OPEN_TREE_ATTR: libc::c_long = 467;
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    let attributes = libc::mount_attr { attr_set, attr_clr, propagation: 0, userns_fd: 0 };
    let (path, size) = (path.as_ptr(), size_of_val(&attributes));
    // SAFETY: reads a path that ends in a null byte and one mount_attr of the size given; both outlive the call.
    made(unsafe { libc::syscall(OPEN_TREE_ATTR, at, path, flags, &raw const attributes, size) })
}

fn open_tree(at: i32, path: &CStr, flags: u32) -> nix::Result<OwnedFd> {
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: open_tree reads a path that ends in a null byte and outlives the call.
    made(unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) })
}

/// Attaches a mount that is in no namespace to the place behind a descriptor.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, place.as_raw_fd(), c"", flags)
}

/// [`attach`], to a path that nobody in a container has a say in.
pub(crate) fn attach_at(mount: BorrowedFd<'_>, path: &CStr) -> nix::Result<()> {
    move_mount(mount, libc::AT_FDCWD, path, libc::MOVE_MOUNT_F_EMPTY_PATH)
}

fn move_mount(mount: BorrowedFd<'_>, at: i32, path: &CStr, flags: u32) -> nix::Result<()> {
    let (from, empty) = (mount.as_raw_fd(), c"".as_ptr());
    // SAFETY: move_mount reads two paths that end in a null byte and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, at, path.as_ptr(), flags) }).map(drop)
}

/// Sets and clears attributes of a mount, from the constants above, and how mounts travel.
pub(crate) fn set(
    mount: BorrowedFd<'_>,
    reach: Reach,
    (attr_set, attr_clr): (u64, u64),
    propagation: Option<Propagation>,
) -> nix::Result<()> {
    let propagation = propagation.map_or(0, |propagation| propagation.flag().bits());
    mount_setattr(mount, reach, &libc::mount_attr { attr_set, attr_clr, propagation, userns_fd: 0 })
}

/// Sets attributes of the mount behind a descriptor by its number, for a forked child.
pub(crate) fn set_attributes_of(mount: i32, reach: Reach, set: u64) -> nix::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    set_by_number(mount, reach, &attributes)
}

/// Shows a mount that is in no namespace with the ids that a user namespace maps.
pub(crate) fn set_id_map(mount: BorrowedFd<'_>, reach: Reach, users: BorrowedFd<'_>) -> nix::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    mount_setattr(mount, reach, &attributes)
}

/// Whether this kernel has mount_setattr(2), which is of Linux 5.12.
#[must_use]
pub(crate) fn has_set_attributes() -> bool {
    let null = std::ptr::null::<libc::mount_attr>();
    // SAFETY: a size of zero is refused with EINVAL before anything is read.
    let answer = check(unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, null, 0) });
    answer != Err(Errno::ENOSYS)
}

fn mount_setattr(mount: BorrowedFd<'_>, reach: Reach, attributes: &libc::mount_attr) -> nix::Result<()> {
    set_by_number(mount.as_raw_fd(), reach, attributes)
}

fn set_by_number(mount: i32, reach: Reach, attributes: &libc::mount_attr) -> nix::Result<()> {
    let flags = reach_flag(reach) | libc::AT_EMPTY_PATH as u32;
    let size = size_of::<libc::mount_attr>();
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: reads an empty path and one mount_attr of the size given; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, mount, c"".as_ptr(), flags, attributes, size) })
        .map(drop)
}

/// A new tmpfs that is in no namespace, with string options.
pub(crate) fn new_tmpfs<'a>(
    options: impl IntoIterator<Item = (&'a CStr, &'a CStr)>,
    attributes: u64,
) -> nix::Result<OwnedFd> {
    // SAFETY: reads a name that ends in a null byte.
    let context = made(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    for (key, value) in options {
        configure(context.as_fd(), libc::FSCONFIG_SET_STRING, Some((key, value)))?;
    }
    configure(context.as_fd(), libc::FSCONFIG_CMD_CREATE, None)?;
    let context = context.as_raw_fd();
    // SAFETY: fsmount takes integers.
    made(unsafe { libc::syscall(libc::SYS_fsmount, context, libc::FSMOUNT_CLOEXEC, attributes) })
}

/// Gives the working directory an SELinux label; setxattr(2).
pub(crate) fn label_here(label: &CStr) -> nix::Result<()> {
    let (value, length) = (label.as_ptr().cast(), label.count_bytes() + 1);
    // SAFETY: path and name end in null bytes, and the value is as long as is said, its own null byte included.
    check(unsafe { libc::setxattr(c".".as_ptr(), c"security.selinux".as_ptr(), value, length, 0) }.into())
        .map(drop)
}

/// A new procfs of this PID namespace that is in no mount namespace, with options of a string or of none.
pub(crate) fn new_procfs(
    pid_namespace: BorrowedFd<'_>,
    options: &[(CString, Option<CString>)],
    attributes: u64,
) -> nix::Result<OwnedFd> {
    // SAFETY: reads a name that ends in a null byte.
    let context = made(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    for (key, value) in options {
        match value {
            Some(value) => configure(context.as_fd(), libc::FSCONFIG_SET_STRING, Some((key, value)))?,
            None => set_flag(context.as_fd(), key)?,
        }
    }
    // What a mountinfo shows as its source.
    configure(context.as_fd(), libc::FSCONFIG_SET_STRING, Some((c"source", c"proc")))?;
    let (number, key) = (pid_namespace.as_raw_fd(), c"pidns".as_ptr());
    let (null, command) = (std::ptr::null::<libc::c_char>(), libc::FSCONFIG_SET_FD);
    // SAFETY: reads a key that ends in a null byte; a descriptor comes with no value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, null, number) })?;
    configure(context.as_fd(), libc::FSCONFIG_CMD_CREATE, None)?;
    let context = context.as_raw_fd();
    // SAFETY: fsmount takes integers.
    made(unsafe { libc::syscall(libc::SYS_fsmount, context, libc::FSMOUNT_CLOEXEC, attributes) })
}

fn set_flag(context: BorrowedFd<'_>, key: &CStr) -> nix::Result<()> {
    let (null, command) = (std::ptr::null::<libc::c_char>(), libc::FSCONFIG_SET_FLAG);
    // SAFETY: reads a key that ends in a null byte; a flag comes with no value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), null, 0) })
        .map(drop)
}

fn configure(
    context: BorrowedFd<'_>,
    command: libc::fsconfig_command,
    pair: Option<(&CStr, &CStr)>,
) -> nix::Result<()> {
    let (key, value) =
        pair.map_or((std::ptr::null(), std::ptr::null()), |(key, value)| (key.as_ptr(), value.as_ptr()));
    // SAFETY: reads two strings that end in a null byte and outlive the call, or none with a command.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) }).map(drop)
}

/// Mounts a new file system over the current working directory; mount(2).
pub(crate) fn mount_here(source: &CStr, filesystem: &CStr, flags: MsFlags, data: &CStr) -> nix::Result<()> {
    let data = if data.is_empty() { std::ptr::null() } else { data.as_ptr() };
    let (source, filesystem) = (source.as_ptr(), filesystem.as_ptr());
    // SAFETY: reads strings that end in a null byte and outlive the call; the file systems that read
    // binary data are none that a configuration can name with text.
    check(unsafe { libc::mount(source, c".".as_ptr(), filesystem, flags.bits(), data.cast()) }.into())
        .map(drop)
}

/// Changes flags or propagation of the mount at `path`; mount(2) without source, type and data.
pub(crate) fn change(path: &CStr, flags: MsFlags) -> nix::Result<()> {
    let null = std::ptr::null();
    // SAFETY: reads one path that ends in a null byte and outlives the call.
    check(unsafe { libc::mount(null, path.as_ptr(), null, flags.bits(), null.cast()) }.into()).map(drop)
}

/// Moves the mount on the current working directory over the root directory; mount(2) with `MS_MOVE`.
pub(crate) fn move_here_to_root() -> nix::Result<()> {
    let (null, flags) = (std::ptr::null(), libc::MS_MOVE);
    // SAFETY: reads two paths that end in a null byte.
    check(unsafe { libc::mount(c".".as_ptr(), c"/".as_ptr(), null, flags, null.cast()) }.into()).map(drop)
}

/// Detaches the mount at `path`, with what is below it.
pub(crate) fn detach(path: &CStr) -> nix::Result<()> {
    // SAFETY: reads one path that ends in a null byte and outlives the call.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// Exchanges the root mount for the current working directory, under which the old root then lies at the same place;
/// pivot_root(2).
pub(crate) fn pivot_here() -> nix::Result<()> {
    // SAFETY: reads two paths that end in a null byte.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// Opens `path` below the directory `at`; openat2(2) with `RESOLVE_*` flags. The descriptor is close-on-exec.
pub(crate) fn open_below(at: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> nix::Result<OwnedFd> {
    open_how(at.as_raw_fd(), path, flags, resolve)
}

/// The same from the working directory, or of an absolute path.
pub(crate) fn open_here(path: &CStr, flags: i32, resolve: u64) -> nix::Result<OwnedFd> {
    open_how(libc::AT_FDCWD, path, flags, resolve)
}

fn open_how(at: i32, path: &CStr, flags: i32, resolve: u64) -> nix::Result<OwnedFd> {
    // SAFETY: open_how is plain memory for which all zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    let (path, size) = (path.as_ptr(), size_of_val(&how));
    // SAFETY: reads a path that ends in a null byte and one open_how of the size given; both outlive the call.
    made(unsafe { libc::syscall(libc::SYS_openat2, at, path, &raw const how, size) })
}

/// Reads the target of the symbolic link `name` in a directory into `buffer`; its length. readlinkat(2).
pub(crate) fn read_link(directory: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> nix::Result<usize> {
    let (at, name, room) = (directory.as_raw_fd(), name.as_ptr(), buffer.len());
    // SAFETY: reads a name that ends in a null byte; the kernel writes at most `room` bytes into a buffer of that
    // length.
    let length = unsafe { libc::readlinkat(at, name, buffer.as_mut_ptr().cast(), room) };
    Ok(check(length as libc::c_long)? as usize)
}

/// Reads entries of a directory into `buffer`, as many bytes of `struct linux_dirent64` as it returns; getdents64(2).
pub(crate) fn read_entries(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    let (at, room) = (directory.as_raw_fd(), buffer.len());
    // SAFETY: the kernel writes at most `room` bytes into a buffer of that length.
    let length = unsafe { libc::syscall(libc::SYS_getdents64, at, buffer.as_mut_ptr(), room) };
    Ok(check(length)? as usize)
}
