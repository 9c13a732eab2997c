//! The rules: who may do what, what is stored, and what others are told of it.
//!
//! A service is a concrete struct that every entrance shares. It sees a
//! [`Principal`](crate::auth::Principal), never a token, and answers with a value or a
//! [`ServiceError`]; which words that becomes for a client is the gateway's business.

mod access;
mod blocks;
mod changes;
mod chat;
mod commands;
mod content;
mod conversations;
mod delivery;
mod elsewhere;
mod explain;
mod following;
mod gate;
mod html;
mod leases;
mod markup;
mod notices;
pub(crate) mod policy;
mod presence;
mod retention;
mod revoking;
mod typing;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub(crate) use access::{Access, NewSession};
pub(crate) use blocks::Blocks;
pub(crate) use chat::Chat;
pub(crate) use commands::{AskPresence, Join, Leave, Object, ReadHistory, SendMessage, SetTyping};
pub(crate) use commands::{
    ChangeMember, CreateConversation, DeleteMessage, EditMessage, ListConversations, MarkAsRead,
    SearchMessages,
};
pub(crate) use explain::{Explanation, Question};
pub(crate) use leases::Leases;
pub(crate) use retention::Retention;
pub(crate) use revoking::NewRevocation;

use crate::store::StoreError;

/// Why a service did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceError {
    /// The principal may not do this.
    Denied(&'static str),
    /// A field does not keep to the rules. Nothing of what was sent is repeated here.
    Invalid {
        /// The field's path.
        field: &'static str,
        /// What is wrong with it, to be read behind the path.
        problem: Cow<'static, str>,
    },
    /// There is no such thing, or not for this principal.
    NotFound(&'static str),
    /// It contradicts something that was done before.
    Conflict(&'static str),
    /// The user does this too often.
    Limited {
        /// How long to wait before trying again.
        retry_after: Duration,
    },
    /// It cannot be done now, but maybe later.
    Unavailable {
        /// How long to wait before trying again.
        retry_after: Duration,
    },
}

impl ServiceError {
    fn invalid(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
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
            Self::Invalid { field, problem } => write!(f, "{field} {problem}"),
            Self::Limited { .. } => f.write_str("too many events of this kind, try again later"),
            Self::Unavailable { .. } => f.write_str("the store is not available, try again later"),
        }
    }
}

impl std::error::Error for ServiceError {}
