//! The manifests that the pod had and has: a list that only grows, so that what a task holds of one stays as it is while the pod is
//! given the next.

use std::cell::OnceCell;
use std::sync::Arc;

use serde_json::Value;

use crate::manifest::Accepted;

/// One manifest, and the next if there is one.
#[derive(Debug)]
pub struct Versions {
    accepted: Accepted,
    object: Arc<Value>,
    next: OnceCell<Box<Versions>>,
}

impl Versions {
    /// The first.
    #[must_use]
    pub fn new(accepted: Accepted) -> Self {
        let object = serde_json::to_value(&accepted.object).expect("a Pod object has only string keys");
        Self { accepted, object: Arc::new(object), next: OnceCell::new() }
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> &Accepted {
        &self.last().accepted
    }

    /// The newest as the API shows it.
    #[must_use]
    pub fn object(&self) -> Arc<Value> {
        self.last().object.clone()
    }

    /// From now on it is this one.
    pub fn add(&self, accepted: Accepted) {
        self.last().next.get_or_init(|| Box::new(Self::new(accepted)));
    }

    fn last(&self) -> &Self {
        let mut version = self;
        while let Some(next) = version.next.get() {
            version = next;
        }
        version
    }
}
