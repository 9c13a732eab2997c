//! Reloads the configuration on SIGHUP: all changes that a running server can apply, or none.

use parking_lot::Mutex;

use crate::cli::{
    check,
    settings::{Configuration, changed, is_reloaded},
};
use crate::config::Settings;
use crate::service::api::LogLevel;

/// Reads the configuration again, and applies it.
pub(super) struct Reloader<R> {
    read: R,
    log_level: LogLevel,
    /// The settings with which the server runs.
    running: Mutex<Settings>,
}

impl<R: Fn() -> Configuration> Reloader<R> {
    pub(super) fn new(settings: &Settings, read: R, log_level: LogLevel) -> Self {
        Self {
            read,
            log_level,
            running: Mutex::new(settings.clone()),
        }
    }

    /// Reads the configuration and checks it. Without mistakes, calls `apply`, which changes either
    /// everything or nothing, and then sets the log level, also if an operator has set another.
    pub(super) fn reload(&self, apply: &dyn Fn(&Settings) -> Result<(), String>) {
        let mut configuration = (self.read)();
        configuration.check(check);
        let Configuration {
            settings,
            mistakes,
            warnings,
            ..
        } = configuration;
        for mistake in &mistakes {
            tracing::error!(%mistake, "{UNCHANGED}");
        }
        if !mistakes.is_empty() {
            return;
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let mut running = self.running.lock();
        let (applied, refused): (Vec<_>, Vec<_>) = changed(&running, &settings)
            .into_iter()
            .partition(|key| is_reloaded(key));
        let is_overridden = self.log_level.is_overridden();
        let set_level = || self.log_level.configure(&settings.log.level);
        if (!applied.is_empty() || is_overridden)
            && let Err(error) = apply(&settings).and_then(|()| set_level())
        {
            tracing::error!(error, "{UNCHANGED}");
            return;
        }
        if !refused.is_empty() {
            tracing::warn!(
                keys = refused.join(", "),
                "changed keys need a restart, the server uses their previous values"
            );
        }
        tracing::info!(changed = applied.join(", "), "configuration reloaded");
        running.log.level = settings.log.level;
        running.auth.jwt.secret = settings.auth.jwt.secret;
        running.auth.jwt.algorithm = settings.auth.jwt.algorithm;
    }
}

const UNCHANGED: &str = "configuration not reloaded, nothing has changed";
