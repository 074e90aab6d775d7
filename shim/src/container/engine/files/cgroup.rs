//! Mounts of type `cgroup`: on v1 a small tmpfs with the container's own group of each hierarchy in it, on v2 the
//! unified hierarchy. runtime-spec `config-linux.md` (Default Filesystems).

use std::path::Path;

use super::device::{How, Nodes};
use super::guard::{self, Guard};
use super::mounts::{Context, Request, text};
use super::options::{Attributes, Options};
use super::{Error, Groups, Opener, Rights, Step, Users};
use crate::sys::mount::{self, Propagation, Reach};

/// The steps for one such mount.
pub(super) fn steps(request: &Request<'_>, context: &Context<'_>) -> Result<Vec<Step>, Error> {
    match context.known.groups {
        Groups::V1(groups) => v1(request, context, groups),
        Groups::V2(own) => v2(request, context, own).map(|step| vec![step]),
    }
}

fn v1(
    request: &Request<'_>,
    context: &Context<'_>,
    groups: &[(String, std::path::PathBuf)],
) -> Result<Vec<Step>, Error> {
    let attributes = Attributes { set: mount::NOSUID | mount::NODEV | mount::NOEXEC, clear: 0 };
    let directory = Options {
        one: attributes,
        data: vec!["mode=755".to_owned(), "size=64k".to_owned()],
        ..Options::default()
    };
    let mut steps = vec![Step::Mount(context.instance(request, "tmpfs", Path::new("tmpfs"), &directory)?)];
    let mut links = Vec::new();
    for (name, group) in groups {
        let destination = request.destination.join(name);
        let options = Options {
            bind: Some(Reach::One),
            propagation: vec![(Propagation::Private, Reach::One)],
            ..request.options.clone()
        };
        steps.push(Step::Bind(context.bind(&destination, group, &options)?));
        for part in name.split(',').filter(|part| part != name) {
            links.push((text(Path::new(part))?, text(Path::new(name))?));
        }
    }
    if !links.is_empty() {
        steps.push(Step::Nodes(Nodes {
            directory: text(&request.destination)?,
            nodes: vec![],
            links,
            how: How::Made,
        }));
    }
    Ok(steps)
}

fn v2(request: &Request<'_>, context: &Context<'_>, own: &Path) -> Result<Step, Error> {
    let mut instance = context.instance(request, "cgroup2", Path::new("cgroup"), request.options)?;
    let shown = if context.own_cgroup_namespace { own } else { Path::new("/sys/fs/cgroup") };
    let mut source = context.source(shown, Reach::Tree)?;
    source.set_first = false;
    if context.known.rights == Rights::Root && context.known.users == Users::Host {
        // Hardly ever asked for then: where the place shows the same hierarchy already, which is EBUSY.
        source.opener = Opener::Child;
    }
    instance.otherwise = Some(source);
    let is_hosts = !context.own_cgroup_namespace && context.known.users == Users::Namespace;
    if is_hosts && !guard::is_off(Guard::Cgroup) {
        // What a user may write of the host's tree is not the container's (CVE-2023-25809).
        instance.attributes |= mount::RDONLY;
    }
    Ok(Step::Mount(instance))
}
