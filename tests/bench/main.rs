//! `hull-bench`: hull beside its peers, in one run of interleaved rounds (`make bench`, `docs/performance.md`).
//!
//! Everything is made below one temporary directory, in a network namespace of its own, and taken away at
//! the end. A peer that does not work here is named with its reason.

mod hull;
mod measure;
mod memory;
mod oci;
mod podman;
mod profile;
mod target;
mod verbs;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use measure::{Contender, Medians, Meter, compare};

/// What the command line says.
struct Arguments {
    binaries: PathBuf,
    images: PathBuf,
    rounds: usize,
    pods: Vec<usize>,
    /// Where peers are that no package has (`peers`).
    peers: Option<PathBuf>,
    only: Only,
}

/// Which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    All,
    Pods,
    Verbs,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = words.split_first()
        && first == "--strip-rlimits"
    {
        return report(podman::strip_and_execute(rest));
    }
    report(parse(&words).and_then(|arguments| enter_network(&words).and_then(|()| run(&arguments))))
}

fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("hull-bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Arguments, String> {
    let usage = "usage: hull-bench --binaries DIR --images DIR [--peers DIR] [--rounds N] [--pods N,N,N] \
                 [--only pods|verbs]";
    let mut arguments = Arguments {
        binaries: PathBuf::new(),
        images: PathBuf::new(),
        rounds: 9,
        pods: vec![1, 20, 100],
        peers: None,
        only: Only::All,
    };
    for pair in words.chunks(2) {
        let [flag, value] = pair else {
            return Err(usage.to_owned());
        };
        let number = |text: &str| text.parse().map_err(|_| format!("{flag} {value}: not a number; {usage}"));
        match flag.as_str() {
            "--binaries" => arguments.binaries = PathBuf::from(value),
            "--images" => arguments.images = PathBuf::from(value),
            "--rounds" => arguments.rounds = number(value)?,
            "--pods" => arguments.pods = value.split(',').map(number).collect::<Result<_, _>>()?,
            "--peers" => arguments.peers = Some(PathBuf::from(value)),
            "--only" if value == "pods" => arguments.only = Only::Pods,
            "--only" if value == "verbs" => arguments.only = Only::Verbs,
            _ => return Err(usage.to_owned()),
        }
    }
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()));
    arguments.binaries = absolute(&arguments.binaries)?;
    arguments.images = absolute(&arguments.images)?;
    Ok(arguments)
}

/// Goes on in a network and a mount namespace of its own, with loopback up.
fn enter_network(words: &[String]) -> Result<(), String> {
    if std::env::var_os("HULL_BENCH_NETWORK").is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // podman and its plugins keep locks and addresses in places that no option moves: they get their own.
    let script = "busybox ip link set lo up && mkdir -p /var/lib/cni && mount -t tmpfs tmpfs /var/lib/cni && \
                  mount -t tmpfs tmpfs /dev/shm && exec \"$0\" \"$@\"";
    let mut inside = std::process::Command::new("unshare");
    inside.args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c", script]);
    let status = inside.arg(own).args(words).env("HULL_BENCH_NETWORK", "1").status();
    match status {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| format!("subreaper: {error}"))?;
    let place = nix::unistd::mkdtemp(&std::env::temp_dir().join("hull-bench-XXXXXX"))
        .map_err(|error| format!("temporary directory: {error}"))?;
    let skipped = RefCell::default();
    // Declared before their users: what those made lies in them.
    let _directory = measure::Directory(place.clone());
    let meter = measure::Meter::enter()?;
    println!("{} rounds; wall and CPU in milliseconds, least and median\n", arguments.rounds);
    let mut medians = Medians::new();
    if arguments.only != Only::Verbs {
        let peers = Peers {
            hull: note(hull::Hull::new(arguments, &place.join("hull")), "hull", &skipped),
            podman: note(podman::Podman::new(arguments, &place.join("podman")), "podman", &skipped),
            crun: note(oci::Runtime::new("crun", &place.join("crun")), "crun", &skipped),
            runc: note(oci::Runtime::new("runc", &place.join("runc")), "runc", &skipped),
        };
        medians.extend(peers.times(arguments.rounds, &meter, &skipped));
        medians.extend(peers.memories(&arguments.pods, &place));
    }
    if arguments.only != Only::Pods {
        medians.extend(verbs::measure(arguments, &place, &meter, &skipped));
    }
    target::show(&medians);
    for line in skipped.take() {
        println!("skipped: {line}");
    }
    Ok(())
}

/// Notes of what could not be measured.
type Skipped = RefCell<Vec<String>>;

/// hull and what it is measured beside, as far as they work here.
struct Peers {
    hull: Option<hull::Hull>,
    podman: Option<podman::Podman>,
    crun: Option<oci::Runtime>,
    runc: Option<oci::Runtime>,
}

impl Peers {
    fn times(&self, rounds: usize, meter: &Meter, skipped: &Skipped) -> Medians {
        let mut list: Vec<Contender<'_>> = Vec::new();
        list.extend(self.hull.iter().map(|hull| Contender::new(target::APPLY, || hull.pod_up(meter))));
        list.extend(self.podman.iter().map(|podman| Contender::new(target::PLAY, || podman.pod_up(meter))));
        let mut medians = compare("pod up: two containers, local image, own network", rounds, list, skipped);

        let mut list: Vec<Contender<'_>> = Vec::new();
        list.extend(self.hull.iter().map(|hull| Contender::new("hull exec", || hull.exec(meter))));
        list.extend(self.crun.iter().map(|crun| Contender::new(target::CRUN_EXEC, || crun.exec(meter))));
        list.extend(self.runc.iter().map(|runc| Contender::new("runc exec", || runc.exec(meter))));
        list.extend(self.crun.iter().map(|crun| Contender::new(target::FLOOR, || crun.plain_true(meter))));
        medians.extend(compare("exec of /bin/true in a running container", rounds, list, skipped));

        let mut list: Vec<Contender<'_>> = Vec::new();
        list.extend(self.hull.iter().map(|hull| Contender::new(target::CREATE, || hull.one_more(meter))));
        list.extend(
            self.crun.iter().map(|crun| Contender::new(target::CRUN_CREATE, || crun.create_start(meter))),
        );
        list.extend(
            self.runc.iter().map(|runc| Contender::new("runc create + start", || runc.create_start(meter))),
        );
        medians.extend(compare("create and start in a sandbox, with limits", rounds, list, skipped));
        medians
    }

    /// Resident memory; a peer whose figure does not depend on the number of pods is spared the largest.
    fn memories(&self, pods: &[usize], place: &Path) -> Medians {
        println!("resident memory (PSS) per pod of two containers, kB");
        println!("  {:<44} {:>10} {:>8}", "", "pods", "kB");
        let mut medians = Medians::new();
        for count in pods {
            let hull = self.hull.as_ref().map(|hull| hull.memory(*count));
            if let Some(sum) = memory::show("hull: shim, supervisor, pause", *count, hull) {
                medians.push(target::memory(*count, sum));
            }
            if *count <= MOST_PODMAN_PODS {
                let podman = self.podman.as_ref().map(|podman| podman.memory(*count));
                memory::show("podman: conmon per container", *count, podman);
            }
            memory::show("containerd-shim-runc-v2", *count, Some(memory::containerd(place, *count)));
        }
        println!();
        medians
    }
}

/// More would take minutes to start and to remove.
const MOST_PODMAN_PODS: usize = 20;

/// The peer, or a note of why it is not there.
fn note<T>(peer: Result<T, String>, name: &str, skipped: &Skipped) -> Option<T> {
    peer.map_err(|reason| skipped.borrow_mut().push(format!("{name}: {}", reason.trim()))).ok()
}
