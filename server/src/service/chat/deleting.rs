//! Deleting conversations.

use uuid::Uuid;

use crate::auth::Principal;
use crate::service::chat::changes::{denied, origin};
use crate::service::chat::handle::{Chat, NO_CONVERSATION};
use crate::service::{fault::ServiceError, rules::policy};
use crate::store::{Change, DeleteConversation, DeletedConversation};
use roomcast::SocketId;

impl Chat {
    /// Deletes a conversation with all that is in it: the owner may, and admins. Doing so twice is answered
    /// like the first time.
    pub(crate) async fn delete_conversation(
        &self,
        by: &Principal,
        from: SocketId,
        conversation_id: Uuid,
    ) -> Result<DeletedConversation, ServiceError> {
        self.0.access.require(by, &policy::DELETE_CONVERSATION)?;
        let deletion = DeleteConversation {
            conversation_id,
            by: self.actor(by),
        };
        let deleted = self.0.store.delete_conversation(deletion, origin(from));
        match deleted.await? {
            Change::Done(deleted) => {
                tracing::info!(user = by.subject, conversation = %conversation_id, "deleted a conversation");
                Ok(deleted)
            }
            Change::Unchanged(deleted) => Ok(deleted),
            Change::Absent => Err(NO_CONVERSATION),
            Change::Denied => Err(denied(by, "only its owner deletes a conversation")),
            Change::Conflict => Err(ServiceError::Conflict(
                "a conversation that is open to everyone is not deleted",
            )),
        }
    }
}
