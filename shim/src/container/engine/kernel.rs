//! What the running kernel can do, as far as a plan depends on it. Asked where a configuration asks for it.

use std::ffi::CStr;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

/// Whether it has a kind of namespaces, by its name in `/proc/self/ns`.
pub(super) fn has_namespace(name: &str) -> bool {
    Path::new("/proc/self/ns").join(name).exists()
}

/// Whether AppArmor is on.
pub(super) fn has_apparmor() -> bool {
    let on = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    on.is_ok_and(|on| on.starts_with('Y'))
}

/// Whether SELinux is on.
pub(super) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// What this kernel lacks of the calls that hull uses where they are there: then it goes a slower way, or cannot do
/// what the text says. Chosen by asking the kernel, once per process; shown by `hull-oci features`.
pub(crate) fn slower_ways() -> Vec<&'static str> {
    let all = [
        (crate::sys::descriptor::can_mark_range(), "close_range(2) with CLOSE_RANGE_CLOEXEC (5.11)"),
        // Nobody is told by asking: it shows when there are many.
        (version() >= (5, 11), "device programs that are not counted as locked memory (5.11)"),
        (crate::sys::mount::has_set_attributes(), "mount_setattr(2) (5.12)"),
        // Only groups have it, and not the root: it came with this version.
        (version() >= (5, 14), "cgroup.kill (5.14)"),
    ];
    all.into_iter().filter(|(is_there, _)| !is_there).map(|(_, what)| what).collect()
}

/// Whether SELinux's policy has this label. Where nobody can tell, it has.
pub(super) fn has_label(label: &CStr) -> bool {
    let context = std::fs::OpenOptions::new().write(true).open("/sys/fs/selinux/context");
    let asked = context.and_then(|mut context| context.write_all(label.to_bytes()));
    !asked.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

pub(super) fn version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let about = nix::sys::utsname::uname().ok();
        let release = about.as_ref().map(|about| about.release().to_string_lossy()).unwrap_or_default();
        let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
        (next(), next())
    })
}
