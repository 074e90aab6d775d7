//! Containers that get what they ask for.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde_json::json;

use super::world::{Outcome, ROOT, ensure, isolated, mount_on, mounted, world};
use crate::container::engine::files::{Abilities, Base, ChangeRoot, Rights, Users};

fn refused(path: &str, errno: Errno) -> Result<(), String> {
    match std::fs::OpenOptions::new().write(true).open(path) {
        Err(error) if error.raw_os_error() == Some(errno as i32) => Ok(()),
        other => Err(format!("{path} opened for writing: {other:?}")),
    }
}

fn look_at_default() -> Result<(), String> {
    ensure(
        std::env::current_dir().is_ok_and(|dir| dir == Path::new("/")),
        "the working directory is the root",
    )?;
    ensure(!Path::new("/mnt").exists() && !Path::new("/usr").exists(), "nothing of the host")?;
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        let status =
            std::fs::metadata(format!("/dev/{device}")).map_err(|error| format!("{device}: {error}"))?;
        ensure(status.file_type().is_char_device(), device)?;
        ensure(status.permissions().mode() & 0o7777 == 0o666, "mode of a device")?;
    }
    std::fs::write("/dev/null", "x").map_err(|error| format!("null: {error}"))?;
    for (link, target) in [("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx"), ("stdin", "/proc/self/fd/0")] {
        let found = std::fs::read_link(format!("/dev/{link}")).map_err(|error| format!("{link}: {error}"))?;
        ensure(found == Path::new(target), link)?;
    }
    ensure(mounted("/sys")?.contains("ro,nosuid,nodev,noexec"), "sysfs is read-only")?;
    ensure(mounted("/dev/shm")?.contains("rw,nosuid,nodev,noexec"), "shm")?;
    ensure(mounted("/dev/pts")?.contains("gid=5,mode=620,ptmxmode=666"), "devpts")?;
    ensure(mounted("/dev")?.contains("nosuid"), "dev")?;
    ensure(std::fs::read("/proc/keys").is_ok_and(|read| read.is_empty()), "keys are masked")?;
    ensure(
        std::fs::read_dir("/proc/acpi").is_ok_and(|mut all| all.next().is_none())
            || !Path::new("/proc/acpi").exists(),
        "acpi is masked",
    )?;
    refused("/proc/sys/vm/swappiness", Errno::EROFS)?;
    ensure(mounted("/proc/irq")?.starts_with("ro"), "irq is read-only")
}

isolated! {
    fn a_container_with_the_default_mounts_has_them_and_nothing_of_the_host() {
        assert_eq!(world().run(look_at_default), Outcome::Fine);
    }

    fn a_kernel_without_mount_setattr_makes_the_same_container() {
        let mut world = world();
        world.kernel = Abilities { set_attributes: false, copy_with_attributes: false, ..world.kernel };
        world.config["root"]["readonly"] = json!(true);
        std::fs::write("/mnt/volume/file", "x").unwrap();
        world.mount("/data", "bind", "/mnt/volume", &["rbind", "ro", "nosuid"]);
        let look = || {
            look_at_default()?;
            refused("/data/file", Errno::EROFS)?;
            ensure(mounted("/data")?.starts_with("ro,nosuid"), "flags of a bind")?;
            ensure(std::fs::write("/etc/x", "").is_err(), "the root is read-only")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn a_trimmed_namespace_needs_no_place_for_the_root() {
        let mut world = world();
        world.base = Base::Trimmed;
        assert_eq!(world.run(look_at_default), Outcome::Fine);
    }

    fn without_pivot_the_root_is_moved_and_no_proc_of_the_host_is_left() {
        let mut world = world();
        world.change = ChangeRoot::Move;
        assert_eq!(world.run(look_at_default), Outcome::Fine);
    }

    fn a_root_can_be_read_only_with_writable_mounts_in_it() {
        let mut world = world();
        world.config["root"]["readonly"] = json!(true);
        world.mount("/data", "bind", "volume", &["bind"]);
        world.mount("/tmp", "tmpfs", "tmpfs", &["ro"]);
        let look = || {
            ensure(std::fs::write("/etc/x", "").is_err(), "the root is read-only")?;
            ensure(std::fs::write("/tmp/x", "").is_err(), "a tmpfs made read-only at last")?;
            std::fs::write("/data/x", "").map_err(|error| error.to_string())
        };
        assert_eq!(world.run(look), Outcome::Fine);
        assert!(Path::new("/mnt/volume/x").exists());
    }

    fn what_a_mount_needs_is_made_in_the_root() {
        let mut world = world();
        symlink("/run", format!("{ROOT}/var")).unwrap();
        symlink("../../../etc/made/by/link", format!("{ROOT}/etc/link")).unwrap();
        std::fs::write("/mnt/volume/file", "content").unwrap();
        world.mount("/var/deep/er", "bind", "/mnt/volume", &["bind"]);
        world.mount("/a/b/file", "bind", "/mnt/volume/file", &["bind"]);
        world.mount("/etc/link/x", "bind", "/mnt/volume", &["bind"]);
        let look = || {
            for path in ["/run/deep/er/file", "/a/b/file", "/etc/made/by/link/x/file"] {
                let read = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
                ensure(read == b"content", path)?;
            }
            Ok(())
        };
        assert_eq!(world.run(look), Outcome::Fine);
        assert!(!Path::new("/mnt/etc").exists());
    }

    fn recursive_options_reach_mounts_below_and_plain_ones_do_not() {
        let mut world = world();
        mount_on("/mnt/volume/inner");
        world.mount("/plain", "bind", "/mnt/volume", &["rbind", "ro"]);
        world.mount("/deep", "bind", "/mnt/volume", &["rbind", "rro", "rnosuid"]);
        world.mount("/one", "bind", "/mnt/volume", &["bind"]);
        let look = || {
            ensure(mounted("/plain")?.starts_with("ro"), "plain")?;
            ensure(mounted("/plain/inner")?.starts_with("rw"), "plain below")?;
            ensure(mounted("/deep/inner")?.starts_with("ro,nosuid"), "deep below")?;
            ensure(mounted("/one/inner").is_err(), "nothing below without rbind")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn propagation_is_what_the_mount_and_the_root_say() {
        mount_on("/mnt/volume");
        let flags = nix::mount::MsFlags::MS_SHARED;
        nix::mount::mount(None::<&str>, "/mnt/volume", None::<&str>, flags, None::<&str>).unwrap();
        let mut world = world();
        for (name, options) in [("a", &["rbind"][..]), ("b", &["rbind", "rprivate"]), ("c", &["rbind", "rslave"]),
            ("d", &["rbind", "rshared"]), ("e", &["rbind", "runbindable"])] {
            world.mount(&format!("/{name}"), "bind", "/mnt/volume", options);
        }
        let look = || {
            ensure(mounted("/a")?.contains("master:") && !mounted("/a")?.contains("shared:"), "a follows")?;
            ensure(!mounted("/b")?.contains("master:") && !mounted("/b")?.contains("shared:"), "b is private")?;
            ensure(mounted("/c")?.contains("master:") && !mounted("/c")?.contains("shared:"), "c follows")?;
            ensure(mounted("/d")?.contains("master:") && mounted("/d")?.contains("shared:"), "d follows and shares")?;
            ensure(mounted("/e")?.contains("unbindable"), "e is unbindable")
        };
        assert_eq!(world.run(look), Outcome::Fine);
        world.config["linux"]["rootfsPropagation"] = json!("rshared");
        let look = || {
            ensure(mounted("/d")?.contains("shared:") && !mounted("/d")?.contains("master:"), "d is the host's peer")?;
            ensure(mounted("/")?.contains("shared:"), "the root shares")?;
            std::fs::create_dir_all("/d/travels").map_err(|error| error.to_string())?;
            mount_on("/d/travels");
            std::fs::write("/d/travels/x", "").map_err(|error| error.to_string())
        };
        assert_eq!(world.run(look), Outcome::Fine);
        assert!(Path::new("/mnt/volume/travels/x").exists());
    }

    fn a_tmpfs_keeps_the_mode_and_may_copy_what_it_covers() {
        let mut world = world();
        let data = Path::new(ROOT).join("data");
        std::fs::create_dir_all(data.join("sub")).unwrap();
        std::fs::write(data.join("sub/file"), "content").unwrap();
        std::os::unix::fs::chown(data.join("sub/file"), Some(3), Some(4)).unwrap();
        std::fs::set_permissions(data.join("sub/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        symlink("sub/file", data.join("link")).unwrap();
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o2750)).unwrap();
        std::fs::set_permissions(format!("{ROOT}/tmp"), PermissionsExt::from_mode(0o1770)).unwrap();
        world.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]);
        world.mount("/tmp", "tmpfs", "tmpfs", &[]);
        world.mount("/new", "tmpfs", "tmpfs", &[]);
        let look = || {
            let mode = |path: &str| std::fs::symlink_metadata(path).map(|status| status.mode() & 0o7777);
            ensure(mode("/data").is_ok_and(|mode| mode == 0o2750), "mode of a copied directory")?;
            ensure(mode("/tmp").is_ok_and(|mode| mode == 0o1770), "mode of a covered directory")?;
            ensure(mode("/new").is_ok_and(|mode| mode == 0o1777), "mode of a new directory")?;
            ensure(mode("/data/sub/file").is_ok_and(|mode| mode == 0o4711), "mode of a file")?;
            ensure(std::fs::read("/data/link").is_ok_and(|read| read == b"content"), "contents")?;
            ensure(std::fs::metadata("/data/sub/file").is_ok_and(|one| (one.uid(), one.gid()) == (3, 4)), "owner")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn an_id_mapped_mount_shows_other_owners() {
        let mut world = world();
        if !world.kernel.set_attributes {
            return println!("skipped: this kernel has no id-mapped mounts");
        }
        std::fs::write("/mnt/volume/file", "").unwrap();
        world.mount("/data", "bind", "/mnt/volume", &["bind", "idmap=uids=0-1000-10;gids=0-2000-10"]);
        let look = || {
            let status = std::fs::metadata("/data/file").map_err(|error| error.to_string())?;
            ensure((status.uid(), status.gid()) == (1000, 2000), "owners are mapped")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn groups_of_v1_lie_side_by_side_with_links_for_merged_names() {
        let mut world = world();
        for name in ["memory", "cpu,cpuacct"] {
            std::fs::create_dir_all(format!("/mnt/groups/{name}")).unwrap();
            std::fs::write(format!("/mnt/groups/{name}/tasks"), "").unwrap();
            world.groups.push((name.to_owned(), format!("/mnt/groups/{name}").into()));
        }
        world.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
        let look = || {
            refused("/sys/fs/cgroup/memory/tasks", Errno::EROFS)?;
            ensure(Path::new("/sys/fs/cgroup/cpuacct/tasks").exists(), "a link for a merged name")?;
            ensure(std::fs::create_dir("/sys/fs/cgroup/x").is_err(), "the directory is read-only")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn the_unified_hierarchy_is_mounted_or_bound_read_only() {
        let mut world = world();
        world.unified = Some("/mnt/volume".into());
        world.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
        let look = || ensure(mounted("/sys/fs/cgroup")?.contains("- cgroup2"), "the file system");
        assert_eq!(world.run(look), Outcome::Fine);
        // In a user namespace the host's cgroup namespace cannot be mounted, but shown; never to be written.
        world.users = Users::Namespace;
        let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET;
        let look = || ensure(mounted("/sys/fs/cgroup")?.starts_with("ro,"), "read-only");
        assert_eq!(world.run_in(flags, look), Outcome::Fine);
        // With a cgroup namespace it is the container's own group that is shown.
        world.config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "user" }, { "type": "cgroup" }]);
        std::fs::write("/mnt/volume/own", "").unwrap();
        let look = || ensure(Path::new("/sys/fs/cgroup/own").exists(), "the own group");
        assert_eq!(world.run_in(flags, look), Outcome::Fine);
    }

    fn devices_of_the_configuration_take_the_place_of_the_default_ones() {
        let mut world = world();
        world.config["linux"]["devices"] = json!([
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7, "gid": 8 },
            { "path": "/opt/deep/pipe", "type": "p" },
            { "path": "/dev/x/block", "type": "b", "major": 7, "minor": 0 },
        ]);
        let look = || {
            let null = std::fs::metadata("/dev/null").map_err(|error| error.to_string())?;
            ensure((null.uid(), null.gid(), null.mode() & 0o7777) == (7, 8, 0o600), "owner and mode")?;
            ensure(std::fs::metadata("/opt/deep/pipe").is_ok_and(|one| one.file_type().is_fifo()), "a pipe")?;
            ensure(std::fs::metadata("/dev/x/block").is_ok_and(|one| one.file_type().is_block_device()), "a block device")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn in_a_user_namespace_devices_are_bound_and_mounts_of_the_maker_fit() {
        let mut world = world();
        world.users = Users::Namespace;
        world.config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "user" }, { "type": "pid" }]);
        world.config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 100_000 }]);
        world.config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 100_000 }]);
        world.mount("/data", "bind", "/mnt/volume", &["rbind", "ro"]);
        let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET;
        assert_eq!(world.run_in(flags, look_at_default), Outcome::Fine);
        world.rights = Rights::Rootless;
        assert_eq!(world.run_in(flags, look_at_default), Outcome::Fine);
        // Without a network namespace of its own it may not mount sysfs, and sees the host's.
        world.rights = Rights::Root;
        let flags = flags - CloneFlags::CLONE_NEWNET;
        let look = || ensure(mounted("/sys")?.starts_with("ro"), "the host's sysfs, read-only");
        assert_eq!(world.run_in(flags, look), Outcome::Fine);
    }

    fn a_symbolic_link_can_be_bound_copied_or_replaced() {
        let mut world = world();
        std::fs::write("/mnt/volume/file", "content").unwrap();
        symlink("file", "/mnt/volume/link").unwrap();
        symlink("elsewhere", format!("{ROOT}/etc/kept")).unwrap();
        world.mount("/etc/copied/x", "bind", "/mnt/volume/link", &["bind", "copy-symlink"]);
        world.mount("/etc/followed", "bind", "/mnt/volume/link", &["bind"]);
        world.mount("/etc/kept", "bind", "/mnt/volume/link", &["bind", "src-nofollow", "dest-nofollow"]);
        let look = || {
            ensure(std::fs::read_link("/etc/copied/x").is_ok_and(|to| to == Path::new("file")), "a copy")?;
            ensure(std::fs::read("/etc/followed").is_ok_and(|read| read == b"content"), "followed")?;
            ensure(std::fs::read_link("/etc/kept").is_ok_and(|to| to == Path::new("file")), "a link on a link")
        };
        assert_eq!(world.run(look), Outcome::Fine);
    }

    fn without_a_mount_namespace_there_is_a_chroot_and_no_mount() {
        let mut world = world();
        world.config["linux"] = json!({ "namespaces": [] });
        let wanted = "mounts need a private MNT namespace";
        assert_eq!(world.plan().unwrap_err(), wanted);
        world.config["mounts"] = json!([]);
        let look = || ensure(Path::new("/data").exists() && !Path::new("/usr").exists(), "the root");
        assert_eq!(world.run_in(CloneFlags::empty(), look), Outcome::Fine);
    }
}
