//! What a process of a container executes, in the form that `execve` takes.

use std::ffi::CString;
use std::path::Path;

use super::identity::{Error, Identity, merge, text};
use super::transform::{Problem, Scheduled, Step};
use crate::sys::process::Vector;

/// Where a command is looked up when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command ready for `execve`.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The files to try, in order.
    pub(crate) candidates: Vec<CString>,
    pub(crate) arguments: Vector,
    pub(crate) environment: Vector,
}

impl Program {
    /// The command `args` with the container's variables and `more` on top.
    pub(crate) fn new(identity: &Identity, args: &[String], more: &[String]) -> Result<Self, Error> {
        let name = args.first().ok_or(Error::Missing("process.args"))?;
        let environment = merge(&identity.environment, more)?;
        let path = environment.iter().find_map(|one| one.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        Ok(Self {
            candidates: candidates(name, path)?,
            arguments: Vector::new(args.iter().map(|one| text("args", one)).collect::<Result<_, _>>()?),
            environment: Vector::new(
                environment.iter().map(|one| text("env", one)).collect::<Result<_, _>>()?,
            ),
        })
    }

    /// Of a container whose configuration cannot be read: nothing to execute.
    pub(crate) fn unknown() -> Self {
        let none = || Vector::new(Vec::new());
        Self { candidates: Vec::new(), arguments: none(), environment: none() }
    }

    /// What went wrong, in the words that callers of OCI runtimes know.
    pub(crate) fn explain(&self, identity: &Identity, problem: Problem) -> String {
        let reason = lower(problem.errno.desc());
        let name = self
            .arguments
            .strings()
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let directory = identity.directory.to_string_lossy();
        let what = match problem.step {
            Step::Execute if problem.errno == nix::Error::ENOENT && !name.contains('/') => {
                format!("exec: {name:?}: executable file not found in $PATH")
            }
            Step::Execute => format!("exec: {name:?}: {reason}{}", denial(identity, problem)),
            Step::Directory => format!("chdir to cwd ({directory:?}) set in config.json failed: {reason}"),
            Step::DirectoryOutside => {
                format!(
                    "current working directory {directory:?} is outside of container mount namespace root"
                )
            }
            Step::Limit(index) => {
                let kind = identity.limits.get(usize::from(index)).map(|limit| limit.kind.to_string());
                format!("error setting rlimit {}: {reason}", kind.unwrap_or_default())
            }
            Step::HookEnded(index, 255) => {
                format!("error running startContainer hook #{index}: hook ran past specified timeout")
            }
            Step::HookEnded(index, status) => {
                format!("error running startContainer hook #{index}: exit status {status}")
            }
            Step::Label if problem.errno == nix::Error::ENOENT && identity.label.profile().is_some() => {
                let profile = identity.label.profile().unwrap_or_default();
                format!(
                    "unable to apply apparmor profile {profile:?}: it is not loaded; try: apparmor_parser --replace FILE"
                )
            }
            Step::Label if identity.label.selinux().is_some() => {
                let label = identity.label.selinux().unwrap_or_default();
                match problem.errno {
                    nix::Error::EINVAL => {
                        format!("process.selinuxLabel {label:?} is not known to the host's SELinux policy")
                    }
                    _ => format!("process.selinuxLabel {label:?} cannot be set: {reason}"),
                }
            }
            Step::Hook(index) => format!("error running startContainer hook #{index}: {reason}"),
            step => format!("{}: {reason}", operation(step)),
        };
        format!("unable to start container process: {what}")
    }
}

/// Who may have refused a program beside the modes of its file.
fn denial(identity: &Identity, problem: Problem) -> String {
    match (identity.label.selinux(), problem.errno) {
        (Some(label), nix::Error::EACCES | nix::Error::EPERM) => {
            format!(
                "; if it is SELinux that denies it process.selinuxLabel {label:?}, the kernel's log says so"
            )
        }
        (Some(_) | None, _) => String::new(),
    }
}

fn operation(step: Step) -> &'static str {
    match step {
        Step::Hide => "prctl PR_SET_DUMPABLE",
        Step::Cgroup => "join the container's cgroup",
        Step::Namespaces => "join the container's namespaces",
        Step::OomScore => "write oom_score_adj",
        Step::Stdio => "set up standard input and output",
        Step::Session => "make a session",
        Step::Descriptors => "mark descriptors close-on-exec",
        Step::NoNewPrivileges => "prctl PR_SET_NO_NEW_PRIVS",
        Step::Seccomp => "install the seccomp filter",
        Step::Bounding => "drop from the capability bounding set",
        Step::Groups => "setgroups",
        Step::Group => "setgid",
        Step::User => "setuid",
        Step::Capabilities => "set capabilities",
        Step::Ambient => "raise ambient capabilities",
        Step::Hostname => "sethostname",
        Step::Loopback => "bring the loopback interface up",
        Step::Limit(_) => "set a resource limit",
        Step::Sysctl(_) => "write a sysctl",
        Step::Directory | Step::DirectoryOutside => "change to the working directory",
        Step::Execute => "exec",
        Step::Scheduling(Scheduled::Scheduler) => "error setting scheduler",
        Step::Scheduling(Scheduled::IoPriority) => "error setting IO priority",
        Step::Scheduling(Scheduled::Personality) => "set personality",
        Step::Scheduling(Scheduled::MemoryPolicy) => "set memory policy",
        Step::Scheduling(Scheduled::Cpus) => "set CPU affinity",
        Step::Label => "apply the AppArmor profile or SELinux label",
        Step::Hook(_) | Step::HookEnded(..) => "run a startContainer hook",
    }
}

/// An errno's text as it stands in the middle of a message.
pub(crate) fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn candidates(name: &str, path: &str) -> Result<Vec<CString>, Error> {
    if name.is_empty() || name.contains('/') {
        return Ok(vec![text("args", name)?]);
    }
    // An empty element of PATH is the working directory.
    let place = |dir: &str| Path::new(if dir.is_empty() { "." } else { dir }).join(name);
    path.split(':').map(|dir| text("env", &place(dir).to_string_lossy())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_tried_in_every_directory_of_path() {
        let tried = candidates("ls", "/bin::/usr/bin").unwrap();
        assert_eq!(tried, [c"/bin/ls".into(), c"./ls".into(), CString::from(c"/usr/bin/ls")]);
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is() {
        assert_eq!(candidates("./x", "/bin").unwrap(), [CString::from(c"./x")]);
    }
}
