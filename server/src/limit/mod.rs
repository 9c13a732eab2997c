//! Rate limits for users. This module knows users and numbers, but not what they are for.
//!
//! Every table is bounded and evicts expired entries.

pub(crate) mod bench;
mod spending;
mod users;

pub(crate) use spending::Spent;
pub(crate) use users::{Allowance, Class, Users};
