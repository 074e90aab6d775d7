//! A pod that is given another manifest (reference 1.4, 4.4): labels and the like are simply there from now on, a container with another
//! image is killed and started anew whatever its policy says, and a deadline counts from the pod's start as before.

use super::input::ContainerKind;
use super::record::Life;
use super::turn::Turn;
use crate::image::digest::Digest;
use crate::manifest::pod::{Container, Pod};

impl Turn<'_> {
    /// There is a new manifest: readers see it, and a pass looks what follows.
    pub(super) fn pod_changed(&mut self) {
        self.state.generation += 1;
        self.state.again = true;
        self.state.manifest = Some(digest(self.pod));
        self.forget_pulls();
        self.refresh_volumes();
    }

    /// The pulls of an image that no container has any more are of no use.
    fn forget_pulls(&mut self) {
        let spec = &self.pod.spec;
        self.state.pulls.retain(|image, _| spec.all_containers().any(|container| container.image == *image));
    }

    /// A supervisor may have died between writing a manifest down and telling of it.
    pub(super) fn meet_changes(&mut self) {
        let pod = self.pod;
        let told = self.state.manifest.replace(digest(pod));
        if told.is_some() && told != self.state.manifest {
            self.state.generation += 1;
        }
        let seen = self.state.published.observed_generation;
        let unseen = pod.meta.generation != seen && seen != 0;
        if unseen || pod.spec.all_containers().any(|container| self.definition_changed(container)) {
            self.state.again = true;
        }
        self.forget_pulls();
    }

    /// Whether a container runs with another image than the manifest names.
    pub(super) fn definition_changed(&self, container: &Container) -> bool {
        let newest =
            self.state.records.get(container.name.as_str()).and_then(|record| record.newest.as_ref());
        newest.is_some_and(|newest| {
            let differs = newest.image.as_ref().is_some_and(|image| *image != container.image);
            differs && matches!(newest.life, Life::Running { .. })
        })
    }

    /// Another image has a back-off of its own, which begins anew (reference 4.5).
    pub(super) fn meet_image(&mut self, name: &str) {
        let image = self.image_named(name);
        let record = self.record_of(name);
        if record.backoff_of != image {
            if record.backoff_of.is_some() {
                record.backoff = None;
            }
            record.backoff_of = image;
        }
    }

    /// Whether an instance was asked for with another image than the manifest names by now.
    pub(super) fn asked_for_another(&self, name: &str) -> bool {
        let asked = self.state.records.get(name).and_then(|record| record.asked.as_ref());
        asked.is_some_and(|asked| Some(asked) != self.image_named(name).as_ref())
    }

    /// The image of a container, as the manifest names it.
    pub(super) fn image_named(&self, name: &str) -> Option<String> {
        self.container(name).map(|container| container.image.clone())
    }

    /// Why it is killed, as the kubelet says it.
    pub(super) fn definition_message(&self, name: &str) -> String {
        match self.kind(name) {
            Some(ContainerKind::Sidecar) => format!("Init container {name} definition changed"),
            Some(ContainerKind::Init | ContainerKind::Main) | None => {
                format!("Container {name} definition changed, will be restarted")
            }
        }
    }
}

/// Of what a change of the manifest changes for readers: what is said about the pod, and the count of changes of its spec.
pub(super) fn digest(pod: &Pod) -> String {
    let told = (&pod.meta.labels, &pod.meta.annotations, pod.meta.generation);
    let json = serde_json::to_vec(&told).expect("texts and numbers are JSON");
    Digest::of(&json).hex().to_owned()
}
