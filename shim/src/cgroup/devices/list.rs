//! Device rules for cgroup v1: what to write into `devices.deny` and `devices.allow`; `devices.rst` in the kernel's
//! documentation.
//!
//! A v1 group has a default answer and exceptions to it, with no order among them. So the rules are played through
//! here first, and what comes out is the shortest list that says the same.

use std::collections::BTreeMap;

use super::{Access, Kind, Rule};
use crate::cgroup::resources::Invalid;

/// One device or a set of them.
type Devices = (Kind, Option<u32>, Option<u32>);

#[derive(Default)]
struct List {
    allows: bool,
    exceptions: BTreeMap<Devices, u8>,
}

/// The writes, in order: the file and its line.
///
/// # Errors
/// The rules take something out of the middle of an earlier one, which v1 cannot say.
pub fn writes(rules: &[Rule]) -> Result<Vec<(&'static str, String)>, Invalid> {
    let list = List::play(rules)?;
    let (default, other) =
        if list.allows { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    let mut writes = vec![(default, "a".to_owned())];
    writes.extend(list.rules().map(|rule| (other, rule.to_string())));
    Ok(writes)
}

/// All that is allowed, where that is a list; none where all is but for exceptions, or where the rules have holes.
#[must_use]
pub fn allowed(rules: &[Rule]) -> Option<Vec<Rule>> {
    let list = List::play(rules).ok()?;
    (!list.allows).then(|| list.rules().collect())
}

impl List {
    fn play(rules: &[Rule]) -> Result<Self, Invalid> {
        let mut list = Self::default();
        rules.iter().try_for_each(|rule| list.add(*rule))?;
        Ok(list)
    }

    /// The exceptions as rules.
    fn rules(&self) -> impl Iterator<Item = Rule> {
        self.exceptions.iter().map(|((kind, major, minor), access)| Rule {
            allow: !self.allows,
            kind: Some(*kind),
            major: *major,
            minor: *minor,
            access: Access(*access),
        })
    }

    fn add(&mut self, rule: Rule) -> Result<(), Invalid> {
        if rule.is_unconditional() {
            *self = Self { allows: rule.allow, exceptions: BTreeMap::new() };
            return Ok(());
        }
        let kinds = rule.kind.map_or(vec![Kind::Block, Kind::Character], |kind| vec![kind]);
        for kind in kinds {
            let devices = (kind, rule.major, rule.minor);
            if rule.allow == self.allows {
                self.take_back(devices, rule)?;
            } else {
                *self.exceptions.entry(devices).or_default() |= rule.access.0;
            }
        }
        Ok(())
    }

    /// Takes from the exceptions what the rule covers; one that is wider than the rule cannot be cut.
    fn take_back(&mut self, devices: Devices, rule: Rule) -> Result<(), Invalid> {
        for (exception, access) in &mut self.exceptions {
            if covers(devices, *exception) {
                *access &= !rule.access.0;
            } else if overlaps(devices, *exception) && *access & rule.access.0 != 0 {
                return Err(Invalid::DeviceHole(rule.to_string()));
            }
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }
}

fn covers(wide: Devices, narrow: Devices) -> bool {
    let number = |wide: Option<u32>, narrow| wide.is_none() || wide == narrow;
    wide.0 == narrow.0 && number(wide.1, narrow.1) && number(wide.2, narrow.2)
}

fn overlaps(one: Devices, other: Devices) -> bool {
    let number = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    one.0 == other.0 && number(one.1, other.1) && number(one.2, other.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: Option<Kind>, device: (Option<u32>, Option<u32>), access: u8) -> Rule {
        Rule { allow, kind, major: device.0, minor: device.1, access: Access(access) }
    }

    const ANY: (Option<u32>, Option<u32>) = (None, None);

    #[test]
    fn a_group_without_rules_denies_all_but_the_usual_devices() {
        let writes = writes(&super::super::rules(&[]).unwrap()).unwrap();
        assert_eq!(writes[0], ("devices.deny", "a".to_owned()));
        assert_eq!(writes.len(), 12);
        assert!(writes.contains(&("devices.allow", "c 1:3 rwm".to_owned())));
        assert!(writes.contains(&("devices.allow", "b *:* m".to_owned())));
        assert!(writes.contains(&("devices.allow", "c 136:* rwm".to_owned())));
    }

    #[test]
    fn what_is_allowed_first_and_denied_later_is_not_written_at_all() {
        let rules = [
            rule(false, None, ANY, 7),
            rule(true, Some(Kind::Block), (Some(8), Some(0)), 7),
            rule(true, Some(Kind::Block), (Some(8), Some(1)), 7),
            rule(false, Some(Kind::Block), (Some(8), None), 5),
        ];
        let expected = [("devices.deny", "a"), ("devices.allow", "b 8:0 r"), ("devices.allow", "b 8:1 r")];
        assert_eq!(writes(&rules).unwrap(), expected.map(|(file, line)| (file, line.to_owned())));
    }

    #[test]
    fn a_privileged_group_allows_all_and_lists_what_it_denies() {
        let rules = [rule(true, None, ANY, 7), rule(false, None, (Some(8), None), 4)];
        let expected = [("devices.allow", "a"), ("devices.deny", "b 8:* w"), ("devices.deny", "c 8:* w")];
        assert_eq!(writes(&rules).unwrap(), expected.map(|(file, line)| (file, line.to_owned())));
    }

    #[test]
    fn a_hole_in_an_earlier_rule_is_refused() {
        let rules = [
            rule(true, Some(Kind::Character), (Some(1), None), 7),
            rule(false, Some(Kind::Character), (Some(1), Some(3)), 4),
        ];
        let error = writes(&rules).unwrap_err().to_string();
        assert!(error.contains("c 1:3 w"), "{error}");
    }
}
