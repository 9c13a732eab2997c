//! `roomcast check-config --connect`: tests whether all configured targets can be reached.

use std::io;

use serde_json::{Value, json};

use crate::cli::output::outln;
use crate::{
    config::Settings,
    server::{Trial, try_all},
};

/// Tests all targets.
pub(in crate::cli) fn run(settings: &Settings) -> io::Result<Vec<Trial>> {
    Ok(crate::cli::runtime()?.block_on(try_all(settings)))
}

/// Prints a line for each target.
pub(in crate::cli) fn print(trials: &[Trial]) {
    for Trial { key, target, fault } in trials {
        match fault {
            None => outln!("ok      {key}: {target}"),
            Some(fault) => outln!("failed  {key}: {target}: {fault}"),
        }
    }
}

/// Returns the results as JSON.
pub(in crate::cli) fn json(trials: &[Trial]) -> Value {
    let trials = trials.iter();
    let results = trials.map(|Trial { key, target, fault }| {
        json!({"key": key, "target": target, "ok": fault.is_none(), "fault": fault})
    });
    results.collect()
}

/// Returns whether all targets work.
pub(in crate::cli) fn is_reached(trials: &[Trial]) -> bool {
    trials.iter().all(|trial| trial.fault.is_none())
}
