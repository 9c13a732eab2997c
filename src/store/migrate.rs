//! Brings a database to the tables that this version uses.

use std::path::Path;

use refinery::embed_migrations;
use rusqlite::Connection;

use super::OpenError;

/// Applies the migrations that the database does not have yet.
///
/// A database that has migrations unknown to this version was written by a newer one and is refused.
pub(super) fn sqlite(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let report = migrations::runner()
        .run(connection)
        .map_err(|error| OpenError::Migration {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated the database");
    }
    Ok(())
}

embed_migrations!("migrations/sqlite");
