//! Received events, and the interfaces to their handlers and streams.

use std::{fmt, pin::Pin, sync::Arc};

use roomcast_protocol::socket::{Args, Arguments};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use super::{Command, Socket};
use crate::{
    Refusal,
    client::ClientError,
    socket::{Answer, Reply},
};

/// A received event.
#[non_exhaustive]
pub struct Incoming {
    /// The name of the event.
    pub name: String,
    /// The arguments of the event. A server with session recovery appends an offset (a string) to
    /// the application's arguments.
    pub args: Args,
    socket: Socket,
    ack: Option<Pending>,
}

/// An acknowledgement that the server expects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// The number of the session that received the event.
    pub(crate) epoch: u64,
    pub(crate) id: u64,
}

impl Incoming {
    pub(crate) fn new(socket: Socket, name: String, args: Args, ack: Option<Pending>) -> Self {
        Self {
            name,
            args,
            socket,
            ack,
        }
    }

    /// Returns the socket that received the event.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Returns whether [`ack`](Self::ack) sends an acknowledgement that the server expects.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Sends the acknowledgement that the event requested.
    ///
    /// Sends nothing if the event requested none, if a handler acknowledges it, or if the
    /// connection has changed since.
    ///
    /// # Errors
    /// Fails if the arguments cannot be encoded or the send queue is full.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn ack(self, args: impl Arguments) -> Result<(), ClientError> {
        let Some(Pending { epoch, id }) = self.ack else {
            return Ok(());
        };
        let handle = self.socket.client().handle();
        let parser = handle.settings.target.options.parser;
        let frame = parser.ack(self.socket.namespace(), id, &args);
        let frame = frame.map_err(ClientError::Encode)?;
        let charge = handle.budget.take(frame.len())?;
        self.socket.command(|_| Command::Answer {
            epoch,
            frame,
            charge,
        });
        Ok(())
    }

    /// Returns a copy of the event for another receiver, with this acknowledgement.
    pub(crate) fn with_ack(&self, ack: Option<Pending>) -> Self {
        Self {
            name: self.name.clone(),
            args: self.args.clone(),
            socket: self.socket.clone(),
            ack,
        }
    }

    /// Returns the event's approximate size in a queue, in bytes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.args.size()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("name", &self.name)
            .field("args", &self.args)
            .field("wants_ack", &self.wants_ack())
            .finish_non_exhaustive()
    }
}

/// The pending answer of a handler.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A handler with erased parameter types.
pub(crate) trait Erased: Send + Sync {
    fn call(&self, event: &Incoming, reply: Reply) -> Result<AnswerFuture, Refusal>;
}

/// The sending half of an [`Events`](super::Events) stream.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(super) events: mpsc::UnboundedSender<(Incoming, OwnedSemaphorePermit)>,
    /// One permit per byte of queue space.
    pub(super) room: Arc<Semaphore>,
    pub(super) max: usize,
}

impl Sink {
    /// Enqueues an event. Returns the event if the queue has no room.
    pub(crate) fn try_send(&self, event: Incoming) -> Option<Incoming> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.permits(&event)) {
            Ok(permit) => {
                let _ = self.events.send((event, permit));
                None
            }
            Err(TryAcquireError::Closed) => None,
            Err(TryAcquireError::NoPermits) => Some(event),
        }
    }

    /// Waits until the queue has room for the event or the stream is dropped.
    pub(crate) async fn ready(&self, event: &Incoming) {
        // The permits are released immediately. Only the task that waits here acquires permits, so
        // the room is still free for `try_send`.
        let _ = self.room.acquire_many(self.permits(event)).await;
    }

    fn permits(&self, event: &Incoming) -> u32 {
        // An event larger than the whole queue takes all permits, so it waits until the queue is
        // empty.
        u32::try_from(event.weight().min(self.max)).unwrap_or(u32::MAX)
    }
}
