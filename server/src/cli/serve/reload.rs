//! Reloads the configuration on SIGHUP: all changes that a running server can apply, or none.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::cli::{
    check,
    settings::{Configuration, changed, mixed_section, reloaded},
};
use crate::config::Settings;
use crate::server::Replacement;
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

    /// Reads the configuration and checks it. Without mistakes, applies all changes that need no
    /// restart. `prepare` checks them once more and returns what replaces the values. The log level
    /// is set as well, also if an operator has set another.
    pub(super) fn reload(&self, prepare: &dyn Fn(&Settings) -> Result<Replacement, String>) {
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
        let merged = reloaded(&running, &settings);
        let (applied, refused) = (changed(&running, &merged), changed(&merged, &settings));
        let list =
            |keys: &BTreeSet<String>| Vec::from_iter(keys.iter().map(String::as_str)).join(", ");
        if let Some(section) = mixed_section(&applied, &refused) {
            let keys = list(&refused);
            tracing::error!(
                section,
                keys,
                "{UNCHANGED}: other keys of the section have changed as well, restart"
            );
            return;
        }
        let replacement = check(&merged).and_then(|()| prepare(&merged));
        // The level is set before anything is replaced, because only it can still be refused.
        let replacement = replacement.and_then(|replacement| {
            self.log_level.configure(&merged.log.level)?;
            Ok(replacement)
        });
        match replacement {
            Ok(replace) => replace(),
            Err(error) => {
                tracing::error!(error, "{UNCHANGED}");
                return;
            }
        }
        if !refused.is_empty() {
            tracing::warn!(
                keys = list(&refused),
                "changed keys need a restart, the server uses their previous values"
            );
        }
        tracing::info!(changed = list(&applied), "configuration reloaded");
        *running = merged;
    }
}

const UNCHANGED: &str = "configuration not reloaded, nothing has changed";
