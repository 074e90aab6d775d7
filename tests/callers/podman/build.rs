//! Building images: buildah, which is part of podman, calls `create`, `start`, `state`, `kill` and `delete` itself.

use super::Podman;

const RECIPE: &str = r#"FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "mkdir", "-p", "/made", "/etc"]
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install /bin; echo user:x:7:7::/:/bin/sh > /etc/passwd"]
ENV A=b
USER user
RUN ["/bin/sh", "-c", "test $(id -u) = 7 && test $A = b"]
CMD ["/bin/sh", "-c", "id -u; ls -d /made"]
"#;

#[test]
fn an_image_is_built_and_run() {
    let podman = caller!(Podman);
    let context = podman.place.directory("context");
    std::fs::copy("/usr/bin/busybox", podman.place.path("context/busybox")).unwrap();
    podman.place.write("context/Containerfile", RECIPE);
    podman
        .podman(&["build", "--network=none", "--isolation=oci", "--pull-never", "-t", "built", &context])
        .ok();
    let ran = podman.podman(&["run", "--rm", "--network=none", "localhost/built"]);
    assert_eq!(ran.ok(), "7\n/made\n");
}

#[test]
fn a_step_that_fails_ends_the_build() {
    let podman = caller!(Podman);
    let context = podman.place.directory("context");
    std::fs::copy("/usr/bin/busybox", podman.place.path("context/busybox")).unwrap();
    let recipe = "FROM scratch\nCOPY busybox /busybox\nRUN [\"/busybox\", \"sh\", \"-c\", \"exit 3\"]\n";
    podman.place.write("context/Containerfile", recipe);
    let built = podman.podman(&["build", "--network=none", "--isolation=oci", "--pull-never", &context]);
    assert!(built.stderr.contains("exit status 3"), "{built}");
    built.fails(3);
}
