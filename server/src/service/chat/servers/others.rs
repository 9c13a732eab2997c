//! What other servers say: at once through the adapter, in a namespace of their own, and what the feed has of
//! conversations in which nobody is here: that there is one more, a new title, members who come and go, its end.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::service::chat::handle::{Chat, now};
use crate::service::chat::history::tell_read;
use crate::service::chat::members::tell_level;
use crate::service::chat::presence::conversation::Going;
use crate::service::chat::sequencer::confirming::Waiting;
use crate::service::chat::sequencer::delivery::tell_made;
use crate::service::cluster::{
    Confirmed, Ignored, NAMESPACE, NEWS, News, Presence, QUESTION, RevokedUntil, Step,
};
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::service::rules::emissions::attendance::User;
use crate::store::{Feed, Missed, Revision, Revocation, StoreError};
use roomcast::{Ack, Builder, Connect, Io, Namespace, Refusal, ServerSide};

impl Chat {
    /// Registers what is done with the news of other servers, if there is an adapter. What is no part of a
    /// conversation wakes whoever reads the feed.
    pub(crate) fn hear(&self, io: &mut Builder) {
        let Some(announcer) = self.0.conversations.announcer() else {
            return;
        };
        self.0.access.announce_to(announcer.clone());
        let (chat, of_news) = (self.clone(), announcer.clone());
        let namespace = io.namespace(NAMESPACE);
        // The namespace refuses clients with the words for one that does not exist, so that it is
        // not seen from outside.
        namespace
            .middleware(async |_: Connect| Err::<(), _>(Refusal::new("", "Invalid namespace")));
        namespace.on_server_side(NEWS, move |event: ServerSide| {
            // Nothing is awaited here, so that all news of one server are taken in their order.
            for news in of_news.read_news(&text_of(&event)) {
                chat.take(event.io(), news);
            }
            std::future::ready(())
        });
        let (chat, announcer) = (self.clone(), announcer.clone());
        namespace.on_server_side(QUESTION, move |event: ServerSide| {
            let question = announcer.read_question(&text_of(&event));
            let asked = question.map(|step| chat.put(step));
            async move {
                let confirmed = match asked {
                    Ok(Some(waiting)) => waiting.answer().await,
                    // Nobody is in the conversation here, or in any of a server of another store.
                    Ok(None) | Err(Ignored::Foreign) => Confirmed::default(),
                    Err(Ignored::Malformed | Ignored::Unknown) => Confirmed {
                        timed_out: true,
                        ..Confirmed::default()
                    },
                };
                Ack(serde_json::to_string(&confirmed).unwrap_or_default())
            }
        });
    }

    fn take(&self, io: &Io, news: News) {
        let conversations = &self.0.conversations;
        match news {
            News::Step(step) => {
                let (id, revision) = (step.conversation_id, step.revision());
                // A step of a conversation without anybody here would only take a place in the
                // lane.
                let is_attended = conversations.with(id, |live| {
                    if let Some(user) = &step.removed {
                        live.note_removal(&io.of("/"), now(), user, revision.changes);
                    }
                });
                if is_attended.is_some() {
                    // A step that finds no room is found again.
                    drop(self.0.store.announce(step.into_event(), revision, false));
                }
            }
            News::Typing(typing) => {
                let user = User {
                    user_id: typing.user_id,
                    name: typing.name,
                };
                conversations.with(typing.conversation_id, |live| {
                    live.typed_elsewhere(&io.of("/"), now(), &user, typing.is_typing);
                });
            }
            News::Presence(presence) => {
                if conversations
                    .with(presence.conversation_id, |_| ())
                    .is_some()
                {
                    let Presence { left, lost, .. } = presence;
                    let left = left.into_iter().map(|user| (user, Going::Left));
                    let lost = lost.into_iter().map(|user| (user, Going::Lost));
                    conversations.look_at_told(presence.conversation_id, left.chain(lost));
                }
            }
            News::Read(read) => tell_read(io.of("/").local(), &read),
            News::Level(level) => tell_level(io.of("/").local(), &level),
            News::Changes => self.0.fed.wake(),
            News::Revoked(RevokedUntil { kind, value, until }) => {
                let row = Revocation { kind, value, until };
                self.0.access.hear_revoked(io, &row);
            }
        }
    }

    /// Has the sockets that are in the conversation here asked whether they have a message.
    fn put(&self, step: Step) -> Option<Waiting> {
        let (id, revision, event) = (step.conversation_id, step.revision(), step.into_event());
        let conversations = &self.0.conversations;
        conversations.with(id, |_| ())?;
        // A message that was too large to be told is read from the store. The question is filed
        // before the step goes into the lane, which may emit it at once.
        let waiting = conversations.wait_for(id, revision.seq);
        drop(self.0.store.announce(event, revision, true));
        Some(waiting)
    }
}

/// What a server has sent; what is no text is no news either.
fn text_of(event: &ServerSide) -> String {
    event.arg(0).unwrap_or_default()
}

/// What changes of conversations do to this server, as far as the feed has them.
pub(crate) struct ConversationNews {
    chat: Chat,
    namespace: Namespace,
}

/// A key of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    conversation: Uuid,
    /// 0: the conversation was made.
    number: u64,
    /// The last message before it.
    seq: u64,
}

impl Applier for ConversationNews {
    fn topic(&self) -> &'static str {
        "conversations"
    }

    fn apply<'a>(&'a self, _: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(async move {
            match changed {
                // Whoever is in a conversation here has read what there is, or will.
                Entries::All => Ok(Applied::default()),
                Entries::These(keys) => {
                    let mut keys: Vec<Key> = keys.iter().filter_map(|key| parse(key)).collect();
                    // The feed has them in the order of transactions; changes of one conversation
                    // are told in that of their numbers.
                    keys.sort_unstable();
                    self.tell(keys).await
                }
            }
        })
    }
}

impl ConversationNews {
    pub(crate) fn new(chat: Chat, namespace: Namespace) -> Self {
        Self { chat, namespace }
    }

    async fn tell(&self, keys: Vec<Key>) -> Result<Applied, StoreError> {
        let told = self.chat.told();
        let new = keys
            .into_iter()
            .filter(|key| !told.has(key.conversation, key.number));
        // The changes are told in their order, and read some at a time.
        let mut reading = stream::iter(new)
            .map(|key| self.read(key))
            // The answers keep the order of the keys, while a few are read at the same time.
            .buffered(READERS);
        let mut waiting = Vec::new();
        while let Some(announced) = reading.next().await {
            waiting.extend(announced?);
        }
        let all = async {
            for told in waiting {
                told.await?;
            }
            Ok::<_, oneshot::error::RecvError>(())
        };
        // A change that had no room in its lane, or waits there for something else, is read again.
        let is_told = matches!(tokio::time::timeout(PATIENCE, all).await, Ok(Ok(())));
        Ok(Applied {
            own: !is_told,
            ..Applied::default()
        })
    }

    /// Reads a change and has it told in the order of its conversation.
    async fn read(&self, key: Key) -> Result<Option<oneshot::Receiver<()>>, StoreError> {
        let store = self.chat.store();
        if key.number == 0 {
            if let Some(made) = store.conversation(key.conversation).await?
                && self.chat.told().read(&made.conversation)
            {
                tell_made(self.namespace.local(), &made.conversation);
            }
            return Ok(None);
        }
        let through = Revision {
            seq: key.seq,
            changes: key.number,
        };
        let after = Revision {
            changes: key.number.saturating_sub(1),
            ..through
        };
        // The change goes through the lane and not straight to the members, so that it meets what
        // this server has committed itself.
        let missed = store.missed(key.conversation, after, through, 1).await?;
        let step = match missed {
            Missed::Steps { steps, .. } => steps.into_iter().next(),
            // A change that is not kept any more is not told: members find what it has led to in
            // their lists.
            Missed::Forgotten(_) => None,
        };
        Ok(step.map(|(_, event)| store.announce(event, through, false)))
    }
}

fn parse(key: &str) -> Option<Key> {
    let mut parts = key.split(':');
    let conversation = parts.next()?.parse().ok()?;
    let (number, seq) = match (parts.next(), parts.next()) {
        (None, _) => (0, 0),
        (Some(number), Some(seq)) => (number.parse().ok()?, seq.parse().ok()?),
        (Some(_), None) => return None,
    };
    Some(Key {
        conversation,
        number,
        seq,
    })
}

/// Changes that are read at the same time.
const READERS: usize = 4;
/// How long the feed waits for one that waits behind others of its conversation.
const PATIENCE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_a_conversation_or_a_change_of_one() {
        let id = Uuid::from_u128(7);
        let key = |number, seq| Key {
            conversation: id,
            number,
            seq,
        };
        assert_eq!(parse(&id.to_string()), Some(key(0, 0)));
        assert_eq!(parse(&format!("{id}:3:12")), Some(key(3, 12)));
        for wrong in [
            "",
            "x",
            &format!("{id}:3"),
            &format!("{id}:x:1"),
            &format!("{id}:3:-1"),
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
