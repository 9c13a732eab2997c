//! Brings a database to the tables that this version uses.
//!
//! The two backends have migrations of their own with their own numbers, but the same tables. How a
//! migration must look so that old and new servers can work side by side is told in
//! `docs/storage.md`.

use refinery::{Report, Runner};
#[cfg(feature = "postgres")]
use tokio_postgres::error::SqlState;

use super::OpenError;

/// Applies the migrations that an SQLite database does not have yet, or only looks whether there
/// are any.
///
/// A database that has migrations unknown to this version was written by a newer one and is refused.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite(
    connection: &mut rusqlite::Connection,
    path: &std::path::Path,
    apply: bool,
) -> Result<Vec<String>, OpenError> {
    let refused = |error: refinery::Error| OpenError::Migration {
        database: path.display().to_string(),
        reason: error.to_string(),
    };
    let runner = in_sqlite::migrations::runner();
    if !apply {
        let applied = runner.get_applied_migrations(connection).map_err(refused)?;
        let last = applied.iter().map(refinery::Migration::version).max();
        // Without the right to migrate the server only looks, and refuses tables that are too old.
        return complete(&runner, last.unwrap_or(0), &path.display().to_string());
    }
    runner
        .run(connection)
        .map(|report| names(&report))
        .map_err(refused)
}

/// Applies the migrations that a PostgreSQL database does not have yet, or only looks whether there
/// are any.
///
/// Of many servers that start at the same time one migrates and the others wait for it. A database
/// of a newer version is taken unless that version says that this one cannot work with it.
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
    // During an update a newer server has migrated first, and this one may go on beside it.
    let runner = in_postgres::migrations::runner().set_abort_missing(false);
    if !apply {
        let known = client
            .query_one(
                "SELECT to_regclass('refinery_schema_history') IS NOT NULL",
                &[],
            )
            .await;
        let known = known
            .and_then(|row| row.try_get(0))
            .map_err(|error| refused(chain(&error)))?;
        let last = if known {
            runner
                .get_last_applied_migration_async(client)
                .await
                .map_err(|error| refused(chain(&error)))?
        } else {
            None
        };
        complete(&runner, last.map_or(0, |last| last.version()), database)?;
        return compatible(client, &runner).await.map_err(refused);
    }
    // The lock belongs to the database session, so it is gone with the connection, whatever happens.
    // The short limit that follows is for the tables: as long as a migration waits for one, everybody
    // else who wants that table waits behind it.
    let lock = format!(
        "SET lock_timeout = '{LOCK_PATIENCE}'; SELECT pg_advisory_lock({LOCK});
         SET lock_timeout = '{TABLE_PATIENCE}'"
    );
    client
        .batch_execute(&lock)
        .await
        .map_err(|error| refused(error.to_string()))?;
    let applied = match run(&runner, client).await {
        Ok(applied) => applied,
        Err(error) => return Err(refused(explain(client, &error).await)),
    };
    // The tables are checked behind the migrations, since another server may have gone further
    // meanwhile.
    compatible(client, &runner).await.map_err(refused)?;
    client
        .batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))
        .await
        .map_err(|error| refused(error.to_string()))?;
    Ok(applied)
}

/// Applies migrations, each in a transaction of its own. One that does not get the lock of a table in
/// time is tried again after a pause, in which others get theirs.
#[cfg(feature = "postgres")]
async fn run(
    runner: &Runner,
    client: &mut tokio_postgres::Client,
) -> Result<Vec<String>, refinery::Error> {
    let deadline = tokio::time::Instant::now() + TABLES_PATIENCE;
    let mut applied = Vec::new();
    loop {
        let error = match runner.run_async(client).await {
            Ok(report) => {
                applied.extend(names(&report));
                return Ok(applied);
            }
            Err(error) => error,
        };
        // The migrations before the one that failed are committed, and are reported with the next
        // attempt.
        applied.extend(error.report().into_iter().flat_map(names));
        if !is_lock_timeout(&error) || tokio::time::Instant::now() >= deadline {
            return Err(error);
        }
        tracing::warn!("a migration waits for a table that is in use");
        tokio::time::sleep(TABLES_PAUSE).await;
    }
}

/// Whether a statement did not get a lock within `lock_timeout`.
#[cfg(feature = "postgres")]
fn is_lock_timeout(error: &refinery::Error) -> bool {
    code(error) == Some(SqlState::LOCK_NOT_AVAILABLE)
}

/// Returns what PostgreSQL has answered, if an error is an answer of PostgreSQL.
#[cfg(feature = "postgres")]
fn code(error: &(dyn std::error::Error + 'static)) -> Option<SqlState> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let cause = causes.find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    cause.and_then(tokio_postgres::Error::code).cloned()
}

/// Describes why the migrations failed. If the role lacks a right, names the right.
#[cfg(feature = "postgres")]
async fn explain(client: &tokio_postgres::Client, error: &refinery::Error) -> String {
    let text = chain(error);
    // Without a schema in which the role may make tables, PostgreSQL says that there is none.
    let lacks = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    if !code(error).is_some_and(|code| lacks.contains(&code)) {
        return text;
    }
    match missing_right(client).await {
        Ok(Some(right)) => format!("{text}: {right}"),
        Ok(None) | Err(_) => text,
    }
}

/// Returns the right that the role lacks to migrate, and the statement that gives it.
#[cfg(feature = "postgres")]
pub(super) async fn missing_right(
    client: &tokio_postgres::Client,
) -> Result<Option<String>, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT quote_ident(current_user), quote_ident(coalesce(current_schema(), 'public')),
                    current_schema() IS NOT NULL
                        AND has_schema_privilege(current_user, current_schema(), 'CREATE'),
                    (SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class
                     WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
                       AND relname IN ('refinery_schema_history', 'messages', 'conversations', 'roomcast_schema')
                       AND NOT pg_has_role(current_user, relowner, 'USAGE')
                     LIMIT 1)",
            &[],
        )
        .await?;
    let (role, schema): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (may_create, owner): (bool, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
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

/// Joins an error and its causes, which have what PostgreSQL has answered.
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

/// Whether the tables, if they are newer, are fit for this version.
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
            "its tables need a server made for version {oldest} or newer, this one is for {own}"
        ));
    }
    Ok(Vec::new())
}

/// The advisory lock of the server that migrates.
#[cfg(feature = "postgres")]
const LOCK: i64 = 0x726f_6f6d_0001;

/// How long another server may take to migrate.
#[cfg(feature = "postgres")]
const LOCK_PATIENCE: &str = "5min";
/// How long a migration waits for a table, and others behind it.
#[cfg(feature = "postgres")]
const TABLE_PATIENCE: &str = "1s";
/// How long a migration leaves a table to others before it tries again.
#[cfg(feature = "postgres")]
const TABLES_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// How long migrations try to get their tables.
#[cfg(feature = "postgres")]
const TABLES_PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// The migrations of a report, in order; each is logged.
fn names(report: &Report) -> Vec<String> {
    let applied = report.applied_migrations().iter().map(|migration| {
        tracing::info!(%migration, "migrated the database");
        migration.to_string()
    });
    applied.collect()
}

/// Whether a database is at least at the version that this server was made for.
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

/// The version of the tables that this server was made for.
fn newest(runner: &Runner) -> i32 {
    let versions = runner.get_migrations().iter();
    versions
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}

#[cfg(feature = "sqlite")]
mod in_sqlite {
    refinery::embed_migrations!("../migrations/sqlite");
}

#[cfg(feature = "postgres")]
mod in_postgres {
    refinery::embed_migrations!("../migrations/postgres");
}
