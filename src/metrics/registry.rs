use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Exposition, Table,
    histogram::{DurationCounts, Histogram, SIZES, TIMES},
};

/// Counters, gauges, durations and sizes: the rows of four tables, and those that extend it.
///
/// A count is one relaxed addition; a duration or size is two. A kind of metrics without a table
/// has no rows.
pub struct Registry<C, G = Infallible, T = Infallible, S = Infallible>
where
    C: Table,
    G: Table,
    T: Table,
    S: Table,
{
    counters: C::Cells<AtomicU64>,
    gauges: G::Cells<AtomicI64>,
    timings: T::Cells<Histogram>,
    sizes: S::Cells<Histogram>,
    extensions: Mutex<Vec<Arc<Extension>>>,
}

type Extension = dyn Fn(&mut Exposition) + Send + Sync;

impl<C: Table, G: Table, T: Table, S: Table> Registry<C, G, T, S> {
    /// Creates a registry with all rows at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counters: C::cells(|| AtomicU64::new(0)),
            gauges: G::cells(|| AtomicI64::new(0)),
            timings: T::cells(|| Histogram::new(&TIMES)),
            sizes: S::cells(|| Histogram::new(&SIZES)),
            extensions: Mutex::default(),
        }
    }

    /// Adds rows, such as those of another registry, which are written after the rows that exist.
    ///
    /// `extension` runs each time the metrics are read.
    pub fn extend(&self, extension: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.extensions.lock().push(Arc::new(extension));
    }

    /// Adds one to a counter.
    #[inline]
    pub fn count(&self, counter: C) {
        self.add(counter, 1);
    }

    /// Adds `n` to a counter.
    #[inline]
    pub fn add(&self, counter: C, n: u64) {
        if let Some(cell) = self.counters.as_ref().get(counter.position()) {
            // Counters do not synchronize other memory, so relaxed additions are sufficient.
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Returns the value of a counter.
    #[must_use]
    pub fn counter(&self, counter: C) -> u64 {
        let cell = self.counters.as_ref().get(counter.position());
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Changes a gauge by `delta`.
    #[inline]
    pub fn shift(&self, gauge: G, delta: i64) {
        if let Some(cell) = self.gauges.as_ref().get(gauge.position()) {
            cell.fetch_add(delta, Ordering::Relaxed);
        }
    }

    /// Returns the value of a gauge.
    #[must_use]
    pub fn gauge(&self, gauge: G) -> i64 {
        let cell = self.gauges.as_ref().get(gauge.position());
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Records a duration.
    pub fn time(&self, timing: T, took: Duration) {
        if let Some(histogram) = self.timings.as_ref().get(timing.position()) {
            histogram.time(took);
        }
    }

    /// Returns the number of recorded durations.
    #[must_use]
    pub fn timed(&self, timing: T) -> u64 {
        let histogram = self.timings.as_ref().get(timing.position());
        histogram.map_or(0, Histogram::count)
    }

    /// Returns the duration below which this fraction (0 to 1) of the recorded durations lie, or
    /// `None` if none was recorded. The precision depends on the width of the buckets.
    #[must_use]
    pub fn quantile(&self, timing: T, part: f64) -> Option<Duration> {
        self.durations(timing).quantile(part)
    }

    /// Returns the number of recorded durations in each bucket.
    #[must_use]
    pub fn durations(&self, timing: T) -> DurationCounts {
        let histogram = self.timings.as_ref().get(timing.position());
        histogram.map_or_else(DurationCounts::default, Histogram::snapshot)
    }

    /// Records a size in bytes.
    pub fn size(&self, size: S, bytes: usize) {
        if let Some(histogram) = self.sizes.as_ref().get(size.position()) {
            histogram.note(bytes as u64);
        }
    }

    /// Returns the number of recorded sizes.
    #[must_use]
    pub fn sized(&self, size: S) -> u64 {
        let histogram = self.sizes.as_ref().get(size.position());
        histogram.map_or(0, Histogram::count)
    }

    /// Writes all rows.
    pub fn expose(&self, out: &mut Exposition) {
        for (row, value) in C::ROWS.iter().zip(self.counters.as_ref()) {
            out.row("counter", row, &value.load(Ordering::Relaxed));
        }
        for (row, value) in G::ROWS.iter().zip(self.gauges.as_ref()) {
            out.row("gauge", row, &value.load(Ordering::Relaxed));
        }
        // Durations are recorded in microseconds and written in seconds.
        for (row, times) in T::ROWS.iter().zip(self.timings.as_ref()) {
            out.histogram(row, times, 1e6);
        }
        for (row, sizes) in S::ROWS.iter().zip(self.sizes.as_ref()) {
            out.histogram(row, sizes, 1.0);
        }
        // Not locked while extensions run, which may use this registry.
        let extensions = self.extensions.lock().clone();
        for extension in extensions {
            extension(out);
        }
    }

    /// Renders all rows in the Prometheus text format (version 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Exposition::default();
        self.expose(&mut out);
        out.to_string()
    }
}

impl<C: Table, G: Table, T: Table, S: Table> Default for Registry<C, G, T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Table, G: Table, T: Table, S: Table> fmt::Debug for Registry<C, G, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
