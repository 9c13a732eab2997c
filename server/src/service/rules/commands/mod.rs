//! Events that clients send, one file per feature, with their rows, argument types and answer
//! types.
//!
//! The gateway derives handlers from the rows, services execute the parsed commands and check the
//! bounds of fields, and `policy` lists the rows for permissions and documents. `form` has the
//! accepted forms of arguments. This module must not depend on services or know who the sender is:
//! the `call` of a row is only a name.

pub(crate) mod attendance;
pub(crate) mod channels;
pub(crate) mod conversations;
pub(crate) mod form;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod invites;
mod market;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod notifications;
pub(crate) mod streams;
#[cfg(test)]
mod tests;

pub(crate) use market::{corrections, pages, portfolio, prices, signals, trades, withdrawals};
