use super::*;
use crate::spec::fixture::{Case, container};

fn ids(case: &Case) -> (u32, u32, Vec<u32>) {
    let user = identity(&case.input()).unwrap().user;
    (user.uid(), user.gid(), user.additional_gids().clone().unwrap())
}

#[test]
fn the_manifest_then_the_image_says_who_runs() {
    let cases = [
        (None, None, "", (0, 0, vec![0])),
        (None, None, "web", (33, 34, vec![34, 4])),
        (None, None, "33", (33, 34, vec![34, 4])),
        (None, None, "33:logs", (33, 4, vec![4])),
        (None, None, "1000:1000", (1000, 1000, vec![1000])),
        (None, None, "1000", (1000, 0, vec![0])),
        (Some(1000), None, "web", (1000, 0, vec![0])),
        (Some(33), Some(5), "root", (33, 5, vec![5, 4])),
        (None, Some(7), "web:www", (33, 7, vec![7, 4])),
    ];
    for (user, group, image, expected) in cases {
        let mut app = container("app");
        app.security.run_as_user = user;
        app.security.run_as_group = group;
        let mut case = Case::new(app);
        case.image.user = image.to_owned();
        assert_eq!(ids(&case), expected, "{user:?} {group:?} {image}");
    }
}

#[test]
fn groups_of_the_pod_come_before_those_of_the_image() {
    let mut app = container("app");
    app.security.run_as_user = Some(33);
    let mut case = Case::new(app);
    case.pod.spec.security.supplemental_groups = vec![1234, 34];
    case.pod.spec.security.fs_group = Some(2000);
    assert_eq!(ids(&case).2, [34, 1234, 2000, 4]);
    case.pod.spec.security.strict_groups = true;
    assert_eq!(ids(&case).2, [34, 1234, 2000]);
}

#[test]
fn names_that_the_image_lacks_are_errors() {
    let mut case = Case::new(container("app"));
    case.image.user = "ghost".to_owned();
    assert_eq!(identity(&case.input()), Err(Error::UserMissing("ghost".to_owned())));
    case.image.user = "web:ghosts".to_owned();
    assert_eq!(identity(&case.input()), Err(Error::GroupMissing("ghosts".to_owned())));
    case.image.user = "4294967295".to_owned();
    assert_eq!(identity(&case.input()), Err(Error::IdRange("4294967295".to_owned())));
    case.image.user = "99999999999".to_owned();
    assert_eq!(identity(&case.input()), Err(Error::IdRange("99999999999".to_owned())));
    case.passwd = "broken\n:::\nx:y:z:w\n".to_owned();
    case.image.user = "x".to_owned();
    assert_eq!(identity(&case.input()), Err(Error::UserMissing("x".to_owned())));
}

#[test]
fn run_as_non_root_is_checked_in_the_words_of_the_kubelet() {
    let suffix = "(pod: \"web_default(9d1e)\", container: app)";
    let cases = [
        (Some(0), "web", Some("container's runAsUser breaks non-root policy".to_owned())),
        (Some(5), "", None),
        (None, "", Some("container has runAsNonRoot and image will run as root".to_owned())),
        (None, "0:0", Some("container has runAsNonRoot and image will run as root".to_owned())),
        (None, "5", None),
        (
            None,
            "nginx",
            Some(
                "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root"
                    .to_owned(),
            ),
        ),
    ];
    for (user, image, expected) in cases {
        let mut app = container("app");
        app.security.run_as_non_root = true;
        app.security.run_as_user = user;
        let mut case = Case::new(app);
        case.image.user = image.to_owned();
        let result = verify_non_root(&case.input());
        assert!(result.as_ref().err().is_none_or(Error::is_config));
        let text = result.err().map(|error| error.to_string());
        assert_eq!(text, expected.map(|text| format!("{text} {suffix}")), "{user:?} {image}");
    }
}

proptest::proptest! {
    #[test]
    fn any_account_file_can_be_read(passwd in "[a-c0-9:,\\n ]{0,60}", group in "[a-c0-9:,\\n ]{0,60}", user in "[a-c0-9:]{0,8}") {
        let mut case = Case::new(container("app"));
        (case.passwd, case.group, case.image.user) = (passwd, group, user);
        if let Ok(found) = identity(&case.input()) {
            let gids = found.user.additional_gids().clone().unwrap();
            proptest::prop_assert_eq!(gids[0], found.user.gid());
        }
    }
}
