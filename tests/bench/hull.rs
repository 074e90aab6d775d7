//! hull itself, through its command line, with a `--root` of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_tests::{process, wait_until};

use crate::Arguments;
use crate::measure::{Sample, execute, reap, timed};
use crate::memory::proportional;
use crate::podman::POD;

/// Operations between two readings of a clock that ticks every 10 ms.
const REPEAT: u32 = 20;
/// Containers of the larger pod less those of the smaller one.
const MORE: u32 = 10;

/// A hull of our own with one pod that stays for exec.
pub(crate) struct Hull {
    program: PathBuf,
    root: PathBuf,
}

impl Hull {
    /// Imports the image and starts the pod that stays.
    pub(crate) fn new(arguments: &Arguments, root: &Path) -> Result<Self, String> {
        fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
        let hull = Self { program: arguments.binaries.join("hull"), root: root.to_owned() };
        let archive = arguments.images.join("busybox.tar");
        execute(hull.command(&["image", "import"]).arg(archive))?;
        hull.apply("stays", 2)?;
        Ok(hull)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(arguments);
        command
    }

    /// Applies a pod with so many containers and waits until all run.
    fn apply(&self, name: &str, containers: u32) -> Result<(), String> {
        let (head, _) = POD.split_once("  - {name: one").ok_or("the pod has no container")?;
        let mut text = head.replace("name: bench", &format!("name: {name}"));
        for number in 0..containers {
            text += &format!(
                "  - {{name: c{number}, image: busybox, imagePullPolicy: Never, command: [sleep, '100000']}}\n"
            );
        }
        let path = self.root.join(format!("{name}.yaml"));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        execute(self.command(&["apply", "--wait", "-f"]).arg(path)).map(drop)
    }

    fn delete(&self, name: &str) -> Result<(), String> {
        execute(&mut self.command(&["delete", "pod", name, "--now"]))?;
        reap();
        Ok(())
    }

    /// Shims, supervisors and pauses. A program is recognised by its arguments, a pause by its parent.
    fn residents(&self) -> Vec<i32> {
        let root = self.root.to_string_lossy().into_owned();
        let of_hull: Vec<i32> =
            process::all().into_iter().filter(|pid| process::command_line(*pid).contains(&root)).collect();
        let is_pause = |pid: &i32| {
            process::file(*pid, "comm").trim() == "hull-pause"
                && process::parent(*pid).is_some_and(|parent| of_hull.contains(&parent))
        };
        let pauses: Vec<i32> = process::all().into_iter().filter(is_pause).collect();
        [of_hull, pauses].concat()
    }

    /// A pod of `containers`, with the processor time of its own shim and supervisor, removed again.
    fn measured_pod(&self, containers: u32) -> Result<Sample, String> {
        let before = self.residents();
        let mut sample = timed(&[], || self.apply("bench", containers))?;
        let new = self.residents().into_iter().filter(|pid| !before.contains(pid));
        sample.cpu += new.map(crate::measure::resident_time).sum::<Duration>();
        self.delete("bench")?;
        Ok(sample)
    }

    /// `apply --wait` of two containers.
    pub(crate) fn pod_up(&self) -> Result<Sample, String> {
        self.measured_pod(2)
    }

    /// What one more container costs: create and start with rootfs, log and cgroup.
    pub(crate) fn one_more(&self) -> Result<Sample, String> {
        let few = self.measured_pod(2)?;
        let many = self.measured_pod(2 + MORE)?;
        let (wall, cpu) = (many.wall.saturating_sub(few.wall), many.cpu.saturating_sub(few.cpu));
        Ok(Sample { wall, cpu }.each(MORE))
    }

    /// `hull exec` of `/bin/true`, client, supervisor and shim together.
    pub(crate) fn exec(&self) -> Result<Sample, String> {
        let work = || {
            (0..REPEAT)
                .try_for_each(|_| execute(&mut self.command(&["exec", "stays", "--", "/bin/true"])).map(drop))
        };
        timed(&self.residents(), work).map(|sample| sample.each(REPEAT))
    }

    /// The sum of PSS with `pods` pods.
    pub(crate) fn memory(&self, pods: usize) -> Result<u64, String> {
        let stays = self.residents();
        let names: Vec<String> = (0..pods).map(|number| format!("memory-{number}")).collect();
        let result = names.iter().try_for_each(|name| self.apply(name, 2));
        let added: Vec<i32> = self.residents().into_iter().filter(|pid| !stays.contains(pid)).collect();
        let sum = proportional(&added);
        for name in &names {
            self.delete(name)?;
        }
        result.map(|()| sum)
    }
}

impl Drop for Hull {
    fn drop(&mut self) {
        if let Err(reason) = execute(&mut self.command(&["delete", "pods", "--all", "--now"])) {
            eprintln!("{}", reason.trim());
        }
        let gone = || {
            reap();
            let left = self.residents();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        };
        wait_until(Duration::from_secs(20), "end of hull's processes", gone);
    }
}
