//! How policies tell observers of what they have learnt.

use std::fmt;
use std::sync::{Arc, OnceLock};

use merpati_plugin::{Event, Observers};

/// Tells observers, once there are any: policies are made before. Clones share them.
#[derive(Clone, Default)]
pub struct Tell(Arc<OnceLock<Observers>>);

impl Tell {
    /// Tells these from now on. Only the first ones given count.
    pub fn connect(&self, observers: Observers) {
        // Others would be the same.
        let _ = self.0.set(observers);
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(observers) = self.0.get() {
            observers.tell(event);
        }
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tell").field(&self.0.get().is_some()).finish()
    }
}
