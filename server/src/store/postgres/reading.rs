//! Reading: queries on connections that a pool lends, and what becomes of these connections.

use deadpool_postgres::{Object, PoolError, TimeoutType};
use tokio::sync::SemaphorePermit;
use tokio::time::error::Elapsed;
use tokio_postgres::Error;

use super::Postgres;
use super::failure::{Failure, Fault};
use super::lane::throw_away;
use crate::breaker::Admission;
use crate::metrics::Counter;
use crate::store::StoreError;

/// Runs a query on a connection that reads; once more on another one if the first is lost. Statements that
/// change something must bear being repeated. (A macro, since a future that borrows its connection
/// cannot be told to be `Send` in a bound.)
macro_rules! read {
    ($store:expr, $client:ident => $query:expr) => {{
        let _permit = $store.permit_read()?;
        let mut tries = 0;
        loop {
            let lent = $store.lend(&mut tries).await?;
            let $client: &deadpool_postgres::ClientWrapper = &lent.client;
            let answer = tokio::time::timeout($store.0.patience, $query).await;
            if let Some(value) = $store.take_back(lent, answer, &mut tries)? {
                break Ok(value);
            }
        }
    }};
}

/// Runs a query that changes something, as `read!` does, and has the health of the database follow it.
macro_rules! change {
    ($store:expr, $client:ident => $query:expr) => {{
        let step = $store.0.health.changes.begin();
        let changing = async { $crate::store::postgres::reading::read!($store, $client => $query) };
        let changed: Result<_, $crate::store::StoreError> = changing.await;
        if matches!(changed, Err($crate::store::StoreError::Failed)) {
            if $store.0.health.changes.is_stuck() {
                $store.0.health.refuses("a change took too long");
            } else {
                $store.0.health.suspect();
            }
        }
        drop(step);
        changed
    }};
}

/// Runs a query once, whose failure does not count against the database: for queries that nobody waits for and that
/// are asked again soon. A restart that nobody else notices must not open the breaker. Returns the [`Failure`] of the query;
/// that there is no connection for it ends the caller. (A macro for the same reason as `read!`.)
macro_rules! once {
    ($store:expr, $client:ident => $query:expr) => {{
        let _permit = $store.permit_read()?;
        let lent = $store.lend_once().await?;
        let $client: &deadpool_postgres::ClientWrapper = &lent.client;
        let answer = tokio::time::timeout($store.0.patience, $query).await;
        lent.give_back(answer)
    }};
}

pub(super) use {change, once, read};

/// A connection that reads, and the right to use it.
pub(super) struct Lent<'a> {
    pub(super) admission: Admission<'a>,
    pub(super) client: Object,
}

impl Lent<'_> {
    /// Gives the connection back with what came of a query that is not tried again.
    pub(super) fn give_back<T>(
        self,
        answer: Result<Result<T, Error>, Elapsed>,
    ) -> Result<T, Failure> {
        let answer = timely(answer);
        match &answer {
            Ok(_) => self.admission.succeeded(),
            Err(failure) => match failure.fault {
                // A database that refuses a statement is available.
                Fault::Bad | Fault::Missing => self.admission.succeeded(),
                Fault::Lost => throw_away(self.client),
                Fault::Again | Fault::Full => {}
            },
        }
        answer
    }
}

impl Postgres {
    /// Permits one more read, unless too many run or wait.
    pub(super) fn permit_read(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        Ok(self.0.reads.try_acquire()?)
    }

    /// Lends a connection for a query that is tried once.
    pub(super) async fn lend_once(&self) -> Result<Lent<'_>, StoreError> {
        let admission = self.0.health.breaker.admit();
        let admission = admission.map_err(StoreError::Suspended)?;
        match self.0.readers.get().await {
            // No connection in time ends the call without a verdict on the database.
            Ok(client) => Ok(Lent { admission, client }),
            Err(_) => Err(StoreError::Failed),
        }
    }

    /// Lends a connection that reads.
    pub(super) async fn lend(&self, tries: &mut u32) -> Result<Lent<'_>, StoreError> {
        loop {
            let admission = self
                .0
                .health
                .breaker
                .admit()
                .map_err(StoreError::Suspended)?;
            let failure = match self.0.readers.get().await {
                Ok(client) => return Ok(Lent { admission, client }),
                Err(PoolError::Closed) => return Err(StoreError::Closed),
                // All connections are lent, which says nothing about the database.
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

    /// Takes a connection back with what came of it; none says that the query is worth another try.
    pub(super) fn take_back<T>(
        &self,
        lent: Lent<'_>,
        answer: Result<Result<T, Error>, Elapsed>,
        tries: &mut u32,
    ) -> Result<Option<T>, StoreError> {
        let failure = match timely(answer) {
            Ok(value) => {
                lent.admission.succeeded();
                return Ok(Some(value));
            }
            Err(failure) => failure,
        };
        if failure.fault == Fault::Lost {
            lent.admission.failed();
            // A statement may still run on it, and the next one would wait behind that.
            throw_away(lent.client);
        } else {
            lent.admission.succeeded();
        }
        self.try_again(&failure, tries).map(|()| None)
    }

    /// Another connection may do what a lost one did not; but only once.
    fn try_again(&self, failure: &Failure, tries: &mut u32) -> Result<(), StoreError> {
        self.0.metrics.count(Counter::StoreErrors);
        // Only one failure is tried again: a restart of the database breaks one connection, and the
        // next try gets a new one.
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

/// The value of an answer, or why there is none.
fn timely<T>(answer: Result<Result<T, Error>, Elapsed>) -> Result<T, Failure> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::timed_out()),
    }
}

/// How often a query is tried.
const READS: u32 = 2;
