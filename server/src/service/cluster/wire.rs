//! What servers of one store tell one another, and how it is written: JSON in a text, which every parser carries.
//!
//! Whoever reads leaves out what is of another store, of a later version or unreadable: the store tells all of it
//! again, but for who types.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::{Annotated, Committed, Level, Message, Revision, Time};

/// Something that other servers are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) enum News {
    /// Something was committed in a conversation.
    Step(Step),
    /// Somebody types in a conversation, or has stopped.
    Typing(Typing),
    /// Who is in a conversation has changed in the store.
    Presence(Presence),
    /// A user has read further.
    Read(Read),
    /// A user has said of what in a conversation it wants to be notified.
    Level(LevelOf),
    /// There is more in the store's feed of changes.
    Changes,
    /// A token, a login, a user or a role is revoked.
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

/// How far a conversation has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Step {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) seq: u64,
    pub(in crate::service) changes: u64,
    /// What was committed, if it is small; it is read from the store otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::service) event: Option<Small>,
    /// The user that this step removes from the members.
    ///
    /// Servers of an earlier version ignore it: they find the removal in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::service) removed: Option<Arc<str>>,
}

/// What is told with its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) enum Small {
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

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Presence {
    pub(in crate::service) conversation_id: Uuid,
    /// Who has gone on purpose.
    pub(in crate::service) left: Vec<Arc<str>>,
    /// Who has gone without a word; servers of an earlier version do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::service) lost: Vec<Arc<str>>,
}

impl Presence {
    /// The same in parts, of which each is small enough to be told.
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
            // Each character may be written as one that is escaped twice.
            let most = user.len() * LONGEST_ESCAPE;
            if bytes + most > NAMES {
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

/// Bytes of the longest form of a byte: a control character in a string of JSON within a string of JSON.
const LONGEST_ESCAPE: usize = 7;
/// Bytes that the names of users in one announcement may take.
const NAMES: usize = 4000;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Read {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) user_id: Arc<str>,
    pub(in crate::service) seq: u64,
    /// Whether all who are in the conversation are told, and not the user alone.
    pub(in crate::service) for_all: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct LevelOf {
    pub(in crate::service) conversation_id: Uuid,
    pub(in crate::service) user_id: Arc<str>,
    pub(in crate::service) level: Level,
}

/// What a server answers that is asked who has confirmed a message, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct Confirmed {
    /// Sockets that were asked.
    pub(in crate::service) expected: usize,
    /// Those that confirmed in time.
    pub(in crate::service) delivered: usize,
    /// Whether the time was over before all had answered.
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
    /// A step of this server; none if the others know it already.
    pub(in crate::service) fn of(event: &Committed, revision: Revision) -> Option<Self> {
        let small = match event {
            Committed::Message(message) => {
                is_small(message, "").then(|| Small::Message(Arc::clone(message)))
            }
            Committed::Edited(message) => {
                is_small(message, "").then(|| Small::Edited(Arc::clone(message)))
            }
            Committed::Deleted { message, by } => is_small(message, by).then(|| Small::Deleted {
                message: Arc::clone(message),
                by: by.clone(),
            }),
            Committed::Annotated(annotated) => Some(Small::Annotated(Arc::clone(annotated))),
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
        })
    }

    pub(in crate::service) fn revision(&self) -> Revision {
        Revision {
            seq: self.seq,
            changes: self.changes,
        }
    }

    /// What was committed, as far as it was told.
    pub(in crate::service) fn into_event(self) -> Committed {
        match self.event {
            Some(Small::Message(message)) => Committed::Message(message),
            Some(Small::Edited(message)) => Committed::Edited(message),
            Some(Small::Deleted { message, by }) => Committed::Deleted { message, by },
            Some(Small::Annotated(annotated)) => Committed::Annotated(annotated),
            None => Committed::Announced(self.conversation_id),
        }
    }

    /// Whether all of it is about one conversation, and about the place that it names.
    fn is_whole(&self) -> bool {
        let (message, is_new) = match &self.event {
            Some(Small::Message(message)) => (message, true),
            Some(Small::Edited(message) | Small::Deleted { message, .. }) => (message, false),
            Some(Small::Annotated(annotated)) => {
                return annotated.conversation_id() == self.conversation_id
                    && annotated.seq() <= self.seq;
            }
            None => return true,
        };
        message.conversation_id == self.conversation_id
            && (message.seq == self.seq || !is_new && message.seq < self.seq)
    }
}

/// Whether a message is told with its text, and with who has changed it.
fn is_small(message: &Message, by: &str) -> bool {
    bytes_of(message) + written(by) <= CARRIED
}

/// Bytes of what a message has of its sender and of others, as they are written.
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

/// Bytes of a text when it is a string of JSON within a string of JSON: news are text that adapters put into JSON of
/// their own, where a quote takes four bytes.
fn written(text: &str) -> usize {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => 4,
        b'\n' | b'\r' | b'\t' => 3,
        0..b' ' => 7,
        _ => 1,
    };
    text.bytes().map(byte).sum()
}

/// Bytes of JSON within a string of JSON.
pub(super) fn escaped(json: &str) -> usize {
    let quotes = json.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    json.len() + quotes.count()
}

/// What stands around all that is told.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    /// The version of what is in it.
    v: u32,
    /// The store whose servers are meant.
    store: Uuid,
    #[serde(rename = "is")]
    content: T,
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// The text is not readable.
    Malformed,
    /// The text is of a later version.
    Unknown,
    /// The text is of servers with another store.
    Foreign,
}

/// Writes what servers of this store are to read.
pub(crate) fn write(store: Uuid, content: &impl Serialize) -> Option<String> {
    let (v, content) = (VERSION, content);
    serde_json::to_string(&Envelope { v, store, content }).ok()
}

/// Reads what a server of this store has written.
pub(crate) fn read<T: DeserializeOwned>(store: Uuid, text: &str) -> Result<T, Ignored> {
    // The content may look like nothing that this version knows, so it stays unparsed until the
    // version is known.
    let envelope: Envelope<Box<RawValue>> =
        serde_json::from_str(text).map_err(|_| Ignored::Malformed)?;
    // Two applications may share a broker, and their users must not see each other typing.
    if envelope.store != store {
        return Err(Ignored::Foreign);
    }
    // Servers of two versions run side by side during an update; what the other one means is read
    // from the store instead.
    if envelope.v != VERSION {
        return Err(Ignored::Unknown);
    }
    serde_json::from_str(envelope.content.get()).map_err(|_| Ignored::Malformed)
}

/// Reads news one by one, so that one of a later version does not take the others with it.
pub(super) fn read_news(store: Uuid, text: &str) -> Result<Vec<Result<News, Ignored>>, Ignored> {
    let all: Vec<Box<RawValue>> = read(store, text)?;
    let one = |text: Box<RawValue>| match serde_json::from_str(text.get()) {
        Ok(News::Step(step)) if !step.is_whole() => Err(Ignored::Malformed),
        Ok(news) => Ok(news),
        Err(_) => Err(Ignored::Unknown),
    };
    Ok(all.into_iter().map(one).collect())
}

/// Reads the question who has confirmed a message.
pub(super) fn read_question(store: Uuid, text: &str) -> Result<Step, Ignored> {
    let step: Step = read(store, text)?;
    if step.is_whole() {
        Ok(step)
    } else {
        Err(Ignored::Malformed)
    }
}

/// The version of what is written. One that cannot be read by servers of the version before has another.
const VERSION: u32 = 1;

/// Bytes of text and metadata, as they are written, up to which a message is told with them.
const CARRIED: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::service::cluster::corpus::{Line, STORE, is_said_again, lines};

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
        Step::of(&Committed::Message(message(content)), revision).unwrap()
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
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
    fn what_servers_of_every_version_say_is_read_as_it_was_meant() {
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
                            Some(Small::Message(_)) => "message",
                            Some(Small::Edited(_)) => "edited",
                            Some(Small::Deleted { .. }) => "deleted",
                            Some(Small::Annotated(_)) => "annotated",
                            None => "large",
                        },
                        News::Typing(_) => "typing",
                        News::Presence(_) => "presence",
                        News::Read(_) => "read",
                        News::Level(_) => "level",
                        News::Changes => "changes",
                    }));
                    write(STORE, &read).unwrap()
                }
                "question" => write(STORE, &read_question(STORE, text).unwrap()).unwrap(),
                "confirmed" => {
                    let confirmed: Confirmed = serde_json::from_str(text).unwrap();
                    serde_json::to_string(&confirmed).unwrap()
                }
                unknown => panic!("{unknown}"),
            };
            assert!(is_said_again(text, &again), "{name}: {again}");
        }
        assert_eq!(kinds.len(), 12, "one of each is in the corpus: {kinds:?}");
    }

    #[test]
    fn what_a_text_takes_is_counted_as_adapters_write_it() {
        for text in ["plain", "\"\"", "a\\b", "line\nline\t", "\u{1}", "\u{7f}ü€"] {
            let inner = serde_json::to_string(text).unwrap();
            let outer = serde_json::to_string(&inner).unwrap();
            // Both pairs of quotes, of which the outer one escapes the inner one.
            assert_eq!(written(text), outer.len() - 6, "{text:?}");
            assert_eq!(escaped(&inner), outer.len() - 2, "{text:?}");
        }
    }

    #[test]
    fn a_large_message_is_named_and_not_told() {
        assert!(step(&"x".repeat(CARRIED + 1)).event.is_none());
        assert!(step(&"\"".repeat(CARRIED / 4 + 1)).event.is_none());
        let deleted = Committed::Deleted {
            message: message(""),
            by: "bob".into(),
        };
        assert!(
            Step::of(&deleted, Revision::default())
                .unwrap()
                .event
                .is_some()
        );
        assert!(Step::of(&Committed::Announced(STORE), Revision::default()).is_none());
    }

    #[test]
    fn what_is_foreign_unknown_or_garbage_is_told_apart() {
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
    fn a_step_that_contradicts_itself_is_left_out() {
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
            read_question(STORE, &text),
            Err(Ignored::Malformed)
        ));
    }
}
