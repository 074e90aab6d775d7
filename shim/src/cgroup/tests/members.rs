//! Groups of a pod's members on v1, which are not in every hierarchy.

use super::*;

#[test]
fn a_member_of_a_pod_has_a_directory_where_something_is_its_own() {
    let Some(Scratch(pod)) = &v1_group() else { return };
    let Hierarchies::V1(all) = &*pod.hierarchies else { return };
    let limits = |json| plan(&resources(json), Version::V1, Devices::Leave, &Live::default()).unwrap();
    let of_each = ["cpu", "cpuacct", "memory", "pids", "blkio", "devices", "freezer"];
    for (name, limits, pinned) in [
        ("usual", limits(json!({ "memory": { "limit": 1 << 24 } })), None),
        ("pinned", limits(json!({ "cpu": { "cpus": "0" } })), Some("cpuset")),
    ] {
        let member = pod.child(name).sharing(&limits);
        member.create().unwrap();
        member.apply(&limits).unwrap();
        let all: Vec<_> = all.iter().filter(|one| !one.is_named()).collect();
        for one in &all {
            let is_own =
                one.controllers.iter().any(|name| of_each.contains(&&**name) || Some(&**name) == pinned);
            assert_eq!(one.root.join(&member.path).exists(), is_own, "{name} in {one:?}");
        }
        // It is in its own group where it has one, and elsewhere in its pod's.
        let entry = member.entry().unwrap();
        let ways = entry.numbers().map(|number| format!("/proc/{}/fd/{number}", std::process::id()).into());
        let mut child = joined(ways.collect(), "exec sleep 1000");
        let inside = |one: &&Hierarchy| {
            let path = if one.root.join(&member.path).exists() { &member.path } else { &pod.path };
            let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
            let end = format!("{}:/{}", one.controllers.join(","), path.display());
            groups.lines().any(|line| line.ends_with(&end))
        };
        wait_for("the child in its groups", || all.iter().all(inside));
        assert_eq!(member.processes(Depth::Own), [child.id() as i32]);
        // What is exec'd in it is in the same groups, but for its leaf in one of them.
        let (leaf, way) = member.leaf("exec", &entry).unwrap();
        let ways = way.numbers().map(|number| format!("/proc/{}/fd/{number}", std::process::id()).into());
        let mut other = joined(ways.collect(), "exec sleep 1000");
        let lines = |pid: u32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            groups.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let apart = || {
            let own = lines(other.id());
            lines(child.id()).iter().filter(|line| !own.contains(line)).count() == 1
        };
        wait_for("the other in its leaf", || leaf.processes(Depth::Own) == [other.id() as i32] && apart());
        member.kill().unwrap();
        child.wait().unwrap();
        other.wait().unwrap();
        // Some made it everywhere.
        all.iter().for_each(|one| drop(std::fs::create_dir(one.root.join(&member.path))));
        wait_for("the member's end", || member.remove().unwrap() == Removal::Gone);
        assert!(all.iter().all(|one| !one.root.join(&member.path).exists()));
    }
}
