use std::time::Duration;

use roomcast_protocol::socket::{Args, Argument, Arguments, EncodeError, RESERVED_EVENTS};
use tokio::sync::oneshot;

use super::{Command, Socket, command::Outgoing};
use crate::{
    Contract, Request,
    client::{ClientError, answer},
    socket::arguments,
};

/// An event to send, with its options. Created by [`Socket::timeout`] and [`Socket::volatile`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is sent before `emit`"]
pub struct Emit<'a> {
    socket: &'a Socket,
    timeout: Option<Duration>,
    is_volatile: bool,
}

impl Socket {
    /// Sends an event. A tuple is several arguments, `()` is none.
    ///
    /// # Errors
    /// Fails if the arguments cannot be encoded or the event name is reserved. Returns
    /// [`ClientError::Full`] if the send queue is full.
    pub fn emit(&self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        Emit::new(self).emit(event, args)
    }

    /// Sends an event and waits for its acknowledgement.
    ///
    /// `T` is one value (a [`Vec`] is one list), a tuple for several values, or
    /// [`Args`](crate::Args) for all of them. The timeout is the builder's
    /// [`ack_timeout`](super::super::ClientBuilder::ack_timeout), 20 s by default. It includes the
    /// time until the socket is connected.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), and:
    ///
    /// - [`ClientError::Timeout`] if no acknowledgement arrives in time.
    /// - [`ClientError::Disconnected`] with the reason if the connection ends after the event is
    ///   sent.
    /// - [`ClientError::Refused`] if the server's handler rejects the event in this library's
    ///   format.
    /// - [`ClientError::Answer`] if the acknowledgement is not a `T`.
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

    /// Sets the acknowledgement timeout of the next event.
    pub fn timeout(&self, timeout: Duration) -> Emit<'_> {
        Emit::new(self).timeout(timeout)
    }

    /// Makes the next event volatile: it is sent only if the socket is connected and no data waits
    /// to be written.
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

    /// Sets the acknowledgement timeout. With [`retries`](super::super::ClientBuilder::retries),
    /// the timeout applies to each attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the event volatile: it is sent only if the socket is connected and no data waits to be
    /// written. It is never sent again.
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
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit(self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        self.enqueue(event, &args, None)
    }

    /// Sends an event and waits for its acknowledgement. If a volatile event is dropped, the call
    /// fails with a timeout.
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
        // The arguments are encoded, so they need not live until the acknowledgement arrives.
        drop(args);
        // A cancellation point: dropping this future discards the acknowledgement, but the event is
        // still sent.
        let answer = answer.await.unwrap_or(Err(ClientError::DRIVER_ENDED))?;
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
        let parser = handle.settings.target.options.parser;
        let args = arguments(parser, args).map_err(ClientError::Encode)?;
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
            Err(ClientError::DRIVER_ENDED)
        }
    }
}
