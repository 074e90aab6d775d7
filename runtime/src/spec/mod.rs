//! From a pod, an image and the host's facts to an OCI runtime spec and the files beside it.
//!
//! **Invariant:** pure. [`plan`] and everything that it calls read no file, clock or environment; [`Host::observe`]
//! and [`rootfs`] alone touch the machine, for the driver to pass their answers in. What follows is reference
//! `pod-lifecycle.md` section 11 (the kubelet's part) and `pod-to-oci-and-cri.md` part 1 (the runtime's part).
//!
//! The spec is complete but for what only the shim knows: namespaces listed without a path are the sandbox's
//! (`network`, `ipc`, `uts`, and `pid` where the pod shares it), and `cgroupsPath` is absent. Its `root.path` is `rootfs`,
//! relative to the bundle, which is the instance's directory.

pub mod capabilities;
pub mod command;
pub mod downward;
pub mod env;
pub mod error;
pub mod files;
pub mod host;
pub mod linux;
pub mod mounts;
pub mod resources;
pub mod rootfs;
pub mod sandbox;
pub mod seccomp;
pub mod signal;
pub mod sources;
pub mod user;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod golden;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use hull_shim::layout::PodLayout;
use hull_shim::wire::InstanceId;
use oci_spec::runtime::{Process, Root, Spec};

pub use crate::image::ImageConfig;
pub use error::Error;
pub use files::{ResolvConf, hosts, kernel_hostname, resolv_conf};
pub use host::{CgroupMode, Host};
pub use resources::{pod_resources, qos};
pub use sandbox::sandbox_config;
pub use sources::{ServiceFacts, ServicePort, Sources};

use crate::manifest::pod::{Container, Pod};
use crate::volume::Step;

/// The domain under which the names of services end.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Everything that decides how one instance runs.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// One of its containers.
    pub container: &'a Container,
    /// The run that is to be made.
    pub instance: &'a InstanceId,
    /// The `config` object of the image's configuration.
    pub image: &'a ImageConfig,
    /// The pod's addresses, primary first.
    pub ips: &'a [IpAddr],
    /// The host's addresses, primary first.
    pub host_ips: &'a [IpAddr],
    /// The name of the host, as the API shows it.
    pub node_name: &'a str,
    /// ConfigMaps, Secrets and Services of the pod's namespace, as they are now.
    pub sources: &'a Sources,
    /// Text of `/etc/passwd` in the rootfs, empty if there is none; read with `RESOLVE_IN_ROOT`.
    pub passwd: &'a str,
    /// Text of `/etc/group` in the rootfs, empty if there is none.
    pub group: &'a str,
    /// Text of the `Localhost` seccomp profile that [`linux::localhost_profile`] names, if it could be read.
    pub seccomp_profile: Option<&'a str>,
    /// Texts of the files that [`env::files`] names, by volume and path; a file that could not be read is missing.
    pub env_files: &'a BTreeMap<(String, String), String>,
    /// Where the pod's files are.
    pub layout: &'a PodLayout,
    /// What the machine has.
    pub host: &'a Host,
}

/// How one instance is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `config.json` of the bundle.
    pub spec: Spec,
    /// For [`hull_shim::wire::CreateConfig::oom_score_adj`]; not in the spec, since lowering may not be permitted.
    pub oom_score_adj: i32,
    /// The image's stop signal, if it names one.
    pub stop_signal: Option<i32>,
    /// The environment of the process, `NAME=value`; the same as in the spec.
    pub env: Vec<String>,
    /// The working directory in the container.
    pub working_dir: String,
    /// Where it is to be made with [`rootfs::make_dir`] before the container is created: a root and a path below it.
    /// The root is relative to the bundle when it is `rootfs`, else a volume's directory. None where nothing can be made.
    pub make_dir: Option<(PathBuf, String)>,
    /// To be made empty, mode 0666, before the container is created; its termination message.
    pub termination_log: PathBuf,
    /// To be carried out by the `volumes-up` task before the container is created: its `subPath` mounts.
    pub sub_paths: Vec<Step>,
}

/// Plans one instance.
///
/// # Errors
/// The kubelet's or the runtime's text for what the manifest asks and cannot have; see [`Error::is_config`].
pub fn plan(input: &Input<'_>) -> Result<Plan, Error> {
    let variables = env::pod_variables(input)?;
    user::verify_non_root(input)?;
    let identity = user::identity(input)?;
    let args = command::args(input, &variables)?;
    let env = env::process_environment(input, &variables, identity.home.as_deref());
    let working_dir = command::working_dir(input);
    let capabilities = capabilities::of(&input.container.security, input.host)?;
    let mounts = mounts::plan(input, &variables)?;
    let make_dir = mounts::place_of(&mounts, &working_dir);
    let mut process = Process::default();
    process
        .set_terminal(input.container.tty.then_some(true))
        .set_user(identity.user)
        .set_args(Some(args))
        .set_env(Some(env.clone()))
        .set_cwd(PathBuf::from(&working_dir))
        .set_capabilities(Some(capabilities::to_oci(&capabilities)))
        .set_rlimits(None)
        // Written out as false it makes libcontainer refuse a seccomp filter.
        .set_no_new_privileges((!input.container.security.allow_privilege_escalation).then_some(true));
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(input.container.security.read_only_root));
    let mut spec = Spec::default();
    spec.set_version("1.0.2".to_owned())
        .set_hostname(None)
        .set_root(Some(root))
        .set_process(Some(process))
        .set_linux(Some(linux::plan(input, &capabilities, &mounts)?))
        .set_mounts(Some(mounts.mounts))
        .set_annotations(Some(command::annotations(input)));
    Ok(Plan {
        spec,
        oom_score_adj: resources::oom_score_adj(input.pod, input.container, input.host.memory_bytes),
        stop_signal: signal::signal_number(&input.image.stop_signal),
        env,
        working_dir,
        make_dir,
        termination_log: mounts::termination_log(input.layout, input.instance),
        sub_paths: mounts.sub_paths,
    })
}
