//! Several servers as one through Redis, on the wires of Node's adapters.
//!
//! Servers of this library and Node servers with `@socket.io/redis-adapter` 8 share rooms if their keys
//! are equal, and what `@socket.io/redis-emitter` 5 sends reaches the clients of both. What is promised
//! is in `docs/cluster.md`.
//!
//! ```no_run
//! use roomcast::{Io, adapter::redis::Redis};
//!
//! let io = Io::builder().adapter(Redis::new("redis://localhost")?).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod channels;
mod classic;
mod emitter;
mod line;
mod link;
mod unnamed;

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use roomcast_protocol::socket::Nsp;

use self::{
    channels::{How, Route, Scope, Target, escape},
    line::Place,
    link::{Limits, Link, Listener},
    unnamed::Unnamed,
};
pub use self::{
    emitter::{Emission, Emitter},
    line::InvalidUrl,
};
use super::{
    WireError,
    envelope::{Envelope, Item, Message, NodeId, Publication, Reply},
    interface::{Adapter, AdapterError, BoxFuture, Health, Inbox, Servers},
    message::{
        Asked, FOREIGN, Heard, Question, Request, Response, Said, read_message, write_message,
        write_response,
    },
    operation::Kind,
};
use crate::names::Room;

/// The adapter: given to [`Builder::adapter`](crate::Builder::adapter).
///
/// It connects in the background, and again whenever the connection breaks. While there is none, events
/// reach the clients of this server; those of the last five seconds reach the others when it is back.
pub struct Redis {
    place: Place,
    key: String,
    wire: Wire,
    timeout: Duration,
    specific: bool,
    limits: Limits,
    shared: OnceLock<Arc<Shared>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Classic,
    Sharded(Subscriptions),
}

/// Which channels a [sharded](Redis::sharded) adapter listens on. All servers must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscriptions {
    /// One for each namespace and one for each room that has members here, but for the rooms of the
    /// sockets' own ids. Node calls it `dynamic`.
    #[default]
    Rooms,
    /// One for each namespace. Node calls it `static`.
    Namespaces,
}

impl Redis {
    /// An adapter of the classic form: `createAdapter` in Node. Events go through `PUBLISH`, and every
    /// server hears all of a namespace.
    ///
    /// | URL | what it names |
    /// |---|---|
    /// | `redis://user:password@host:6379/0` | one server |
    /// | `rediss://…` | the same with TLS |
    /// | `redis+sentinel://user:password@host:26379,host:26379/service/0` | what sentinels call so; user and password are those of Redis |
    /// | `redis+cluster://user:password@host:6379,host:6379` | a cluster |
    ///
    /// # Errors
    ///
    /// When the URL is none of them.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        Ok(Self {
            place: Place::parse(url)?,
            key: "socket.io".to_owned(),
            wire: Wire::Classic,
            timeout: Duration::from_secs(5),
            specific: false,
            limits: Limits {
                messages: 65_536,
                bytes: 64 << 20,
                message_bytes: 16 << 20,
            },
            shared: OnceLock::new(),
        })
    }

    /// An adapter of the sharded form: `createShardedAdapter` in Node. It wants Redis 7, and in a
    /// cluster each message goes to one node instead of all.
    #[must_use]
    pub fn sharded(mut self, subscriptions: Subscriptions) -> Self {
        self.wire = Wire::Sharded(subscriptions);
        self
    }

    /// What the names of channels begin with: `key` of Node's classic adapter, `channelPrefix` of its
    /// sharded one. Default `socket.io`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// How long other servers may take to answer what has no time limit of its own: `requestsTimeout`
    /// of Node's adapter. Default 5 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether Node servers are answered on a channel of their own, `publishOnSpecificResponseChannel`
    /// of Node's classic adapter. Servers of this library always are. Default `false`.
    #[must_use]
    pub fn publish_on_specific_response_channel(mut self, specific: bool) -> Self {
        self.specific = specific;
        self
    }

    /// What may wait to be sent: messages, default 65,536, and their bytes, default 64 MiB.
    #[must_use]
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.messages = messages;
        self.limits.bytes = bytes;
        self
    }

    /// The largest message. Redis cuts off servers for which more than 32 MiB wait, unless its option
    /// `client-output-buffer-limit` says otherwise. Default 16 MiB.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    fn shared(&self) -> Result<&Arc<Shared>, AdapterError> {
        self.shared.get().ok_or(AdapterError::Closed)
    }
}

/// What the adapter is once it belongs to a server.
struct Shared {
    link: Arc<Link>,
    inbox: Inbox,
    key: String,
    wire: Wire,
    specific: bool,
    asked: Asked,
    unnamed: Unnamed,
}

impl Adapter for Redis {
    fn receive(&self, inbox: Inbox) {
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let how = self.wire.how();
            let own = own_channel(&self.key, inbox.node());
            let listener = shared.clone();
            Shared {
                link: Arc::new(Link::new(
                    self.place.clone(),
                    how,
                    own,
                    self.limits,
                    listener,
                )),
                inbox,
                key: self.key.clone(),
                wire: self.wire,
                specific: self.specific,
                asked: Asked::default(),
                unnamed: Unnamed::default(),
            }
        });
        // It is called once.
        let _ = self.shared.set(shared);
    }

    fn task(&self) -> Option<BoxFuture<()>> {
        let link = Arc::clone(&self.shared.get()?.link);
        Some(Box::pin(link.run()))
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        let shared = self.shared()?;
        match &envelope.message {
            Message::Publication(publication) => shared.publish(publication),
            Message::Reply(reply) => self.reply(&reply.to.clone(), envelope),
        }
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        let shared = self.shared()?;
        match envelope.message {
            Message::Reply(reply) if reply.request & FOREIGN != 0 => {
                match shared.asked.answer(reply) {
                    Some((question, response)) => shared.respond(&question, &response),
                    None => Ok(()),
                }
            }
            Message::Reply(_) | Message::Publication(_) => {
                let bytes = envelope.to_bytes().map_err(unwritten)?;
                shared.link.publish(own_channel(&shared.key, to), bytes)
            }
        }
    }

    fn servers(&self, namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let shared = self.shared().cloned();
        let nsp = Nsp::from(namespace);
        Box::pin(async move {
            let shared = shared?;
            let scope = match shared.wire {
                Wire::Classic => Scope::Requests,
                Wire::Sharded(_) => Scope::Events,
            };
            let channel = scope.channel(&shared.key, &nsp);
            let others = Arc::clone(&shared.link).others(channel).await?;
            Ok(Servers::Count(others))
        })
    }

    fn health(&self) -> Health {
        match self.shared.get() {
            Some(shared) => shared.link.health(),
            None => Health::Down("not connected yet".to_owned()),
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let link = self.shared.get().map(|shared| Arc::clone(&shared.link));
        Box::pin(async {
            if let Some(link) = link {
                link.close().await;
            }
        })
    }

    fn request_timeout(&self) -> Duration {
        self.timeout
    }

    fn namespace_opened(&self, namespace: &str) {
        self.turn_namespace(namespace, true);
    }

    fn namespace_closed(&self, namespace: &str) {
        self.turn_namespace(namespace, false);
    }

    fn follows_rooms(&self) -> bool {
        self.wire == Wire::Sharded(Subscriptions::Rooms)
    }

    fn followed(&self) -> BoxFuture<()> {
        let link = self.shared.get().map(|shared| Arc::clone(&shared.link));
        Box::pin(async {
            if let Some(link) = link {
                link.followed().await;
            }
        })
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        self.turn_room(namespace, room, true);
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        self.turn_room(namespace, room, false);
    }
}

impl Redis {
    fn turn_namespace(&self, namespace: &str, on: bool) {
        let Some(shared) = self.shared.get() else {
            return;
        };
        let nsp = Nsp::from(namespace);
        for (scope, how, name) in shared.channels(&nsp) {
            let route = Route {
                namespace: nsp.clone(),
                scope,
            };
            let target = on.then_some(Target::Namespace(route));
            shared.link.listen((how, name.into()), target);
        }
    }

    fn turn_room(&self, namespace: &str, room: &Room, on: bool) {
        let Some(shared) = self.shared.get() else {
            return;
        };
        let nsp = Nsp::from(namespace);
        if let Some(name) = room_channel(shared.wire, &shared.key, &nsp, room) {
            let route = Route {
                namespace: nsp,
                scope: Scope::Events,
            };
            let target = on.then_some(Target::Namespace(route));
            shared.link.listen((How::Sharded, name.into()), target);
        }
    }
}

impl Wire {
    const fn how(self) -> How {
        match self {
            Self::Classic => How::Plain,
            Self::Sharded(_) => How::Sharded,
        }
    }
}

impl Shared {
    /// The channels of a namespace.
    fn channels(&self, nsp: &Nsp) -> Vec<(Scope, How, String)> {
        let channel = |scope: Scope| scope.channel(&self.key, nsp);
        let own = |scope: Scope| format!("{}{}#", channel(scope), self.inbox.node());
        match self.wire {
            Wire::Classic => vec![
                (
                    Scope::Events,
                    How::Pattern,
                    escape(&channel(Scope::Events)) + "*",
                ),
                (Scope::Requests, How::Plain, channel(Scope::Requests)),
                (Scope::Responses, How::Plain, channel(Scope::Responses)),
                (Scope::OwnResponses, How::Plain, own(Scope::Responses)),
            ],
            Wire::Sharded(_) => vec![
                (Scope::Events, How::Sharded, channel(Scope::Events)),
                (Scope::OwnResponses, How::Sharded, own(Scope::Events)),
            ],
        }
    }

    fn publish(&self, publication: &Publication) -> Result<(), AdapterError> {
        let own = self.inbox.node().as_str();
        let (channel, payload) = write_publication(self.wire, &self.key, own, publication)?;
        self.link.publish(channel, payload)
    }

    /// Answers another kind of server.
    fn respond(&self, question: &Question, response: &Response) -> Result<(), AdapterError> {
        let Question { namespace, request } = question;
        let (mut channel, payload, is_own) = match self.wire {
            Wire::Classic => {
                let payload = classic::write_response(&request.id, request.ids_only, response);
                let is_own = self.specific && !matches!(response, Response::Answer(_));
                (
                    Scope::Responses.channel(&self.key, namespace),
                    payload,
                    is_own,
                )
            }
            Wire::Sharded(_) => {
                let payload = write_response(self.inbox.node(), namespace, request, response);
                (Scope::Events.channel(&self.key, namespace), payload, true)
            }
        };
        if is_own {
            channel.push_str(&request.uid);
            channel.push('#');
        }
        self.link.publish(channel, payload.map_err(unwritten)?)
    }

    fn heard(&self, route: &Route, payload: Bytes) -> Result<(), WireError> {
        let own = self.inbox.node();
        let heard = match self.wire {
            Wire::Classic => classic::read(own, route, payload)?,
            Wire::Sharded(_) => read_message(own, &route.namespace, payload)?,
        };
        match heard {
            Heard::Nothing => {}
            Heard::Publication(node, mut publication, request) => {
                if let Some(request) = request {
                    publication.request = Some(self.asked.open(request, &publication));
                }
                let message = Message::Publication(*publication);
                self.inbox.deliver(Envelope::new(node, None, message));
            }
            Heard::Answer(question, node, said) => {
                let node = node.or_else(|| self.unnamed.name(question, &said));
                let node = node.ok_or(WireError::Malformed("answer"))?;
                let (total, item) = of(said);
                let reply = Reply::new(own.clone(), question, total, item);
                self.inbox
                    .deliver(Envelope::new(node, None, Message::Reply(reply)));
            }
            Heard::Rooms(request) => self.tell_rooms(&route.namespace, request),
        }
        Ok(())
    }

    fn tell_rooms(&self, nsp: &Nsp, request: Request) {
        let rooms = Response::Rooms(self.inbox.rooms(nsp.as_str()));
        let namespace = nsp.clone();
        if let Err(error) = self.respond(&Question { namespace, request }, &rooms) {
            tracing::warn!(%error, "another server does not get the rooms that it has asked for");
        }
    }
}

impl Listener for Shared {
    fn hear(&self, target: Target, payload: Bytes) {
        match target {
            Target::Envelopes => self.inbox.deliver_bytes(payload),
            Target::Namespace(route) => {
                if let Err(error) = self.heard(&route, payload) {
                    self.inbox.ignore(&error);
                }
            }
        }
    }

    fn lost(&self, messages: u64) {
        self.inbox.lost(messages);
    }
}

/// What is said as a reply: how many items there are, and one.
fn of(said: Said) -> (Option<u32>, Option<Item>) {
    match said {
        Said::Count(count) => (Some(count), None),
        Said::Acknowledgement(args) => {
            let (socket, args) = (None, Some(args));
            (None, Some(Item::Acknowledgement { socket, args }))
        }
        Said::Sockets(args) => (Some(1), Some(Item::Sockets(args))),
        Said::Answer(args) => (Some(1), Some(Item::Answer(args))),
    }
}

/// Where a publication goes, and as what.
fn write_publication(
    wire: Wire,
    key: &str,
    own: &str,
    publication: &Publication,
) -> Result<(String, Bytes), AdapterError> {
    if wire == Wire::Classic {
        return classic::write(key, own, publication).map_err(unwritten);
    }
    let nsp = &publication.namespace;
    let room = match (&publication.kind, publication.rooms.as_deref()) {
        (Kind::Broadcast { .. }, Some([room])) => room_channel(wire, key, nsp, room),
        _ => None,
    };
    let channel = room.unwrap_or_else(|| Scope::Events.channel(key, nsp));
    Ok((channel, write_message(own, publication).map_err(unwritten)?))
}

/// The channel that a room has on the sharded wire. Node takes names of twenty characters for ids of
/// sockets, which have none.
fn room_channel(wire: Wire, key: &str, nsp: &Nsp, room: &Room) -> Option<String> {
    let has_channels = wire == Wire::Sharded(Subscriptions::Rooms);
    let is_like_id = room.as_str().encode_utf16().count() == 20;
    (has_channels && !is_like_id).then(|| format!("{}{room}#", Scope::Events.channel(key, nsp)))
}

/// The channel on which a server gets envelopes of others of its kind.
fn own_channel(key: &str, node: &NodeId) -> String {
    format!("{key}-roomcast#{node}#")
}

fn unwritten(error: WireError) -> AdapterError {
    match error {
        WireError::TooLarge => AdapterError::TooLarge,
        WireError::UnknownVersion(_)
        | WireError::UnknownKind
        | WireError::Malformed(_)
        | WireError::Encode(_) => AdapterError::Transport(Arc::new(error)),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.get() {
            shared.link.abandon();
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may have a password in it.
        f.debug_struct("Redis")
            .field("key", &self.key)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

/// For fuzz targets: reads what may come on the channels of both wires, and writes again what was read.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let (Some(own), payload) = (NodeId::new("own"), Bytes::copy_from_slice(data)) else {
        return;
    };
    let scopes = [Scope::Events, Scope::Requests, Scope::Responses];
    let routes = scopes.map(|scope| Route {
        namespace: Nsp::ROOT,
        scope,
    });
    let classic = routes.map(|route| classic::read(&own, &route, payload.clone()));
    let sharded = read_message(&own, &Nsp::ROOT, payload);
    for heard in classic.into_iter().chain([sharded]) {
        if let Ok(Heard::Publication(node, publication, _)) = heard {
            // What has texts that are none, for example, cannot be passed on.
            let _ = classic::write("key", node.as_str(), &publication);
            let _ = write_message(node.as_str(), &publication);
        }
    }
}
