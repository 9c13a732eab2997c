//! Records moderation: events by which a user with `chat:moderate` changes what belongs to other
//! users.
//!
//! Changes that the user could make without that permission are not recorded: own messages, own
//! conversations, and leaving a conversation. So users without it cannot fill the audit log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::subject::Subject;
use super::{ActOutcome, Audit, Requester, StartedAct};
use crate::auth::{Permission, Principal};
use crate::service::authorization::Access;
use crate::service::fault::ServiceError;
use crate::service::rules::event::{EventPolicy, RoomRule, TargetKind};
use crate::store::Store;
use roomcast::Socket;
use roomcast_protocol::socket::Args;

/// Records the acts of moderators. Clones share it.
#[derive(Clone)]
pub(crate) struct Moderation(Arc<Inner>);

struct Inner {
    store: Store,
    access: Access,
    /// Empty until the server is built.
    audit: OnceLock<Audit>,
}

/// What an event changes.
#[derive(Debug)]
pub(crate) enum Target {
    Message(Uuid),
    Conversation(Uuid),
    Member(Uuid, String),
}

impl TargetKind {
    /// Reads what an event names.
    ///
    /// # Errors
    ///
    /// If the argument does not name it. The event must not be handled then.
    pub(crate) fn read(self, args: &Args) -> Result<Target, ServiceError> {
        let named: Value = args.get(0).map_err(|_| late())?;
        Ok(match self {
            Self::Message => Target::Message(field(&named, "messageId")?),
            Self::Conversation => Target::Conversation(field(&named, "conversationId")?),
            Self::Member => {
                Target::Member(field(&named, "conversationId")?, field(&named, "userId")?)
            }
        })
    }
}

/// Reads a field that the event handles. Others are ignored, as the event does.
fn field<'a, T: Deserialize<'a>>(named: &'a Value, name: &str) -> Result<T, ServiceError> {
    let value = named.get(name).ok_or_else(late)?;
    T::deserialize(value).map_err(|_| late())
}

impl Moderation {
    pub(crate) fn new(store: Store, access: Access) -> Self {
        Self(Arc::new(Inner {
            store,
            access,
            audit: OnceLock::new(),
        }))
    }

    /// Starts recording, after the server is built.
    pub(crate) fn serve(&self, audit: Audit) {
        // The server is built once, so the cell is empty.
        let _ = self.0.audit.set(audit);
    }

    /// Returns whether a user is a moderator.
    pub(crate) fn is_moderator(&self, by: &Principal) -> bool {
        self.0.access.allows(by, Permission::ChatModerate)
    }

    /// Records an event of a moderator before it is handled. Returns `None` if the moderator needs
    /// no permission for it, or if what it names does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be recorded. The event must not be handled then.
    pub(crate) async fn begin(
        &self,
        by: &Principal,
        socket: &Socket,
        policy: &EventPolicy,
        target: Target,
        request: &Value,
    ) -> Result<Option<StartedAct>, ServiceError> {
        let begun = async {
            let Some((path, subject)) = self.of_others(by, policy, target).await? else {
                return Ok(None);
            };
            let about = (Some(path), Some(subject));
            let audit = self.0.audit.get().ok_or_else(late)?;
            let requester = Requester::of_socket(by, socket);
            let begun = audit.begin(requester, "socket", policy.event, about, request);
            begun.await.map(Some)
        };
        let begun = tokio::time::timeout(RECORD_TIMEOUT, begun).await;
        begun.unwrap_or_else(|_| Err(late()))
    }

    /// Returns what an event changes, as a path and for the state before and after it, if that
    /// belongs to other users.
    async fn of_others(
        &self,
        by: &Principal,
        policy: &EventPolicy,
        target: Target,
    ) -> Result<Option<(String, Subject)>, ServiceError> {
        let store = &self.0.store;
        let (conversation, path, subject) = match target {
            Target::Message(id) => {
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
            Target::Conversation(id) => (
                id,
                format!("/conversations/{id}"),
                Subject::Conversation(id),
            ),
            Target::Member(id, user) => {
                if policy.room == RoomRule::OwnerOrOneself && user == by.subject {
                    return Ok(None);
                }
                let path = format!("/conversations/{id}/members/{user}");
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

    /// Returns the future that records the outcome of an event.
    pub(crate) fn end<T>(
        act: StartedAct,
        result: &Result<T, ServiceError>,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let outcome = ActOutcome::of(result);
        let answer = match result {
            Ok(_) => Value::Null,
            Err(error) => serde_json::json!({"error": error.kind()}),
        };
        async move {
            // The store may still record the outcome after this time.
            let _ = tokio::time::timeout(RECORD_TIMEOUT, act.end(outcome, &answer)).await;
        }
    }
}

impl std::fmt::Debug for Moderation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moderation").finish_non_exhaustive()
    }
}

/// Returns the error if an act cannot be recorded in time.
fn late() -> ServiceError {
    ServiceError::unavailable(RETRY_AFTER)
}

/// Maximum time to record an act before it is performed, and the same after it.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay before a client retries an act that could not be recorded.
const RETRY_AFTER: Duration = Duration::from_secs(2);
