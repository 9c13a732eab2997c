//! `roomcast migrate`: migrates the database to the schema of this version.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::audit::{AuditTable, DatabaseAct};
use crate::cli::{
    output::{errln, outln},
    progress::Progress,
};
use crate::store::Store;
use crate::{cli, config::Settings};

/// Arguments of `migrate`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Migrate {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Applies missing migrations and prints their names.
pub(in crate::cli) fn run(settings: &Settings, migrate: &Migrate) -> ExitCode {
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("roomcast: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let act = match DatabaseAct::begin(settings, "migrate", &Value::Null) {
        Ok(act) => act,
        Err(error) => {
            errln!("roomcast: {error}");
            return ExitCode::FAILURE;
        }
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
    if let (_, Err(error)) = &migrated {
        errln!("roomcast: the migration could not be recorded in the audit log: {error}");
    }
    let is_recorded = migrated.1.is_ok();
    match migrated.0 {
        Ok(_) if !is_recorded => ExitCode::FAILURE,
        Ok(applied) if migrate.json => {
            let applied = json!({ "applied": applied });
            outln!("{applied:#}");
            ExitCode::SUCCESS
        }
        Ok(applied) if applied.is_empty() => {
            outln!("nothing to migrate");
            ExitCode::SUCCESS
        }
        Ok(applied) => {
            for migration in applied {
                outln!("applied {migration}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}
