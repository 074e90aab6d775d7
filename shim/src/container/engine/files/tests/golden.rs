//! Whole plans in words.

use serde_json::json;

use super::super::{Abilities, Base, Rights, Users};
use super::world::planned;

/// Compares line by line, so that a difference is easy to see.
fn is(plan: &super::super::Plan, wanted: &[&str]) {
    assert_eq!(super::world::words(plan), wanted);
}

#[test]
fn a_member_of_a_pod_is_planned_in_this_order() {
    let mut world = planned();
    world.base = Base::Trimmed;
    world.config["root"]["readonly"] = json!(true);
    world.config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "ro"] },
        { "destination": "/data", "source": "/v", "options": ["rbind", "rprivate", "ro"] },
        { "destination": "/etc/hosts", "source": "hosts", "options": ["bind", "rslave", "rw"] },
    ]);
    world.config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    world.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    is(
        &world.plan().unwrap(),
        &[
            "attach the root \"/mnt/rootfs\" to the root directory, rslave",
            "mount \"proc\" of type proc to \"/proc\" (an ordinary directory)",
            "mount \"tmpfs\" of type tmpfs to \"/dev\" nosuid, \"mode=755\"",
            "rbind \"/v\" to \"/data\", set ro, rprivate",
            "bind \"/mnt/hosts\" to \"/etc/hosts\", set clear ro, slave",
            "make devices in \"/dev\": null 1:3 666 0:0, zero 1:5 666 0:0, full 1:7 666 0:0, random 1:8 666 0:0, \
         urandom 1:9 666 0:0, tty 5:0 666 0:0, ptmx -> pts/ptmx, fd -> /proc/self/fd, stdin -> /proc/self/fd/0, \
         stdout -> /proc/self/fd/1, stderr -> /proc/self/fd/2, core -> /proc/kcore,",
            "pivot_root",
            "remount \"/dev\" read-only",
            "remount the root read-only",
            "make \"/proc/sys\" read-only",
            "mask \"/proc/keys\"",
        ],
    );
}

#[test]
fn a_rootless_container_opens_its_sources_itself() {
    let mut world = planned();
    (world.rights, world.users) = (Rights::Rootless, Users::Namespace);
    world.config["mounts"] = json!([
        { "destination": "/dev", "source": "/dev", "options": ["rbind"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"] },
    ]);
    world.config["linux"] = json!({
        "namespaces": [{ "type": "mount" }, { "type": "user" }],
        "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],
        "rootfsPropagation": "rprivate",
    });
    is(
        &world.plan().unwrap(),
        &[
            "make the old root rprivate",
            "attach the root \"/mnt/rootfs\" to its own path, rprivate",
            "rbind \"/dev\" (opened by the child) to \"/dev\"",
            "mount \"sysfs\" of type sysfs to \"/sys\" (an ordinary directory) ro; or rbind \"/sys\" (opened by the child)",
            "mount \"devpts\" of type devpts to \"/dev/pts\", \"newinstance\"",
            "pivot_root",
            "make the root rprivate",
        ],
    );
}

#[test]
fn a_mount_label_goes_to_file_systems_that_take_one() {
    let mut world = planned();
    world.config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "source": "/dev", "options": ["rbind"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue" },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs" },
    ]);
    world.config["linux"]["mountLabel"] = json!("u:object_r:t:s0:c1,c2");
    let words = super::world::words(&world.plan().unwrap());
    let mounts = words.iter().filter(|words| words.starts_with("mount")).collect::<Vec<_>>();
    assert_eq!(
        mounts,
        [
            "mount \"proc\" of type proc to \"/proc\" (an ordinary directory)",
            // Without quotes the kernel would take the second category for an option.
            "mount \"shm\" of type tmpfs to \"/dev/shm\", \"mode=1777,context=\\\"u:object_r:t:s0:c1,c2\\\"\"",
            "mount \"mqueue\" of type mqueue to \"/dev/mqueue\", then labelled \"u:object_r:t:s0:c1,c2\"",
            "mount \"sysfs\" of type sysfs to \"/sys\" (an ordinary directory)",
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let cases = [
        (
            json!({ "destination": "/a", "source": "/x", "options": ["bind", "size=1"] }),
            "bind mounts cannot have any filesystem-specific options applied",
        ),
        (
            json!({ "destination": "/a", "type": "tmpfs", "options": ["idmap"] }),
            "id-mapped mounts are only supported for bind-mounts",
        ),
        (
            json!({ "destination": "/a", "source": "/x", "options": ["bind"],
                 "uidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }] }),
            "id-mapped mounts must have both uid and gid mappings specified",
        ),
        (
            json!({ "destination": "/a", "source": "/x", "options": ["bind", "idmap"] }),
            "id-mapped mounts without mappings need a user namespace whose mappings they take",
        ),
        (
            json!({ "destination": "/x/..", "source": "/x", "options": ["bind"] }),
            "mount destination \"/x/..\" is the root itself",
        ),
    ];
    for (mount, wanted) in cases {
        let mut world = planned();
        world.config["mounts"] = json!([mount]);
        assert_eq!(world.plan().unwrap_err(), wanted);
    }
    let mut world = planned();
    world.rights = Rights::Rootless;
    world.config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    assert!(
        world.plan().unwrap_err().starts_with("cannot specify gid=5 mount option for rootless container")
    );
    world.rights = Rights::Root;
    assert!(!world.plan().unwrap().to_string().contains("gid=5"));
    let mut world = planned();
    world.kernel = Abilities { set_attributes: false, kcore: false, ..world.kernel };
    world.config["mounts"] = json!([{ "destination": "/a", "source": "/x", "options": ["rbind", "rro"] }]);
    assert!(world.plan().unwrap_err().contains("need Linux 5.12"));
    let mut world = planned();
    world.config["linux"]["namespaces"] = json!([]);
    assert_eq!(world.plan().unwrap_err(), "unable to restrict sys entries without a private MNT namespace");
}
