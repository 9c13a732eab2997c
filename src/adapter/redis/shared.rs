//! The state of the adapter after it was attached to a server: encodes outgoing messages, and
//! processes incoming messages.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;

use super::{
    Wire,
    anonymous::AnonymousAnswers,
    broker::{BrokerLink, Listener},
    channels::{self, ChannelKind, Route, Scope, Target, escape},
    classic,
    connection::Sent,
    recent_joins::RecentJoins,
    sealing::{self, Sealers},
    streams::{self, Data, Heartbeats, Stream, StreamEntry},
};
use crate::{
    adapter::{
        Position, Unopened, WireError,
        common::{Broker as _, unwritten},
        envelope::{Envelope, Message, NodeId, Publication},
        interface::{
            AdapterError, BoxFuture, Inbox,
            subscriber::{Subscriber, Subscriptions},
        },
        node_js::{
            ForeignRequests, NodeCompatible, ParsedMessage, Request, RequestOrigin, Response,
            packed_response, read_message, write_message, write_response,
        },
        operation::Kind,
        operation::NAMESPACE,
        seal::{Opened, Protection},
    },
    names::Room,
};

/// The state of the adapter after it was attached to a server.
pub(crate) struct RedisState {
    pub(super) link: Arc<BrokerLink>,
    pub(super) inbox: Inbox,
    pub(super) wire: Wire,
    pub(super) key: String,
    pub(super) stream: Arc<Stream>,
    pub(super) specific: bool,
    pub(super) foreign_requests: ForeignRequests,
    pub(super) unnamed: AnonymousAnswers,
    pub(super) heartbeats: Heartbeats,
    pub(super) joins: RecentJoins,
    /// Whether events, joins, leaves and disconnects of this server pass through the journal before
    /// they are applied.
    pub(super) journals: bool,
    /// Seals the messages of this server.
    pub(super) sealers: Option<Arc<Sealers>>,
    /// Opens messages on channels.
    pub(super) channels: Protection,
    /// Opens entries of the stream.
    pub(super) entries: Protection,
    /// The positions of sealed entries that were refused as repeated. They are skipped when the
    /// stream is read again.
    pub(super) replays: Mutex<BTreeSet<Position>>,
    /// The namespaces of this server. Stream entries for other namespaces are skipped.
    pub(super) open: Mutex<HashSet<Nsp>>,
}

impl Wire {
    pub(super) const fn channel_kind(self) -> ChannelKind {
        match self {
            Self::Classic | Self::Streams { is_sharded: false } => ChannelKind::Plain,
            Self::Sharded(_) | Self::Streams { is_sharded: true } => ChannelKind::Sharded,
        }
    }

    /// Returns the scope of the channel on which servers send requests, heartbeats among them.
    pub(super) const fn request_scope(self) -> Scope {
        match self {
            Self::Classic => Scope::Requests,
            Self::Sharded(_) | Self::Streams { .. } => Scope::Events,
        }
    }
}

impl RedisState {
    /// Returns the channels of a namespace.
    fn channels_of(&self, nsp: &Nsp) -> Vec<(Scope, ChannelKind, String)> {
        let channel = |scope: Scope| scope.channel(&self.key, nsp);
        let own = |scope: Scope| format!("{}{}#", channel(scope), self.inbox.node());
        match self.wire {
            Wire::Classic => vec![
                (
                    Scope::Events,
                    ChannelKind::Pattern,
                    escape(&channel(Scope::Events)) + "*",
                ),
                (
                    Scope::Requests,
                    ChannelKind::Plain,
                    channel(Scope::Requests),
                ),
                (
                    Scope::Responses,
                    ChannelKind::Plain,
                    channel(Scope::Responses),
                ),
                (
                    Scope::OwnResponses,
                    ChannelKind::Plain,
                    own(Scope::Responses),
                ),
            ],
            Wire::Sharded(_) | Wire::Streams { .. } => {
                let channel_kind = self.wire.channel_kind();
                vec![
                    (Scope::Events, channel_kind, channel(Scope::Events)),
                    (Scope::OwnResponses, channel_kind, own(Scope::Events)),
                ]
            }
        }
    }

    /// Sends a leave message to servers that count their peers by heartbeats.
    pub(super) fn send_leave(&self, nsp: &Nsp) {
        let leave = self.heartbeats.closed(self.inbox.node().as_str(), nsp);
        if let Some(entry) = leave {
            self.send_entry(entry);
        }
    }

    fn send_entry(&self, entry: StreamEntry) {
        let stream = Arc::clone(&self.stream);
        // A loss is harmless: another heartbeat follows a heartbeat, and a server whose leave
        // message is lost expires.
        let _ = self.link.publish(Sent::Entry(stream, entry, None));
    }

    fn process(&self, route: &Route, opened: Opened) -> Result<(), WireError> {
        let own = self.inbox.node();
        let Opened {
            message: payload,
            was_sealed,
        } = opened;
        let parsed = match self.wire {
            Wire::Classic => classic::read(own, route, payload)?,
            Wire::Sharded(_) | Wire::Streams { .. } => {
                read_message(own, &route.namespace, payload)?
            }
        };
        let is_admitted = match &parsed {
            ParsedMessage::Publication(node, ..) | ParsedMessage::Answer(_, Some(node), _) => {
                self.channels.admits(node, was_sealed)
            }
            ParsedMessage::Nothing
            | ParsedMessage::Rooms(_)
            | ParsedMessage::Answer(_, None, _)
            | ParsedMessage::Pulse(..) => true,
        };
        if !is_admitted {
            return Ok(());
        }
        self.deliver(&route.namespace, parsed, None, was_sealed)
    }

    /// Opens an entry of the stream. Returns whether the entry must be processed.
    fn open_entry(&self, entry: &mut streams::Read) -> Result<bool, WireError> {
        let Some(opener) = self.entries.opener() else {
            return Ok(true);
        };
        let Some(sealed) = entry.sealed.take() else {
            return self.entries.accept_plain().map(|()| true);
        };
        let sealers = self.sealers.as_ref();
        if !self.journals && sealers.is_some_and(|sealers| sealers.have_sealed_entry(&sealed)) {
            return Ok(false);
        }
        let stored_at = Position::parse(&entry.id).map_or(0, |position| position.time);
        let opened = opener.open(sealing::place(&self.stream), sealed, Some(stored_at))?;
        sealing::unpack(entry, opened)?;
        entry.is_marked = false;
        Ok(true)
    }

    /// Processes an entry of the stream.
    fn read_entry(&self, mut entry: streams::Read) -> Result<(), WireError> {
        let was_sealed = entry.sealed.is_some() && self.entries.opener().is_some();
        if !self.open_entry(&mut entry)? {
            return Ok(());
        }
        let own = self.inbox.node();
        let uid = entry.uid.as_deref();
        let position = Position::parse(&entry.id).filter(|_| self.journals);
        // This server applied its own operations when it sent them, except those that pass through
        // the journal.
        if uid == Some(own.as_str()) && !(self.journals && entry.is_journaled()) {
            return Ok(());
        }
        let nsp = entry.nsp.as_deref().ok_or(WireError::Malformed("nsp"))?;
        let Some(nsp) = self.open.lock().get(&Nsp::from(nsp)).cloned() else {
            return Ok(());
        };
        let kind = entry.kind()?;
        let uid = uid.unwrap_or_default().to_owned();
        if streams::is_heartbeat(kind) {
            // Servers of this library are counted by their subscriptions. They add heartbeats to
            // the stream only in response to Node servers.
            if entry.is_marked {
                return Ok(());
            }
            if NodeId::new(&uid).is_none() {
                return Err(WireError::Malformed("uid"));
            }
            let response = self.heartbeats.record(own.as_str(), &nsp, &uid, kind);
            if let Some(entry) = response {
                self.send_entry(entry);
            }
            return Ok(());
        }
        let data = Data::new(entry.data.clone())?;
        if let Some(rooms) = data.rooms(kind)
            && self.inbox.has_no_recipient(&nsp, &rooms, position)
        {
            return Ok(());
        }
        let parsed = entry.message_of(data, own, &nsp)?;
        if let ParsedMessage::Publication(_, _, Some(_)) = &parsed {
            // A Node server that sends a request over the stream expects the answer there.
            let response = self.heartbeats.record(own.as_str(), &nsp, &uid, kind);
            if let Some(entry) = response {
                self.send_entry(entry);
            }
        }
        self.deliver(&nsp, parsed, position, was_sealed)
    }

    fn deliver(
        &self,
        nsp: &Nsp,
        parsed: ParsedMessage,
        position: Option<Position>,
        was_sealed: bool,
    ) -> Result<(), WireError> {
        let envelope = |node, message| Envelope {
            was_sealed,
            ..Envelope::new(node, None, message)
        };
        let own = self.inbox.node();
        match parsed {
            // Heartbeats on streams were handled earlier, and the other wire formats of Redis have
            // none.
            ParsedMessage::Nothing | ParsedMessage::Pulse(..) => {}
            ParsedMessage::Publication(node, mut publication, request) => {
                note_joins(self.wire, &self.key, &self.joins, &publication);
                if let Some(request) = request {
                    publication.request = Some(self.foreign_requests.open(request, &publication));
                }
                publication.position = position;
                let message = Message::Publication(*publication);
                self.inbox.deliver(envelope(node, message));
            }
            ParsedMessage::Answer(number, node, reply) => {
                let node = node.or_else(|| self.unnamed.name(number, &reply));
                let node = node.ok_or(WireError::Malformed("answer"))?;
                self.inbox.deliver(envelope(node, reply.reply(own, number)));
            }
            ParsedMessage::Rooms(request) => self.reply_rooms(nsp, request),
        }
        Ok(())
    }

    fn reply_rooms(&self, nsp: &Nsp, request: Request) {
        let rooms = Response::Rooms(self.inbox.rooms(nsp.as_str()));
        let namespace = nsp.clone();
        if let Err(error) = self.respond(&RequestOrigin { namespace, request }, &rooms) {
            crate::throttled_log!(warn, %error, "could not send requested rooms to another server");
        }
    }
}

impl Subscriber for RedisState {
    fn subscriptions(&self) -> Subscriptions {
        match self.wire {
            Wire::Sharded(subscriptions) => subscriptions,
            Wire::Classic | Wire::Streams { .. } => Subscriptions::Namespaces,
        }
    }

    fn namespace_opened(&self, namespace: &str) {
        let nsp = Nsp::from(namespace);
        for (scope, channel_kind, name) in self.channels_of(&nsp) {
            let target = Target::Namespace(Route {
                namespace: nsp.clone(),
                scope,
            });
            self.link
                .subscriptions
                .listen((channel_kind, name.into()), Some(target));
        }
        self.open.lock().insert(nsp);
    }

    fn namespace_closed(&self, namespace: &str) {
        let nsp = Nsp::from(namespace);
        for (_, channel_kind, name) in self.channels_of(&nsp) {
            self.link
                .subscriptions
                .listen((channel_kind, name.into()), None);
        }
        self.open.lock().remove(&nsp);
        self.send_leave(&nsp);
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        let nsp = Nsp::from(namespace);
        if let Some(name) = room_channel(self.wire, &self.key, &nsp, room) {
            let target = Target::Namespace(Route {
                namespace: nsp,
                scope: Scope::Events,
            });
            let name = (ChannelKind::Sharded, name.into());
            self.link.subscriptions.listen(name, Some(target));
        }
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        let nsp = Nsp::from(namespace);
        if let Some(name) = room_channel(self.wire, &self.key, &nsp, room) {
            let name = (ChannelKind::Sharded, name.into());
            self.link.subscriptions.listen(name, None);
        }
    }

    fn followed(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(async move { self.link.subscriptions.followed().await })
    }
}

impl NodeCompatible for RedisState {
    fn foreign_requests(&self) -> &ForeignRequests {
        &self.foreign_requests
    }

    fn publish(&self, publication: &Publication) -> Result<(), AdapterError> {
        let own = self.inbox.node().as_str();
        let (wire, key, joins) = (self.wire, &self.key, &self.joins);
        note_joins(wire, key, joins, publication);
        let mut sent = write_publication(wire, key, &self.stream, joins, own, publication)?;
        if let Sent::Entry(_, entry, waiting) = &mut sent
            && self.journals
            && entry.is_journaled()
        {
            // The publication is attached, so that it can be applied here if the entry is never
            // sent.
            *waiting = Some(Box::new(publication.clone()));
        }
        match &self.sealers {
            Some(sealers) => sealers.send(&self.link, sent),
            None => self.link.publish(sent),
        }
    }

    fn respond(&self, origin: &RequestOrigin, response: &Response) -> Result<(), AdapterError> {
        let RequestOrigin { namespace, request } = origin;
        let (mut channel, payload, is_own) = match self.wire {
            Wire::Classic => {
                let payload = classic::write_response(&request.id, request.ids_only, response);
                // Even with `publishOnSpecificResponseChannel`, Node's adapter answers server-side
                // events on the common channel.
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
            Wire::Streams { .. } if self.heartbeats.knows(namespace, &request.uid) => {
                let own = self.inbox.node();
                let entry = streams::write_response(own, namespace, request, response);
                let entry = entry.map_err(unwritten)?;
                let stream = Arc::clone(&self.stream);
                return self.link.publish(Sent::Entry(stream, entry, None));
            }
            Wire::Streams { .. } => {
                let payload = packed_response(self.inbox.node(), namespace, request, response);
                (Scope::Events.channel(&self.key, namespace), payload, true)
            }
        };
        if is_own {
            channel.push_str(&request.uid);
            channel.push('#');
        }
        let payload = payload.map_err(unwritten)?;
        self.link.publish(Sent::Message(channel, payload))
    }

    fn reply(&self, to: &NodeId, bytes: Bytes) -> Result<(), AdapterError> {
        let sent = Sent::Message(own_channel(&self.key, to), bytes);
        match &self.sealers {
            Some(sealers) if self.channels.seals(to) => sealers.send_sealed(&self.link, sent),
            // `to` may seal although none of its messages has arrived on a channel yet, so both
            // forms are sent. A server that seals ignores the plain one.
            Some(sealers) => sealers.send(&self.link, sent),
            None => self.link.publish(sent),
        }
    }
}

impl Listener for RedisState {
    fn receive(&self, target: Target, channel: &[u8], payload: Bytes) {
        let opened = self.channels.open(channel, payload, None);
        let parsed = opened.and_then(|opened| match target {
            Target::Envelopes => {
                self.channels.deliver(&self.inbox, opened);
                Ok(())
            }
            Target::Namespace(route) => self.process(&route, opened),
        });
        if let Err(error) = parsed {
            self.inbox.ignore(&error);
        }
    }

    fn read(&self, entry: streams::Read) {
        let position = Position::parse(&entry.id);
        if let Err(error) = self.read_entry(entry) {
            if matches!(error, WireError::Unopened(Unopened::Replayed)) {
                let mut replays = self.replays.lock();
                replays.extend(position);
                if replays.len() > MAX_REPLAYS {
                    replays.pop_first();
                }
            }
            self.inbox.ignore(&error);
        }
    }

    fn unsent(&self, message: Sent) {
        // The operation should have returned through the journal, but was not stored there. It must
        // still be applied to the sockets of this server.
        if let Sent::Entry(_, _, Some(publication)) = message {
            self.inbox.deliver_here(*publication);
        }
    }

    fn lost(&self, messages: u64) {
        self.inbox.lost(messages);
    }
}

/// The maximum number of replayed entries to remember. By default, a stream stores about ten
/// thousand entries.
const MAX_REPLAYS: usize = 16_384;

/// Records the rooms to which a publication adds sockets of other servers.
pub(super) fn note_joins(wire: Wire, key: &str, joins: &RecentJoins, publication: &Publication) {
    if let Kind::Join(rooms) = &publication.kind {
        let channels = rooms.iter();
        for channel in
            channels.filter_map(|room| room_channel(wire, key, &publication.namespace, room))
        {
            joins.note(&channel);
        }
    }
}

/// Encodes a publication and selects its channel or stream.
pub(super) fn write_publication(
    wire: Wire,
    key: &str,
    stream: &Arc<Stream>,
    joins: &RecentJoins,
    own: &str,
    publication: &Publication,
) -> Result<Sent, AdapterError> {
    match wire {
        Wire::Classic => {
            let (channel, payload) = classic::write(key, own, publication).map_err(unwritten)?;
            return Ok(Sent::Message(channel, payload));
        }
        // Messages of the heartbeats' namespace use channels, because servers that read them later
        // do not need them.
        Wire::Streams { .. } if publication.namespace == *NAMESPACE => {}
        Wire::Streams { .. } => {
            let entry = streams::write(own, publication).map_err(unwritten)?;
            return Ok(Sent::Entry(Arc::clone(stream), entry, None));
        }
        Wire::Sharded(_) => {}
    }
    let nsp = &publication.namespace;
    let room = match (&publication.kind, publication.rooms.as_deref()) {
        (Kind::Broadcast { .. }, Some([room])) => room_channel(wire, key, nsp, room),
        _ => None,
    };
    let room = room.filter(|channel| !joins.may_be_early(channel));
    let channel = room.unwrap_or_else(|| Scope::Events.channel(key, nsp));
    let payload = write_message(own, publication).map_err(unwritten)?;
    Ok(Sent::Message(channel, payload))
}

/// Returns the channel of a room in the sharded format. Node interprets names of twenty characters
/// as ids of sockets. Such rooms have no channels unless the adapter has one for each socket.
pub(super) fn room_channel(wire: Wire, key: &str, nsp: &Nsp, room: &Room) -> Option<String> {
    // JavaScript counts UTF-16 code units.
    let is_like_id = || room.as_str().encode_utf16().count() == 20;
    let has_channel = match wire {
        Wire::Sharded(Subscriptions::Rooms) => !is_like_id(),
        Wire::Sharded(Subscriptions::RoomsAndSockets) => true,
        Wire::Classic | Wire::Sharded(Subscriptions::Namespaces) | Wire::Streams { .. } => false,
    };
    has_channel.then(|| channels::room_channel(key, nsp, room.as_str()))
}

/// Returns the channel on which a server receives envelopes from servers of this library.
pub(super) fn own_channel(key: &str, node: &NodeId) -> String {
    format!("{key}-roomcast#{node}#")
}

#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(data: &[u8]) {
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
    // The first byte is the type of an entry.
    let mut entry = streams::Read::default();
    let (kind, rest) = data.split_at(data.len().min(1));
    entry.set(b"type", kind.to_vec());
    entry.set(b"data", rest.to_vec());
    if let (Ok(kind), Ok(data)) = (entry.kind(), Data::new(entry.data.clone())) {
        let _ = data.rooms(kind);
    }
    let streamed = entry.message(&own, &Nsp::ROOT);
    for parsed in classic.into_iter().chain([sharded, streamed]) {
        if let Ok(ParsedMessage::Publication(node, publication, _)) = parsed {
            // For example, publications with invalid strings cannot be encoded again.
            let _ = classic::write("key", node.as_str(), &publication);
            let _ = write_message(node.as_str(), &publication);
            let _ = streams::write(node.as_str(), &publication);
        }
    }
}
