//! Selects sockets of one namespace, sends to them and acts on them.

use std::time::Duration;

use roomcast_protocol::socket::{Argument, Arguments};

use super::remote::Fetched;
use crate::{
    adapter::{AdapterError, Audience, Delivery, Flags, Kind, Operation, OperationKind, Target},
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

/// A selection of sockets of one namespace, with send options.
///
/// Created by methods such as [`Io::to`](crate::Io::to), [`Namespace::to`](crate::Namespace::to)
/// and [`Socket::to`](crate::Socket::to). Methods chain: each one changes the selection or an
/// option, and the last one uses it:
///
/// ```no_run
/// # fn example(io: roomcast::Io) {
/// io.of("/admin").to("ops").to("on-call").except("muted").emit("alert", "disk is full");
/// # }
/// ```
///
/// Several rooms form a union that contains each socket once. Without a room, the selection is the
/// whole namespace.
#[derive(Clone, Debug)]
#[must_use = "it only sends when something is emitted"]
pub struct Broadcast<'a> {
    target_namespace: TargetNamespace,
    sender: Option<&'a Socket>,
    to: Audience<'a>,
    except: Vec<RoomName<'a>>,
    local: bool,
    flags: Flags,
    /// The stream name in `flags`. Stored only if other servers need it.
    stream: Option<Box<str>>,
    /// The interval in which at most one event of the key is sent.
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
        // An empty list of rooms must select no socket, instead of all sockets.
        self.to = to.unwrap_or(Audience::Many(Vec::new()));
        self
    }

    /// Adds rooms, like [`to`](Self::to).
    pub fn in_<M>(self, rooms: impl IntoRooms<'a, M>) -> Self {
        self.to(rooms)
    }

    /// Excludes the members of these rooms.
    pub fn except<M>(mut self, rooms: impl IntoRooms<'a, M>) -> Self {
        rooms.each(|room| self.except.push(room));
        self
    }

    /// Makes the event volatile: it is dropped for clients that cannot receive it immediately.
    ///
    /// That is the case if earlier data is unsent, or if the client is between two polls.
    pub fn volatile(mut self) -> Self {
        self.flags.delivery = Delivery::Volatile;
        self.flags.replaces = None;
        self.interval = None;
        self
    }

    /// Keeps only the newest event of this key in a client's queue.
    ///
    /// A client that is too slow, or between two polls, receives only the newest event. Use this
    /// for values that replace each other, such as a price or a position.
    ///
    /// Such events are sent after all other queued events. A client can have at most 256 of them,
    /// [`drop_oldest`](Self::drop_oldest) included, within
    /// [`Config::outbox_bytes`](crate::Config::outbox_bytes). Beyond that, events of further keys
    /// are dropped. A client is never disconnected because of these events, and
    /// [recovery](crate::Builder::recovery) does not replay them.
    pub fn conflate(mut self, key: &str) -> Self {
        self.lossy(Delivery::Newest(key));
        self
    }

    /// Limits events of this key to one per `interval`, and otherwise works like
    /// [`conflate`](Self::conflate).
    ///
    /// The first event is sent immediately. Of those that follow within the interval, the newest is
    /// sent at its end. Use this for values that change faster than a person can read them.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn example(io: roomcast::Io, price: f64) {
    /// let quotes = io.to("ticker").conflate_every("ACME", Duration::from_millis(100));
    /// quotes.emit("quote", ("ACME", price));
    /// # }
    /// ```
    ///
    /// The last event is always sent: at the latest an eighth of the interval late, or when the
    /// server [closes](crate::Io::close). The delay occurs because keys that were sent at about the
    /// same time are batched. Replaced events are sent neither to clients nor to other servers.
    /// Each server of a cluster has its own intervals.
    ///
    /// Two targets are equal if they name the same rooms in the same order. The interval of the
    /// last sent event applies. The maximum is one day. A zero interval works like `conflate`.
    ///
    /// One event per key and target is queued. There can be 65,536 running intervals; events of
    /// further keys are sent immediately. Requests ([`emit_with_acks`](Self::emit_with_acks)) are
    /// not delayed.
    pub fn conflate_every(mut self, key: &str, interval: Duration) -> Self {
        self.lossy(Delivery::Newest(key));
        self.interval = Some(interval).filter(|interval| !interval.is_zero());
        self
    }

    /// Keeps only the last `keep` events of this stream in a client's queue, and drops the oldest.
    ///
    /// This affects clients that are too slow or between two polls. Use it for events that lose
    /// value with age, such as trades or log lines. 0 counts as 1.
    ///
    /// The limits of [`conflate`](Self::conflate) apply. If there is no room, the stream drops more
    /// of its own events, and then the new event itself.
    pub fn drop_oldest(mut self, stream: &str, keep: u16) -> Self {
        self.lossy(Delivery::Last(stream, keep.max(1)));
        self
    }

    /// Replaces the events of this key that are still queued for a client.
    ///
    /// A client that is too slow, or between two polls, receives only the newest event. Unlike
    /// [`conflate`](Self::conflate), the event must arrive: it follows all events that were queued
    /// before it, precedes all later ones, counts like them towards
    /// [`Config::outbox_bytes`](crate::Config::outbox_bytes), and
    /// [recovery](crate::Builder::recovery) replays it. Use this for a state that clients must not
    /// miss.
    ///
    /// An event is not replaced if 256 later events are queued for the client, or if the new event
    /// requests acknowledgements. The event is sent only to sockets of this server, as with
    /// [`local`](Self::local), because adapters do not transport this option.
    pub fn replace_queued(mut self, key: &str) -> Self {
        let number = stream(self.target_namespace.name(), &Delivery::Newest(key));
        self.flags.delivery = Delivery::Reliable;
        self.flags.replaces = Some(number);
        (self.stream, self.interval) = (None, None);
        self.local()
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
        self.flags.replaces = None;
        self.stream = is_shared.then(|| name.into());
        self.interval = None;
    }

    /// Sends the event uncompressed: `compress(false)` of the official server.
    pub fn without_compression(mut self) -> Self {
        self.flags.compress = false;
        self
    }

    /// Restricts the operation to this server of the cluster.
    pub fn local(mut self) -> Self {
        self.local = true;
        self
    }

    /// Sets the acknowledgement timeout. Default is
    /// [`Config::ack_timeout`](crate::Config::ack_timeout).
    ///
    /// It also limits other requests to the servers of the cluster. Their default is
    /// `Adapter::request_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    fn operation<'o>(&'o self, kind: OperationKind<'o>) -> Operation<'o> {
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

    /// Sends an event to the selected sockets.
    ///
    /// `args` is any serializable value. A tuple is several arguments, `()` is none. It is encoded
    /// once. All members of one room receive its events in the same order. In a cluster, this holds
    /// on each server for the events of each sending server.
    ///
    /// The result covers the sockets of this server. It is empty for an event that is
    /// [delayed](Self::conflate_every). An event that exceeds the adapter's size limit is sent on
    /// no server, and [`Emitted::error`] contains the error. If the adapter fails for another
    /// reason, the event still reaches the sockets of this server.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        self.emit_erased(event, &args)
    }

    /// Sends an event. Compiled once, and not for each type of arguments.
    fn emit_erased(&self, event: &str, args: &dyn Arguments) -> Emitted {
        let operation = self.operation(Kind::Broadcast { event, args });
        let applied = match self.interval {
            None => apply(&self.target_namespace, &operation),
            Some(interval) => apply_paced(&self.target_namespace, &operation, interval),
        };
        match (applied.local, applied.remote) {
            (Outcome::Emitted(emitted), _) => emitted,
            // The namespace is not on this server, or the event uses a journal, so only publishing
            // detected the error.
            (_, RemoteOutcome::Failed(Unpublished::Encode(error))) => Emitted::failed(event, error),
            (_, remote) => match remote.refusal() {
                Some(error) => Emitted::failed(event, error),
                None => Emitted::default(),
            },
        }
    }

    /// Sends a typed event to the selected sockets; see [`Contract`].
    pub fn send<T: Contract>(&self, event: T) -> Emitted {
        self.emit(T::EVENT, event)
    }

    /// Sends a typed event to the selected sockets and requests a reply from each; see [`Request`]
    /// and [`emit_with_acks`](Self::emit_with_acks).
    pub fn request<T: Request>(&self, event: T) -> Acks<T::Reply> {
        self.emit_with_acks(T::EVENT, event)
    }

    /// Sends an event to the selected sockets and requests an acknowledgement of type `R` from
    /// each.
    ///
    /// `R` is one value, or [`Args`](crate::Args) for all arguments. In a cluster, the result
    /// includes the answers of other servers' clients. [`Acks::missing`] lists the servers that did
    /// not answer.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit_with_acks<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        self.request_acks(self.local, event, &args)
    }

    /// Works like [`emit_with_acks`](Self::emit_with_acks), but includes the sockets of this server
    /// only.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit_with_local_acks<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        self.request_acks(true, event, &args)
    }

    fn request_acks<R: Argument>(&self, local: bool, event: &str, args: &dyn Arguments) -> Acks<R> {
        let mut operation = self.operation(Kind::BroadcastWithAck { event, args });
        operation.target.local = local;
        // All servers use the same timeout.
        let timeout = &mut operation.target.flags.timeout;
        *timeout = timeout.or(Some(self.target_namespace.config().sockets.ack_timeout));
        let Applied { local, remote } = apply(&self.target_namespace, &operation);
        let local = match local {
            Outcome::AckRequest(Ok(request)) => Some(request),
            Outcome::AckRequest(Err(error)) => return Acks::failed(error),
            Outcome::Nothing | Outcome::Emitted(_) | Outcome::Sockets(_) => None,
        };
        match remote {
            RemoteOutcome::None | RemoteOutcome::Published => Acks::requested(local, None),
            RemoteOutcome::Requested(request) => Acks::requested(local, Some(request)),
            RemoteOutcome::Failed(Unpublished::Encode(error)) if local.is_none() => {
                Acks::failed(EmitError::Encode(error))
            }
            RemoteOutcome::Failed(Unpublished::Adapter(AdapterError::TooLarge))
                if local.is_none() =>
            {
                Acks::failed(EmitError::TooLarge)
            }
            RemoteOutcome::Failed(why) => Acks::requested(local, None).without(why.missing()),
        }
    }

    /// Returns the number of selected sockets on this server.
    #[must_use]
    pub fn count(&self) -> usize {
        let local = self.target_namespace.local();
        local.map_or(0, |namespace| count(namespace, &self.target()))
    }

    /// Returns the selected sockets of this server. [`fetch_sockets`](Self::fetch_sockets) includes
    /// all servers.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        let mut operation = self.operation(Kind::FetchSockets);
        operation.target.local = true;
        match apply(&self.target_namespace, &operation).local {
            Outcome::Sockets(sockets) => sockets,
            Outcome::Nothing | Outcome::Emitted(_) | Outcome::AckRequest(_) => Vec::new(),
        }
    }

    /// Returns data of the selected sockets on all servers of the cluster, those of this server
    /// first.
    ///
    /// The result also lists the servers that did not answer within [`timeout`](Self::timeout).
    pub async fn fetch_sockets(&self) -> Fetched {
        let applied = apply(&self.target_namespace, &self.operation(Kind::FetchSockets));
        Fetched::collect(&self.target_namespace, applied).await
    }

    /// Adds the selected sockets to rooms. Sockets that have reached their room limit are skipped.
    pub fn join<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        let rooms = owned(rooms);
        apply(&self.target_namespace, &self.operation(Kind::Join(&rooms)));
    }

    /// Removes the selected sockets from rooms, including disconnected but recoverable sockets.
    pub fn leave<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        let rooms = owned(rooms);
        apply(&self.target_namespace, &self.operation(Kind::Leave(&rooms)));
    }

    /// Disconnects the selected sockets from the namespace; see
    /// [`Socket::disconnect`](crate::Socket::disconnect). Disconnected but recoverable sockets
    /// cannot be recovered.
    pub fn disconnect(&self) {
        self.end(false);
    }

    /// Closes the connections of the selected sockets with all namespaces; see
    /// [`Socket::close_connection`](crate::Socket::close_connection). Disconnected but recoverable
    /// sockets cannot be recovered.
    pub fn close_connections(&self) {
        self.end(true);
    }

    fn end(&self, close: bool) {
        apply(
            &self.target_namespace,
            &self.operation(Kind::Disconnect { close }),
        );
    }
}

fn owned<'r, M>(rooms: impl IntoRooms<'r, M>) -> Vec<Room> {
    let mut names = Vec::new();
    rooms.each(|room| names.push(room.into_room()));
    names
}

impl Socket {
    /// Selects all sockets of the namespace except this one.
    pub fn broadcast(&self) -> Broadcast<'_> {
        Broadcast::from_sender(self)
    }

    /// Selects the members of rooms except this socket.
    pub fn to<'a, M>(&'a self, rooms: impl IntoRooms<'a, M>) -> Broadcast<'a> {
        self.broadcast().to(rooms)
    }

    /// Selects all sockets of the namespace except this one and the members of rooms.
    pub fn except<'a, M>(&'a self, rooms: impl IntoRooms<'a, M>) -> Broadcast<'a> {
        self.broadcast().except(rooms)
    }
}
