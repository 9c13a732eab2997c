//! `roomcast migrate`: migrates the database to the schema of this version.

use std::{fmt, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::audit::{AuditTable, DatabaseAct};
use crate::cli::{
    output::{fail, outln},
    progress::Progress,
};
use crate::store::Store;
use crate::{cli, config::Settings};

/// Arguments of `migrate`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Migrate {
    /// Print the result as JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Applies missing migrations and prints their names.
pub(in crate::cli) fn run(settings: &Settings, migrate: &Migrate) -> ExitCode {
    let fails = |error: &dyn fmt::Display| fail(migrate.json, error, 1);
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fails(&format_args!("cannot start the runtime: {error}")),
    };
    let act = match DatabaseAct::begin(settings, "migrate", &Value::Null) {
        Ok(act) => act,
        Err(error) => return fails(&error),
    };
    let migrated = runtime.block_on(async {
        let progress = Progress::unknown("migrating");
        let migrated = Store::migrate(&settings.store).await;
        drop(progress);
        let applied = migrated.as_deref().unwrap_or_default();
        // Nothing has changed if nothing was applied.
        let table = match applied {
            [] => AuditTable::Skip,
            _ => AuditTable::Insert,
        };
        let after = json!({"migrations": applied});
        let recorded = act.end(settings, migrated.is_ok(), &after, table).await;
        (migrated, recorded)
    });
    let (migrated, recorded) = migrated;
    let unrecorded = recorded
        .err()
        .map(|error| format!("the migration could not be recorded in the audit log: {error}"));
    match (migrated, unrecorded) {
        (Err(error), None) => fails(&error),
        (Err(error), Some(unrecorded)) => fails(&format_args!("{error}; {unrecorded}")),
        (Ok(_), Some(unrecorded)) => fails(&unrecorded),
        (Ok(applied), None) if migrate.json => {
            let applied = json!({ "applied": applied });
            outln!("{applied:#}");
            ExitCode::SUCCESS
        }
        (Ok(applied), None) if applied.is_empty() => {
            outln!("nothing to migrate");
            ExitCode::SUCCESS
        }
        (Ok(applied), None) => {
            for migration in applied {
                outln!("applied {migration}");
            }
            ExitCode::SUCCESS
        }
    }
}
