//! Sending to many sockets of one namespace.

use std::{sync::Arc, time::Duration};

use roomcast_protocol::{
    Frame,
    socket::{Argument, Arguments},
};

use super::{
    acks::{Acks, Question},
    emit::{Emitted, Flags},
};
use crate::{
    engine::Mode,
    socket::{
        core::{Socket, namespace},
        rooms::{Except, Target},
        words::{Contract, IdSet, IntoRooms, RoomName, SocketId, args},
    },
};

/// Many sockets of one namespace, and how to send to them.
///
/// Made by [`Io::to`](crate::Io::to), [`Namespace::to`](crate::Namespace::to),
/// [`Socket::to`](crate::Socket::to) and their like. Every method narrows or widens it and hands it
/// on; the last one uses it:
///
/// ```no_run
/// # fn example(io: roomcast::Io) {
/// io.of("/admin").to("ops").to("on-call").except("muted").emit("alert", "disk is full");
/// # }
/// ```
///
/// Named rooms are a union in which every socket counts once. Without a named room it is the whole
/// namespace.
#[derive(Clone, Debug)]
#[must_use = "it only sends when something is emitted"]
pub struct Broadcast<'a> {
    pub(in crate::socket) namespace: Option<Arc<namespace::Inner>>,
    sender: Option<&'a Socket>,
    pub(in crate::socket) to: Target<'a>,
    except: Vec<RoomName<'a>>,
    flags: Flags,
}

impl<'a> Broadcast<'a> {
    #[inline]
    pub(crate) fn new(namespace: Option<Arc<namespace::Inner>>) -> Self {
        Self {
            namespace,
            sender: None,
            to: Target::All,
            except: Vec::new(),
            flags: Flags::default(),
        }
    }

    #[inline]
    pub(crate) fn from_sender(sender: &'a Socket) -> Self {
        Self {
            sender: Some(sender),
            ..Self::new(Some(Arc::clone(sender.namespace_inner())))
        }
    }

    /// Adds rooms.
    pub fn to<M>(mut self, rooms: impl IntoRooms<'a, M>) -> Self {
        let mut to = match self.to {
            Target::All => None,
            named @ (Target::One(_) | Target::Many(_)) => Some(named),
        };
        rooms.each(|room| to = Some(to.take().unwrap_or(Target::All).add(room)));
        self.to = to.unwrap_or(Target::Many(Vec::new()));
        self
    }

    /// Adds rooms, as [`to`](Self::to) does.
    pub fn in_<M>(self, rooms: impl IntoRooms<'a, M>) -> Self {
        self.to(rooms)
    }

    /// Takes out whoever is in one of these rooms.
    pub fn except<M>(mut self, rooms: impl IntoRooms<'a, M>) -> Self {
        rooms.each(|room| self.except.push(room));
        self
    }

    /// Lets the event be lost to a client to which it cannot go at once: something that was sent
    /// before has not left yet, or it is between two polls.
    pub fn volatile(mut self) -> Self {
        self.flags.mode = Mode::Volatile;
        self
    }

    /// Lets only the newest event of this key wait for a client that is too slow, or for its next
    /// poll: one that is waiting gives way to it. For what replaces itself, such as a price or a
    /// position.
    ///
    /// What waits so leaves behind everything else that waits. There are at most 256 such events for
    /// one client, [`drop_oldest`](Self::drop_oldest) included, within
    /// [`Config::outbox_bytes`](crate::Config::outbox_bytes); past that, those of further keys are
    /// dropped. No client is closed for want of room for them, and
    /// [recovery](crate::Builder::recovery) does not send them again.
    pub fn conflate(mut self, key: &str) -> Self {
        self.flags.conflate(self.namespace.as_deref(), key);
        self
    }

    /// Lets only the last `keep` events of this stream wait for a client that is too slow, or for
    /// its next poll: the oldest goes. For what is worth less the older it is, such as trades or lines of
    /// a log. 0 counts as 1.
    ///
    /// The rest is as with [`conflate`](Self::conflate); where there is no room the stream gives up
    /// more of its own, and then the event itself.
    pub fn drop_oldest(mut self, stream: &str, keep: u16) -> Self {
        let namespace = self.namespace.as_deref();
        self.flags.drop_oldest(namespace, stream, keep);
        self
    }

    /// Says whether the event may be compressed. Default `true`.
    pub fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// Keeps the event on this node, which is the only one as long as there is no cluster.
    pub fn local(self) -> Self {
        self
    }

    /// Says how long acknowledgements may take. Default
    /// [`Config::ack_timeout`](crate::Config::ack_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// Sends an event to all of them.
    ///
    /// `args` is anything that can be serialised; a tuple is several arguments, `()` is none. It is
    /// encoded once. All members of one room get what is sent to it in one order.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        let Some(namespace) = &self.namespace else {
            return Emitted::default();
        };
        match self.flags.encode(namespace, None, event, &args) {
            Ok(frame) => {
                let except = self.excepted(namespace);
                let mode = self.flags.mode;
                if namespace.has_curious() {
                    let mut reached = Vec::new();
                    let each = |id| reached.push(id);
                    let tally = namespace.broadcast(&self.to, &frame, mode, &except, each);
                    tell_curious(namespace, &reached, event, &args, &frame);
                    return tally.into();
                }
                namespace
                    .broadcast(&self.to, &frame, mode, &except, |_| ())
                    .into()
            }
            Err(error) => Emitted::failed(event, error),
        }
    }

    /// Sends a typed event to all of them; see [`Contract`].
    pub fn send<T: Contract>(&self, event: T) -> Emitted {
        self.emit(T::EVENT, event)
    }

    /// Sends an event to all of them and asks each for an acknowledgement of type `R`: one value,
    /// or [`Args`](crate::Args) for all that a client answers with.
    pub async fn emit_with_acks<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        self.ask(event, args)
    }

    /// Asks as [`emit_with_acks`](Self::emit_with_acks) does, without waiting for anything, so that it can be
    /// called where nothing may wait; it asks the sockets of this server only.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn ask<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        let Some(namespace) = &self.namespace else {
            return Acks::failed(None);
        };
        let config = namespace.config();
        let timeout = self.flags.timeout.unwrap_or(config.sockets.ack_timeout);
        let id = namespace.next_ack_id();
        let frame = match self.flags.encode(namespace, Some(id), event, &args) {
            Ok(frame) => frame,
            Err(error) => return Acks::failed(Emitted::failed(event, error).ok().err()),
        };
        match Question::open(namespace, id, timeout, config.sockets.max_pending_acks) {
            Ok(question) => {
                let except = self.excepted(namespace);
                let mut recipients = question.collect();
                let mut reached = Vec::new();
                let is_curious = namespace.has_curious();
                let each = |id| {
                    recipients.add(id);
                    if is_curious {
                        reached.push(id);
                    }
                };
                let _ = namespace.broadcast(&self.to, &frame, self.flags.mode, &except, each);
                let expected = recipients.len();
                drop(recipients);
                tell_curious(namespace, &reached, event, &args, &frame);
                Acks::asked(question, expected)
            }
            Err(error) => Acks::failed(Some(error)),
        }
    }

    /// How many sockets these are.
    #[must_use]
    pub fn count(&self) -> usize {
        match (&self.namespace, &self.to) {
            (None, _) => 0,
            (Some(namespace), Target::All) if self.except.is_empty() && self.sender.is_none() => {
                namespace.len()
            }
            (Some(namespace), _) => self.ids(namespace).len(),
        }
    }

    /// The sockets themselves.
    pub async fn sockets(&self) -> Vec<Socket> {
        self.local_sockets()
    }

    pub(crate) fn local_sockets(&self) -> Vec<Socket> {
        let Some(namespace) = &self.namespace else {
            return Vec::new();
        };
        let ids = self.ids(namespace);
        namespace.sockets_of(&ids)
    }

    fn ids(&self, namespace: &namespace::Inner) -> IdSet {
        let mut ids = namespace.ids(&self.to);
        if self.sender.is_some() || !self.except.is_empty() {
            let except = self.excepted(namespace);
            ids.retain(|id| !except.has(*id));
        }
        ids
    }

    #[inline]
    pub(crate) fn excepted(&self, namespace: &namespace::Inner) -> Except {
        let others = (!self.except.is_empty()).then(|| {
            let mut ids = IdSet::default();
            for room in &self.except {
                namespace.collect_with_away(room, &mut ids);
            }
            ids
        });
        Except {
            sender: self.sender.map(Socket::id),
            others,
        }
    }
}

/// Tells those who want to know that something was sent to them.
fn tell_curious(
    namespace: &namespace::Inner,
    reached: &[SocketId],
    event: &str,
    args: &impl Arguments,
    frame: &Frame,
) {
    if reached.is_empty() {
        return;
    }
    let curious = namespace.curious_of(reached);
    if curious.is_empty() {
        return;
    }
    if let Ok(args) = args::arguments(namespace.config().sockets.parser, args) {
        for socket in &curious {
            socket.tell_broadcast(event, &args, frame);
        }
    }
}

impl Socket {
    /// Everybody in the namespace but this socket.
    pub fn broadcast(&self) -> Broadcast<'_> {
        Broadcast::from_sender(self)
    }

    /// The members of rooms but this socket.
    pub fn to<'a, M>(&'a self, rooms: impl IntoRooms<'a, M>) -> Broadcast<'a> {
        self.broadcast().to(rooms)
    }

    /// Everybody in the namespace but this socket and the members of rooms.
    pub fn except<'a, M>(&'a self, rooms: impl IntoRooms<'a, M>) -> Broadcast<'a> {
        self.broadcast().except(rooms)
    }
}
