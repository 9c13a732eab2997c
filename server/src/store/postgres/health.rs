//! Whether the database is there, and whether it stores.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::lane::throw_away;
use crate::breaker::Breaker;

/// What all who use the database know of it.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) breaker: Breaker,
    /// Whether the last change was taken: a full database reads but does not write.
    writable: AtomicBool,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            breaker: Breaker::new("postgresql"),
            writable: AtomicBool::new(true),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.breaker.is_closed() && self.writable.load(Ordering::Relaxed)
    }

    /// Notes whether a change was taken.
    pub(super) fn writes(&self, taken: bool, reason: &str) {
        if self.writable.swap(taken, Ordering::Relaxed) == taken {
            return;
        }
        if taken {
            tracing::info!("the database stores again");
        } else {
            tracing::error!(reason, "the database does not store");
        }
    }
}

/// Asks now and then, so that a breaker that opened without traffic, or stays open for lack of it,
/// closes again. Ends with the store.
pub(super) async fn watch(
    health: Weak<Health>,
    pool: Pool,
    interval: Duration,
    patience: Duration,
) {
    loop {
        let pause = match health.upgrade() {
            // The handle is weak and held for a moment only, so that the task ends with the store.
            Some(health) => health.breaker.wait().map_or(interval, |wait| {
                wait.clamp(Duration::from_millis(20), interval)
            }),
            None => return,
        };
        sleep(pause).await;
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
        // All connections are in use: whoever uses them will say how it went.
        // The admission is dropped without a verdict, which leaves the breaker as it is.
        Err(deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => return,
        Err(error) => {
            tracing::debug!(reason = Failure::from(error).reason, "no connection");
            admission.failed();
            return;
        }
    };
    let writable = health.writable.load(Ordering::Relaxed);
    // The smallest change that there is tells whether the database stores.
    let question = if writable {
        "SELECT 1"
    } else {
        "UPDATE roomcast_schema SET oldest = oldest"
    };
    match timeout(patience, client.batch_execute(question)).await {
        Ok(Ok(())) => {
            admission.succeeded();
            health.writes(true, "");
        }
        // A database that answers with an error is there, although it may not store.
        Ok(Err(error)) if error.code().is_some() => admission.succeeded(),
        Ok(Err(_)) | Err(_) => {
            admission.failed();
            throw_away(client);
        }
    }
}
