//! The orders that this server is executing. Each has one task; other tasks can wait for its end.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::metrics::Size;

/// The orders that are being executed. Clones share the same state.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningOrders(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

/// The exclusive right to execute an order, until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    running: RunningOrders,
    trade_id: String,
}

impl RunningOrders {
    /// Claims an order. If it is already claimed, returns a receiver that is closed when that claim
    /// ends.
    pub(super) fn begin(&self, trade_id: &str) -> Result<Claim, watch::Receiver<()>> {
        let mut running = self.0.lock();
        if let Some(end) = running.get(trade_id) {
            return Err(end.subscribe());
        }
        running.insert(trade_id.to_owned(), watch::Sender::new(()));
        Ok(Claim {
            running: self.clone(),
            trade_id: trade_id.to_owned(),
        })
    }

    /// Returns the number of claimed orders, with the bytes of the table.
    pub(super) fn size(&self) -> Size {
        Size::of_map(&self.0.lock())
    }

    /// Returns whether an order is claimed.
    pub(super) fn has(&self, trade_id: &str) -> bool {
        self.0.lock().contains_key(trade_id)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Dropping the sender closes all receivers, which wakes waiting tasks even after a panic.
        self.running.0.lock().remove(&self.trade_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn order_has_one_executor_and_other_callers_see_its_end() {
        let running = RunningOrders::default();
        let first = running.begin("t").unwrap();
        let mut waiting = running.begin("t").unwrap_err();
        assert!(running.begin("other").is_ok());
        assert!(running.has("t") && !running.has("other"));
        drop(first);
        assert!(waiting.changed().await.is_err());
        assert!(running.begin("t").is_ok());
    }
}
