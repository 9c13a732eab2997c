//! Events that came to a socket, and who takes them: handlers and streams.

use std::{fmt, pin::Pin, sync::Arc};

use roomcast_protocol::socket::{Args, Arguments};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use super::{Command, Socket};
use crate::{Answer, Refusal, Reply, client::ClientError};

/// An event that came to a socket.
#[non_exhaustive]
pub struct Incoming {
    /// The name of the event.
    pub name: String,
    /// The arguments of the event. A server that can recover sessions puts a text behind those of the
    /// application.
    pub args: Args,
    socket: Socket,
    ack: Option<Pending>,
}

/// An acknowledgement that the server waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// The number of the session in which it was asked for.
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

    /// The socket that the event came to.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether the server waits for an acknowledgement, and it is this event's to give.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Gives the acknowledgement that the event asked for. Nothing is sent if it did not ask, if a
    /// handler gives it, or if the connection is another one by now.
    ///
    /// # Errors
    /// If the arguments cannot be encoded, or too much waits already.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn ack(self, args: impl Arguments) -> Result<(), ClientError> {
        let Some(Pending { epoch, id }) = self.ack else {
            return Ok(());
        };
        let handle = self.socket.client().handle();
        let parser = handle.settings.options.parser;
        let frame = parser.ack(self.socket.namespace(), id, &args);
        let frame = frame.map_err(ClientError::encode)?;
        let charge = handle.budget.take(frame.len())?;
        self.socket.command(|_| Command::Answer {
            epoch,
            frame,
            charge,
        });
        Ok(())
    }

    /// A copy of the event for somebody else.
    pub(crate) fn with_ack(&self, ack: Option<Pending>) -> Self {
        Self {
            name: self.name.clone(),
            args: self.args.clone(),
            socket: self.socket.clone(),
            ack,
        }
    }

    /// Takes the acknowledgement away, for who is to give it.
    pub(crate) fn take_ack(&mut self) -> Option<Pending> {
        self.ack.take()
    }

    /// Roughly what the event takes while it waits, in bytes.
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

/// The answer that a handler is still working on.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A handler whose parameters nobody needs to know.
pub(crate) trait Erased: Send + Sync {
    fn call(&self, event: &Incoming, reply: Reply) -> Result<AnswerFuture, Refusal>;
}

/// The end of a stream that events are put into.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(super) events: mpsc::UnboundedSender<(Incoming, OwnedSemaphorePermit)>,
    /// One permit for each byte that may wait.
    pub(super) room: Arc<Semaphore>,
    pub(super) max: usize,
}

impl Sink {
    /// Puts an event in if there is room for it; else it is returned.
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

    /// Ready when there is room for the event, or nobody reads any more.
    pub(crate) async fn ready(&self, event: &Incoming) {
        // The permits are given back at once. Only the task that waits here takes any, so the room
        // stays for `try_send`.
        let _ = self.room.acquire_many(self.permits(event)).await;
    }

    fn permits(&self, event: &Incoming) -> u32 {
        // An event that is larger than the stream takes all of it, and comes when everything before
        // it was read.
        u32::try_from(event.weight().min(self.max)).unwrap_or(u32::MAX)
    }
}
