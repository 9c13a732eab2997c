//! What clients ask for, one file for each feature: its events with their rows, the types that their arguments are
//! parsed into, and those of the answers. Limits of fields are checked by the services.
//!
//! The gateway registers the rows, services take the parsed commands, and `policy` lists the rows for permissions and
//! documents. `form` has the shapes in which arguments come. Nothing in here may know a service, or who the sender is.

pub(crate) mod attendance;
pub(crate) mod conversations;
pub(crate) mod form;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod invites;
mod market;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod notifications;
pub(crate) mod pages;
#[cfg(test)]
mod tests;

pub(crate) use market::{portfolio, prices, signals, trades, withdrawals};
