//! The messages between servers of one store, encoded as JSON in a text argument, which every
//! parser supports.
//!
//! Readers ignore messages that are malformed, of another store, or of a later version. The store
//! contains all the information, except for typing.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::metrics::trace::{TraceContext, lenient};
use crate::store::{Annotated, Committed, Level, Message, Revision, Time};

/// An announcement to other servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) enum News {
    /// A step was committed in a conversation.
    Step(Step),
    /// A user types in a conversation or has stopped.
    Typing(Typing),
    /// A message that is being written has more text.
    Grown(Grown),
    /// A user asks the author of a message that is being written to stop.
    StopRequest(StopRequest),
    /// The stored presence of a conversation has changed.
    Presence(Presence),
    /// A user has read further.
    Read(Read),
    /// A user has set which notifications it wants from a conversation.
    Level(LevelOf),
    /// The store's change feed has new entries.
    Changes,
    /// A token, a login, a user or a role was revoked.
    Revoked(RevokedUntil),
}

/// A stored revocation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct RevokedUntil {
    pub(in crate::service) kind: String,
    pub(in crate::service) value: String,
    pub(in crate::service) until: Time,
}

/// A committed step of a conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Step {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) seq: u64,
    pub(in crate::service) changes: u64,
    /// The committed event if it is small. Otherwise it is read from the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::service) event: Option<InlineEvent>,
    /// The user that this step removes from the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::service) removed: Option<Arc<str>>,
    /// The trace of the event that caused the step.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::service) traceparent: Option<TraceContext>,
}

/// An event that is announced with its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) enum InlineEvent {
    Message(Arc<Message>),
    Edited(Arc<Message>),
    Deleted { message: Arc<Message>, by: String },
    Annotated(Arc<Annotated>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Typing {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) user_id: Arc<str>,
    pub(in crate::service) name: Arc<str>,
    pub(in crate::service) is_typing: bool,
}

/// Text of a message that is being written, at a position in characters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Grown {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) seq: u64,
    pub(in crate::service) message_id: Uuid,
    /// Who writes the text.
    pub(in crate::service) holder: Uuid,
    pub(in crate::service) offset: usize,
    pub(in crate::service) text: String,
}

impl Grown {
    /// Splits a text into announcements that are small enough to be sent.
    pub(in crate::service) fn parts(
        (conversation_id, seq, message_id): (Uuid, u64, Uuid),
        holder: Uuid,
        offset: usize,
        text: &str,
    ) -> Vec<Self> {
        let part = |offset| Self {
            conversation_id,
            seq,
            message_id,
            holder,
            offset,
            text: String::new(),
        };
        let mut parts = vec![part(offset)];
        let mut bytes = 0;
        for (place, character) in text.chars().enumerate() {
            let more = character.len_utf8() * LONGEST_ESCAPE;
            if bytes + more > MAX_NAMES_BYTES {
                parts.push(part(offset + place));
                bytes = 0;
            }
            bytes += more;
            if let Some(part) = parts.last_mut() {
                part.text.push(character);
            }
        }
        parts
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct StopRequest {
    pub(in crate::service) message_id: Uuid,
    pub(in crate::service) user_id: Arc<str>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Presence {
    pub(in crate::service) conversation_id: Uuid,
    /// Users that left deliberately.
    pub(in crate::service) left: Vec<Arc<str>>,
    /// Users whose connections were lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::service) lost: Vec<Arc<str>>,
}

impl Presence {
    /// Splits the announcement into parts that are small enough to be sent.
    pub(in crate::service) fn parts(self) -> Vec<Self> {
        let id = self.conversation_id;
        let none = || Self {
            conversation_id: id,
            left: Vec::new(),
            lost: Vec::new(),
        };
        let mut parts = vec![none()];
        let left = self.left.into_iter().map(|user| (user, false));
        let lost = self.lost.into_iter().map(|user| (user, true));
        let mut bytes = 0;
        for (user, is_lost) in left.chain(lost) {
            // Each character may become one that is escaped twice.
            let most = user.len() * LONGEST_ESCAPE;
            if bytes + most > MAX_NAMES_BYTES {
                parts.push(none());
                bytes = 0;
            }
            bytes += most;
            if let Some(part) = parts.last_mut() {
                match is_lost {
                    true => part.lost.push(user),
                    false => part.left.push(user),
                }
            }
        }
        parts
    }
}

/// The maximum number of bytes per byte: a control character in a JSON string within a JSON string.
const LONGEST_ESCAPE: usize = 7;
/// The maximum size of the user names in one announcement, in bytes.
const MAX_NAMES_BYTES: usize = 4000;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Read {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) user_id: Arc<str>,
    pub(in crate::service) seq: u64,
    /// Whether all joined sockets are notified, not only the user's own.
    pub(in crate::service) for_all: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct LevelOf {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) user_id: Arc<str>,
    pub(in crate::service) level: Level,
}

/// The confirmations of a message on one server or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Confirmed {
    /// The number of sockets that were asked.
    pub(in crate::service) expected: usize,
    /// The number of sockets that confirmed in time.
    pub(in crate::service) delivered: usize,
    /// Whether the timeout expired before all had answered.
    pub(in crate::service) timed_out: bool,
}

impl Confirmed {
    pub(in crate::service) fn add(&mut self, other: Self) {
        self.expected = self.expected.saturating_add(other.expected);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.timed_out |= other.timed_out;
    }
}

impl Step {
    /// Returns the announcement of a commit, or `None` if other servers know it already.
    pub(in crate::service) fn of(
        event: &Committed,
        revision: Revision,
        traceparent: Option<TraceContext>,
    ) -> Option<Self> {
        let small = match event {
            Committed::Message(message) => {
                is_small(message, "").then(|| InlineEvent::Message(Arc::clone(message)))
            }
            Committed::Edited(message) => {
                is_small(message, "").then(|| InlineEvent::Edited(Arc::clone(message)))
            }
            Committed::Deleted { message, by } => {
                is_small(message, by).then(|| InlineEvent::Deleted {
                    message: Arc::clone(message),
                    by: by.clone(),
                })
            }
            Committed::Annotated(annotated) => Some(InlineEvent::Annotated(Arc::clone(annotated))),
            Committed::Renamed(_)
            | Committed::Members { .. }
            | Committed::ConversationDeleted { .. } => None,
            Committed::Repeated(_) | Committed::Announced(_) => return None,
        };
        let removed = if let Committed::Members {
            user_id,
            removed: true,
            ..
        } = event
        {
            Some(user_id.as_str().into())
        } else {
            None
        };
        Some(Self {
            removed,
            conversation_id: event.conversation_id(),
            seq: revision.seq,
            changes: revision.changes,
            event: small,
            traceparent,
        })
    }

    pub(in crate::service) fn revision(&self) -> Revision {
        Revision {
            seq: self.seq,
            changes: self.changes,
        }
    }

    /// Returns the committed event, or a reference to the stored one if it was too large.
    pub(in crate::service) fn into_event(self) -> Committed {
        match self.event {
            Some(InlineEvent::Message(message)) => Committed::Message(message),
            Some(InlineEvent::Edited(message)) => Committed::Edited(message),
            Some(InlineEvent::Deleted { message, by }) => Committed::Deleted { message, by },
            Some(InlineEvent::Annotated(annotated)) => Committed::Annotated(annotated),
            None => Committed::Announced(self.conversation_id),
        }
    }

    /// Returns whether the event belongs to the conversation and the position that the step names.
    fn is_whole(&self) -> bool {
        let (message, is_new) = match &self.event {
            Some(InlineEvent::Message(message)) => (message, true),
            Some(InlineEvent::Edited(message) | InlineEvent::Deleted { message, .. }) => {
                (message, false)
            }
            Some(InlineEvent::Annotated(annotated)) => {
                return annotated.conversation_id() == self.conversation_id
                    && annotated.seq() <= self.seq;
            }
            None => return true,
        };
        message.conversation_id == self.conversation_id
            && (message.seq == self.seq || !is_new && message.seq < self.seq)
    }
}

/// Returns whether a message is small enough to be announced with its content and the user who
/// changed it.
fn is_small(message: &Message, by: &str) -> bool {
    bytes_of(message) + written(by) <= MAX_INLINE_BYTES
}

/// Returns the serialized size of the user-provided parts of a message, in bytes.
fn bytes_of(message: &Message) -> usize {
    let mentions = message.mentions.iter().map(|user| written(user) + 6);
    let reactions = message.reactions.iter().map(|reaction| {
        let users = reaction.user_ids.iter().map(|user| written(user) + 6);
        64 + reaction.emoji.len() + users.sum::<usize>()
    });
    let quoted = message.reply_to.as_ref().map_or(0, |quote| {
        256 + written(&quote.excerpt) + written(&quote.user_id) + written(&quote.user_name)
    });
    written(&message.content)
        + escaped(message.metadata.get())
        + quoted
        + mentions.sum::<usize>()
        + reactions.sum::<usize>()
}

/// Returns the size of a text as a JSON string within a JSON string, in bytes.
///
/// Announcements are text that adapters embed in their own JSON, where a quote takes four bytes.
fn written(text: &str) -> usize {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => 4,
        b'\n' | b'\r' | b'\t' => 3,
        0..b' ' => 7,
        _ => 1,
    };
    text.bytes().map(byte).sum()
}

/// Returns the size of JSON text within a JSON string, in bytes.
pub(super) fn escaped(json: &str) -> usize {
    let quotes = json.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    json.len() + quotes.count()
}

/// The envelope of every message between servers.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    /// The version of the content.
    v: u32,
    /// The store whose servers are addressed.
    store: Uuid,
    #[serde(rename = "is")]
    content: T,
}

/// The reason why a message was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// The text is malformed.
    Malformed,
    /// The text has a later version.
    Unknown,
    /// The text comes from servers with another store.
    Foreign,
}

/// Encodes a message for the servers of this store.
pub(crate) fn write(store: Uuid, content: &impl Serialize) -> Option<String> {
    let (v, content) = (VERSION, content);
    serde_json::to_string(&Envelope { v, store, content }).ok()
}

/// Decodes a message of a server of this store.
pub(crate) fn read<T: DeserializeOwned>(store: Uuid, text: &str) -> Result<T, Ignored> {
    // The content may have a form that this version does not know, so it stays unparsed until the
    // version is checked.
    let envelope: Envelope<Box<RawValue>> =
        serde_json::from_str(text).map_err(|_| Ignored::Malformed)?;
    // Two applications may share a broker. Their users must not see each other typing.
    if envelope.store != store {
        return Err(Ignored::Foreign);
    }
    // During an update servers of two versions run side by side. They read each other's changes
    // from the store instead.
    if envelope.v != VERSION {
        return Err(Ignored::Unknown);
    }
    serde_json::from_str(envelope.content.get()).map_err(|_| Ignored::Malformed)
}

/// Decodes announcements individually, so that an announcement of a later version does not affect
/// the rest.
pub(super) fn read_news(store: Uuid, text: &str) -> Result<Vec<Result<News, Ignored>>, Ignored> {
    let all: Vec<Box<RawValue>> = read(store, text)?;
    let one = |text: Box<RawValue>| match serde_json::from_str(text.get()) {
        Ok(News::Step(step)) if !step.is_whole() => Err(Ignored::Malformed),
        Ok(news) => Ok(news),
        Err(_) => Err(Ignored::Unknown),
    };
    Ok(all.into_iter().map(one).collect())
}

/// Decodes a request for the confirmations of a message.
pub(super) fn read_confirmation_request(store: Uuid, text: &str) -> Result<Step, Ignored> {
    let step: Step = read(store, text)?;
    if step.is_whole() {
        Ok(step)
    } else {
        Err(Ignored::Malformed)
    }
}

/// The version of the content. It changes if servers of the previous version could not read the
/// content.
const VERSION: u32 = 1;

/// The maximum serialized size in bytes of a message that is announced with its content.
const MAX_INLINE_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::service::cluster::corpus::{Line, STORE, contains_all, lines};

    fn message(content: &str) -> Arc<Message> {
        let json = serde_json::json!({
            "id": Uuid::from_u128(2), "conversationId": Uuid::from_u128(3), "seq": 7,
            "userId": "ann", "userName": "Ann", "content": content, "type": "user",
            "metadata": {"a": [1, 2.50]}, "version": 1, "createdAt": "2025-01-31T12:00:00.000Z",
        });
        Arc::new(serde_json::from_str(&json.to_string()).unwrap())
    }

    fn step(content: &str) -> Step {
        let revision = Revision { seq: 7, changes: 4 };
        Step::of(&Committed::Message(message(content)), revision, None).unwrap()
    }

    #[test]
    fn invalid_trace_of_a_step_counts_as_none() {
        let mut traced = step("x");
        let earlier = serde_json::to_value(&traced).unwrap();
        assert!(earlier.get("traceparent").is_none());
        traced.traceparent = Some(TraceContext::new(true));
        let mut text = serde_json::to_value(&traced).unwrap();
        let read: Step = serde_json::from_value(text.clone()).unwrap();
        let trace_id = |step: &Step| step.traceparent.map(|trace| trace.trace_id());
        assert_eq!(trace_id(&read), trace_id(&traced));
        text["traceparent"] = "00-invalid".into();
        let read: Step = serde_json::from_value(text).unwrap();
        assert_eq!(read.traceparent, None);
    }

    #[test]
    fn announcements_survive_a_round_trip() {
        let news = [News::Step(step("hello")), News::Changes];
        let text = write(STORE, &news).unwrap();
        let read = read_news(STORE, &text).unwrap();
        let [Ok(News::Step(step)), Ok(News::Changes)] = read.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(step.revision(), Revision { seq: 7, changes: 4 });
        let Committed::Message(read) = step.clone().into_event() else {
            panic!("{step:?}");
        };
        let (before, after) = (message("hello"), read);
        assert_eq!(
            serde_json::to_string(&before).unwrap(),
            serde_json::to_string(&after).unwrap()
        );
    }

    #[test]
    fn announcements_of_all_versions_are_read() {
        let mut kinds = BTreeSet::new();
        for Line { is, name, text } in lines("announcements.txt") {
            let text = &*text;
            let again = match &*is {
                "news" => {
                    let read = read_news(STORE, text).unwrap().into_iter();
                    let read: Vec<News> = read.map(Result::unwrap).collect();
                    kinds.extend(read.iter().map(|news| match news {
                        News::Step(step) if step.removed.is_some() => "removed",
                        News::Revoked(_) => "revoked",
                        News::Step(step) => match step.event {
                            Some(InlineEvent::Message(_)) => "message",
                            Some(InlineEvent::Edited(_)) => "edited",
                            Some(InlineEvent::Deleted { .. }) => "deleted",
                            Some(InlineEvent::Annotated(_)) => "annotated",
                            None => "large",
                        },
                        News::Grown(_) => "grown",
                        News::StopRequest(_) => "stop request",
                        News::Typing(_) => "typing",
                        News::Presence(_) => "presence",
                        News::Read(_) => "read",
                        News::Level(_) => "level",
                        News::Changes => "changes",
                    }));
                    write(STORE, &read).unwrap()
                }
                "question" => {
                    write(STORE, &read_confirmation_request(STORE, text).unwrap()).unwrap()
                }
                "confirmed" => {
                    let confirmed: Confirmed = serde_json::from_str(text).unwrap();
                    serde_json::to_string(&confirmed).unwrap()
                }
                unknown => panic!("{unknown}"),
            };
            assert!(contains_all(text, &again), "{name}: {again}");
        }
        assert_eq!(kinds.len(), 14, "one of each is in the corpus: {kinds:?}");
    }

    #[test]
    fn counted_sizes_match_the_serialized_sizes() {
        for text in ["plain", "\"\"", "a\\b", "line\nline\t", "\u{1}", "\u{7f}ü€"] {
            let inner = serde_json::to_string(text).unwrap();
            let outer = serde_json::to_string(&inner).unwrap();
            // The two pairs of quotes, of which the outer one escapes the inner one.
            assert_eq!(written(text), outer.len() - 6, "{text:?}");
            assert_eq!(escaped(&inner), outer.len() - 2, "{text:?}");
        }
    }

    #[test]
    fn large_message_is_announced_without_its_content() {
        assert!(step(&"x".repeat(MAX_INLINE_BYTES + 1)).event.is_none());
        assert!(step(&"\"".repeat(MAX_INLINE_BYTES / 4 + 1)).event.is_none());
        let deleted = Committed::Deleted {
            message: message(""),
            by: "bob".into(),
        };
        assert!(
            Step::of(&deleted, Revision::default(), None)
                .unwrap()
                .event
                .is_some()
        );
        assert!(Step::of(&Committed::Announced(STORE), Revision::default(), None).is_none());
    }

    #[test]
    fn foreign_unknown_and_malformed_texts_are_distinguished() {
        let text = write(STORE, &[News::Changes]).unwrap();
        let foreign = read_news(Uuid::from_u128(9), &text);
        assert!(matches!(foreign, Err(Ignored::Foreign)));
        for version in [0, 2] {
            let other = text.replace("\"v\":1", &format!("\"v\":{version}"));
            assert!(matches!(read_news(STORE, &other), Err(Ignored::Unknown)));
        }
        for garbage in ["", "{", "[]", "null", &text.replace('[', "7,[")] {
            assert!(
                matches!(read_news(STORE, garbage), Err(Ignored::Malformed)),
                "{garbage}"
            );
        }
        let one = text.replace("\"changes\"", "{\"later\":{}},\"changes\",7");
        let read = read_news(STORE, &one).unwrap();
        assert!(
            matches!(
                read.as_slice(),
                [Err(Ignored::Unknown), Ok(News::Changes), Err(_)]
            ),
            "{read:?}"
        );
    }

    #[test]
    fn inconsistent_step_is_ignored() {
        let mut wrong = step("hello");
        wrong.seq = 8;
        let text = write(STORE, &[News::Step(wrong)]).unwrap();
        let read = read_news(STORE, &text).unwrap();
        assert!(
            matches!(read.as_slice(), [Err(Ignored::Malformed)]),
            "{read:?}"
        );
        let mut wrong = step("hello");
        wrong.conversation_id = STORE;
        let text = write(STORE, &wrong).unwrap();
        assert!(matches!(
            read_confirmation_request(STORE, &text),
            Err(Ignored::Malformed)
        ));
    }
}
