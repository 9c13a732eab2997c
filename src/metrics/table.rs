use std::convert::Infallible;

/// A row of a metrics table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of the family, which ends in its unit.
    pub family: &'static str,
    /// One sentence about the family, written as its `# HELP` line.
    pub help: &'static str,
    /// The labels in text form (`{reason="busy"}`), or an empty string.
    pub labels: &'static str,
}

/// The rows of one kind of metrics, as an enum that [`metric_table!`](crate::metric_table)
/// declares.
pub trait Table: Copy + 'static {
    /// The family, help and labels of every row, in the order of the variants.
    const ROWS: &'static [Row];

    /// One value for each row, of a size known to the compiler: a count then needs no check of it.
    type Cells<V>: AsRef<[V]>;

    /// Returns the cells, each with a value of `new`.
    fn cells<V>(new: impl Fn() -> V) -> Self::Cells<V>;

    /// Returns the position of this row in [`ROWS`](Self::ROWS).
    fn position(self) -> usize;
}

/// The table without rows.
impl Table for Infallible {
    const ROWS: &'static [Row] = &[];

    type Cells<V> = [V; 0];

    fn cells<V>(_: impl Fn() -> V) -> [V; 0] {
        []
    }

    fn position(self) -> usize {
        match self {}
    }
}

/// Declares a table of metrics as an enum that implements [`Table`](crate::metrics::Table).
///
/// The table lists families, each with one sentence of help and its rows. Each variant is a row,
/// and rows of one family differ in a label. A family without help does not compile. A
/// [`Registry`](crate::metrics::Registry) stores the values, and extends the registry of an
/// [`Io`](crate::Io).
///
/// ```
/// use std::sync::Arc;
/// use roomcast::{Io, metrics::Registry};
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
/// let io = Io::builder().namespace("/", |namespace| namespace).build()?;
/// let sales: Arc<Registry<Sale>> = Arc::default();
/// let rows = Arc::clone(&sales);
/// io.metrics().extend(move |out| rows.expose(out));
///
/// sales.add(Sale::Paid, 2);
/// assert!(io.metrics().render().ends_with(
///     r#"# HELP shop_sales_total Sales, by result.
/// ## TYPE shop_sales_total counter
/// shop_sales_total{result="paid"} 2
/// shop_sales_total{result="refused"} 0
/// ## HELP shop_visits_total Visits of the shop.
/// ## TYPE shop_visits_total counter
/// shop_visits_total 0
/// "#,
/// ));
/// # Ok::<(), roomcast::BuildError>(())
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

        impl $crate::metrics::Table for $name {
            const ROWS: &'static [$crate::metrics::Row] = &[$($($crate::metrics::Row {
                family: $family,
                help: $help,
                labels: concat!("" $(, "{", $label, "=\"", $value, "\"}")?),
            },)+)+];

            type Cells<V> = [V; <$name as $crate::metrics::Table>::ROWS.len()];

            fn cells<V>(new: impl Fn() -> V) -> Self::Cells<V> {
                ::std::array::from_fn(|_| new())
            }

            #[inline]
            fn position(self) -> usize {
                self as usize
            }
        }
    };
}
