//! Who is where, as the servers that work on one store tell one another.
//!
//! A server has a lease, which it renews. What it tells counts as long as the lease does; others remove
//! what a server told whose lease ran out. Time is the database's: clocks of servers may differ.

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

/// A user in a conversation, as one server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user.
    pub user_id: String,
    /// The user's name.
    pub name: String,
    /// Connections in this conversation; 0 says that the user is not there any more, or that its server is dead.
    pub connections: u32,
    /// Since when the user is there.
    pub since: Time,
}

impl Leases {
    /// Gives a server a lease. Its id must be one that was never used before.
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

    /// Makes a server's lease end later. Returns `false` if it has run out: others may have removed what the server
    /// told, and it needs a new id.
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

    /// Ends a server's lease and removes what it told.
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

    /// Removes what servers told whose leases ran out so long ago, and says how many there were. Whoever looks before that
    /// sees that their users are gone with their servers.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn bury(&self, dead_for: Duration) -> Result<u64, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.bury_nodes(dead_for).await,
        }
    }

    /// Returns how many servers have a lease.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn count(&self) -> Result<usize, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.count_leases().await,
        }
    }

    /// After how long the next lease of another server ends, if it is not renewed; `None` if there is no other server.
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

    /// Tells the others who is here; users of no others are named than what has changed, each once.
    /// Returns `false` if the lease has run out, and nothing was told.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn tell(&self, node: Uuid, here: &[Here]) -> Result<bool, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.tell_presence(node, here).await,
        }
    }

    /// The users who are in these conversations at other servers: each user once, with all connections to servers whose leases count, in the
    /// order of the conversations' and users' ids. 100,000 at most. Who was only at servers whose leases have run out has no
    /// connection.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn remote_presence(
        &self,
        node: Uuid,
        conversations: &[Uuid],
    ) -> Result<Vec<Here>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                postgres.remote_presence(node, conversations).await
            }
        }
    }
}
