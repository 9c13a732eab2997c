//! Runs queries on pooled connections and decides which connections return to the pool.

use std::time::Duration;

use deadpool_postgres::{Object, PoolError, TimeoutType};
use tokio::sync::SemaphorePermit;
use tokio_postgres::Error;

use super::Postgres;
use super::failure::{Failure, Fault};
use super::lane::discard_connection;
use crate::breaker::BreakerPermit;
use crate::metrics::Counter;
use crate::store::StoreError;
use crate::store::in_progress::Step;

/// Runs a query on a read connection, and once more on another connection if the first is lost.
///
/// Statements that change data must be repeatable. This is a macro because a bound cannot require
/// `Send` of a future that borrows its connection.
macro_rules! read {
    ($store:expr, $client:ident => $query:expr) => {{
        let _permit = $store.permit_read()?;
        let mut tries = 0;
        loop {
            let lent = $store.lend(&mut tries).await?;
            let $client: &deadpool_postgres::ClientWrapper = &lent.client;
            let answer = roomcast::internal::while_awake($store.patience(), $query).await;
            if let Some(value) = $store.take_back(lent, answer, &mut tries)? {
                break Ok::<_, $crate::store::StoreError>(value);
            }
        }
    }};
}

/// Runs a query that changes data, like `read!`, and updates the health of the database.
macro_rules! change {
    ($store:expr, $client:ident => $query:expr) => {{
        let step = $store.begin_change();
        let changing = async { $crate::store::postgres::reading::read!($store, $client => $query) };
        let changed: Result<_, $crate::store::StoreError> = changing.await;
        $store.note_change(&changed);
        drop(step);
        changed
    }};
}

/// Runs a query once, without counting its failure against the database.
///
/// This is for polling queries that no caller waits for: a restart that only they notice must not
/// open the breaker. Returns the [`Failure`] of the query. If there is no connection, the calling
/// function returns the error. (A macro for the same reason as `read!`.)
macro_rules! once {
    ($store:expr, $client:ident => $query:expr) => {{
        let _permit = $store.permit_read()?;
        let lent = $store.lend_once().await?;
        let $client: &deadpool_postgres::ClientWrapper = &lent.client;
        let answer = roomcast::internal::while_awake($store.patience(), $query).await;
        lent.give_back(answer)
    }};
}

pub(in crate::store) use {change, once, read};

/// A read connection and the breaker's admission to use it.
pub(in crate::store) struct BorrowedConnection<'a> {
    pub(in crate::store) admission: BreakerPermit<'a>,
    pub(in crate::store) client: Object,
}

impl BorrowedConnection<'_> {
    /// Returns the connection to the pool after a query that is not retried.
    pub(super) fn give_back<T>(self, answer: Option<Result<T, Error>>) -> Result<T, Failure> {
        let answer = timely(answer);
        match &answer {
            Ok(_) => self.admission.succeeded(),
            Err(failure) => match failure.fault {
                // A database that rejects a statement is available.
                Fault::Bad | Fault::Missing => self.admission.succeeded(),
                Fault::Lost => discard_connection(self.client),
                Fault::Again | Fault::Full => {}
            },
        }
        answer
    }
}

impl Postgres {
    /// Returns the timeout of a query.
    pub(in crate::store) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Begins a change, which counts as in progress until the result is dropped.
    pub(in crate::store) fn begin_change(&self) -> Step {
        self.0.health.changes.begin()
    }

    /// Updates the health of the database after a change.
    pub(in crate::store) fn note_change<T>(&self, changed: &Result<T, StoreError>) {
        if !matches!(changed, Err(StoreError::Failed)) {
            return;
        }
        if self.0.health.changes.is_stuck() {
            self.0.health.refuses("a change took too long");
        } else {
            self.0.health.suspect();
        }
    }

    /// Reserves a slot for a read, unless too many are running or waiting.
    pub(in crate::store) fn permit_read(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        Ok(self.0.reads.try_acquire()?)
    }

    /// Borrows a connection for a query that is tried once.
    pub(in crate::store) async fn lend_once(&self) -> Result<BorrowedConnection<'_>, StoreError> {
        let admission = self.0.health.breaker.admit();
        let admission = admission.map_err(StoreError::Suspended)?;
        match self.0.readers.get().await {
            // If no connection is free in time, the call fails without a result for the breaker.
            Ok(client) => Ok(BorrowedConnection { admission, client }),
            Err(_) => Err(StoreError::Failed),
        }
    }

    /// Borrows a read connection.
    pub(in crate::store) async fn lend(
        &self,
        tries: &mut u32,
    ) -> Result<BorrowedConnection<'_>, StoreError> {
        loop {
            let admission = self
                .0
                .health
                .breaker
                .admit()
                .map_err(StoreError::Suspended)?;
            let failure = match self.0.readers.get().await {
                Ok(client) => return Ok(BorrowedConnection { admission, client }),
                Err(PoolError::Closed) => return Err(StoreError::Closed),
                // All connections are in use, which is no sign of the database's health.
                Err(PoolError::Timeout(TimeoutType::Wait)) => {
                    self.0.metrics.count(Counter::StoreErrors);
                    return Err(StoreError::Overloaded);
                }
                Err(error) => Failure::from(error),
            };
            admission.failed();
            self.try_again(&failure, tries)?;
        }
    }

    /// Returns the connection to the pool with the query's result; `None` means that the query
    /// should be retried.
    pub(in crate::store) fn take_back<T>(
        &self,
        lent: BorrowedConnection<'_>,
        answer: Option<Result<T, Error>>,
        tries: &mut u32,
    ) -> Result<Option<T>, StoreError> {
        let is_timely = answer.is_some();
        let failure = match timely(answer) {
            Ok(value) => {
                lent.admission.succeeded();
                return Ok(Some(value));
            }
            Err(failure) => failure,
        };
        if failure.fault == Fault::Lost {
            // A restart of the database breaks all connections of the pool. That the first query on
            // one of them fails says nothing about the database now.
            if *tries > 0 || !is_timely {
                lent.admission.failed();
            }
            // A statement may still be running on the connection and would block the next one.
            discard_connection(lent.client);
            // Idle connections may be broken as well, although nothing has noticed it yet. The
            // retry must not get one of them. A slow query says nothing about them.
            if is_timely {
                self.0.readers.retain(|_, _| false);
            }
        } else {
            lent.admission.succeeded();
        }
        self.try_again(&failure, tries).map(|()| None)
    }

    /// Allows one retry on another connection after a transient failure.
    fn try_again(&self, failure: &Failure, tries: &mut u32) -> Result<(), StoreError> {
        self.0.metrics.count(Counter::StoreErrors);
        // A restart of the database breaks every connection. One retry suffices, because it gets a
        // new connection.
        *tries += 1;
        if *tries < READS && matches!(failure.fault, Fault::Lost | Fault::Again) {
            self.0.metrics.count(Counter::StoreRetries);
            return Ok(());
        }
        if let Some(more) = self.0.health.failures.permit() {
            tracing::warn!(
                reason = failure.reason,
                more,
                "a query of the store has failed"
            );
        }
        Err(StoreError::Failed)
    }
}

/// Returns the value of a response, or the failure.
fn timely<T>(answer: Option<Result<T, Error>>) -> Result<T, Failure> {
    match answer {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(error.into()),
        None => Err(Failure::timed_out()),
    }
}

/// The maximum number of attempts of a query.
const READS: u32 = 2;
