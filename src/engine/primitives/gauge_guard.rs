use crate::metrics::{Gauge, Metrics};

/// Counts an item in a gauge until it is dropped.
pub(in crate::engine) struct GaugeGuard<'a> {
    metrics: &'a Metrics,
    gauge: Gauge,
}

impl<'a> GaugeGuard<'a> {
    pub(in crate::engine) fn new(metrics: &'a Metrics, gauge: Gauge) -> Self {
        metrics.shift(gauge, 1);
        Self { metrics, gauge }
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.metrics.shift(self.gauge, -1);
    }
}
