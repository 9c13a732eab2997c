use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use roomcast_protocol::socket::Nsp;
use tokio::sync::watch;

use crate::client::ClientError;

/// What all handles of one namespace share with the task.
#[derive(Debug)]
pub(crate) struct SharedNamespace {
    pub(crate) nsp: Nsp,
    pub(crate) state: watch::Sender<SocketState>,
}

/// What a socket tells of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketState {
    /// The id of the socket, only while it is connected.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) recovered: bool,
    /// Whether the socket is connected, or will be as soon as that is possible.
    pub(crate) is_active: bool,
}

/// How much may wait to be sent, over all sockets of a client.
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

    /// A share for something of this size, if there is one.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Charge, ClientError> {
        let bytes = bytes.saturating_add(OVERHEAD);
        // `Relaxed` is enough: the count guards no other memory, and one exchange takes a share
        // whole or not at all.
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

/// What an event that waits takes besides its name and arguments, in bytes; roughly, so that many
/// small ones are bounded as well.
const OVERHEAD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_makes_room_for_what_comes() {
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
