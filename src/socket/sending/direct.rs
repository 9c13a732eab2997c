//! Sending to one socket.

use std::{pin::pin, time::Duration};

use roomcast_protocol::socket::{Argument, Arguments};
use tokio::time::{Instant, timeout_at};

use super::{
    ack::{AckFuture, Asked},
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

/// One socket, and how to send to it.
///
/// Made by [`Socket::timeout`](crate::Socket::timeout),
/// [`Socket::volatile`](crate::Socket::volatile) and [`Socket::compress`](crate::Socket::compress).
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

    /// Lets the event be lost if it cannot leave at once; see [`Broadcast::volatile`](crate::Broadcast::volatile).
    pub fn volatile(mut self) -> Self {
        self.flags.delivery = Delivery::Volatile;
        self
    }

    /// Lets only the newest event of this key wait if the client is too slow; see
    /// [`Broadcast::conflate`](crate::Broadcast::conflate).
    pub fn conflate(mut self, key: &str) -> Self {
        let number = stream(&self.socket.namespace_inner().name, &Delivery::Newest(key));
        self.flags.delivery = Delivery::Newest(number);
        self
    }

    /// Lets only the last `keep` events of this stream wait if the client is too slow; see
    /// [`Broadcast::drop_oldest`](crate::Broadcast::drop_oldest).
    pub fn drop_oldest(mut self, name: &str, keep: u16) -> Self {
        let number = stream(
            &self.socket.namespace_inner().name,
            &Delivery::Last(name, keep),
        );
        self.flags.delivery = Delivery::Last(number, keep);
        self
    }

    /// Says whether the event may be compressed. Default `true`.
    pub fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// Says how long the acknowledgement may take, or [`drained`](Self::drained). Default
    /// [`Config::ack_timeout`](crate::Config::ack_timeout), and
    /// [`Config::write_timeout`](crate::Config::write_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// Sends an event through the journal, in the order of what comes from there; `None` if it goes there by itself.
    #[cfg(feature = "cluster")]
    fn publish(&self, event: &str, args: &impl Arguments) -> Option<Emitted> {
        use crate::{
            adapter::{AdapterError, Kind, Publication},
            socket::types::{EmitError, Room, args},
        };
        let namespace = self.socket.namespace_inner();
        let joined = namespace.cluster.joined()?;
        // What may be lost is never sent again, so that it needs no place in the journal.
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
            // Sent directly it would overtake what is on its way through the journal.
            Err(AdapterError::TooLarge) => Some(Emitted::failed(event, EmitError::TooLarge)),
            // What the adapter refuses for another reason is sent to the client directly.
            Err(_) => None,
        }
    }

    /// Sends an event to the client. See [`Socket::emit`](crate::Socket::emit).
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        #[cfg(feature = "cluster")]
        if let Some(emitted) = self.publish(event, &args) {
            return emitted;
        }
        let namespace = self.socket.namespace_inner();
        match encode(self.flags, namespace, None, event, &args) {
            Ok(frame) => {
                let push = self.socket.push(&frame, mode(self.flags.delivery));
                self.socket.tell_outgoing(push, event, &args);
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
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn emit_with_ack<R: Argument>(&self, event: &str, args: impl Arguments) -> AckFuture<R> {
        AckFuture::new(self.ask(event, &args))
    }

    /// Waits until everything that is queued for the client has left. See
    /// [`Socket::drained`](crate::Socket::drained).
    ///
    /// # Errors
    ///
    /// When it takes too long, or the client goes away.
    pub async fn drained(&self) -> Result<(), DrainError> {
        let limit = self.socket.io().config().http.write_timeout;
        let deadline = Instant::now() + self.flags.timeout.unwrap_or(limit);
        let shared = self.socket.shared();
        let drained = shared.make_watchers().drained();
        loop {
            // The waiter is registered before anything is looked at, because `notify_waiters` wakes only those who wait already.
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

    fn ask(&self, event: &str, args: &impl Arguments) -> Result<Asked, AckError> {
        let namespace = self.socket.namespace_inner();
        let id = namespace.next_ack_id();
        let frame = encode(self.flags, namespace, Some(id), event, args);
        let frame = frame.map_err(AckError::Encode)?;
        let timeout = self
            .flags
            .timeout
            .unwrap_or_else(|| self.socket.io().config().sockets.ack_timeout);
        // The place is taken before the event leaves, since the client may be faster than this task.
        let asked = Asked::new(self.socket, id, timeout)?;
        // A frame that does not leave is as good as one that is not answered.
        let push = self.socket.push(&frame, mode(self.flags.delivery));
        self.socket.tell_outgoing(push, event, args);
        Ok(asked)
    }
}

impl Socket {
    /// Sends an event to the client.
    ///
    /// `args` is anything that can be serialised: a tuple is several arguments, `()` is none,
    /// `Bytes` at any depth are attachments, [`Args`](crate::Args) are passed on untouched.
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        Direct::new(self).emit(event, args)
    }

    /// Sends an event to the client and waits for its acknowledgement: one value of type `R`, a
    /// tuple for several, or [`Args`](crate::Args) for all that it answers with.
    ///
    /// The event is sent at once; the future fails after
    /// [`Config::ack_timeout`](crate::Config::ack_timeout), or what [`timeout`](Self::timeout) says.
    pub fn emit_with_ack<R: Argument>(&self, event: &str, args: impl Arguments) -> AckFuture<R> {
        Direct::new(self).emit_with_ack(event, args)
    }

    /// Waits until everything that is queued for the client has left: handed to the kernel on a
    /// WebSocket, taken by polls otherwise. It is back-pressure for who has more to send than
    /// [`Config::outbox_bytes`](crate::Config::outbox_bytes), which `emit` would cut the client for.
    /// It takes at most [`Config::write_timeout`](crate::Config::write_timeout), or what
    /// [`timeout`](Self::timeout) says, and no time if nothing is queued.
    ///
    /// ```
    /// use roomcast::{DrainError, Event, Io};
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
    /// let mut io = Io::builder();
    /// io.namespace("/").on("history", history);
    /// # io.build().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// When it takes too long, which changes nothing, or the client goes away.
    pub async fn drained(&self) -> Result<(), DrainError> {
        Direct::new(self).drained().await
    }

    /// This socket, which must acknowledge in this time.
    pub fn timeout(&self, timeout: Duration) -> Direct<'_> {
        Direct::new(self).timeout(timeout)
    }

    /// This socket, for an event that may be lost; see [`Direct::volatile`].
    pub fn volatile(&self) -> Direct<'_> {
        Direct::new(self).volatile()
    }

    /// This socket, for an event of which the newest is enough; see [`Broadcast::conflate`].
    ///
    /// [`Broadcast::conflate`]: crate::Broadcast::conflate
    pub fn conflate(&self, key: &str) -> Direct<'_> {
        Direct::new(self).conflate(key)
    }

    /// This socket, for an event of which the last ones are enough; see [`Broadcast::drop_oldest`].
    ///
    /// [`Broadcast::drop_oldest`]: crate::Broadcast::drop_oldest
    pub fn drop_oldest(&self, stream: &str, keep: u16) -> Direct<'_> {
        Direct::new(self).drop_oldest(stream, keep)
    }

    /// This socket, with this compression flag; see [`Direct::compress`].
    pub fn compress(&self, compress: bool) -> Direct<'_> {
        Direct::new(self).compress(compress)
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
