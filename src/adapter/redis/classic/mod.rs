//! The wire format of `@socket.io/redis-adapter` 8 and `@socket.io/redis-emitter` 5 on ordinary
//! channels.
//!
//! Encodes publications and responses, and decodes the messages of a channel. `shared` calls these
//! functions for the classic wire format. This module must not depend on a connection, a clock or
//! the subscribed channels. A message is decoded completely or rejected with a [`WireError`].

use bytes::Bytes;
use roomcast_protocol::socket::{Args, Nsp, Parser};

use super::channels::{Route, Scope, room_channel};
use crate::adapter::{
    WireError,
    envelope::{NodeId, Publication},
    node_js::{
        Opts, ParsedMessage, PeerReply, Request, Response, Tree, body, event, first, flags, get,
        malformed, names, node, own_request, packed, parse, request_id, request_name, server_event,
        sockets, text,
    },
    operation::Kind,
};

/// The types of requests, and of some responses.
mod kind {
    pub(super) const SOCKETS: u64 = 0;
    pub(super) const ALL_ROOMS: u64 = 1;
    pub(super) const JOIN: u64 = 2;
    pub(super) const LEAVE: u64 = 3;
    pub(super) const DISCONNECT: u64 = 4;
    pub(super) const FETCH: u64 = 5;
    pub(super) const SERVER_SIDE: u64 = 6;
    pub(super) const BROADCAST: u64 = 7;
    pub(super) const COUNT: u64 = 8;
    pub(super) const ACK: u64 = 9;
}

/// Encodes a publication and selects its channel.
pub(crate) fn write(
    key: &str,
    own: &str,
    publication: &Publication,
) -> Result<(String, Bytes), WireError> {
    let nsp = &publication.namespace;
    let id = publication.request.map(|number| request_id(own, number));
    let id = id.as_deref();
    let rooms = Tree::texts(publication.rooms.iter().flatten());
    let except = Tree::texts(&publication.except);
    let opts = vec![("rooms", rooms), ("except", except)];
    let request_channel = || Scope::Requests.channel(key, nsp);
    let (kind, rest) = match &publication.kind {
        Kind::Broadcast { event, args } => {
            let mut opts = opts;
            opts.push(("flags", flags(publication)));
            let parts = vec![Tree::Text(own), packet(nsp, event, args)?, Tree::Map(opts)];
            // Node's adapter also has one channel per room, and subscribes to all channels of a
            // namespace with a pattern.
            let channel = match publication.rooms.as_deref() {
                Some([room]) => room_channel(key, nsp, room.as_str()),
                Some(_) | None => Scope::Events.channel(key, nsp),
            };
            return Ok((channel, Tree::List(parts).write(Parser::MessagePack)));
        }
        Kind::BroadcastWithAck { event, args } => {
            let mut opts = opts;
            opts.push(("flags", flags(publication)));
            let packet = packet(nsp, event, args)?;
            let rest = vec![("packet", packet), ("opts", Tree::Map(opts))];
            let message = request(own, id, kind::BROADCAST, rest);
            return Ok((request_channel(), message.write(Parser::MessagePack)));
        }
        Kind::Join(rooms) => {
            let rest = vec![("opts", Tree::Map(opts)), ("rooms", Tree::texts(rooms))];
            (kind::JOIN, rest)
        }
        Kind::Leave(rooms) => {
            let rest = vec![("opts", Tree::Map(opts)), ("rooms", Tree::texts(rooms))];
            (kind::LEAVE, rest)
        }
        Kind::Disconnect { close } => {
            let rest = vec![("opts", Tree::Map(opts)), ("close", Tree::Bool(*close))];
            (kind::DISCONNECT, rest)
        }
        Kind::FetchSockets => (kind::FETCH, vec![("opts", Tree::Map(opts))]),
        Kind::ServerSide { event, args } | Kind::ServerSideWithAck { event, args } => {
            // Node's adapter parses a request that begins with a brace as JSON, and all other
            // requests as MessagePack.
            let list = body(Some(event), args)?;
            let rest = vec![("data", Tree::Raw(list.bytes))];
            let message = request(own, id, kind::SERVER_SIDE, rest);
            return Ok((request_channel(), message.write(list.parser)));
        }
    };
    Ok((
        request_channel(),
        request(own, id, kind, rest).write(Parser::Json),
    ))
}

fn packet<'a>(nsp: &'a Nsp, event: &str, args: &Args) -> Result<Tree<'a>, WireError> {
    Ok(Tree::Map(vec![
        ("type", Tree::Number(2)),
        ("data", Tree::Raw(packed(Some(event), args)?.bytes)),
        ("nsp", Tree::Text(nsp.as_str())),
    ]))
}

fn request<'a>(
    own: &'a str,
    id: Option<&'a str>,
    kind: u64,
    rest: Vec<(&'static str, Tree<'a>)>,
) -> Tree<'a> {
    let mut message = vec![("uid", Tree::Text(own))];
    message.extend(id.map(|id| ("requestId", Tree::Text(id))));
    message.push(("type", Tree::Number(kind)));
    message.extend(rest);
    Tree::Map(message)
}

/// Encodes a response to a Node server.
pub(crate) fn write_response(
    id: &str,
    ids_only: bool,
    response: &Response,
) -> Result<Bytes, WireError> {
    let id = ("requestId", Tree::Text(id));
    let (parser, message) = match response {
        Response::Count(count) => {
            let count = ("clientCount", Tree::Number(u64::from(*count)));
            (
                Parser::Json,
                vec![("type", Tree::Number(kind::COUNT)), id, count],
            )
        }
        Response::Acknowledgement(args) => {
            // Node's adapter always encodes acknowledgements in MessagePack, because they may
            // contain binary.
            let packet = first(Some(args), Some(Parser::MessagePack))?.bytes;
            let packet = ("packet", Tree::Raw(packet));
            (
                Parser::MessagePack,
                vec![("type", Tree::Number(kind::ACK)), id, packet],
            )
        }
        Response::Answer(args) => {
            let answer = first(Some(args), None)?;
            let data = ("data", Tree::Raw(answer.bytes));
            (
                answer.parser,
                vec![("type", Tree::Number(kind::SERVER_SIDE)), id, data],
            )
        }
        Response::Sockets(lists) => (
            Parser::Json,
            vec![id, ("sockets", Tree::Raw(sockets(lists, ids_only)?))],
        ),
        Response::Rooms(rooms) => (Parser::Json, vec![id, ("rooms", Tree::texts(rooms))]),
    };
    Ok(Tree::Map(message).write(parser))
}

/// Decodes a message on a channel.
pub(crate) fn read(
    own: &NodeId,
    route: &Route,
    payload: Bytes,
) -> Result<ParsedMessage, WireError> {
    match route.scope {
        Scope::Events => read_event(own, &route.namespace, payload),
        Scope::Requests => read_request(own, &route.namespace, payload),
        Scope::Responses | Scope::OwnResponses => read_response(own, payload),
    }
}

fn read_event(own: &NodeId, nsp: &Nsp, payload: Bytes) -> Result<ParsedMessage, WireError> {
    if payload.len() > crate::adapter::Envelope::MAX_BYTES {
        return Err(WireError::TooLarge);
    }
    let message = Args::document(Parser::MessagePack, payload).ok();
    let parts = message
        .and_then(|message| message.items(0))
        .ok_or(malformed("message"))?;
    let uid = parts
        .get::<Option<String>>(0)
        .map_err(|_| malformed("uid"))?;
    if uid.as_deref() == Some(own.as_str()) {
        return Ok(ParsedMessage::Nothing);
    }
    let packet = parts.entries(1).ok_or(malformed("packet"))?;
    let Some(does) = of_packet(nsp, &packet)? else {
        return Ok(ParsedMessage::Nothing);
    };
    let (event, args) = does;
    let mut publication = Publication::new(nsp.clone(), Kind::Broadcast { event, args });
    Opts::read(Some(&parts.skip(2)))?.apply(&mut publication);
    Ok(ParsedMessage::Publication(
        node(uid.as_deref())?,
        publication.into(),
        None,
    ))
}

type Entries = std::collections::HashMap<String, Args>;

/// Decodes the event of a packet. Returns `None` if it is for another namespace.
fn of_packet(
    nsp: &Nsp,
    packet: &Entries,
) -> Result<Option<(std::sync::Arc<str>, Args)>, WireError> {
    let name = text(packet.get("nsp"));
    // Node's adapter also interprets a missing namespace as `/`. A pattern also matches the
    // channels of a namespace whose name continues after a number sign, so the name in the packet
    // decides.
    if name.as_deref().unwrap_or("/") != nsp.as_str() {
        return Ok(None);
    }
    if get::<u64>(packet.get("type")) != Some(2) {
        return Err(malformed("type"));
    }
    event(packet.get("data")).map(Some)
}

fn read_request(own: &NodeId, nsp: &Nsp, payload: Bytes) -> Result<ParsedMessage, WireError> {
    let request = parse(payload)?.entries(0).ok_or(malformed("request"))?;
    let uid = text(request.get("uid"));
    let id = request_name(request.get("requestId"))?;
    if uid.as_deref() == Some(own.as_str()) {
        return Ok(ParsedMessage::Nothing);
    }
    let node = node(uid.as_deref())?;
    let uid = uid.unwrap_or_default();
    let id_or_error = || id.clone().ok_or(malformed("requestId"));
    let kind = get(request.get("type")).ok_or(malformed("type"))?;
    let does = match kind {
        kind::ALL_ROOMS => {
            let (id, ids_only) = (id_or_error()?, false);
            return Ok(ParsedMessage::Rooms(Request { uid, id, ids_only }));
        }
        kind::SOCKETS => {
            let rooms = names(request.get("rooms"))?;
            let mut publication = Publication::new(nsp.clone(), Kind::FetchSockets);
            publication.rooms = Some(rooms).filter(|rooms| !rooms.is_empty());
            let (id, ids_only) = (id_or_error()?, true);
            let request = Request { uid, id, ids_only };
            return Ok(ParsedMessage::Publication(
                node,
                publication.into(),
                Some(request),
            ));
        }
        kind::JOIN => Kind::Join(names(request.get("rooms"))?),
        kind::LEAVE => Kind::Leave(names(request.get("rooms"))?),
        kind::DISCONNECT => Kind::Disconnect {
            close: get(request.get("close")).unwrap_or(false),
        },
        kind::FETCH => {
            id_or_error()?;
            Kind::FetchSockets
        }
        kind::SERVER_SIDE => {
            let (event, args) = server_event(request.get("data"))?;
            let kind = match id {
                Some(_) => Kind::ServerSideWithAck { event, args },
                None => Kind::ServerSide { event, args },
            };
            return Ok(ParsedMessage::with_request(
                node,
                Publication::new(nsp.clone(), kind),
                uid,
                id,
            ));
        }
        kind::BROADCAST => {
            id_or_error()?;
            let packet = request.get("packet").and_then(|packet| packet.entries(0));
            let Some((event, args)) = of_packet(nsp, &packet.ok_or(malformed("packet"))?)? else {
                return Ok(ParsedMessage::Nothing);
            };
            Kind::BroadcastWithAck { event, args }
        }
        _ => return Err(WireError::UnknownKind),
    };
    let is_question = matches!(does, Kind::FetchSockets | Kind::BroadcastWithAck { .. });
    let mut publication = Publication::new(nsp.clone(), does);
    Opts::read(request.get("opts"))?.apply(&mut publication);
    Ok(ParsedMessage::with_request(
        node,
        publication,
        uid,
        id.filter(|_| is_question),
    ))
}

fn read_response(own: &NodeId, payload: Bytes) -> Result<ParsedMessage, WireError> {
    let response = parse(payload)?.entries(0).ok_or(malformed("response"))?;
    let id = request_name(response.get("requestId"))?.ok_or(malformed("requestId"))?;
    // The common channel also contains answers to requests of other servers.
    let Some(number) = own_request(own, &id) else {
        return Ok(ParsedMessage::Nothing);
    };
    let value = |name| response.get(name).cloned().unwrap_or_default();
    let reply = match get(response.get("type")) {
        Some(kind::COUNT) => {
            let count = get(response.get("clientCount"));
            PeerReply::Count(count.ok_or(malformed("clientCount"))?)
        }
        Some(kind::ACK) => PeerReply::Acknowledgement(value("packet")),
        Some(kind::SERVER_SIDE) => PeerReply::Answer(value("data")),
        None if response.contains_key("sockets") => PeerReply::Sockets(value("sockets")),
        Some(_) | None => return Err(WireError::UnknownKind),
    };
    Ok(ParsedMessage::Answer(number, None, reply))
}

#[cfg(test)]
mod tests;
