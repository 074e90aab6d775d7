//! What a test pod is made of: programs, a root file system, configurations.

use std::path::Path;

use hull_shim::wire::{CreateConfig, InstanceId};
use serde_json::{Value, json};

use crate::pod::Pod;

impl Pod {
    /// Writes the bundle of a container that runs `args`.
    pub(crate) fn bundle(&self, name: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> CreateConfig {
        let bundle = self.layout.instance(name, 0);
        make_rootfs(&bundle.join("rootfs"));
        let mut config = specification(args);
        change(&mut config);
        let tty = config["process"]["terminal"] == json!(true);
        std::fs::write(bundle.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        CreateConfig {
            instance: InstanceId { container: name.into(), attempt: 0 },
            id: format!("{name}0"),
            log: self.log_path(name),
            bundle,
            stdin: false,
            stdin_once: false,
            tty,
            oom_score_adj: 500,
        }
    }
}

/// The programs that a shim looks for beside itself.
pub(crate) fn install(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let shim = Path::new(env!("CARGO_BIN_EXE_hull-shim"));
    std::fs::copy(shim, directory.join("hull-shim")).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), directory.join("hull")).unwrap();
    let pause = directory.join("hull-pause");
    // `make build` puts it there; a plain `cargo test` does without.
    if std::fs::copy(shim.with_file_name("hull-pause"), &pause).is_err() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&pause, "#!/bin/busybox sh\nexec /bin/busybox sleep 1000000\n").unwrap();
        std::fs::set_permissions(&pause, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn make_rootfs(rootfs: &Path) {
    for directory in ["bin", "dev", "proc", "sys", "etc", "tmp", "closed"] {
        std::fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for name in [
        "sh", "sleep", "cat", "echo", "grep", "id", "true", "hostname", "stty", "ls", "tty", "kill", "yes",
        "head", "awk", "dd",
    ] {
        drop(std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)));
    }
    std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:7:7::/home/web:/bin/sh\n")
        .unwrap();
    std::fs::write(rootfs.join("bin/not-executable"), "x").unwrap();
}

fn specification(args: &[&str]) -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"]);
    let mut config: Value = serde_json::from_str(include_str!("../config.json")).unwrap();
    config["process"] = json!({
        "terminal": false,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin", "COLOUR=blue"],
        "cwd": "/made/by/hull",
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}],
        "noNewPrivileges": true,
    });
    config["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "access": "rwm"}],
        "memory": {"limit": 67_108_864}, "pids": {"limit": 50},
    });
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    });
    config
}
