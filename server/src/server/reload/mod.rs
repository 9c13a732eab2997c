//! Reloads the configuration on SIGHUP, and records it in the audit log.

mod owners;

use std::sync::Arc;

use serde_json::{Value, json};

pub(super) use self::owners::Owners;
pub(crate) use self::owners::Replacement;
use crate::config::Settings;
use crate::service::audit::{ActOutcome, Audit, key_names};

/// Reads the configuration again. The argument checks the settings. Nothing is changed yet.
pub(crate) type Reload = Arc<dyn Fn(&Prepare<'_>) -> ReloadPlan + Send + Sync>;

/// Checks the settings, and returns what replaces the present values.
pub(crate) type Prepare<'a> = dyn Fn(&Settings) -> Result<Replacement, String> + 'a;

/// Applies all changes, or none. Returns why nothing was changed.
pub(crate) type ApplyReload = Box<dyn FnOnce() -> Result<(), ReloadRefusal> + Send>;

/// The changes of a configuration that was read again.
pub(crate) struct ReloadPlan {
    /// The changed keys that a running server applies.
    pub(crate) changed: Vec<String>,
    /// The changed keys that need a restart.
    pub(crate) restart: Vec<String>,
    pub(crate) apply: ApplyReload,
}

/// Why nothing was reloaded.
#[derive(Debug)]
pub(crate) struct ReloadRefusal {
    /// The reason, without values of the configuration.
    pub(crate) reason: String,
    /// The keys that have mistakes.
    pub(crate) keys: Vec<String>,
}

impl ReloadRefusal {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            keys: Vec::new(),
        }
    }

    /// Returns what changes nothing, for this reason.
    pub(crate) fn into_apply(self) -> ApplyReload {
        Box::new(move || Err(self))
    }
}

/// Reloads the configuration. Both steps can block: they read files, and the secrets of the cluster
/// in the database.
pub(super) async fn reload(read: Reload, owners: Arc<Owners>, audit: Audit) {
    let planned =
        tokio::task::spawn_blocking(move || read(&|settings: &Settings| owners.prepare(settings)));
    let Ok(plan) = planned.await else {
        return;
    };
    let request = json!({
        "changed": key_names(&plan.changed),
        "restart": key_names(&plan.restart),
    });
    let started = audit.begin_reload(request).await;
    let applied = tokio::task::spawn_blocking(plan.apply).await;
    match applied {
        Ok(Ok(())) => started.end_reload(ActOutcome::Done, Value::Null).await,
        Ok(Err(ReloadRefusal { reason, keys })) => {
            let after = json!({"reason": reason, "keys": key_names(&keys)});
            started.end_reload(ActOutcome::Refused, after).await;
        }
        Err(_panic) => started.end_reload(ActOutcome::Failed, Value::Null).await,
    }
}
