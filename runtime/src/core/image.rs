//! The image of a container that is to start: policies, pulls, their back-off and events (reference 4.6).
//!
//! The store is asked twice where a pull may be needed: first whether the image is here, then, after the
//! back-off was looked at and `Pulling` was recorded, for the pull itself.

use std::time::Duration;

use super::action::Action;
use super::backoff::Backoff;
use super::input::{ImageFailure, InstanceId};
use super::pass::Waiting;
use super::start::Errand;
use super::status::EventType;
use super::turn::Turn;
use crate::image::Reference;
use crate::manifest::pod::PullPolicy;

impl Turn<'_> {
    /// Asks for the image of the instance that is to start.
    pub(super) fn ask_image(&mut self, id: InstanceId) {
        match self.container(&id.container).map(|container| container.pull_policy) {
            Some(PullPolicy::IfNotPresent) => self.ensure_image(id, Errand::Look),
            Some(PullPolicy::Never) => self.ensure_image(id, Errand::Only),
            Some(PullPolicy::Always) => self.pull(id),
            None => {}
        }
    }

    fn ensure_image(&mut self, id: InstanceId, errand: Errand) {
        let Some(container) = self.container(&id.container) else {
            return;
        };
        let policy = match errand {
            Errand::Look | Errand::Only => PullPolicy::Never,
            Errand::Pull => container.pull_policy,
        };
        let image = container.image.clone();
        self.record_of(&id.container).asked = Some(image.clone());
        self.act(Action::EnsureImage { instance: id.clone(), image, policy });
        self.wait(Waiting::Image { instance: id, errand });
    }

    fn pull(&mut self, id: InstanceId) {
        let image = self.image_of(&id);
        let entry = self.state.pulls.get(&image).cloned();
        if let Some(until) = Backoff::pull_until(entry.as_ref().map(|(entry, _)| *entry), self.now.mono) {
            let text = format!("Back-off pulling image \"{image}\"");
            self.event(&id.container, EventType::Normal, "BackOff", text.clone());
            let message = match entry {
                Some((_, error)) if !error.is_empty() => format!("{text}: ErrImagePull: {error}"),
                _ => text,
            };
            self.fail_image(&id, "ImagePullBackOff", message, Some(until));
        } else if let Err(error) = image.parse::<Reference>() {
            let message = error.in_event(&image);
            self.event(&id.container, EventType::Warning, "InspectFailed", message.clone());
            self.fail_image(&id, "InvalidImageName", message, None);
        } else {
            self.event(&id.container, EventType::Normal, "Pulling", format!("Pulling image \"{image}\""));
            self.ensure_image(id, Errand::Pull);
        }
    }

    /// The image is there.
    pub(super) fn image_ready(
        &mut self,
        id: &InstanceId,
        resolved: (String, String),
        pulled: Option<(u64, u64)>,
    ) {
        if self.image_errand(id).is_none() {
            return;
        }
        self.answered();
        if self.asked_for_another(&id.container) {
            return self.begin_anew(&id.container);
        }
        let image = self.image_of(id);
        let text = match pulled {
            None => format!("Container image \"{image}\" already present on machine"),
            Some((milliseconds, size)) => {
                let took = go_fraction(Duration::from_millis(milliseconds));
                format!(
                    "Successfully pulled image \"{image}\" in {took} ({took} including waiting). \
                     Image size: {size} bytes."
                )
            }
        };
        self.event(&id.container, EventType::Normal, "Pulled", text);
        self.record_of(&id.container).image = Some(resolved);
        self.create(id, image);
    }

    /// The image is not there.
    pub(super) fn image_failed(&mut self, id: &InstanceId, reason: ImageFailure, message: &str) {
        let Some(errand) = self.image_errand(id) else {
            return;
        };
        self.answered();
        if self.state.deletion.is_some() {
            return;
        }
        if self.asked_for_another(&id.container) {
            return self.begin_anew(&id.container);
        }
        let image = self.image_of(id);
        match (reason, errand) {
            (ImageFailure::InvalidName, _) => {
                self.event(&id.container, EventType::Warning, "InspectFailed", message.to_owned());
                self.fail_image(id, "InvalidImageName", message.to_owned(), None);
            }
            (ImageFailure::NeverPull | ImageFailure::Pull, Errand::Look) => self.pull(id.clone()),
            (ImageFailure::NeverPull | ImageFailure::Pull, Errand::Only) => {
                let text = format!("Container image \"{image}\" is not present with pull policy of Never");
                self.event(&id.container, EventType::Warning, "ErrImageNeverPull", text.clone());
                self.fail_image(id, "ErrImageNeverPull", text, None);
            }
            (ImageFailure::NeverPull | ImageFailure::Pull, Errand::Pull) => {
                let text = format!("Failed to pull image \"{image}\": {message}");
                self.event(&id.container, EventType::Warning, "Failed", text);
                let entry = self.state.pulls.get(&image).map(|(entry, _)| *entry);
                let raised = Backoff::raise(entry, self.now.mono, self.now.mono);
                self.state.pulls.insert(image, (raised, message.to_owned()));
                self.fail_image(id, "ErrImagePull", message.to_owned(), None);
            }
        }
    }

    fn fail_image(
        &mut self,
        id: &InstanceId,
        reason: &str,
        message: String,
        until: Option<super::time::Mono>,
    ) {
        self.event(&id.container, EventType::Warning, "Failed", format!("Error: {reason}"));
        self.fail_start(&id.container, reason, Some(message), until);
    }

    fn image_errand(&self, id: &InstanceId) -> Option<Errand> {
        match self.awaited() {
            Some(Waiting::Image { instance, errand }) if instance == id => Some(*errand),
            _ => None,
        }
    }

    fn image_of(&self, id: &InstanceId) -> String {
        self.container(&id.container).map(|container| container.image.clone()).unwrap_or_default()
    }
}

/// A duration as Go prints one rounded to milliseconds: `843ms`, `1.2s`, `1m2.5s`.
fn go_fraction(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return match duration.as_millis() {
            0 => "0s".to_owned(),
            millis => format!("{millis}ms"),
        };
    }
    let (whole, millis) = (duration.as_secs(), duration.subsec_millis());
    let fraction = format!("{millis:03}");
    let fraction = fraction.trim_end_matches('0');
    let seconds = match fraction {
        "" => format!("{}s", whole % 60),
        fraction => format!("{}.{fraction}s", whole % 60),
    };
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_pulls_look_as_in_go() {
        let shown = |millis| go_fraction(Duration::from_millis(millis));
        assert_eq!([shown(0), shown(843), shown(1200), shown(62_500)], ["0s", "843ms", "1.2s", "1m2.5s"]);
    }
}
