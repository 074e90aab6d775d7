//! `linux.intelRdt`: groups of the resctrl file system, which share out cache and memory bandwidth (runtime-spec
//! `config-linux.md`, Intel RDT; the kernel's `filesystems/resctrl.rst`).
//!
//! **Invariant:** a group that was there before is neither changed nor removed.

pub(crate) mod statistics;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

/// Where the file system is, if anywhere.
pub(crate) const ROOT: &str = "/sys/fs/resctrl";

/// Whether groups can be made.
pub(crate) fn is_there() -> bool {
    Path::new(ROOT).join("schemata").exists()
}

/// Why there is no such group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The name is no name.
    #[error("invalid intelRdt.ClosID {0:?}")]
    Name(String),
    /// Somebody else's group differs.
    #[error("intelRdt.ClosID {name:?} exists in {}, and its schemata lacks {line:?}", path.display())]
    Differs { name: String, path: PathBuf, line: String },
    /// A file.
    #[error("intelRdt: {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { operation, path, source }
}

/// What a configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    name: String,
    lines: Vec<String>,
    monitored: bool,
}

impl Wanted {
    /// Reads it, for the container `id`.
    pub(crate) fn new(asked: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let name = asked.clos_id().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| id.to_owned());
        if name == "." || name == ".." || name != "/" && name.contains(['/', '\n']) {
            return Err(Error::Name(name));
        }
        let older = [asked.l3_cache_schema(), asked.mem_bw_schema()].into_iter().flatten();
        let lines = older.chain(asked.schemata().iter().flatten());
        let lines = lines.flat_map(|text| text.lines()).filter(|line| !line.is_empty());
        Ok(Self { name, lines: lines.map(str::to_owned).collect(), monitored: is_monitored(asked) })
    }

    /// What [`Wanted::make`] makes unless somebody else does meanwhile: for the record, which is there before the group is.
    pub(crate) fn intended(&self, root: &Path, id: &str) -> Group {
        let path = self.path(root);
        let monitor = self.monitored.then(|| path.join("mon_groups").join(id));
        Group { made: !path.exists(), path, monitor }
    }

    fn path(&self, root: &Path) -> PathBuf {
        if self.name == "/" { root.to_owned() } else { root.join(&self.name) }
    }

    /// Makes the group below `root`, or finds it as it is wanted.
    pub(crate) fn make(&self, root: &Path, id: &str) -> Result<Group, Error> {
        let path = self.path(root);
        let made = match std::fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(file("create", &path)(error)),
        };
        let mut group = Group { path, made, monitor: None };
        let filled = if made { group.write(&self.lines) } else { self.compare(&group) };
        let monitor = group.path.join("mon_groups").join(id);
        let filled = filled.and_then(|()| match self.monitored {
            true => std::fs::create_dir(&monitor).map_err(file("create", &monitor)),
            false => Ok(()),
        });
        if let Err(error) = filled {
            // What failed first is what the caller hears of.
            crate::harmless(group.remove());
            return Err(error);
        }
        group.monitor = self.monitored.then_some(monitor);
        Ok(group)
    }

    fn compare(&self, group: &Group) -> Result<(), Error> {
        let path = group.path.join("schemata");
        let there = std::fs::read_to_string(&path).map_err(file("read", &path))?;
        let plain = |line: &str| line.split_whitespace().collect::<String>();
        let there: Vec<String> = there.lines().map(plain).collect();
        match self.lines.iter().find(|line| !there.contains(&plain(line))) {
            Some(line) => Err(Error::Differs { name: self.name.clone(), path, line: line.clone() }),
            None => Ok(()),
        }
    }
}

fn is_monitored(asked: &LinuxIntelRdt) -> bool {
    [asked.enable_monitoring(), asked.enable_cmt(), asked.enable_mbm()].contains(&&Some(true))
}

/// The group of one container, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    path: PathBuf,
    /// By us, for this container.
    made: bool,
    /// Its monitoring group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<PathBuf>,
}

impl Group {
    /// Puts a process there; its children follow.
    pub(crate) fn enter(&self, pid: i32) -> Result<(), Error> {
        for group in [Some(&self.path), self.monitor.as_ref()].into_iter().flatten() {
            write(&group.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Sets what it gets.
    pub(crate) fn write(&self, lines: &[String]) -> Result<(), Error> {
        match lines {
            [] => Ok(()),
            lines => write(&self.path.join("schemata"), &format!("{}\n", lines.join("\n"))),
        }
    }

    /// Removes what was made of it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let made = self.made.then_some(&self.path);
        for group in [self.monitor.as_ref(), made].into_iter().flatten() {
            match std::fs::remove_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file("remove", group)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let opened: io::Result<File> = OpenOptions::new().write(true).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(file("write", path))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wanted(asked: Value) -> Result<Wanted, Error> {
        Wanted::new(&serde_json::from_value(asked).unwrap(), "box")
    }

    #[test]
    fn a_group_has_the_containers_name_unless_one_is_given() {
        let asked = json!({"memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f", "schemata": ["L2:0=3"]});
        let lines = ["L3:0=f", "MB:0=20", "L2:0=3"].map(str::to_owned).to_vec();
        assert_eq!(wanted(asked).unwrap(), Wanted { name: "box".to_owned(), lines, monitored: false });
        let own = wanted(json!({"closID": "/", "enableMonitoring": true})).unwrap();
        assert_eq!((own.name.as_str(), own.monitored), ("/", true));
        for bad in [".", "..", "a/b", "a\n"] {
            let told = wanted(json!({"closID": bad})).unwrap_err().to_string();
            assert_eq!(told, format!("invalid intelRdt.ClosID {bad:?}"));
        }
    }

    #[test]
    fn a_group_that_is_there_is_taken_as_it_is_or_not_at_all() {
        let root = std::env::temp_dir().join(format!("resctrl-{}", std::process::id()));
        std::fs::create_dir_all(root.join("shared/mon_groups")).unwrap();
        std::fs::write(root.join("shared/schemata"), "    L3:0=f\n    MB:0=20\n").unwrap();
        let wanted = |schema: &str| {
            wanted(json!({"closID": "shared", "l3CacheSchema": schema, "enableMonitoring": true})).unwrap()
        };
        let told = wanted("L3:0=1").make(&root, "box").unwrap_err().to_string();
        assert!(told.contains("lacks \"L3:0=1\""), "{told}");
        let intended = wanted("L3:0=f").intended(&root, "box");
        let group = wanted("L3:0=f").make(&root, "box").unwrap();
        assert_eq!(group, intended);
        assert!(!group.made && root.join("shared/mon_groups/box").is_dir());
        group.remove().unwrap();
        assert!(root.join("shared").is_dir() && !root.join("shared/mon_groups/box").exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
    #[test]
    fn a_group_that_is_yet_to_be_made_is_removed_by_what_was_intended() {
        let root = std::env::temp_dir().join(format!("resctrl-intended-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let wanted = wanted(json!({})).unwrap();
        let intended = wanted.intended(&root, "box");
        // Whoever was to make it was killed before, or after.
        intended.remove().unwrap();
        assert_eq!(wanted.make(&root, "box").unwrap(), intended);
        intended.remove().unwrap();
        assert!(!root.join("box").exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
