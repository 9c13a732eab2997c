use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Command, Incoming, Socket, incoming::Sink};
use crate::socket::ListenerId;

/// A [`Stream`] of events, from [`Socket::stream`].
///
/// The stream does not end when the connection is lost, since the socket may reconnect.
pub struct Events {
    socket: Socket,
    id: ListenerId,
    /// The queue of events, bounded by the semaphore.
    events: mpsc::UnboundedReceiver<(Incoming, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl Events {
    pub(super) fn new(socket: Socket, id: ListenerId, room: usize) -> (Self, Sink) {
        let max = room.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let room = Arc::new(Semaphore::new(max));
        #[expect(
            clippy::disallowed_methods,
            reason = "bounded by the semaphore, in bytes"
        )]
        let (sender, events) = mpsc::unbounded_channel();
        let sink = Sink {
            events: sender,
            room: Arc::clone(&room),
            max,
        };
        let events = Self {
            socket,
            id,
            events,
            room,
        };
        (events, sink)
    }

    /// Returns the socket that receives the events.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Returns the next event, or `None` if the client's runtime has ended.
    ///
    /// This method is cancel safe: dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Incoming> {
        StreamExt::next(self).await
    }
}

impl Stream for Events {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let next = self.events.poll_recv(cx);
        next.map(|next| next.map(|(event, _)| event))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Closing the semaphore wakes the connection's task if it waits for room.
        self.room.close();
        let id = self.id;
        self.socket.command(|shared| Command::Unlisten(shared, id));
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
