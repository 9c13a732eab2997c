//! Which server writes a message: the one where its author has last continued it.

use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::OpenText;
use super::authors::{ENDED, NOT_WRITTEN};
use crate::auth::Principal;
use crate::service::chat::handle::{Chat, now};
use crate::service::chat::sequencer::growing::text::GrowingText;
use crate::service::fault::ServiceError;
use crate::store::OpenStream;
use roomcast::SocketId;

impl Chat {
    /// Returns a message that its author writes here from now on.
    pub(super) async fn writing(
        &self,
        message: Uuid,
        author: &Arc<Principal>,
        socket: Option<SocketId>,
    ) -> Result<Arc<Mutex<OpenText>>, ServiceError> {
        let streams = &self.0.streams;
        let open = match streams.get(message) {
            Some(open) if open.lock().author.subject == author.subject => open,
            Some(_) => return Err(NOT_WRITTEN),
            None => {
                let (holder, taken) = self.take_over(message, &author.subject).await?;
                let text = GrowingText::new(taken.text);
                let place = (message, taken.conversation_id, taken.seq);
                let new = OpenText::new(place, Arc::clone(author), holder, socket.clone(), text);
                let open = streams.insert(new);
                // Another task has taken the message here at the same time.
                if open.lock().holder != holder {
                    return Box::pin(self.still_writing(open, author, socket)).await;
                }
                open
            }
        };
        let mut writing = open.lock();
        writing.touched = now();
        writing.author = Arc::clone(author);
        writing.socket = socket;
        drop(writing);
        Ok(open)
    }

    /// Makes this server the holder of a message, and returns what is stored of it.
    async fn take_over(
        &self,
        message: Uuid,
        author: &str,
    ) -> Result<(Uuid, OpenStream), ServiceError> {
        let store = &self.0.store;
        let mut holder = Uuid::now_v7();
        loop {
            if let Some(taken) = store.take_stream(message, author, holder).await? {
                return Ok((holder, taken));
            }
            // The clock of the former holder may be ahead of this server's.
            let held = store.held_streams(vec![message]).await?;
            match held.first() {
                Some(former) if former.holder >= holder => {
                    holder = Uuid::from_u128(former.holder.as_u128().saturating_add(1));
                }
                _ => break,
            }
        }
        let authorship = store.authorship(message).await?;
        let is_own = authorship.is_some_and(|of| of.user_id == author && !of.is_deleted);
        Err(if is_own { ENDED } else { NOT_WRITTEN })
    }

    /// Returns a message that its author writes here from now on, with all that is stored of it.
    pub(super) async fn written_here(
        &self,
        message: Uuid,
        author: &Arc<Principal>,
        socket: Option<SocketId>,
    ) -> Result<Arc<Mutex<OpenText>>, ServiceError> {
        let open = self.writing(message, author, socket.clone()).await?;
        self.still_writing(open, author, socket).await
    }

    /// Returns a message again that its author may have continued at another server, which then has
    /// more of it: the author goes on with what that server has stored.
    pub(super) async fn still_writing(
        &self,
        open: Arc<Mutex<OpenText>>,
        author: &Arc<Principal>,
        socket: Option<SocketId>,
    ) -> Result<Arc<Mutex<OpenText>>, ServiceError> {
        let (message, holder) = {
            let open = open.lock();
            (open.message_id, open.holder)
        };
        let held = self.0.store.held_streams(vec![message]).await?;
        if held.iter().all(|held| held.holder == holder) {
            return Ok(open);
        }
        self.0.streams.forget_held(message, holder);
        self.writing(message, author, socket).await
    }
}
