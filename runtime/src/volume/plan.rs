//! From a pod's volumes to steps; pure.

use std::collections::BTreeMap;
use std::path::Path;

use hull_shim::layout::PodLayout;

use super::Error;
use super::step::{Action, Content, File, Step, directory};
use crate::manifest::pod::{
    DownwardItem, EnvValue, KeyToPath, ObjectKind, ObjectSource, Pod, ProjectedSource, Volume, VolumeSource,
};
use crate::spec::downward::{Facts, field, resource};
use crate::spec::{Host, Sources, pod_resources};

/// Modes of volumes' roots: anybody's, and as usual for a tmpfs with the sticky bit.
const OPEN: u32 = 0o777;
const STICKY: u32 = 0o1777;

/// Plans all volumes of a pod.
///
/// # Errors
/// The first volume whose objects, keys or fields do not exist.
pub fn plan(pod: &Pod, layout: &PodLayout, sources: &Sources, host: &Host) -> Result<Vec<Step>, Error> {
    let planner = Planner { pod, layout, sources, host };
    let mut steps = Vec::new();
    for volume in &pod.spec.volumes {
        let actions =
            planner.volume(volume).map_err(|message| Error { volume: volume.name.clone(), message })?;
        steps.extend(actions.into_iter().map(|action| Step { volume: volume.name.clone(), action }));
    }
    Ok(steps)
}

/// Plans the volumes that show objects, to bring them up to date. One whose object or key is gone is left out, with the
/// reason: it stays as it is.
#[must_use]
pub fn refresh(pod: &Pod, layout: &PodLayout, sources: &Sources, host: &Host) -> (Vec<Step>, Vec<Error>) {
    let planner = Planner { pod, layout, sources, host };
    let (mut steps, mut errors) = (Vec::new(), Vec::new());
    for volume in pod.spec.volumes.iter().filter(|volume| volume.source.shows_objects()) {
        let name = || volume.name.clone();
        match planner.volume(volume) {
            Ok(actions) => steps.extend(actions.into_iter().map(|action| Step { volume: name(), action })),
            Err(message) => errors.push(Error { volume: name(), message }),
        }
    }
    (steps, errors)
}

#[derive(Clone, Copy)]
struct Planner<'a> {
    pod: &'a Pod,
    layout: &'a PodLayout,
    sources: &'a Sources,
    host: &'a Host,
}

/// Files by path. The paths of one volume are distinct.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

impl Planner<'_> {
    fn volume(self, volume: &Volume) -> Result<Vec<Action>, String> {
        let path = directory(volume, self.layout);
        let group = self.pod.spec.security.fs_group;
        let plain = Action::Directory { path: path.clone(), mode: OPEN, group };
        let memory = |size| Action::Tmpfs { path: path.clone(), size, mode: STICKY, group };
        let mut files = Files::new();
        let first = match &volume.source {
            VolumeSource::EmptyDir { memory: false, .. } => return Ok(vec![plain]),
            VolumeSource::EmptyDir { memory: true, size_limit } => {
                let size = self.memory_size(*size_limit);
                return Ok(vec![Action::Tmpfs { path, size, mode: OPEN, group }]);
            }
            VolumeSource::HostPath { kind, .. } => {
                return Ok(vec![Action::HostPath { path, kind: (*kind).into() }]);
            }
            VolumeSource::ConfigMap(source) => {
                self.object(ObjectKind::ConfigMap, source, None, &mut files)?;
                plain
            }
            VolumeSource::Secret(source) => {
                self.object(ObjectKind::Secret, source, None, &mut files)?;
                memory(None)
            }
            VolumeSource::DownwardApi { items, default_mode } => {
                self.downward(items, *default_mode, &mut files)?;
                memory(None)
            }
            VolumeSource::Projected { sources, default_mode } => {
                self.projected(sources, *default_mode, &mut files)?;
                memory(None)
            }
        };
        let files =
            files.into_iter().map(|(path, (mode, bytes))| File { path, mode, content: Content::new(&bytes) });
        Ok(vec![first, Action::Files { path, files: files.collect(), group }])
    }

    /// No larger than the pod may use at all.
    fn memory_size(self, limit: Option<u64>) -> Option<u64> {
        let pod = pod_resources(self.pod).memory_limit.and_then(|limit| u64::try_from(limit).ok());
        match (limit.filter(|limit| *limit > 0), pod) {
            (Some(own), Some(pod)) => Some(own.min(pod)),
            (own, pod) => own.or(pod),
        }
    }

    fn projected(self, sources: &[ProjectedSource], mode: u32, files: &mut Files) -> Result<(), String> {
        for source in sources {
            match source {
                ProjectedSource::ConfigMap(source) => {
                    self.object(ObjectKind::ConfigMap, source, Some(mode), files)?;
                }
                ProjectedSource::Secret(source) => {
                    self.object(ObjectKind::Secret, source, Some(mode), files)?
                }
                ProjectedSource::DownwardApi(items) => self.downward(items, mode, files)?,
            }
        }
        Ok(())
    }

    /// Adds the keys of an object. `mode` is that of the projected volume, which replaces the source's own.
    fn object(
        self,
        kind: ObjectKind,
        source: &ObjectSource,
        mode: Option<u32>,
        files: &mut Files,
    ) -> Result<(), String> {
        let mode = mode.unwrap_or(source.default_mode);
        let name = match kind {
            ObjectKind::ConfigMap => "configmap",
            ObjectKind::Secret => "secret",
        };
        let keys = match self.sources.object(kind, &source.name) {
            Some(keys) => keys,
            None if source.optional => return Ok(()),
            None => return Err(format!("{name} {:?} not found", source.name)),
        };
        if source.items.is_empty() {
            return keys.iter().try_for_each(|(key, bytes)| add(files, key, mode, bytes.clone()));
        }
        for KeyToPath { key, path, mode: own } in &source.items {
            match keys.get(key) {
                Some(bytes) => add(files, path, own.unwrap_or(mode), bytes.clone())?,
                None if source.optional => {}
                None => {
                    return Err(match kind {
                        ObjectKind::ConfigMap => {
                            format!("configmap references non-existent config key: {key}")
                        }
                        ObjectKind::Secret => format!("references non-existent secret key: {key}"),
                    });
                }
            }
        }
        Ok(())
    }

    fn downward(self, items: &[DownwardItem], mode: u32, files: &mut Files) -> Result<(), String> {
        // Addresses are no fields of volumes: they are not known yet.
        let facts = Facts { pod: self.pod, node_name: "", ips: &[], host_ips: &[] };
        for item in items {
            let text = match &item.value {
                EnvValue::Field(reference) => field(reference, &facts),
                EnvValue::Resource(reference) => {
                    resource(reference, self.pod, None, self.host).map_err(|error| error.to_string())?
                }
                EnvValue::Literal(_)
                | EnvValue::ConfigMap(_)
                | EnvValue::Secret(_)
                | EnvValue::File { .. } => {
                    return Err(format!("{}: neither fieldRef nor resourceFieldRef", item.path));
                }
            };
            add(files, &item.path, item.mode.unwrap_or(mode), text.into_bytes())?;
        }
        Ok(())
    }
}

fn add(files: &mut Files, path: &str, mode: u32, bytes: Vec<u8>) -> Result<(), String> {
    let parts: Vec<&str> = path.split('/').collect();
    let bad = |part: &&str| matches!(*part, "" | "." | "..");
    if parts.iter().any(bad) || path.starts_with("..") || path.contains('\0') {
        return Err(format!(
            "invalid path {path:?}: must be relative, and must not start with or contain \"..\""
        ));
    }
    // A path may not go through another one as its directory either.
    let clash = |known: &String| Path::new(known).starts_with(path) || Path::new(path).starts_with(known);
    if let Some(known) = files.keys().find(|known| clash(known)) {
        return Err(format!("conflicting paths {known:?} and {path:?}"));
    }
    files.insert(path.to_owned(), (mode & 0o777, bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::pod::{FieldRef, HostPathKind};
    use crate::spec::fixture;

    fn pod(source: VolumeSource) -> Pod {
        let mut pod = fixture::pod(vec![fixture::container("app")]);
        pod.spec.volumes = vec![Volume { name: "v".to_owned(), source }];
        pod
    }

    fn sources() -> Sources {
        let keys = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
        Sources {
            config_maps: [("cm".to_owned(), keys.clone().into())].into(),
            secrets: [("s".to_owned(), keys.into())].into(),
            services: Vec::new(),
        }
    }

    fn show(pod: &Pod) -> Result<Vec<String>, String> {
        let steps = plan(pod, &fixture::layout(), &sources(), &fixture::host());
        steps.map(|steps| steps.iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
    }

    fn object(name: &str, items: &[(&str, &str, Option<u32>)], optional: bool) -> ObjectSource {
        let item = |(key, path, mode): &(&str, &str, Option<u32>)| KeyToPath {
            key: (*key).to_owned(),
            path: (*path).to_owned(),
            mode: *mode,
        };
        let items = items.iter().map(item).collect();
        ObjectSource { name: name.to_owned(), items, default_mode: 0o644, optional }
    }

    const AT: &str = "/h/lib/pods/9d1e/volumes/v";

    #[test]
    fn an_empty_directory_is_on_disk_or_in_memory() {
        let disk = pod(VolumeSource::EmptyDir { memory: false, size_limit: None });
        assert_eq!(show(&disk).unwrap(), [format!("v: directory {AT} 0777")]);
        let mut memory = pod(VolumeSource::EmptyDir { memory: true, size_limit: Some(2 << 20) });
        memory.spec.security.fs_group = Some(5);
        assert_eq!(show(&memory).unwrap(), [format!("v: tmpfs {AT} size=2097152 0777 group=5")]);
        memory.spec.containers[0].resources.memory_limit = Some(1 << 20);
        assert_eq!(show(&memory).unwrap(), [format!("v: tmpfs {AT} size=1048576 0777 group=5")]);
    }

    #[test]
    fn a_path_of_the_host_is_checked_in_place() {
        let pod = pod(VolumeSource::HostPath { path: "/srv".to_owned(), kind: HostPathKind::Socket });
        assert_eq!(show(&pod).unwrap(), ["v: host path /srv Socket"]);
    }

    #[test]
    fn secrets_are_kept_in_memory() {
        let config = pod(VolumeSource::ConfigMap(object("cm", &[], false)));
        let expected = [format!("v: directory {AT} 0777"), format!("v: files {AT}: a 0644 b 0644")];
        assert_eq!(show(&config).unwrap(), expected);
        let secret = pod(VolumeSource::Secret(object("s", &[("b", "x/y", Some(0o400))], false)));
        let expected = [format!("v: tmpfs {AT} size=default 1777"), format!("v: files {AT}: x/y 0400")];
        assert_eq!(show(&secret).unwrap(), expected);
        let steps = plan(&secret, &fixture::layout(), &sources(), &fixture::host()).unwrap();
        assert!(format!("{steps:?}").contains("content: 1 bytes"), "a secret is not shown");
    }

    #[test]
    fn missing_objects_and_keys_are_errors_that_name_the_volume() {
        let prefix = "MountVolume.SetUp failed for volume \"v\" : ";
        let missing = [("c", "c", None)];
        let cases = [
            (VolumeSource::ConfigMap(object("no", &[], false)), "configmap \"no\" not found"),
            (VolumeSource::Secret(object("no", &[], false)), "secret \"no\" not found"),
            (
                VolumeSource::ConfigMap(object("cm", &missing, false)),
                "configmap references non-existent config key: c",
            ),
            (VolumeSource::Secret(object("s", &missing, false)), "references non-existent secret key: c"),
        ];
        for (source, expected) in cases {
            assert_eq!(show(&pod(source)).unwrap_err(), format!("{prefix}{expected}"));
        }
        for source in [object("no", &[], true), object("cm", &missing, true)] {
            assert_eq!(show(&pod(VolumeSource::ConfigMap(source))).unwrap()[1], format!("v: files {AT}:"));
        }
    }

    #[test]
    fn sources_are_projected_into_one_directory_without_clashes() {
        let field =
            DownwardItem { path: "meta/name".to_owned(), value: EnvValue::Field(FieldRef::Name), mode: None };
        let with = |second| {
            let sources = vec![
                ProjectedSource::ConfigMap(object("cm", &[("a", "a", None)], false)),
                second,
                ProjectedSource::DownwardApi(vec![field.clone()]),
            ];
            pod(VolumeSource::Projected { sources, default_mode: 0o440 })
        };
        let good = with(ProjectedSource::Secret(object("s", &[("b", "b", None)], false)));
        assert_eq!(show(&good).unwrap()[1], format!("v: files {AT}: a 0440 b 0440 meta/name 0440"));
        for path in ["a", "a/b", "meta", "../x", "/x", "x/../y"] {
            let bad = with(ProjectedSource::Secret(object("s", &[("b", path, None)], false)));
            assert!(show(&bad).is_err(), "{path}");
        }
    }
}
