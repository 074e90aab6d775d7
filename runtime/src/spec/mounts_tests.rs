use super::*;
use crate::manifest::pod::{Container, ObjectSource, Volume};
use crate::spec::fixture::{Case, container, host, literal};

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.to_owned(), source }
}

fn scratch() -> VolumeSource {
    VolumeSource::EmptyDir { memory: false, size_limit: None }
}

fn at(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        sub_path: SubPath::Whole,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: Propagation::Private,
    }
}

fn case(mounts: Vec<VolumeMount>) -> Case {
    let mut case = Case::new(Container { mounts, ..container("app") });
    case.pod.spec.volumes = vec![volume("data", scratch())];
    case
}

fn mounts(case: &Case) -> Mounts {
    let variables = crate::spec::env::pod_variables(&case.input()).unwrap();
    plan(&case.input(), &variables).unwrap()
}

fn find<'a>(mounts: &'a Mounts, path: &str) -> Option<&'a Mount> {
    mounts.mounts.iter().find(|mount| mount.destination() == Path::new(path))
}

fn show(mount: &Mount) -> String {
    let source = mount.source().as_ref().unwrap().display();
    format!("{source} {}", mount.options().as_deref().unwrap().join(","))
}

#[test]
fn a_mount_never_hides_one_that_came_before() {
    let list = mounts(&case(vec![at("data", "/a/b/c"), at("data", "/a")]));
    let depths: Vec<_> = list.mounts.iter().map(|mount| mount.destination().components().count()).collect();
    assert!(depths.is_sorted());
}

#[test]
fn a_volume_replaces_the_default_at_its_place() {
    let list = mounts(&case(vec![at("data", "/dev/shm/"), at("data", "/etc/hosts")]));
    let source = "/h/lib/pods/9d1e/volumes/data rbind,rprivate,rw";
    assert_eq!(show(find(&list, "/dev/shm").unwrap()), source);
    assert_eq!(show(find(&list, "/etc/hosts").unwrap()), source);
    assert_eq!(list.mounts.iter().filter(|mount| mount.destination() == Path::new("/dev/shm")).count(), 1);
    let list = mounts(&case(vec![at("data", "/dev")]));
    assert!(find(&list, "/dev/pts").is_none() && find(&list, "/dev/termination-log").is_some());
}

#[test]
fn an_image_has_its_volumes_where_its_root_is_read_only_and_nothing_else_is() {
    let mut case = case(vec![at("data", "/taken")]);
    case.image.volumes = ["/data/", "/taken", "/proc/x", "/dev", "/"].map(str::to_owned).to_vec();
    assert!(find(&mounts(&case), "/data").is_none());
    case.pod.spec.containers[0].security.read_only_root = true;
    let list = mounts(&case);
    let target = "/h/run/pods/9d1e/subpaths/app.0/1";
    assert_eq!(show(find(&list, "/data").unwrap()), format!("{target} rbind,rprivate,rw"));
    let steps: Vec<_> = list.sub_paths.iter().map(ToString::to_string).collect();
    assert_eq!(steps, [format!("/data: bind data of /h/run/pods/9d1e/containers/app.0/rootfs to {target}")]);
    assert!(show(find(&list, "/taken").unwrap()).starts_with("/h/lib/"));
    assert!(find(&list, "/proc/x").is_none() && find(&list, "/").is_none());
    assert_eq!(find(&list, "/dev").unwrap().typ().as_deref(), Some("tmpfs"));
}

#[test]
fn hosts_is_left_to_the_image_while_no_address_is_known() {
    let mut case = case(Vec::new());
    assert!(find(&mounts(&case), "/etc/hosts").is_some());
    case.ips.clear();
    assert!(find(&mounts(&case), "/etc/hosts").is_none());
    case.pod.spec.host_network = true;
    assert!(find(&mounts(&case), "/etc/hosts").is_some());
}

#[test]
fn written_volumes_and_read_only_mounts_are_read_only() {
    let mut case = case(vec![at("cm", "/cm"), VolumeMount { read_only: true, ..at("data", "/data") }]);
    let object =
        ObjectSource { name: "cm".to_owned(), items: Vec::new(), default_mode: 0o644, optional: false };
    case.pod.spec.volumes.push(volume("cm", VolumeSource::ConfigMap(object)));
    let list = mounts(&case);
    for path in ["/cm", "/data"] {
        assert!(show(find(&list, path).unwrap()).ends_with(" rbind,rprivate,ro"));
    }
}

#[test]
fn propagation_reaches_the_root() {
    let with = |propagation| mounts(&case(vec![VolumeMount { propagation, ..at("data", "/d") }]));
    let slave = with(Propagation::HostToContainer);
    assert_eq!(slave.root_propagation, Some("slave"));
    assert!(show(find(&slave, "/d").unwrap()).contains("rslave"));
    assert_eq!(with(Propagation::Bidirectional).root_propagation, Some("shared"));
    assert_eq!(with(Propagation::Private).root_propagation, None);
}

#[test]
fn recursive_read_only_must_be_read_only_and_private() {
    let recursive_read_only = RecursiveReadOnly::IfPossible;
    let wanted = VolumeMount { read_only: true, recursive_read_only, ..at("data", "/d") };
    assert!(show(find(&mounts(&case(vec![wanted.clone()])), "/d").unwrap()).ends_with("ro,rro"));
    for wrong in [
        VolumeMount { read_only: false, ..wanted.clone() },
        VolumeMount { propagation: Propagation::HostToContainer, ..wanted },
    ] {
        assert_eq!(
            options(&wrong, wrong.read_only, &host()),
            Err(Error::RecursiveReadOnly("data".to_owned()))
        );
    }
}

#[test]
fn an_older_kernel_has_no_recursive_read_only() {
    let old = Host { recursive_attributes: false, ..host() };
    let with = |recursive_read_only, host| {
        options(&VolumeMount { read_only: true, recursive_read_only, ..at("data", "/d") }, true, host)
    };
    let new = host();
    assert_eq!(with(RecursiveReadOnly::Enabled, &new), Ok(vec!["rbind", "rprivate", "ro", "rro"]));
    assert_eq!(with(RecursiveReadOnly::Enabled, &old), Err(Error::NoRecursiveReadOnly("data".to_owned())));
    for fine in [RecursiveReadOnly::IfPossible, RecursiveReadOnly::Disabled] {
        assert_eq!(with(fine, &old), Ok(vec!["rbind", "rprivate", "ro"]));
    }
}

#[test]
fn a_part_of_a_volume_is_bound_first() {
    let wanted = VolumeMount { sub_path: SubPath::Expression("logs/$(POD)".to_owned()), ..at("data", "/d") };
    let mut case = case(vec![wanted]);
    case.pod.spec.containers[0].env = vec![literal("POD", "web")];
    let list = mounts(&case);
    assert!(show(find(&list, "/d").unwrap()).starts_with("/h/run/pods/9d1e/subpaths/app.0/0 "));
    let steps: Vec<String> = list.sub_paths.iter().map(ToString::to_string).collect();
    let expected =
        "data: bind logs/web of /h/lib/pods/9d1e/volumes/data to /h/run/pods/9d1e/subpaths/app.0/0";
    assert_eq!(steps, [expected]);
}

#[test]
fn a_part_must_be_known_and_stay_inside() {
    let variables = Variables::default();
    let with = |sub_path| sub_path_of(sub_path, &variables);
    assert_eq!(
        with(SubPath::Expression("a/$(A)".to_owned())).unwrap_err().to_string(),
        "missing value for \"A\""
    );
    for path in ["../x", "/x", "a/../../x"] {
        assert_eq!(with(SubPath::Path(path.to_owned())), Err(Error::SubPath(path.to_owned())));
    }
    assert_eq!(with(SubPath::Path("a/b..c".to_owned())), Ok(Some("a/b..c".to_owned())));
}

fn sub_path_of(sub_path: SubPath, variables: &Variables) -> Result<Option<String>, Error> {
    super::sub_path(&VolumeMount { sub_path, ..at("data", "/d") }, variables)
}

#[test]
fn an_unknown_volume_is_named() {
    let case = case(vec![at("ghost", "/d")]);
    let error = plan(&case.input(), &Variables::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot find volume \"ghost\" to mount into container \"app\"");
}

#[test]
fn paths_are_cleaned() {
    for (path, expected) in [("/a//b/", "/a/b"), ("a/./b", "/a/b"), ("/a/../../b", "/b"), ("/", "/")] {
        assert_eq!(clean(path), Path::new(expected));
    }
}

#[test]
fn a_directory_is_made_where_it_will_be_seen() {
    let list = mounts(&case(vec![
        at("data", "/data"),
        VolumeMount { read_only: true, ..at("data", "/data/fixed") },
    ]));
    let place = |path| place_of(&list, path).map(|(root, path)| format!("{} {path}", root.display()));
    assert_eq!(place("/srv/www").as_deref(), Some("rootfs /srv/www"));
    assert_eq!(place("/data/a/b").as_deref(), Some("/h/lib/pods/9d1e/volumes/data a/b"));
    assert_eq!(place("/data").as_deref(), Some("/h/lib/pods/9d1e/volumes/data "));
    assert_eq!(place("/data/fixed/x"), None);
    assert_eq!(place("/proc/x"), None);
    assert_eq!(place("/").as_deref(), Some("rootfs /"));
}
