//! `NOTIFY_SOCKET`: the container gets a socket of its own, and that it is ready is told to the host's
//! (oci-runtime.md section 2.9; sd_notify(3)).

use std::fs::{DirBuilder, Permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::{Mount, MountBuilder, Spec};

use super::error::Error;
use super::store::Place;
use crate::harmless;
use crate::sys::socket;

const VARIABLE: &str = "NOTIFY_SOCKET";
pub(crate) const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Where the container finds it.
pub(crate) const INSIDE: &str = "/run/notify";
/// How long the host may take to confirm what it was told, in milliseconds.
const BARRIER: u16 = 30_000;
/// Longest message that is read.
const LONGEST: usize = 4096;

/// The caller's socket; none where there is none.
fn host() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|address| !address.is_empty())
}

/// Adds the mount and the variable to a configuration, if the caller has a socket.
pub(crate) fn add(spec: &mut Spec, place: &Place) -> Result<(), Error> {
    if host().is_none() {
        return Ok(());
    }
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    let mount: Mount = MountBuilder::default()
        .destination(INSIDE)
        .typ("bind")
        .source(place.directory().join(DIRECTORY))
        .options(options)
        .build()
        .map_err(|error| Error::Refused(error.to_string()))?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    super::make::add_variables(spec, vec![format!("{VARIABLE}={INSIDE}/{SOCKET}")]);
    Ok(())
}

/// Makes the directory that is mounted, if the caller has a socket.
pub(crate) fn prepare(place: &Place) -> Result<(), Error> {
    if host().is_none() || place.directory().join(DIRECTORY).is_dir() {
        return Ok(());
    }
    make_directory(place)
}

/// Makes it in any case.
pub(crate) fn make_directory(place: &Place) -> Result<(), Error> {
    let directory = place.directory().join(DIRECTORY);
    DirBuilder::new().mode(0o755).create(&directory).map_err(Error::file("create", &directory))
}

/// The container's socket, and the host's.
#[derive(Debug)]
pub(crate) struct Notify {
    own: UnixDatagram,
    host: UnixDatagram,
}

impl Notify {
    /// Opens both, where the caller has a socket and the container was made with one.
    pub(crate) fn open(place: &Place) -> Result<Option<Self>, Error> {
        let directory = place.directory().join(DIRECTORY);
        let Some(address) = host().filter(|_| directory.is_dir()) else {
            return Ok(None);
        };
        let path = directory.join(SOCKET);
        harmless(std::fs::remove_file(&path));
        let own = UnixDatagram::bind(&path).map_err(Error::file("bind", &path))?;
        // Whoever the program runs as.
        std::fs::set_permissions(&path, Permissions::from_mode(0o777))
            .map_err(Error::file("chmod", &path))?;
        let host = connect(&address).map_err(Error::file("connect to", Path::new(&address)))?;
        Ok(Some(Self { own, host }))
    }

    /// Waits until the container is ready or ended.
    pub(crate) fn wait(&self, init: BorrowedFd<'_>, pid: i32) {
        loop {
            let polled = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
            let mut both = [polled(self.own.as_fd()), polled(init)];
            // An interrupted wait is a short one.
            harmless(poll(&mut both, PollTimeout::NONE));
            let [told, ended] = both.map(|one| one.any().unwrap_or(false));
            if told && self.forward(pid) || ended {
                return;
            }
        }
    }

    /// Reads one message; true when it said that the container is ready, and the host was told.
    pub(crate) fn forward(&self, pid: i32) -> bool {
        let mut buffer = [0; LONGEST];
        let Ok(length) = self.own.recv(&mut buffer) else {
            return true;
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let Some(ready) = text.lines().find(|line| line.starts_with("READY=")) else {
            return false;
        };
        // Who does not listen any more needs not know.
        harmless(self.host.send(ready.as_bytes()));
        harmless(self.host.send(format!("MAINPID={pid}").as_bytes()));
        harmless(self.barrier());
        true
    }

    /// The host closes the descriptor when it has read all that came before.
    fn barrier(&self) -> nix::Result<()> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        socket::send(self.host.as_fd(), b"BARRIER=1", &[write.as_raw_fd()])?;
        drop::<OwnedFd>(write);
        poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], PollTimeout::from(BARRIER)).map(drop)
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

fn connect(address: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}
