//! Records moderation: events by which a user with `chat:moderate` changes what belongs to other
//! users.
//!
//! Changes that the user could make without that permission are not recorded: own messages, own
//! conversations, and leaving a conversation. So users without it cannot fill the audit log.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::subject::Subject;
use super::{Audit, Requester, StartedAct, in_time, late};
use crate::auth::{Permission, Principal};
use crate::service::fault::ServiceError;
use crate::service::rules::event::{EventPolicy, RoomRule, TargetKind};
use roomcast::Socket;

/// Reads a field that the event handles. Others are ignored, as the event does.
fn field<'a, T: Deserialize<'a>>(named: &'a Value, name: &str) -> Result<T, ServiceError> {
    let value = named.get(name).ok_or_else(late)?;
    T::deserialize(value).map_err(|_| late())
}

impl Audit {
    /// Returns whether a user is a moderator.
    pub(crate) fn is_moderator(&self, by: &Principal) -> bool {
        self.0.access.allows(by, Permission::ChatModerate)
    }

    /// Records an event of a moderator before it is handled. Returns `None` if the moderator needs
    /// no permission for it, or if what it names does not exist.
    ///
    /// # Errors
    ///
    /// If the argument does not name what the event changes, or if it cannot be recorded. The event
    /// must not be handled then.
    pub(crate) async fn begin_moderation(
        &self,
        by: &Principal,
        socket: &Socket,
        (policy, kind): (&EventPolicy, TargetKind),
        request: &Value,
    ) -> Result<Option<StartedAct>, ServiceError> {
        in_time(async {
            let Some((path, subject)) = self.of_others(by, policy, kind, request).await? else {
                return Ok(None);
            };
            let about = (Some(path), Some(subject));
            let requester = Requester::of_socket(by, socket);
            let begun = self.begin(requester, "socket", policy.event, about, request);
            begun.await.map(Some)
        })
        .await
    }

    /// Returns what an event changes, as a path and for the state before and after it, if that
    /// belongs to other users.
    async fn of_others(
        &self,
        by: &Principal,
        policy: &EventPolicy,
        kind: TargetKind,
        request: &Value,
    ) -> Result<Option<(String, Subject)>, ServiceError> {
        let store = &self.0.store;
        let (conversation, path, subject) = match kind {
            TargetKind::Message => {
                let id = field(request, "messageId")?;
                let Some(written) = store.authorship(id).await? else {
                    return Ok(None);
                };
                let path = format!("/messages/{id}");
                if policy.room == RoomRule::Author {
                    let is_own = written.user_id == by.subject;
                    return Ok((!is_own).then_some((path, Subject::Message(id))));
                }
                (written.conversation_id, path, Subject::Message(id))
            }
            TargetKind::Conversation | TargetKind::Member => {
                let id: Uuid = field(request, "conversationId")?;
                let mut path = format!("/conversations/{id}");
                if kind == TargetKind::Member {
                    let user: String = field(request, "userId")?;
                    if policy.room == RoomRule::OwnerOrOneself && user == by.subject {
                        return Ok(None);
                    }
                    path.push_str(&format!("/members/{user}"));
                }
                (id, path, Subject::Conversation(id))
            }
        };
        let found = store.conversation(conversation).await?;
        let is_owner = |owner: Option<&str>| owner == Some(by.subject.as_str());
        if found.is_none_or(|found| is_owner(found.conversation.owner_id.as_deref())) {
            return Ok(None);
        }
        Ok(Some((path, subject)))
    }
}
