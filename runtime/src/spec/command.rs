//! What is executed and where: reference `pod-lifecycle.md` 11.1.

use std::collections::HashMap;

use super::env::{Variables, expand};
use super::{Error, Input};
use crate::manifest::pod::Container;
use crate::spec::ImageConfig;

/// The command vector.
pub(crate) fn args(input: &Input<'_>, variables: &Variables) -> Result<Vec<String>, Error> {
    let own = |list: &[String]| -> Vec<String> {
        list.iter().map(|text| expand(text, |name| variables.value(name).map(str::to_owned))).collect()
    };
    let args = merge(own(&input.container.command), own(&input.container.args), input.image);
    if args.is_empty() {
        return Err(Error::NoCommand);
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::Nul { what: "the command".to_owned() });
    }
    Ok(args)
}

/// Puts the manifest's and the image's parts together.
fn merge(command: Vec<String>, args: Vec<String>, image: &ImageConfig) -> Vec<String> {
    // An entrypoint of one empty string is what some builders write for "none".
    let entrypoint: &[String] = if image.entrypoint == [""] { &[] } else { &image.entrypoint };
    match (command.is_empty(), args.is_empty()) {
        (true, true) => [entrypoint, image.cmd.as_slice()].concat(),
        (true, false) => [entrypoint, args.as_slice()].concat(),
        (false, _) => [command, args].concat(),
    }
}

/// The working directory: the manifest's, the image's, `/`.
pub(crate) fn working_dir(input: &Input<'_>) -> String {
    let given = [input.container.working_dir.as_deref(), Some(input.image.working_dir.as_str())];
    let dir = given.into_iter().flatten().find(|dir| !dir.is_empty()).unwrap_or("/");
    if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") }
}

/// What tools that look at the bundle can know it by.
pub(crate) fn annotations(input: &Input<'_>) -> HashMap<String, String> {
    let Container { name, .. } = input.container;
    let meta = &input.pod.meta;
    [
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.container-name", name.as_str()),
        ("io.kubernetes.cri.image-name", &input.container.image),
        ("io.kubernetes.cri.sandbox-name", &meta.name),
        ("io.kubernetes.cri.sandbox-namespace", &meta.namespace),
        ("io.kubernetes.cri.sandbox-uid", &meta.uid),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_args_of_the_manifest_replace_those_of_the_image() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let image = ImageConfig { entrypoint: list("entry"), cmd: list("cmd"), ..ImageConfig::default() };
        let cases = [("", "", "entry cmd"), ("", "a b", "entry a b"), ("c", "", "c"), ("c d", "a", "c d a")];
        for (command, args, expected) in cases {
            assert_eq!(merge(list(command), list(args), &image), list(expected));
        }
        let empty =
            ImageConfig { entrypoint: vec![String::new()], cmd: list("cmd"), ..ImageConfig::default() };
        assert_eq!(merge(Vec::new(), Vec::new(), &empty), list("cmd"));
    }
}
