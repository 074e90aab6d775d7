//! The runtime's own file, which a container wants to write to (CVE-2019-5736).

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hull_tests::command::copy_program;
use hull_tests::wait_until;
use serde_json::json;

use crate::bundle::Bundle;

/// Waits for a process whose program is not the image's, opens that program, lets the process end, and writes.
const ATTACKER: &str = r#"
while :; do
    for p in /proc/[0-9]*; do
        case "$(readlink $p/exe)" in
        */busybox | "") continue ;;
        esac
        exec 3<$p/exe || continue
        cat $p/root/fifo >/dev/null
        n=0
        until echo spoiled >/proc/self/fd/3; do
            n=$((n + 1))
            [ $n -gt 20 ] && break
            sleep 0.05
        done
        exec 3<&-
        echo tried >>/tried
    done
done"#;

/// An image that executes the runtime: it writes its log into a FIFO, and so stays until that is read.
fn prepare(bundle: &Bundle) {
    let evil = bundle.path("rootfs/evil");
    fs::write(&evil, "#!/proc/self/exe --log=/fifo\n").unwrap();
    fs::set_permissions(evil, fs::Permissions::from_mode(0o755)).unwrap();
    let fifo = bundle.path("rootfs/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
}

/// Whether the file was spoiled by way of a process that `attack` makes.
#[track_caller]
fn spoils(attacker: &Bundle, runtime: &Path, attack: impl FnOnce()) -> bool {
    let before = runtime.with_extension("before");
    copy_program(runtime, &before);
    let tried = attacker.read("rootfs/tried").len();
    attack();
    wait_until(Duration::from_secs(20), "attack", || match attacker.read("rootfs/tried").len() {
        length if length > tried => Ok(()),
        _ => Err(attacker.read("stderr")),
    });
    let spoiled = fs::read(runtime).unwrap() != fs::read(&before).unwrap();
    if spoiled {
        copy_program(&before, runtime);
    }
    spoiled
}

#[test]
fn a_program_that_is_the_runtime_itself_cannot_spoil_it_in_exec() {
    for without in ["", "exchange", "read-only-self"] {
        let mut bundle = target!();
        let runtime = bundle.copy_runtime();
        if !without.is_empty() && !bundle.go_without(without) {
            continue;
        }
        prepare(&bundle);
        bundle.script(ATTACKER).up();
        let exec = |bundle: &Bundle| drop(bundle.oci(&["exec", "--detach", &bundle.id, "/evil"]));
        assert!(!spoils(&bundle, &runtime, || exec(&bundle)), "{without}");
        if bundle.go_without("own-file") {
            assert!(spoils(&bundle, &runtime, || exec(&bundle)));
        }
    }
}

#[test]
fn a_program_that_is_the_runtime_itself_cannot_spoil_it_in_run() {
    let (mut attacker, mut bundle) = (target!(), target!());
    attacker.script(ATTACKER).up();
    let runtime = bundle.copy_runtime();
    prepare(&bundle);
    let pid = attacker.state()["pid"].as_i64().unwrap_or_default();
    bundle.args(&["/evil"]).configure(|config| {
        config["linux"]["namespaces"][0]["path"] = json!(format!("/proc/{pid}/ns/pid"));
    });
    let run = |bundle: &Bundle| {
        bundle.up();
    };
    assert!(!spoils(&attacker, &runtime, || run(&bundle)));
    bundle.delete();
    if bundle.go_without("own-file") {
        assert!(spoils(&attacker, &runtime, || run(&bundle)));
    }
}

#[test]
fn it_is_executed_only_once_where_the_kernel_lets_it_exchange_its_file() {
    let mut bundle = target!();
    if !Path::new("/proc/sys/kernel/ns_last_pid").exists() {
        hull_tests::skip!("this kernel was built without CONFIG_CHECKPOINT_RESTORE");
    }
    let executed = |bundle: &Bundle| {
        let mut command = bundle.command(&["run", &bundle.id]);
        let mut runtime = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        wait_until(Duration::from_secs(20), "start", || match bundle.oci(&["state", &bundle.id]).stdout {
            state if state.contains("running") => Ok(()),
            state => Err(state),
        });
        let path = executed_path(runtime.id());
        bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
        runtime.wait().unwrap();
        path
    };
    let of_descriptor = |path: &str| path.starts_with("/dev/fd/");
    let path = executed(&bundle);
    assert!(!of_descriptor(&path), "{path}");
    if bundle.go_without("exchange") {
        let path = executed(&bundle);
        assert!(of_descriptor(&path), "{path}");
    }
}

/// What `execve` was given, which the kernel leaves in the process's memory; getauxval(3), `AT_EXECFN`.
fn executed_path(pid: u32) -> String {
    let vector = fs::read(format!("/proc/{pid}/auxv")).unwrap();
    let (words, _) = vector.as_chunks();
    let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let pair = words.chunks(2).find(|pair| pair[0] == 31).unwrap();
    let mut text = [0; 64];
    File::open(format!("/proc/{pid}/mem")).unwrap().read_at(&mut text, pair[1]).unwrap();
    String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
