//! The stored events of channels: pages of them, the removal of old ones, and how many there are.

mod reading;
mod trimming;
mod usage;

pub(super) use reading::{Start, read, unstored};
pub(super) use trimming::Trimming;
pub(super) use usage::{Bounds, Usage};
