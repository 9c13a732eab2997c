//! Classifies database errors.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use roomcast::internal::chain;

/// The class of an error, which determines the reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The database is unreachable, does not respond in time, or is shutting down. The connection
    /// is unusable; a retry on another may succeed.
    Lost,
    /// The database works and asks for a retry, for example after a deadlock or a race.
    Again,
    /// The database works but does not store: its disk is full, or it is read-only.
    Full,
    /// The database works, but the server's role lacks a right, or the schema lacks a table or a
    /// column. Every change fails until an operator fixes that.
    Missing,
    /// The database rejected this particular request.
    Bad,
}

/// An error's class and the database's message.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) reason: String,
}

impl Failure {
    /// Returns the failure for a response that did not arrive in time.
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

/// Returns whether a right, a table or a column is missing, which affects every change.
fn is_missing(state: &SqlState) -> bool {
    [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(state)
}

/// Classifies an error by its SQLSTATE (PostgreSQL, appendix A).
pub(super) fn fault(error: &tokio_postgres::Error) -> Fault {
    let Some(state) = error.code() else {
        // Without a SQLSTATE, the error is not a response of the database, or a value did not fit
        // its column.
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
        // Another server has just stored the same row. The retry will find it.
        SqlState::UNIQUE_VIOLATION,
    ]
    .contains(state)
    {
        return Fault::Again;
    }
    // The first two characters are the class.
    match state.code().get(..2) {
        // These are connection exceptions, operator interventions, statement timeouts and system
        // errors. Such a connection may be dead or closing, so the caller retries on another.
        Some("08" | "57" | "58") => Fault::Lost,
        Some("53") if *state == SqlState::TOO_MANY_CONNECTIONS => Fault::Lost,
        // An immediate retry would find the disk just as full.
        Some("53" | "25") => Fault::Full,
        _ if is_missing(state) => Fault::Missing,
        // Wrong credentials and a missing database may be fixed while the server runs.
        Some("28" | "3D") => Fault::Lost,
        _ => Fault::Bad,
    }
}
