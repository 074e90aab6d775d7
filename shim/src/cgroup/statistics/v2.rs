//! The files of v2: `cgroup-v2` in the kernel's documentation.

use std::collections::BTreeMap;
use std::path::Path;

use super::parse::{io, number, pairs, psi, set};
use super::{
    Blkio, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling, page_sizes, text,
};

pub(super) fn read(group: &Path) -> Stats {
    let limit = number(&text(&group.join("pids.max")));
    Stats {
        cpu: cpu(group),
        cpuset: Cpuset {
            cpus: set(&text(&group.join("cpuset.cpus.effective"))),
            mems: set(&text(&group.join("cpuset.mems.effective"))),
            ..Cpuset::default()
        },
        memory: memory(group),
        pids: Pids {
            current: number(&text(&group.join("pids.current"))),
            limit: if limit == u64::MAX { 0 } else { limit },
        },
        blkio: block(group),
        hugetlb: hugetlb(group),
        ..Stats::default()
    }
}

fn cpu(group: &Path) -> Cpu {
    let stat = pairs(&text(&group.join("cpu.stat")));
    let stat = |key| stat.get(key).copied().unwrap_or_default();
    let nanoseconds = |key| stat(key) * 1000;
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: stat("nr_periods"),
            throttled_periods: stat("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: psi(&text(&group.join("cpu.pressure"))),
    }
}

fn memory(group: &Path) -> Memory {
    let raw = pairs(&text(&group.join("memory.stat")));
    let events = pairs(&text(&group.join("memory.events")));
    let entry = |sort: &str| {
        let value = |name: &str| number(&text(&group.join(format!("memory{sort}.{name}"))));
        MemoryEntry { limit: value("max"), usage: value("current"), max: value("peak"), failcnt: 0 }
    };
    let mut usage = entry("");
    usage.failcnt = events.get("max").copied().unwrap_or_default();
    let swap = entry(".swap");
    Memory {
        cache: raw.get("file").copied().unwrap_or_default(),
        usage,
        // Readers of v1 expect memory and swap together. The most that ever was of both is not known.
        swap: MemoryEntry {
            limit: if swap.limit == u64::MAX { swap.limit } else { swap.limit.saturating_add(usage.limit) },
            usage: swap.usage.saturating_add(usage.usage),
            max: 0,
            failcnt: 0,
        },
        psi: psi(&text(&group.join("memory.pressure"))),
        raw,
        ..Memory::default()
    }
}

fn block(group: &Path) -> Blkio {
    let stat = text(&group.join("io.stat"));
    let both = |read, write| {
        let mut entries = io(&stat, read, "Read");
        entries.extend(io(&stat, write, "Write"));
        entries
    };
    Blkio {
        io_service_bytes_recursive: both("rbytes", "wbytes"),
        io_serviced_recursive: both("rios", "wios"),
        psi: psi(&text(&group.join("io.pressure"))),
        ..Blkio::default()
    }
}

fn hugetlb(group: &Path) -> BTreeMap<String, Hugetlb> {
    let usage = |size: String| {
        let file = |name: &str| text(&group.join(format!("hugetlb.{size}.{name}")));
        let reserved = file("rsvd.current");
        let usage = if reserved.is_empty() { file("current") } else { reserved };
        let failcnt = pairs(&file("events")).get("max").copied().unwrap_or_default();
        (size.clone(), Hugetlb { usage: number(&usage), max: 0, failcnt })
    };
    page_sizes(group, ".max").into_iter().map(usage).collect()
}
