//! Device programs that the kernel has verified, kept to be bound to more groups.
//!
//! Loading one takes the kernel a tenth of a millisecond and more, most of it for its verifier; binding takes a few microseconds.
//! The containers of a shim mostly have the same rules, and start again and again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::program::Instruction;
use crate::sys::bpf;

/// How many are kept; each is a descriptor and some kilobytes of the kernel's.
const KEPT: usize = 4;

type Loaded = VecDeque<(Vec<Instruction>, Rc<OwnedFd>)>;

thread_local! {
    /// Least recently used first.
    static LOADED: RefCell<Loaded> = RefCell::default();
}

/// The program with these instructions, loaded now or before.
pub(crate) fn load(instructions: Vec<Instruction>) -> nix::Result<Rc<OwnedFd>> {
    LOADED.with_borrow_mut(|all| {
        let known = all.iter().position(|(loaded, _)| *loaded == instructions).and_then(|at| all.remove(at));
        let (instructions, program) = match known {
            Some(known) => known,
            None => {
                let program = Rc::new(bpf::load_device_program(&instructions)?);
                (instructions, program)
            }
        };
        all.push_back((instructions, Rc::clone(&program)));
        while all.len() > KEPT {
            all.pop_front();
        }
        Ok(program)
    })
}

#[cfg(test)]
mod tests {
    use super::super::program::compile;
    use super::super::{Access, Rule};
    use super::*;

    fn rule(major: u32) -> Vec<Instruction> {
        compile(&[Rule { allow: true, kind: None, major: Some(major), minor: None, access: Access::ALL }])
    }

    #[test]
    fn equal_rules_are_loaded_once_and_few_are_kept() {
        let first = match load(rule(1)) {
            Err(errno) => return eprintln!("skipped: may not load a device program: {errno}"),
            Ok(first) => first,
        };
        assert!(Rc::ptr_eq(&first, &load(rule(1)).unwrap()));
        for major in 2..=KEPT as u32 {
            load(rule(major)).unwrap();
        }
        assert!(Rc::ptr_eq(&first, &load(rule(1)).unwrap()), "one that is used stays");
        for major in 0..KEPT as u32 {
            load(rule(100 + major)).unwrap();
        }
        assert_eq!(Rc::strong_count(&first), 1);
    }
}
