//! Making a container from a checkpoint: what `make` does for a new one, with criu in the place of the engine.
//!
//! ```text
//!  bundle, images, groups checked       nothing is made
//!  state directory, groups, places      undone if a later step fails
//!  criu, in the groups                  setup-namespaces:  loopback, hooks
//!                                       orphan-pts-master: the terminal is handed over
//!                                       post-restore:      all stopped; the record names the init, the pid file is written
//! ```
//!
//! **Invariant:** the record names the init before it runs, as in `make`. A step that fails has criu undo the rest.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::LinuxNamespaceType;

use crate::container::engine::files::entries;
use crate::container::engine::plan::{Keyring, keyring_name};
use crate::oci::command::parse::Parsed;
use crate::oci::container::Container;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::grounds::{Grounds, Laid};
use crate::oci::handover::{Front, Handover};
use crate::oci::hooks::{Due, Kind as HookKind};
use crate::oci::make::{Made, own_streams, refuse, standard_descriptors};
use crate::oci::notify;
use crate::oci::relay::Relay;
use crate::oci::store::{Held, Init, Place, Record};
use crate::procfs;

use super::request::{Field, Kind, Options, Request};
use super::settings::{self, Directories};
use super::worker::{Notice, Site, Start, Worker};
use super::{Criu, journal, loopback, outside, places, seal, streams, text};

/// Where the root file system is a mount while criu works, in a mount namespace of criu's own.
const ROOT: &str = "criu-root";

/// Everything that is known before anything is made.
pub(crate) struct Restore {
    grounds: Grounds,
    handover: Handover,
    directories: Directories,
    descriptors: Vec<String>,
    criu: Criu,
}

impl Restore {
    /// Reads bundle and checkpoint, and decides.
    pub(crate) fn new(global: &Global<'_>, id: &str, given: &Parsed, front: Front) -> Result<Self, Error> {
        crate::sys::descriptor::close_on_exec_from(3)
            .map_err(Error::kernel("mark descriptors close-on-exec"))?;
        let grounds = Grounds::read(global, id, given)?;
        let handover = Handover::open(given, grounds.has_terminal(), front)?;
        let linux = grounds.spec.linux().as_ref();
        if linux.is_some_and(|linux| linux.net_devices().as_ref().is_some_and(|all| !all.is_empty())) {
            let text = "linux.netDevices: interfaces are not moved into a container that is restored; \
                take them out of config.json, and move them by a createRuntime hook";
            return Err(Error::Refused(text.to_owned()));
        }
        if given.value("manage-cgroups-mode") == Some("strict") {
            let text = "--manage-cgroups-mode=strict: criu would refuse the container's group, which is made \
                before it works; use soft or full";
            return Err(Error::Refused(text.to_owned()));
        }
        let directories = Directories::new(given)?;
        let path = &directories.images;
        let invalid = "invalid directory to restore checkpoint: open";
        if !std::fs::metadata(path).map_err(Error::file(invalid, path))?.is_dir() {
            return Err(Error::file(invalid, path)(nix::Error::ENOTDIR.into()));
        }
        let descriptors = streams::read(path)?;
        let criu = Criu::find(global.criu.as_deref())?;
        if given.is_on("lazy-pages") {
            criu.need_lazy_pages()?;
        }
        if let Some(work) = &directories.work {
            super::open("invalid --work-path: create", work)?;
        }
        Ok(Self { grounds, handover, directories, descriptors, criu })
    }

    /// Makes it. With a relay, its standard streams are the relay's.
    pub(crate) fn perform(
        mut self,
        global: &Global<'_>,
        given: &Parsed,
        relay: Option<&mut Relay>,
    ) -> Result<Made, Error> {
        let place = Place::new(&global.root, &self.grounds.id);
        let held = place.claim(&global.root)?;
        let mut record = self.grounds.record(Keyring::New, global.uid);
        let restored = self.fill(given, (&place, &held, &mut record), relay);
        match restored {
            Ok(()) => {
                let container = Container { place, record };
                let init = container.record.init.ok_or(Error::NotRunning)?;
                // A child of ours: however soon it ends, nobody else reaps it.
                let pidfd = procfs::open(init.pid, init.start_time).ok_or(Error::NotRunning)?;
                Ok(Made { container, held, pid: init.pid, pidfd })
            }
            Err(error) => {
                let error = journal::explain(error, self.directories.logs(), journal::RESTORE);
                self.grounds.clear(&place, &record);
                Err(error)
            }
        }
    }

    fn fill(
        &mut self,
        given: &Parsed,
        (place, held, record): (&Place, &Held, &mut Record),
        mut relay: Option<&mut Relay>,
    ) -> Result<(), Error> {
        let laid = self.grounds.lay(place, held, record)?;
        if !place.directory().join(notify::DIRECTORY).is_dir() {
            notify::make_directory(place)?;
        }
        places::make(&self.grounds.rootfs, &entries(&self.grounds.spec, &self.grounds.bundle))?;
        let mut options = settings::options(given)?;
        let start = self.start(place, &laid, (&mut options, relay.as_deref_mut()))?;
        let worker = self.criu.start(start)?;
        if let Some(group) = &record.resctrl {
            // criu's children, all of the container, are born there.
            group.enter(worker.pid()).map_err(refuse)?;
        }
        self.describe(&mut options, given, place)?;
        if self.grounds.has_new(LinuxNamespaceType::Cgroup) {
            // criu would leave the container in the host's cgroup namespace: it has nothing to do with groups, and its
            // children are born where it is.
            options.number(Field::ManageCgroupsMode, settings::IGNORE);
        } else {
            for (controller, path) in groups_of(worker.pid())? {
                options.cgroup_root(&controller, &path);
            }
        }
        // criu opens these by our numbers, as `/proc/<pid>/fd` of who asks has them.
        let open = |directory: &Path| open_in_mounts_of(worker.pid(), directory);
        let images = open(&self.directories.images)?;
        options.number(Field::ImagesDirFd, images.as_raw_fd());
        let work = self.directories.work.as_deref().map(open).transpose()?;
        if let Some(work) = &work {
            options.number(Field::WorkDirFd, work.as_raw_fd());
        }
        self.have_done(worker, &Request::new(Kind::Restore, &options), (place, held, record), relay)
    }

    fn have_done(
        &mut self,
        worker: Worker,
        request: &Request,
        (place, held, record): (&Place, &Held, &mut Record),
        mut relay: Option<&mut Relay>,
    ) -> Result<(), Error> {
        let config = place.config()?;
        let restored = worker.ask(request, |notice| match notice {
            Notice::SetupNamespaces(pid) => self.set_up(config, record, pid),
            Notice::OrphanPtsMaster(master) => match relay.as_deref_mut() {
                Some(relay) => relay.attach(master).map_err(Error::kernel("attach to the terminal")),
                None => self.handover.terminal(master.as_fd()),
            },
            Notice::PostRestore(pid) => {
                let init = procfs::start_time(pid).map(|start_time| Init { pid, start_time });
                record.init = Some(init.ok_or(Error::NotRunning)?);
                record.descriptors = standard_descriptors(pid);
                record.unfinished = false;
                let Grounds { spec, bundle, .. } = &self.grounds;
                seal::seal(spec, bundle, &self.directories.images, pid)?;
                self.handover.pid(pid)?;
                place.write(record, held)
            }
            Notice::StatusReady | Notice::Other => Ok(()),
        });
        restored.map(drop)
    }

    /// What criu is started with. What its options call descriptors are those.
    fn start<'a>(
        &self,
        place: &Place,
        laid: &'a Laid,
        (options, relay): (&mut Options, Option<&mut Relay>),
    ) -> Result<Start<'a>, Error> {
        let stdio = match (self.grounds.has_terminal(), relay) {
            // It has its own.
            (true, _) => None,
            (false, Some(relay)) => Some(relay.pipes().map_err(Error::kernel("make pipes"))?),
            (false, None) => Some(own_streams()?),
        };
        let root = place.directory().join(ROOT);
        std::fs::DirBuilder::new().mode(0o700).create(&root).map_err(Error::file("create", &root))?;
        let site = Site {
            group: &laid.entry,
            namespaces: match self.grounds.has_new(LinuxNamespaceType::Cgroup) {
                true => CloneFlags::CLONE_NEWCGROUP,
                false => CloneFlags::empty(),
            },
            root: (text(&self.grounds.rootfs)?, text(&root)?),
            keyring: Some(keyring_name(self.grounds.id.as_str()).map_err(refuse)?),
        };
        options.text(Field::Root, root.as_os_str().as_bytes());
        let mut start = Start { stdio, inherited: Vec::new(), site: Some(site) };
        outside::give_namespaces(options, &self.grounds.spec, &mut start)?;
        streams::give(options, &self.descriptors);
        Ok(start)
    }

    fn describe(&self, options: &mut Options, given: &Parsed, place: &Place) -> Result<(), Error> {
        let Grounds { spec, bundle, group, .. } = &self.grounds;
        options
            .text(Field::LogFile, journal::RESTORE.as_bytes())
            .switch(Field::EvasiveDevices, true)
            .switch(Field::RstSibling, true);
        settings::configuration_file(options, spec);
        for (flag, field) in
            [("lsm-profile", Field::LsmProfile), ("lsm-mount-context", Field::LsmMountContext)]
        {
            if let Some(value) = given.value(flag).filter(|value| !value.is_empty()) {
                options.text(field, value.as_bytes());
            }
        }
        let shown = outside::shown(spec, bundle, place.directory(), group.as_ref());
        outside::give_mounts(options, &shown)
    }

    /// What a new container gets between its namespaces and its program.
    fn set_up(&self, config: &[u8], record: &Record, pid: i32) -> Result<(), Error> {
        if self.grounds.has_new(LinuxNamespaceType::Network) {
            loopback::raise(pid).map_err(Error::kernel("bring the container's loopback interface up"))?;
        }
        Due::of(config, HookKind::Prestart, record, pid)?.run()?;
        Due::of(config, HookKind::CreateRuntime, record, pid)?.run()
    }
}

/// Opens a directory on the mounts of another process: criu mounts things in the one that it works in, which it may do in
/// its own mount namespace alone.
fn open_in_mounts_of(pid: i32, directory: &Path) -> Result<File, Error> {
    // A symbolic link to an absolute path would lead back to our own mounts.
    let real = directory.canonicalize().map_err(Error::file("find", directory))?;
    let path = Path::new(&format!("/proc/{pid}/root")).join(real.strip_prefix("/").unwrap_or(&real));
    File::open(&path).map_err(Error::file("open", &path))
}

/// The groups of a process, by controller; cgroups(7).
fn groups_of(pid: i32) -> Result<Vec<(String, String)>, Error> {
    let path = format!("/proc/{pid}/cgroup");
    let told = std::fs::read_to_string(&path).map_err(Error::file("read", Path::new(&path)))?;
    Ok(groups_told(&told))
}

fn groups_told(told: &str) -> Vec<(String, String)> {
    let hierarchy = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(controllers.split(',').map(|one| (one.to_owned(), path.to_owned())).collect::<Vec<_>>())
    };
    told.lines().filter_map(hierarchy).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_by_controller() {
        let told = groups_told("4:cpu,cpuacct:/a:b\n1:name=systemd:/c\n0::/d\n");
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        let wanted =
            [pair("cpu", "/a:b"), pair("cpuacct", "/a:b"), pair("name=systemd", "/c"), pair("", "/d")];
        assert_eq!(told, wanted);
    }
}
