//! Choosing sockets of one namespace, sending to them and acting on them.

use std::time::Duration;

use roomcast_protocol::socket::{Argument, Arguments};

use super::remote::Fetched;
use crate::{
    adapter::{AdapterError, Audience, Delivery, Flags, Kind, Operation, Target},
    socket::{
        apply::{
            Applied, Outcome, RemoteOutcome, TargetNamespace, Unpublished, apply, apply_paced,
            count,
        },
        core::Socket,
        sending::{Acks, Emitted, stream},
        types::{Contract, EmitError, IntoRooms, Request, Room, RoomName},
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
    target_namespace: TargetNamespace,
    sender: Option<&'a Socket>,
    to: Audience<'a>,
    except: Vec<RoomName<'a>>,
    local: bool,
    flags: Flags,
    /// The name of the stream of `flags`; kept only if other servers have to know it.
    stream: Option<Box<str>>,
    /// The time in which the key is sent once at most.
    interval: Option<Duration>,
}

impl<'a> Broadcast<'a> {
    #[inline]
    pub(in crate::socket::api) fn new(target_namespace: TargetNamespace) -> Self {
        Self {
            target_namespace,
            sender: None,
            to: Audience::All,
            except: Vec::new(),
            local: false,
            flags: Flags::default(),
            stream: None,
            interval: None,
        }
    }

    #[inline]
    fn from_sender(sender: &'a Socket) -> Self {
        Self {
            sender: Some(sender),
            ..Self::new(TargetNamespace::Local(sender.namespace_inner().clone()))
        }
    }

    /// Adds rooms.
    pub fn to<M>(mut self, rooms: impl IntoRooms<'a, M>) -> Self {
        let mut to = match self.to {
            Audience::All => None,
            named @ (Audience::One(_) | Audience::Many(_)) => Some(named),
        };
        rooms.each(|room| to = Some(to.take().unwrap_or(Audience::All).add(room)));
        // A list of rooms that happens to be empty must reach nobody, and not everybody.
        self.to = to.unwrap_or(Audience::Many(Vec::new()));
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
        self.flags.delivery = Delivery::Volatile;
        self.interval = None;
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
        self.lossy(Delivery::Newest(key));
        self
    }

    /// As [`conflate`](Self::conflate), and sends the events of this key to these targets at most once in `interval`: the
    /// first one at once, and of those that follow within it the newest, when it is over. For what changes
    /// more often than anybody can look at it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn example(io: roomcast::Io, price: f64) {
    /// let quotes = io.to("ticker").conflate_every("ACME", Duration::from_millis(100));
    /// quotes.emit("quote", ("ACME", price));
    /// # }
    /// ```
    ///
    /// The last event always goes out, at the latest an eighth of the interval late, since keys that were sent at about the same
    /// time are sent together; or when the server [closes](crate::Io::close). What is folded away is sent nowhere,
    /// neither to clients nor to other servers of a cluster; each server has intervals of its own. Targets are the same if the
    /// same rooms are named in the same order. The interval is that of the event that was sent last; it is a day
    /// at most, and with zero it is as `conflate`.
    ///
    /// One event waits for each key and target, of which there can be 65,536 in their intervals; events of further ones are sent at
    /// once. Questions
    /// ([`emit_with_acks`](Self::emit_with_acks)) do not wait.
    pub fn conflate_every(mut self, key: &str, interval: Duration) -> Self {
        self.lossy(Delivery::Newest(key));
        self.interval = Some(interval).filter(|interval| !interval.is_zero());
        self
    }

    /// Lets only the last `keep` events of this stream wait for a client that is too slow, or for
    /// its next poll: the oldest goes. For what is worth less the older it is, such as trades or lines of
    /// a log. 0 counts as 1.
    ///
    /// The rest is as with [`conflate`](Self::conflate); where there is no room the stream gives up
    /// more of its own, and then the event itself.
    pub fn drop_oldest(mut self, stream: &str, keep: u16) -> Self {
        self.lossy(Delivery::Last(stream, keep.max(1)));
        self
    }

    fn lossy(&mut self, delivery: Delivery<&str>) {
        let number = stream(self.target_namespace.name(), &delivery);
        let is_shared = self.target_namespace.cluster().is_joined();
        let (numbered, name) = match delivery {
            Delivery::Newest(key) => (Delivery::Newest(number), key),
            Delivery::Last(name, keep) => (Delivery::Last(number, keep), name),
            Delivery::Reliable | Delivery::Volatile => return,
        };
        self.flags.delivery = numbered;
        self.stream = is_shared.then(|| name.into());
        self.interval = None;
    }

    /// Says whether the event may be compressed. Default `true`.
    pub fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// Keeps what is done on this server, if it is one of a cluster.
    pub fn local(mut self) -> Self {
        self.local = true;
        self
    }

    /// Says how long acknowledgements may take. Default
    /// [`Config::ack_timeout`](crate::Config::ack_timeout). For what other servers are asked beside
    /// that, default `Adapter::request_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    #[inline]
    fn operation<'o, A>(&'o self, kind: Kind<&'o str, &'o A, &'o [Room]>) -> Operation<'o, A> {
        let target = self.target();
        Operation { target, kind }
    }

    #[inline]
    fn target(&self) -> Target<'_> {
        Target {
            namespace: self.target_namespace.name(),
            rooms: &self.to,
            except: &self.except,
            sender: self.sender.map(Socket::id),
            local: self.local,
            flags: self.flags,
            stream: self.stream.as_deref(),
        }
    }

    /// Sends an event to all of them.
    ///
    /// `args` is anything that can be serialised; a tuple is several arguments, `()` is none. It is
    /// encoded once. All members of one room get what is sent to it in one order; in a cluster that
    /// holds on each server, for the events of each server that sends.
    ///
    /// What is returned is about the sockets of this server; it is empty for an event that
    /// [waits](Self::conflate_every). One that is larger than the adapter carries is sent to nobody, on no server, and
    /// [`Emitted::error`] says so; what the adapter does not take for another reason reaches the sockets of this server.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        let args = &args;
        let operation = self.operation(Kind::Broadcast { event, args });
        let applied = match self.interval {
            None => apply(&self.target_namespace, &operation),
            Some(interval) => apply_paced(&self.target_namespace, &operation, interval),
        };
        match (applied.local, applied.remote) {
            (Outcome::Emitted(emitted), _) => emitted,
            // The namespace is not on this server, or the event goes through a journal, so that only publishing has found
            // what is wrong with the event.
            (_, RemoteOutcome::Failed(Unpublished::Encode(error))) => Emitted::failed(event, error),
            (_, remote) => match remote.refusal() {
                Some(error) => Emitted::failed(event, error),
                None => Emitted::default(),
            },
        }
    }

    /// Sends a typed event to all of them; see [`Contract`].
    pub fn send<T: Contract>(&self, event: T) -> Emitted {
        self.emit(T::EVENT, event)
    }

    /// Sends a typed event to all of them and asks each for its reply; see [`Request`] and
    /// [`emit_with_acks`](Self::emit_with_acks).
    pub async fn request<T: Request>(&self, event: T) -> Acks<T::Reply> {
        self.emit_with_acks(T::EVENT, event).await
    }

    /// Sends an event to all of them and asks each for an acknowledgement of type `R`: one value,
    /// or [`Args`](crate::Args) for all that a client answers with.
    ///
    /// In a cluster the answers of other servers' clients are among them; [`Acks::missing`] says which
    /// servers have told nothing.
    pub async fn emit_with_acks<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        self.question(self.local, event, &args)
    }

    /// Asks as [`emit_with_acks`](Self::emit_with_acks) does, without waiting for anything, so that it can be
    /// called where nothing may wait; it asks the sockets of this server only.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn ask<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        self.question(true, event, &args)
    }

    fn question<R: Argument>(&self, local: bool, event: &str, args: &impl Arguments) -> Acks<R> {
        let mut operation = self.operation(Kind::BroadcastWithAck { event, args });
        operation.target.local = local;
        // The timeout is the same for all servers.
        let timeout = &mut operation.target.flags.timeout;
        *timeout = timeout.or(Some(self.target_namespace.config().sockets.ack_timeout));
        let Applied { local, remote } = apply(&self.target_namespace, &operation);
        let local = match local {
            Outcome::Asked(Ok(asked)) => Some(asked),
            Outcome::Asked(Err(error)) => return Acks::failed(error),
            Outcome::Nothing | Outcome::Emitted(_) | Outcome::Sockets(_) => None,
        };
        match remote {
            RemoteOutcome::None | RemoteOutcome::Published => Acks::asked(local, None),
            #[cfg(feature = "cluster")]
            RemoteOutcome::Requested(request) => Acks::asked(local, Some(request)),
            RemoteOutcome::Failed(Unpublished::Encode(error)) if local.is_none() => {
                Acks::failed(EmitError::Encode(error))
            }
            RemoteOutcome::Failed(Unpublished::Adapter(AdapterError::TooLarge))
                if local.is_none() =>
            {
                Acks::failed(EmitError::TooLarge)
            }
            RemoteOutcome::Failed(why) => Acks::asked(local, None).without(why.missing()),
        }
    }

    /// How many sockets these are on this server.
    #[must_use]
    pub fn count(&self) -> usize {
        let local = self.target_namespace.local();
        local.map_or(0, |namespace| count(namespace, &self.target()))
    }

    /// The sockets themselves, those of this server; [`fetch_sockets`](Self::fetch_sockets) tells of
    /// all.
    pub async fn sockets(&self) -> Vec<Socket> {
        let mut operation = self.operation::<()>(Kind::FetchSockets);
        operation.target.local = true;
        match apply(&self.target_namespace, &operation).local {
            Outcome::Sockets(sockets) => sockets,
            Outcome::Nothing | Outcome::Emitted(_) | Outcome::Asked(_) => Vec::new(),
        }
    }

    /// What is known of all of them, on all servers of the cluster, and which servers have not
    /// answered within [`timeout`](Self::timeout). Those of this server come first.
    pub async fn fetch_sockets(&self) -> Fetched {
        let applied = apply(
            &self.target_namespace,
            &self.operation::<()>(Kind::FetchSockets),
        );
        Fetched::collect(&self.target_namespace, applied).await
    }

    /// Lets all of them join rooms. One that may not, for it is in too many, is left out.
    pub fn join<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        let rooms = owned(rooms);
        apply(
            &self.target_namespace,
            &self.operation::<()>(Kind::Join(&rooms)),
        );
    }

    /// Lets all of them leave rooms, those too whose clients are away and may come back.
    pub fn leave<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        let rooms = owned(rooms);
        apply(
            &self.target_namespace,
            &self.operation::<()>(Kind::Leave(&rooms)),
        );
    }

    /// Disconnects all of them from the namespace, or closes their connections with all namespaces
    /// on them. See [`Socket::disconnect`](crate::Socket::disconnect). Those whose clients are away
    /// do not come back as the same socket.
    pub fn disconnect(&self, close: bool) {
        apply(
            &self.target_namespace,
            &self.operation::<()>(Kind::Disconnect { close }),
        );
    }
}

fn owned<'r, M>(rooms: impl IntoRooms<'r, M>) -> Vec<Room> {
    let mut names = Vec::new();
    rooms.each(|room| names.push(room.into_room()));
    names
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
