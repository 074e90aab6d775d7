//! Where hull keeps things on disk (design section 7).
//!
//! One value, made once from `--root`, answers every question about a path, so that no other file
//! spells one out. Without `--root` the usual places of a Linux host are used; with it everything
//! lies below one directory and several hulls run side by side.

use std::path::{Path, PathBuf};

/// The id of this boot of the host; random(4).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The directories of one hull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: Option<PathBuf>,
    run: PathBuf,
    lib: PathBuf,
    logs: PathBuf,
}

impl Layout {
    /// The layout below `root` (absolute), or the host's own places when there is none.
    #[must_use]
    pub fn new(root: Option<PathBuf>) -> Self {
        let (run, lib, logs) = match &root {
            Some(root) => (root.join("run"), root.join("lib"), root.join("log/pods")),
            None => ("/run/hull".into(), "/var/lib/hull".into(), "/var/log/pods".into()),
        };
        Self { root, run, lib, logs }
    }

    /// The value of `--root`, to hand on to a child process.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// `/run/hull`: everything that ends with a reboot.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The id of the boot that the records below [`Layout::run`] are of.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.run.join("boot_id")
    }

    /// The directory with one entry per pod, named by uid.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.run.join("pods")
    }

    /// The files of one pod.
    #[must_use]
    pub fn pod(&self, uid: &str) -> PodLayout {
        PodLayout { dir: self.pods().join(uid), disk: self.disks().join(uid) }
    }

    /// The directory with what each pod has on disk, by uid.
    #[must_use]
    pub fn disks(&self) -> PathBuf {
        self.lib.join("pods")
    }

    /// A symlink per living pod, `<namespace>/<name>` -> `../../pods/<uid>`; making it claims the name.
    #[must_use]
    pub fn name_link(&self, namespace: &str, name: &str) -> PathBuf {
        self.run.join("names").join(namespace).join(name)
    }

    /// Applied objects of one kind (`services`, `configmaps`, `secrets`) in a namespace.
    #[must_use]
    pub fn objects(&self, kind: &str, namespace: &str) -> PathBuf {
        self.run.join("objects").join(kind).join(namespace)
    }

    /// Where each living pod can be reached, one file per pod, named by uid.
    #[must_use]
    pub fn endpoints(&self) -> PathBuf {
        self.run.join("endpoints")
    }

    /// The file of one pod among [`Layout::endpoints`]: its supervisor writes it, and whoever removes the pod removes it.
    #[must_use]
    pub fn endpoint(&self, uid: &str) -> PathBuf {
        self.endpoints().join(uid)
    }

    /// Address leases of the pod network and of the service range.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.run.join("network")
    }

    /// State of containers made by `hull-oci`.
    #[must_use]
    pub fn oci(&self) -> PathBuf {
        self.run.join("oci")
    }

    /// The image store: an OCI layout, unpacked layers and references.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.lib.join("images")
    }

    /// Seccomp profiles for `Localhost`, by relative path, as below the kubelet's root directory.
    #[must_use]
    pub fn seccomp_profiles(&self) -> PathBuf {
        self.lib.join("seccomp")
    }

    /// `/var/log/pods/<namespace>_<name>_<uid>`: the log directory of one pod.
    #[must_use]
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }
}

/// The files of one pod: hull's own below `/run/hull/pods/<uid>/`, which is in memory and often cannot be executed from;
/// and what its containers write, however much it is, below `/var/lib/hull/pods/<uid>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLayout {
    dir: PathBuf,
    disk: PathBuf,
}

impl PodLayout {
    /// The pod's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the pod has on disk. It is there before anything of the pod is in it or in its logs, and goes before
    /// [`PodLayout::dir`] does: without that one it is left over, or is of a pod that has another `/run`.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// A link that leads nowhere and names the boot that [`PodLayout::disk`] is of: nothing of another boot lives.
    #[must_use]
    pub fn disk_boot(&self) -> PathBuf {
        self.disk.join("boot_id")
    }

    /// The accepted manifest: the Pod object as JSON, defaulted, with uid and creation time.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    /// How the shim makes the sandbox: [`crate::wire::SandboxConfig`] as JSON.
    #[must_use]
    pub fn sandbox_config(&self) -> PathBuf {
        self.dir.join("sandbox.json")
    }

    /// The supervisor's record: the state of `core` with its generation.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    /// The journal of events, appended to.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.dir.join("events.journal")
    }

    /// The supervisor's socket: the Kubernetes API of this one pod.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// Locked for as long as the pod has a shim; holds the pids of the shim and, in the next line, of its keeper.
    #[must_use]
    pub fn shim_lock(&self) -> PathBuf {
        self.dir.join("shim.pid")
    }

    /// Where the supervisor writes what becomes [`Layout::endpoint`]: what a killed one leaves goes with the pod.
    #[must_use]
    pub fn new_endpoint(&self) -> PathBuf {
        self.dir.join("endpoint.json")
    }

    /// The shim's record: sandbox, instances and their exits.
    #[must_use]
    pub fn shim_record(&self) -> PathBuf {
        self.dir.join("shim.json")
    }

    /// What the shim is writing to a log just now.
    #[must_use]
    pub fn output_note(&self) -> PathBuf {
        self.dir.join("output.json")
    }

    /// What the shim and the supervisor say about themselves.
    #[must_use]
    pub fn diagnostics(&self) -> PathBuf {
        self.dir.join("hull.log")
    }

    /// The pod's volumes, one directory per volume name.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.disk.join("volumes")
    }

    /// The parts of volumes that `subPath` names, bound here, `<container>.<attempt>/<index of the mount>`.
    #[must_use]
    pub fn sub_paths(&self) -> PathBuf {
        self.dir.join("subpaths")
    }

    /// Files shared by all containers: `hosts`, `resolv.conf`, `hostname`, and the `shm` mount.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    /// The `/dev/shm` of the pod, a tmpfs.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.dir.join("shm")
    }

    /// What hull has of one instance: `config.json`, the mounted `rootfs`, stdio FIFOs, the termination message.
    #[must_use]
    pub fn instance(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir.join("containers").join(format!("{container}.{attempt}"))
    }

    /// What one instance writes: the `upper` and `work` of its root.
    #[must_use]
    pub fn writable(&self, container: &str, attempt: u32) -> PathBuf {
        self.disk.join("containers").join(format!("{container}.{attempt}"))
    }
}
