//! The pending acknowledgements of one client.

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use tokio::sync::oneshot;

use crate::{
    metrics::{Gauge, Metrics},
    socket::types::AckError,
};

/// The acknowledgements that one socket owes.
#[derive(Debug, Default)]
pub(crate) struct AckTable(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Sorted by id. A new id belongs at the end, unless a task with a higher id registered first.
    waiting: Vec<(u64, oneshot::Sender<Args>)>,
    closed: bool,
}

impl AckTable {
    /// Registers a request with this id. Returns the receiver of its acknowledgement.
    pub(crate) fn register(
        &self,
        id: u64,
        limit: usize,
        metrics: &Metrics,
    ) -> Result<oneshot::Receiver<Args>, AckError> {
        let mut table = self.0.lock();
        if table.closed {
            return Err(AckError::Disconnected);
        }
        if table.waiting.len() >= limit {
            return Err(AckError::TooManyPending);
        }
        let (sender, receiver) = oneshot::channel();
        let place = table.waiting.partition_point(|(other, _)| *other < id);
        table.waiting.insert(place, (id, sender));
        metrics.shift(Gauge::AcksPending, 1);
        Ok(receiver)
    }

    /// Delivers an acknowledgement to its caller. Returns whether a caller is registered.
    pub(crate) fn resolve(&self, id: u64, args: &Args, metrics: &Metrics) -> bool {
        let Some(sender) = self.0.lock().take(id) else {
            return false;
        };
        metrics.shift(Gauge::AcksPending, -1);
        // The caller may have stopped waiting.
        let _ = sender.send(args.clone());
        true
    }

    /// Returns whether acknowledgements are pending.
    pub(crate) fn is_pending(&self) -> bool {
        !self.0.lock().waiting.is_empty()
    }

    /// Fails all pending and future acknowledgements.
    pub(crate) fn close(&self, metrics: &Metrics) {
        let mut table = self.0.lock();
        table.closed = true;
        // The senders are dropped without the lock. The drop notifies their receivers of the
        // disconnect.
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        metrics.shift(Gauge::AcksPending, -(waiting.len() as i64));
    }

    pub(crate) fn forget(&self, id: u64, metrics: &Metrics) {
        if self.0.lock().take(id).is_some() {
            metrics.shift(Gauge::AcksPending, -1);
        }
    }
}

impl Table {
    fn take(&mut self, id: u64) -> Option<oneshot::Sender<Args>> {
        let place = self.waiting.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, sender) = self.waiting.remove(place);
        if self.waiting.len() < self.waiting.capacity() / 4 {
            self.waiting.shrink_to(self.waiting.len() * 2);
        }
        Some(sender)
    }
}
