//! The steps of an instance's life outside of the core: image, files, rootfs, spec, create; and at its end
//! its last words and its removal.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hull_shim::wire::{Command, CreateConfig, Ended, Failure, InstanceId};

use super::hands::Hands;
use super::volumes::{carry_out_steps, first, sources};
use crate::core::input::{ImageFailure, Input};
use crate::image::rootfs::{Mounted, RootfsInput, RootfsUpInput};
use crate::image::{Image, Store};
use crate::manifest::pod::{Container, Pod, PullPolicy};
use crate::store::{file, rotate};
use crate::{image, spec, volume};

/// Longest termination message in bytes (reference 8.6).
const MESSAGE_LIMIT: u64 = 4096;
/// Of a log that stands in for one: lines and bytes.
const LOG_LINES: usize = 80;
const LOG_LIMIT: usize = 2048;
/// So much of a log has them, whatever its lines are: the shim writes at most 16 KiB in one, and each has a time and a
/// stream before its content.
const LOG_READ: u64 = (LOG_LIMIT + 16 * 1024 + LOG_LINES * 64) as u64;

/// Why an instance was not created.
struct CreateError {
    config: bool,
    message: String,
}

impl CreateError {
    fn runtime(error: impl std::fmt::Display) -> Self {
        Self { config: false, message: error.to_string() }
    }
}

/// Finds an instance's image. The local store is the one place that images come from in this version, so
/// a pull is a look into it.
pub async fn image(hands: &Hands, instance: InstanceId, name: &str, policy: PullPolicy) -> Input {
    let begun = super::clock::boot_time();
    let failed = |reason, message| Input::ImageFailed { instance: instance.clone(), reason, message };
    let found = Store::open(hands.layout()).resolve(name);
    let image = match found {
        Ok(image) => image,
        Err(image::Error::Reference { source, .. }) => {
            return failed(ImageFailure::InvalidName, source.in_event(name));
        }
        Err(error) => return failed(ImageFailure::Pull, text_of(&error)),
    };
    match (image, policy) {
        (Some(image), policy) => {
            let took = super::clock::boot_time().since(begun);
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let pulled = (policy == PullPolicy::Always).then_some((milliseconds, image.size));
            Input::ImageReady {
                instance,
                image: image.reference.clone(),
                image_id: image.digest_reference(),
                pulled,
            }
        }
        (None, PullPolicy::Never) => failed(ImageFailure::NeverPull, String::new()),
        (None, PullPolicy::Always | PullPolicy::IfNotPresent) => failed(ImageFailure::Pull, not_found(name)),
    }
}

/// Builds everything that an instance needs and creates it, of this image.
pub async fn create(hands: &Hands, instance: InstanceId, image: &str) -> Input {
    match try_create(hands, &instance, image).await {
        Ok((id, stop_signal)) => Input::Created { instance, id, stop_signal },
        Err(CreateError { config, message }) => {
            release_files(hands, &instance).await;
            Input::CreateFailed { instance, config, message }
        }
    }
}

async fn try_create(
    hands: &Hands,
    instance: &InstanceId,
    image_name: &str,
) -> Result<(String, Option<i32>), CreateError> {
    let pod = hands.pod();
    let container = pod
        .spec
        .container(&instance.container)
        .ok_or_else(|| CreateError::runtime(format!("the pod has no container {:?}", instance.container)))?;
    let container = &Container { image: image_name.to_owned(), ..container.clone() };
    let image = Store::open(hands.layout())
        .resolve(image_name)
        .map_err(|error| CreateError::runtime(text_of(&error)))?
        .ok_or_else(|| CreateError::runtime(not_found(image_name)))?;
    if let Some(known) = hands.known(instance) {
        return Ok((known.id.clone(), spec::signal::signal_number(&image.config.stop_signal)));
    }
    let bundle = hands.files().instance(&instance.container, instance.attempt);
    fs::create_dir_all(&bundle)
        .map_err(|error| CreateError::runtime(format!("{}: {error}", bundle.display())))?;
    mount_rootfs(hands, instance, (&pod, container), &image.id).await.map_err(CreateError::runtime)?;
    let plan = plan(hands, instance, (&pod, container), &image)?;
    place_sub_paths(hands, instance, &plan).await?;
    if let Some((root, path)) = &plan.make_dir {
        spec::rootfs::make_dir(&bundle.join(root), path).map_err(|error| {
            CreateError::runtime(format!("cannot make the working directory {path:?}: {error}"))
        })?;
    }
    write_files(hands, &pod, &bundle, &plan).map_err(CreateError::runtime)?;
    let id = random_id();
    let config = CreateConfig {
        instance: instance.clone(),
        id: id.clone(),
        bundle,
        log: log(hands, instance),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        oom_score_adj: plan.oom_score_adj,
    };
    let created = hands.shim().order(Command::Create(Box::new(config))).await;
    created.map_err(|failure| CreateError::runtime(create_error(&failure)))?;
    Ok((id, plan.stop_signal))
}

/// Mounts the root of an instance, unless that was done already, and in the same task those of the containers that
/// come next.
async fn mount_rootfs(
    hands: &Hands,
    instance: &InstanceId,
    (pod, container): (&Pod, &Container),
    image_id: &str,
) -> Result<(), String> {
    let instance_dir = hands.files().instance(&instance.container, instance.attempt);
    if hands.take_mounted(&instance_dir).is_some_and(|mounted| mounted == image_id) {
        return Ok(());
    }
    let writable_dir = hands.files().writable(&instance.container, instance.attempt);
    let first = RootfsInput { image_id: image_id.to_owned(), instance_dir, writable_dir };
    let also = upcoming(hands, (pod, container), image_id);
    let input = RootfsUpInput { first, also: also.clone() };
    let mounted: Mounted = hands.task("rootfs-up", &input).await?;
    for next in also.into_iter().filter(|next| mounted.also.contains(&next.instance_dir)) {
        hands.mounted_ahead(next.instance_dir, next.image_id);
    }
    Ok(())
}

/// The containers that start at once after this one, as far as they were never made and have their image.
fn upcoming(hands: &Hands, (pod, container): (&Pod, &Container), image_id: &str) -> Vec<RootfsInput> {
    let containers = pod.spec.containers.iter();
    let mut found = Vec::new();
    for next in containers.skip_while(|other| other.name != container.name).skip(1) {
        let instance_dir = hands.files().instance(next.name.as_str(), 0);
        let known = (next.image == container.image).then(|| image_id.to_owned());
        let look = || Store::open(hands.layout()).resolve(&next.image).ok().flatten().map(|image| image.id);
        if let Some(image_id) = known.or_else(look)
            && !instance_dir.exists()
            && fs::create_dir_all(&instance_dir).is_ok()
        {
            let writable_dir = hands.files().writable(next.name.as_str(), 0);
            found.push(RootfsInput { image_id, instance_dir, writable_dir });
        }
    }
    found
}

async fn place_sub_paths(hands: &Hands, instance: &InstanceId, plan: &spec::Plan) -> Result<(), CreateError> {
    let failed = carry_out_steps(hands, &format!("sub-paths-{instance}"), plan.sub_paths.clone()).await;
    first(failed).map_err(|error| {
        tracing::warn!(%instance, %error, "subPath");
        let error =
            spec::Error::SubPathFailed { volume: error.volume, container: instance.container.clone() };
        CreateError { config: error.is_config(), message: error.to_string() }
    })
}

fn plan(
    hands: &Hands,
    instance: &InstanceId,
    (pod, container): (&Pod, &Container),
    image: &Image,
) -> Result<spec::Plan, CreateError> {
    let config = |message| CreateError { config: true, message };
    let rootfs = hands.files().instance(&instance.container, instance.attempt).join("rootfs");
    let accounts = |path: &str| {
        read_in(&rootfs, path)
            .map(Option::unwrap_or_default)
            .map_err(|error| CreateError::runtime(format!("cannot read {path} of the image: {error}")))
    };
    let sources = sources(hands).map_err(config)?;
    let (passwd, group) = (accounts("/etc/passwd")?, accounts("/etc/group")?);
    let profile = seccomp_profile(hands, container).map_err(config)?;
    let input = spec::Input {
        pod,
        container,
        instance,
        image: &image.config,
        ips: &hands.ips(),
        host_ips: &hands.host_ips(),
        node_name: hands.node(),
        sources: &sources,
        passwd: &passwd,
        group: &group,
        seccomp_profile: profile.as_deref(),
        env_files: &env_files(hands, (pod, container)),
        layout: hands.files(),
        host: hands.host().map_err(CreateError::runtime)?,
    };
    spec::plan(&input).map_err(|error| CreateError { config: error.is_config(), message: text_of(&error) })
}

/// The text of a `Localhost` seccomp profile, from the kubelet's profile directory.
fn seccomp_profile(hands: &Hands, container: &Container) -> Result<Option<String>, String> {
    let Some(name) = spec::linux::localhost_profile(container) else { return Ok(None) };
    let root = hands.layout().seccomp_profiles();
    let shown = root.join(name);
    match read_in(&root, name) {
        Ok(Some(profile)) => Ok(Some(profile)),
        Ok(None) => Err(format!("seccomp profile {} does not exist", shown.display())),
        Err(error) => Err(format!("cannot read seccomp profile {}: {error}", shown.display())),
    }
}

/// Files of volumes that `fileKeyRef` names; what cannot be read is left out, and the plan says so.
fn env_files(hands: &Hands, (pod, container): (&Pod, &Container)) -> BTreeMap<(String, String), String> {
    let read = |(volume, path): (String, String)| {
        let source = pod.spec.volumes.iter().find(|other| other.name == volume)?;
        let root = volume::directory(source, hands.files());
        let text = read_in(&root, &path).ok()??;
        Some(((volume, path), text))
    };
    spec::env::files(container).into_iter().filter_map(read).collect()
}

/// A file below a root that belongs to a container; none if it is not there.
fn read_in(root: &Path, path: &str) -> io::Result<Option<String>> {
    match spec::rootfs::read(root, path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why an image is not there, with what would help.
fn not_found(name: &str) -> String {
    let full = name.parse::<image::Reference>().map_or_else(|_| name.to_owned(), |full| full.to_string());
    format!(
        "failed to pull and unpack image {full:?}: failed to resolve reference {full:?}: {full}: not found in the \
         local image store (hull does not pull from registries yet; try: hull image import FILE)"
    )
}

fn write_files(hands: &Hands, pod: &Pod, bundle: &Path, plan: &spec::Plan) -> Result<(), String> {
    let files = || -> Result<(), file::FileError> {
        let etc = hands.files().etc();
        fs::create_dir_all(&etc).map_err(|error| file::FileError::new("make", &etc, error))?;
        write_etc(hands, pod, &etc)?;
        let message = bundle.join("termination-log");
        fs::write(&message, "")
            .and_then(|()| fs::set_permissions(&message, fs::Permissions::from_mode(0o666)))
            .map_err(|error| file::FileError::new("write", &message, error))?;
        let json = serde_json::to_vec(&plan.spec).expect("a spec has only string keys");
        let config = bundle.join("config.json");
        fs::write(&config, json).map_err(|error| file::FileError::new("write", &config, error))
    };
    files().map_err(|error| text_of(&error))
}

/// `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`, written in place: running containers have these very
/// files mounted.
fn write_etc(hands: &Hands, pod: &Pod, etc: &Path) -> Result<(), file::FileError> {
    let ips = hands.ips();
    let host_hosts = if pod.spec.host_network { of_host("/etc/hosts")? } else { String::new() };
    let contents = [
        ("hosts", spec::hosts(pod, &ips, &host_hosts)),
        ("resolv.conf", resolv_conf(hands)?.text),
        ("hostname", format!("{}\n", spec::kernel_hostname(pod).unwrap_or_else(|| hands.node().to_owned()))),
    ];
    for (name, content) in contents {
        let path = etc.join(name);
        if file::read_if_there(&path)?.as_deref() != Some(&content) {
            fs::write(&path, content).map_err(|error| file::FileError::new("write", &path, error))?;
        }
    }
    Ok(())
}

/// The pod's `/etc/resolv.conf`, made from the host's.
fn resolv_conf(hands: &Hands) -> Result<spec::ResolvConf, file::FileError> {
    Ok(spec::resolv_conf(&hands.pod(), hands.resolver(), &of_host("/etc/resolv.conf")?))
}

/// What is to be said of it; one that cannot be read keeps a container from being created, and is told then.
pub fn resolv_conf_warnings(hands: &Hands, attempt: u32) -> Option<Input> {
    let warnings = resolv_conf(hands).ok()?.warnings;
    (!warnings.is_empty()).then_some(Input::ResolvConfWarnings { attempt, warnings })
}

/// A file of the host, whoever wrote it in whatever encoding; empty if it is not there.
fn of_host(path: &str) -> Result<String, file::FileError> {
    file::read_lossy_if_there(Path::new(path)).map(Option::unwrap_or_default)
}

fn create_error(failure: &Failure) -> String {
    match failure {
        Failure::Create { message } | Failure::Start { message } => {
            format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: {message}"
            )
        }
        Failure::State { message } | Failure::Other { message } => message.clone(),
    }
}

/// 64 hex digits.
fn random_id() -> String {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => filled += length,
            // Interrupted by a signal: the only failure of a request this small.
            Err(_) => continue,
        }
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The log file of one instance.
#[must_use]
pub fn log(hands: &Hands, instance: &InstanceId) -> PathBuf {
    let pod = hands.pod();
    let meta = &pod.meta;
    let dir = hands.layout().pod_logs(&meta.namespace, &meta.name, &meta.uid);
    dir.join(&instance.container).join(format!("{}.log", instance.attempt))
}

/// The exit is in the record: the shim may forget it, and its files go. Its log stays.
pub async fn release(hands: &Rc<Hands>, instance: InstanceId) {
    hands.urge(Command::Forget { instance: instance.clone() }).await;
    release_files(hands, &instance).await;
}

async fn release_files(hands: &Hands, instance: &InstanceId) {
    let instance_dir = hands.files().instance(&instance.container, instance.attempt);
    let writable_dir = hands.files().writable(&instance.container, instance.attempt);
    let sub_paths = volume::of_instance(hands.files(), instance);
    if sub_paths.directories.iter().any(|directory| directory.exists())
        && let Err(error) = hands.task::<serde_json::Value>("volumes-down", &sub_paths).await
    {
        tracing::warn!(%instance, error, "parts of volumes were not removed; the pod's end will");
    }
    let down = RootfsInput { image_id: String::new(), instance_dir, writable_dir };
    if let Err(error) = hands.task::<serde_json::Value>("rootfs-down", &down).await {
        tracing::warn!(%instance, error, "the rootfs was not removed; the pod's end will");
    }
}

/// Removes the log, with all that was rotated of it, of an instance that is not the newest dead one any more.
pub fn remove_logs(hands: &Hands, instance: &InstanceId) {
    if let Err(error) = rotate::remove_all(&log(hands, instance)) {
        tracing::warn!(error = &error as &dyn std::error::Error, "a log was not removed");
    }
}

/// Volumes and logs of a pod that is over. What is left of mounts and files the shim removes with the
/// pod's directory.
pub async fn remove_everything(hands: &Hands) {
    let down = volume::all(hands.files());
    if let Err(error) = hands.task::<serde_json::Value>("volumes-down", &down).await {
        tracing::warn!(error, "volumes were not removed; the shim will");
    }
    let pod = hands.pod();
    let meta = &pod.meta;
    let logs = hands.layout().pod_logs(&meta.namespace, &meta.name, &meta.uid);
    match fs::remove_dir_all(&logs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %logs.display(), %error, "logs were not removed");
        }
        _ => {}
    }
}

/// An ended instance's last words: its file, or the end of its log where it asks for that (reference 8.6).
pub fn termination_message(hands: &Hands, instance: &InstanceId, ended: Ended) -> String {
    let dir = hands.files().instance(&instance.container, instance.attempt);
    let message = file::tail(&dir.join("termination-log"), MESSAGE_LIMIT);
    let pod = hands.pod();
    let falls_back =
        pod.spec.container(&instance.container).is_some_and(|container| container.message_falls_back_to_logs);
    if !message.is_empty() || !falls_back || ended.exit.code() == 0 {
        return message;
    }
    log_tail(&file::last_lines(&log(hands, instance), LOG_READ))
}

/// The contents of the last lines of a CRI log.
fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let mut text = String::new();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        let mut fields = line.splitn(4, ' ');
        if let (Some(tag), Some(content)) = (fields.nth(2), fields.next()) {
            text.push_str(content);
            if tag.starts_with('F') {
                text.push('\n');
            }
        }
    }
    let cut = text.len().saturating_sub(LOG_LIMIT);
    let cut = (cut..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    text.split_off(cut)
}

/// An error with all its causes in one line.
pub fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_at_most_80_lines_and_2048_bytes() {
        let line = |n: usize| format!("2024-01-02T03:04:05.123456789Z stdout F line {n}\n");
        let log: String = (0..200).map(line).collect();
        let tail = log_tail(&log);
        assert_eq!(tail.lines().count(), 80);
        assert!(tail.starts_with("line 120\n") && tail.ends_with("line 199\n"));
        let wide = format!(
            "2024-01-02T03:04:05Z stderr P {}\n2024-01-02T03:04:05Z stderr F end\n",
            "é".repeat(2000)
        );
        let tail = log_tail(&wide);
        assert!(tail.len() <= 2048 && tail.ends_with("éend\n"));
    }

    #[test]
    fn a_long_line_of_a_log_counts_also_where_it_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let long = "a b ".repeat(4 * 1024);
        let line = |content: &str| format!("2024-01-02T03:04:05.123456789Z stderr F {content}\n");
        fs::write(&path, [line(&long), line(&long), line("end")].concat()).unwrap();
        let tail = log_tail(&file::last_lines(&path, LOG_READ));
        assert_eq!((tail.len(), &tail[tail.len() - 10..]), (2048, " b a b \nend\n".split_at(2).1));
    }
}
