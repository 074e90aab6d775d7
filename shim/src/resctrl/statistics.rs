//! What a group of the resctrl file system tells of itself, as `intel_rdt` in runc's `events --stats` (the kernel's
//! `filesystems/resctrl.rst`). What the processor does not have is left out.

use std::path::Path;

use serde::Serialize;

use super::Group;

/// Cache and memory bandwidth of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdt {
    /// What there is of cache to share out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    /// The share of all that have no group of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The container's share.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// How bandwidth is shared out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    /// The share of all that have no group of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The container's share.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Bandwidth used, per cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Bandwidth>>,
    /// Cache used, per cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Occupancy>>,
}

/// `info/L3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is the file of the same name")]
pub struct L3CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub min_cbm_bits: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// `info/MB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is the file of the same name")]
pub struct MemBwInfo {
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_gran: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub min_bandwidth: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// `mon_data/mon_L3_*`, bytes that went to memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is the file of the same name")]
pub struct Bandwidth {
    pub mbm_total_bytes: u64,
    pub mbm_local_bytes: u64,
}

/// `mon_data/mon_L3_*`, bytes of cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "it is the file of the same name")]
pub struct Occupancy {
    pub llc_occupancy: u64,
}

/// serde calls it with a reference.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Group {
    /// Reads them; `root` is the file system.
    pub(crate) fn statistics(&self, root: &Path) -> IntelRdt {
        let mut told = IntelRdt::default();
        let [all, own] = [root, &self.path].map(|group| text(&group.join("schemata")));
        let cache = root.join("info/L3");
        if cache.is_dir() {
            told.l3_cache_info = Some(L3CacheInfo {
                cbm_mask: text(&cache.join("cbm_mask")).trim().to_owned(),
                min_cbm_bits: number(&cache.join("min_cbm_bits")),
                num_closids: number(&cache.join("num_closids")),
            });
            (told.l3_cache_schema_root, told.l3_cache_schema) = (line(&all, "L3"), line(&own, "L3"));
        }
        let bandwidth = root.join("info/MB");
        if bandwidth.is_dir() {
            told.mem_bw_info = Some(MemBwInfo {
                bandwidth_gran: number(&bandwidth.join("bandwidth_gran")),
                delay_linear: number(&bandwidth.join("delay_linear")),
                min_bandwidth: number(&bandwidth.join("min_bandwidth")),
                num_closids: number(&bandwidth.join("num_closids")),
            });
            (told.mem_bw_schema_root, told.mem_bw_schema) = (line(&all, "MB"), line(&own, "MB"));
        }
        self.monitored(root, &mut told);
        told
    }

    fn monitored(&self, root: &Path, told: &mut IntelRdt) {
        let features = text(&root.join("info/L3_MON/mon_features"));
        let has = |wanted: &str| features.lines().any(|feature| feature == wanted);
        let data = self.monitor.as_ref().unwrap_or(&self.path).join("mon_data");
        let mut caches: Vec<_> = std::fs::read_dir(data).into_iter().flatten().flatten().collect();
        caches.retain(|entry| entry.file_name().to_string_lossy().starts_with("mon_L3_"));
        caches.sort_by_key(std::fs::DirEntry::file_name);
        let read = |cache: &std::fs::DirEntry, file: &str| number(&cache.path().join(file));
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let used = |cache| Bandwidth {
                mbm_total_bytes: read(cache, "mbm_total_bytes"),
                mbm_local_bytes: read(cache, "mbm_local_bytes"),
            };
            told.mbm_stats = Some(caches.iter().map(used).collect());
        }
        if has("llc_occupancy") {
            let used = |cache| Occupancy { llc_occupancy: read(cache, "llc_occupancy") };
            told.cmt_stats = Some(caches.iter().map(used).collect());
        }
    }
}

/// The line of a resource in `schemata`, where the kernel aligns the names with blanks. Code and data may have a
/// line each: the first one counts.
fn line(schemata: &str, resource: &str) -> String {
    let of_it = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        name == resource || name.strip_prefix(resource).is_some_and(|rest| rest == "CODE" || rest == "DATA")
    };
    schemata.lines().map(str::trim).find(of_it).unwrap_or_default().to_owned()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A number. `Unavailable` and `Error` stand in some of these files for a while; both count as zero.
fn number(path: &Path) -> u64 {
    text(path).trim().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A tree with the text that the kernel has there: a machine of two caches, four classes of service and all of
    /// monitoring (`filesystems/resctrl.rst` has each of these files).
    fn recorded(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("resctrl-{name}-{}", std::process::id()));
        let files = [
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "4\n"),
            ("info/L3/shareable_bits", "c0000\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
            ("schemata", "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n"),
            ("box/schemata", "    MB:0=  20;1=  70\n    L3:0=0000f;1=000f0\n"),
            ("box/mon_data/mon_L3_00/llc_occupancy", "16234000\n"),
            ("box/mon_data/mon_L3_00/mbm_total_bytes", "324566123\n"),
            ("box/mon_data/mon_L3_00/mbm_local_bytes", "224566123\n"),
            ("box/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n"),
            ("box/mon_data/mon_L3_01/mbm_total_bytes", "12\n"),
            ("box/mon_data/mon_L3_01/mbm_local_bytes", "Error\n"),
        ];
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn statistics_have_the_fields_of_runc() {
        let root = recorded("all");
        let group = Group { path: root.join("box"), made: true, monitor: None };
        let told = serde_json::to_value(group.statistics(&root)).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let wanted = serde_json::json!({
            "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 4},
            "l3_cache_schema_root": "L3:0=fffff;1=fffff",
            "l3_cache_schema": "L3:0=0000f;1=000f0",
            "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0=  20;1=  70",
            "mbm_stats": [
                {"mbm_total_bytes": 324_566_123, "mbm_local_bytes": 224_566_123},
                {"mbm_total_bytes": 12, "mbm_local_bytes": 0},
            ],
            "cmt_stats": [{"llc_occupancy": 16_234_000}, {"llc_occupancy": 0}],
        });
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_a_processor_lacks_is_left_out() {
        let root = recorded("little");
        for below in ["info/MB", "info/L3_MON"] {
            std::fs::remove_dir_all(root.join(below)).unwrap();
        }
        std::fs::write(root.join("box/schemata"), "L3CODE:0=f;1=f\nL3DATA:0=f0;1=f0\n").unwrap();
        let group = Group { path: root.join("box"), made: true, monitor: None };
        let told = group.statistics(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(told.l3_cache_schema, "L3CODE:0=f;1=f");
        assert_eq!((told.mem_bw_info, told.mem_bw_schema), (None, String::new()));
        assert_eq!((told.mbm_stats, told.cmt_stats), (None, None));
    }
}
