//! Leases and presence of the servers that share one store.
//!
//! A server renews its lease. Its presence entries are valid while the lease is; peers remove the
//! entries of a server whose lease has expired. All times are the database's, because the clocks of
//! servers may differ.

#![cfg_attr(
    not(feature = "postgres"),
    allow(
        unused_variables,
        clippy::unused_async,
        reason = "without PostgreSQL no store is shared"
    )
)]

use std::time::Duration;

use uuid::Uuid;

use super::SharedBackend;
use crate::store::{StoreError, Time};

/// The leases of the servers that share a store. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Leases(pub(super) SharedBackend);

/// The presence of a user in a conversation, as one server reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user.
    pub user_id: String,
    /// The user's name.
    pub name: String,
    /// Connections in this conversation; 0 if the user has left or the lease of the user's server
    /// has expired.
    pub connections: u32,
    /// The time since which the user is present.
    pub since: Time,
}

impl Leases {
    /// Creates a lease for a server. The id must never have been used before.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn take(&self, node: Uuid, lease: Duration) -> Result<(), StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.take_lease(node, lease).await,
        }
    }

    /// Extends a server's lease. Returns `false` if it has expired.
    ///
    /// Peers may have removed the entries of an expired lease, so the server then needs a new id.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn renew(&self, node: Uuid, lease: Duration) -> Result<bool, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.renew_lease(node, lease).await,
        }
    }

    /// Ends a server's lease and removes its presence entries.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn end(&self, node: Uuid) -> Result<(), StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.end_lease(node).await,
        }
    }

    /// Removes the entries of servers whose leases expired at least `dead_for` ago. Returns the
    /// number of servers.
    ///
    /// A reader that reads before the removal sees that the users left because their server died.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn remove_expired(&self, dead_for: Duration) -> Result<u64, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.remove_expired_nodes(dead_for).await,
        }
    }

    /// Returns the time until the next lease of another server expires, or `None` if there is no
    /// other server.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn next_end(&self, node: Uuid) -> Result<Option<Duration>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.next_end(node).await,
        }
    }

    /// Publishes presence changes of this server's users, each entry at most once.
    ///
    /// `here` contains only the users whose presence changed. Returns `false` if the lease has
    /// expired; then nothing is stored.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn tell(&self, node: Uuid, here: &[PresenceEntry]) -> Result<bool, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.publish_presence(node, here).await,
        }
    }

    /// Returns the users who are in these conversations on other servers.
    ///
    /// Each user appears once, with the sum of the connections to servers with valid leases,
    /// ordered by conversation and user id. A user whose servers' leases have all expired has 0
    /// connections.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn remote_presence(
        &self,
        node: Uuid,
        conversations: &[Uuid],
    ) -> Result<Vec<PresenceEntry>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                postgres.remote_presence(node, conversations).await
            }
        }
    }
}
