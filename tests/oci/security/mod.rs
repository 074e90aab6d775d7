//! The attacks of oci-runtime.md section 7, made against the runtime (`make test-security`).
//!
//! Each is seen to fail. Then the guard is taken out (`Bundle::go_without`, debug builds of `hull-oci` only) and it
//! succeeds, so the case is known to test something.

/// A bundle to attack `hull-oci` with. Established runtimes are left alone: some of what is tried here succeeds against
/// versions that distributions still ship.
macro_rules! target {
    () => {{
        if crate::bundle::is_peer() {
            return println!("left out: attacks are made against hull-oci alone");
        }
        bundle!()
    }};
}

pub(crate) mod cgroups;
mod descriptors;
mod devices;
mod joining;
mod own_file;
mod places;
mod procfs;
mod terminals;

use serde_json::{Value, json};

use crate::bundle::Bundle;

impl Bundle {
    /// `path` of the image becomes a symbolic link to `target`.
    fn relink(&self, path: &str, target: &str) {
        let path = self.path("rootfs").join(path);
        // It may be there already, and be anything.
        let removed = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        assert!(removed.is_ok() || !path.exists());
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// A directory of the host that no container has any business in.
    fn host_directory(&self) -> String {
        let path = self.path("host");
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    }

    /// What there is in a directory of the bundle.
    fn entries(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Keeps of the mounts only those at or below `destination`.
    fn keep_mounts(&mut self, destinations: &[&str]) {
        self.configure(|config| {
            let kept = |mount: &Value| destinations.iter().any(|one| mount["destination"] == *one);
            config["mounts"].as_array_mut().unwrap().retain(kept);
        });
    }

    /// Adds a mount.
    fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.configure(|config| config["mounts"].as_array_mut().unwrap().push(mount));
    }

    /// Nothing is masked or read-only.
    fn expose(&mut self) {
        self.configure(|config| {
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
        });
    }

    /// A hook, so that the container is made among the mounts of the host, where there is more to reach.
    fn among_the_hosts_mounts(&mut self) {
        self.configure(|config| config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]}));
    }
}
