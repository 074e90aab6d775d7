//! Each verb of an OCI runtime by itself: `/bin/true` in a root file system with busybox, in new namespaces, with the
//! specification that `hull-oci spec` writes, with and without the seccomp profile that podman and docker give.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::measure::{Contender, Medians, Meter, Sample, compare, execute, mount_memory, own_group, unmount};
use crate::{Arguments, Skipped, note, profile, target};

/// Verbs that are measured one by one, with seccomp.
const VERBS: [&str; 6] = ["create", "start", "state", "exec", "kill", "delete"];
/// Rounds for each round that was asked for: one sample is a single operation.
const MORE_ROUNDS: usize = 3;
/// Containers at a time, and how many each of these makes in turn.
const PARALLEL: (usize, usize) = (8, 25);
/// Who is not measured with several at a time: 0.7.0 was seen to wait for ever.
const HANGS: &str = "youki";
/// Mounts that the host has besides its own in one table.
const MOUNTS: usize = 1000;

/// What is measured.
type Work<'a> = &'a dyn Fn() -> Result<(), String>;

/// Whether the container has a seccomp profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seccomp {
    None,
    Profile,
}

impl Seccomp {
    fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Profile => ", seccomp",
        }
    }
}

/// A runtime with the command line of runc.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    directory: PathBuf,
    count: Cell<u32>,
    /// What its commands are started by, where their memory is asked for.
    launcher: RefCell<Option<Launcher>>,
}

/// Measures every verb of every runtime that is there.
pub(crate) fn measure(arguments: &Arguments, place: &Path, meter: &Meter, skipped: &Skipped) -> Medians {
    let directory = place.join("verbs");
    let Some(()) = note(prepare(&directory), "verbs", skipped) else { return Medians::new() };
    let runtimes: Vec<Runtime> = programs(arguments)
        .into_iter()
        .filter_map(|(name, program)| note(Runtime::new(name, program, arguments, &directory), name, skipped))
        .collect();
    let floor = note(Floor::build(&directory, &arguments.binaries), "floor", skipped);
    let rounds = arguments.rounds * MORE_ROUNDS;
    let mut medians = Medians::new();
    for seccomp in [Seccomp::None, Seccomp::Profile] {
        let title = format!("run of /bin/true, new namespaces{}", seccomp.suffix());
        medians.extend(runs(
            &title,
            seccomp.suffix(),
            (&runtimes, floor.as_ref()),
            (rounds, seccomp, meter, skipped),
        ));
    }
    for verb in VERBS {
        let one = |runtime| contender(runtime, verb, meter);
        medians.extend(compare(
            &format!("{verb}, seccomp"),
            rounds,
            runtimes.iter().map(one).collect(),
            skipped,
        ));
    }
    let many = |runtime| {
        Contender::new(format!("{} 200 runs", runtime_name(runtime)), move || runtime.parallel(meter))
    };
    let title = "200 containers, 8 at a time, seccomp";
    if runtimes.iter().any(|runtime| runtime.name == HANGS) {
        note::<()>(Err("several at a time wait for ever".to_owned()), &format!("{HANGS} 200 runs"), skipped);
    }
    let together = runtimes.iter().filter(|runtime| runtime.name != HANGS).map(many).collect();
    medians.extend(compare(title, rounds.div_ceil(9), together, skipped));
    if note(more_mounts(&directory), "1,000 mounts", skipped).is_some() {
        let title = "run of /bin/true on a host with 1,000 more mounts";
        let both = (runtimes.as_slice(), floor.as_ref());
        medians.extend(runs(title, ", 1,000 mounts", both, (rounds, Seccomp::None, meter, skipped)));
        unmount(&directory.join("many"));
    }
    medians.extend(note(peaks(&runtimes, &directory), "peak memory", skipped).unwrap_or_default());
    unmount(&directory.join("state"));
    medians
}

fn runtime_name(runtime: &Runtime) -> &'static str {
    runtime.name
}

/// The runtimes that may be there, and where.
fn programs(arguments: &Arguments) -> Vec<(&'static str, PathBuf)> {
    let mut all = vec![("hull-oci", arguments.binaries.join("hull-oci"))];
    if let Some(peers) = &arguments.peers {
        all.push(("static crun", peers.join("crun-static")));
        all.push(("youki", peers.join("youki")));
    }
    all.extend([("crun", "crun".into()), ("runc", "runc".into())]);
    all
}

fn prepare(directory: &Path) -> Result<(), String> {
    crate::oci::make_rootfs(&directory.join("rootfs"))?;
    let state = directory.join("state");
    fs::create_dir_all(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    // In memory, as /run is.
    mount_memory(&state)
}

/// Mounts that a busy host has.
fn more_mounts(directory: &Path) -> Result<(), String> {
    let many = directory.join("many");
    let say = |error: &dyn std::fmt::Display| format!("{}: {error}", many.display());
    fs::create_dir_all(&many).map_err(|error| say(&error))?;
    mount_memory(&many)?;
    for number in 0..MOUNTS {
        let one = many.join(number.to_string());
        fs::create_dir(&one).map_err(|error| say(&error))?;
        mount(Some(&one), &one, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|error| say(&error))?;
    }
    Ok(())
}

/// The table of `run` for every runtime and the floor.
fn runs(
    title: &str,
    suffix: &str,
    (runtimes, floor): (&[Runtime], Option<&Floor>),
    (rounds, seccomp, meter, skipped): (usize, Seccomp, &Meter, &Skipped),
) -> Medians {
    let run = |runtime| {
        Contender::new(format!("{} run{suffix}", runtime_name(runtime)), move || runtime.run(seccomp, meter))
    };
    let mut list: Vec<Contender<'_>> = runtimes.iter().map(run).collect();
    list.extend(
        floor.map(|floor| Contender::new(format!("floor{suffix}"), move || floor.run(seccomp, meter))),
    );
    compare(title, rounds, list, skipped)
}

fn contender<'a>(runtime: &'a Runtime, verb: &'static str, meter: &'a Meter) -> Contender<'a> {
    Contender::new(format!("{} {verb}", runtime.name), move || runtime.verb(verb, meter))
}

/// Peak memory of each verb: of the largest process that took part.
fn peaks(runtimes: &[Runtime], directory: &Path) -> Result<Medians, String> {
    let launcher = Launcher {
        program: compile(directory, "peak", include_str!("peak.c"))?,
        file: directory.join("peaks"),
    };
    let mut peaks = Medians::new();
    print!("peak memory of one process, kB  {:>9}", "run");
    VERBS.iter().for_each(|verb| print!(" {verb:>9}"));
    println!();
    for runtime in runtimes {
        print!("  {:<30}", runtime.name);
        for verb in std::iter::once("run").chain(VERBS) {
            match runtime.peak(verb, &launcher) {
                Ok(count) => {
                    print!(" {count:>9}");
                    peaks.push(target::peak(&format!("{} {verb}", runtime.name), count));
                }
                // The tables of times say why.
                Err(_) => print!(" {:>9}", "-"),
            }
        }
        println!();
    }
    println!();
    Ok(peaks)
}

/// Starts commands so that their peak memory is known (`peak.c`).
#[derive(Clone)]
struct Launcher {
    program: PathBuf,
    /// What it writes.
    file: PathBuf,
}

impl Launcher {
    /// The most that was written since.
    fn take(&self) -> Result<u64, String> {
        let say = |error| format!("{}: {error}", self.file.display());
        let text = fs::read_to_string(&self.file).map_err(say)?;
        fs::remove_file(&self.file).map_err(say)?;
        text.lines()
            .filter_map(|line| line.parse().ok())
            .max()
            .ok_or_else(|| format!("no figure but {text:?}"))
    }
}

impl Runtime {
    /// Writes the bundles and tries the runtime; the reason when it does not work here.
    fn new(
        name: &'static str,
        program: PathBuf,
        arguments: &Arguments,
        place: &Path,
    ) -> Result<Self, String> {
        let directory = place.join(name.replace(' ', "-"));
        let runtime = Self { name, program, directory, count: Cell::new(0), launcher: RefCell::default() };
        let spec = default_spec(arguments, place)?;
        let profile = profile::resolved()?;
        for number in 0..=PARALLEL.0 {
            for seccomp in [Seccomp::None, Seccomp::Profile] {
                runtime.write_bundle(&spec, &profile, (seccomp, number))?;
            }
        }
        execute(&mut runtime.run_command(Seccomp::None, "try", 0))?;
        Ok(runtime)
    }

    /// Bundle 0 is for one container at a time, the others for those that run side by side.
    fn bundle(&self, seccomp: Seccomp, number: usize) -> PathBuf {
        let kind = if seccomp == Seccomp::Profile { "seccomp" } else { "plain" };
        self.directory.join(format!("{kind}-{number}"))
    }

    fn write_bundle(
        &self,
        spec: &Value,
        profile: &Value,
        (seccomp, number): (Seccomp, usize),
    ) -> Result<(), String> {
        let bundle = self.bundle(seccomp, number);
        let mut spec = spec.clone();
        let group = format!("/{}/{}-{number}", own_group(), self.name.replace(' ', "-"));
        spec["linux"]["cgroupsPath"] = json!(group);
        if seccomp == Seccomp::Profile {
            spec["linux"]["seccomp"] = profile.clone();
        }
        let say = |error| format!("{}: {error}", bundle.display());
        fs::create_dir_all(&bundle).map_err(say)?;
        fs::write(bundle.join("config.json"), spec.to_string()).map_err(say)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &*self.launcher.borrow() {
            None => Command::new(&self.program),
            Some(launcher) => {
                let mut command = Command::new(&launcher.program);
                command.arg(&launcher.file).arg(&self.program);
                command
            }
        };
        let state = self.directory.with_file_name("state").join(self.name.replace(' ', "-"));
        command.arg("--root").arg(state).args(arguments);
        command
    }

    fn run_command(&self, seccomp: Seccomp, id: &str, bundle: usize) -> Command {
        let mut command = self.command(&["run", "--bundle"]);
        command.arg(self.bundle(seccomp, bundle)).arg(id);
        command
    }

    fn next_id(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("c{}", self.count.get())
    }

    fn run(&self, seccomp: Seccomp, meter: &Meter) -> Result<Sample, String> {
        let mut command = self.run_command(seccomp, &self.next_id(), 0);
        meter.timed(Vec::new, || execute(&mut command).map(drop))
    }

    fn create(&self, seccomp: Seccomp, id: &str) -> Result<(), String> {
        let mut command = self.command(&["create", "--bundle"]);
        command.arg(self.bundle(seccomp, 0)).arg("--pid-file").arg(self.directory.join("pid")).arg(id);
        execute(&mut command).map(drop)
    }

    fn act(&self, arguments: &[&str]) -> Result<(), String> {
        execute(&mut self.command(arguments)).map(drop)
    }

    /// Waits for the end of the container that was made last; it became our child when its maker ended.
    fn await_end(&self) -> Result<(), String> {
        let path = self.directory.join("pid");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pid: i32 = text.trim().parse().map_err(|_| format!("{}: {text:?}", path.display()))?;
        waitpid(Pid::from_raw(pid), None).map(drop).map_err(|error| format!("wait for {pid}: {error}"))
    }

    fn remove(&self, id: &str) -> Result<(), String> {
        self.act(&["kill", id, "KILL"])?;
        self.await_end()?;
        self.act(&["delete", id])
    }

    /// Times one verb.
    fn verb(&self, verb: &str, meter: &Meter) -> Result<Sample, String> {
        self.measured(verb, &|work| meter.timed(Vec::new, work))
    }

    /// Its peak memory, in kB.
    fn peak(&self, verb: &str, launcher: &Launcher) -> Result<u64, String> {
        let launched = |work: Work<'_>| {
            self.launcher.replace(Some(launcher.clone()));
            let done = work();
            self.launcher.replace(None);
            done.and_then(|()| launcher.take())
        };
        self.measured(verb, &launched)
    }

    /// Does one verb by `timed`, on a container that is made for it.
    fn measured<T>(&self, verb: &str, timed: &dyn Fn(Work<'_>) -> Result<T, String>) -> Result<T, String> {
        let id = self.next_id();
        if verb == "run" {
            return timed(&|| execute(&mut self.run_command(Seccomp::Profile, &id, 0)).map(drop));
        }
        if verb == "create" {
            let sample = timed(&|| self.create(Seccomp::Profile, &id))?;
            self.remove(&id)?;
            return Ok(sample);
        }
        self.create(Seccomp::Profile, &id)?;
        match verb {
            "start" => {
                let sample = timed(&|| self.act(&["start", &id]))?;
                self.await_end()?;
                self.act(&["delete", &id])?;
                Ok(sample)
            }
            "kill" => {
                let sample = timed(&|| self.act(&["kill", &id, "KILL"]))?;
                self.await_end()?;
                self.act(&["delete", &id])?;
                Ok(sample)
            }
            "delete" => {
                self.act(&["kill", &id, "KILL"])?;
                self.await_end()?;
                timed(&|| self.act(&["delete", &id]))
            }
            // What is asked of a container does not depend on its program, which waits for its start here.
            "exec" => self.with(&id, || timed(&|| self.act(&["exec", &id, "/bin/true"]))),
            _ => self.with(&id, || timed(&|| self.act(&[verb, &id]))),
        }
    }

    fn with<T>(&self, id: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let sample = work();
        self.remove(id)?;
        sample
    }

    /// Many containers, several at a time.
    fn parallel(&self, meter: &Meter) -> Result<Sample, String> {
        let base = self.next_id();
        let (workers, each) = PARALLEL;
        let command = |worker: usize, number: usize| {
            let id = format!("{base}-{worker}-{number}");
            let mut command = self.run_command(Seccomp::Profile, &id, worker);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let of_worker = |worker| (0..each).map(|number| command(worker, number)).collect();
        let queues: Vec<Vec<Command>> = (1..=workers).map(of_worker).collect();
        meter.timed(Vec::new, || {
            let threads: Vec<_> =
                queues.into_iter().map(|queue| std::thread::spawn(move || run_all(queue))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
        })
    }
}

fn run_all(queue: Vec<Command>) -> Result<(), String> {
    queue.into_iter().try_for_each(|mut command| match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("one of many ended with {status}")),
        Err(error) => Err(error.to_string()),
    })
}

/// The specification that `hull-oci spec` writes, for `/bin/true` without a terminal, with our root file system.
fn default_spec(arguments: &Arguments, place: &Path) -> Result<Value, String> {
    let directory = place.join("spec");
    let path = directory.join("config.json");
    let say = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if !path.exists() {
        fs::create_dir_all(&directory).map_err(|error| say(&error))?;
        execute(
            Command::new(arguments.binaries.join("hull-oci")).arg("spec").arg("--bundle").arg(&directory),
        )?;
    }
    let text = fs::read_to_string(&path).map_err(|error| say(&error))?;
    let mut spec: Value = serde_json::from_str(&text).map_err(|error| say(&error))?;
    spec["root"]["path"] = json!(place.join("rootfs"));
    // What every peer knows.
    spec["ociVersion"] = json!("1.0.2");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/true"]);
    Ok(spec)
}

/// Builds a program of C, linked statically.
fn compile(place: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let (source, built) = (place.join(format!("{name}.c")), place.join(name));
    fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
    execute(Command::new("cc").args(["-O2", "-static", "-o"]).arg(&built).arg(&source))?;
    Ok(built)
}

/// The program of system calls alone (`floor.c`).
struct Floor {
    program: PathBuf,
    rootfs: PathBuf,
    filter: PathBuf,
}

impl Floor {
    /// Builds it, and puts it beside our programs, as `make bench` put them there.
    fn build(place: &Path, beside: &Path) -> Result<Self, String> {
        let built = compile(place, "floor", include_str!("floor.c"))?;
        let program = beside.join("floor");
        let filter = place.join("filter");
        fs::write(&filter, profile::tree()).map_err(|error| format!("{}: {error}", filter.display()))?;
        fs::copy(&built, &program).map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self { program, rootfs: place.join("rootfs"), filter })
    }

    fn run(&self, seccomp: Seccomp, meter: &Meter) -> Result<Sample, String> {
        let mut command = Command::new(&self.program);
        command.arg(&self.rootfs).arg(format!("{}/floor", own_group())).arg("/bin/true");
        if seccomp == Seccomp::Profile {
            command.arg(&self.filter);
        }
        meter.timed(Vec::new, || execute(&mut command).map(drop))
    }
}
