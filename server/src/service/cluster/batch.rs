//! Batches of announcements: as many as fit into one event.
//!
//! The announcer fills and sends batches. This module must not send anything.

use serde_json::value::RawValue;

use super::wire::{self, News};

/// Announcements that are sent in one event.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) all: Vec<Box<RawValue>>,
    /// The size of all of them in the event, in bytes.
    bytes: usize,
    has_changes: bool,
}

impl Batch {
    /// Adds an announcement. Returns the previous contents if it does not fit beside them.
    pub(super) fn add(&mut self, news: &News) -> Option<Self> {
        let is_changes = matches!(news, News::Changes);
        // Reading the feed once is enough, regardless of the number of additions to it.
        if is_changes && self.has_changes {
            return None;
        }
        // Announcements are plain data, which can always be serialized.
        let text = serde_json::value::to_raw_value(news).ok()?;
        let bytes = wire::escaped(text.get()) + 1;
        let fits = self.bytes + bytes <= BATCH_BYTES && self.all.len() < BATCH;
        let full = (!fits && !self.all.is_empty()).then(|| std::mem::take(self));
        self.all.push(text);
        self.bytes += bytes;
        self.has_changes |= is_changes;
        full
    }
}

/// The maximum size of a batch in bytes. No announcement is larger.
///
/// With everything around it, a batch takes at most 5,900 bytes. Sealed and encoded, it then fits
/// into a PostgreSQL notification.
const BATCH_BYTES: usize = 5000;
/// The maximum number of announcements in a batch.
const BATCH: usize = 128;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::metrics::trace::TraceContext;
    use crate::service::cluster::{NEWS, wire::Step};
    use crate::store::{Annotated, Committed, Message, Revision};

    fn typing(name: &str) -> News {
        News::Typing(wire::Typing {
            conversation_id: Uuid::from_u128(1),
            user_id: name.into(),
            name: name.into(),
            is_typing: true,
        })
    }

    /// Returns one step of a conversation, by its kind. Its message has this many mentions, a quote
    /// and reactions. All of its users are called `name`.
    fn committed(name: &str, kind: usize, mentions: usize) -> News {
        let quote = json!({
            "id": Uuid::nil(), "seq": 1, "userId": name, "userName": name,
            "excerpt": name.chars().cycle().take(200).collect::<String>(),
        });
        let message = json!({
            "id": Uuid::nil(), "conversationId": Uuid::nil(), "seq": 7, "userId": name, "userName": name,
            "content": name, "type": "user", "metadata": {"name": name}, "version": 1,
            "createdAt": "2025-01-31T12:00:00.000Z", "replyTo": quote, "mentions": vec![name; mentions],
            "reactions": [{"emoji": "👍🏽", "count": 12, "userIds": vec![name; mentions % 11]}],
        });
        let message = serde_json::from_value::<Arc<Message>>(message).unwrap();
        let committed = match kind {
            2 => Committed::Message(message),
            3 => Committed::Edited(message),
            4 => Committed::Deleted {
                message,
                by: name.into(),
            },
            _ => {
                let pin = json!({"message": quote, "pinnedBy": name, "pinnedAt": "2025-01-31T12:00:00.000Z"});
                let pinned = json!({"conversationId": Uuid::nil(), "pin": pin});
                let pinned = serde_json::from_value(pinned).unwrap();
                Committed::Annotated(Arc::new(Annotated::Pinned(pinned)))
            }
        };
        let revision = Revision { seq: 7, changes: 4 };
        News::Step(Step::of(&committed, revision, Some(TraceContext::new(true))).unwrap())
    }

    #[test]
    fn batch_event_never_exceeds_5900_bytes() {
        // The bytes that an adapter adds to an event: names, a number, the namespace.
        const AROUND: usize = 400;
        let store = Uuid::from_u128(1);
        for name in [
            "ann",
            "\"\"\"\"\"\"",
            "\\n\u{1}\u{2}\n",
            "ü€😀",
            &"\"".repeat(128),
            &"\u{1}".repeat(128),
            &"ü".repeat(64),
        ] {
            let (mut batch, mut sent) = (Batch::default(), Vec::new());
            for n in 0..1000 {
                let news = match n % 7 {
                    0 => vec![News::Changes],
                    1 => vec![typing(name)],
                    kind @ 2..=5 => vec![committed(name, kind, n % 21)],
                    _ => {
                        let stir = wire::Presence {
                            conversation_id: store,
                            left: vec![name.into(); n % 7],
                            lost: vec![name.into(); n % 5],
                        };
                        stir.parts().into_iter().map(News::Presence).collect()
                    }
                };
                for news in &news {
                    sent.extend(batch.add(news));
                }
            }
            // All users have left a conversation together.
            let all = wire::Presence {
                conversation_id: store,
                left: vec![name.into(); 300],
                lost: vec![name.into(); 200],
            };
            let parts = all.parts();
            let collect = |names: fn(&wire::Presence) -> &Vec<_>| {
                parts.iter().map(|part| names(part).len()).sum::<usize>()
            };
            assert_eq!(
                (collect(|part| &part.left), collect(|part| &part.lost)),
                (300, 200)
            );
            for part in parts {
                sent.extend(batch.add(&News::Presence(part)));
            }
            sent.push(batch);
            assert!(sent.len() > 5, "{name}");
            for batch in &sent {
                assert!(batch.all.len() <= BATCH);
                let text = wire::write(store, &batch.all).unwrap();
                let event = serde_json::to_string(&[NEWS, &text]).unwrap();
                assert!(event.len() + AROUND <= 5900, "{name}: {}", event.len());
                // The counted size is the serialized size.
                let inside = batch.all.iter().map(|news| wire::escaped(news.get()) + 1);
                assert_eq!(batch.bytes, inside.sum::<usize>());
            }
        }
    }
}
