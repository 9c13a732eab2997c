//! How far users have read.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::store::write::Write;
use crate::store::{Origin, Store, StoreError};

/// How far a user has read.
#[derive(Clone, Debug)]
pub struct MarkRead {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user.
    pub user_id: String,
    /// The last `seq` that was read. A value past the newest message means the newest message.
    pub seq: u64,
}

/// How far a user has read, and what is left; its JSON is part of the acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReadMark {
    /// The last `seq` that was read.
    pub seq: u64,
    /// Messages of others after that which are not deleted; counted up to 1,000.
    pub unread: u64,
    /// Whether that is further than before.
    #[serde(skip)]
    pub advanced: bool,
}

impl Store {
    /// Records how far a user has read; the mark never moves back.
    ///
    /// Returns `None` if the conversation is unknown or the user is not a member.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn mark_read(&self, read: MarkRead) -> Result<Option<ReadMark>, StoreError> {
        let (id, origin) = (read.conversation_id, Origin::default());
        self.submit(read, id, origin, Write::Read).await
    }
}

/// The maximum count of unread messages.
pub const MAX_UNREAD_COUNT: u64 = 1000;
