//! What joins this server to others on the same store.
//!
//! The composition root comes in here. Nothing in here may know what a conversation is made of, or who may do what.

mod adapter;

pub(crate) use adapter::{AdapterFault, check, join};
