//! Cached statements, and the conversion of values between rows and Rust.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, ToSql};
use uuid::Uuid;

use crate::store::Time;

/// Runs statements that the connection prepares once.
pub(in crate::store) trait CachedStatements {
    /// Returns the connection.
    fn connection(&self) -> &Connection;

    /// Returns the number of changed rows.
    fn execute_cached(&self, sql: &str, parameters: impl Params) -> Result<usize> {
        self.connection().prepare_cached(sql)?.execute(parameters)
    }

    /// Returns all rows, each converted by `read`.
    fn query_cached<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection().prepare_cached(sql)?;
        statement.query_map(parameters, read)?.collect()
    }

    /// Returns the first row.
    fn query_one_cached<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut statement = self.connection().prepare_cached(sql)?;
        statement.query_row(parameters, read)
    }

    /// Returns the first row, or `None` if there is none.
    fn query_opt_cached<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.query_one_cached(sql, parameters, read).optional()
    }
}

impl CachedStatements for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

/// A UUID that is stored as lower-case text.
pub(in crate::store) struct Id(pub(in crate::store) Uuid);

impl ToSql for Id {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let id = Uuid::try_parse(value.as_str()?);
        id.map(Self)
            .map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let time = value.as_str()?.parse();
        time.map_err(|error: jiff::Error| FromSqlError::Other(Box::new(error)))
    }
}

/// Converts a signed integer of SQLite; a `seq` is never negative.
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
