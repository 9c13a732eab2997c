//! Reloads the configuration on SIGHUP: all changes that a running server can apply, or none.

use parking_lot::Mutex;

use crate::cli::{
    check,
    log::SetLevel,
    settings::{Configuration, changed, is_reloaded},
};
use crate::config::Settings;

/// Reads the configuration again, and applies it.
pub(super) struct Reloader<R> {
    read: R,
    set_level: SetLevel,
    /// The settings with which the server runs.
    running: Mutex<Settings>,
}

impl<R: Fn() -> Configuration> Reloader<R> {
    pub(super) fn new(settings: &Settings, read: R, set_level: SetLevel) -> Self {
        Self {
            read,
            set_level,
            running: Mutex::new(settings.clone()),
        }
    }

    /// Reads the configuration and checks it. Without mistakes, calls `apply`, which changes either
    /// everything or nothing, and then sets the log level.
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
        if !applied.is_empty()
            && let Err(error) = apply(&settings).and_then(|()| (self.set_level)(&settings.log))
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
