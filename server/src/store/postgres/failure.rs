//! What an error of the database means for whoever asked.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use roomcast::internal::chain;

/// What kind of fault it is, and therefore what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The database cannot be reached, does not answer in time, or is about to stop. The connection is
    /// of no more use; trying again on another may help.
    Lost,
    /// The database works and asks to try again: a deadlock, a race.
    Again,
    /// The database works but does not store: its disk is full, it only reads.
    Full,
    /// The database works, but the server's role lacks a right, or the schema lacks a table or a
    /// column. Every change fails until an operator mends that.
    Missing,
    /// The database did not like this very request.
    Bad,
}

/// A fault with what the database said.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) reason: String,
}

impl Failure {
    /// An answer that did not come in time.
    pub(super) fn timed_out() -> Self {
        Self {
            fault: Fault::Lost,
            reason: "no answer in time".into(),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self {
            fault: fault(&error),
            reason: chain(&error),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other @ (PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_)) => Self {
                fault: Fault::Lost,
                reason: chain(&other),
            },
        }
    }
}

/// Whether a right, a table or a column is missing, which concerns every change.
fn is_missing(state: &SqlState) -> bool {
    [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(state)
}

/// The kind of an error, by its SQLSTATE (PostgreSQL, appendix A).
pub(super) fn fault(error: &tokio_postgres::Error) -> Fault {
    let Some(state) = error.code() else {
        // The error is no answer of the database, or a value did not fit its column, which has no
        // code either.
        let text = error.to_string();
        let unfit = ["error serializing", "error deserializing"];
        return if unfit.iter().any(|start| text.starts_with(start)) {
            Fault::Bad
        } else {
            Fault::Lost
        };
    };
    if [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        // Another server stored the same a moment ago: next time it will be seen.
        SqlState::UNIQUE_VIOLATION,
    ]
    .contains(state)
    {
        return Fault::Again;
    }
    // The first two characters are the class.
    match state.code().get(..2) {
        // These are connection exceptions, interventions of an operator, statements that took too
        // long, and system errors. Such a connection may be dead or about to be, so another one is
        // tried.
        Some("08" | "57" | "58") => Fault::Lost,
        Some("53") if *state == SqlState::TOO_MANY_CONNECTIONS => Fault::Lost,
        // Trying again at once would find the disk as full as before.
        Some("53" | "25") => Fault::Full,
        _ if is_missing(state) => Fault::Missing,
        // Credentials that are wrong and a database that is gone may be mended while the server
        // runs.
        Some("28" | "3D") => Fault::Lost,
        _ => Fault::Bad,
    }
}
