use std::sync::Arc;

use tokio::sync::Notify;

use crate::metrics::{Gauge, Metrics};

/// Counts a connection until it is dropped.
pub(in crate::engine) struct OpenConnection {
    metrics: Arc<Metrics>,
    ended: Arc<Notify>,
}

impl OpenConnection {
    /// Counts a connection. Its end notifies those who wait for `ended`.
    pub(in crate::engine) fn new(metrics: &Arc<Metrics>, ended: &Arc<Notify>) -> Self {
        metrics.shift(Gauge::Connections, 1);
        Self {
            metrics: Arc::clone(metrics),
            ended: Arc::clone(ended),
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.shift(Gauge::Connections, -1);
        self.ended.notify_waiters();
    }
}
