//! What the machine has, as far as it decides how containers run.
//!
//! [`Host::observe`] is the one function of this folder that looks at the machine.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

/// What the machine has.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the disk that holds containers, in bytes.
    pub ephemeral_bytes: u64,
    /// Processors.
    pub cpus: u32,
    /// Capabilities that can be given, as a mask: the bounding set of the process that makes containers.
    pub capabilities: u64,
    /// How control groups are mounted.
    pub cgroup: CgroupMode,
    /// Names below `/sys/fs/cgroup` on v1: hierarchies, and links to them.
    pub cgroup_hierarchies: Vec<String>,
    /// Whether swap can be limited.
    pub swap_limits: bool,
    /// Whether a mount can be made read-only together with all that is mounted below it.
    pub recursive_attributes: bool,
    /// Largest number of tasks of one container.
    pub pids_limit: Option<i64>,
    /// `oom_score_adj` of hull itself: containers cannot go below it without `CAP_SYS_RESOURCE`.
    pub oom_score_adj: i32,
    /// The device nodes of `/dev`, for privileged containers.
    pub devices: Vec<LinuxDevice>,
}

/// How control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Version 1, alone or with version 2 beside it (hybrid).
    V1,
    /// Version 2 alone.
    V2,
}

/// Tasks of a container when nobody says otherwise.
const DEFAULT_PIDS_LIMIT: i64 = 4096;
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// What of `/dev` is made anew in each container, or is no place for devices.
const NOT_DEVICES: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];

impl Host {
    /// Looks at the machine. The capabilities are those of the calling process: call it before dropping any.
    ///
    /// # Errors
    /// A file of `/proc` cannot be read.
    pub fn observe() -> io::Result<Self> {
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let adjustment = std::fs::read_to_string("/proc/self/oom_score_adj")?;
        let disk = rustix::fs::statvfs("/")?;
        let cgroup = cgroup_mode();
        Ok(Self {
            memory_bytes: memory_total(&meminfo),
            ephemeral_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            cpus: std::thread::available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
            capabilities: bounding_set(&status),
            cgroup,
            cgroup_hierarchies: if cgroup == CgroupMode::V1 { names(CGROUP_ROOT) } else { Vec::new() },
            swap_limits: swap_limits(cgroup),
            recursive_attributes: hull_shim::container::has_recursive_attributes(),
            pids_limit: Some(DEFAULT_PIDS_LIMIT),
            oom_score_adj: adjustment.trim().parse().unwrap_or(0),
            devices: devices(Path::new("/dev")),
        })
    }
}

/// The `CapBnd` line of `/proc/self/status`.
fn bounding_set(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// The `MemTotal` line of `/proc/meminfo`, in bytes.
fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

fn cgroup_mode() -> CgroupMode {
    match rustix::fs::statfs(CGROUP_ROOT) {
        Ok(found) if u64::try_from(found.f_type).ok() == Some(CGROUP2_MAGIC) => CgroupMode::V2,
        Ok(_) | Err(_) => CgroupMode::V1,
    }
}

/// Names in a directory, sorted; none if it cannot be read.
fn names(path: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Whether groups have the file that limits swap. The root group of v2 never has it, so its children are asked.
fn swap_limits(mode: CgroupMode) -> bool {
    match mode {
        CgroupMode::V1 => Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
        CgroupMode::V2 => names(CGROUP_ROOT)
            .iter()
            .any(|name| Path::new(CGROUP_ROOT).join(name).join("memory.swap.max").exists()),
    }
}

/// The device nodes below a directory, sorted by path; links are left out.
fn devices(root: &Path) -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    let mut directories: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if NOT_DEVICES.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => found.extend(device(entry.path(), &metadata)),
                // It went away meanwhile.
                Err(_) => {}
            }
        }
    }
    found.sort_by(|one: &LinuxDevice, other: &LinuxDevice| one.path().cmp(other.path()));
    found
}

fn device(path: PathBuf, metadata: &std::fs::Metadata) -> Option<LinuxDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind)
        .set_major(i64::from(rustix::fs::major(metadata.rdev())))
        .set_minor(i64::from(rustix::fs::minor(metadata.rdev())))
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(bounding_set("Name:\tx\nCapBnd:\t000001fffeffffff\n"), 0x1ff_feff_ffff);
        assert_eq!(memory_total("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!((bounding_set(""), memory_total("MemTotal: x")), (0, 0));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let host = Host::observe().unwrap();
        assert!(host.memory_bytes > 0 && host.cpus > 0);
        assert!(host.devices.iter().any(|device| device.path() == Path::new("/dev/null")));
    }
}
