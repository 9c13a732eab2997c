use std::{
    any::Any,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use roomcast_protocol::socket::Nsp;
use tokio::sync::watch;

use crate::client::ClientError;

/// The state that all handles of one namespace share with the task.
#[derive(Debug)]
pub(crate) struct SharedNamespace {
    pub(crate) nsp: Nsp,
    pub(crate) state: watch::Sender<SocketState>,
    /// The state of another module, which [`Socket::attachment`](super::Socket::attachment)
    /// creates.
    pub(super) attachment: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The state that a socket handle can query.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketState {
    /// The id of the socket while it is connected.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) recovered: bool,
    /// Whether the socket is connected, or connects as soon as the server is reachable.
    pub(crate) is_active: bool,
}

/// A limit on unsent data, shared by all sockets of a client, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    waiting: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            max,
        })
    }

    /// Reserves space for an event of this size.
    ///
    /// # Errors
    /// Returns [`ClientError::Full`] if the space is not available.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Charge, ClientError> {
        let bytes = bytes.saturating_add(OVERHEAD);
        // `Relaxed` is enough: the counter guards no other memory, and the update is atomic.
        let taken = self
            .waiting
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                waiting.checked_add(bytes).filter(|sum| *sum <= self.max)
            });
        taken.map_err(|_| ClientError::Full)?;
        Ok(Charge {
            budget: Arc::clone(self),
            bytes,
        })
    }
}

/// A share of a [`Budget`].
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Approximate size of a queued event without its name and arguments, in bytes. It bounds the
/// number of small events.
const OVERHEAD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_events_free_room_for_new_events() {
        let budget = Budget::new(1000);
        let first = budget.take(400).unwrap();
        assert!(matches!(budget.take(400), Err(ClientError::Full)));
        let small = budget.take(88).unwrap();
        assert!(matches!(budget.take(0), Err(ClientError::Full)));
        drop((first, small));
        assert!(budget.take(744).is_ok());
        assert!(matches!(budget.take(usize::MAX), Err(ClientError::Full)));
    }
}
