//! The secrets that the servers of one database share.

use std::fmt;

/// The secrets of the cluster that are stored in the database.
#[non_exhaustive]
pub struct ClusterSecrets {
    /// The secrets; the first one encrypts.
    pub secrets: Vec<Vec<u8>>,
    /// Roles that could read or replace the secrets, besides the owner, superusers and the server's
    /// own role.
    pub readers: Vec<String>,
}

/// Omits the secrets.
impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecrets")
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}
