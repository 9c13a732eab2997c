//! Runs the statements of publications.

use crate::store::postgres::Postgres;
use crate::store::postgres::failure::{Failure, Fault};
use crate::store::postgres::reading::once;
use crate::store::postgres::sql::rows;
use crate::store::statement::{Row, Statement};
use crate::store::{PublicationFault, StoreError};

impl Postgres {
    /// Runs a statement once. Its failure does not open the circuit breaker: no caller waits for
    /// it, and it is polled again soon.
    pub(in crate::store) async fn publication_rows(
        &self,
        statement: &Statement,
    ) -> Result<Vec<Row>, PublicationFault> {
        once!(self, client => rows(client, statement)).map_err(denied)
    }
}

/// Converts a failed query to the error that tells whether an operator must act.
fn denied(failure: Failure) -> PublicationFault {
    // Waiting does not help a statement that is rejected or that lacks a right or a table.
    if matches!(failure.fault, Fault::Bad | Fault::Missing) {
        PublicationFault::Denied(failure.reason)
    } else {
        PublicationFault::Store(StoreError::Failed)
    }
}
