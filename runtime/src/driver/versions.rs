//! The manifest that the pod has. What a task holds of one stays as it is while the pod is given the next, and goes with the last
//! task that holds it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::manifest::pod::Pod;
use crate::manifest::{Accepted, raw};

/// One manifest, in each form that is asked for.
#[derive(Debug, Clone)]
pub struct Version {
    /// What hull works with.
    pub pod: Rc<Pod>,
    /// As written, with defaults and identity.
    pub manifest: Rc<raw::Pod>,
    /// As the API shows it.
    pub object: Arc<Value>,
}

impl From<Accepted> for Version {
    fn from(Accepted { pod, object }: Accepted) -> Self {
        let shown = serde_json::to_value(&object).expect("a Pod object has only string keys");
        Self { pod: Rc::new(pod), manifest: Rc::new(object), object: Arc::new(shown) }
    }
}

/// The newest manifest, which may be replaced while others are held.
#[derive(Debug)]
pub struct Versions(RefCell<Version>);

impl Versions {
    /// The first.
    #[must_use]
    pub fn new(accepted: Accepted) -> Self {
        Self(RefCell::new(accepted.into()))
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Version {
        self.0.borrow().clone()
    }

    /// From now on it is this one.
    pub fn replace(&self, accepted: Accepted) {
        self.0.replace(accepted.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Identity, Loaded, accept, load};

    fn accepted(image: &str) -> Accepted {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: app, image: {image}}}]}}"
        );
        let Loaded::Pod(pod) = load(&text, "x").remove(0).unwrap() else { panic!("it is a Pod") };
        accept(*pod, Identity { uid: "u".into(), created: jiff::Timestamp::UNIX_EPOCH }).unwrap()
    }

    #[test]
    fn a_manifest_stays_as_long_as_it_is_held_and_no_longer() {
        let versions = Versions::new(accepted("one"));
        let held = versions.newest().pod;
        versions.replace(accepted("two"));
        assert_eq!(held.spec.containers[0].image, "one");
        let second = Rc::downgrade(&versions.newest().pod);
        versions.replace(accepted("three"));
        assert_eq!(versions.newest().pod.spec.containers[0].image, "three");
        assert!(second.upgrade().is_none());
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
