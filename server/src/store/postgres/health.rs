//! Monitors whether the database is reachable and stores changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::Pool;
use roomcast::internal::{LogThrottle, while_awake};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::failure::{Failure, Fault};
use super::lane::discard_connection;
use crate::breaker::Breaker;
use crate::store::in_progress::InProgress;

/// The health state shared by all users of the database.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) breaker: Breaker,
    /// Whether the last change was stored. A full database serves reads but rejects writes.
    writable: AtomicBool,
    /// Whether a change has failed for a reason that may affect other changes.
    suspected: AtomicBool,
    /// Notified when the database should be probed soon.
    asked: Notify,
    /// The changes in progress.
    pub(super) changes: Arc<InProgress>,
    /// Limits the log lines about failed changes and queries.
    pub(super) failures: LogThrottle,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            breaker: Breaker::new("postgresql"),
            writable: AtomicBool::new(true),
            suspected: AtomicBool::new(false),
            asked: Notify::new(),
            changes: Arc::default(),
            failures: LogThrottle::new(LOG_LINES),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.breaker.is_closed()
            && self.writable.load(Ordering::Relaxed)
            && !self.changes.is_stuck()
    }

    /// Requests an early probe because a change has failed. One failed change does not prove that
    /// others fail.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
        self.asked.notify_one();
    }

    fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Relaxed) || !self.writable.load(Ordering::Relaxed)
    }

    /// Records that the database has stored a change.
    pub(super) fn stores(&self) {
        if !self.writable.swap(true, Ordering::Relaxed) {
            tracing::info!("the database accepts changes again");
        }
    }

    /// Records that no change can be stored because of this failure.
    pub(super) fn fails(&self, failure: &Failure) {
        let reason = &*failure.reason;
        match failure.fault {
            Fault::Missing => {
                if self.begins_to_fail() {
                    tracing::error!(reason, "{MISSING}");
                }
            }
            Fault::Lost | Fault::Again | Fault::Full | Fault::Bad => self.refuses(reason),
        }
    }

    /// Records that no change can be stored for this reason.
    pub(super) fn refuses(&self, reason: &str) {
        if self.begins_to_fail() {
            tracing::error!(reason, "the database does not accept changes");
        }
    }

    /// Marks the database as unwritable. Returns whether it was writable before.
    fn begins_to_fail(&self) -> bool {
        let did_store = self.writable.swap(false, Ordering::Relaxed);
        if did_store {
            self.asked.notify_one();
        }
        did_store
    }
}

/// Probes the database periodically, so that an open breaker closes again even without traffic.
/// Ends when the store is dropped.
pub(super) async fn watch(
    health: Weak<Health>,
    pool: Pool,
    interval: Duration,
    patience: Duration,
) {
    loop {
        {
            // The handle is weak and upgraded for one interval only, so that the task ends with the
            // store.
            let Some(health) = health.upgrade() else {
                return;
            };
            let interval = if health.is_suspected() {
                interval.min(PROBE_INTERVAL)
            } else {
                interval
            };
            let pause = health.breaker.wait().map_or(interval, |wait| {
                wait.clamp(Duration::from_millis(20), interval)
            });
            if health.is_suspected() {
                sleep(pause).await;
            } else {
                let _ = timeout(pause, health.asked.notified()).await;
            }
        }
        let Some(health) = health.upgrade() else {
            return;
        };
        ask(&health, &pool, patience).await;
    }
}

async fn ask(health: &Arc<Health>, pool: &Pool, patience: Duration) {
    let Ok(admission) = health.breaker.admit() else {
        return;
    };
    let client = match pool.get().await {
        Ok(client) => client,
        // All connections are in use, so their users observe the database's state. Dropping the
        // admission without a result leaves the breaker unchanged.
        Err(deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => return,
        Err(error) => {
            tracing::debug!(reason = Failure::from(error).reason, "no connection");
            admission.failed();
            return;
        }
    };
    let is_suspected = health.is_suspected();
    health.suspected.store(false, Ordering::Relaxed);
    let (question, patience) = if is_suspected {
        (PROBE, PROBE_TIMEOUT)
    } else {
        ("SELECT 1", patience)
    };
    match while_awake(patience, client.batch_execute(question)).await {
        Some(Ok(())) => {
            admission.succeeded();
            if is_suspected {
                health.stores();
            }
        }
        // A database that responds with an error is reachable, even if it does not store.
        Some(Err(error)) if error.code().is_some() => {
            admission.succeeded();
            // A connection whose probe failed is in an unknown state.
            discard_connection(client);
            if is_suspected {
                health.fails(&error.into());
            }
        }
        Some(Err(_)) | None => {
            admission.failed();
            discard_connection(client);
            if is_suspected {
                health.refuses("no answer in time");
            }
        }
    }
}

/// Checks whether changes can be stored: makes a small change and needs the locks and rights of
/// conversation changes.
///
/// The statements of one query run in one transaction. The time limit is shorter than that of
/// changes, because readiness waits for the probe.
const PROBE: &str = "SET LOCAL lock_timeout = '500ms';
    UPDATE roomcast_schema SET oldest = oldest;
    UPDATE conversations SET last_seq = last_seq WHERE false;
    INSERT INTO messages SELECT * FROM messages WHERE false;
    INSERT INTO message_versions SELECT * FROM message_versions WHERE false;
    INSERT INTO members SELECT * FROM members WHERE false;
    INSERT INTO reads SELECT * FROM reads WHERE false;
    INSERT INTO conversation_changes SELECT * FROM conversation_changes WHERE false;
    INSERT INTO journals SELECT * FROM journals WHERE false;
    INSERT INTO journal_entries SELECT * FROM journal_entries WHERE false";
/// The log message about a missing right or table, with its remedy.
const MISSING: &str = "the database refuses changes: the server's role lacks a right, or a table is missing: \
    grant the right (see docs/storage.md) or run `roomcast migrate`";
/// The burst of log lines about failures, before the limit is one per second.
const LOG_LINES: u32 = 20;
/// The time after which a probe without an answer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval between two probes of a database that does not store.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
