//! Sends to one socket.

use std::{pin::pin, time::Duration};

use roomcast_protocol::socket::{Argument, Arguments};
use tokio::time::{Instant, timeout_at};

use super::{
    ack::{AckFuture, PendingAck},
    emit::{Emitted, encode, mode, stream},
};
use crate::{
    adapter::{Delivery, Flags},
    socket::{
        core::Socket,
        rooms::Tally,
        types::{AckError, Contract, DrainError, Request},
    },
};

/// One socket, with send options.
///
/// Created by [`Socket::timeout`](crate::Socket::timeout),
/// [`Socket::volatile`](crate::Socket::volatile) and
/// [`Socket::without_compression`](crate::Socket::without_compression).
#[derive(Clone, Copy, Debug)]
#[must_use = "it only sends when something is emitted"]
pub struct Direct<'a> {
    socket: &'a Socket,
    flags: Flags,
}

impl<'a> Direct<'a> {
    pub(crate) fn new(socket: &'a Socket) -> Self {
        Self {
            socket,
            flags: Flags::default(),
        }
    }

    /// Makes the event volatile: it is dropped if it cannot be sent immediately; see
    /// [`Broadcast::volatile`](crate::Broadcast::volatile).
    pub fn volatile(mut self) -> Self {
        self.flags.delivery = Delivery::Volatile;
        self
    }

    /// Keeps only the newest event of this key in the queue of a slow client; see
    /// [`Broadcast::conflate`](crate::Broadcast::conflate).
    pub fn conflate(mut self, key: &str) -> Self {
        let number = stream(&self.socket.namespace_inner().name, &Delivery::Newest(key));
        self.flags.delivery = Delivery::Newest(number);
        self
    }

    /// Keeps only the last `keep` events of this stream in the queue of a slow client; see
    /// [`Broadcast::drop_oldest`](crate::Broadcast::drop_oldest).
    pub fn drop_oldest(mut self, name: &str, keep: u16) -> Self {
        let number = stream(
            &self.socket.namespace_inner().name,
            &Delivery::Last(name, keep),
        );
        self.flags.delivery = Delivery::Last(number, keep);
        self
    }

    /// Sends the event uncompressed: `compress(false)` of the official server.
    pub fn without_compression(mut self) -> Self {
        self.flags.compress = false;
        self
    }

    /// Sets the timeout of the acknowledgement or of [`drained`](Self::drained).
    ///
    /// Default is [`Config::ack_timeout`](crate::Config::ack_timeout) or
    /// [`Config::write_timeout`](crate::Config::write_timeout), respectively.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// Sends an event through the journal, in the journal's order. Returns `None` if it must be
    /// sent directly.
    fn publish(&self, event: &str, args: &dyn Arguments) -> Option<Emitted> {
        use crate::{
            adapter::{AdapterError, Kind, Publication},
            socket::types::{EmitError, Room, args},
        };
        let namespace = self.socket.namespace_inner();
        let joined = namespace.cluster.joined()?;
        // Lossy events are never replayed, so they are not published to the journal.
        if self.flags.delivery != Delivery::Reliable || !joined.journal()?.is_up() {
            return None;
        }
        let args = match args::arguments(namespace.config().sockets.parser, args) {
            Ok(args) => args,
            Err(error) => return Some(Emitted::failed(event, error)),
        };
        let kind = Kind::Broadcast {
            event: event.into(),
            args,
        };
        let publication = Publication {
            rooms: Some(vec![Room::from(self.socket.id().as_str())]),
            compress: self.flags.compress,
            ..Publication::new(namespace.name.clone(), kind)
        };
        match joined.publish(publication) {
            Ok(()) => Some(Emitted::default()),
            // Sent directly, the event would overtake events in the journal.
            Err(AdapterError::TooLarge) => Some(Emitted::failed(event, EmitError::TooLarge)),
            // If the adapter fails for another reason, the event is sent directly.
            Err(_) => None,
        }
    }

    /// Sends an event to the client. See [`Socket::emit`](crate::Socket::emit).
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        self.emit_erased(event, &args)
    }

    /// Sends an event. Compiled once, and not for each type of arguments.
    fn emit_erased(&self, event: &str, args: &dyn Arguments) -> Emitted {
        if let Some(emitted) = self.publish(event, args) {
            return emitted;
        }
        let namespace = self.socket.namespace_inner();
        match encode(self.flags, namespace, None, event, args) {
            Ok(frame) => {
                let push = self.socket.push(&frame, mode(self.flags.delivery));
                self.socket.notify_outgoing(push, event, args);
                let mut tally = Tally::default();
                tally.count(push);
                tally.into()
            }
            Err(error) => Emitted::failed(event, error),
        }
    }

    /// Sends a typed event to the client; see [`Contract`].
    pub fn send<T: Contract>(&self, event: T) -> Emitted {
        self.emit(T::EVENT, event)
    }

    /// Sends a typed event to the client and waits for its reply; see [`Request`].
    pub fn request<T: Request>(&self, event: T) -> AckFuture<T::Reply> {
        self.emit_with_ack(T::EVENT, event)
    }

    /// Sends an event to the client and waits for its acknowledgement.
    /// See [`Socket::emit_with_ack`](crate::Socket::emit_with_ack).
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit_with_ack<R: Argument>(&self, event: &str, args: impl Arguments) -> AckFuture<R> {
        AckFuture::new(self.request_ack(event, &args))
    }

    /// Waits until all data that is queued for the client is sent. See
    /// [`Socket::drained`](crate::Socket::drained).
    ///
    /// # Errors
    ///
    /// Fails if it times out or the client disconnects.
    pub async fn drained(&self) -> Result<(), DrainError> {
        let limit = self.socket.io().config().http.write_timeout;
        let deadline = Instant::now() + self.flags.timeout.unwrap_or(limit);
        let shared = self.socket.shared();
        let drained = shared.make_watchers().drained();
        loop {
            // The waiter is registered before the checks, because `notify_waiters` wakes only
            // existing waiters.
            let mut next = pin!(drained.notified());
            next.as_mut().enable();
            if !self.socket.is_connected() {
                return Err(DrainError::Disconnected);
            }
            if !shared.outbox().watch_drain() {
                return Ok(());
            }
            if timeout_at(deadline, next).await.is_err() {
                return Err(DrainError::Timeout);
            }
        }
    }

    fn request_ack(&self, event: &str, args: &dyn Arguments) -> Result<PendingAck, AckError> {
        let namespace = self.socket.namespace_inner();
        let id = namespace.next_ack_id();
        let frame = encode(self.flags, namespace, Some(id), event, args);
        let frame = frame.map_err(AckError::Encode)?;
        let timeout = self
            .flags
            .timeout
            .unwrap_or_else(|| self.socket.io().config().sockets.ack_timeout);
        // The slot is reserved before the event is sent, because the client may answer before this
        // task continues.
        let pending = PendingAck::new(self.socket, id, timeout)?;
        // A frame that is not sent has the same result as a missing answer.
        let push = self.socket.push(&frame, mode(self.flags.delivery));
        self.socket.notify_outgoing(push, event, args);
        Ok(pending)
    }
}

impl Socket {
    /// Sends an event to the client.
    ///
    /// `args` is any serializable value. A tuple is several arguments, `()` is none, `Bytes` at any
    /// depth are attachments, and [`Args`](crate::Args) are forwarded unchanged.
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        Direct::new(self).emit(event, args)
    }

    /// Sends an event to the client and waits for its acknowledgement.
    ///
    /// `R` is one value, a tuple for several, or [`Args`](crate::Args) for all arguments. The event
    /// is sent immediately. The future fails after
    /// [`Config::ack_timeout`](crate::Config::ack_timeout), or the [`timeout`](Self::timeout).
    pub fn emit_with_ack<R: Argument>(&self, event: &str, args: impl Arguments) -> AckFuture<R> {
        Direct::new(self).emit_with_ack(event, args)
    }

    /// Waits until all data that is queued for the client is sent.
    ///
    /// On a WebSocket, the data is passed to the kernel; otherwise, polls have fetched it. Use this
    /// as back-pressure to send more than [`Config::outbox_bytes`](crate::Config::outbox_bytes), at
    /// which `emit` disconnects the client. Waits at most
    /// [`Config::write_timeout`](crate::Config::write_timeout), or the [`timeout`](Self::timeout).
    /// Returns immediately if no data is queued.
    ///
    /// ```
    /// use roomcast::{Event, Io, errors::DrainError};
    ///
    /// async fn history(event: Event) -> Result<(), DrainError> {
    ///     for first in (0..20_000).step_by(500) {
    ///         for line in first..first + 500 {
    ///             event.socket.emit("line", line);
    ///         }
    ///         event.socket.drained().await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let io = Io::builder().namespace("/", |namespace| namespace.on("history", history));
    /// # io.build().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if it times out, which has no other effect, or if the client disconnects.
    pub async fn drained(&self) -> Result<(), DrainError> {
        Direct::new(self).drained().await
    }

    /// Sets the acknowledgement timeout of the next event.
    pub fn timeout(&self, timeout: Duration) -> Direct<'_> {
        Direct::new(self).timeout(timeout)
    }

    /// Makes the next event volatile; see [`Direct::volatile`].
    pub fn volatile(&self) -> Direct<'_> {
        Direct::new(self).volatile()
    }

    /// Conflates the next event by this key; see [`Broadcast::conflate`].
    ///
    /// [`Broadcast::conflate`]: crate::Broadcast::conflate
    pub fn conflate(&self, key: &str) -> Direct<'_> {
        Direct::new(self).conflate(key)
    }

    /// Limits the queued events of this stream; see [`Broadcast::drop_oldest`].
    ///
    /// [`Broadcast::drop_oldest`]: crate::Broadcast::drop_oldest
    pub fn drop_oldest(&self, stream: &str, keep: u16) -> Direct<'_> {
        Direct::new(self).drop_oldest(stream, keep)
    }

    /// Sends the next event uncompressed; see [`Direct::without_compression`].
    pub fn without_compression(&self) -> Direct<'_> {
        Direct::new(self).without_compression()
    }

    /// Sends a typed event to the client; see [`Contract`].
    pub fn send(&self, event: impl Contract) -> Emitted {
        Direct::new(self).send(event)
    }

    /// Sends a typed event to the client and waits for its reply; see [`Request`].
    pub fn request<T: Request>(&self, event: T) -> AckFuture<T::Reply> {
        Direct::new(self).request(event)
    }
}
