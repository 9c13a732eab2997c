use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The name of a row: its family, and its labels in text form (`{reason="busy"}`), which may be
/// empty.
pub type Row = (&'static str, &'static str);

/// Declares a table of metrics as an enum.
///
/// Each variant is a row. `ROWS` lists the families and labels in the order of the variants.
///
/// ```
/// use roomcast::metrics::{Counters, Exposition};
///
/// roomcast::metric_table! {
///     /// Sales of the shop.
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
            /// The family and labels of every row.
            $vis const ROWS: &'static [$crate::metrics::Row] =
                &[$(($family, concat!("" $(, "{", $label, "=\"", $value, "\"}")?))),+];
        }
    };
}

/// A fixed number of counters, initially zero. Positions out of range are ignored.
#[derive(Debug)]
pub struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// Creates counters at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    /// Adds `n` to the counter at a position.
    #[inline]
    pub fn add(&self, position: usize, n: u64) {
        if let Some(cell) = self.0.get(position) {
            // Counters do not synchronize other memory, so relaxed additions are sufficient.
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Returns the counter at a position; zero if it is out of range.
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

/// A fixed number of gauges, initially zero. Positions out of range are ignored.
#[derive(Debug)]
pub struct Gauges<const N: usize>([AtomicI64; N]);

impl<const N: usize> Gauges<N> {
    /// Creates gauges at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicI64::new(0) }; N])
    }

    /// Changes the gauge at a position by `delta`.
    #[inline]
    pub fn shift(&self, position: usize, delta: i64) {
        if let Some(cell) = self.0.get(position) {
            cell.fetch_add(delta, Ordering::Relaxed);
        }
    }

    /// Returns the gauge at a position; zero if it is out of range.
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
