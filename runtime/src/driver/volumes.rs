//! The pod's volumes: made before its containers are, and brought up to date when objects change.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::container::text_of;
use super::hands::Hands;
use crate::core::input::Input;
use crate::store::objects::Objects;
use crate::{spec, volume};

/// Makes the pod's volumes.
pub async fn make(hands: &Hands) -> Input {
    match try_make(hands).await {
        Ok(()) => Input::VolumesReady,
        Err(volume::Error { volume, message }) => Input::VolumesFailed { volume, message },
    }
}

async fn try_make(hands: &Hands) -> Result<(), volume::Error> {
    let unnamed = |message: String| volume::Error { volume: String::new(), message };
    let sources = sources(hands).map_err(unnamed)?;
    let host = hands.host().map_err(unnamed)?;
    let steps = volume::plan(&hands.pod(), hands.files(), &sources, host)?;
    carry_out_steps(hands, "volumes", steps).await
}

/// Has the pod's volumes show what objects hold now. `shown` tells what was written last, so that no task is started for
/// objects that are none of this pod's.
pub async fn refresh(hands: &Hands, shown: &Cell<Option<u64>>) {
    let (sources, host) = match (sources(hands), hands.host()) {
        (Ok(sources), Ok(host)) => (sources, host),
        (Err(error), _) | (_, Err(error)) => return tracing::warn!(error, "volumes are not up to date"),
    };
    let (steps, errors) = volume::refresh(&hands.pod(), hands.files(), &sources, host);
    for error in errors {
        tracing::debug!(%error, "a volume stays as it is");
    }
    let digest = digest(&steps);
    if shown.get() == Some(digest) {
        return;
    }
    match carry_out_steps(hands, "refresh", steps).await {
        Ok(()) => shown.set(Some(digest)),
        Err(error) => tracing::warn!(%error, "volumes are not up to date"),
    }
}

fn digest(steps: &[volume::Step]) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(steps).expect("steps have only string keys").hash(&mut hasher);
    hasher.finish()
}

/// Has the host task carry steps out; `name` keeps concurrent callers apart.
pub(super) async fn carry_out_steps(
    hands: &Hands,
    name: &str,
    steps: Vec<volume::Step>,
) -> Result<(), volume::Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let unnamed = |message: String| volume::Error { volume: String::new(), message };
    let input = volume::UpInput { now: super::clock::wall(), steps };
    let input = volume::task_input(hands.files(), name, input).map_err(|error| unnamed(error.to_string()))?;
    match hands.task::<Option<volume::Error>>("volumes-up", &input).await {
        Ok(None) => Ok(()),
        Ok(Some(error)) => Err(error),
        Err(message) => Err(unnamed(message)),
    }
}

/// The namespace's objects, read anew: a container started now sees what is there now.
pub fn sources(hands: &Hands) -> Result<spec::Sources, String> {
    let objects = Objects::open(hands.layout());
    objects.sources(&hands.pod().meta.namespace).map_err(|error| text_of(&error))
}
