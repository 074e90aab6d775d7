//! The cgroups of the host in a user namespace (CVE-2023-25809).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;

/// A v2 group of the case's own, to be the root of all that its runtime sees.
pub(crate) struct Ground(pub(crate) PathBuf);

impl Ground {
    pub(crate) fn make(bundle: &Bundle, name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
        let ground = root.join(format!("{}-{name}", bundle.id));
        fs::create_dir(&ground).unwrap();
        Some(Self(ground))
    }

    /// Runs the container where v2 is all there is, and this group the root of it. The runtime is in a group below: one
    /// with processes in it may not give controllers to others.
    pub(crate) fn run(&self, bundle: &Bundle) -> hull_tests::Output {
        let runtime = bundle.command(&["run", &bundle.id]);
        let mut command = Command::new("sh");
        let script = "echo $$ >\"$1/cgroup.procs\" && shift && exec unshare --cgroup --mount --propagation private \
            sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
            mkdir -p /sys/fs/cgroup/runtime && echo $$ >/sys/fs/cgroup/runtime/cgroup.procs && exec \"$@\"' sh \"$@\"";
        command.args(["-c", script, "sh"]).arg(&self.0);
        command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(&bundle.directory);
        command.envs(runtime.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bundle.to_files(command)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove(&entry.path());
    }
    if let Err(error) = fs::remove_dir(group) {
        eprintln!("{}: {error}", group.display());
    }
}

#[test]
fn a_user_namespace_does_not_write_to_the_hosts_cgroups() {
    let mut bundle = target!();
    let Some(ground) = Ground::make(&bundle, "guarded") else {
        return println!("left out: no cgroup v2 is mounted, and v1 is given to no user namespace");
    };
    bundle.configure(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let own = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        (linux["uidMappings"], linux["gidMappings"]) = (own.clone(), own);
        linux["resources"] = json!({});
    });
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "nodev", "noexec"]);
    bundle.script("/bin/busybox mkdir /sys/fs/cgroup/evil || echo kept out");
    let output = ground.run(&bundle);
    assert!(!ground.0.join("evil").exists());
    assert_eq!(output.ok(), "kept out\n");
    if bundle.go_without("cgroup")
        && let Some(ground) = Ground::make(&bundle, "bare")
    {
        ground.run(&bundle).ok();
        assert!(ground.0.join("evil").exists());
    }
}
