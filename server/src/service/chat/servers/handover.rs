//! The handover of recovering clients between servers.
//!
//! The old server reports how far it has emitted each conversation. The new server sends the
//! missing steps from the store before the client joins again.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::service::chat::connections::live_since;
use crate::service::chat::handle::Chat;
use crate::service::chat::sequencer::conversations::{LiveConversation, conversation_of};
use crate::service::chat::sequencer::delivery::{emit_step, emit_updated, user_room};
use crate::service::chat::sequencer::gap::as_shown;
use crate::service::chat::sequencer::recorded::Recorded;
use crate::service::chat::servers::statuses::{contacts, statuses_of};
use crate::service::fault::ServiceError;
use crate::service::rules::emissions::attendance::STATUS;
use crate::service::rules::rooms::Followed;
use crate::store::{
    Committed, MAX_RECENT_CHANGES, Missed, RecentChange, Revision, StoreError, Time,
};
use roomcast::{Broadcast, Room, Socket};

/// The handover data that the old server of a client sends to the new one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HandoverData {
    /// The conversations of the client, and how far each was sent to it.
    conversations: Vec<(Uuid, EmittedPosition)>,
    /// The client's other subscriptions, which the new server starts again.
    followed: Vec<Followed>,
}

/// The position up to which a conversation was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct EmittedPosition {
    seq: u64,
    changes: u64,
    /// The number of the last message before the client joined. The client received all later
    /// messages live.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

impl From<EmittedPosition> for Revision {
    fn from(EmittedPosition { seq, changes, .. }: EmittedPosition) -> Self {
        Self { seq, changes }
    }
}

/// The reason why a client cannot continue its session at this server.
#[derive(Debug)]
pub(crate) enum HandoverError {
    /// The handover data of the old server is not understood.
    Unknown,
    /// The client missed more than is sent again, or not all of it is retained.
    TooMuch,
    /// The members of a conversation change too fast.
    TooFast,
    /// A message of a conversation is being written, and the client has an unknown part of it.
    Growing,
    /// The store failed, or the client is in too many rooms.
    Failed,
    /// Sending the missed events takes too long.
    TooLate,
}

impl From<StoreError> for HandoverError {
    fn from(_: StoreError) -> Self {
        Self::Failed
    }
}

impl From<ServiceError> for HandoverError {
    fn from(_: ServiceError) -> Self {
        Self::Failed
    }
}

/// The result of an attempt to enter a conversation.
enum EntryOutcome {
    Entered,
    /// A member is being removed, or was when the store was queried.
    Again,
    /// This server has not yet emitted all that the client has received.
    Lagging,
    /// The client lacks steps up to this revision.
    Missing(Revision),
    /// A message is being written.
    Growing,
    Failed,
}

impl HandoverData {
    /// Reads the data of another server, or returns `None` if it is not understood.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }

    /// Returns the client's subscriptions other than conversations.
    pub(crate) fn followed(&self) -> &[Followed] {
        &self.followed
    }
}

impl Chat {
    /// Removes a socket whose client moves to another server, and returns its handover data.
    ///
    /// The socket leaves its conversations and the rooms for which `follows` returns a
    /// subscription. It may have left some of `known` without the client's knowledge. Returns `None`
    /// if the socket is in a room whose emissions no component knows.
    pub(crate) fn start_handover(
        &self,
        socket: &Socket,
        known: Vec<Room>,
        follows: impl Fn(&Room) -> Option<Followed>,
    ) -> Option<Value> {
        if !self.0.store.is_shared() {
            return None;
        }
        let own = user_room(&socket.principal().subject);
        let entered = self.entered(socket);
        let (mut conversations, mut followed) = (Vec::new(), Vec::new());
        let rooms: HashSet<Room> = socket.rooms().into_iter().chain(known).collect();
        for room in rooms.into_iter().filter(|room| *room != own) {
            if let Some(id) = conversation_of(&room) {
                // The socket leaves under the lock of the conversation, so it has been sent exactly
                // the steps up to this revision. A user removed in the meantime is no longer in the
                // room.
                let leave = |live: &mut LiveConversation| {
                    let is_in = socket.is_in(room.as_str());
                    socket.leave(&room);
                    // The other server does not know how much of a growing text the client has.
                    let emitted = live.sequencer.emitted();
                    (is_in, emitted.filter(|_| live.streams.is_empty()))
                };
                match self.0.conversations.with(id, leave) {
                    Some((true, Some(Revision { seq, changes }))) => {
                        let since = live_since(&entered, id);
                        let position = EmittedPosition {
                            seq,
                            changes,
                            since,
                        };
                        conversations.push((id, position));
                    }
                    Some((false, _)) => {}
                    Some((true, None)) | None => return None,
                }
            } else {
                followed.push(follows(&room)?);
                socket.leave(&room);
            }
        }
        let leaving = HandoverData {
            conversations,
            followed,
        };
        serde_json::to_value(leaving).ok()
    }

    /// Adds a socket whose client comes from another server to its conversations again, after
    /// sending what it has missed.
    ///
    /// The caller has recorded the socket with [`Chat::connected`], and holds back its events until
    /// this returns. Missed steps are sent without the lock of the conversation. If the client
    /// joined in the meantime, it would receive later messages first, or some twice.
    ///
    /// # Errors
    ///
    /// If not all missed events can be sent. The client must then start a new session.
    pub(crate) async fn arrive(
        &self,
        socket: &Socket,
        leaving: &HandoverData,
    ) -> Result<(), HandoverError> {
        let mut entering = stream::iter(leaving.conversations.clone())
            .map(|(id, position)| self.enter_with_missed(socket, id, position))
            // Several conversations are entered concurrently, since a client may be in hundreds.
            .buffer_unordered(READERS);
        while let Some(entered) = entering.next().await {
            entered?;
        }
        // The claims may have changed in the meantime.
        self.recheck_permissions(socket);
        self.send_recent(socket, leaving).await
    }

    /// Sends a socket the steps after `position`, and adds it to the conversation.
    async fn enter_with_missed(
        &self,
        socket: &Socket,
        id: Uuid,
        position: EmittedPosition,
    ) -> Result<(), HandoverError> {
        let since = position.since;
        let mut position = Revision::from(position);
        let by = &socket.principal();
        let conversations = &self.0.conversations;
        // The pin comes before the query, as in a join.
        let _pin = conversations.pin(id);
        for _ in 0..TRIES {
            let membership = self.0.store.membership(id, &by.subject).await?;
            let Some(membership) = membership else {
                return self.send_removal(socket, id, position).await;
            };
            let entering = conversations.with(id, |live| {
                if live.removed_at > membership.changes {
                    return EntryOutcome::Again;
                }
                let Some(emitted) = live.sequencer.start(membership.revision()) else {
                    return EntryOutcome::Again;
                };
                if emitted < position {
                    return EntryOutcome::Lagging;
                }
                // A text may have begun since the client left the old server, and have grown.
                if !live.streams.is_empty() {
                    return EntryOutcome::Growing;
                }
                let recorded = live.recorded.get_or_insert_with(|| Recorded::new(emitted));
                let Some(rest) = recorded.after(position) else {
                    return EntryOutcome::Missing(emitted);
                };
                rest.for_each(|event| {
                    emit_step(audience(socket), event);
                });
                // No step falls between the missed and the live steps, since both are determined
                // under one lock. If `since` is unknown, the answer to a later join may repeat
                // messages sent during the handover.
                match self.enter(live, socket, by, since.unwrap_or(emitted.seq)) {
                    Ok(_) => {
                        live.note_member(&by.subject, membership.changes);
                        EntryOutcome::Entered
                    }
                    Err(_) => EntryOutcome::Failed,
                }
            });
            match entering {
                Some(EntryOutcome::Entered) => return Ok(()),
                Some(EntryOutcome::Again) => {}
                Some(EntryOutcome::Lagging) => self.catch_up(id, position).await?,
                Some(EntryOutcome::Missing(through)) => {
                    self.send_missed(socket, id, position, through, |_| false)
                        .await?;
                    position = through;
                }
                Some(EntryOutcome::Growing) => return Err(HandoverError::Growing),
                Some(EntryOutcome::Failed) | None => return Err(HandoverError::Failed),
            }
        }
        Err(HandoverError::TooFast)
    }

    /// Sends a socket the steps of a conversation after one revision, up to and including another.
    ///
    /// Stops after a step for which `is_last` returns true. Returns whether there was such a step.
    async fn send_missed(
        &self,
        socket: &Socket,
        id: Uuid,
        mut after: Revision,
        through: Revision,
        is_last: impl Fn(&Committed) -> bool,
    ) -> Result<bool, HandoverError> {
        let to = audience(socket);
        let mut count = 0;
        while after < through {
            let limit = self.0.limits.page;
            let missed = self.0.store.missed(id, after, through, limit).await?;
            let Missed::Steps { steps, reached } = missed else {
                return Err(HandoverError::TooMuch);
            };
            count += steps.len();
            if count > MOST_STEPS || reached <= after {
                return Err(HandoverError::TooMuch);
            }
            for (_, event) in steps {
                let event = as_shown(&self.0.rules, event);
                if let Committed::Message(message) = &event
                    && message.streaming
                {
                    return Err(HandoverError::Growing);
                }
                emit_step(to.clone(), &event);
                if is_last(&event) {
                    return Ok(true);
                }
            }
            after = reached;
        }
        Ok(false)
    }

    /// Sends a socket the steps of a conversation up to the removal of its user or the deletion of
    /// the conversation.
    async fn send_removal(
        &self,
        socket: &Socket,
        id: Uuid,
        position: Revision,
    ) -> Result<(), HandoverError> {
        let by = socket.principal();
        let user = &by.subject;
        let through = match self.0.store.conversation(id).await? {
            Some(now) => now.revision(),
            // The conversation is deleted, and only its last step is still stored.
            None => Revision {
                changes: position.changes + MOST_CHANGES,
                ..position
            },
        };
        let is_end = |event: &Committed| match event {
            Committed::Members {
                user_id, removed, ..
            } => *removed && **user_id == **user,
            Committed::ConversationDeleted { .. } => true,
            Committed::Message(_)
            | Committed::Repeated(_)
            | Committed::Edited(_)
            | Committed::Deleted { .. }
            | Committed::Annotated(_)
            | Committed::Renamed(_)
            | Committed::Announced(_) => false,
        };
        match self
            .send_missed(socket, id, position, through, is_end)
            .await?
        {
            true => Ok(()),
            false => Err(HandoverError::TooMuch),
        }
    }

    /// Sends a socket recent changes of its user's other conversations, and recent statuses of
    /// users visible to it.
    ///
    /// This server emitted them before the socket connected, and the old server would have emitted
    /// them later.
    async fn send_recent(
        &self,
        socket: &Socket,
        leaving: &HandoverData,
    ) -> Result<(), HandoverError> {
        let by = socket.principal();
        let user = &by.subject;
        let entered = |id: &Uuid| leaving.conversations.iter().any(|(known, _)| known == id);
        let recent = self.0.store.recent_changes(user, RECENT).await?;
        if recent.len() as u64 >= MAX_RECENT_CHANGES {
            return Err(HandoverError::TooMuch);
        }
        for RecentChange {
            conversation,
            number,
            seq,
        } in recent
        {
            if entered(&conversation) {
                continue;
            }
            if number == 0 {
                if let Some(made) = self.0.store.membership(conversation, user).await? {
                    emit_updated(audience(socket), &made.conversation);
                }
                continue;
            }
            let through = Revision {
                seq,
                changes: number,
            };
            let after = Revision {
                changes: number.saturating_sub(1),
                ..through
            };
            let missed = self.0.store.missed(conversation, after, through, 1).await?;
            if let Missed::Steps { steps, .. } = missed {
                for (_, event) in steps {
                    emit_step(audience(socket), &event);
                }
            }
        }
        let lately = Time::now().before(RECENT);
        let mut users = Vec::new();
        for (id, _) in &leaving.conversations {
            let conversation = self.0.store.membership(*id, user).await?;
            let members = conversation.into_iter();
            users.extend(members.flat_map(|found| found.conversation.member_ids));
        }
        users.extend(contacts(&self.0.store, user).await?);
        let statuses = statuses_of(&self.0.store, users.iter().map(String::as_str)).await?;
        for status in statuses.iter().filter(|status| status.timestamp > lately) {
            STATUS.emit(audience(socket), status);
        }
        Ok(())
    }
}

fn audience(socket: &Socket) -> Broadcast<'static> {
    socket.namespace().local().to(socket.id())
}

/// The maximum number of attempts to enter a conversation whose members change, or that emits more
/// steps than are recorded.
const TRIES: usize = 16;
/// The number of conversations entered concurrently.
const READERS: usize = 8;
/// The maximum number of steps sent for one conversation.
const MOST_STEPS: usize = 1000;
/// More changes than a conversation retains.
const MOST_CHANGES: u64 = 1_000_000;
/// The age up to which changes are sent again: more than their delay between servers.
const RECENT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cluster::corpus::{contains_all, lines};
    use crate::service::rules::rooms::MovedGrant;

    #[test]
    fn handover_data_of_all_versions_is_read_or_rejected() {
        let leaving = HandoverData {
            conversations: vec![(
                Uuid::from_u128(7),
                EmittedPosition {
                    seq: 3,
                    changes: 4,
                    since: Some(2),
                },
            )],
            followed: vec![
                Followed::Room("trades:ann".into()),
                Followed::Channel {
                    signals: "a long one".into(),
                },
                Followed::Declared {
                    channel: "rooms:1".into(),
                    position: None,
                    grant: Some(MovedGrant::Service),
                },
            ],
        };
        let value = serde_json::to_value(&leaving).unwrap();
        assert_eq!(HandoverData::read(&value), Some(leaving));
        let mut newer = value;
        newer["more"] = Value::from(1);
        assert!(HandoverData::read(&newer).is_some());
        let all = lines("handover.txt").into_iter();
        let of_every_version: Vec<_> = all.filter(|line| line.is == "leaving").collect();
        assert!(!of_every_version.is_empty());
        for line in of_every_version {
            let value = serde_json::from_str(&line.text).unwrap();
            let again =
                HandoverData::read(&value).map(|leaving| serde_json::to_string(&leaving).unwrap());
            let again = again.unwrap_or_else(|| panic!("{}", line.name));
            assert!(contains_all(&line.text, &again), "{}: {again}", line.name);
        }
        for wrong in [
            Value::Null,
            Value::from(7),
            serde_json::json!({"conversations": 1}),
            serde_json::json!({"conversations": [], "followed": [{"kinds": "unknown"}]}),
        ] {
            assert_eq!(HandoverData::read(&wrong), None, "{wrong}");
        }
    }
}
