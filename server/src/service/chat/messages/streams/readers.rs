//! Readers whose answers have the beginnings of growing texts.

use std::sync::Arc;

use uuid::Uuid;

use crate::auth::Principal;
use crate::service::chat::handle::{Chat, now};
use crate::store::{Message, Page};
use roomcast::{Socket, SocketId};

/// A reader that is sent nothing of growing texts until this is dropped: after its answer.
#[derive(Debug)]
pub(in crate::service::chat) struct HeldReader {
    chat: Chat,
    conversation_id: Uuid,
    socket: SocketId,
}

impl HeldReader {
    /// Cuts growing texts in the answer to what the next events continue.
    pub(in crate::service::chat) fn fit<'a>(
        &self,
        messages: impl Iterator<Item = &'a mut Arc<Message>>,
    ) {
        let Chat(chat) = &self.chat;
        chat.conversations.with(self.conversation_id, |live| {
            live.streams.fit(&self.socket, messages, now());
        });
    }
}

impl Drop for HeldReader {
    fn drop(&mut self) {
        let Chat(chat) = &self.chat;
        let tempo = chat.conversations.common().streams;
        chat.conversations.with(self.conversation_id, |live| {
            live.streams.release(&self.socket, tempo, now());
        });
    }
}

impl Chat {
    /// Holds a reader.
    pub(in crate::service::chat) fn hold(&self, id: Uuid, socket: &Socket) -> HeldReader {
        let Self(chat) = self;
        chat.conversations
            .with(id, |live| live.streams.hold(&socket.id()));
        self.held(id, socket)
    }

    /// Returns a reader that is held already.
    pub(in crate::service::chat) fn held(&self, id: Uuid, socket: &Socket) -> HeldReader {
        HeldReader {
            chat: self.clone(),
            conversation_id: id,
            socket: socket.id(),
        }
    }

    /// Returns the messages of a conversation that are being written. A client that joins again
    /// may have less of them than its former connection would have received.
    ///
    /// The socket has joined by now, so a failing store is no reason to reject the join.
    pub(in crate::service::chat) async fn streaming(
        &self,
        by: &Principal,
        id: Uuid,
    ) -> Vec<Arc<Message>> {
        let Self(chat) = self;
        let mut found = Vec::new();
        for seq in chat.store.streams_in(id).await.unwrap_or_default() {
            let page = Page::Between {
                after: seq.saturating_sub(1),
                through: seq,
            };
            let read = chat.store.messages(id, &by.subject, page, 1).await;
            let messages = read.ok().flatten().map(|page| page.messages);
            let messages = messages.into_iter().flatten();
            found.extend(messages.filter(|message| message.streaming));
        }
        found
    }
}
