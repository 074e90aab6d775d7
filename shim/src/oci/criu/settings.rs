//! What the flags of `checkpoint` and `restore` ask for (oci-runtime.md section 2.4), in the words of runc where they are
//! refused.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use super::request::{Field, Options};
use crate::container::engine::plan::MakerRights;
use crate::oci::command::parse::Parsed;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::handover::is_inherited;
use crate::sys::descriptor;

/// Where images are kept if the caller does not say.
const IMAGES: &str = "checkpoint";

/// Flags that are an option of criu and nothing else.
const SWITCHES: [(&str, Field); 9] = [
    ("tcp-established", Field::TcpEstablished),
    ("tcp-skip-in-flight", Field::TcpSkipInFlight),
    ("tcp-close", Field::TcpClose),
    ("link-remap", Field::LinkRemap),
    ("ext-unix-sk", Field::ExtUnixSk),
    ("shell-job", Field::ShellJob),
    ("file-locks", Field::FileLocks),
    ("auto-dedup", Field::AutoDedup),
    ("lazy-pages", Field::LazyPages),
];

/// `criu_cg_mode`: what becomes of groups that a container made.
const MODES: [(&str, i32); 5] = [("", 6), ("ignore", 0), ("soft", 3), ("full", 4), ("strict", 5)];

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directories {
    /// The checkpoint. Absolute.
    pub(crate) images: PathBuf,
    /// Logs and sockets, where that is another. Absolute.
    pub(crate) work: Option<PathBuf>,
}

impl Directories {
    /// Reads the flags.
    pub(crate) fn new(given: &Parsed) -> Result<Self, Error> {
        let absolute = |path: &str| std::path::absolute(path).map_err(Error::file("find", Path::new(path)));
        let named = |flag| given.value(flag).filter(|path| !path.is_empty());
        Ok(Self {
            images: absolute(named("image-path").unwrap_or(IMAGES))?,
            work: named("work-path").map(absolute).transpose()?,
        })
    }

    /// Where criu writes its log.
    pub(crate) fn logs(&self) -> &Path {
        self.work.as_deref().unwrap_or(&self.images)
    }
}

/// Tells an ordinary user that criu most likely refuses.
pub(crate) fn warn(global: &Global<'_>) {
    if global.maker != MakerRights::Root {
        global.log.warn("checkpoints of containers of an ordinary user are not tried: criu wants root");
    }
}

/// criu has nothing to do with groups.
pub(crate) const IGNORE: i32 = 0;

/// What both commands ask of criu.
pub(crate) fn options(given: &Parsed) -> Result<Options, Error> {
    let mut options = Options::default();
    for (flag, field) in SWITCHES {
        options.switch(field, given.is_on(flag));
    }
    let mode = given.value("manage-cgroups-mode").unwrap_or_default();
    let Some((_, mode)) = MODES.iter().find(|(name, _)| *name == mode) else {
        return Err(Error::Refused(format!("invalid manage-cgroups-mode value: {mode}")));
    };
    options.switch(Field::ManageCgroups, true).number(Field::ManageCgroupsMode, *mode);
    if let Some(other) = given.values("empty-ns").find(|kind| *kind != "network") {
        return Err(Error::Refused(format!(
            "namespace {other:?} is not supported by --empty-ns, only network"
        )));
    }
    // Interfaces, addresses and routes are made by whoever made them before: hooks, or the owner of the namespace.
    options.number(Field::EmptyNs, CloneFlags::CLONE_NEWNET.bits());
    options.switch(Field::NotifyScripts, true).switch(Field::OrphanPtsMaster, true);
    Ok(options.number(Field::LogLevel, 4).clone())
}

/// The file with further options for criu that the container names, or runc's; criu leaves one out that is not there.
pub(crate) fn configuration_file(options: &mut Options, spec: &Spec) {
    let named = spec.annotations().as_ref().and_then(|all| all.get("org.criu.config"));
    let path = named.map_or("/etc/criu/runc.conf", String::as_str);
    if !path.is_empty() {
        options.text(Field::ConfigFile, path.as_bytes());
    }
}

/// What is given for the earlier dump.
pub(crate) fn named_parent(given: &Parsed) -> Option<&str> {
    given.value("parent-path").filter(|path| !path.is_empty())
}

/// The earlier dump that this one adds to, as seen from the directory of the images, which is there.
pub(crate) fn parent<'a>(given: &'a Parsed, images: &Path) -> Result<Option<&'a str>, Error> {
    let Some(parent) = named_parent(given) else {
        return Ok(None);
    };
    if Path::new(parent).is_absolute() {
        return Err(Error::Refused("--parent-path must be relative".to_owned()));
    }
    let there = images.join(parent);
    let invalid = Error::file("invalid --parent-path:", &there);
    match std::fs::metadata(&there) {
        Ok(about) if about.is_dir() => Ok(Some(parent)),
        Ok(_) => Err(invalid(nix::Error::ENOTDIR.into())),
        Err(error) => Err(invalid(error)),
    }
}

/// Where memory goes instead of files.
pub(crate) fn page_server(given: &Parsed) -> Result<Option<(&str, u16)>, Error> {
    let Some(server) = given.value("page-server").filter(|server| !server.is_empty()) else {
        return Ok(None);
    };
    let refuse = |text: &str| Error::Refused(text.to_owned());
    let (address, port) = server
        .rsplit_once(':')
        .filter(|(address, port)| !address.is_empty() && !port.is_empty())
        .ok_or_else(|| refuse("use --page-server ADDRESS:PORT to specify the page server"))?;
    let port = port.parse().map_err(|_| refuse(&format!("invalid port number in --page-server {server}")))?;
    // An address of IPv6 stands in brackets.
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    Ok(Some((address, port)))
}

/// Who is told that pages can be fetched.
pub(crate) fn status(given: &Parsed) -> Result<Option<OwnedFd>, Error> {
    let Some(number) = given.number::<i32>("status-fd")?.filter(|number| *number != -1) else {
        return Ok(None);
    };
    let invalid = |why: &str| Error::Refused(format!("invalid --status-fd argument {number}: {why}"));
    if number < 3 || !is_inherited(number.unsigned_abs()) {
        return Err(invalid("no descriptor that was handed over"));
    }
    let descriptor = descriptor::inherited(number).map_err(Error::kernel("take --status-fd"))?;
    let flags = fcntl(descriptor.as_fd(), FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    let writable = flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE != OFlag::O_RDONLY);
    if writable { Ok(Some(descriptor)) } else { Err(invalid("not writable")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::command::table::Command;

    fn given(line: &[&str]) -> Parsed {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let command = Command::named("checkpoint").unwrap();
        Parsed::new(command.flags, command.order, &words).unwrap()
    }

    #[test]
    fn directories_are_absolute_and_have_runcs_defaults() {
        let here = std::env::current_dir().unwrap();
        let plain = Directories::new(&given(&["id", "--image-path", ""])).unwrap();
        assert_eq!(plain, Directories { images: here.join("checkpoint"), work: None });
        assert_eq!(plain.logs(), here.join("checkpoint"));
        let both = Directories::new(&given(&["--image-path=/a", "--work-path", "b", "id"])).unwrap();
        assert_eq!((both.images.as_path(), both.logs()), (Path::new("/a"), here.join("b").as_path()));
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_by_name() {
        let told = |line: &[&str]| options(&given(line)).unwrap_err().to_string();
        assert_eq!(told(&["--manage-cgroups-mode=x"]), "invalid manage-cgroups-mode value: x");
        assert!(told(&["--empty-ns=ipc"]).contains("namespace \"ipc\" is not supported"));
    }

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        for (value, wanted) in [("127.0.0.1:27", ("127.0.0.1", 27)), ("[::1]:27", ("::1", 27))] {
            let line = given(&["--page-server", value]);
            assert_eq!(page_server(&line).unwrap(), Some(wanted));
        }
        for value in ["127.0.0.1", ":27", "host:", "host:x", "host:70000"] {
            assert!(page_server(&given(&["--page-server", value])).is_err(), "{value}");
        }
        assert_eq!(page_server(&given(&[])).unwrap(), None);
    }

    #[test]
    fn a_parent_is_a_directory_below_the_images() {
        let told = |line: &[&str]| parent(&given(line), Path::new("/proc")).unwrap_err().chain();
        assert_eq!(told(&["--parent-path=/x"]), "--parent-path must be relative");
        assert_eq!(
            told(&["--parent-path=nonesuch"]),
            "invalid --parent-path: /proc/nonesuch: no such file or directory"
        );
        assert_eq!(told(&["--parent-path=version"]), "invalid --parent-path: /proc/version: not a directory");
        let line = given(&["--parent-path=sys"]);
        assert_eq!(parent(&line, Path::new("/proc")).unwrap(), Some("sys"));
    }
}
