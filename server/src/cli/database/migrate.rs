//! `roomcast migrate`: migrates the database to the schema of this version.

use std::process::ExitCode;

use crate::cli::output::{errln, outln};
use crate::store::Store;
use crate::{cli, config::Settings};

/// Applies missing migrations and prints their names.
pub(in crate::cli) fn run(settings: &Settings) -> ExitCode {
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("roomcast: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(Store::migrate(&settings.store)) {
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
