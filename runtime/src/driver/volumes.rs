//! The pod's volumes: made before its containers are, and brought up to date when objects change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::container::text_of;
use super::hands::Hands;
use crate::core::input::Input;
use crate::store::objects::Objects;
use crate::{spec, volume};

/// How long after a failure it is tried again: at first, and at most after one that follows another. The kubelet's for volumes.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(122);

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
    first(carry_out_steps(hands, "volumes", steps).await)
}

/// Has the pod's volumes show what objects hold, each time that the core asks for it. After a failure the core is told later,
/// and ever later.
pub async fn keep_up_to_date(hands: Rc<Hands>) {
    let mut shown = None;
    let mut pause = None;
    loop {
        asked(&hands, pause).await;
        pause = match refresh(&hands, &mut shown).await {
            Refreshed::Whole => None,
            Refreshed::InPart => Some(pause.map_or(FIRST_PAUSE, |pause| LONGEST_PAUSE.min(pause * 2))),
        };
    }
}

/// Waits until the core asks, and reminds it after a pause.
async fn asked(hands: &Hands, pause: Option<Duration>) {
    if let Some(pause) = pause {
        if timeout(pause, hands.refresh_asked()).await.is_ok() {
            return;
        }
        // The core knows whether the pod still has volumes.
        hands.tell(Input::VolumesStale);
    }
    hands.refresh_asked().await;
}

/// Brings volumes up to date. `shown` tells what was written last, so that no task is started for objects that are none of
/// this pod's.
async fn refresh(hands: &Hands, shown: &mut Option<u64>) -> Refreshed {
    let (sources, host) = match (sources(hands), hands.host()) {
        (Ok(sources), Ok(host)) => (sources, host),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(error, "volumes are not up to date");
            return Refreshed::InPart;
        }
    };
    let (steps, errors) = volume::refresh(&hands.pod(), hands.files(), &sources, host);
    for error in errors {
        tracing::debug!(%error, "a volume stays as it is");
    }
    let digest = digest(&steps);
    if *shown == Some(digest) {
        return Refreshed::Whole;
    }
    *shown = None;
    let errors = carry_out_steps(hands, "refresh", steps).await;
    for error in &errors {
        tracing::warn!(%error, "a volume is not up to date");
    }
    if errors.is_empty() {
        *shown = Some(digest);
        return Refreshed::Whole;
    }
    Refreshed::InPart
}

/// What came of it.
enum Refreshed {
    Whole,
    /// Something could not be written.
    InPart,
}

fn digest(steps: &[volume::Step]) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(steps).expect("steps have only string keys").hash(&mut hasher);
    hasher.finish()
}

/// Has the host task carry steps out, and says what failed; `name` keeps concurrent callers apart.
pub(super) async fn carry_out_steps(
    hands: &Hands,
    name: &str,
    steps: Vec<volume::Step>,
) -> Vec<volume::Error> {
    if steps.is_empty() {
        return Vec::new();
    }
    let input = volume::UpInput { now: super::clock::wall(), steps };
    let carried_out = match volume::task_input(hands.files(), name, input) {
        Ok(input) => hands.task("volumes-up", &input).await,
        Err(error) => Err(error.to_string()),
    };
    carried_out.unwrap_or_else(|message| vec![volume::Error { volume: String::new(), message }])
}

/// The first failure, which is told; the others come to light in their turn.
pub(super) fn first(errors: Vec<volume::Error>) -> Result<(), volume::Error> {
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// The namespace's objects, read anew: a container started now sees what is there now.
pub fn sources(hands: &Hands) -> Result<spec::Sources, String> {
    let objects = Objects::open(hands.layout());
    objects.sources(&hands.pod().meta.namespace).map_err(|error| text_of(&error))
}
