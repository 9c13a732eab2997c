//! `roomcast migrate`: migrates the database to the schema of this version.

use std::process::ExitCode;

use super::output::{errln, outln};
use crate::config::Settings;
use crate::store::Store;

/// Applies missing migrations and prints their names.
pub(super) fn run(settings: &Settings) -> ExitCode {
    let runtime = match super::runtime() {
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
