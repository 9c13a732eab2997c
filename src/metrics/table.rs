use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A row of a metrics table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of the family.
    pub family: &'static str,
    /// One sentence about the family, written as its `# HELP` line.
    pub help: &'static str,
    /// The labels in text form (`{reason="busy"}`), or an empty string.
    pub labels: &'static str,
}

/// Declares a table of metrics as an enum.
///
/// The table lists families, each with one sentence of help and its rows. Each variant is a row,
/// and rows of one family differ in a label. `ROWS` lists the rows in the order of the variants. A
/// family without help does not compile.
///
/// ```
/// use roomcast::metrics::{Counters, Exposition};
///
/// roomcast::metric_table! {
///     /// Sales of the shop.
///     pub enum Sale {
///         "shop_sales_total" => "Sales, by result." {
///             Paid["result" = "paid"],
///             Refused["result" = "refused"],
///         }
///         "shop_visits_total" => "Visits of the shop." { Visits }
///     }
/// }
///
/// let sales: Counters<{ Sale::ROWS.len() }> = Counters::new();
/// sales.add(Sale::Paid as usize, 2);
/// let mut text = Exposition::default();
/// text.counters(Sale::ROWS, &sales);
/// assert_eq!(
///     text.to_string(),
///     r#"# HELP shop_sales_total Sales, by result.
/// ## TYPE shop_sales_total counter
/// shop_sales_total{result="paid"} 2
/// shop_sales_total{result="refused"} 0
/// ## HELP shop_visits_total Visits of the shop.
/// ## TYPE shop_visits_total counter
/// shop_visits_total 0
/// "#,
/// );
/// ```
#[macro_export]
macro_rules! metric_table {
    ($(#[$doc:meta])* $vis:vis enum $name:ident {
        $($family:literal => $help:literal {
            $($(#[$more:meta])* $variant:ident $([$label:literal = $value:literal])?),+ $(,)?
        })+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        $vis enum $name {
            $($(
                #[doc = concat!("`", $family $(, "{", $label, "=\"", $value, "\"}")?, "`")]
                #[doc = ""]
                #[doc = $help]
                #[doc = ""]
                $(#[$more])*
                $variant,
            )+)+
        }

        impl $name {
            /// The family, help and labels of every row.
            $vis const ROWS: &'static [$crate::metrics::Row] = &[$($($crate::metrics::Row {
                family: $family,
                help: $help,
                labels: concat!("" $(, "{", $label, "=\"", $value, "\"}")?),
            },)+)+];
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
