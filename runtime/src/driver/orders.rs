//! Orders of the front doors: each is answered once, and each that changes the pod goes through a step.

use hull_shim::wire::{Answer, Command, Failure, InstanceId};
use std::rc::Rc;

use tokio::sync::oneshot;

use super::handle::{Order, Output, Refusal, Session};
use super::hands::Hands;
use super::{Driver, unheard};
use crate::core::input::Input;
use crate::manifest::pod::ContainerName;
use crate::manifest::{self, Update, raw};
use crate::store::file;

impl Driver {
    pub(super) async fn order(&mut self, order: Order) {
        match order {
            Order::Delete { grace_seconds, reply } => {
                self.step(Input::Delete { grace_seconds }).await;
                unheard(reply.send(Ok(self.refresh())));
            }
            Order::Replace { pod, reply } => {
                let replaced = self.replace(&pod).await;
                unheard(reply.send(replaced.map(|()| self.refresh())));
            }
            Order::ObjectsChanged => self.hands.objects_changed(),
            Order::Exec { container, args, tty, stdin, reply } => {
                let Some((instance, reply)) = self.running(&container, reply) else { return };
                let execs = self.hands.execs().clone();
                tokio::task::spawn_local(async move {
                    let session = execs.session(instance, args, tty, stdin).await;
                    unheard(reply.send(session.map_err(|failure| exec_refusal(&failure))));
                });
            }
            Order::Attach { container, stdin, reply } => {
                let Some((instance, reply)) = self.running(&container, reply) else { return };
                let hands = self.hands.clone();
                tokio::task::spawn_local(async move {
                    unheard(reply.send(attach(hands, instance, stdin).await));
                });
            }
            Order::Running { container, reply } => {
                if let Some((_, reply)) = self.running(&container, reply) {
                    unheard(reply.send(Ok(())));
                }
            }
            Order::Statistics { container, reply } => {
                let instance = match container {
                    Some(container) => match self.running(&container, reply) {
                        Some((instance, reply)) => return self.statistics(Some(instance), reply),
                        None => return,
                    },
                    None => None,
                };
                self.statistics(instance, reply);
            }
        }
    }

    /// Gives the pod another manifest, if it differs in nothing but what may change.
    async fn replace(&mut self, new: &raw::Pod) -> Result<(), Refusal> {
        let old = self.hands.version().manifest;
        let state = self.state.as_ref().expect("a state is there between orders");
        check_preconditions(&old.metadata, state.generation(), &new.metadata)?;
        let change = match manifest::changed(&old, new) {
            Update::Unchanged => return Ok(()),
            Update::Forbidden(invalid) => return Err(invalid.into()),
            Update::Allowed(change) => change,
        };
        let accepted = manifest::replaced(&old, new, &change)?;
        let json = serde_json::to_vec(&accepted.object).expect("a Pod object has only string keys");
        let written = file::write_whole(&self.hands.files().manifest(), &json, 0o600);
        written.map_err(|error| Refusal::Failed(format!("{error}: {}", error.source)))?;
        self.hands.replace(accepted);
        self.step(Input::PodChanged).await;
        Ok(())
    }

    /// The running instance of a container; else the order is refused.
    fn running<T>(
        &self,
        container: &ContainerName,
        reply: oneshot::Sender<Result<T, Refusal>>,
    ) -> Option<(InstanceId, oneshot::Sender<Result<T, Refusal>>)> {
        let running = self.state.as_ref().and_then(|state| state.running(container.as_str()));
        match running {
            Some(instance) => Some((instance, reply)),
            None => {
                let phase = self.handle.snapshot().view.status.phase;
                let refusal = match phase.is_terminal() {
                    true => Refusal::Completed(format!("{phase:?}")),
                    false => Refusal::NotRunning(container.as_str().to_owned()),
                };
                unheard(reply.send(Err(refusal)));
                None
            }
        }
    }

    fn statistics(
        &self,
        instance: Option<InstanceId>,
        reply: oneshot::Sender<Result<hull_shim::wire::Statistics, Refusal>>,
    ) {
        let shim = self.hands.shim().clone();
        tokio::task::spawn_local(async move {
            let answer = shim.ask(Command::Statistics { instance }, &[]).await;
            unheard(reply.send(match answer {
                Ok((Answer::Statistics(statistics), _)) => Ok(statistics),
                Ok((other, _)) => Err(Refusal::Failed(format!("the shim answered with {other:?}"))),
                Err(failure) => Err(Refusal::Failed(failure.to_string())),
            }));
        });
    }
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Refuses an object that was made from another pod, or from what this one is no more. One that names neither is of any.
fn check_preconditions(old: &raw::ObjectMeta, version: u64, new: &raw::ObjectMeta) -> Result<(), Refusal> {
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (uid, current) = (named(&new.uid), named(&old.uid).unwrap_or_default());
    let is_of_version = |text: String| text == "0" || text == version.to_string();
    let why = match (uid, named(&new.resource_version)) {
        (Some(uid), _) if uid != current => {
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current}")
        }
        (_, Some(version)) if !is_of_version(version.clone()) => MODIFIED.to_owned(),
        _ => return Ok(()),
    };
    Err(Refusal::Conflict { name: old.name.clone().unwrap_or_default(), why })
}

/// A command that cannot be started, in the words that kubectl's users know.
fn exec_refusal(failure: &Failure) -> Refusal {
    match failure {
        Failure::State { .. } | Failure::Other { .. } | Failure::Create { .. } => {
            Refusal::Failed(failure.to_string())
        }
        Failure::Start { message } => {
            Refusal::Failed(format!("OCI runtime exec failed: exec failed: {message}"))
        }
    }
}

async fn attach(hands: Rc<Hands>, instance: InstanceId, stdin: bool) -> Result<Session, Refusal> {
    let failed = |failure: Failure| Refusal::Failed(failure.to_string());
    let command = Command::Attach { instance: instance.clone() };
    let (_, mut descriptors) = hands.shim().ask(command, &[]).await.map_err(failed)?;
    let (Some(output), Some(input)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(Refusal::Failed("the shim sent no streams".into()));
    };
    let resize = hands.execs().resizer(instance, None);
    Ok(Session { stdin: stdin.then_some(input), output: Output::Packets(output), exit: None, resize })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, version: &str) -> raw::ObjectMeta {
        let text = |text: &str| Some(text.to_owned());
        raw::ObjectMeta {
            name: text("web"),
            uid: text(uid),
            resource_version: text(version),
            ..raw::ObjectMeta::default()
        }
    }

    #[test]
    fn an_object_of_another_pod_or_state_is_a_conflict() {
        let check = |uid, version| {
            check_preconditions(&meta("u1", ""), 7, &meta(uid, version))
                .map_err(|refusal| refusal.to_string())
        };
        for (uid, version) in [("", ""), ("u1", "7"), ("u1", "0"), ("", "7")] {
            assert_eq!(check(uid, version), Ok(()), "{uid} {version}");
        }
        let conflict = |why: &str| Err(format!("Operation cannot be fulfilled on pods \"web\": {why}"));
        for version in ["6", "8", "07", "x"] {
            assert_eq!(check("u1", version), conflict(MODIFIED));
        }
        let other = "Precondition failed: UID in precondition: u2, UID in object meta: u1";
        assert_eq!(check("u2", "6"), conflict(other));
    }
}
