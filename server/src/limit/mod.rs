//! How fast users may act. It knows users and numbers, and nothing of what they are for.
//!
//! Every table in here is bounded and forgets what is over.

pub(crate) mod bench;
mod spending;
mod users;

pub(crate) use spending::Spent;
pub(crate) use users::{Allowance, Class, Users};
