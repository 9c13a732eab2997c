//! Reloads the configuration on SIGHUP: all changes that a running server can apply, or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::{
    check,
    settings::{Configuration, Mistake, changed, mixed_section, reloaded},
};
use crate::config::Settings;
use crate::server::{ApplyReload, Prepare, ReloadPlan, ReloadRefusal, Replacement};
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
}

impl<R: Fn() -> Configuration + Send + Sync + 'static> Reloader<R> {
    /// Reads the configuration and checks it. Without mistakes, the plan applies all changes that
    /// need no restart. `prepare` checks them once more and returns what replaces the values. The
    /// log level is set as well, also if an operator has set another.
    pub(super) fn plan(self: &Arc<Self>, prepare: &Prepare<'_>) -> ReloadPlan {
        let mut configuration = (self.read)();
        configuration.check(check);
        let Configuration {
            settings,
            mistakes,
            warnings,
            ..
        } = configuration;
        if !mistakes.is_empty() {
            return refused(&mistakes);
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let running = self.running.lock().clone();
        let merged = reloaded(&running, &settings);
        let (applied, restart) = (changed(&running, &merged), changed(&merged, &settings));
        let plan = |apply: ApplyReload| ReloadPlan {
            changed: applied.iter().cloned().collect(),
            restart: restart.iter().cloned().collect(),
            apply,
        };
        if let Some(section) = mixed_section(&applied, &restart) {
            let keys = list(&restart);
            tracing::error!(
                section,
                keys,
                "{UNCHANGED}: other keys of the section have changed as well, restart"
            );
            let reason = format!("keys of `{section}` that need a restart have changed as well");
            return plan(ReloadRefusal::new(reason).into_apply());
        }
        let replacement = check(&merged).and_then(|()| prepare(&merged));
        let replace = match replacement {
            Ok(replace) => replace,
            Err(error) => {
                tracing::error!(error, "{UNCHANGED}");
                return plan(ReloadRefusal::new(error).into_apply());
            }
        };
        let (this, keys) = (Arc::clone(self), (applied.clone(), restart.clone()));
        plan(Box::new(move || {
            this.apply(merged, replace, &keys.0, &keys.1)
        }))
    }

    /// Applies a checked configuration.
    fn apply(
        &self,
        merged: Settings,
        replace: Replacement,
        applied: &BTreeSet<String>,
        restart: &BTreeSet<String>,
    ) -> Result<(), ReloadRefusal> {
        // The level is set before anything is replaced, because only it can still be refused.
        if let Err(error) = self.log_level.configure(&merged.log.level) {
            tracing::error!(error, "{UNCHANGED}");
            return Err(ReloadRefusal::new(error));
        }
        replace();
        if !restart.is_empty() {
            tracing::warn!(
                keys = list(restart),
                "changed keys need a restart, the server uses their previous values"
            );
        }
        tracing::info!(changed = list(applied), "configuration reloaded");
        *self.running.lock() = merged;
        Ok(())
    }
}

/// Logs the mistakes of a configuration, and returns that nothing is reloaded. The audit log gets
/// only the keys, because descriptions of mistakes have values.
fn refused(mistakes: &[Mistake]) -> ReloadPlan {
    for mistake in mistakes {
        tracing::error!(%mistake, "{UNCHANGED}");
    }
    let keys: BTreeSet<_> = mistakes.iter().flat_map(Mistake::keys).collect();
    let refusal = ReloadRefusal {
        reason: "the configuration has mistakes".to_owned(),
        keys: keys.into_iter().map(str::to_owned).collect(),
    };
    ReloadPlan {
        changed: Vec::new(),
        restart: Vec::new(),
        apply: refusal.into_apply(),
    }
}

fn list(keys: &BTreeSet<String>) -> String {
    Vec::from_iter(keys.iter().map(String::as_str)).join(", ")
}

const UNCHANGED: &str = "configuration not reloaded, nothing has changed";
