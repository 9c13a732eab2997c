//! Migrates a database to the schema of this version.
//!
//! Each backend has its own migrations and version numbers, but the tables are the same.
//! `docs/storage.md` describes the rules that let old and new servers run side by side.

use refinery::{Report, Runner};
#[cfg(feature = "postgres")]
use tokio_postgres::error::SqlState;

use super::OpenError;
use super::statement::record;

/// Applies the pending migrations of an SQLite database, or only checks that none is pending.
///
/// A database of a newer version is refused.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite(
    connection: &mut rusqlite::Connection,
    path: &std::path::Path,
    apply: bool,
) -> Result<Vec<String>, OpenError> {
    let database = path.display().to_string();
    let refused = |error: &dyn std::error::Error| OpenError::Migration {
        database: database.clone(),
        reason: error.to_string(),
    };
    let schema = sqlite_schema(connection).map_err(|error| refused(&error))?;
    let version = schema.known_version(&database)?;
    let runner = in_sqlite::migrations::runner();
    if !apply {
        // If migrating is disabled, the server only checks the version and refuses an outdated
        // schema.
        return complete(&runner, version.unwrap_or(0), &database);
    }
    runner
        .run(connection)
        .map(|report| names(&report))
        .map_err(|error| refused(&error))
}

/// The version of the tables of an SQLite database.
#[cfg(feature = "sqlite")]
pub(super) struct SqliteSchema {
    /// The last applied migration, or `None` if the database is not one of Roomcast.
    pub(super) version: Option<i32>,
    /// The version that this server was built for.
    pub(super) newest: i32,
    /// The number of migrations that this server would apply.
    pub(super) pending: usize,
    /// The name of the first applied migration that differs from this server's migrations.
    pub(super) divergent: Option<String>,
}

#[cfg(feature = "sqlite")]
impl SqliteSchema {
    /// Returns the version, or an error if the migrations differ from this server's.
    pub(super) fn known_version(self, database: &str) -> Result<Option<i32>, OpenError> {
        match self.divergent {
            Some(migration) => Err(OpenError::Divergent {
                database: database.into(),
                migration,
            }),
            None => Ok(self.version),
        }
    }
}

/// Reads the version of the tables without changing the database.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite_schema(connection: &rusqlite::Connection) -> rusqlite::Result<SqliteSchema> {
    let runner = in_sqlite::migrations::runner();
    let history = if connection.table_exists(None, "refinery_schema_history")? {
        let mut query = connection.prepare(HISTORY)?;
        let applied = query.query_map([], super::sqlite::sql::record)?;
        applied.collect::<rusqlite::Result<Vec<Applied>>>()?
    } else {
        Vec::new()
    };
    let version = history.last().map(|applied| applied.version);
    let versions = runner.get_migrations().iter();
    let pending = versions.filter(|migration| Some(migration.version()) > version);
    Ok(SqliteSchema {
        version,
        newest: newest(&runner),
        pending: pending.count(),
        divergent: divergent(&runner, &history),
    })
}

/// A row of the history of migrations.
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

record! { Applied => version, name, checksum }

const HISTORY: &str =
    "SELECT version, name, checksum FROM refinery_schema_history ORDER BY version";

/// Returns the name of the first applied migration that differs from this server's migrations.
///
/// Migrations of newer versions do not count.
fn divergent(runner: &Runner, history: &[Applied]) -> Option<String> {
    let newest = newest(runner);
    let differs = |applied: &&Applied| {
        let mut own = runner.get_migrations().iter();
        applied.version <= newest
            && !own.any(|own| {
                own.version() == applied.version
                    && own.name() == applied.name
                    && own.checksum().to_string() == applied.checksum
            })
    };
    let applied = history.iter().find(differs)?;
    Some(format!("V{}__{}", applied.version, applied.name))
}

/// Applies the pending migrations of a PostgreSQL database, or only checks that none is pending.
///
/// If several servers start at the same time, one migrates and the rest wait. A database of a newer
/// version is accepted unless its schema requires a newer server.
#[cfg(feature = "postgres")]
pub(super) async fn postgres(
    client: &mut tokio_postgres::Client,
    database: &str,
    apply: bool,
) -> Result<Vec<String>, OpenError> {
    let refused = |reason: String| OpenError::Migration {
        database: database.into(),
        reason,
    };
    // During a rolling update, a newer server may already have migrated. This server can keep
    // working.
    let runner = in_postgres::migrations::runner().set_abort_missing(false);
    if !apply {
        let version = match postgres_version(client).await {
            Ok(version) => version.known(database)?,
            Err(error) => return Err(refused(chain(&error))),
        };
        complete(&runner, version, database)?;
        return compatible(client, &runner).await.map_err(refused);
    }
    // The lock belongs to the database session, so PostgreSQL releases it when the connection
    // closes. The short timeout that follows applies to table locks: while a migration waits for a
    // table lock, all later requests for the table queue after it.
    let lock =
        format!("SET lock_timeout = '{MIGRATION_LOCK_TIMEOUT}'; SELECT pg_advisory_lock({LOCK})");
    client
        .batch_execute(&lock)
        .await
        .map_err(|error| refused(error.to_string()))?;
    match postgres_version(client).await {
        Ok(version) => version.known(database)?,
        Err(error) => {
            let (text, code) = (chain(&error), code(&error));
            return Err(refused(explain(client, text, code).await));
        }
    };
    let timeout = format!("SET lock_timeout = '{TABLE_LOCK_TIMEOUT}'");
    client
        .batch_execute(&timeout)
        .await
        .map_err(|error| refused(error.to_string()))?;
    let applied = match run(&runner, client).await {
        Ok(applied) => applied,
        Err(error) => {
            let (text, code) = (chain(&error), code(&error));
            return Err(refused(explain(client, text, code).await));
        }
    };
    // Compatibility is checked after the migrations, because another server may have migrated
    // further while this one waited.
    compatible(client, &runner).await.map_err(refused)?;
    client
        .batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))
        .await
        .map_err(|error| refused(error.to_string()))?;
    Ok(applied)
}

/// The version of the tables of a PostgreSQL database.
#[cfg(feature = "postgres")]
pub(super) struct PostgresVersion {
    /// The last applied migration, or 0.
    version: i32,
    /// The name of the first applied migration that differs from this server's migrations.
    divergent: Option<String>,
}

#[cfg(feature = "postgres")]
impl PostgresVersion {
    /// Returns the version, or an error if the migrations differ from this server's.
    pub(super) fn known(self, database: &str) -> Result<i32, OpenError> {
        match self.divergent {
            Some(migration) => Err(OpenError::Divergent {
                database: database.into(),
                migration,
            }),
            None => Ok(self.version),
        }
    }
}

/// Reads the version of the tables without changing the database.
#[cfg(feature = "postgres")]
pub(super) async fn postgres_version(
    client: &tokio_postgres::Client,
) -> Result<PostgresVersion, tokio_postgres::Error> {
    let exists = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
    let exists: bool = client.query_one(exists, &[]).await?.try_get(0)?;
    let rows = match exists {
        true => client.query(HISTORY, &[]).await?,
        false => Vec::new(),
    };
    let applied = rows.iter().map(super::postgres::sql::record);
    let history = applied.collect::<Result<Vec<Applied>, tokio_postgres::Error>>()?;
    Ok(PostgresVersion {
        version: history.last().map_or(0, |applied| applied.version),
        divergent: divergent(&in_postgres::migrations::runner(), &history),
    })
}

/// Applies migrations, each in its own transaction. Retries after a delay if a table lock times
/// out, so that waiting transactions proceed.
#[cfg(feature = "postgres")]
async fn run(
    runner: &Runner,
    client: &mut tokio_postgres::Client,
) -> Result<Vec<String>, refinery::Error> {
    let deadline = tokio::time::Instant::now() + TABLE_LOCK_RETRY_TIMEOUT;
    let mut applied = Vec::new();
    loop {
        let error = match runner.run_async(client).await {
            Ok(report) => {
                applied.extend(names(&report));
                return Ok(applied);
            }
            Err(error) => error,
        };
        // The migrations before the failed one are committed. They are added to the report of the
        // next attempt.
        applied.extend(error.report().into_iter().flat_map(names));
        if !is_lock_timeout(&error) || tokio::time::Instant::now() >= deadline {
            return Err(error);
        }
        tracing::warn!("a migration waits for a table that is in use");
        tokio::time::sleep(TABLE_LOCK_RETRY_DELAY).await;
    }
}

/// Returns whether a statement did not get a lock within `lock_timeout`.
#[cfg(feature = "postgres")]
fn is_lock_timeout(error: &refinery::Error) -> bool {
    code(error) == Some(SqlState::LOCK_NOT_AVAILABLE)
}

/// Returns the SQLSTATE, if the error is a response of PostgreSQL.
#[cfg(feature = "postgres")]
fn code(error: &(dyn std::error::Error + 'static)) -> Option<SqlState> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let cause = causes.find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    cause.and_then(tokio_postgres::Error::code).cloned()
}

/// Describes why the migrations failed. If the role lacks a right, names the right.
#[cfg(feature = "postgres")]
async fn explain(client: &tokio_postgres::Client, text: String, code: Option<SqlState>) -> String {
    // Without a schema in which the role may create tables, PostgreSQL reports that no schema
    // exists.
    let lacks = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    if !code.is_some_and(|code| lacks.contains(&code)) {
        return text;
    }
    match missing_right(client).await {
        Ok(Some(right)) => format!("{text}: {right}"),
        Ok(None) | Err(_) => text,
    }
}

/// Returns the right that the role lacks to migrate, with the statement that grants it.
#[cfg(feature = "postgres")]
pub(super) async fn missing_right(
    client: &tokio_postgres::Client,
) -> Result<Option<String>, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT quote_ident(current_user) AS role, quote_ident(coalesce(current_schema(), 'public')) AS schema,
                    current_schema() IS NOT NULL
                        AND has_schema_privilege(current_user, current_schema(), 'CREATE') AS may_create,
                    (SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class
                     WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
                       AND relname IN ('refinery_schema_history', 'messages', 'conversations', 'roomcast_schema')
                       AND NOT pg_has_role(current_user, relowner, 'USAGE')
                     LIMIT 1) AS owner",
            &[],
        )
        .await?;
    let (role, schema): (String, String) = (row.try_get("role")?, row.try_get("schema")?);
    let (may_create, owner): (bool, Option<String>) =
        (row.try_get("may_create")?, row.try_get("owner")?);
    if let Some(owner) = owner {
        return Ok(Some(format!(
            "the tables belong to the role {owner}, and the role {role} lacks the rights of their owner: run \
             `roomcast migrate` as {owner} and give this server `store.migrate = false`, or `GRANT {owner} TO {role}`"
        )));
    }
    Ok((!may_create).then(|| {
        format!(
            "the role {role} lacks the right CREATE on the schema {schema}: have its owner run \
             `GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}`"
        )
    }))
}

/// Joins the messages of an error and its causes, which contain PostgreSQL's response.
#[cfg(feature = "postgres")]
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// Checks that this version can use the schema, which may be newer.
#[cfg(feature = "postgres")]
async fn compatible(
    client: &tokio_postgres::Client,
    runner: &Runner,
) -> Result<Vec<String>, String> {
    let row = client
        .query_one("SELECT oldest FROM roomcast_schema", &[])
        .await;
    let oldest: i32 = row
        .and_then(|row| row.try_get(0))
        .map_err(|error| chain(&error))?;
    let own = newest(runner);
    if oldest > own {
        return Err(format!(
            "its tables need a server of schema version {oldest} or newer, this server has version {own}"
        ));
    }
    Ok(Vec::new())
}

/// The advisory lock that a migrating server holds.
#[cfg(feature = "postgres")]
const LOCK: i64 = 0x726f_6f6d_0001;

/// The maximum time to wait for the migration of another server.
#[cfg(feature = "postgres")]
const MIGRATION_LOCK_TIMEOUT: &str = "5min";
/// The maximum time that a migration waits for a table lock, because other requests queue after it.
#[cfg(feature = "postgres")]
const TABLE_LOCK_TIMEOUT: &str = "1s";
/// The delay before a migration retries after a lock timeout.
#[cfg(feature = "postgres")]
const TABLE_LOCK_RETRY_DELAY: std::time::Duration = std::time::Duration::from_secs(1);
/// The total time for which migrations retry after lock timeouts.
#[cfg(feature = "postgres")]
const TABLE_LOCK_RETRY_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);

/// Returns the applied migrations of a report in order, and logs each.
fn names(report: &Report) -> Vec<String> {
    let applied = report.applied_migrations().iter().map(|migration| {
        tracing::info!(%migration, "migrated the database");
        migration.to_string()
    });
    applied.collect()
}

/// Checks that the schema of a database is at least at the version that this server needs.
fn complete(runner: &Runner, version: i32, database: &str) -> Result<Vec<String>, OpenError> {
    let wanted = newest(runner);
    if version < wanted {
        return Err(OpenError::Migration {
            database: database.into(),
            reason: format!(
                "its tables have version {version}, this server needs {wanted}: run `roomcast migrate`"
            ),
        });
    }
    Ok(Vec::new())
}

/// Returns the schema version that this server was built for.
fn newest(runner: &Runner) -> i32 {
    let versions = runner.get_migrations().iter();
    versions
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}

/// Returns the schema version of SQLite databases that this server was built for.
#[cfg(feature = "sqlite")]
pub(super) fn newest_sqlite() -> i32 {
    newest(&in_sqlite::migrations::runner())
}

/// Returns the schema version of PostgreSQL databases that this server was built for.
#[cfg(feature = "postgres")]
pub(super) fn newest_postgres() -> i32 {
    newest(&in_postgres::migrations::runner())
}

#[cfg(feature = "sqlite")]
mod in_sqlite {
    refinery::embed_migrations!("../migrations/sqlite");
}

#[cfg(feature = "postgres")]
mod in_postgres {
    refinery::embed_migrations!("../migrations/postgres");
}

/// Creates the tables of this version in an empty SQLite database, without a history of migrations.
///
/// It runs all migrations in one transaction and without refinery's runs, which takes a fraction of
/// the time.
#[cfg(feature = "sqlite")]
pub(super) fn create_in_sqlite(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let runner = in_sqlite::migrations::runner();
    let mut migrations: Vec<_> = runner.get_migrations().iter().collect();
    migrations.sort_by_key(|migration| migration.version());
    let texts: Vec<_> = migrations
        .iter()
        .filter_map(|migration| migration.sql())
        .collect();
    connection.execute_batch(&format!("BEGIN;{};COMMIT", texts.join(";")))
}
