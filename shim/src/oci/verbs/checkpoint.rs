//! `checkpoint`: a container is written to a directory, by criu, and ends unless it is to run on (oci-runtime.md section
//! 2.4). Where it fails the container runs on, and what it was frozen by is undone.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::Spec;

use super::delete;
use crate::cgroup::resources::Version;
use crate::harmless;
use crate::oci::command::parse::Parsed;
use crate::oci::config;
use crate::oci::container::Container;
use crate::oci::criu::request::{Field, Kind, Options};
use crate::oci::criu::settings::{self, Directories};
use crate::oci::criu::worker::Notice;
use crate::oci::criu::{Criu, journal, open, outside, seal, streams};
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::status::Status;

pub(super) fn checkpoint(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let status_to = settings::status(given)?;
    let (container, held) = Container::hold(global, id)?;
    let before = container.status();
    if !matches!(before, Status::Running | Status::Paused) {
        return Err(Error::Refused(format!("Container cannot be checkpointed in {before} state")));
    }
    let init = container.init().ok_or(Error::NotRunning)?;
    settings::warn(global);
    let dump = Dump::new(&container, given)?;
    let criu = Criu::find(global.criu.as_deref())?;
    if given.is_on("pre-dump") || settings::named_parent(given).is_some() {
        criu.need_memory_track()?;
    }
    if given.is_on("lazy-pages") {
        criu.need_lazy_pages()?;
    }
    let dumped = dump.perform(&criu, given, status_to);
    if let Err(error) = dumped {
        if before == Status::Running {
            // A criu that was killed has no time for it. The group may be gone with the container.
            harmless(container.record.cgroup.thaw());
        }
        return Err(journal::explain(error, dump.directories.logs(), journal::DUMP));
    }
    if given.is_on("leave-running") || given.is_on("pre-dump") {
        return Ok(());
    }
    delete::await_death(&container, &init)?;
    delete::destroy(global, &container, held)
}

struct Dump<'a> {
    container: &'a Container,
    spec: Box<Spec>,
    directories: Directories,
    pid: i32,
}

impl<'a> Dump<'a> {
    fn new(container: &'a Container, given: &Parsed) -> Result<Self, Error> {
        let spec = config::parse(container.place.config()?)?;
        let pid = container.record.init.map_or(0, |init| init.pid);
        Ok(Self { container, spec, directories: Directories::new(given)?, pid })
    }

    fn perform(&self, criu: &Criu, given: &Parsed, status_to: Option<OwnedFd>) -> Result<(), Error> {
        let Directories { images, work } = &self.directories;
        let images_open = open("invalid directory to save checkpoint: create", images)?;
        let work_open = work.as_deref().map(|work| open("invalid --work-path: create", work)).transpose()?;
        let mut options = settings::options(given)?;
        options.number(Field::ImagesDirFd, images_open.as_raw_fd());
        if let Some(work) = &work_open {
            options.number(Field::WorkDirFd, work.as_raw_fd());
        }
        self.describe(&mut options, given)?;
        let kind = if given.is_on("pre-dump") { Kind::PreDump } else { Kind::Dump };
        if kind == Kind::Dump {
            self.describe_outside(&mut options)?;
        }
        let mut status_to = status_to;
        criu.dump(kind, &options, |notice| {
            if matches!(notice, Notice::StatusReady)
                && let Some(to) = status_to.take()
            {
                // Who asked to be told may be gone.
                harmless(nix::unistd::write(to, b"\0"));
            }
            Ok(())
        })
    }

    fn describe(&self, options: &mut Options, given: &Parsed) -> Result<(), Error> {
        let record = &self.container.record;
        options
            .number(Field::Pid, self.pid)
            .text(Field::Root, record.rootfs.as_os_str().as_bytes())
            .text(Field::LogFile, journal::DUMP.as_bytes())
            .switch(Field::LeaveRunning, given.is_on("leave-running"));
        settings::configuration_file(options, &self.spec);
        outside::name_namespaces(options, &self.spec, self.pid)?;
        if let Some(freezer) = record.cgroup.group().and_then(|group| group.file("freezer", "")) {
            options.text(Field::FreezeCgroup, trimmed(&freezer));
        }
        if let Some((address, port)) = settings::page_server(given)? {
            options.page_server(address, port);
        }
        if let Some(parent) = settings::parent(given, &self.directories.images)? {
            options.text(Field::ParentImg, parent.as_bytes()).switch(Field::TrackMem, true);
        }
        Ok(())
    }

    fn describe_outside(&self, options: &mut Options) -> Result<(), Error> {
        let Container { place, record } = self.container;
        let group = record.cgroup.group();
        // Of v1's hierarchies several may be at one place: they are looked up.
        let unified = group.as_ref().filter(|group| group.version() == Version::V2);
        let shown = outside::shown(&self.spec, &record.bundle, place.directory(), unified);
        let groups = outside::groups(&self.spec, group.as_ref());
        outside::name_mounts(options, &self.spec, (&shown, &groups), self.pid)?;
        seal::keep(&self.directories.images, self.pid)?;
        let names = streams::name(options, &record.descriptors, self.pid);
        streams::write(&self.directories.images, &names)
    }
}

/// A path without the slash at its end.
fn trimmed(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_suffix(b"/").unwrap_or(bytes)
}
