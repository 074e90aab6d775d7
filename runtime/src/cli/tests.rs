//! The definition of the command line as a whole.

use super::*;

/// Every command with its path, for messages.
fn all(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    let path = format!("{path} {}", command.get_name());
    for verb in command.get_subcommands() {
        all(verb, &path, found);
    }
    found.push((path, command.clone()));
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn every_verb_and_every_flag_has_a_help_text() {
    let mut commands = Vec::new();
    let mut whole = command();
    whole.build();
    all(&whole, "", &mut commands);
    for (path, command) in commands.iter().filter(|(path, _)| !path.contains(" help")) {
        assert!(command.get_about().is_some(), "{path} has no help text");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {} has no help text", argument.get_id());
        }
    }
}

#[test]
fn manual_pages_and_completions_are_generated() {
    let directory = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(command(), directory.path()).unwrap();
    for page in ["hull.1", "hull-apply.1", "hull-image-import.1"] {
        assert!(directory.path().join(page).exists(), "{page}");
    }
    assert!(!directory.path().join("hull-task.1").exists(), "hidden verbs have no page");
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command(), "hull", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("describe"), "{shell}");
    }
}

#[test]
fn kubectl_habits_work() {
    for line in [
        "get po",
        "get pods -o wide -w",
        "get pod web -o jsonpath={.status.phase}",
        "get pods -l app=web -A --no-headers",
        "-n x get pods",
        "get pods -n x",
        "describe pod web",
        "logs web -f --tail=5",
        "logs web app --since 1h",
        "logs -p web -c a",
        "logs web --tail -1",
        "exec web -- ls -l",
        "exec -it web -c app -- sh",
        "delete pod web --now",
        "delete -f x.yaml",
        "delete pods --all --grace-period=0 --force",
        "delete pod web --wait=false",
        "events -w --for pod/web",
        "wait --for=condition=Ready pod/web --timeout=60s",
        "wait pod/web --for=delete",
        "apply -f a.yaml -f b.yaml --wait",
        "apply -f - --pod-cidr 10.1.0.0/16",
        "image ls",
        "completion bash",
        "man dir",
        "supervise --uid u",
        "task rootfs-up",
        "--root /x get pods",
        "--color never get pods",
        "wait pod/web --for=delete --timeout=-1s",
    ] {
        let words = std::iter::once("hull").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
    for line in
        ["get", "logs web --since 1h --since-time 2024-01-02T03:04:05Z", "apply", "delete", "wait pod/web"]
    {
        let words = std::iter::once("hull").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn verbs_that_are_run_often_are_the_same_when_parsed_alone() {
    for line in [
        "hull exec web -- sh -c ls",
        "hull --root /x -n other exec -it -c app pod/web -- exec task",
        "hull supervise --help",
        "hull exec --help",
        "hull exec web ls",
        "hull get pods exec",
        "hull task nothing",
    ] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let shown = |parsed: std::result::Result<Cli, clap::Error>| match parsed {
            Ok(cli) => format!("{cli:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown(parse(&words)), shown(Cli::try_parse_from(&words)), "{line}");
    }
}
