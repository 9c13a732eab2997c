use std::time::Duration;

use serde_json::json;

use super::*;
use crate::adapter::{operation::Delivery, wire::floats};

fn hex(text: &str) -> Bytes {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len())
        .step_by(2)
        .map(digit)
        .collect::<Vec<_>>()
        .into()
}

fn args(json: &serde_json::Value) -> Args {
    let document = Args::document(Parser::Json, json.to_string().into());
    document.unwrap().items(0).unwrap()
}

fn own() -> NodeId {
    NodeId::new("own").unwrap()
}

fn route(scope: Scope) -> Route {
    let namespace = Nsp::ROOT;
    Route { namespace, scope }
}

fn broadcast(event: &str, json: &serde_json::Value) -> Publication {
    let (event, args) = (event.into(), args(json));
    Publication::new(Nsp::ROOT, Kind::Broadcast { event, args })
}

const EVENT: &str = "93a661626331323383a47479706502a46461746192a568656c6c6f01a36e7370a12f83a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380";
const OF_EMITTER: &str = "93a7656d697474657283a47479706502a46461746192a568656c6c6f01a36e7370a12f83a5726f6f6d7391a5726f6f6d31a5666c61677380a665786365707490";
const QUESTION: &str = "85a3756964a6616263313233a9726571756573744964a6646566343536a47479706507a67061636b657483a47479706502a46461746191a171a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490a5666c61677381a774696d656f757464";
const ACK: &str = "83a47479706509a9726571756573744964a6646566343536a67061636b6574a4706f6e67";

#[test]
fn an_event_is_written_byte_for_byte_as_node_writes_it() {
    let mut publication = broadcast("hello", &json!([1]));
    publication.rooms = Some(vec!["room1".into()]);
    let (channel, payload) = write("socket.io", "abc123", &publication).unwrap();
    assert_eq!(channel, "socket.io#/#room1#");
    assert_eq!(payload, hex(EVENT));
    publication.rooms = None;
    let (channel, _) = write("k", "abc123", &publication).unwrap();
    assert_eq!(channel, "k#/#");
}

#[test]
fn events_of_servers_and_of_emitters_are_read() {
    for (bytes, uid) in [(EVENT, "abc123"), (OF_EMITTER, "emitter")] {
        let parsed = read(&own(), &route(Scope::Events), hex(bytes)).unwrap();
        let ParsedMessage::Publication(node, publication, None) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(node.as_str(), uid);
        assert_eq!(publication.rooms, Some(vec!["room1".into()]));
        assert!(publication.except.is_empty() && publication.compress);
        let Kind::Broadcast { event, args } = publication.kind else {
            panic!("{publication:?}");
        };
        assert_eq!(
            (&*event, args.len(), args.get::<u8>(0).unwrap()),
            ("hello", 1, 1)
        );
    }
    let own = NodeId::new("abc123").unwrap();
    let parsed = read(&own, &route(Scope::Events), hex(EVENT));
    assert!(matches!(parsed, Ok(ParsedMessage::Nothing)), "its own");
    let other = Route {
        namespace: Nsp::from("/other"),
        scope: Scope::Events,
    };
    let parsed = read(&own, &other, hex(OF_EMITTER));
    assert!(
        matches!(parsed, Ok(ParsedMessage::Nothing)),
        "another namespace's"
    );
}

#[test]
fn request_to_clients_is_read_and_answered_byte_for_byte() {
    let parsed = read(&own(), &route(Scope::Requests), hex(QUESTION)).unwrap();
    let ParsedMessage::Publication(_, publication, Some(request)) = parsed else {
        panic!("{parsed:?}");
    };
    assert!(matches!(publication.kind, Kind::BroadcastWithAck { .. }));
    assert_eq!(publication.timeout, Some(Duration::from_millis(100)));
    assert_eq!((&*request.uid, &*request.id), ("abc123", "def456"));
    let ack = Response::Acknowledgement(args(&json!(["pong", 2])));
    assert_eq!(write_response("def456", false, &ack).unwrap(), hex(ACK));
    let count = write_response("def456", false, &Response::Count(3)).unwrap();
    assert_eq!(count, r#"{"type":8,"requestId":"def456","clientCount":3}"#);
    let answer = Response::Answer(args(&json!([{"a": 1}])));
    let answer = write_response("x", false, &answer).unwrap();
    assert_eq!(answer, r#"{"type":6,"requestId":"x","data":{"a":1}}"#);
    let rooms = Response::Rooms(vec!["a".into()]);
    assert_eq!(
        write_response("x", false, &rooms).unwrap(),
        r#"{"requestId":"x","rooms":["a"]}"#
    );
}

#[test]
fn own_request_has_the_same_bytes() {
    let (event, payload) = ("q".into(), args(&json!([])));
    let mut publication = Publication::new(
        Nsp::ROOT,
        Kind::BroadcastWithAck {
            event,
            args: payload,
        },
    );
    publication.timeout = Some(Duration::from_millis(100));
    publication.request = Some(7);
    let (channel, payload) = write("socket.io", "abc123", &publication).unwrap();
    assert_eq!(channel, "socket.io-request#/#");
    // They only differ in the id of the request.
    let name = "b1726f6f6d636173743a6162633132333a37";
    assert_eq!(payload, hex(&QUESTION.replace("a6646566343536", name)));
    let node = NodeId::new("abc123").unwrap();
    for (json, packed) in [
        (
            r#"{"type":8,"requestId":"roomcast:abc123:7","clientCount":2}"#.into(),
            None,
        ),
        (
            String::new(),
            Some(hex(&ACK.replace("a6646566343536", name))),
        ),
    ] {
        let payload = packed.unwrap_or_else(|| Bytes::from(json));
        let parsed = read(&node, &route(Scope::Responses), payload.clone()).unwrap();
        assert!(
            matches!(parsed, ParsedMessage::Answer(7, None, _)),
            "{parsed:?}"
        );
        let parsed = read(&own(), &route(Scope::Responses), payload).unwrap();
        assert!(matches!(parsed, ParsedMessage::Nothing), "{parsed:?}");
    }
}

#[test]
fn requests_are_written_as_node_writes_them() {
    let opts = r#""opts":{"rooms":["a"],"except":["b"]}"#;
    let list = || vec![Room::from("c")];
    let server_side = || Kind::ServerSide {
        event: "e".into(),
        args: args(&json!([1])),
    };
    for (kind, rest) in [
        (
            Kind::Join(list()),
            format!(r#""type":2,{opts},"rooms":["c"]}}"#),
        ),
        (
            Kind::Leave(list()),
            format!(r#""type":3,{opts},"rooms":["c"]}}"#),
        ),
        (
            Kind::Disconnect { close: true },
            format!(r#""type":4,{opts},"close":true}}"#),
        ),
        (Kind::FetchSockets, format!(r#""type":5,{opts}}}"#)),
        (server_side(), r#""type":6,"data":["e",1]}"#.to_owned()),
    ] {
        let mut publication = Publication::new(Nsp::from("/chat"), kind);
        publication.rooms = Some(vec!["a".into()]);
        publication.except = vec!["b".into()];
        let (channel, payload) = write("socket.io", "abc123", &publication).unwrap();
        assert_eq!(channel, "socket.io-request#/chat#");
        assert_eq!(payload, format!(r#"{{"uid":"abc123",{rest}"#));
        let route = Route {
            namespace: Nsp::from("/chat"),
            scope: Scope::Requests,
        };
        let parsed = read(&own(), &route, payload).map(|parsed| format!("{parsed:?}"));
        assert_eq!(
            parsed.is_ok(),
            !rest.contains(r#""type":5"#),
            "a question has an id: {parsed:?}"
        );
    }
}

use crate::names::Room;

#[test]
fn delivery_mode_is_sent_to_servers_of_this_library() {
    for delivery in [
        Delivery::Reliable,
        Delivery::Volatile,
        Delivery::Newest("key".into()),
        Delivery::Last("stream".into(), 3),
    ] {
        let mut publication = broadcast("e", &json!([]));
        publication.delivery = delivery.clone();
        publication.compress = false;
        let (_, payload) = write("k", "a", &publication).unwrap();
        let parsed = read(&own(), &route(Scope::Events), payload).unwrap();
        let ParsedMessage::Publication(_, parsed, _) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!((parsed.delivery, parsed.compress), (delivery, false));
    }
}

#[test]
fn rooms_may_be_numbers_and_undefined_counts_as_missing() {
    let message =
        json!(["x", {"type": 2, "data": [7, "a"]}, {"rooms": [1, "b", 2.5], "flags": null}]);
    let payload = rmp_serde::to_vec(&message).unwrap();
    let parsed = read(&own(), &route(Scope::Events), payload.into()).unwrap();
    let ParsedMessage::Publication(_, publication, _) = parsed else {
        panic!("{parsed:?}");
    };
    assert_eq!(
        publication.rooms,
        Some(["1", "b", "2.5"].map(Room::from).to_vec())
    );
    assert!(matches!(publication.kind, Kind::Broadcast { event, .. } if &*event == "7"));
}

#[test]
fn garbage_is_refused() {
    let packed = |json: serde_json::Value| Bytes::from(rmp_serde::to_vec(&json).unwrap());
    let opts = json!({"rooms": []});
    for payload in [
        Bytes::new(),
        Bytes::from_static(b"\xc1"),
        Bytes::from_static(b"\xdf\xff\xff\xff\xff"),
        packed(json!([])),
        packed(json!(["x", 1, {}])),
        packed(json!(["x", {"type": 2, "data": "no list"}, opts])),
        packed(json!(["x", {"type": 2, "data": []}, opts])),
        packed(json!(["x", {"type": 3, "data": ["e"]}, opts])),
        packed(json!(["x", {"type": 2, "data": ["disconnect"]}, opts])),
        packed(json!(["x", {"type": 2, "data": ["e"]}, {"rooms": 1}])),
        packed(json!(["x", {"type": 2, "data": ["e"]}])),
        packed(json!(["", {"type": 2, "data": ["e"]}, opts])),
        packed(json!(["x".repeat(65), {"type": 2, "data": ["e"]}, opts])),
    ] {
        let parsed = read(&own(), &route(Scope::Events), payload.clone());
        assert!(parsed.is_err(), "{payload:?}: {parsed:?}");
    }
    for payload in [
        "{",
        "{}",
        r#"{"type":99,"uid":"x"}"#,
        r#"{"type":1}"#,
        r#"{"type":2,"rooms":["a"]}"#,
        r#"{"type":6,"data":{}}"#,
        r#"{"type":7,"requestId":"x","packet":{"data":["e"]}}"#,
        r#"{"type":5,"opts":{}}"#,
        &format!(
            r#"{{"type":0,"uid":"x","rooms":[],"requestId":"{}"}}"#,
            "x".repeat(257)
        ),
    ] {
        let parsed = read(&own(), &route(Scope::Requests), payload.to_owned().into());
        assert!(parsed.is_err(), "{payload}: {parsed:?}");
    }
    for payload in [
        "{",
        "{}",
        r#"{"requestId":"roomcast:own:1"}"#,
        r#"{"requestId":"roomcast:own:1","type":8}"#,
    ] {
        let parsed = read(&own(), &route(Scope::Responses), payload.into());
        assert!(parsed.is_err(), "{payload}: {parsed:?}");
    }
    let foreign_answer = r#"{"requestId":"roomcast:else:1","type":8,"clientCount":1}"#;
    assert!(matches!(
        read(&own(), &route(Scope::Responses), foreign_answer.into()),
        Ok(ParsedMessage::Nothing)
    ));
}

#[test]
fn a_million_numbers_of_events_keep_their_value() {
    floats::pass_a_million(|args| {
        let (_, payload) = write("socket.io", "other", &floats::broadcast(args)).unwrap();
        let parsed = read(&own(), &route(Scope::Events), payload).unwrap();
        let ParsedMessage::Publication(_, parsed, None) = parsed else {
            panic!("{parsed:?}");
        };
        floats::broadcast_args(&parsed)
    });
}

#[test]
fn a_million_numbers_of_acknowledgements_keep_their_value() {
    floats::pass_a_million(|args| {
        let response = Response::Acknowledgement(args);
        let payload = write_response("roomcast:own:1", false, &response).unwrap();
        let parsed = read(&own(), &route(Scope::Responses), payload).unwrap();
        let ParsedMessage::Answer(1, None, PeerReply::Acknowledgement(args)) = parsed else {
            panic!("{parsed:?}");
        };
        args
    });
}
