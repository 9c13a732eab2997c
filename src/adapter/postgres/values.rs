//! Values and locks in tables of PostgreSQL. Each change is one statement.
//!
//! Versions and fencing numbers come from one sequence, and are drawn while their row is locked. Of
//! two holders of a lock, the later holder has the larger number, whatever the order of the
//! requests. Servers with another key use their own rows. No statement is prepared on a connection,
//! so a pooler may be used.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Error, types::Type};

use super::{
    address::Address,
    connection::{BrokerConnection, Driver, Table},
};
use crate::adapter::{
    common::{SharedAddress, chain},
    interface::BoxFuture,
    values::{Expected, MAX_KEYS, Put, StoredValue, ValueError, ValueStore},
};

/// Uses its own connections, which are established on demand and reused.
pub(super) struct PostgresValues(Arc<PostgresValuesInner>);

struct PostgresValuesInner {
    address: SharedAddress<Address>,
    table: Table,
    /// The key of the adapter, to which the rows belong.
    scope: String,
    permits: Semaphore,
    idle: Mutex<Vec<IdleConnection>>,
}

/// A connection. It makes progress while its driver is polled, which is only during a query.
struct IdleConnection {
    line: BrokerConnection,
    driver: Driver,
}

/// Runs a query on a connection, as a future.
macro_rules! run_query {
    ($values:expr, $scope:ident, $client:ident => $query:expr) => {{
        let inner = Arc::clone(&$values.0);
        Box::pin(async move {
            let (_permit, mut connection) = inner.begin().await?;
            let IdleConnection { line, driver } = &mut connection;
            let ($scope, $client) = (&*inner.scope, line.client());
            let answer = tokio::select! {
                answer = $query => answer,
                ended = driver => {
                    let why = ended.err().map(|error| chain(&error));
                    return Err(ValueError::Unavailable(why.unwrap_or_else(closed)));
                }
            };
            inner.end(connection, answer)
        })
    }};
}

impl PostgresValues {
    pub(super) fn new(address: SharedAddress<Address>, table: Table, scope: &str) -> Self {
        Self(Arc::new(PostgresValuesInner {
            address,
            table,
            scope: scope.to_owned(),
            permits: Semaphore::new(MAX_CONNECTIONS),
            idle: Mutex::default(),
        }))
    }
}

impl PostgresValuesInner {
    /// Returns a connection that works as far as is known, and its permit.
    async fn begin(&self) -> Result<(SemaphorePermit<'_>, IdleConnection), ValueError> {
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| ValueError::Unavailable(closed()))?;
        loop {
            let connection = self.idle.lock().pop();
            let Some(mut connection) = connection else {
                return Ok((permit, self.connect().await?));
            };
            // The driver of a connection that was closed in the meantime is ready.
            if (&mut connection.driver).now_or_never().is_none() {
                return Ok((permit, connection));
            }
        }
    }

    /// Returns a connection to the idle list if the server has responded, even with an error.
    fn end<T>(
        &self,
        connection: IdleConnection,
        answer: Result<T, Error>,
    ) -> Result<T, ValueError> {
        let is_good = match &answer {
            Ok(_) => true,
            Err(error) => error.as_db_error().is_some() && !error.is_closed(),
        };
        if is_good {
            self.idle.lock().push(connection);
        }
        answer.map_err(|error| unavailable(&error))
    }

    async fn connect(&self) -> Result<IdleConnection, ValueError> {
        let address = self.address.now();
        let connected = address.connect(&self.table).await;
        let (line, mut driver) = connected.map_err(ValueError::Unavailable)?;
        let prepared = tokio::select! {
            prepared = prepare(line.client()) => prepared.map_err(|error| unavailable(&error)),
            _ = &mut driver => Err(ValueError::Unavailable(closed())),
        };
        prepared?;
        Ok(IdleConnection { line, driver })
    }
}

impl ValueStore for PostgresValues {
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>> {
        let key = key.to_owned();
        run_query!(self, scope, client => get(client, scope, &key))
    }

    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>> {
        let key = key.to_owned();
        let query: BoxFuture<Result<Option<Put>, ValueError>> = run_query!(self, scope, client => async {
            match &text {
                Some(text) => put(client, scope, &key, expected, text).await,
                None => remove(client, scope, &key, expected).await.map(Some),
            }
        });
        Box::pin(async move { query.await?.ok_or(ValueError::Full) })
    }

    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        run_query!(self, scope, client => lock(client, scope, &name, &holder, lease))
    }

    fn renew(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> BoxFuture<Result<bool, ValueError>> {
        let name = name.to_owned();
        run_query!(self, scope, client => renew(client, scope, &name, fence, lease))
    }

    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>> {
        let name = name.to_owned();
        run_query!(self, scope, client => unlock(client, scope, &name, fence))
    }
}

/// Creates the tables if they do not exist. A role without this permission can use existing tables.
async fn prepare(client: &Client) -> Result<(), Error> {
    let sql = "SELECT to_regclass('roomcast_values') IS NOT NULL AND to_regclass('roomcast_locks') IS NOT NULL
                   AND to_regclass('roomcast_numbers') IS NOT NULL";
    let row = client.query_typed_one(sql, &[]).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    // Two servers that create the tables concurrently would conflict.
    let sql = format!(
        r#"SELECT pg_advisory_xact_lock({TABLES_LOCK});
           CREATE SEQUENCE IF NOT EXISTS roomcast_numbers AS bigint;
           CREATE TABLE IF NOT EXISTS roomcast_values (
               scope text NOT NULL COLLATE "C", key text NOT NULL COLLATE "C",
               version bigint NOT NULL, value text NOT NULL, PRIMARY KEY (scope, key)
           );
           CREATE TABLE IF NOT EXISTS roomcast_locks (
               scope text NOT NULL COLLATE "C", name text NOT NULL COLLATE "C",
               fence bigint NOT NULL, holder text NOT NULL, expires_at timestamptz NOT NULL,
               PRIMARY KEY (scope, name)
           )"#
    );
    client.batch_execute(&sql).await
}

async fn get(client: &Client, scope: &str, key: &str) -> Result<Option<StoredValue>, Error> {
    let sql = "SELECT version, value FROM roomcast_values WHERE scope = $1 AND key = $2";
    let row = client
        .query_typed_opt(sql, &[(&scope, Type::TEXT), (&key, Type::TEXT)])
        .await?;
    row.map(|row| {
        let text: &str = row.try_get("value")?;
        Ok(StoredValue {
            version: number(row.try_get("version")?),
            text: text.into(),
        })
    })
    .transpose()
}

/// Stores a value. Returns `None` if the maximum number of values is reached.
async fn put(
    client: &Client,
    scope: &str,
    key: &str,
    expected: Expected,
    text: &str,
) -> Result<Option<Put>, Error> {
    // An existing value is updated first. An insertion counts all values, which is only necessary
    // for a new value.
    if expected != Expected::Nothing {
        let version = version_of(expected);
        let sql = "UPDATE roomcast_values SET version = nextval('roomcast_numbers'), value = $4
                   WHERE scope = $1 AND key = $2 AND ($3 IS NULL OR version = $3) RETURNING version";
        let row = client
            .query_typed_opt(
                sql,
                &[
                    (&scope, Type::TEXT),
                    (&key, Type::TEXT),
                    (&version, Type::INT8),
                    (&text, Type::TEXT),
                ],
            )
            .await?;
        if let Some(row) = row {
            return Ok(Some(Put::Stored(number(row.try_get(0)?))));
        }
        if version.is_some() {
            // The version is read after the attempt and may be newer. The caller reads the value
            // again anyway.
            return Ok(Some(Put::Conflict(version_at(client, scope, key).await?)));
        }
    }
    let sql = "INSERT INTO roomcast_values AS known (scope, key, version, value)
               SELECT $1, $2, nextval('roomcast_numbers'), $3
               WHERE (SELECT count(*) FROM roomcast_values WHERE scope = $1) < $5
               ON CONFLICT (scope, key) DO UPDATE
               SET version = nextval('roomcast_numbers'), value = excluded.value WHERE $4
               RETURNING version";
    let may_replace = expected == Expected::Anything;
    let most = i64::try_from(MAX_KEYS).unwrap_or(i64::MAX);
    let row = client
        .query_typed_opt(
            sql,
            &[
                (&scope, Type::TEXT),
                (&key, Type::TEXT),
                (&text, Type::TEXT),
                (&may_replace, Type::BOOL),
                (&most, Type::INT8),
            ],
        )
        .await?;
    if let Some(row) = row {
        return Ok(Some(Put::Stored(number(row.try_get(0)?))));
    }
    let known = version_at(client, scope, key).await?;
    Ok(known.map(|version| Put::Conflict(Some(version))))
}

async fn remove(client: &Client, scope: &str, key: &str, expected: Expected) -> Result<Put, Error> {
    let version = version_of(expected);
    if expected != Expected::Nothing {
        let sql = "DELETE FROM roomcast_values
                   WHERE scope = $1 AND key = $2 AND ($3 IS NULL OR version = $3)";
        let removed = client
            .execute_typed(
                sql,
                &[
                    (&scope, Type::TEXT),
                    (&key, Type::TEXT),
                    (&version, Type::INT8),
                ],
            )
            .await?;
        if removed == 0 && version.is_some() {
            return Ok(Put::Conflict(version_at(client, scope, key).await?));
        }
    } else if let Some(known) = version_at(client, scope, key).await? {
        return Ok(Put::Conflict(Some(known)));
    }
    let sql = "SELECT nextval('roomcast_numbers')";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok(Put::Stored(number(row.try_get(0)?)))
}

/// Acquires a lock. Returns its fencing number, or `None` if another holder has it.
async fn lock(
    client: &Client,
    scope: &str,
    name: &str,
    holder: &str,
    lease: Duration,
) -> Result<Option<u64>, Error> {
    // The row of a released lock remains, so that a number is always drawn while the row is locked.
    let sql = "INSERT INTO roomcast_locks (scope, name, fence, holder, expires_at)
               VALUES ($1, $2, nextval('roomcast_numbers'), $3, clock_timestamp() + $4 * interval '1 millisecond')
               ON CONFLICT (scope, name) DO UPDATE
               SET fence = nextval('roomcast_numbers'), holder = excluded.holder,
                   expires_at = clock_timestamp() + $4 * interval '1 millisecond'
               WHERE roomcast_locks.expires_at <= clock_timestamp()
                   OR roomcast_locks.holder = excluded.holder
               RETURNING fence";
    let lease = milliseconds(lease);
    let row = client
        .query_typed_opt(
            sql,
            &[
                (&scope, Type::TEXT),
                (&name, Type::TEXT),
                (&holder, Type::TEXT),
                (&lease, Type::FLOAT8),
            ],
        )
        .await?;
    row.map(|row| row.try_get(0).map(number)).transpose()
}

async fn renew(
    client: &Client,
    scope: &str,
    name: &str,
    fence: u64,
    lease: Duration,
) -> Result<bool, Error> {
    let sql =
        "UPDATE roomcast_locks SET expires_at = clock_timestamp() + $4 * interval '1 millisecond'
               WHERE scope = $1 AND name = $2 AND fence = $3 AND expires_at > clock_timestamp()";
    let (fence, lease) = (signed(fence), milliseconds(lease));
    let renewed = client
        .execute_typed(
            sql,
            &[
                (&scope, Type::TEXT),
                (&name, Type::TEXT),
                (&fence, Type::INT8),
                (&lease, Type::FLOAT8),
            ],
        )
        .await?;
    Ok(renewed > 0)
}

async fn unlock(client: &Client, scope: &str, name: &str, fence: u64) -> Result<bool, Error> {
    let sql = "UPDATE roomcast_locks SET expires_at = '-infinity'
               WHERE scope = $1 AND name = $2 AND fence = $3 AND expires_at > clock_timestamp()";
    let fence = signed(fence);
    let unlocked = client
        .execute_typed(
            sql,
            &[
                (&scope, Type::TEXT),
                (&name, Type::TEXT),
                (&fence, Type::INT8),
            ],
        )
        .await?;
    Ok(unlocked > 0)
}

async fn version_at(client: &Client, scope: &str, key: &str) -> Result<Option<u64>, Error> {
    let known = get(client, scope, key).await?;
    Ok(known.map(|known| known.version))
}

fn version_of(expected: Expected) -> Option<i64> {
    match expected {
        Expected::Version(version) => Some(signed(version)),
        Expected::Anything | Expected::Nothing => None,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a number of the sequence, which is always positive.
fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn unavailable(error: &Error) -> ValueError {
    ValueError::Unavailable(chain(error))
}

fn closed() -> String {
    "the connection is closed".to_owned()
}

/// The maximum number of connections per server for values and locks.
const MAX_CONNECTIONS: usize = 4;
/// The advisory lock for creating the tables. The number is random, so that no application uses the
/// same.
const TABLES_LOCK: i64 = 0x3b71_c4a8_90e6;
