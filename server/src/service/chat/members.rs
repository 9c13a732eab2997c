//! Members of conversations: adding, removing, and their notification levels.

use crate::auth::Principal;
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION, denied, hidden_conversation, origin};
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::cluster::{LevelOf, News};
use crate::service::fault::ServiceError;
use crate::service::rules::commands::conversations::Changed;
use crate::service::rules::commands::members::{AddMember, RemoveMember, SetNotificationLevel};
use crate::service::rules::content;
use crate::service::rules::emissions::conversations::{NOTIFICATION_LEVEL, NotificationLevel};
use crate::store::{Change, MemberChange};
use roomcast::{Broadcast, Socket, SocketId};

impl Chat {
    /// Adds a member. Only the owner and admins may. Repeating it changes nothing.
    pub(crate) async fn add_member(
        &self,
        allowed: Allowed<AddMember>,
        from: Option<SocketId>,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
        let change = MemberChange {
            conversation_id: command.conversation_id,
            user_id: command.user_id,
            by: self.actor(&by),
            removes: false,
            limit: self.0.limits.members,
        };
        let full = "the conversation has as many members as it may have";
        self.change_member(&by, from, change, full).await
    }

    /// Removes a member.
    ///
    /// The owner and admins may remove other users, and every user may remove itself. When an owner
    /// leaves, the longest-standing member becomes the owner. Repeating it changes nothing.
    pub(crate) async fn remove_member(
        &self,
        allowed: Allowed<RemoveMember>,
        from: Option<SocketId>,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
        if let Some(permission) = RemoveMember::permission(&by.subject, &command.user_id) {
            self.0.access.require(&by, permission)?;
        }
        let change = MemberChange {
            conversation_id: command.conversation_id,
            user_id: command.user_id,
            by: self.actor(&by),
            removes: true,
            limit: self.0.limits.members,
        };
        let conflict = if change.user_id == by.subject {
            "the owner is the last member, who can delete the conversation"
        } else {
            "the owner cannot be removed"
        };
        self.change_member(&by, from, change, conflict).await
    }

    /// Stores which notifications a member wants, and notifies the user's other sockets on all
    /// servers.
    pub(crate) async fn set_level(
        &self,
        allowed: Allowed<SetNotificationLevel>,
        socket: &Socket,
    ) -> Result<NotificationLevel, ServiceError> {
        let (by, command) = allowed.into_parts();
        let (conversation_id, level) = (command.conversation_id, command.level);
        let stored = self.0.store.set_level(conversation_id, &by.subject, level);
        if !stored.await? {
            return Err(hidden_conversation(&by, conversation_id));
        }
        let changed = LevelOf {
            conversation_id,
            user_id: by.subject.as_str().into(),
            level,
        };
        emit_level(socket.namespace().local().except(socket.id()), &changed);
        if let Some(announcer) = self.0.conversations.announcer() {
            announcer.announce(News::Level(changed));
        }
        Ok(NotificationLevel {
            conversation_id,
            level,
        })
    }

    async fn change_member(
        &self,
        by: &Principal,
        from: Option<SocketId>,
        change: MemberChange,
        conflict: &'static str,
    ) -> Result<Changed, ServiceError> {
        content::check_user_id("userId", &change.user_id)?;
        match self.0.store.change_member(change, origin(from)).await? {
            Change::Done(conversation) | Change::Unchanged(conversation) => {
                Ok(Changed { conversation })
            }
            Change::Absent => Err(NO_CONVERSATION),
            Change::Denied => Err(denied(
                by,
                "only its owner changes the members of a conversation",
            )),
            Change::Conflict => Err(ServiceError::Conflict(conflict)),
        }
    }
}

/// Emits the notification level of a user to the user's sockets on this server.
pub(super) fn emit_level(to: Broadcast<'_>, changed: &LevelOf) {
    let level = NotificationLevel {
        conversation_id: changed.conversation_id,
        level: changed.level,
    };
    NOTIFICATION_LEVEL.emit(to.to(user_room(&changed.user_id)), &level);
}
