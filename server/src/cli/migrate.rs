//! `roomcast migrate`: brings the database to the tables of this version.

use std::process::ExitCode;

use crate::config::Settings;
use crate::store::Store;

/// Applies what is missing and says what that was.
pub(super) fn run(settings: &Settings) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("roomcast: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(Store::migrate(&settings.store)) {
        Ok(applied) if applied.is_empty() => {
            println!("nothing to migrate");
            ExitCode::SUCCESS
        }
        Ok(applied) => {
            for migration in applied {
                println!("applied {migration}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}
