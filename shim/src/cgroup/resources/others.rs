//! The small controllers, and `unified`.

use oci_spec::runtime::LinuxResources;

use super::{Invalid, Steps, Version, Write, or_max};

pub(super) fn pids(resources: &LinuxResources, steps: &mut Steps) {
    if let Some(pids) = resources.pids() {
        steps.write("pids", "pids.max", or_max(pids.limit()));
    }
}

pub(super) fn hugepages(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        if !is_page_size(size) {
            return Err(Invalid::PageSize(size.clone()));
        }
        let (name, value) = match steps.version {
            Version::V1 => ("limit_in_bytes", limit.limit().to_string()),
            Version::V2 => ("max", or_max(limit.limit())),
        };
        steps.write("hugetlb", format!("hugetlb.{size}.{name}"), &value);
        // Kernels before 5.7 do not count what is reserved.
        steps.push(Write::new("hugetlb", format!("hugetlb.{size}.rsvd.{name}"), value).or_skip());
    }
    Ok(())
}

/// `64KB`, `2MB`, `1GB`: as the kernel names its files.
fn is_page_size(size: &str) -> bool {
    let number = size.strip_suffix('B').and_then(|size| size.strip_suffix(['K', 'M', 'G']));
    number.is_some_and(|number| {
        number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() && !number.starts_with('0')
    })
}

pub(super) fn rdma(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limit) in devices {
        check_name("rdma device", name)?;
        let value = |value: Option<u32>| value.map_or("max".to_owned(), |value| value.to_string());
        let (handles, objects) = (value(limit.hca_handles()), value(limit.hca_objects()));
        steps.write("rdma", "rdma.max", format!("{name} hca_handle={handles} hca_object={objects}"));
    }
    Ok(())
}

fn check_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(Invalid::Name { field, name: name.to_owned() });
    }
    Ok(())
}

pub(super) fn network(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let Some(network) = resources.network() else { return Ok(()) };
    let class = network.class_id().filter(|class| *class != 0);
    let priorities = network.priorities().as_deref().unwrap_or_default();
    if steps.version == Version::V2 {
        return match (class, priorities) {
            (Some(_), _) => Err(Invalid::Network("classID")),
            (None, []) => Ok(()),
            (None, _) => Err(Invalid::Network("priorities")),
        };
    }
    if let Some(class) = class {
        steps.write("net_cls", "net_cls.classid", class);
    }
    for priority in priorities {
        check_name("network interface", priority.name())?;
        steps.write("net_prio", "net_prio.ifpriomap", format!("{} {}", priority.name(), priority.priority()));
    }
    Ok(())
}

pub(super) fn unified(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let mut values: Vec<_> = resources.unified().iter().flatten().collect();
    if values.is_empty() {
        return Ok(());
    }
    if steps.version == Version::V1 {
        return Err(Invalid::UnifiedOnV1);
    }
    values.sort_by_key(|(file, _)| *file);
    for (file, value) in values {
        if file.contains('/') {
            return Err(Invalid::UnifiedPath(file.clone()));
        }
        let controller = file.split_once('.').map(|(controller, _)| controller.to_owned());
        let controller = controller.filter(|controller| !controller.is_empty());
        let controller = controller.ok_or_else(|| Invalid::UnifiedName(file.clone()))?;
        steps.push(Write::new(controller, file.clone(), value));
    }
    Ok(())
}
