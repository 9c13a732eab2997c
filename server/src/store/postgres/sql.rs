//! The conversion of values between rows and Rust.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::store::Time;

pub(in crate::store) fn time(row: &Row, column: &str) -> Result<Time, Error> {
    row.try_get::<_, Timestamp>(column).map(Time::from)
}

pub(in crate::store) fn optional_time(row: &Row, column: &str) -> Result<Option<Time>, Error> {
    let time: Option<Timestamp> = row.try_get(column)?;
    Ok(time.map(Time::from))
}

/// Returns the unique id of the database.
pub(in crate::store) async fn store_id(client: &ClientWrapper) -> Result<Uuid, Error> {
    let statement = client
        .prepare_cached("SELECT store_id FROM roomcast_schema")
        .await?;
    client.query_one(&statement, &[]).await?.try_get(0)
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
