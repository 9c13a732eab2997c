//! Cached statements, and the conversion of values between rows and Rust.

use std::future::Future;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::store::Time;

/// Runs statements that each connection prepares once.
///
/// The SQL is static, because a connection keeps every prepared statement.
pub(in crate::store) trait CachedStatements: Sync {
    /// Returns the connection.
    fn client(&self) -> &ClientWrapper;

    /// Returns the number of changed rows.
    fn execute_cached(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<u64, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            self.client().execute(&statement, parameters).await
        }
    }

    /// Returns all rows, each converted by `read`.
    fn query_cached<T>(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl FnMut(&Row) -> Result<T, Error> + Send,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            let rows = self.client().query(&statement, parameters).await?;
            rows.iter().map(read).collect()
        }
    }

    /// Returns the only row.
    fn query_one_cached<T>(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Row) -> Result<T, Error> + Send,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            let row = self.client().query_one(&statement, parameters).await?;
            read(&row)
        }
    }

    /// Returns the only row, or `None` if there is none.
    fn query_opt_cached<T>(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Row) -> Result<T, Error> + Send,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            let row = self.client().query_opt(&statement, parameters).await?;
            row.as_ref().map(read).transpose()
        }
    }
}

impl CachedStatements for ClientWrapper {
    fn client(&self) -> &ClientWrapper {
        self
    }
}

pub(in crate::store) fn time(row: &Row, column: &str) -> Result<Time, Error> {
    row.try_get::<_, Timestamp>(column).map(Time::from)
}

pub(in crate::store) fn optional_time(row: &Row, column: &str) -> Result<Option<Time>, Error> {
    let time: Option<Timestamp> = row.try_get(column)?;
    Ok(time.map(Time::from))
}

/// Returns the unique id of the database.
pub(in crate::store) async fn store_id(client: &ClientWrapper) -> Result<Uuid, Error> {
    let sql = "SELECT store_id FROM roomcast_schema";
    client
        .query_one_cached(sql, &[], |row| row.try_get(0))
        .await
}

/// Converts a signed integer of PostgreSQL; a `seq` is never negative.
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

/// The advisory lock that a server holds while it removes expired rows.
pub(in crate::store) const EXPIRE_LOCK: i64 = 0x726f_6f6d_0002;
