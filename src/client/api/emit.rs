use std::time::Duration;

use roomcast_protocol::socket::{Args, Argument, Arguments, EncodeError, RESERVED_EVENTS};
use tokio::sync::oneshot;

use super::{Command, Socket, command::Outgoing};
use crate::{
    Contract, Request,
    client::{ClientError, answer},
    socket::arguments,
};

/// An event that is about to be sent, and how; from [`Socket::timeout`] and [`Socket::volatile`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is sent before `emit`"]
pub struct Emit<'a> {
    socket: &'a Socket,
    timeout: Option<Duration>,
    is_volatile: bool,
}

impl Socket {
    /// Sends an event: a tuple is several arguments, `()` is none.
    ///
    /// # Errors
    /// If the arguments cannot be encoded, the name is one of the socket's own, or too much waits already
    /// ([`ClientError::Full`]).
    pub fn emit(&self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        Emit::new(self).emit(event, args)
    }

    /// Sends an event and waits for its acknowledgement: one value (a [`Vec`] is one list), a
    /// tuple for several, or [`Args`](crate::Args) for all of them. How long it may take is the builder's
    /// [`ack_timeout`](super::super::ClientBuilder::ack_timeout), 20 s unless set, waiting for a connection included.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), [`ClientError::Timeout`] if nothing comes in time,
    /// [`ClientError::Disconnected`] with the reason if the connection ended after it was sent,
    /// [`ClientError::Refused`] if the server's handler refused it in the way of this library, and
    /// [`ClientError::Answer`] if the answer is no `T`.
    pub async fn emit_with_ack<T: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<T, ClientError> {
        Emit::new(self).emit_with_ack(event, args).await
    }

    /// Sends a typed event; see [`Contract`].
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn send<T: Contract>(&self, event: T) -> Result<(), ClientError> {
        self.emit(T::EVENT, event)
    }

    /// Sends a typed event and waits for its reply; see [`Request`].
    ///
    /// # Errors
    /// As [`emit_with_ack`](Self::emit_with_ack).
    pub async fn request<T: Request>(&self, event: T) -> Result<T::Reply, ClientError> {
        self.emit_with_ack(T::EVENT, event).await
    }

    /// Sets how long the acknowledgement of the event that follows may take.
    pub fn timeout(&self, timeout: Duration) -> Emit<'_> {
        Emit::new(self).timeout(timeout)
    }

    /// Lets the event that follows be lost: it is sent only if the socket is connected and nothing
    /// waits to be written.
    pub fn volatile(&self) -> Emit<'_> {
        Emit::new(self).volatile()
    }
}

impl<'a> Emit<'a> {
    pub(super) fn new(socket: &'a Socket) -> Self {
        Self {
            socket,
            timeout: None,
            is_volatile: false,
        }
    }

    /// Sets how long the acknowledgement may take. With
    /// [`retries`](super::super::ClientBuilder::retries), that of each attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets the event be lost: it is sent only if the socket is connected and nothing waits to be
    /// written, and it is not sent again.
    pub fn volatile(mut self) -> Self {
        self.is_volatile = true;
        self
    }

    /// Sends a typed event; see [`Contract`].
    ///
    /// # Errors
    /// As [`Socket::emit`].
    pub fn send<T: Contract>(self, event: T) -> Result<(), ClientError> {
        self.emit(T::EVENT, event)
    }

    /// Sends a typed event and waits for its reply; see [`Request`].
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub async fn request<T: Request>(self, event: T) -> Result<T::Reply, ClientError> {
        self.emit_with_ack(T::EVENT, event).await
    }

    /// Sends an event.
    ///
    /// # Errors
    /// As [`Socket::emit`].
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn emit(self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        self.enqueue(event, &args, None)
    }

    /// Sends an event and waits for its acknowledgement. One that was volatile and is lost is known by
    /// the time that its acknowledgement takes.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub async fn emit_with_ack<T: Argument>(
        self,
        event: &str,
        args: impl Arguments,
    ) -> Result<T, ClientError> {
        let (sender, answer) = oneshot::channel();
        self.enqueue(event, &args, Some(sender))?;
        // The arguments are encoded by now, and need not wait for the answer.
        drop(args);
        // A cancellation point: whoever drops this future gives up the answer, and the event is
        // sent all the same.
        let answer = answer.await.unwrap_or(Err(ClientError::GONE))?;
        T::take_all(&answer)
            .map_err(|error| answer::refused(&answer).unwrap_or(ClientError::Answer(error)))
    }

    fn enqueue(
        self,
        event: &str,
        args: &impl Arguments,
        ack: Option<oneshot::Sender<Result<Args, ClientError>>>,
    ) -> Result<(), ClientError> {
        if RESERVED_EVENTS.contains(&event) {
            return Err(ClientError::Encode(EncodeError::ReservedEvent));
        }
        let handle = self.socket.client().handle();
        let parser = handle.settings.options.parser;
        let args = arguments(parser, args).map_err(ClientError::encode)?;
        let outgoing = Outgoing {
            name: event.into(),
            charge: Some(
                handle
                    .budget
                    .take(event.len().saturating_add(args.size()))?,
            ),
            args,
            ack,
            timeout: self.timeout.unwrap_or(handle.settings.ack_timeout),
            is_volatile: self.is_volatile,
        };
        if self
            .socket
            .command(|shared| Command::Emit(shared, outgoing))
        {
            Ok(())
        } else {
            Err(ClientError::GONE)
        }
    }
}
