use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What a row is called: its family, and its labels as they are written (`{reason="busy"}`), which may
/// be empty.
pub type Row = (&'static str, &'static str);

/// Declares the rows of a table of metrics: an enum whose variants are the rows, with their families
/// and labels in `ROWS`, in the order of the variants.
///
/// ```
/// use roomcast::metrics::{Counters, Exposition};
///
/// roomcast::metric_table! {
///     /// What the shop counts.
///     pub enum Sale {
///         Paid => "shop_sales_total"["result" = "paid"],
///         Refused => "shop_sales_total"["result" = "refused"],
///     }
/// }
///
/// let sales: Counters<{ Sale::ROWS.len() }> = Counters::new();
/// sales.add(Sale::Paid as usize, 2);
/// let mut text = Exposition::default();
/// text.counters(Sale::ROWS, &sales);
/// assert_eq!(
///     text.to_string(),
///     "# TYPE shop_sales_total counter\nshop_sales_total{result=\"paid\"} 2\nshop_sales_total{result=\"refused\"} 0\n",
/// );
/// ```
#[macro_export]
macro_rules! metric_table {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$more:meta])* $variant:ident => $family:literal $([$label:literal = $value:literal])?),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        $vis enum $name {
            $(#[doc = concat!("`", $family $(, "{", $label, "=\"", $value, "\"}")?, "`")] $(#[doc = ""] #[$more])* $variant),+
        }

        impl $name {
            /// The family and the labels of every row.
            $vis const ROWS: &'static [$crate::metrics::Row] =
                &[$(($family, concat!("" $(, "{", $label, "=\"", $value, "\"}")?))),+];
        }
    };
}

/// So many counters, all at zero at first. A position beyond them is counted nowhere.
#[derive(Debug)]
pub struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// All at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    /// Adds `n` to the counter at a position.
    #[inline]
    pub fn add(&self, position: usize, n: u64) {
        if let Some(cell) = self.0.get(position) {
            // Counters order nothing else, so relaxed additions are enough.
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The counter at a position.
    #[must_use]
    pub fn value(&self, position: usize) -> u64 {
        let cell = self.0.get(position);
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// So many gauges, all at zero at first. A position beyond them is shown nowhere.
#[derive(Debug)]
pub struct Gauges<const N: usize>([AtomicI64; N]);

impl<const N: usize> Gauges<N> {
    /// All at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicI64::new(0) }; N])
    }

    /// Moves the gauge at a position by `delta`.
    #[inline]
    pub fn shift(&self, position: usize, delta: i64) {
        if let Some(cell) = self.0.get(position) {
            cell.fetch_add(delta, Ordering::Relaxed);
        }
    }

    /// The gauge at a position.
    #[must_use]
    pub fn value(&self, position: usize) -> i64 {
        let cell = self.0.get(position);
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<const N: usize> Default for Gauges<N> {
    fn default() -> Self {
        Self::new()
    }
}
