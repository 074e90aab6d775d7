//! hull itself, through its command line, with a `--root` of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_tests::{process, wait_until};
use nix::sys::resource::UsageWho;

use crate::Arguments;
use crate::measure::{Meter, Sample, execute, mount_memory, own_time, reap, rusage, unmount};
use crate::memory::proportional;
use crate::podman::POD;

/// Operations in one sample, so that what is read of each process counts.
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
        let hull = Self { program: arguments.binaries.join("hull"), root: root.to_owned() };
        // As by default: what runs is in memory, images and logs are on disk.
        let run = root.join("run");
        fs::create_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        mount_memory(&run)?;
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

    fn delete(&self, names: &[&str]) -> Result<(), String> {
        execute(&mut self.command(&[&["delete", "pod", "--now"], names].concat()))?;
        reap();
        Ok(())
    }

    /// The cgroups of our pods.
    fn groups(&self) -> Vec<String> {
        let pods = fs::read_dir(self.root.join("run/pods")).into_iter().flatten().flatten();
        pods.map(|pod| format!("hull/pod{}", pod.file_name().to_string_lossy())).collect()
    }

    /// Our processes whose arguments say that they are a shim or a supervisor.
    fn programs(&self, argument: &str) -> Vec<i32> {
        let root = self.root.to_string_lossy().into_owned();
        let is_one = |pid: &i32| {
            let words = process::command_line(*pid);
            words.contains(&root) && words.split(' ').any(|word| word == argument)
        };
        process::all().into_iter().filter(is_one).collect()
    }

    /// Shims, supervisors and pauses. A program is recognised by its arguments, a pause by its parent.
    fn residents(&self) -> Vec<i32> {
        let shims = self.programs("pod");
        let is_pause = |pid: &i32| {
            process::file(*pid, "comm").trim() == "hull-pause"
                && process::parent(*pid).is_some_and(|parent| shims.contains(&parent))
        };
        let pauses: Vec<i32> = process::all().into_iter().filter(is_pause).collect();
        [shims.clone(), self.programs("supervise"), pauses].concat()
    }

    /// A pod of `containers` is made and removed again, which is not measured.
    fn measured_pod(&self, meter: &Meter, containers: u32) -> Result<Sample, String> {
        let sample = meter.timed(|| self.groups(), || self.apply("bench", containers))?;
        self.delete(&["bench"])?;
        Ok(sample)
    }

    /// `apply --wait` of two containers.
    pub(crate) fn pod_up(&self, meter: &Meter) -> Result<Sample, String> {
        self.measured_pod(meter, 2)
    }

    /// What one more container costs: create and start with rootfs, log and cgroup.
    pub(crate) fn one_more(&self, meter: &Meter) -> Result<Sample, String> {
        let few = self.measured_pod(meter, 2)?;
        let many = self.measured_pod(meter, 2 + MORE)?;
        let (wall, cpu) = (many.wall.saturating_sub(few.wall), many.cpu.saturating_sub(few.cpu));
        Ok(Sample { wall, cpu, parts: Vec::new() }.each(MORE))
    }

    /// `hull exec` of `/bin/true`, all together and each process apart.
    pub(crate) fn exec(&self, meter: &Meter) -> Result<Sample, String> {
        let (supervisors, shims) = (self.programs("supervise"), self.programs("pod"));
        let read = || {
            let of = |pids: &[i32]| pids.iter().map(|pid| own_time(*pid)).sum::<Duration>();
            [rusage(UsageWho::RUSAGE_CHILDREN), of(&supervisors), of(&shims)]
        };
        let work = || {
            (0..REPEAT)
                .try_for_each(|_| execute(&mut self.command(&["exec", "stays", "--", "/bin/true"])).map(drop))
        };
        let before = read();
        let mut sample = meter.timed(|| self.groups(), work)?;
        let mut after = read();
        after.iter_mut().zip(before).for_each(|(after, before)| *after = after.saturating_sub(before));
        let [client, supervisor, shim] = after;
        let process = sample.cpu.saturating_sub(client + supervisor + shim);
        sample.parts = vec![
            ("the client", client),
            ("the supervisor", supervisor),
            ("the shim", shim),
            ("the process in the container", process),
            (WITHOUT_CLIENT, supervisor + shim + process),
        ];
        Ok(sample.each(REPEAT))
    }

    /// The sum of PSS with `pods` pods.
    pub(crate) fn memory(&self, pods: usize) -> Result<u64, String> {
        let stays = self.residents();
        let names: Vec<String> = (0..pods).map(|number| format!("memory-{number}")).collect();
        let result = names.iter().try_for_each(|name| self.apply(name, 2));
        let added: Vec<i32> = self.residents().into_iter().filter(|pid| !stays.contains(pid)).collect();
        let sum = proportional(&added);
        self.delete(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        result.map(|()| sum)
    }
}

/// What an exec costs once a supervisor has been asked, as a probe's.
pub(crate) const WITHOUT_CLIENT: &str = "without the client";

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
        unmount(&self.root.join("run"));
    }
}
