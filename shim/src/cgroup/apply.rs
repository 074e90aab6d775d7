//! Carrying a plan out: one write after the other, the first failure ends it and says which file and why.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::file::{self, number};
use super::resources::{Missing, Plan, Step, Write};
use super::{Entry, Error, Group, Hierarchies, v2};
use crate::harmless;

impl Group {
    /// Carries a plan out.
    ///
    /// # Errors
    /// A step fails. What was written before stays written.
    pub fn apply(&self, plan: &Plan) -> Result<(), Error> {
        Performer::new(self).perform(plan)
    }

    /// The same, and opens the way in.
    ///
    /// # Errors
    /// A step fails, or the way in cannot be opened.
    pub fn apply_and_open(&self, plan: &Plan) -> Result<Entry, Error> {
        let mut performer = Performer::new(self);
        performer.perform(plan)?;
        performer.directory.map_or_else(|| self.entry(), |directory| Ok(v2::entry_by(directory)))
    }
}

/// What a file held before it was written to.
pub(super) struct Before {
    pub(super) path: PathBuf,
    pub(super) wrote: String,
    pub(super) text: String,
}

/// Performs the steps of one plan.
pub(super) struct Performer<'a> {
    group: &'a Group,
    /// The file that was written to last: device rules go to the same one, a dozen in a row.
    open: Option<(PathBuf, File)>,
    /// The group's, once it was opened.
    directory: Option<OwnedFd>,
    /// What is to be tried again at the end.
    again: Vec<&'a Write>,
    /// What was written to, in its order; none when nobody will ask.
    before: Option<Vec<Before>>,
    /// What files held before anybody wrote to them.
    remembered: BTreeMap<PathBuf, String>,
}

impl<'a> Performer<'a> {
    pub(super) fn new(group: &'a Group) -> Self {
        Self {
            group,
            open: None,
            directory: None,
            again: Vec::new(),
            before: None,
            remembered: BTreeMap::new(),
        }
    }

    /// Looks at every file that a plan writes to, so that all can be put back.
    pub(super) fn remember(&mut self, plan: &Plan) {
        self.before = Some(Vec::new());
        for step in &plan.0 {
            let Step::Write(write) = step else { continue };
            let instead = match &write.missing {
                Missing::Instead { file, .. } => Some(*file),
                Missing::Refuse | Missing::Skip => None,
            };
            for file in std::iter::once(write.file.as_ref()).chain(instead) {
                let Ok(path) = self.path(write, file) else { continue };
                if let Ok(text) = std::fs::read_to_string(&path) {
                    self.remembered.insert(path, text);
                }
            }
        }
    }

    pub(super) fn perform<'b: 'a>(&mut self, plan: &'b Plan) -> Result<(), Error> {
        for step in &plan.0 {
            match step {
                Step::Write(write) => self.write(write)?,
                Step::Filter(rules) => match &*self.group.hierarchies {
                    Hierarchies::V1(_) => {}
                    Hierarchies::V2(root) => {
                        self.directory = Some(v2::filter(root, &self.group.path, rules)?);
                    }
                },
            }
        }
        for write in std::mem::take(&mut self.again) {
            let path = self.path(write, &write.file)?;
            self.put(&path, &write.value)?;
        }
        Ok(())
    }

    fn path(&self, write: &Write, file: &str) -> Result<PathBuf, Error> {
        let path = self.group.file(&write.controller, file);
        path.ok_or_else(|| Error::NoController(write.controller.clone().into_owned()))
    }

    fn write(&mut self, write: &'a Write) -> Result<(), Error> {
        let path = match (self.path(write, &write.file), &write.missing) {
            (Err(_), Missing::Skip) => return Ok(()),
            (path, _) => path?,
        };
        let error = match self.put(&path, &write.value) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match (error.errno(), &write.missing) {
            (Some(Errno::ENOENT), Missing::Skip) => Ok(()),
            (Some(Errno::ENOENT), Missing::Instead { file, value }) => {
                let path = self.path(write, file)?;
                self.put(&path, value).map_err(|error| self.explain(error, write))
            }
            (Some(Errno::EINVAL), _) if write.again => {
                self.again.push(write);
                Ok(())
            }
            _ => Err(self.explain(error, write)),
        }
    }

    /// A file that is missing because its controller is, and a limit below what is used already.
    fn explain(&self, error: Error, write: &Write) -> Error {
        match error.errno() {
            Some(Errno::ENOENT) if !self.group.has_controller(&write.controller) => {
                Error::NoController(write.controller.clone().into_owned())
            }
            Some(Errno::EBUSY) if write.controller == "memory" => {
                let read = |file| self.group.file("memory", file).and_then(|file| number(&file));
                match (read("memory.usage_in_bytes"), read("memory.max_usage_in_bytes")) {
                    (Some(usage), Some(peak)) => {
                        Error::MemoryInUse { limit: write.value.clone(), usage, peak }
                    }
                    _ => error,
                }
            }
            _ => error,
        }
    }

    fn put(&mut self, path: &Path, value: &str) -> Result<(), Error> {
        self.put_lines(path, value)?;
        if let (Some(all), Some(text)) = (&mut self.before, self.remembered.get(path)) {
            all.push(Before { path: path.to_owned(), wrote: value.to_owned(), text: text.clone() });
        }
        Ok(())
    }

    fn put_lines(&mut self, path: &Path, value: &str) -> Result<(), Error> {
        let fail = |source: io::Error| Error::File { operation: "write", path: path.to_owned(), source };
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            let file = File::options().write(true).open(path).map_err(fail)?;
            self.open = Some((path.to_owned(), file));
        }
        let Some((_, file)) = &mut self.open else { return Ok(()) };
        // The kernel takes one line per write. An empty value is a line too.
        let mut lines = value.lines().filter(|line| !line.is_empty()).peekable();
        if lines.peek().is_none() {
            return file.write_all(b"\n").map_err(fail);
        }
        lines.try_for_each(|line| file.write_all(line.as_bytes())).map_err(fail)
    }

    /// Puts back what was there, last one first, as far as that goes.
    pub(super) fn restore(&mut self) {
        let before = self.before.take().unwrap_or_default();
        let lines = before
            .iter()
            .rev()
            .flat_map(|before| before.lines().into_iter().map(|line| (&before.path, line)));
        let refused: Vec<_> = lines.filter(|(path, line)| self.put_lines(path, line).is_err()).collect();
        for (path, line) in refused {
            // What bounds another value may have stood in its way. The failure that made all this necessary is
            // what the caller hears of.
            harmless(self.put_lines(path, &line));
        }
        self.open = None;
    }
}

impl Before {
    /// What to write so that the file says again what it said.
    pub(super) fn lines(&self) -> Vec<String> {
        let name = self.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name == "memory.oom_control" {
            return file::keyed_in(&self.text, "oom_kill_disable")
                .map(|value| value.to_string())
                .into_iter()
                .collect();
        }
        let Some(default) = keyed_default(&name) else {
            return vec![self.text.trim().to_owned()];
        };
        let key = self.wrote.split(' ').next().unwrap_or_default();
        let Some((key, default)) = (match default {
            // Of a weight the line without a device is called `default` when it is read.
            Keyed::Weight if !key.contains(':') => Some(("default", "100")),
            Keyed::Weight => Some((key, "default")),
            Keyed::Lines(default) => Some((key, default)),
        }) else {
            return Vec::new();
        };
        let line = self.text.lines().find(|line| line.split(' ').next() == Some(key));
        let bare = self.text.trim();
        match line {
            Some(line) => vec![line.trim().to_owned()],
            None if key == "default" && bare.parse::<u64>().is_ok() => vec![bare.to_owned()],
            None => vec![format!("{key} {default}")],
        }
    }
}

/// How a file that has a line for each of many things says nothing of one of them.
enum Keyed {
    /// By a word in the place of the weight.
    Weight,
    /// By these values.
    Lines(&'static str),
}

fn keyed_default(file: &str) -> Option<Keyed> {
    match file {
        "io.bfq.weight" | "io.weight" => Some(Keyed::Weight),
        "blkio.weight_device" | "blkio.leaf_weight_device" | "net_prio.ifpriomap" => Some(Keyed::Lines("0")),
        "blkio.bfq.weight_device" => Some(Keyed::Weight),
        "io.max" => Some(Keyed::Lines("rbps=max wbps=max riops=max wiops=max")),
        "rdma.max" => Some(Keyed::Lines("hca_handle=max hca_object=max")),
        name if name.starts_with("blkio.throttle.") => Some(Keyed::Lines("0")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(file: &str, wrote: &str, text: &str) -> Vec<String> {
        Before { path: Path::new("/group").join(file), wrote: wrote.into(), text: text.into() }.lines()
    }

    #[test]
    fn a_file_of_one_value_gets_it_back() {
        assert_eq!(restored("memory.max", "1", "max\n"), ["max"]);
        assert_eq!(restored("cpu.max", "1 2", "max 100000\n"), ["max 100000"]);
        assert_eq!(restored("cpuset.cpus", "0", "\n"), [""]);
        assert_eq!(restored("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n"), ["0"]);
    }

    #[test]
    fn of_a_file_of_many_lines_the_one_that_was_written_comes_back() {
        let default = "8:0 rbps=max wbps=max riops=max wiops=max";
        assert_eq!(restored("io.max", "8:0 rbps=1", ""), [default]);
        let old = "8:0 rbps=7 wbps=max riops=max wiops=max";
        assert_eq!(restored("io.max", "8:0 rbps=1", &format!("7:0 rbps=2\n{old}\n")), [old]);
        assert_eq!(restored("blkio.throttle.read_bps_device", "8:0 5", ""), ["8:0 0"]);
        assert_eq!(restored("io.bfq.weight", "200", "default 100\n8:0 300\n"), ["default 100"]);
        assert_eq!(restored("io.bfq.weight", "8:0 200", "default 100\n8:0 300\n"), ["8:0 300"]);
        assert_eq!(restored("io.bfq.weight", "8:1 200", "default 100\n"), ["8:1 default"]);
    }
}
