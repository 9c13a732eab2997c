//! Reloads the configuration on SIGHUP: all changes that a running server can apply, or none.

use parking_lot::Mutex;

use crate::cli::{
    check,
    settings::{Configuration, changed, is_reloaded, reloaded},
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
        // Keys of tokens depend on each other, and only some of them are reloaded.
        let is_mixed = applied.iter().any(|key| key.starts_with(KEYS))
            && refused.iter().any(|key| key.starts_with(KEYS));
        if is_mixed {
            let keys = refused.join(", ");
            tracing::error!(
                keys,
                "{UNCHANGED}: other keys of tokens have changed as well, restart"
            );
            return;
        }
        let merged = reloaded(&running, &settings);
        if let Err(error) = check(&merged) {
            tracing::error!(error, "{UNCHANGED}");
            return;
        }
        let is_overridden = self.log_level.is_overridden();
        let set_level = || self.log_level.configure(&merged.log.level);
        if (!applied.is_empty() || is_overridden)
            && let Err(error) = apply(&merged).and_then(|()| set_level())
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
        *running = merged;
    }
}

/// The section of the keys of tokens.
const KEYS: &str = "auth.jwt.";
const UNCHANGED: &str = "configuration not reloaded, nothing has changed";
