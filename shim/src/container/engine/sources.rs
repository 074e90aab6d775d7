//! What the maker opens for the file systems of one container, and hands to the child by inheritance.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;

use super::failed::{Doing, Failed};
use super::files::{self, Covers, Opened, Root};
use super::plan::Plan;
use super::step::{Part, Step};

/// The root, and per step of the files' plan what it needs.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) root: Root,
    /// Of the three parts, in their order.
    opened: [Vec<Opened>; 3],
}

impl Sources {
    /// Opens all; a failure names the step of the plan.
    pub(super) fn open(
        plan: &Plan,
        covers: Rc<Covers>,
        pid_namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Self, (Option<usize>, Failed)> {
        let root = Root::prepare(&plan.files, covers).map_err(|failed| (plan.first_file(), failed))?;
        let mut opened = [Vec::new(), Vec::new(), Vec::new()];
        for (index, step) in plan.steps.iter().enumerate() {
            let Step::Files(part, at) = step else { continue };
            let Some(step) = plan.file_step(*part, *at) else { continue };
            let source = step.open(pid_namespace).map_err(|failed| (Some(index), failed))?;
            opened[*part as usize].push(source);
        }
        Ok(Self { root, opened })
    }

    /// Performs one step of the files' plan, in the child.
    pub(super) fn perform(&self, part: Part, at: usize, step: &files::Step) -> Result<(), Failed> {
        let failed = Failed { doing: Doing::Source, errno: Errno::EBADF };
        step.perform(self.opened[part as usize].get(at).ok_or(failed)?, &self.root)
    }

    /// All that is open, for the maker to close once it has a child.
    pub(super) fn into_descriptors(self) -> impl Iterator<Item = OwnedFd> {
        let opened = self.opened.into_iter().flatten().flat_map(Opened::into_descriptors);
        self.root.into_descriptors().chain(opened)
    }

    /// The descriptors that the child keeps.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.root.numbers().chain(self.opened.iter().flatten().flat_map(Opened::numbers))
    }
}
