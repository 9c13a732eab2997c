//! Authentication: tokens, login sessions and guests, roles, and revocations.
//!
//! Every proof of identity results in a [`Principal`]; later code never sees a token. This module
//! knows sockets only as callers that request a principal.

pub(crate) mod authenticator;
pub(crate) mod backend;
pub(crate) mod configured;
mod fault;
pub(crate) mod guest;
pub(crate) mod jwt;
mod name;
pub(crate) mod offer;
pub(crate) mod outbound;
pub(crate) mod rbac;
mod revocation;
mod sockets;
mod weakness;

pub use roomcast::{Principal, connection::Credentials};

pub use fault::AuthFault;
pub(crate) use guest::{is_guest, is_reserved};
pub use jwt::{JwtAuthenticator, Keys, KeysError};
pub(crate) use name::{is_hidden, is_invisible, is_name};
pub(crate) use rbac::roles_of;
pub use rbac::{Permission, Permissions, Roles, RolesError};
pub use revocation::{MAX_REVOCATIONS, Revocations, Revoked, TooManyRevocations, secret_hash};
pub(crate) use sockets::RefreshOffer;
pub(crate) use weakness::Weakness;
