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

/// The URL of an adapter, which can be replaced while the adapter is in use, for example because
/// its password has changed. Clones share it.
///
/// ```
/// # #[cfg(feature = "redis")]
/// # fn example() -> Result<(), roomcast::adapter::redis::InvalidUrl> {
/// use roomcast::adapter::redis::Redis;
///
/// let adapter = Redis::new("redis://:old@localhost")?;
/// let url = adapter.live_url();
/// // The adapter is in use now, and the password of the broker is replaced.
/// url.replace(&Redis::new("redis://:new@localhost")?);
/// # Ok(())
/// # }
/// ```
pub struct LiveUrl<A>(Arc<dyn Fn(&A) + Send + Sync>);

impl<A> LiveUrl<A> {
    pub(in crate::adapter) fn new(replace: impl Fn(&A) + Send + Sync + 'static) -> Self {
        Self(Arc::new(replace))
    }

    /// Replaces the URL by that of another adapter, which needs no server. New connections use the
    /// new URL. Connections that exist stay until they break.
    ///
    /// Both URLs must name the same broker. Otherwise servers that are connected to different
    /// brokers do not reach each other.
    pub fn replace(&self, other: &A) {
        (self.0)(other);
    }
}

impl<A> Clone for LiveUrl<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A> fmt::Debug for LiveUrl<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL contains credentials.
        f.debug_struct("LiveUrl").finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for SharedAddress<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address contains credentials.
        f.debug_struct("SharedAddress").finish_non_exhaustive()
    }
}
