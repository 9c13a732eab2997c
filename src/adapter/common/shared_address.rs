//! The address of a broker, which can be replaced while an adapter uses it.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;

/// The address for new connections. Clones share it.
#[derive(Clone)]
pub(in crate::adapter) struct SharedAddress<A>(Arc<RwLock<A>>);

impl<A: Clone> SharedAddress<A> {
    pub(in crate::adapter) fn new(address: A) -> Self {
        Self(Arc::new(RwLock::new(address)))
    }

    /// Returns the present address.
    pub(in crate::adapter) fn now(&self) -> A {
        self.0.read().clone()
    }

    /// Replaces the address by that of another adapter. Connections that exist stay.
    pub(in crate::adapter) fn replace(&self, other: &Self) {
        let address = other.now();
        *self.0.write() = address;
    }

    /// Changes the address before it is used.
    #[cfg(feature = "nats")]
    pub(in crate::adapter) fn change(&self, change: impl FnOnce(&mut A)) {
        change(&mut self.0.write());
    }
}

impl<A> fmt::Debug for SharedAddress<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address contains credentials.
        f.debug_struct("SharedAddress").finish_non_exhaustive()
    }
}
