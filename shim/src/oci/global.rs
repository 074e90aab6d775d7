//! What the flags before the command say, and where containers' state is kept.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::command::parse::Parsed;
use super::error::Error;
use super::log::{Format, Log};
use crate::container::engine::plan::MakerRights;

/// Flags that every command shares.
#[derive(Debug)]
pub(crate) struct Global<'a> {
    /// Where state is kept.
    pub(crate) root: Root,
    /// systemd makes cgroups.
    pub(crate) systemd: bool,
    /// Whether cgroups may refuse.
    pub(crate) rootless: bool,
    /// Our effective user.
    pub(crate) uid: u32,
    /// What we may do.
    pub(crate) maker: MakerRights,
    /// The criu that the caller names.
    pub(crate) criu: Option<String>,
    /// Where messages go.
    pub(crate) log: &'a Log,
}

/// What becomes of the supplementary groups of whoever makes a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supplementary {
    /// The process has its own.
    Set,
    /// They stay: the maker is an ordinary user, or its user namespace denies setgroups(2), which none below it allows.
    Kept,
}

impl Supplementary {
    /// Of a process that is made in the user namespace of another, or below.
    pub(crate) fn like(maker: MakerRights, process: &str) -> Self {
        let told = std::fs::read_to_string(format!("/proc/{process}/setgroups"));
        Self::of(maker, &told.unwrap_or_default())
    }

    /// Decides; `told` is what `/proc/<pid>/setgroups` says.
    fn of(maker: MakerRights, told: &str) -> Self {
        if maker == MakerRights::Rootless || told.trim() == "deny" { Self::Kept } else { Self::Set }
    }
}

/// The directory with one entry per container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// From where it came.
    pub(crate) origin: Origin,
}

impl Root {
    /// Where compiled seccomp filters are kept: no container can be called like that.
    pub(crate) fn filters(&self) -> PathBuf {
        self.path.join("@seccomp")
    }
}

/// Where a root directory came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--root`: it must be there for `list`.
    Given,
    /// It need not be there.
    Default,
    /// Below `XDG_RUNTIME_DIR`, which is cleaned of old files without the sticky bit.
    Runtime,
}

/// Who calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// Effective user.
    pub(crate) uid: u32,
    /// In a user namespace other than the host's.
    pub(crate) in_user_namespace: bool,
    /// `USER`.
    pub(crate) user: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) runtime_directory: Option<PathBuf>,
}

impl Caller {
    /// Looks.
    pub(crate) fn current() -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        Self {
            uid,
            in_user_namespace: uid != 0 || in_user_namespace(),
            user: std::env::var("USER").ok(),
            runtime_directory: std::env::var_os("XDG_RUNTIME_DIR")
                .filter(|it| !it.is_empty())
                .map(PathBuf::from),
        }
    }

    /// What the caller may do.
    pub(crate) fn rights(&self) -> MakerRights {
        match (self.uid, self.in_user_namespace) {
            (0, false) => MakerRights::Root,
            (0, true) => MakerRights::Inside,
            _ => MakerRights::Rootless,
        }
    }

    /// As runc decides: not root, or root of a user namespace, unless its name says that it is at home there. podman gives
    /// no name.
    fn has_runtime_directory(&self) -> bool {
        match self.rights() {
            MakerRights::Root => false,
            MakerRights::Inside => self.user.as_deref() != Some("root"),
            MakerRights::Rootless => true,
        }
    }
}

/// Opens the log that the flags name, so that what else is wrong with them can be told there.
pub(crate) fn open_log(flags: &Parsed) -> Result<Log, Error> {
    let format = match flags.value("log-format") {
        None | Some("" | "text") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => return Err(Error::Refused(format!("invalid log-format: {other}"))),
    };
    let path = flags.value("log").filter(|path| !path.is_empty()).map(Path::new);
    Log::open(path, format, flags.is_on("debug"))
}

impl<'a> Global<'a> {
    /// Reads the flags.
    pub(crate) fn new(flags: &Parsed, caller: &Caller, log: &'a Log) -> Result<Self, Error> {
        let rootless = match flags.value("rootless") {
            None | Some("" | "auto") => caller.rights() != MakerRights::Root,
            Some("true" | "1" | "t") => true,
            Some("false" | "0" | "f") => false,
            Some(other) => return Err(Error::Refused(format!("invalid rootless: {other}"))),
        };
        let root = root(flags.value("root"), caller)?;
        let systemd = flags.is_on("systemd-cgroup");
        let criu = flags.value("criu").map(str::to_owned);
        Ok(Self { root, systemd, rootless, uid: caller.uid, maker: caller.rights(), criu, log })
    }
}

fn root(given: Option<&str>, caller: &Caller) -> Result<Root, Error> {
    match (given.filter(|given| !given.is_empty()), &caller.runtime_directory) {
        (Some(given), _) => {
            let path = std::path::absolute(given).map_err(Error::file("find", Path::new(given)))?;
            if path.components().count() < 2 {
                return Err(Error::Refused("Option --root argument should not be set to /".to_owned()));
            }
            Ok(Root { path, origin: Origin::Given })
        }
        (None, Some(runtime)) if caller.has_runtime_directory() => {
            Ok(Root { path: runtime.join("hull/oci"), origin: Origin::Runtime })
        }
        (None, _) => Ok(Root { path: crate::layout::Layout::new(None).oci(), origin: Origin::Default }),
    }
}

/// The first user namespace has a number of its own (`PROC_USER_INIT_INO` in the kernel), and maps every id there is to itself.
fn in_user_namespace() -> bool {
    const FIRST: u64 = 0xEFFF_FFFD;
    if std::fs::metadata("/proc/self/ns/user").is_ok_and(|about| about.ino() == FIRST) {
        return false;
    }
    let map = crate::procfs::text("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Caller {
        Caller {
            uid: 1000,
            in_user_namespace: true,
            runtime_directory: Some("/run/user/1000".into()),
            user: None,
        }
    }

    #[test]
    fn a_user_keeps_state_in_the_runtime_directory() {
        assert_eq!(root(None, &user()).unwrap().path, Path::new("/run/user/1000/hull/oci"));
        let origin = root(None, &Caller { uid: 0, in_user_namespace: false, ..user() }).unwrap().origin;
        assert_eq!(origin, Origin::Default);
        assert_eq!(root(Some("/x"), &user()).unwrap(), Root { path: "/x".into(), origin: Origin::Given });
    }

    #[test]
    fn the_root_directory_of_the_host_holds_no_state() {
        assert!(root(Some("/"), &user()).is_err());
    }

    #[test]
    fn root_of_a_user_namespace_has_the_users_directory_unless_it_is_called_root() {
        let inside = Caller { uid: 0, ..user() };
        let named = |name: &str| Caller { user: Some(name.to_owned()), ..inside.clone() };
        assert_eq!(inside.rights(), MakerRights::Inside);
        assert!(inside.has_runtime_directory() && named("joe").has_runtime_directory());
        assert!(!named("root").has_runtime_directory());
        assert!(!Caller { in_user_namespace: false, ..named("joe") }.has_runtime_directory());
    }
    #[test]
    fn groups_stay_where_the_kernel_lets_nobody_set_them() {
        for (maker, told, wanted) in [
            (MakerRights::Root, "allow\n", Supplementary::Set),
            (MakerRights::Inside, "allow\n", Supplementary::Set),
            (MakerRights::Inside, "deny\n", Supplementary::Kept),
            (MakerRights::Rootless, "allow\n", Supplementary::Kept),
        ] {
            assert_eq!(Supplementary::of(maker, told), wanted, "{maker:?} {told}");
        }
    }
}
