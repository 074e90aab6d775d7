//! Mount options of `config.json`, by a table; runtime-spec `config.md` (Linux mount options) and crun's additions.

use nix::mount::MsFlags;

use crate::sys::mount::{self, Propagation, Reach};

/// What the options of one mount say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// `bind` or `rbind`.
    pub(super) bind: Option<Reach>,
    /// `remount`.
    pub(super) remount: bool,
    /// Of the mount itself.
    pub(super) one: Attributes,
    /// Of the mounts below it too.
    pub(super) tree: Attributes,
    /// Of the file system.
    pub(super) file_system: MsFlags,
    /// In their order.
    pub(super) propagation: Vec<(Propagation, Reach)>,
    /// `tmpcopyup`.
    pub(super) copy_up: bool,
    /// `idmap`, `ridmap`, `idmap=…`.
    pub(super) id_map: Option<IdMapOption>,
    /// The source is not followed if it is a symbolic link.
    pub(super) source_kept: bool,
    /// The destination is not followed if it is a symbolic link.
    pub(super) destination_kept: bool,
    /// A source that is a symbolic link is made anew instead of mounted.
    pub(super) copy_symlink: bool,
    /// For the file system to understand.
    pub(super) data: Vec<String>,
}

/// `MOUNT_ATTR_*` to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
}

/// An id-mapping by option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdMapOption {
    pub(super) reach: Reach,
    /// crun's `uids=0-1000-1;gids=…`, as it is written.
    pub(super) mapping: Option<String>,
}

/// What one option does.
#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    Set(u64),
    Clear(u64),
    /// One of a family: the last one holds.
    AccessTime(u64),
    FileSystem(MsFlags),
    NotFileSystem(MsFlags),
    Bind(Reach),
    Remount,
    Propagation(Propagation, Reach),
    CopyUp,
    IdMap(Reach),
    SourceKept,
    DestinationKept,
    CopySymlink,
}

use Effect::{AccessTime, Clear, FileSystem, NotFileSystem, Nothing, Set};

/// Options that have a recursive sibling with an `r` before the name.
const ATTRIBUTES: &[(&str, Effect)] = &[
    ("ro", Set(mount::RDONLY)),
    ("rw", Clear(mount::RDONLY)),
    ("nosuid", Set(mount::NOSUID)),
    ("suid", Clear(mount::NOSUID)),
    ("nodev", Set(mount::NODEV)),
    ("dev", Clear(mount::NODEV)),
    ("noexec", Set(mount::NOEXEC)),
    ("exec", Clear(mount::NOEXEC)),
    ("nodiratime", Set(mount::NODIRATIME)),
    ("diratime", Clear(mount::NODIRATIME)),
    ("relatime", AccessTime(0)),
    ("norelatime", Nothing),
    ("noatime", AccessTime(mount::NOATIME)),
    ("atime", AccessTime(0)),
    ("strictatime", AccessTime(mount::STRICTATIME)),
    ("nostrictatime", AccessTime(0)),
    ("nosymfollow", Set(mount::NOSYMFOLLOW)),
    ("symfollow", Clear(mount::NOSYMFOLLOW)),
];

const OTHERS: &[(&str, Effect)] = &[
    ("defaults", Nothing),
    ("sync", FileSystem(MsFlags::MS_SYNCHRONOUS)),
    ("async", NotFileSystem(MsFlags::MS_SYNCHRONOUS)),
    ("dirsync", FileSystem(MsFlags::MS_DIRSYNC)),
    ("mand", FileSystem(MsFlags::MS_MANDLOCK)),
    ("nomand", NotFileSystem(MsFlags::MS_MANDLOCK)),
    ("acl", FileSystem(MsFlags::MS_POSIXACL)),
    ("noacl", NotFileSystem(MsFlags::MS_POSIXACL)),
    ("iversion", FileSystem(MsFlags::MS_I_VERSION)),
    ("noiversion", NotFileSystem(MsFlags::MS_I_VERSION)),
    ("lazytime", FileSystem(MsFlags::MS_LAZYTIME)),
    ("nolazytime", NotFileSystem(MsFlags::MS_LAZYTIME)),
    ("silent", FileSystem(MsFlags::MS_SILENT)),
    ("loud", NotFileSystem(MsFlags::MS_SILENT)),
    ("remount", Effect::Remount),
    ("bind", Effect::Bind(Reach::One)),
    ("rbind", Effect::Bind(Reach::Tree)),
    ("shared", Effect::Propagation(Propagation::Shared, Reach::One)),
    ("rshared", Effect::Propagation(Propagation::Shared, Reach::Tree)),
    ("slave", Effect::Propagation(Propagation::Slave, Reach::One)),
    ("rslave", Effect::Propagation(Propagation::Slave, Reach::Tree)),
    ("private", Effect::Propagation(Propagation::Private, Reach::One)),
    ("rprivate", Effect::Propagation(Propagation::Private, Reach::Tree)),
    ("unbindable", Effect::Propagation(Propagation::Unbindable, Reach::One)),
    ("runbindable", Effect::Propagation(Propagation::Unbindable, Reach::Tree)),
    ("tmpcopyup", Effect::CopyUp),
    ("idmap", Effect::IdMap(Reach::One)),
    ("ridmap", Effect::IdMap(Reach::Tree)),
    ("src-nofollow", Effect::SourceKept),
    ("dest-nofollow", Effect::DestinationKept),
    ("copy-symlink", Effect::CopySymlink),
];

/// Every option that this engine understands itself, for `features`.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let plain = ATTRIBUTES.iter().chain(OTHERS).map(|(name, _)| (*name).to_owned());
    plain.chain(ATTRIBUTES.iter().map(|(name, _)| format!("r{name}")))
}

/// How a propagation of the whole root is written.
pub(super) fn propagation(name: &str) -> Option<(Propagation, Reach)> {
    match lookup(OTHERS, name)? {
        Effect::Propagation(propagation, reach) => Some((propagation, reach)),
        _ => None,
    }
}

/// Reads options in their order; later ones win.
pub(super) fn parse(options: &[String]) -> Options {
    let mut read = Options::default();
    for option in options {
        // Whole names first: `relatime` is not the recursive sibling of `elatime`.
        if let Some(effect) = lookup(ATTRIBUTES, option).or_else(|| lookup(OTHERS, option)) {
            read.take(effect, Reach::One);
        } else if let Some(effect) = option.strip_prefix('r').and_then(|name| lookup(ATTRIBUTES, name)) {
            read.take(effect, Reach::Tree);
        } else if let Some(id_map) = id_map_with_value(option) {
            read.id_map = Some(id_map);
        } else {
            read.data.push(option.clone());
        }
    }
    read
}

fn lookup(table: &[(&str, Effect)], name: &str) -> Option<Effect> {
    table.iter().find(|(known, _)| *known == name).map(|(_, effect)| *effect)
}

fn id_map_with_value(option: &str) -> Option<IdMapOption> {
    let (name, mapping) = option.split_once('=')?;
    let reach = match name {
        "idmap" => Reach::One,
        "ridmap" => Reach::Tree,
        _ => return None,
    };
    Some(IdMapOption { reach, mapping: Some(mapping.to_owned()) })
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: None,
            remount: false,
            one: Attributes::default(),
            tree: Attributes::default(),
            file_system: MsFlags::empty(),
            propagation: Vec::new(),
            copy_up: false,
            id_map: None,
            source_kept: false,
            destination_kept: false,
            copy_symlink: false,
            data: Vec::new(),
        }
    }
}

impl Options {
    fn take(&mut self, effect: Effect, reach: Reach) {
        let attributes = match reach {
            Reach::One => &mut self.one,
            Reach::Tree => &mut self.tree,
        };
        match effect {
            Effect::Nothing => {}
            Effect::Set(flag) => attributes.change(flag, flag),
            Effect::Clear(flag) => attributes.change(flag, 0),
            Effect::AccessTime(mode) => attributes.change(mount::ATIME, mode),
            Effect::FileSystem(flag) => self.file_system |= flag,
            Effect::NotFileSystem(flag) => self.file_system &= !flag,
            Effect::Bind(reach) => self.bind = Some(reach),
            Effect::Remount => self.remount = true,
            Effect::Propagation(propagation, reach) => self.propagation.push((propagation, reach)),
            Effect::CopyUp => self.copy_up = true,
            Effect::IdMap(reach) => self.id_map = Some(IdMapOption { reach, mapping: None }),
            Effect::SourceKept => self.source_kept = true,
            Effect::DestinationKept => self.destination_kept = true,
            Effect::CopySymlink => self.copy_symlink = true,
        }
    }
}

impl Attributes {
    /// Gives the bits of `mask` the value `value`, and no other.
    fn change(&mut self, mask: u64, value: u64) {
        self.set = self.set & !mask | value;
        // The kernel wants the whole family of access times cleared when one of them is set.
        let clear = if mask == mount::ATIME { mask } else { mask & !value };
        self.clear = self.clear & !mask | clear;
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The flags of mount(2) for attributes.
pub(super) fn legacy(attributes: u64) -> MsFlags {
    let table = [
        (mount::RDONLY, MsFlags::MS_RDONLY),
        (mount::NOSUID, MsFlags::MS_NOSUID),
        (mount::NODEV, MsFlags::MS_NODEV),
        (mount::NOEXEC, MsFlags::MS_NOEXEC),
        (mount::NODIRATIME, MsFlags::MS_NODIRATIME),
        (mount::NOATIME, MsFlags::MS_NOATIME),
        (mount::STRICTATIME, MsFlags::MS_STRICTATIME),
        (mount::NOSYMFOLLOW, MsFlags::from_bits_retain(256)),
    ];
    let set = table.iter().filter(|(attribute, _)| attributes & attribute != 0);
    set.fold(MsFlags::empty(), |all, (_, flag)| all | *flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Options {
        parse(&options.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_two_opposites_holds() {
        assert_eq!(parsed(&["ro", "rw"]).one, Attributes { set: 0, clear: mount::RDONLY });
        assert_eq!(parsed(&["rw", "ro"]).one, Attributes { set: mount::RDONLY, clear: 0 });
        let times = parsed(&["strictatime", "noatime"]).one;
        assert_eq!(times, Attributes { set: mount::NOATIME, clear: mount::ATIME });
    }

    #[test]
    fn an_r_makes_an_attribute_recursive_but_not_relatime() {
        assert_eq!(parsed(&["rro"]).tree.set, mount::RDONLY);
        assert_eq!(parsed(&["relatime"]).tree, Attributes::default());
        assert_eq!(parsed(&["rrelatime"]).tree, Attributes { set: 0, clear: mount::ATIME });
        assert_eq!(parsed(&["rbind", "rprivate"]).bind, Some(Reach::Tree));
    }

    #[test]
    fn what_is_no_option_of_ours_is_data() {
        let options = parsed(&["nosuid", "mode=755", "size=65536k", "newinstance"]);
        assert_eq!(options.data, ["mode=755", "size=65536k", "newinstance"]);
    }

    #[test]
    fn an_id_map_may_bring_its_mapping() {
        let option = parsed(&["idmap=uids=0-1000-1;gids=0-1000-1"]).id_map.unwrap();
        assert_eq!(option.mapping.as_deref(), Some("uids=0-1000-1;gids=0-1000-1"));
        assert_eq!(parsed(&["ridmap"]).id_map.unwrap().reach, Reach::Tree);
    }

    #[test]
    fn no_name_stands_twice_in_the_tables() {
        let mut all: Vec<String> = names().collect();
        let before = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
