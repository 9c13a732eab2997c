//! `roomcast check-config --connect`: tests whether all configured targets can be reached.

use std::process::ExitCode;

use super::output::{errln, outln};
use crate::{
    config::Settings,
    server::{Trial, try_all},
};

/// Tests all targets and prints a line for each.
pub(super) fn run(settings: &Settings) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("roomcast: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = runtime.block_on(try_all(settings));
    for Trial { key, target, fault } in &trials {
        match fault {
            None => outln!("ok      {key}: {target}"),
            Some(fault) => outln!("failed  {key}: {target}: {fault}"),
        }
    }
    if trials.iter().all(|trial| trial.fault.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
