//! Why a container could not be made, in the words that callers of runc know.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use super::failed::{Doing, Failed};
use super::plan::Plan;
use super::{kernel, user};
use crate::cgroup::Entry;
use crate::container::identity::Identity;
use crate::container::program::{Program, lower};
use crate::container::transform::Problem;
use crate::sys::process;
use crate::wire::Exit;

/// The failure of a making.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// The number of the step, if it was one of the plan's.
    pub(crate) step: Option<usize>,
    /// What the kernel said.
    pub(crate) errno: Option<Errno>,
    /// The whole message.
    pub(crate) message: String,
}

impl Failure {
    pub(super) fn system(what: &str, errno: Errno) -> Self {
        Self { step: None, errno: Some(errno), message: format!("{what}: {}", lower(errno.desc())) }
    }

    pub(super) fn io(what: &str, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().map(Errno::from_raw);
        let reason = errno.map_or_else(|| error.to_string(), |errno| lower(errno.desc()));
        Self { step: None, errno, message: format!("{what}: {reason}") }
    }

    /// A step of the plan, in the maker or in the child.
    pub(super) fn of_step(plan: &Plan, step: Option<usize>, failed: Failed) -> Self {
        let reason = lower(failed.errno.desc());
        let number = step.filter(|step| *step < plan.steps.len());
        let what = number.map_or_else(|| "prepare the init".to_owned(), |step| plan.describe(step));
        let doing = match failed.doing {
            Doing::Itself => String::new(),
            doing => format!("{doing}: "),
        };
        let label = unknown_label(plan, failed);
        Self { step: number, errno: Some(failed.errno), message: format!("{what}: {doing}{reason}{label}") }
    }

    pub(super) fn namespace(path: &Path, kind: &str, errno: Errno) -> Self {
        let path = path.display();
        let message = match errno {
            Errno::EINVAL => format!("{path} is not a {kind} namespace"),
            errno => format!("open {kind} namespace {path}: {}", lower(errno.desc())),
        };
        Self { step: None, errno: Some(errno), message }
    }

    pub(super) fn maps(failure: user::Failure) -> Self {
        let user::Failure { what, errno } = failure;
        let message = errno.map_or(what.clone(), |errno| format!("{what}: {}", lower(errno.desc())));
        Self { step: None, errno, message }
    }

    /// The init could not become a process of the container, or could not execute its program.
    pub(super) fn of_member(program: &Program, identity: &Identity, problem: Problem) -> Self {
        Self { step: None, errno: Some(problem.errno), message: program.explain(identity, problem) }
    }

    /// There is no child.
    pub(super) fn unmade(cgroup: &Entry, errno: Errno) -> Self {
        match errno {
            // clone3(2) with CLONE_INTO_CGROUP.
            Errno::EOPNOTSUPP if cgroup.directory().is_some() => Self::system(
                "make a process in its cgroup, which takes none below a tree of threads (cgroup.type; try another cgroupsPath)",
                errno,
            ),
            errno => Self::system("make a process in its namespaces", errno),
        }
    }

    /// The init ended without a word.
    pub(super) fn ended(child: &process::Child) -> Self {
        let how = match process::exit_of_child(child.pidfd.as_fd()) {
            Some(Exit::Signaled(signal)) => format!("its init was killed by signal {signal}"),
            Some(Exit::Code(code)) => format!("its init ended with status {code}"),
            Some(Exit::Unknown) | None => "its init ended without a word".to_owned(),
        };
        Self { step: None, errno: None, message: how }
    }
}

/// What the kernel means by an invalid argument of a new file system, if it is that.
fn unknown_label(plan: &Plan, failed: Failed) -> String {
    let label = plan
        .files
        .label
        .as_deref()
        .filter(|_| matches!(failed, Failed { doing: Doing::Configure, errno: Errno::EINVAL }));
    let unknown = label.filter(|label| !kernel::has_label(label)).map(std::ffi::CStr::to_string_lossy);
    unknown.map_or_else(String::new, |label| {
        format!("; linux.mountLabel {label:?} is not known to the host's SELinux policy")
    })
}
