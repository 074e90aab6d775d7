//! Attacks on the maker of a container by its image, its configuration, and its neighbours in a shared volume
//! (oci-runtime.md section 7). Each is made twice: it fails, and it succeeds once the guard is taken out.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sched::CloneFlags;
use serde_json::json;

use super::world::{Outcome, ROOT, ensure, isolated, mounted, world};
use crate::container::engine::failed::Doing;
use crate::guard::Guard;
use crate::sys::{pidfd, process};

fn fine() -> Result<(), String> {
    Ok(())
}

/// `directory` of the image becomes a symbolic link.
fn relink(directory: &str, target: &str) {
    let path = Path::new(ROOT).join(directory);
    std::fs::remove_dir_all(&path).unwrap();
    symlink(target, path).unwrap();
}

isolated! {
    fn proc_is_not_mounted_on_what_a_symbolic_link_names() {
        let mut world = world();
        relink("proc", "/data");
        let Outcome::Failed(step, doing, errno) = world.run(fine) else { panic!("it was mounted") };
        assert!(step.contains("type proc"), "{step}");
        assert_eq!((doing, errno), (Doing::Verify, Errno::ELOOP));
        world.without = vec![Guard::Ordinary];
        world.config["linux"]["maskedPaths"] = json!([]);
        world.config["linux"]["readonlyPaths"] = json!([]);
        let look = || ensure(Path::new("/data/self").exists(), "proc at another place");
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn sysfs_is_not_mounted_through_a_symbolic_link() {
        let world = world();
        relink("sys", "data");
        let Outcome::Failed(step, doing, errno) = world.run(fine) else { panic!("it was mounted") };
        assert!(step.contains("type sysfs"), "{step}");
        assert_eq!((doing, errno), (Doing::Verify, Errno::ELOOP));
    }

    fn a_volume_cannot_be_put_into_procfs() {
        let mut world = world();
        for path in ["/proc", "/proc/self/attr", "/proc/sys/kernel", "/tmp/../proc/self"] {
            world.config["mounts"] = json!([{ "destination": path, "type": "tmpfs", "source": "tmpfs" }]);
            assert!(world.plan().unwrap_err().contains("cannot be mounted because it is inside /proc"), "{path}");
        }
        world.config["mounts"] = json!([{ "destination": "/foo", "type": "proc", "source": "proc" }]);
        assert!(world.plan().unwrap_err().contains("must be mounted on"));
        world.config["mounts"] = json!([{ "destination": "/proc", "type": "bind", "source": "/mnt/volume" }]);
        let Outcome::Failed(_, doing, errno) = world.run(fine) else { panic!("it was mounted") };
        assert_eq!((doing, errno), (Doing::Verify, Errno::EPERM));
    }

    fn a_symbolic_link_of_the_image_leads_no_volume_into_procfs() {
        let mut world = world();
        symlink("/proc/sys", format!("{ROOT}/link")).unwrap();
        symlink("/", format!("{ROOT}/top")).unwrap();
        world.mount("/link", "bind", "/mnt/volume", &["bind"]);
        let Outcome::Failed(_, doing, errno) = world.run(fine) else { panic!("it was mounted") };
        assert_eq!((doing, errno), (Doing::Verify, Errno::EPERM));
        world.without = vec![Guard::Procfs];
        world.config["linux"]["readonlyPaths"] = json!([]);
        assert_eq!(world.run(|| mounted("/proc/sys").map(drop)), Outcome::Fine);
        let mut world = super::world::world();
        world.mount("/top", "bind", "/mnt/volume", &["bind"]);
        let Outcome::Failed(_, doing, errno) = world.run(fine) else { panic!("it was mounted") };
        assert_eq!((doing, errno), (Doing::Verify, Errno::EBUSY));
    }

    fn a_device_directory_that_is_a_symbolic_link_leads_nowhere_else() {
        let mut world = world();
        relink("dev", "../../../mnt/host");
        world.config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
        let look = || ensure(Path::new("/mnt/host/null").exists(), "made inside");
        assert_eq!(world.run(look), Outcome::Fine);
        assert!(!Path::new("/mnt/host/null").exists());
        std::fs::remove_dir_all(format!("{ROOT}/mnt")).unwrap();
        relink("data", "/mnt/host");
        std::fs::remove_file(format!("{ROOT}/dev")).unwrap();
        symlink("/mnt/host", format!("{ROOT}/dev")).unwrap();
        world.without = vec![Guard::InRoot];
        assert_eq!(world.run(fine), Outcome::Fine);
        assert!(Path::new("/mnt/host/null").exists());
    }

    fn links_and_parents_of_a_destination_stay_inside() {
        let mut world = world();
        symlink("/mnt/host", format!("{ROOT}/out")).unwrap();
        symlink("../../../../mnt/host", format!("{ROOT}/up")).unwrap();
        for destination in ["/out/a/b", "/up/c/d", "/data/../../../mnt/host/e"] {
            world.mount(destination, "bind", "/mnt/volume", &["bind"]);
        }
        assert_eq!(world.run(|| ensure(Path::new("/mnt/host/a/b").exists(), "inside")), Outcome::Fine);
        assert_eq!(std::fs::read_dir("/mnt/host").unwrap().count(), 0);
        std::fs::remove_dir_all(format!("{ROOT}/mnt")).unwrap();
        world.without = vec![Guard::InRoot];
        world.run(fine);
        assert!(std::fs::read_dir("/mnt/host").unwrap().count() > 0);
    }

    fn a_null_device_of_the_image_masks_nothing() {
        let mut world = world();
        relink("dev", "data");
        symlink("/proc/sys/kernel/core_pattern", format!("{ROOT}/data/null")).unwrap();
        world.config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
        let Outcome::Failed(step, doing, _) = world.run(fine) else { panic!("another null device was taken") };
        assert!(step.starts_with("make devices"), "{step}");
        assert_eq!(doing, Doing::Verify);
    }

    fn what_is_not_the_null_device_masks_nothing() {
        // The runtime's own /dev/null, as a hostile mount namespace may show it.
        let mut world = world();
        std::fs::write("/mnt/host/open", "everybody reads this").unwrap();
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/mnt/host/open"), "/dev/null", None::<&str>, flags, None::<&str>).unwrap();
        let Outcome::Failed(step, doing, errno) = world.run(fine) else { panic!("it masks") };
        assert_eq!((step.as_str(), doing, errno), ("prepare", Doing::Verify, Errno::ENODEV));
        world.without = vec![Guard::Null];
        let look = || ensure(std::fs::read("/proc/keys").is_ok_and(|read| !read.is_empty()), "another file shows");
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn a_neighbour_who_exchanges_directories_for_links_reaches_nothing_outside() {
        let rounds = 300;
        assert!(!escapes(rounds, &[]), "something was made outside of the root");
        assert!(escapes(10 * rounds, &[Guard::InRoot]), "the race is never won, so the test shows nothing");
    }

    fn a_device_of_the_image_must_be_the_one_that_is_wanted() {
        let mut world = world();
        world.config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
        std::fs::write(format!("{ROOT}/dev/null"), "").unwrap();
        let Outcome::Failed(_, doing, errno) = world.run(fine) else { panic!("it was taken") };
        assert_eq!((doing, errno), (Doing::Verify, Errno::EEXIST));
    }
}

/// A neighbour in a shared volume exchanges a directory for a link to the host while containers are made that
/// mount into it. Whether anything appeared on the host.
fn escapes(rounds: u32, without: &[Guard]) -> bool {
    let mut world = world();
    world.without = without.to_vec();
    world.config["mounts"] = json!([]);
    world.config["linux"]["maskedPaths"] = json!([]);
    world.config["linux"]["readonlyPaths"] = json!([]);
    world.mount("/shared", "bind", "/mnt/volume", &["rbind"]);
    world.mount("/shared/dir/made/here", "tmpfs", "tmpfs", &[]);
    world.mount("/shared/dir/bound", "bind", "/mnt/host", &["bind"]);
    std::fs::remove_dir_all("/mnt/volume").unwrap();
    std::fs::create_dir_all("/mnt/volume/dir").unwrap();
    symlink("/mnt/host", "/mnt/volume/link").unwrap();
    let neighbour = process::spawn(CloneFlags::empty(), None, &(), exchange).unwrap();
    let mut escaped = false;
    for _ in 0..rounds {
        // Whether it is made is up to the neighbour; where it is made is not.
        world.run(fine);
        escaped |= std::fs::read_dir("/mnt/host").unwrap().next().is_some();
        for path in ["/mnt/volume/dir", "/mnt/volume/link"] {
            crate::harmless(std::fs::remove_dir_all(format!("{path}/made")));
            crate::harmless(std::fs::remove_dir_all(format!("{path}/bound")));
        }
        if escaped {
            break;
        }
    }
    end(&neighbour.pidfd, neighbour.pid);
    escaped
}

fn exchange((): &()) -> ! {
    loop {
        let (from, to) = ("/mnt/volume/dir", "/mnt/volume/link");
        crate::harmless(renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_EXCHANGE));
    }
}

fn end(neighbour: &OwnedFd, pid: i32) {
    pidfd::signal(std::os::fd::AsFd::as_fd(neighbour), libc::SIGKILL).unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
}
