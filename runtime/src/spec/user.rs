//! As whom a container runs: reference `pod-lifecycle.md` 11.10 and `pod-to-oci-and-cri.md` 1.4.
//!
//! Names are looked up in the `passwd` and `group` of the rootfs, never in those of the host. The primary
//! group is always among the supplementary ones, so that a runtime never keeps its caller's.
//!
//! Deviation: a group that the image names (`USER uid:gid`) is honoured when the manifest sets neither user nor
//! group; behind the kubelet it is lost.

use oci_spec::runtime::User;

use super::{Error, Input};
use crate::manifest::pod::Pod;

/// Who the process is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    /// Ids for the spec.
    pub(crate) user: User,
    /// Home directory of the user in the rootfs.
    pub(crate) home: Option<String>,
}

/// A line of `passwd`.
#[derive(Debug, Clone, Copy)]
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// Name, gid and members of each line of `group`.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// The user of the image without its group.
fn image_user<'a>(input: &Input<'a>) -> &'a str {
    input.image.user.split(':').next().unwrap_or_default()
}

/// The checks of `runAsNonRoot`.
pub(crate) fn verify_non_root(input: &Input<'_>) -> Result<(), Error> {
    if !input.container.security.run_as_non_root {
        return Ok(());
    }
    let (pod, container) = (full_name(input.pod), input.container.name.to_string());
    match (input.container.security.run_as_user, image_user(input)) {
        (Some(0), _) => Err(Error::RunAsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, "") => Err(Error::ImageRunsAsRoot { pod, container }),
        (None, user) => match user.parse::<u32>() {
            Ok(0) => Err(Error::ImageRunsAsRoot { pod, container }),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::ImageUserUnverifiable { user: user.to_owned(), pod, container }),
        },
    }
}

fn full_name(pod: &Pod) -> String {
    pod.meta.full_name()
}

/// The ids of the process.
pub(crate) fn identity(input: &Input<'_>) -> Result<Identity, Error> {
    let security = &input.container.security;
    let wanted = match security.run_as_user {
        Some(uid) => uid.to_string(),
        None => image_user(input).to_owned(),
    };
    let (uid, account) = find_user(&wanted, input.passwd)?;
    let image_group =
        input.image.user.split_once(':').map(|(_, group)| group).filter(|group| !group.is_empty());
    let gid = match (security.run_as_group, security.run_as_user, image_group) {
        (Some(gid), _, _) => in_range(gid)?,
        (None, None, Some(group)) => find_group(group, input.group)?,
        (None, _, _) => account.map_or(0, |account| account.gid),
    };
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid);
    user.set_additional_gids(Some(supplementary(input, gid, account)));
    Ok(Identity {
        user,
        home: account.map(|account| account.home.to_owned()).filter(|home| !home.is_empty()),
    })
}

fn find_user<'a>(wanted: &str, passwd: &'a str) -> Result<(u32, Option<Account<'a>>), Error> {
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    // A name may consist of digits, but an id is what is meant then, as with docker and containerd.
    if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        let uid = in_range(wanted.parse().map_err(|_| Error::IdRange(wanted.to_owned()))?)?;
        return Ok((uid, accounts(passwd).find(|account| account.uid == uid)));
    }
    let account = accounts(passwd).find(|account| account.name == wanted);
    let account = account.ok_or_else(|| Error::UserMissing(wanted.to_owned()))?;
    Ok((in_range(account.uid)?, Some(account)))
}

fn find_group(wanted: &str, group: &str) -> Result<u32, Error> {
    if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        return in_range(wanted.parse().map_err(|_| Error::IdRange(wanted.to_owned()))?);
    }
    let found = groups(group).find(|(name, ..)| *name == wanted);
    in_range(found.ok_or_else(|| Error::GroupMissing(wanted.to_owned()))?.1)
}

fn in_range(id: u32) -> Result<u32, Error> {
    if i32::try_from(id).is_ok() { Ok(id) } else { Err(Error::IdRange(id.to_string())) }
}

/// Primary group, the pod's own, and (unless `Strict`) those that the image gives the user.
fn supplementary(input: &Input<'_>, gid: u32, account: Option<Account<'_>>) -> Vec<u32> {
    let security = &input.pod.spec.security;
    let mut gids = vec![gid];
    gids.extend(&security.supplemental_groups);
    gids.extend(security.fs_group);
    if let Some(account) = account.filter(|_| !security.strict_groups) {
        let member = |members: &str| members.split(',').any(|name| name.trim() == account.name);
        gids.extend(groups(input.group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    let mut seen = std::collections::BTreeSet::new();
    gids.retain(|gid| seen.insert(*gid));
    gids
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
