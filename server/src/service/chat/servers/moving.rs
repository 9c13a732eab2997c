//! Clients that are recovered at another server than the one that they were on: the old one says how far each conversation
//! was told, and the new one tells the rest from the store before it lets the client in again.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::service::chat::coming::since_in;
use crate::service::chat::handle::Chat;
use crate::service::chat::sequencer::conversations::{Live, conversation_of};
use crate::service::chat::sequencer::delivery::{tell_step, tell_updated, user_room};
use crate::service::chat::sequencer::gap::as_shown;
use crate::service::chat::sequencer::recorded::Recorded;
use crate::service::chat::servers::statuses::contacts;
use crate::service::fault::ServiceError;
use crate::service::rules::emissions::attendance::STATUS;
use crate::service::rules::rooms::Followed;
use crate::store::{Committed, MOST_RECENT, Missed, RecentChange, Revision, StoreError, Time};
use roomcast::{Broadcast, Room, Socket};

/// What the server that a client leaves says to the one to which it comes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leaving {
    /// The conversations that the client was in, and how far it was sent each of them.
    conversations: Vec<(Uuid, Told)>,
    /// What else it followed, and follows anew.
    followed: Vec<Followed>,
}

/// How far a conversation was told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    seq: u64,
    changes: u64,
    /// The number of the last message before the client joined: it was told all later ones live. Servers of before do not
    /// say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

impl From<Told> for Revision {
    fn from(Told { seq, changes, .. }: Told) -> Self {
        Self { seq, changes }
    }
}

/// Why a client cannot go on at this server.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The old server has said something that this one does not understand.
    Unknown,
    /// More was missed than is told again, or not all of it is kept.
    TooMuch,
    /// The members of a conversation change too fast.
    TooFast,
    /// It cannot be read, or the client is in too many rooms.
    Failed,
    /// Telling the client what it has missed takes too long.
    TooLate,
}

impl From<StoreError> for Lost {
    fn from(_: StoreError) -> Self {
        Self::Failed
    }
}

impl From<ServiceError> for Lost {
    fn from(_: ServiceError) -> Self {
        Self::Failed
    }
}

/// What came of an attempt to enter a conversation.
enum Entering {
    Entered,
    /// Somebody is being removed, or was when the store was asked.
    Again,
    /// This server has not told all that the client has.
    Behind,
    /// Up to there the client lacks something.
    Missing(Revision),
    Failed,
}

impl Leaving {
    /// What another server has said; `None` if this one does not understand it.
    pub(crate) fn read(said: &Value) -> Option<Self> {
        Self::deserialize(said).ok()
    }

    /// What the client followed beside conversations.
    pub(crate) fn followed(&self) -> &[Followed] {
        &self.followed
    }
}

impl Chat {
    /// Takes leave of a socket whose client goes to another server: takes it out of its conversations and of the rooms that
    /// it `follows`, of which that says what they are, and says how far it was told. `None` if it is in a room of which nobody here knows what was sent to it.
    pub(crate) fn leave_for_another(
        &self,
        socket: &Socket,
        follows: impl Fn(&Room) -> Option<Followed>,
    ) -> Option<Value> {
        if !self.0.store.is_shared() {
            return None;
        }
        let own = user_room(&socket.principal().subject);
        let entered = self.entered(socket);
        let (mut conversations, mut followed) = (Vec::new(), Vec::new());
        for room in socket.rooms().into_iter().filter(|room| *room != own) {
            if let Some(id) = conversation_of(&room) {
                // The socket leaves under the lock of the conversation, so that it was sent exactly what was emitted up to
                // the revision of this moment. A user who was removed just now is in the room no more.
                let leave = |live: &mut Live| {
                    let is_in = socket.is_in(room.as_str());
                    socket.leave(&room);
                    (is_in, live.sequencer.emitted())
                };
                match self.0.conversations.with(id, leave) {
                    Some((true, Some(Revision { seq, changes }))) => {
                        let since = since_in(&entered, id);
                        let told = Told {
                            seq,
                            changes,
                            since,
                        };
                        conversations.push((id, told));
                    }
                    Some((false, _)) => {}
                    Some((true, None)) | None => return None,
                }
            } else {
                followed.push(follows(&room)?);
                socket.leave(&room);
            }
        }
        let leaving = Leaving {
            conversations,
            followed,
        };
        serde_json::to_value(leaving).ok()
    }

    /// Lets a socket whose client was at another server into its conversations again, after what it has missed of them. The
    /// caller has noted it by [`Chat::connected`], and holds its events back until this is done: what it has missed is not told
    /// under the lock of the conversation, so a client that joined meanwhile would be told later messages before that, or the same twice.
    ///
    /// # Errors
    ///
    /// If the client cannot be told all that it has missed: it has to start afresh.
    pub(crate) async fn arrive(&self, socket: &Socket, leaving: &Leaving) -> Result<(), Lost> {
        let mut entering = stream::iter(leaving.conversations.clone())
            .map(|(id, told)| self.enter_after(socket, id, told))
            // A few at the same time, since a client may be in hundreds.
            .buffer_unordered(READERS);
        while let Some(entered) = entering.next().await {
            entered?;
        }
        // The claims may have changed meanwhile.
        self.reconsider(socket);
        self.tell_recent(socket, leaving).await
    }

    /// Tells a socket what it has missed of a conversation since it was `told`, and lets it in.
    async fn enter_after(&self, socket: &Socket, id: Uuid, told: Told) -> Result<(), Lost> {
        let since = told.since;
        let mut told = Revision::from(told);
        let by = &socket.principal();
        let conversations = &self.0.conversations;
        // The pin comes before the store is asked, as for one that joins.
        let _pin = conversations.pin(id);
        for _ in 0..TRIES {
            let membership = self.0.store.membership(id, &by.subject).await?;
            let Some(membership) = membership else {
                return self.tell_removal(socket, id, told).await;
            };
            let entering = conversations.with(id, |live| {
                if live.removed_at > membership.changes {
                    return Entering::Again;
                }
                let Some(emitted) = live.sequencer.start(membership.revision()) else {
                    return Entering::Again;
                };
                if emitted < told {
                    return Entering::Behind;
                }
                let recorded = live.recorded.get_or_insert_with(|| Recorded::new(emitted));
                let Some(rest) = recorded.after(told) else {
                    return Entering::Missing(emitted);
                };
                rest.for_each(|event| tell_step(audience(socket), event));
                // Nothing falls between what the client has and what comes live, since both are looked at under one lock.
                // Without knowing better, what was told on the way may be in the answer to a client that joins as well.
                match self.enter(live, socket, by, since.unwrap_or(emitted.seq)) {
                    Ok(_) => {
                        live.note_member(&by.subject, membership.changes);
                        Entering::Entered
                    }
                    Err(_) => Entering::Failed,
                }
            });
            match entering {
                Some(Entering::Entered) => return Ok(()),
                Some(Entering::Again) => {}
                Some(Entering::Behind) => self.catch_up(id, told).await?,
                Some(Entering::Missing(through)) => {
                    self.tell_missed(socket, id, told, through, |_| false)
                        .await?;
                    told = through;
                }
                Some(Entering::Failed) | None => return Err(Lost::Failed),
            }
        }
        Err(Lost::TooFast)
    }

    /// Tells a socket the steps of a conversation after one revision, up to and with another, or up to the one that is the
    /// `last`. Returns whether that one was among them.
    async fn tell_missed(
        &self,
        socket: &Socket,
        id: Uuid,
        mut after: Revision,
        through: Revision,
        is_last: impl Fn(&Committed) -> bool,
    ) -> Result<bool, Lost> {
        let to = audience(socket);
        let mut count = 0;
        while after < through {
            let limit = self.0.limits.page;
            let missed = self.0.store.missed(id, after, through, limit).await?;
            let Missed::Steps { steps, reached } = missed else {
                return Err(Lost::TooMuch);
            };
            count += steps.len();
            if count > MOST_STEPS || reached <= after {
                return Err(Lost::TooMuch);
            }
            for (_, event) in steps {
                let event = as_shown(&self.0.rules, event);
                tell_step(to.clone(), &event);
                if is_last(&event) {
                    return Ok(true);
                }
            }
            after = reached;
        }
        Ok(false)
    }

    /// Tells a socket what came of a conversation until its user was removed, or the conversation deleted.
    async fn tell_removal(&self, socket: &Socket, id: Uuid, told: Revision) -> Result<(), Lost> {
        let by = socket.principal();
        let user = &by.subject;
        let through = match self.0.store.conversation(id).await? {
            Some(now) => now.revision(),
            // The conversation is deleted, and its last step is all that is left of it.
            None => Revision {
                changes: told.changes + MOST_CHANGES,
                ..told
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
        match self.tell_missed(socket, id, told, through, is_end).await? {
            true => Ok(()),
            false => Err(Lost::TooMuch),
        }
    }

    /// Tells a socket the latest news of other conversations of its user, and what those whom it sees have said of themselves
    /// lately: what this server had told before the socket was here, and the other one would have told later.
    async fn tell_recent(&self, socket: &Socket, leaving: &Leaving) -> Result<(), Lost> {
        let by = socket.principal();
        let user = &by.subject;
        let entered = |id: &Uuid| leaving.conversations.iter().any(|(known, _)| known == id);
        let recent = self.0.store.recent_changes(user, RECENT).await?;
        if recent.len() as u64 >= MOST_RECENT {
            return Err(Lost::TooMuch);
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
                    tell_updated(audience(socket), &made.conversation);
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
                    tell_step(audience(socket), &event);
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
        let said = self.0.statuses.of(users.iter().map(String::as_str));
        for status in said.iter().filter(|status| status.timestamp > lately) {
            STATUS.emit(audience(socket), status);
        }
        Ok(())
    }
}

fn audience(socket: &Socket) -> Broadcast<'static> {
    socket.namespace().local().to(socket.id())
}

/// How often a socket tries to enter a conversation whose members change meanwhile, or in which more is told than is recorded.
const TRIES: usize = 16;
/// Conversations that are entered at the same time.
const READERS: usize = 8;
/// Steps of one conversation that are told again.
const MOST_STEPS: usize = 1000;
/// More changes than a conversation keeps.
const MOST_CHANGES: u64 = 1_000_000;
/// How long news may take from one server to another, and more: what is that new is told again.
const RECENT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cluster::corpus::{is_said_again, lines};

    #[test]
    fn what_the_old_server_says_is_understood_or_nothing() {
        let leaving = Leaving {
            conversations: vec![(
                Uuid::from_u128(7),
                Told {
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
            ],
        };
        let said = serde_json::to_value(&leaving).unwrap();
        assert_eq!(Leaving::read(&said), Some(leaving));
        let mut newer = said;
        newer["more"] = Value::from(1);
        assert!(Leaving::read(&newer).is_some());
        let all = lines("handover.txt").into_iter();
        let of_every_version: Vec<_> = all.filter(|line| line.is == "leaving").collect();
        assert!(!of_every_version.is_empty());
        for line in of_every_version {
            let said = serde_json::from_str(&line.text).unwrap();
            let again =
                Leaving::read(&said).map(|leaving| serde_json::to_string(&leaving).unwrap());
            let again = again.unwrap_or_else(|| panic!("{}", line.name));
            assert!(is_said_again(&line.text, &again), "{}: {again}", line.name);
        }
        for wrong in [
            Value::Null,
            Value::from(7),
            serde_json::json!({"conversations": 1}),
            serde_json::json!({"conversations": [], "followed": [{"kinds": "unknown"}]}),
        ] {
            assert_eq!(Leaving::read(&wrong), None, "{wrong}");
        }
    }
}
