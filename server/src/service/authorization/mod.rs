//! Authorization: permissions by role, login sessions, revocations, explanations, and blocked
//! networks.
//!
//! The chat, the HTTP API and commands check with `Access` before each action. This module must not
//! depend on conversations or messages.

pub(in crate::service) mod access;
pub(in crate::service) mod allowed;
mod blocks;
mod explain;
mod replication;
pub(in crate::service) mod revocation;

pub(crate) use access::{Access, ListNodes, LostAccess, MadeLogin, NewLogin};
pub(crate) use allowed::Allowed;
pub(crate) use blocks::{BlockPage, Blocks, ListBlocks, NewBlock, RemoveBlock};
pub(crate) use explain::{ExplainQuery, Explanation};
pub(crate) use replication::RevocationApplier;
pub(crate) use revocation::{EndLogin, MadeRevocation, NewRevocation};
