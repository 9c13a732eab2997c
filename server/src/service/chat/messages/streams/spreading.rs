//! Sends growing text to the readers of all servers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use super::OpenText;
use crate::metrics::{Inventoried, Inventory};
use crate::service::chat::handle::{Chat, now};
use crate::service::chat::sequencer::growing::text::Misfit;
use crate::service::cluster::{Grown, News};
use roomcast::Namespace;

impl Chat {
    /// Sends new text to the readers, here and at other servers.
    pub(super) fn grow(
        &self,
        open: &OpenText,
        namespace: &Namespace,
        (offset, piece): (usize, &str),
    ) {
        let id = open.conversation_id;
        self.0.conversations.with(id, |live| {
            live.streams.attach(open.seq, open.local(), now());
            live.grow_text(namespace, open.seq, now());
        });
        if let Some(announcer) = self.0.conversations.announcer() {
            let place = (id, open.seq, open.message_id);
            for grown in Grown::parts(place, open.holder, offset, piece) {
                announcer.announce(News::Grown(grown));
            }
        }
    }

    /// Sends text of an author at another server to the readers here.
    pub(in crate::service::chat) fn receive_grown(&self, namespace: &Namespace, grown: Grown) {
        let received = self.0.conversations.with(grown.conversation_id, |live| {
            let texts = &mut live.streams;
            let piece = (grown.offset, &*grown.text);
            texts.receive(grown.seq, grown.holder, piece, now())?;
            live.grow_text(namespace, grown.seq, now());
            Ok::<_, Misfit>(())
        });
        if let Some(Err(Misfit::Gap)) = received {
            let id = grown.message_id;
            let (conversation, seq) = (grown.conversation_id, grown.seq);
            if self.0.streams.gaps.lock().add(grown) {
                let filling = self
                    .clone()
                    .fill_gap(namespace.clone(), (id, conversation, seq));
                tokio::spawn(filling);
            }
        }
    }

    /// Reads what is stored of a text until it reaches the pieces that wait. Pieces are lost, or
    /// arrive before the beginning of their message.
    async fn fill_gap(self, namespace: Namespace, (id, conversation, seq): (Uuid, Uuid, u64)) {
        let gaps = &self.0.streams.gaps;
        for delay in FILL_DELAYS {
            sleep(delay).await;
            let stored = match self.0.store.stored_stream(id).await {
                Ok(Some(stored)) => stored,
                // The message has ended.
                Ok(None) => break,
                Err(_) => continue,
            };
            let pieces = gaps.lock().take(id);
            let rest = self.0.conversations.with(conversation, |live| {
                let texts = &mut live.streams;
                // Before the beginning of the message, all pieces wait further.
                let _ = texts.receive(seq, stored.holder, (0, &stored.text), now());
                let mut rest = pieces;
                rest.retain(|grown| {
                    let piece = (grown.offset, &*grown.text);
                    texts.receive(seq, grown.holder, piece, now()) == Err(Misfit::Gap)
                });
                live.grow_text(&namespace, seq, now());
                rest
            });
            if gaps.lock().is_filled(id, rest.unwrap_or_default()) {
                return;
            }
        }
        gaps.lock().0.remove(&id);
    }
}

/// Pieces of texts that continue nothing here yet, by message.
#[derive(Debug, Default)]
pub(super) struct Gaps(HashMap<Uuid, Vec<Grown>>);

impl Gaps {
    /// Keeps a piece, unless there are many. Returns whether it is the first of its message.
    fn add(&mut self, piece: Grown) -> bool {
        let count = self.0.len();
        match self.0.entry(piece.message_id) {
            Entry::Occupied(mut known) => {
                if known.get().len() < MAX_PIECES {
                    known.get_mut().push(piece);
                }
                false
            }
            Entry::Vacant(vacant) if count < MAX_GAPS => {
                vacant.insert(vec![piece]);
                true
            }
            Entry::Vacant(_) => false,
        }
    }

    /// Takes the pieces of a message, for which others are kept in the meantime.
    fn take(&mut self, id: Uuid) -> Vec<Grown> {
        self.0.get_mut(&id).map(mem::take).unwrap_or_default()
    }

    /// Keeps the pieces that still wait. Returns whether none do.
    fn is_filled(&mut self, id: Uuid, mut rest: Vec<Grown>) -> bool {
        if let Some(pieces) = self.0.get_mut(&id) {
            rest.append(pieces);
            *pieces = rest;
            if !pieces.is_empty() {
                return false;
            }
        }
        self.0.remove(&id);
        true
    }
}

impl Inventoried for Gaps {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("texts with a gap", &self.0);
    }
}

/// The times until what is stored is read. It is stored one to four times a second.
const FILL_DELAYS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];
/// Maximum number of pieces of a message that wait. They have up to 4,000 bytes each.
const MAX_PIECES: usize = 200;
/// Maximum number of messages with pieces that wait.
const MAX_GAPS: usize = 100;
