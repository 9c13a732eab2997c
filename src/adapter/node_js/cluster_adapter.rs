//! The message format that most of Node's adapters share: `ClusterMessage` of `socket.io-adapter`
//! 2.5. A message is `{type, data, uid, nsp}`, in JSON unless it contains binary.

use bytes::Bytes;
use roomcast_protocol::socket::{Args, Nsp, Parser};

use super::{
    Body, Opts, ParsedMessage, PeerReply, Pulse, Request, Response, Tree, body, event, first,
    flags, get, malformed, names, node, own_request, parse, request_id, request_name, request_of,
    server_event, sockets, text,
};
use crate::adapter::{
    WireError,
    envelope::{NodeId, Publication},
    operation::Kind,
};

/// The types of messages.
pub(crate) mod kind {
    /// Sent by a server that has just started. Each server that receives it responds with a
    /// heartbeat.
    pub(crate) const FIRST_HEARTBEAT: u64 = 1;
    pub(crate) const HEARTBEAT: u64 = 2;
    pub(crate) const SERVER_LEAVE: u64 = 13;
    pub(crate) const BROADCAST: u64 = 3;
    pub(super) const JOIN: u64 = 4;
    pub(super) const LEAVE: u64 = 5;
    pub(super) const DISCONNECT: u64 = 6;
    pub(super) const FETCH: u64 = 7;
    pub(super) const FETCHED: u64 = 8;
    pub(super) const SERVER_SIDE: u64 = 9;
    pub(super) const ANSWER: u64 = 10;
    pub(super) const COUNT: u64 = 11;
    pub(super) const ACK: u64 = 12;

    /// Returns whether the message acts on the sockets that its options name, and contains nothing
    /// for servers.
    #[cfg(feature = "redis")]
    pub(crate) const fn is_for_sockets(kind: u64) -> bool {
        matches!(kind, BROADCAST | JOIN | LEAVE | DISCONNECT)
    }
}

/// The parts of a message, for transports that write them separately.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The type of the message.
    pub(crate) kind: u64,
    /// The data of the message. Heartbeats and leave messages have none.
    pub(crate) data: Body,
}

/// Encodes a publication as a message.
pub(crate) fn write(own: &str, publication: &Publication) -> Result<Bytes, WireError> {
    compose(own, publication, |kind, data, parser| {
        message(kind, data, own, &publication.namespace).write(parser)
    })
}

/// Encodes a publication as the parts of a message.
pub(crate) fn write_parts(own: &str, publication: &Publication) -> Result<Parts, WireError> {
    compose(own, publication, |kind, data, parser| Parts {
        kind,
        data: Body {
            parser,
            bytes: data.write(parser),
        },
    })
}

fn compose<T>(
    own: &str,
    publication: &Publication,
    then: impl FnOnce(u64, Tree<'_>, Parser) -> T,
) -> Result<T, WireError> {
    let id = publication.request.map(|number| request_id(own, number));
    let mut parser = Parser::Json;
    let mut list = |event, args| -> Result<Tree<'_>, WireError> {
        let body = body(Some(event), args)?;
        parser = body.parser;
        Ok(Tree::Raw(body.bytes))
    };
    let mut opts = vec![
        ("rooms", Tree::texts(publication.rooms.iter().flatten())),
        ("except", Tree::texts(&publication.except)),
    ];
    let id = |data: &mut Vec<_>| data.extend(id.as_deref().map(|id| ("requestId", Tree::Text(id))));
    let mut data = Vec::new();
    let kind = match &publication.kind {
        Kind::Broadcast { event, args } | Kind::BroadcastWithAck { event, args } => {
            // 2 is the type of an EVENT packet of Socket.IO.
            let packet = vec![("type", Tree::Number(2)), ("data", list(event, args)?)];
            data.push(("packet", Tree::Map(packet)));
            id(&mut data);
            opts.push(("flags", flags(publication)));
            data.push(("opts", Tree::Map(opts)));
            kind::BROADCAST
        }
        Kind::Join(rooms) | Kind::Leave(rooms) => {
            data.push(("opts", Tree::Map(opts)));
            data.push(("rooms", Tree::texts(rooms)));
            match matches!(publication.kind, Kind::Join(_)) {
                true => kind::JOIN,
                false => kind::LEAVE,
            }
        }
        Kind::Disconnect { close } => {
            data.push(("opts", Tree::Map(opts)));
            data.push(("close", Tree::Bool(*close)));
            kind::DISCONNECT
        }
        Kind::FetchSockets => {
            data.push(("opts", Tree::Map(opts)));
            id(&mut data);
            kind::FETCH
        }
        Kind::ServerSide { event, args } | Kind::ServerSideWithAck { event, args } => {
            id(&mut data);
            data.push(("packet", list(event, args)?));
            kind::SERVER_SIDE
        }
    };
    Ok(then(kind, Tree::Map(data), parser))
}

fn message<'a>(kind: u64, data: Tree<'a>, own: &'a str, nsp: &'a Nsp) -> Tree<'a> {
    Tree::Map(vec![
        ("type", Tree::Number(kind)),
        ("data", data),
        ("uid", Tree::Text(own)),
        ("nsp", Tree::Text(nsp.as_str())),
    ])
}

/// Encodes a heartbeat or leave message of this server.
pub(crate) fn pulse(own: &str, nsp: &Nsp, pulse: Pulse) -> Bytes {
    let kind = match pulse {
        Pulse::Hello => kind::FIRST_HEARTBEAT,
        Pulse::Alive => kind::HEARTBEAT,
        Pulse::Bye => kind::SERVER_LEAVE,
    };
    let message = Tree::Map(vec![
        ("type", Tree::Number(kind)),
        ("uid", Tree::Text(own)),
        ("nsp", Tree::Text(nsp.as_str())),
    ]);
    message.write(Parser::Json)
}

/// Encodes a response to a Node server.
pub(crate) fn response(
    own: &NodeId,
    nsp: &Nsp,
    request: &Request,
    response: &Response,
) -> Result<Bytes, WireError> {
    let (kind, data, parser) = answer(request, response, None)?;
    Ok(message(kind, data, own.as_str(), nsp).write(parser))
}

/// Encodes a response to a Node server, always in MessagePack.
pub(crate) fn packed_response(
    own: &NodeId,
    nsp: &Nsp,
    request: &Request,
    response: &Response,
) -> Result<Bytes, WireError> {
    let (kind, data, parser) = answer(request, response, Some(Parser::MessagePack))?;
    Ok(message(kind, data, own.as_str(), nsp).write(parser))
}

/// Encodes a response to a Node server as the parts of a message.
pub(crate) fn response_parts(request: &Request, response: &Response) -> Result<Parts, WireError> {
    let (kind, data, parser) = answer(request, response, None)?;
    let bytes = data.write(parser);
    let data = Body { parser, bytes };
    Ok(Parts { kind, data })
}

/// Encodes a response with this parser. Without a parser it uses JSON, or MessagePack if the
/// response contains binary.
fn answer<'a>(
    request: &'a Request,
    response: &Response,
    parser: Option<Parser>,
) -> Result<(u64, Tree<'a>, Parser), WireError> {
    let (kind, name, body) = match response {
        Response::Count(count) => {
            let parser = parser.unwrap_or(Parser::Json);
            let bytes = Tree::Number(u64::from(*count)).write(parser);
            (kind::COUNT, "clientCount", Body { parser, bytes })
        }
        Response::Acknowledgement(args) => (kind::ACK, "packet", first(Some(args), parser)?),
        Response::Answer(args) => (kind::ANSWER, "packet", first(Some(args), parser)?),
        Response::Sockets(lists) => {
            let list = Args::document(Parser::Json, sockets(lists, request.ids_only)?);
            let list = list.map_err(|_| malformed("sockets"))?;
            (kind::FETCHED, "sockets", first(Some(&list), parser)?)
        }
        Response::Rooms(_) => return Err(WireError::UnknownKind),
    };
    let data = Tree::Map(vec![
        ("requestId", Tree::Text(&request.id)),
        (name, Tree::Raw(body.bytes)),
    ]);
    Ok((kind, data, body.parser))
}

/// Reads a message of this namespace. Messages of emitters may omit the namespace; then the channel
/// determines it.
pub(crate) fn read(own: &NodeId, nsp: &Nsp, payload: Bytes) -> Result<ParsedMessage, WireError> {
    let message = parse(payload)?;
    let message = message.entries(0).ok_or(malformed("message"))?;
    let uid = text(message.get("uid"));
    let is_elsewhere = text(message.get("nsp")).is_some_and(|name| name != nsp.as_str());
    if uid.as_deref() == Some(own.as_str()) || is_elsewhere {
        return Ok(ParsedMessage::Nothing);
    }
    let kind: u64 = get(message.get("type")).ok_or(malformed("type"))?;
    let pulse = match kind {
        kind::FIRST_HEARTBEAT => Some(Pulse::Hello),
        kind::HEARTBEAT => Some(Pulse::Alive),
        kind::SERVER_LEAVE => Some(Pulse::Bye),
        _ => None,
    };
    if let Some(pulse) = pulse {
        return Ok(ParsedMessage::Pulse(node(uid.as_deref())?, pulse));
    }
    read_parts(own, nsp, uid, kind, message.get("data"))
}

/// Reads a message of another server that arrived in parts.
pub(crate) fn read_parts(
    own: &NodeId,
    nsp: &Nsp,
    uid: Option<String>,
    kind: u64,
    data: Option<&Args>,
) -> Result<ParsedMessage, WireError> {
    let node = node(uid.as_deref())?;
    let data = data.and_then(|data| data.entries(0));
    let data = data.ok_or(malformed("data"))?;
    let id = request_name(data.get("requestId"))?;
    // Answers to requests of other servers also arrive here; they are ignored.
    let reply_as = |wrap: fn(Args) -> PeerReply, name| {
        let Some(number) = id.as_deref().and_then(|id| own_request(own, id)) else {
            return Ok(ParsedMessage::Nothing);
        };
        let args = data.get(name).cloned().unwrap_or_default();
        Ok(ParsedMessage::Answer(
            number,
            Some(node.clone()),
            wrap(args),
        ))
    };
    let does = match kind {
        kind::BROADCAST => {
            let packet = data.get("packet").and_then(|packet| packet.entries(0));
            let packet = packet.ok_or(malformed("packet"))?;
            let (event, args) = event(packet.get("data"))?;
            match id {
                Some(_) => Kind::BroadcastWithAck { event, args },
                None => Kind::Broadcast { event, args },
            }
        }
        kind::JOIN => Kind::Join(names(data.get("rooms"))?),
        kind::LEAVE => Kind::Leave(names(data.get("rooms"))?),
        kind::DISCONNECT => Kind::Disconnect {
            close: get(data.get("close")).unwrap_or(false),
        },
        kind::FETCH => Kind::FetchSockets,
        kind::SERVER_SIDE => {
            let (event, args) = server_event(data.get("packet"))?;
            match id {
                Some(_) => Kind::ServerSideWithAck { event, args },
                None => Kind::ServerSide { event, args },
            }
        }
        kind::FETCHED => return reply_as(PeerReply::Sockets, "sockets"),
        kind::ANSWER => return reply_as(PeerReply::Answer, "packet"),
        kind::ACK => return reply_as(PeerReply::Acknowledgement, "packet"),
        kind::COUNT => {
            let count = get(data.get("clientCount")).ok_or(malformed("clientCount"))?;
            return Ok(match id.as_deref().and_then(|id| own_request(own, id)) {
                Some(number) => ParsedMessage::Answer(number, Some(node), PeerReply::Count(count)),
                None => ParsedMessage::Nothing,
            });
        }
        _ => return Err(WireError::UnknownKind),
    };
    let is_server_side = matches!(
        does,
        Kind::ServerSide { .. } | Kind::ServerSideWithAck { .. }
    );
    let mut publication = Publication::new(nsp.clone(), does);
    // Node sends no options with events for servers, because these have no targets.
    if !is_server_side {
        Opts::read(data.get("opts"))?.apply(&mut publication);
    }
    let uid = uid.unwrap_or_default();
    Ok(ParsedMessage::with_request(node, publication, uid, id))
}

impl ParsedMessage {
    /// Creates a publication. If it has an id, it is a request.
    pub(crate) fn with_request(
        node: NodeId,
        mut publication: Publication,
        uid: String,
        id: Option<String>,
    ) -> Self {
        publication.request = id.as_deref().and_then(|id| request_of(&uid, id));
        let is_foreign = publication.request.is_none();
        let request = id.filter(|_| is_foreign).map(|id| Request {
            uid,
            id,
            ids_only: false,
        });
        Self::Publication(node, publication.into(), request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapter::wire::floats;

    fn args(parser: Parser, json: &serde_json::Value) -> Args {
        let document = match parser == Parser::MessagePack {
            true => rmp_serde::to_vec(json).unwrap().into(),
            false => json.to_string().into(),
        };
        Args::document(parser, document).unwrap().items(0).unwrap()
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[test]
    fn publications_are_written_as_node_writes_them_and_read_again() {
        let args = || args(Parser::Json, &json!([1]));
        let rooms = || vec!["c".into()];
        let opts = r#""opts":{"rooms":["a"],"except":["b"]"#;
        let id = r#""requestId":"roomcast:me:7""#;
        let event = "e";
        for (kind, number, data) in [
            (
                Kind::Broadcast {
                    event: event.into(),
                    args: args(),
                },
                3,
                format!(r#"{{"packet":{{"type":2,"data":["e",1]}},{opts},"flags":{{}}}}}}"#),
            ),
            (
                Kind::BroadcastWithAck {
                    event: event.into(),
                    args: args(),
                },
                3,
                format!(r#"{{"packet":{{"type":2,"data":["e",1]}},{id},{opts},"flags":{{}}}}}}"#),
            ),
            (
                Kind::Join(rooms()),
                4,
                format!(r#"{{{opts}}},"rooms":["c"]}}"#),
            ),
            (
                Kind::Leave(rooms()),
                5,
                format!(r#"{{{opts}}},"rooms":["c"]}}"#),
            ),
            (
                Kind::Disconnect { close: false },
                6,
                format!(r#"{{{opts}}},"close":false}}"#),
            ),
            (Kind::FetchSockets, 7, format!(r#"{{{opts}}},{id}}}"#)),
            (
                Kind::ServerSide {
                    event: event.into(),
                    args: args(),
                },
                9,
                r#"{"packet":["e",1]}"#.into(),
            ),
            (
                Kind::ServerSideWithAck {
                    event: event.into(),
                    args: args(),
                },
                9,
                format!(r#"{{{id},"packet":["e",1]}}"#),
            ),
        ] {
            let mut publication = Publication::new(Nsp::from("/n"), kind);
            publication.rooms = Some(vec!["a".into()]);
            publication.except = vec!["b".into()];
            let is_question = data.contains("requestId");
            publication.request = is_question.then_some(7);
            let message = write("me", &publication).unwrap();
            let expected = format!(r#"{{"type":{number},"data":{data},"uid":"me","nsp":"/n"}}"#);
            assert_eq!(message, expected);
            let parsed = read(&node("you"), &Nsp::from("/n"), message.clone()).unwrap();
            let ParsedMessage::Publication(from, parsed, None) = parsed else {
                panic!("{parsed:?}");
            };
            assert_eq!((from, parsed.request), (node("me"), publication.request));
            assert_eq!(
                format!("{:?}", parsed.kind),
                format!("{:?}", publication.kind)
            );
            let own = read(&node("me"), &Nsp::from("/n"), message.clone());
            assert!(matches!(own, Ok(ParsedMessage::Nothing)));
            let other = read(&node("you"), &Nsp::ROOT, message);
            assert!(matches!(other, Ok(ParsedMessage::Nothing)));
        }
    }

    #[test]
    fn binary_is_sent_in_messagepack() {
        let bytes = rmp_serde::to_vec(&("x", serde_bytes(b"\x00\xff"))).unwrap();
        let args = Args::document(Parser::MessagePack, bytes.into())
            .unwrap()
            .items(0)
            .unwrap();
        let kind = Kind::ServerSide {
            event: "e".into(),
            args,
        };
        let message = write("me", &Publication::new(Nsp::ROOT, kind)).unwrap();
        assert_eq!(message[0], 0x84);
        let parsed = read(&node("you"), &Nsp::ROOT, message).unwrap();
        let ParsedMessage::Publication(_, parsed, _) = parsed else {
            panic!("{parsed:?}");
        };
        let Kind::ServerSide { args, .. } = parsed.kind else {
            panic!("{parsed:?}");
        };
        assert_eq!(args.get::<Bytes>(1).unwrap(), &b"\x00\xff"[..]);
        let packed = args_of(&json!([1, "é"]));
        let kind = Kind::ServerSide {
            event: "e".into(),
            args: packed,
        };
        let message = write("me", &Publication::new(Nsp::ROOT, kind)).unwrap();
        assert_eq!(message[0], b'{', "without binary it is JSON");
    }

    fn args_of(json: &serde_json::Value) -> Args {
        args(Parser::MessagePack, json)
    }

    fn serde_bytes(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn requests_of_node_are_answered_under_their_names() {
        let request_json = json!({"type": 7, "data": {"opts": {"rooms": [], "except": []}, "requestId": "f00"},
                              "uid": "0123456789abcdef", "nsp": "/"});
        let parsed = read(&node("me"), &Nsp::ROOT, request_json.to_string().into()).unwrap();
        let ParsedMessage::Publication(_, publication, Some(request)) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(
            (publication.request, &*request.uid, &*request.id),
            (None, "0123456789abcdef", "f00")
        );
        let lists = [args(
            Parser::Json,
            &json!([[{"id": "i", "rooms": ["r"], "handshake": {}, "data": null}]]),
        )];
        let answer = response(
            &node("me"),
            &Nsp::ROOT,
            &request,
            &Response::Sockets(lists.to_vec()),
        )
        .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let socket = json!({"id": "i", "rooms": ["i", "r"], "handshake": {}, "data": {}});
        assert_eq!(
            answer,
            json!({"type": 8, "data": {"requestId": "f00", "sockets": [socket]}, "uid": "me", "nsp": "/"})
        );
        let request = Request {
            id: request_id("you", 3),
            ..request
        };
        for reply in [
            Response::Count(2),
            Response::Acknowledgement(args(Parser::Json, &json!(["a", "b"]))),
            Response::Answer(Args::default()),
        ] {
            let answer = response(&node("me"), &Nsp::ROOT, &request, &reply).unwrap();
            let parsed = read(&node("you"), &Nsp::ROOT, answer.clone()).unwrap();
            assert!(
                matches!(parsed, ParsedMessage::Answer(3, Some(from), _) if from == node("me"))
            );
            let parsed = read(&node("third"), &Nsp::ROOT, answer).unwrap();
            assert!(matches!(parsed, ParsedMessage::Nothing));
        }
    }

    #[test]
    fn heartbeats_equal_those_of_node() {
        for (pulse_kind, kind) in [(Pulse::Hello, 1), (Pulse::Alive, 2), (Pulse::Bye, 13)] {
            let message = pulse("me", &Nsp::ROOT, pulse_kind);
            let expected = format!(r#"{{"type":{kind},"uid":"me","nsp":"/"}}"#);
            assert_eq!(message, expected);
            let parsed = read(&node("you"), &Nsp::ROOT, message).unwrap();
            assert!(
                matches!(parsed, ParsedMessage::Pulse(from, pulse) if from == node("me") && pulse == pulse_kind)
            );
        }
    }

    #[test]
    fn message_without_namespace_has_the_namespace_of_its_channel() {
        let data = r#"{"packet":{"type":2,"data":["e"],"nsp":"/x"},"opts":{"rooms":[],"flags":{},"except":[]}}"#;
        let message = format!(r#"{{"type":3,"data":{data},"uid":"emitter"}}"#);
        let chat = Nsp::from("/x");
        let parsed = read(&node("me"), &chat, message.into()).unwrap();
        assert!(
            matches!(parsed, ParsedMessage::Publication(_, parsed, None) if parsed.namespace == chat)
        );
    }

    #[test]
    fn garbage_is_refused() {
        for message in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"type":3,"uid":"x","nsp":"/"}"#,
            r#"{"type":99,"uid":"x","nsp":"/","data":{}}"#,
            r#"{"type":3,"uid":"x","nsp":"/","data":{"packet":{"data":["connect"]},"opts":{}}}"#,
            r#"{"type":4,"uid":"x","nsp":"/","data":{"rooms":["a"]}}"#,
            r#"{"type":11,"uid":"x","nsp":"/","data":{"requestId":"roomcast:me:1"}}"#,
        ] {
            let parsed = read(&node("me"), &Nsp::ROOT, message.into());
            assert!(parsed.is_err(), "{message}: {parsed:?}");
        }
    }

    #[test]
    fn a_million_numbers_of_messages_keep_their_value() {
        floats::pass_a_million(|args| {
            let message = write("other", &floats::broadcast(args)).unwrap();
            let parsed = read(&node("you"), &Nsp::ROOT, message).unwrap();
            let ParsedMessage::Publication(_, parsed, None) = parsed else {
                panic!("{parsed:?}");
            };
            floats::broadcast_args(&parsed)
        });
    }
}
