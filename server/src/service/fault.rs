use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::store::StoreError;

/// Why a service did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceError {
    /// The principal may not do this.
    Denied(&'static str),
    /// A field does not keep to the rules. Nothing of what was sent is repeated here.
    Invalid {
        /// The field's path in the argument; `[0]` is the argument itself.
        field: Cow<'static, str>,
        /// What is wrong with it, to be read behind the path.
        problem: Cow<'static, str>,
    },
    /// A field keeps to the rules, and does not go with what is stored.
    Unfit {
        /// The field's path in the argument.
        field: Cow<'static, str>,
        /// What is wrong with it, to be read behind the path.
        problem: &'static str,
    },
    /// There is no such thing, or not for this principal.
    NotFound(&'static str),
    /// The command contradicts something that was done before.
    Conflict(&'static str),
    /// What was asked for was tried, and did not come about.
    Failed {
        /// A word for programs.
        reason: String,
        /// What is wrong, for people.
        message: String,
    },
    /// The user does this too often.
    Limited {
        /// How long to wait before trying again.
        retry_after: Duration,
    },
    /// The command cannot be done now, but perhaps later.
    Unavailable {
        /// How long to wait before trying again.
        retry_after: Duration,
    },
}

impl ServiceError {
    pub(in crate::service) fn invalid(
        field: impl Into<Cow<'static, str>>,
        problem: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The fault of an argument that is inside of another one: its field is named by its path from
    /// there.
    #[must_use]
    pub(crate) fn within(mut self, outer: &str) -> Self {
        if let Self::Invalid { field, .. } = &mut self {
            *field = format!("{outer}.{field}").into();
        }
        self
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable {
            retry_after: error.retry_after(),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(why) | Self::NotFound(why) | Self::Conflict(why) => f.write_str(why),
            Self::Failed { message, .. } => f.write_str(message),
            Self::Invalid { field, problem } => write!(f, "{field} {problem}"),
            Self::Unfit { field, problem } => write!(f, "{field} {problem}"),
            Self::Limited { .. } => f.write_str("too many events of this kind, try again later"),
            Self::Unavailable { .. } => f.write_str("the store is not available, try again later"),
        }
    }
}

impl std::error::Error for ServiceError {}
