//! The order in which the rules on one call are asked; the first that matches decides.
//!
//! A profile's order of entries has no meaning of its own for libseccomp, which keeps the comparisons of a call as a
//! tree: on each level higher arguments come before lower ones, equality before upper bounds before lower
//! bounds, and of two bounds the tighter one; equal places go by age. The rules of a call share the nodes of the
//! comparisons that they begin with. This is that tree, without what it does wrong: there a node can be
//! reached on two ways, and what one rule adds below it then holds for the other one too.
//!
//! A rule that begins like a shorter one is never reached, so it is dropped.

use std::cmp::Ordering;

use super::entry::Test;
use super::rules::{Condition, Rule};

/// Two rules say the same of the arguments, and ask for different actions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

/// The rules on one call, growing.
#[derive(Debug, Default)]
pub(super) struct Tree(Vec<Node>);

/// One comparison of 32 bits, and what follows when it holds or fails.
#[derive(Debug)]
struct Node {
    half: Half,
    holds: Branch,
    fails: Branch,
}

#[derive(Debug, Default)]
struct Branch {
    rule: Option<Rule>,
    below: Vec<Node>,
}

/// One half of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Half {
    /// Argument and half of it: those with the higher number are asked first.
    place: u32,
    kind: Kind,
    /// Mask of an equality.
    mask: u32,
    value: u32,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Equal,
    Masked,
    AtLeast,
    Above,
}

/// What the operator was; the later is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Lower,
    Upper,
    Exact,
}

impl Half {
    fn is_same(&self, other: &Self) -> bool {
        (self.place, self.kind, self.mask, self.value) == (other.place, other.kind, other.mask, other.value)
    }

    /// Whether `self` is asked after `other`.
    fn follows(&self, other: &Self) -> bool {
        let tighter = match self.bound {
            Bound::Upper => other.value.cmp(&self.value),
            Bound::Lower | Bound::Exact => self.value.cmp(&other.value),
        };
        let order = self.place.cmp(&other.place).then(self.bound.cmp(&other.bound)).then(tighter);
        order == Ordering::Less
    }
}

impl Tree {
    /// Adds `rule`, which has at least one condition, sorted by argument.
    pub(super) fn add(&mut self, rule: Rule) -> Result<(), Contradiction> {
        let path: Vec<_> = rule.conditions.iter().flat_map(halves).flatten().collect();
        descend(&mut self.0, &path, rule)
    }

    /// All rules in order.
    pub(super) fn rules(&self) -> Vec<&Rule> {
        let mut all = Vec::new();
        collect(&self.0, &mut all);
        all
    }
}

/// The halves that a condition compares, upper one first, and whether the rule goes on where they fail.
fn halves(condition: &Condition) -> [Option<(Half, bool)>; 2] {
    let of = |high: bool| {
        let cut = |value: u64| if high { (value >> 32) as u32 } else { value as u32 };
        let (kind, mask, value) = match condition.test {
            Test::Equal(value) => (Kind::Equal, u32::MAX, cut(value)),
            Test::Masked { mask, value } => (Kind::Masked, cut(mask), cut(value)),
            // Of the upper half it is asked first whether it alone decides.
            Test::AtLeast(value) if !high => (Kind::AtLeast, u32::MAX, cut(value)),
            Test::AtLeast(value) | Test::Above(value) => (Kind::Above, u32::MAX, cut(value)),
        };
        let bound = match (kind, condition.negated) {
            (Kind::Equal | Kind::Masked, _) => Bound::Exact,
            (Kind::AtLeast | Kind::Above, true) => Bound::Upper,
            (Kind::AtLeast | Kind::Above, false) => Bound::Lower,
        };
        let place = 2 * condition.index + u32::from(high);
        (Half { place, kind, mask, value, bound }, !high && condition.negated)
    };
    [condition.wide.then(|| of(true)), Some(of(false))]
}

fn descend(level: &mut Vec<Node>, path: &[(Half, bool)], rule: Rule) -> Result<(), Contradiction> {
    let Some(((half, fails), rest)) = path.split_first() else { return Ok(()) };
    let place = level.iter().position(|node| node.half.is_same(half) || node.half.follows(half));
    let place = place.unwrap_or(level.len());
    if level.get(place).is_none_or(|node| !node.half.is_same(half)) {
        level.insert(place, Node { half: *half, holds: Branch::default(), fails: Branch::default() });
    }
    let Some(node) = level.get_mut(place) else { return Ok(()) };
    let branch = if *fails { &mut node.fails } else { &mut node.holds };
    match (&branch.rule, rest.is_empty()) {
        (Some(before), true) if before.action != rule.action => Err(Contradiction),
        (Some(_), _) => Ok(()),
        (None, true) => {
            *branch = Branch { rule: Some(rule), below: Vec::new() };
            Ok(())
        }
        (None, false) => descend(&mut branch.below, rest, rule),
    }
}

fn collect<'tree>(level: &'tree [Node], all: &mut Vec<&'tree Rule>) {
    for branch in level.iter().flat_map(|node| [&node.holds, &node.fails]) {
        all.extend(&branch.rule);
        collect(&branch.below, all);
    }
}
