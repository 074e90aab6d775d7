//! The files of v1: `cgroups-v1` in the kernel's documentation.

use super::parse::{blkio, number, numbers, pairs, set};
use super::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling,
    page_sizes, text,
};
use crate::cgroup::Group;

/// `cpuacct.stat` counts hundredths of a second, whatever the kernel's own tick is; `USER_HZ` is 100 wherever
/// hull runs.
const TICK: u64 = 10_000_000;

pub(super) fn read(group: &Group) -> Stats {
    Stats {
        cpu: cpu(group),
        cpuset: cpuset(group),
        memory: memory(group),
        pids: pids(group),
        blkio: block(group),
        hugetlb: hugetlb(group),
        ..Stats::default()
    }
}

fn file(group: &Group, controller: &str, name: &str) -> String {
    group.file(controller, name).map(|path| text(&path)).unwrap_or_default()
}

fn cpu(group: &Group) -> Cpu {
    let ticks = pairs(&file(group, "cpuacct", "cpuacct.stat"));
    let ticks = |key| ticks.get(key).copied().unwrap_or_default() * TICK;
    let (percpu_user, percpu_kernel) = per_cpu(&file(group, "cpuacct", "cpuacct.usage_all"));
    let stat = pairs(&file(group, "cpu", "cpu.stat"));
    let stat = |key| stat.get(key).copied().unwrap_or_default();
    Cpu {
        usage: CpuUsage {
            total: number(&file(group, "cpuacct", "cpuacct.usage")),
            percpu: numbers(&file(group, "cpuacct", "cpuacct.usage_percpu")),
            percpu_kernel,
            percpu_user,
            kernel: ticks("system"),
            user: ticks("user"),
        },
        throttling: Throttling {
            periods: stat("nr_periods"),
            throttled_periods: stat("nr_throttled"),
            throttled_time: stat("throttled_time"),
        },
        psi: None,
    }
}

/// Lines of a CPU, its time outside and inside the kernel, below a line of headings.
fn per_cpu(text: &str) -> (Vec<u64>, Vec<u64>) {
    let line = |line: &str| match numbers(line)[..] {
        [_, user, kernel] => Some((user, kernel)),
        _ => None,
    };
    text.lines().filter_map(line).unzip()
}

fn cpuset(group: &Group) -> Cpuset {
    let read = |name: &str| file(group, "cpuset", &format!("cpuset.{name}"));
    let value = |name: &str| number(&read(name));
    Cpuset {
        cpus: set(&read("cpus")),
        cpu_exclusive: value("cpu_exclusive"),
        mems: set(&read("mems")),
        mem_hardwall: value("mem_hardwall"),
        mem_exclusive: value("mem_exclusive"),
        memory_migrate: value("memory_migrate"),
        memory_spread_page: value("memory_spread_page"),
        memory_spread_slab: value("memory_spread_slab"),
        memory_pressure: value("memory_pressure"),
        sched_load_balance: value("sched_load_balance"),
        sched_relax_domain_level: read("sched_relax_domain_level").trim().parse().unwrap_or_default(),
    }
}

fn memory(group: &Group) -> Memory {
    let raw = pairs(&file(group, "memory", "memory.stat"));
    let entry = |sort: &str| {
        let value = |name: &str| number(&file(group, "memory", &format!("memory{sort}.{name}")));
        MemoryEntry {
            limit: value("limit_in_bytes"),
            usage: value("usage_in_bytes"),
            max: value("max_usage_in_bytes"),
            failcnt: value("failcnt"),
        }
    };
    Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: entry(""),
        swap: entry(".memsw"),
        kernel: entry(".kmem"),
        kernel_tcp: entry(".kmem.tcp"),
        raw,
        psi: None,
    }
}

fn pids(group: &Group) -> Pids {
    let limit = number(&file(group, "pids", "pids.max"));
    Pids {
        current: number(&file(group, "pids", "pids.current")),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

fn block(group: &Group) -> Blkio {
    // BFQ, CFQ of old, and the throttling layer, which counts whatever the scheduler is.
    let read = |name: &str| {
        let sources = ["blkio.bfq.", "blkio.", "blkio.throttle."];
        let entries = |source: &str| blkio(&file(group, "blkio", &format!("{source}{name}_recursive")));
        let found: Option<Vec<BlkioEntry>> =
            sources.iter().map(|source| entries(source)).find(|entries| !entries.is_empty());
        found.unwrap_or_default()
    };
    Blkio {
        io_service_bytes_recursive: read("io_service_bytes"),
        io_serviced_recursive: read("io_serviced"),
        io_queue_recursive: read("io_queued"),
        io_service_time_recursive: read("io_service_time"),
        io_wait_time_recursive: read("io_wait_time"),
        io_merged_recursive: read("io_merged"),
        io_time_recursive: read("time"),
        sectors_recursive: read("sectors"),
        psi: None,
    }
}

fn hugetlb(group: &Group) -> std::collections::BTreeMap<String, Hugetlb> {
    let Some(directory) = group.file("hugetlb", "") else { return Default::default() };
    let usage = |size: String| {
        // What is reserved is charged at once, so that a limit fails early; what is used comes later.
        let reserved = directory.join(format!("hugetlb.{size}.rsvd.usage_in_bytes")).exists();
        let sort = if reserved { ".rsvd" } else { "" };
        let value = |name: &str| number(&text(&directory.join(format!("hugetlb.{size}{sort}.{name}"))));
        let usage = Hugetlb {
            usage: value("usage_in_bytes"),
            max: value("max_usage_in_bytes"),
            failcnt: value("failcnt"),
        };
        (size, usage)
    };
    page_sizes(&directory, ".limit_in_bytes").into_iter().map(usage).collect()
}
