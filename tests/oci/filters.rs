//! Seccomp profiles: what each action does to a call, and which calls a rule is about (oci-runtime.md 4.10). Verdicts are compared
//! with libseccomp's in the shim's tests; here the kernel gives them.

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

/// A bundle with a profile that allows all but these rules.
fn filtered(bundle: &mut Bundle, rules: &Value) {
    bundle.configure(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    });
}

#[test]
fn every_action_does_what_it_says() {
    let mut bundle = bundle!();
    let rows = [
        (json!({"action": "SCMP_ACT_ERRNO"}), "Operation not permitted", 1),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 38}), "Function not implemented", 1),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}), "No space left on device", 1),
        // Nobody traces.
        (json!({"action": "SCMP_ACT_TRACE", "errnoRet": 5}), "Function not implemented", 1),
        (json!({"action": "SCMP_ACT_KILL"}), "", 159),
        (json!({"action": "SCMP_ACT_KILL_THREAD"}), "", 159),
        (json!({"action": "SCMP_ACT_KILL_PROCESS"}), "", 159),
        (json!({"action": "SCMP_ACT_TRAP"}), "", 159),
        (json!({"action": "SCMP_ACT_LOG"}), "", 0),
    ];
    for (mut rule, words, status) in rows {
        let action = rule.to_string();
        rule["names"] = json!(["mkdir", "mkdirat"]);
        filtered(&mut bundle, &json!([rule]));
        bundle.script("/bin/busybox mkdir /tmp/new; s=$?; /bin/busybox rmdir /tmp/new 2>/dev/null; exit $s");
        let output = bundle.oci(&["run", &bundle.id]);
        assert_eq!(output.status.code(), Some(status), "{action}: {output}");
        assert!(output.stderr.contains(words), "{action}: {output}");
        assert!(!words.is_empty() || status != 0 || output.stderr.is_empty(), "{action}: {output}");
    }
}

#[test]
fn what_no_rule_is_about_meets_the_default() {
    let mut bundle = bundle!();
    bundle.script("/bin/busybox mkdir /tmp/new; echo then").configure(|config| {
        // What hull, runc, a shell and busybox need is more than can be listed: all but one.
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat", "nonesuch", "another_nonesuch"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
        });
    });
    let output = bundle.oci(&["run", &bundle.id]);
    assert!(output.stderr.contains("Permission denied") && output.stdout == "then\n", "{output}");
    bundle.args(&["/bin/sleep", "1000"]).up();
    let told = bundle.exec(&["/bin/busybox", "mkdir", "/tmp/new"]).fails(1);
    assert!(told.contains("Permission denied"), "{told}");
}

/// Of priorities that a shell is given, each lower than the one before, those that a rule with such arguments denies.
fn denied(bundle: &mut Bundle, arguments: &Value) -> Vec<u32> {
    filtered(bundle, &json!([{"names": ["setpriority"], "action": "SCMP_ACT_ERRNO", "args": arguments}]));
    bundle.script(
        "for each in 1 2 3 4 5 6 7 8 9; do /bin/busybox renice $each -p $$ 2>/dev/null || echo $each; done",
    );
    let output = bundle.oci(&["run", &bundle.id]).ok();
    output.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn every_operator_compares_an_argument() {
    let mut bundle = bundle!();
    let argument =
        |op: &str, value: u32, two: u32| json!([{"index": 2, "value": value, "valueTwo": two, "op": op}]);
    let rows: [(Value, &[u32]); 9] = [
        (argument("SCMP_CMP_EQ", 5, 0), &[5]),
        (argument("SCMP_CMP_NE", 5, 0), &[1, 2, 3, 4, 6, 7, 8, 9]),
        (argument("SCMP_CMP_LT", 5, 0), &[1, 2, 3, 4]),
        (argument("SCMP_CMP_LE", 5, 0), &[1, 2, 3, 4, 5]),
        (argument("SCMP_CMP_GT", 5, 0), &[6, 7, 8, 9]),
        (argument("SCMP_CMP_GE", 5, 0), &[5, 6, 7, 8, 9]),
        // The first value is the mask.
        (argument("SCMP_CMP_MASKED_EQ", 6, 4), &[4, 5]),
        // All of one rule have to hold: PRIO_PROCESS is 0.
        (
            json!([{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 7, "op": "SCMP_CMP_GT"}]),
            &[8, 9],
        ),
        (
            json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 7, "op": "SCMP_CMP_GT"}]),
            &[],
        ),
    ];
    for (arguments, wanted) in rows {
        assert_eq!(denied(&mut bundle, &arguments), wanted, "{arguments}");
    }
}

#[test]
fn architectures_and_flags_are_taken_by_their_names() {
    if !cfg!(target_arch = "x86_64") {
        return println!("left out: the names are those of another machine");
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/grep", "^Seccomp:", "/proc/self/status"]);
    let flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
    let sets = (0..=flags.len()).map(|count| &flags[..count]);
    for flags in sets {
        bundle.configure(|config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
            });
        });
        let output = bundle.oci(&["run", &bundle.id]);
        if is_peer() && !output.status.success() {
            // runc 1.1 knows few of them.
            assert!(output.stderr.contains("flag"), "{output}");
            continue;
        }
        assert_eq!(output.ok(), "Seccomp:\t2\n", "{flags:?}");
    }
}

#[test]
fn a_profile_that_cannot_be_is_refused() {
    let rows = [
        json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
        json!({"defaultAction": "SCMP_ACT_NONESUCH"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}],
            "listenerPath": "/nonexistent"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONESUCH"]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONESUCH"]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_NONESUCH"}]}]}),
    ];
    // runc 1.1 looks at neither.
    let later = [
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "about nothing"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 5}),
    ];
    let mut wrong = Vec::new();
    for profile in rows.iter().chain(if is_peer() { &[][..] } else { &later }) {
        let mut bundle = bundle!();
        bundle.configure(|config| config["linux"]["seccomp"] = profile.clone());
        let output = bundle.detached(&["create", &bundle.id]);
        if output.status.code() != Some(1) || bundle.root().join(&bundle.id).exists() {
            wrong.push(format!("{profile}: {output}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
