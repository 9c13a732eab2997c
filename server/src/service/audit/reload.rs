//! Records reloads of the configuration.
//!
//! Other acts are refused if they cannot be recorded. A reload is not: it can replace the password
//! of the database that does not store the entry, and only a restart would remain.

use serde_json::Value;

use super::masking::shortened;
use super::{ActOutcome, Audit, Requester, StartedAct};
use crate::metrics::Counter;

impl Audit {
    /// Records a reload before it is applied. `request` has names of keys, not values. Who sent the
    /// signal is unknown.
    pub(crate) async fn begin_reload(&self, request: Value) -> StartedAct {
        let mut entry = self.entry(Requester::default(), "signal", "reload");
        entry.request = request;
        let stored = self.0.store.record_act(entry.clone()).await;
        let recorded = self.write(&entry, stored).await;
        match &recorded {
            Ok(()) => self.0.metrics.count(Counter::AuditRecorded),
            Err(error) => {
                tracing::warn!(%error, "a reload could not be recorded and is applied nevertheless");
            }
        }
        StartedAct {
            audit: self.clone(),
            entry,
            subject: None,
            is_missing: recorded.is_err(),
        }
    }
}

impl StartedAct {
    /// Records the outcome of a reload. With the password that the reload has set, the database
    /// also stores an entry that is missing.
    pub(crate) async fn end_reload(self, outcome: ActOutcome, after: Value) {
        self.finish(outcome, Ok(after)).await;
    }
}

/// Returns names of keys for an entry: not more than have room in it.
pub(crate) fn key_names<'a>(keys: impl IntoIterator<Item = &'a String>) -> Value {
    let keys = keys.into_iter().take(MAX_KEYS);
    keys.map(|key| Value::String(shortened(key))).collect()
}

/// Maximum number of keys in an entry. The configuration has fewer; a file can have more unknown
/// ones.
const MAX_KEYS: usize = 300;
