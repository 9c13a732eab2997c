//! `roomcast serve`: starts logging and runs the server until it stops.

pub(super) mod files;
mod reload;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use self::reload::Reloader;
use super::database::audit;
use super::output::errln;
use super::settings::Configuration;
use super::{chain, log, runtime};
use crate::{
    config::Settings,
    server::{Prepare, Reload, RunError},
};

/// Runs the server. `read` reads the configuration again for SIGHUP.
pub(super) fn run(
    settings: &Settings,
    warnings: &[String],
    read: impl Fn() -> Configuration + Send + Sync + 'static,
) -> ExitCode {
    let log = match log::start(&settings.log, settings.profile()) {
        Ok(log) => log,
        Err(error) => {
            errln!("roomcast: {error}");
            return ExitCode::from(super::REFUSED);
        }
    };
    let audit_file = match audit::open_file(settings) {
        Ok(file) => file,
        Err(error) => {
            tracing::error!(%error, "the audit log cannot be written");
            errln!("roomcast: {error}");
            return ExitCode::from(super::REFUSED);
        }
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    files::raise_limit(settings);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let reloader = Arc::new(Reloader::new(settings, read, log.level.clone()));
    let reload: Reload = Arc::new(move |prepare: &Prepare<'_>| reloader.plan(prepare));
    let outcome = runtime.block_on(crate::server::run(settings, reload, log.level, audit_file));
    // The process waits only briefly for tasks that are still running: a write of the audit file to
    // a disk that hangs would never end.
    let is_hurried = matches!(outcome, Err(RunError::Hurried));
    runtime.shutdown_timeout(if is_hurried {
        Duration::ZERO
    } else {
        EXIT_TIMEOUT
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %chain(&error), "stopped");
            if matches!(error, RunError::Refused(_)) {
                ExitCode::from(super::REFUSED)
            } else if matches!(error, RunError::Tasks(_)) {
                ExitCode::from(TASK_ENDED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Maximum time to wait for tasks after the server has stopped.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The exit code if a task ended that cannot be restarted: `EX_SOFTWARE` of sysexits(3).
const TASK_ENDED: u8 = 70;
