//! Readers whose answers have the beginnings of growing texts.

use std::sync::Arc;

use uuid::Uuid;

use crate::auth::Principal;
use crate::service::chat::handle::{Chat, now};
use crate::service::chat::sequencer::conversations::LiveConversation;
use crate::service::fault::ServiceError;
use crate::store::{Message, PAGE_BYTES, Page, STREAMS_READ, StoreError};
use roomcast::{Socket, SocketId};

/// A reader that is sent nothing of growing texts until this is dropped: after its answer.
#[derive(Debug)]
pub(in crate::service::chat) struct HeldReader {
    chat: Chat,
    conversation_id: Uuid,
    socket: SocketId,
    /// Whether the conversation had joined sockets, so that the reader is held there.
    is_held: bool,
}

impl HeldReader {
    /// Cuts growing texts in the answer to what the next events continue.
    pub(in crate::service::chat) fn fit<'a>(
        &self,
        messages: impl Iterator<Item = &'a mut Arc<Message>>,
    ) {
        let Chat(chat) = &self.chat;
        let mut messages: Vec<_> = messages.collect();
        // A text that is written here may be longer than what was read of it.
        let written: Vec<_> = messages
            .iter()
            .filter(|message| message.streaming)
            .filter_map(|message| Some((Arc::clone(message), chat.streams.text_of(message.id)?)))
            .collect();
        chat.conversations.with(self.conversation_id, |live| {
            for (message, text) in written {
                live.streams.begin(&message, now());
                live.streams.attach(message.seq, text, now());
            }
            live.streams.fit(
                &self.socket,
                messages.iter_mut().map(|one| &mut **one),
                now(),
            );
        });
    }

    /// Sends the reader all texts that grow, because its answer has their beginnings.
    pub(in crate::service::chat) fn admit(&self) {
        let Chat(chat) = &self.chat;
        chat.conversations.with(self.conversation_id, |live| {
            live.streams.forget(&self.socket);
        });
    }
}

impl Drop for HeldReader {
    fn drop(&mut self) {
        let Chat(chat) = &self.chat;
        if !self.is_held {
            return;
        }
        let tempo = chat.conversations.common().streams;
        chat.conversations.with(self.conversation_id, |live| {
            live.streams.release(&self.socket, tempo, now());
        });
    }
}

/// Lets a socket enter a conversation. It is sent nothing of the texts that grow there until the
/// answer with their beginnings is queued.
pub(in crate::service::chat) fn enter_held(
    live: &mut LiveConversation,
    socket: &Socket,
    seq: u64,
    enter: impl FnOnce(&mut LiveConversation) -> Result<u64, ServiceError>,
) -> Result<u64, ServiceError> {
    let id = socket.id();
    // Before it enters, which may send texts that are due.
    live.streams.hold(&id);
    if !socket.is_in(live.room.as_str()) {
        live.streams.withhold(&id, seq);
    }
    enter(live).inspect_err(|_| {
        let tempo = live.common.streams;
        live.streams.forget(&id);
        live.streams.release(&id, tempo, now());
    })
}

impl Chat {
    /// Holds a reader.
    pub(in crate::service::chat) fn hold(&self, id: Uuid, socket: &Socket) -> HeldReader {
        let Self(chat) = self;
        let held = chat
            .conversations
            .with(id, |live| live.streams.hold(&socket.id()));
        let mut reader = self.held(id, socket);
        reader.is_held = held.is_some();
        reader
    }

    /// Returns a reader that is held already.
    pub(in crate::service::chat) fn held(&self, id: Uuid, socket: &Socket) -> HeldReader {
        HeldReader {
            chat: self.clone(),
            conversation_id: id,
            socket: socket.id(),
            is_held: true,
        }
    }

    /// Returns the messages of a conversation that are being written. A client that joins again
    /// may have less of them than its former connection would have received. The flag is whether
    /// these are all: like a page, the list ends at a size, but has at least one message.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub(in crate::service::chat) async fn streaming(
        &self,
        by: &Principal,
        id: Uuid,
    ) -> Result<(Vec<Arc<Message>>, bool), StoreError> {
        let Self(chat) = self;
        let (mut found, mut bytes) = (Vec::new(), 0);
        let streams = chat.store.streams_in(id).await?;
        let are_all = streams.len() < STREAMS_READ;
        for seq in streams {
            let page = Page::Between {
                after: seq.saturating_sub(1),
                through: seq,
            };
            let read = chat.store.messages(id, &by.subject, page, 1).await?;
            let messages = read.map(|page| page.messages).into_iter().flatten();
            for message in messages.filter(|message| message.streaming) {
                bytes += message.json_len();
                if bytes > STREAMING_BYTES && !found.is_empty() {
                    return Ok((found, false));
                }
                found.push(message);
            }
        }
        Ok((found, are_all))
    }
}

/// The size in bytes at which the list of messages that are being written ends. The answer has a
/// page of messages besides.
const STREAMING_BYTES: usize = PAGE_BYTES / 2;
