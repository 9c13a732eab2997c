//! Statements that both backends run, and the values of their parameters and rows.
//!
//! A table that one statement reads or changes at a time is written once for both backends: its
//! module builds a [`Statement`], and a [`Record`] reads the rows. Where the SQL of the backends
//! differs, the statement has one text for each.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Backend, Store, StoreError, Time};
use crate::metrics::{Counter, Timing};

/// A statement with its parameters `$1`, `$2` and so on.
///
/// The SQL is static, because a connection keeps every prepared statement. It names columns,
/// because a prepared statement with `*` fails once a newer server adds a column. PostgreSQL may
/// run it twice, so a statement that changes data must be repeatable.
#[derive(Clone, Debug)]
pub(in crate::store) struct Statement {
    #[cfg(feature = "postgres")]
    pub(in crate::store) postgres: &'static str,
    #[cfg(feature = "sqlite")]
    pub(in crate::store) sqlite: &'static str,
    pub(in crate::store) parameters: Vec<Value>,
}

impl Statement {
    /// Returns a statement of both backends.
    pub(in crate::store) fn new(sql: &'static str, parameters: Vec<Value>) -> Self {
        Self {
            #[cfg(feature = "postgres")]
            postgres: sql,
            #[cfg(feature = "sqlite")]
            sqlite: sql,
            parameters,
        }
    }

    /// Replaces the SQL for SQLite. It need not use all parameters.
    #[cfg_attr(
        not(feature = "sqlite"),
        allow(unused_mut, unused_variables, reason = "there is no SQLite")
    )]
    pub(in crate::store) fn for_sqlite(mut self, sql: &'static str) -> Self {
        #[cfg(feature = "sqlite")]
        {
            self.sqlite = sql;
        }
        self
    }
}

/// Converts parameters to a vector of [`Value`]s.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::store::statement::Value::from($value)),*]
    };
}

pub(in crate::store) use values;

/// A value in a parameter or a column.
///
/// SQLite stores ids and times as text, and lists as JSON. A duration is a number of milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) enum Value {
    #[default]
    Null,
    Flag(bool),
    Number(i64),
    Text(String),
    Texts(Vec<String>),
    Id(Uuid),
    Ids(Vec<Uuid>),
    Time(Time),
}

/// Converts types to values, each by the expression of its variant.
macro_rules! into_value {
    ($($from:ty => $variant:ident($value:ident => $into:expr);)*) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                Self::$variant($into)
            }
        }
    )*};
}

into_value! {
    bool => Flag(flag => flag);
    i32 => Number(number => number.into());
    i64 => Number(number => number);
    u16 => Number(number => number.into());
    u32 => Number(number => number.into());
    u64 => Number(number => signed(number));
    usize => Number(number => number.try_into().unwrap_or(i64::MAX));
    Duration => Number(time => time.as_millis().try_into().unwrap_or(i64::MAX));
    &str => Text(text => text.to_owned());
    String => Text(text => text);
    Vec<String> => Texts(texts => texts);
    Uuid => Id(id => id);
    Vec<Uuid> => Ids(ids => ids);
    Time => Time(time => time);
}

/// JSON is stored as text, and null as no value.
impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        if json.is_null() {
            return Self::Null;
        }
        Self::Text(json.to_string())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A type of a column.
pub(in crate::store) trait Column: Sized {
    /// Converts a value, or returns `None` if it has another type or is out of range.
    fn of(value: Value) -> Option<Self>;
}

/// Reads types from values, each by the pattern of its variant.
macro_rules! from_value {
    ($($to:ty = $($value:pat => $into:expr),*;)*) => {$(
        impl Column for $to {
            fn of(value: Value) -> Option<Self> {
                match value {
                    $($value => $into,)*
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    bool = Value::Flag(flag) => Some(flag), Value::Number(number) => Some(number != 0);
    i32 = Value::Number(number) => number.try_into().ok();
    i64 = Value::Number(number) => Some(number);
    u16 = Value::Number(number) => number.try_into().ok();
    u32 = Value::Number(number) => number.try_into().ok();
    u64 = Value::Number(number) => number.try_into().ok();
    String = Value::Text(text) => Some(text);
    Vec<String> = Value::Texts(texts) => Some(texts),
        Value::Text(json) => serde_json::from_str(&json).ok();
    serde_json::Value = Value::Null => Some(Self::Null),
        Value::Text(json) => serde_json::from_str(&json).ok();
    Box<RawValue> = Value::Text(json) => RawValue::from_string(json).ok();
    Uuid = Value::Id(id) => Some(id), Value::Text(text) => Uuid::try_parse(&text).ok();
    Time = Value::Time(time) => Some(time), Value::Text(text) => text.parse().ok();
}

impl<T: Column> Column for Option<T> {
    fn of(value: Value) -> Option<Self> {
        if value == Value::Null {
            return Some(None);
        }
        T::of(value).map(Some)
    }
}

/// A row of a result.
#[derive(Debug)]
pub(in crate::store) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(in crate::store) fn new(columns: &Arc<[String]>, values: Vec<Value>) -> Self {
        Self {
            columns: Arc::clone(columns),
            values,
        }
    }
}

/// The columns of a row, of this module or of a backend.
pub(in crate::store) trait Columns {
    type Error;

    /// Returns the value of a column. It is an error if the value has another type, which only
    /// another program can have written.
    fn get<T: Column>(&self, column: &str) -> Result<T, Self::Error>;
}

impl Columns for Row {
    type Error = WrongColumn;

    fn get<T: Column>(&self, column: &str) -> Result<T, WrongColumn> {
        let place = self.columns.iter().position(|name| name == column);
        let value = place.and_then(|place| self.values.get(place).cloned());
        let value = value.and_then(T::of);
        value.ok_or_else(|| WrongColumn(column.to_owned()))
    }
}

/// The name of a column that is missing or has a value of another type.
#[derive(Debug)]
pub(in crate::store) struct WrongColumn(String);

/// A type that is read from a row of either backend.
pub(in crate::store) trait Record: Sized {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error>;
}

/// Reads a record whose fields are columns of the same names, or of the names after the colons.
macro_rules! record {
    ($record:ty => $($field:ident $(: $column:literal)?),* $(,)?) => {
        impl $crate::store::statement::Record for $record {
            fn read<R: $crate::store::statement::Columns>(row: &R) -> Result<Self, R::Error> {
                Ok(Self {
                    $($field: row.get($crate::store::statement::column!($field $($column)?))?,)*
                })
            }
        }
    };
}

/// Returns the name of a field's column.
macro_rules! column {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:literal) => {
        $column
    };
}

pub(in crate::store) use {column, record};

/// The columns `key` and `value` of a row.
pub(in crate::store) struct Pair<K, V>(pub(in crate::store) K, pub(in crate::store) V);

impl<K: Column, V: Column> Record for Pair<K, V> {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        Ok(Self(row.get("key")?, row.get("value")?))
    }
}

/// The only column of a row, whose name is `value`.
pub(in crate::store) struct Single<T>(pub(in crate::store) T);

impl<T: Column> Record for Single<T> {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        row.get("value").map(Self)
    }
}

/// Reads the rows of a result.
pub(in crate::store) fn records<T: Record>(rows: &[Row]) -> Result<Vec<T>, StoreError> {
    let records = rows.iter().map(T::read);
    records
        .collect::<Result<_, _>>()
        .map_err(|WrongColumn(column)| {
            roomcast::throttled_log!(warn, column, "a row of the store has an unexpected value");
            StoreError::Failed
        })
}

impl Store {
    /// Returns the rows of a query.
    pub(in crate::store) async fn rows<T: Record>(
        &self,
        query: Statement,
    ) -> Result<Vec<T>, StoreError> {
        let rows: Vec<Row> = each!(self, backend => backend.rows(query).await?);
        self.records(&rows)
    }

    /// Changes rows, and returns what the statement returns of them.
    pub(in crate::store) async fn change_rows<T: Record>(
        &self,
        change: Statement,
    ) -> Result<Vec<T>, StoreError> {
        let rows: Vec<Row> = each!(self, backend => backend.change_rows(change).await?);
        self.records(&rows)
    }

    /// Changes rows, and returns their number.
    pub(in crate::store) async fn execute(&self, change: Statement) -> Result<u64, StoreError> {
        each!(self, backend => backend.execute(change).await)
    }

    /// Removes rows like [`execute`](Self::execute). A failure does not change the health of the
    /// store, because the rows are removed later.
    pub(in crate::store) async fn tidy(&self, change: Statement) -> Result<u64, StoreError> {
        each!(self, backend => backend.tidy(change).await)
    }

    /// Changes rows like [`execute`](Self::execute), within the maximum time of an answer.
    pub(in crate::store) async fn execute_timed(
        &self,
        change: Statement,
    ) -> Result<u64, StoreError> {
        self.timed_answer(Timing::StoreChange, self.execute(change))
            .await
    }

    fn records<T: Record>(&self, rows: &[Row]) -> Result<Vec<T>, StoreError> {
        records(rows).inspect_err(|_| self.metrics.count(Counter::StoreErrors))
    }
}

/// The advisory lock that a server of PostgreSQL holds while it removes expired rows.
pub(in crate::store) const EXPIRE_LOCK: i64 = 0x726f_6f6d_0002;

/// Converts a signed integer of a database; a `seq` is never negative.
pub(in crate::store) fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

/// Converts a bound, which may be any number that a client sends. Values past the maximum mean "the
/// end".
pub(in crate::store) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Returns `limit + 1`: the extra row shows whether there are more.
pub(in crate::store) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
