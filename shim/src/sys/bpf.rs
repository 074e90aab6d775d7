//! Loading and attaching the device program of a cgroup v2 group; bpf(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::check;
use crate::cgroup::devices::program::Instruction;

const LOAD: libc::c_long = 5;
const ATTACH: libc::c_long = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACHMENT: u32 = 6;
/// Programs of groups below may be added, and all have to agree.
const ALLOW_MULTI: u32 = 2;
/// In the place of one that is bound; since Linux 5.6.
const REPLACE: u32 = 4;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is missing for zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Has the kernel verify a program.
///
/// Before Linux 5.11 the programs of all groups count as memory that their user has locked. Of that 64 KiB are allowed by
/// default, which is sixteen programs; that is not what the limit is for.
pub(crate) fn load_device_program(program: &[Instruction]) -> nix::Result<OwnedFd> {
    match load(program) {
        Err(nix::Error::EPERM) => without_limit_of_locked_memory(|| load(program)),
        loaded => loaded,
    }
}

/// Does something without that limit, which is back afterwards: what is executed later inherits it. The caller is the only
/// thread.
fn without_limit_of_locked_memory<T>(act: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    let result = act();
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    result
}

fn load(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(program.len()).map_err(|_| nix::Error::EINVAL)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the kernel reads one `Load` of the size given, `count` instructions laid out as bpf_insn, and a
    // license that ends in a null byte; all outlive the call, and it keeps none of the pointers.
    let number = check(unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: the kernel made this descriptor for us just now (close-on-exec), nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Binds a program to the group whose directory this is, for as long as the group lives.
pub(crate) fn attach_device_program(program: &OwnedFd, group: BorrowedFd<'_>) -> nix::Result<()> {
    match attach(program, group, ALLOW_MULTI) {
        // Also said of a program that is bound to this group already: that one takes its own place, and no other's.
        Err(nix::Error::EINVAL) => {
            attach(program, group, ALLOW_MULTI | REPLACE).map_err(|_| nix::Error::EINVAL)
        }
        attached => attached,
    }
}

fn attach(program: &OwnedFd, group: BorrowedFd<'_>, flags: u32) -> nix::Result<()> {
    let attach = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE_ATTACHMENT,
        flags,
        replaced: if flags & REPLACE == 0 { 0 } else { program.as_raw_fd() as u32 },
    };
    // SAFETY: the kernel reads one `Attach` of the size given, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, ATTACH, &raw const attach, size_of::<Attach>()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::program::compile;

    /// Set in a test program that has the limit.
    const LIMITED: &str = "HULL_LIMITED_TEST";

    /// In a process of its own, whose threads alone have its limit: 64 KiB, as most kernels give it.
    #[test]
    fn more_programs_are_loaded_than_locked_memory_holds() {
        if std::env::var_os(LIMITED).is_some() {
            return load_many();
        }
        let name = "sys::bpf::tests::more_programs_are_loaded_than_locked_memory_holds";
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -S -l 64 && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(LIMITED, "")
            .output()
            .unwrap();
        let told =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }

    fn load_many() {
        let limit = || getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        let before = limit();
        assert_eq!(before.0, 64 << 10);
        let load = || load_device_program(&compile(&[]));
        let first = match load() {
            Err(nix::Error::EPERM) => return println!("skipped: may not load BPF programs"),
            first => first.unwrap(),
        };
        let others: nix::Result<Vec<OwnedFd>> = (0..40).map(|_| load()).collect();
        assert_eq!(others.map(|others| others.len()), Ok(40));
        drop(first);
        match without_limit_of_locked_memory(|| getrlimit(Resource::RLIMIT_MEMLOCK)) {
            Err(nix::Error::EPERM) => println!("skipped: no right to lift it"),
            lifted => assert_eq!(lifted, Ok((RLIM_INFINITY, RLIM_INFINITY))),
        }
        assert_eq!(limit(), before);
    }
}
