//! `roomcast migrate`: migrates the database to the schema of this version.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

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
    let progress = Progress::unknown("migrating");
    let migrated = runtime.block_on(Store::migrate(&settings.store));
    drop(progress);
    match migrated {
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
