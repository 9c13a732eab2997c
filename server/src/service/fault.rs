use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use roomcast::internal::RetryAfter;

use crate::store::StoreError;

/// The reason why a service rejected a command or could not execute it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceError {
    /// The principal lacks the permission.
    Denied(&'static str),
    /// A field is invalid. The error never repeats the submitted value.
    Invalid {
        /// The field's path in the argument; `[0]` is the argument itself.
        field: Cow<'static, str>,
        /// What is wrong with it, to be appended to the path.
        problem: Cow<'static, str>,
    },
    /// A valid field contradicts stored data or the clock.
    Unfit {
        /// The field's path in the argument.
        field: Cow<'static, str>,
        /// What is wrong with it, to be appended to the path.
        problem: &'static str,
    },
    /// The object does not exist, or is not visible to this principal.
    NotFound(&'static str),
    /// The command contradicts an earlier one.
    Conflict(&'static str),
    /// Text does not fit a message that is being written.
    Misplaced {
        /// What is wrong with it.
        problem: &'static str,
        /// The number of characters that are there.
        offset: usize,
    },
    /// The operation was attempted and failed.
    Failed {
        /// A machine-readable reason.
        reason: String,
        /// A human-readable description.
        message: String,
    },
    /// The user exceeded a rate limit.
    Limited {
        /// How long to wait before trying again.
        retry_after: RetryAfter,
    },
    /// The command cannot be executed now, but may succeed later.
    Unavailable {
        /// How long to wait before trying again.
        retry_after: RetryAfter,
    },
    /// A backend that must decide gave no valid answer.
    NoAnswer {
        /// How long to wait before trying again.
        retry_after: RetryAfter,
    },
}

impl ServiceError {
    /// The error when a withdrawn item is published again or corrected.
    pub(in crate::service) const WITHDRAWN: Self = Self::Conflict("it was withdrawn");
    /// The error when this server cannot read a published item.
    pub(in crate::service) const OTHER_FORM: Self =
        Self::Conflict("a newer version of the server has written it");

    /// Returns the type of the error, which names no input.
    pub(in crate::service) const fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "FORBIDDEN",
            Self::Invalid { .. } => "INVALID_PAYLOAD",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Unfit { .. }
            | Self::Conflict(_)
            | Self::Misplaced { .. }
            | Self::Failed { .. } => "CONFLICT",
            Self::Limited { .. } => "RATE_LIMITED",
            Self::Unavailable { .. } => "STORE_UNAVAILABLE",
            Self::NoAnswer { .. } => "BACKEND_UNAVAILABLE",
        }
    }

    pub(in crate::service) fn invalid(
        field: impl Into<Cow<'static, str>>,
        problem: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// Creates the error if a limit without a rate is reached, which all users share.
    pub(in crate::service) fn limited(wait: Duration) -> Self {
        let retry_after = spread(wait);
        Self::Limited { retry_after }
    }

    /// Creates the error if the command may succeed after `wait`.
    pub(in crate::service) fn unavailable(wait: Duration) -> Self {
        let retry_after = spread(wait);
        Self::Unavailable { retry_after }
    }

    /// Creates the error if the backend may answer after `wait`.
    pub(in crate::service) fn no_answer(wait: Duration) -> Self {
        let retry_after = spread(wait);
        Self::NoAnswer { retry_after }
    }

    /// Prefixes the field of an [`Invalid`](Self::Invalid) or [`Unfit`](Self::Unfit) error with the
    /// path of the argument that contains it.
    #[must_use]
    pub(crate) fn within(mut self, outer: &str) -> Self {
        if let Self::Invalid { field, .. } | Self::Unfit { field, .. } = &mut self {
            *field = format!("{outer}.{field}").into();
        }
        self
    }
}

/// Returns a time after `wait` for one of the callers that fail together.
fn spread(wait: Duration) -> RetryAfter {
    RetryAfter::spread(wait, wait.max(Duration::from_secs(1)))
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.retry_after())
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(why) | Self::NotFound(why) | Self::Conflict(why) => f.write_str(why),
            Self::Misplaced { problem, .. } => f.write_str(problem),
            Self::Failed { message, .. } => f.write_str(message),
            Self::Invalid { field, problem } => write!(f, "{field} {problem}"),
            Self::Unfit { field, problem } => write!(f, "{field} {problem}"),
            Self::Limited { .. } => f.write_str("too many events of this kind, try again later"),
            Self::Unavailable { .. } => f.write_str("the store is not available, try again later"),
            Self::NoAnswer { .. } => f.write_str("the backend does not answer, try again later"),
        }
    }
}

impl std::error::Error for ServiceError {}
