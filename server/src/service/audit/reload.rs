//! Records reloads of the configuration.
//!
//! Other acts are refused if they cannot be recorded. A reload is not: it can replace the password
//! of the database that does not store the entry, and only a restart would remain.

use serde_json::Value;

use super::masking::shortened;
use super::{ActOutcome, Audit, Requester, text};
use crate::metrics::Counter;
use crate::store::{AuditEntry, Time};

/// A reload that has begun.
#[must_use = "the outcome must be recorded"]
pub(crate) struct StartedReload {
    audit: Audit,
    entry: AuditEntry,
    /// Whether the entry is missing in the table or the file.
    is_missing: bool,
}

impl Audit {
    /// Records a reload before it is applied. `request` has names of keys, not values. Who sent the
    /// signal is unknown.
    pub(crate) async fn begin_reload(&self, request: &Value) -> StartedReload {
        let entry = AuditEntry {
            request: text(request),
            ..self.entry(Requester::default(), "signal", "reload")
        };
        let stored = self.0.store.begin_audit(entry.clone()).await;
        let recorded = self.write(&entry, stored).await;
        match &recorded {
            Ok(()) => self.0.metrics.count(Counter::AuditRecorded),
            Err(error) => {
                tracing::warn!(%error, "a reload could not be recorded and is applied nevertheless");
            }
        }
        StartedReload {
            audit: self.clone(),
            entry,
            is_missing: recorded.is_err(),
        }
    }
}

impl StartedReload {
    /// Records the outcome, and the whole entry if it is missing.
    pub(crate) async fn end(mut self, outcome: ActOutcome, after: &Value) {
        let inner = &self.audit.0;
        self.entry.after = text(after);
        self.entry.outcome = Some(outcome.as_str().to_owned());
        self.entry.finished_at = Some(Time::now());
        let entry = &self.entry;
        let recorded = async {
            if self.is_missing {
                inner.store.begin_audit(entry.clone()).await?;
            }
            // An insertion that seemed to fail may have been stored without the outcome.
            inner.store.end_audit(entry.clone()).await
        };
        let stored = recorded.await;
        // With the password that the reload has set, the database stores the entry.
        if self.audit.finish(entry, stored).await && self.is_missing {
            inner.metrics.count(Counter::AuditRecorded);
        }
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
