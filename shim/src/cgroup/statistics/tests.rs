//! Texts of the kernel, and the JSON that comes out.

use super::*;

#[test]
fn pressure_is_read_as_the_kernel_writes_it() {
    let text =
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
    let psi = parse::psi(text).unwrap();
    assert_eq!((psi.some.avg10, psi.some.avg60, psi.some.total, psi.full.total), (1.5, 0.25, 42, 7));
    assert_eq!(parse::psi(""), None);
}

#[test]
fn devices_are_read_from_both_versions() {
    let entry = |op: &str, value| BlkioEntry { major: 8, minor: 16, op: op.into(), value };
    let v1 = "8:16 Read 4096\n8:16 Discard 1\nTotal 4097\n";
    assert_eq!(parse::blkio(v1), [entry("Read", 4096), entry("Discard", 1)]);
    assert_eq!(parse::blkio("8:16 77\n"), [entry("", 77)]);
    let v2 = "8:16 rbytes=4096 wbytes=5 rios=1 wios=2 dbytes=0 dios=0\n7:0\n";
    assert_eq!(parse::io(v2, "rbytes", "Read"), [entry("Read", 4096)]);
    assert_eq!(parse::io(v2, "wios", "Write"), [entry("Write", 2)]);
}

#[test]
fn sets_are_written_out() {
    assert_eq!(parse::set("0-2,7\n"), [0, 1, 2, 7]);
    assert!(parse::set("\n").is_empty());
}

#[test]
fn interfaces_come_without_loopback() {
    let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n    \
                lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
    let expected = r#"[{"Name":"eth0","RxBytes":10,"RxPackets":2,"RxErrors":3,"RxDropped":4,"TxBytes":50,"TxPackets":6,"TxErrors":7,"TxDropped":8}]"#;
    assert_eq!(serde_json::to_string(&parse::interfaces(text)).unwrap(), expected);
}

#[test]
fn the_json_is_that_of_runc() {
    let mut stats = Stats::default();
    stats.cpu.throttling.throttled_periods = 1;
    stats.memory.usage = MemoryEntry { limit: u64::MAX, usage: 5, max: 6, failcnt: 0 };
    stats.memory.raw.insert("rss".into(), 5);
    stats.blkio.io_service_bytes_recursive =
        vec![BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 1 }];
    stats.hugetlb.insert("2MB".into(), Hugetlb { failcnt: 3, ..Hugetlb::default() });
    let json = serde_json::to_value(&stats).unwrap();
    let none = serde_json::json!({ "limit": 0, "failcnt": 0 });
    let expected = serde_json::json!({
        "cpu": { "usage": { "kernel": 0, "user": 0 }, "throttling": { "throttledPeriods": 1 } },
        "cpuset": {
            "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
            "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0,
            "sched_relax_domain_level": 0
        },
        "memory": {
            "usage": { "limit": u64::MAX, "usage": 5, "max": 6, "failcnt": 0 },
            "swap": none, "kernel": none, "kernelTCP": none, "raw": { "rss": 5 }
        },
        "pids": {},
        "blkio": { "ioServiceBytesRecursive": [{ "major": 8, "op": "Read", "value": 1 }] },
        "hugetlb": { "2MB": { "failcnt": 3 } },
        "intel_rdt": {},
        "network_interfaces": null
    });
    assert_eq!(json, expected);
}
