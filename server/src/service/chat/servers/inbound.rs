//! Receives changes of other servers.
//!
//! Announcements arrive through the adapter, in a namespace of their own. The feed contains changes
//! of conversations that are not live here: creation, title, members, deletion.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::metrics::trace::{SpanKind, TraceContext};
use crate::service::chat::handle::{Chat, now};
use crate::service::chat::history::emit_read;
use crate::service::chat::members::emit_level;
use crate::service::chat::presence::conversation::Departure;
use crate::service::chat::sequencer::confirming::PendingAnswer;
use crate::service::chat::sequencer::delivery::emit_created;
use crate::service::cluster::{
    CONFIRM, Confirmed, Ignored, NAMESPACE, NEWS, News, Presence, RevokedUntil, Step, StopRequest,
};
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::service::rules::emissions::attendance::User;
use crate::store::{Feed, Missed, Revision, Revocation, StoreError};
use roomcast::{Ack, Builder, Connect, Io, Namespace, Refusal, handler::ServerSide};

impl Chat {
    /// Registers the handlers for announcements of other servers, if there is an adapter.
    ///
    /// Announcements that do not concern a conversation wake the feed readers.
    pub(crate) fn handle_announcements(&self, io: Builder) -> Builder {
        let Some(announcer) = self.0.conversations.announcer() else {
            return io;
        };
        self.0.access.announce_to(announcer.clone());
        let (chat, news_announcer) = (self.clone(), announcer.clone());
        let (request_chat, announcer) = (self.clone(), announcer.clone());
        // The namespace rejects clients with the error for a namespace that does not exist, so that
        // it is not visible from outside.
        io.namespace(NAMESPACE, |namespace| {
            namespace
                .middleware(async |_: Connect| Err::<(), _>(Refusal::new("", "Invalid namespace")))
                .on_server_side(NEWS, move |event: ServerSide| {
                    // Nothing is awaited here, so the announcements of one server are processed in
                    // order.
                    for news in news_announcer.read_news(&text_of(&event)) {
                        chat.take(event.io(), news);
                    }
                    std::future::ready(())
                })
                .on_server_side(CONFIRM, move |event: ServerSide| {
                    let request = announcer.read_confirmation_request(&text_of(&event));
                    let pending = request.map(|step| request_chat.put(step));
                    async move {
                        let confirmed = match pending {
                            Ok(Some(waiting)) => waiting.answer().await,
                            // The conversation is not live here, or the request comes from a server
                            // of another store.
                            Ok(None) | Err(Ignored::Foreign) => Confirmed::default(),
                            Err(Ignored::Malformed | Ignored::Unknown) => Confirmed {
                                timed_out: true,
                                ..Confirmed::default()
                            },
                        };
                        Ack(serde_json::to_string(&confirmed).unwrap_or_default())
                    }
                })
        })
    }

    fn take(&self, io: &Io, news: News) {
        let conversations = &self.0.conversations;
        match news {
            News::Step(step) => {
                let (id, revision) = (step.conversation_id, step.revision());
                // A step of a conversation that is not live would only take space in the queue of
                // the write worker.
                let is_attended = conversations.with(id, |live| {
                    if let Some(user) = &step.removed {
                        live.note_removal(&io.of("/"), now(), user, revision.changes);
                    }
                });
                if is_attended.is_some() {
                    // A step that finds no room in the queue is found later by polling.
                    self.announce(step, false);
                }
            }
            News::Typing(typing) => {
                let user = User {
                    user_id: typing.user_id,
                    name: typing.name,
                };
                conversations.with(typing.conversation_id, |live| {
                    live.receive_typing(&io.of("/"), now(), &user, typing.is_typing);
                });
            }
            News::Presence(presence) => {
                if conversations
                    .with(presence.conversation_id, |_| ())
                    .is_some()
                {
                    let Presence { left, lost, .. } = presence;
                    let left = left.into_iter().map(|user| (user, Departure::Left));
                    let lost = lost.into_iter().map(|user| (user, Departure::Lost));
                    conversations.recheck_departures(presence.conversation_id, left.chain(lost));
                }
            }
            News::Grown(grown) => self.receive_grown(&io.of("/"), grown),
            News::StopRequest(StopRequest {
                message_id,
                user_id,
            }) => self.0.streams.request_stop(message_id, user_id),
            News::Read(read) => emit_read(io.of("/").local(), &read),
            News::Level(level) => emit_level(io.of("/").local(), &level),
            News::Changes => self.0.fed.wake(),
            News::Revoked(RevokedUntil { kind, value, until }) => {
                let row = Revocation { kind, value, until };
                self.0.access.apply_announced_revocation(io, &row);
            }
        }
    }

    /// Requests confirmations of a message from the joined sockets, if its conversation is live
    /// here.
    fn put(&self, step: Step) -> Option<PendingAnswer> {
        let (id, revision) = (step.conversation_id, step.revision());
        let conversations = &self.0.conversations;
        conversations.with(id, |_| ())?;
        // A message too large for an announcement is read from the store. The request is registered
        // before the step reaches the write worker, which may emit it immediately.
        let waiting = conversations.wait_for(id, revision.seq);
        self.announce(step, true);
        Some(waiting)
    }

    /// Queues a step of another server in its trace.
    fn announce(&self, step: Step, confirm: bool) {
        let revision = step.revision();
        let announced = |step: Step| {
            drop(self.0.store.announce(step.into_event(), revision, confirm));
        };
        let Some(context) = step.traceparent.map(TraceContext::child) else {
            return announced(step);
        };
        let spans = self.0.conversations.common().traces.spans();
        let span = spans.start(context, SpanKind::Consumer, || "receive step".to_owned());
        let conversation = step.conversation_id;
        context.call(spans, || announced(step));
        if let Some(mut span) = span {
            span.set("roomcast.conversation", conversation);
            span.set("roomcast.seq", revision.seq);
            span.end();
        }
    }
}

/// Returns the text that a server has sent. Other arguments count as an empty text, which is
/// malformed.
fn text_of(event: &ServerSide) -> String {
    event.arg(0).unwrap_or_default()
}

/// Applies conversation changes that the feed contains.
pub(crate) struct ConversationNews {
    chat: Chat,
    namespace: Namespace,
}

/// A key of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    conversation: Uuid,
    /// The number of the change. 0 is the creation of the conversation.
    number: u64,
    /// The last message before the change.
    seq: u64,
}

impl Applier for ConversationNews {
    fn topic(&self) -> &'static str {
        "conversations"
    }

    fn apply<'a>(&'a self, _: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(async move {
            match changed {
                // Joined clients have read the current state, or will.
                Entries::All => Ok(Applied::default()),
                Entries::These(keys) => {
                    let mut keys: Vec<Key> = keys.iter().filter_map(|key| parse(key)).collect();
                    // The feed is ordered by transaction. The changes of one conversation are
                    // emitted in the order of their numbers.
                    keys.sort_unstable();
                    self.announce_changes(keys).await
                }
            }
        })
    }
}

impl ConversationNews {
    pub(crate) fn new(chat: Chat, namespace: Namespace) -> Self {
        Self { chat, namespace }
    }

    async fn announce_changes(&self, keys: Vec<Key>) -> Result<Applied, StoreError> {
        let announced = self.chat.announced();
        let new = keys
            .into_iter()
            .filter(|key| !announced.has(key.conversation, key.number));
        // The changes are read concurrently and emitted in order.
        let mut reading = stream::iter(new)
            .map(|key| self.read(key))
            // The results keep the order of the keys, although several are read concurrently.
            .buffered(READERS);
        let mut waiting = Vec::new();
        while let Some(announced) = reading.next().await {
            waiting.extend(announced?);
        }
        let all = async {
            for announced in waiting {
                announced.await?;
            }
            Ok::<_, oneshot::error::RecvError>(())
        };
        // A change that found no room in its queue, or is still waiting there, is read again.
        let is_announced = matches!(tokio::time::timeout(CHANGE_TIMEOUT, all).await, Ok(Ok(())));
        Ok(Applied {
            own: !is_announced,
            ..Applied::default()
        })
    }

    /// Reads a change and emits it in the order of its conversation.
    async fn read(&self, key: Key) -> Result<Option<oneshot::Receiver<()>>, StoreError> {
        let store = self.chat.store();
        if key.number == 0 {
            if let Some(made) = store.conversation(key.conversation).await?
                && self.chat.announced().read(&made.conversation)
            {
                emit_created(self.namespace.local(), &made.conversation);
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
        // The change passes through the write worker instead of going directly to the members, so
        // that it is ordered with this server's own commits.
        let missed = store.missed(key.conversation, after, through, 1).await?;
        let step = match missed {
            Missed::Steps { steps, .. } => steps.into_iter().next(),
            // A change that is no longer retained is not emitted. Members see its result in their
            // lists.
            Missed::Truncated(_) => None,
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

/// The number of changes read concurrently.
const READERS: usize = 4;
/// Maximum time for which the feed waits for a change that waits for earlier changes of its
/// conversation.
const CHANGE_TIMEOUT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_key_names_a_conversation_or_one_of_its_changes() {
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
