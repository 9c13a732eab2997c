//! Limits how fast users may act. This module knows users and numbers, and nothing of what they are
//! for.
//!
//! Every table in it is bounded and forgets what is over.

pub(crate) mod bench;
mod spending;
mod users;

pub(crate) use spending::Spent;
pub(crate) use users::{Allowance, Class, Users};
