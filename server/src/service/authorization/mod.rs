//! Who may do what: permissions by role, login sessions, revocations, explanations of both, and
//! networks that are shut out.
//!
//! The chat asks `Access` before it does anything, and so do the HTTP API and commands. Nothing in
//! this module may know conversations or messages.

pub(in crate::service) mod access;
pub(in crate::service) mod allowed;
mod blocks;
mod explain;
mod replication;
pub(in crate::service) mod revoking;

pub(crate) use access::{Access, ListNodes, MadeLogin, NewLogin};
pub(crate) use allowed::Allowed;
pub(crate) use blocks::{BlockPage, Blocks, ListBlocks, NewBlock, RemoveBlock};
pub(crate) use explain::{Explanation, Question};
pub(crate) use replication::RevocationApplier;
pub(crate) use revoking::{EndLogin, MadeRevocation, NewRevocation};
