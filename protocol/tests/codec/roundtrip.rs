//! Encoded values are decoded to the same values.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_protocol::{
    DecodeError, Frame, SessionId, Sid, Tag,
    engine::{Message, Open, Packet, Probe, Transport, payload},
    socket::{Decoder, Kind, Limits, Value as Shown, encode},
    websocket::{self, Event, Role},
};
use serde::Serialize;
use serde_json::Value;

use super::socket::{decode_all, decode_frame};

fn engine_packet() -> impl Strategy<Value = Packet> {
    // The separator cannot be part of a packet in a payload.
    let text = "[^\u{1e}]{0,40}".prop_map(|text| Message::Text(text.into()));
    let binary = any::<Vec<u8>>().prop_map(|data| Message::Binary(data.into()));
    prop_oneof![
        open().prop_map(Packet::Open),
        Just(Packet::Close),
        probe().prop_map(Packet::Ping),
        probe().prop_map(Packet::Pong),
        prop_oneof![text, binary].prop_map(Packet::Message),
        Just(Packet::Upgrade),
        Just(Packet::Noop),
    ]
}

fn probe() -> impl Strategy<Value = Probe> {
    prop::sample::select(vec![Probe::None, Probe::Probe])
}

fn open() -> impl Strategy<Value = Open> {
    let transports =
        prop::sample::subsequence(vec![Transport::Polling, Transport::WebSocket], 0..=2);
    (
        any::<([u8; 15], Option<[u8; 6]>)>(),
        transports,
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
    )
        .prop_map(
            |((sid, tag), upgrades, interval, timeout, max_payload)| Open {
                sid: SessionId {
                    sid: Sid::from_random(sid),
                    tag: tag.map(Tag::from_random),
                },
                upgrades,
                ping_interval: Duration::from_millis(interval.into()),
                ping_timeout: Duration::from_millis(timeout.into()),
                max_payload,
            },
        )
}

/// JSON that contains attachments.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(Value),
    Binary(Bytes),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Serialize for Tree {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(value) => value.serialize(serializer),
            Self::Binary(data) => serializer.serialize_bytes(data),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(items) => serializer.collect_map(items.iter().map(|(k, v)| (k, v))),
        }
    }
}

impl Tree {
    /// Returns the value as a decoder presents it, and adds its attachments to `attachments`.
    fn shown(&self, attachments: &mut Vec<Bytes>) -> Shown {
        match self {
            Self::Leaf(value) => value.clone().into(),
            Self::Binary(data) => {
                attachments.push(data.clone());
                data.clone().into()
            }
            Self::Array(items) => {
                Shown::Array(items.iter().map(|item| item.shown(attachments)).collect())
            }
            Self::Object(items) => {
                let entry = |(key, item): &(String, Self)| (key.clone(), item.shown(attachments));
                Shown::Object(items.iter().map(entry).collect())
            }
        }
    }

    fn binaries(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Binary(_) => 1,
            Self::Array(items) => items.iter().map(Self::binaries).sum(),
            Self::Object(items) => items.iter().map(|(_, item)| item.binaries()).sum(),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Value::Null).prop_map(Tree::Leaf),
        any::<bool>().prop_map(|v| Tree::Leaf(v.into())),
        any::<i64>().prop_map(|v| Tree::Leaf(v.into())),
        any::<u64>().prop_map(|v| Tree::Leaf(v.into())),
        any::<String>().prop_map(|v| Tree::Leaf(v.into())),
        any::<Vec<u8>>().prop_map(|v| Tree::Binary(v.into())),
    ];
    leaf.prop_recursive(4, 16, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::Array),
            prop::collection::btree_map("[a-z\"\\\\é]{0,6}", inner, 0..5)
                .prop_map(|map| Tree::Object(map.into_iter().collect())),
        ]
    })
}

fn args() -> impl Strategy<Value = Vec<Tree>> {
    prop::collection::vec(tree(), 0..7).prop_filter("at most ten attachments", |args| {
        args.iter().map(Tree::binaries).sum::<usize>() <= encode::MAX_ATTACHMENTS
    })
}

/// Several arguments.
struct Several<'a>(&'a [Tree]);

impl Serialize for Several<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for arg in self.0 {
            tuple.serialize_element(arg)?;
        }
        tuple.end()
    }
}

fn nsp() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[^,]{1,20}"]
}

/// Returns the messages in the WebSocket bytes of a frame, as a client decodes them.
fn by_websocket(frame: &Frame) -> Vec<Message> {
    let limits = websocket::Limits {
        max_message: 1 << 20,
        max_fragments: 1,
    };
    let mut decoder = websocket::Decoder::new(Role::Client, limits);
    let mut input = &frame.websocket()[..];
    let mut messages = Vec::new();
    while let Some(event) = decoder.decode(&mut input).expect("valid frames") {
        messages.push(match event {
            Event::Text(text) => match Packet::decode_text(text) {
                Ok(Packet::Message(message)) => message,
                other => panic!("{other:?}"),
            },
            Event::Binary(data) => Message::Binary(data),
            other @ (Event::Ping(_) | Event::Pong(_) | Event::Close(_)) => panic!("{other:?}"),
        });
    }
    assert!(decoder.is_idle());
    messages
}

proptest! {
    #[test]
    fn engine_packets(packet in engine_packet()) {
        let mut out = Vec::new();
        packet.encode(&mut out);
        let mut again = payload::decode(out.clone().into());
        prop_assert_eq!(again.next(), Some(Ok(packet.clone())));
        prop_assert_eq!(again.next(), None);
        prop_assert_eq!(Frame::packet(&packet).polling(), out);
    }

    #[test]
    fn payloads(packets in prop::collection::vec(engine_packet(), 1..10)) {
        let mut out = Vec::new();
        payload::encode(&packets, &mut out);
        let again: Result<Vec<_>, _> = payload::decode(out.into()).collect();
        prop_assert_eq!(again, Ok(packets));
    }

    #[test]
    fn events_on_both_transports(
        nsp in nsp(),
        id in any::<Option<u64>>(),
        name in any::<String>(),
        args in args(),
    ) {
        prop_assume!(!roomcast_protocol::socket::RESERVED_EVENTS.contains(&&*name));
        let frame = encode::event(&nsp, id, &name, &Several(&args)).unwrap();
        let mut attachments = Vec::new();
        let values: Vec<_> = args.iter().map(|arg| arg.shown(&mut attachments)).collect();
        let polled = !nsp.contains('\u{1e}') && !frame.polling().is_empty();
        let packets = [Some(decode_all(&by_websocket(&frame))), polled.then(|| decode_frame(&frame))];
        for packet in packets.into_iter().flatten() {
            let packet = packet.unwrap();
            prop_assert_eq!(packet.kind, Kind::Event);
            prop_assert_eq!(packet.nsp.as_str(), &nsp);
            prop_assert_eq!(packet.id, id);
            prop_assert_eq!(packet.event_name(), &name);
            prop_assert_eq!(packet.args.to_values().unwrap(), values.clone());
            prop_assert_eq!(packet.args.attachments(), &attachments);
            let passed_on = encode::event(&nsp, id, &name, &packet.args).unwrap();
            prop_assert_eq!(passed_on.websocket(), frame.websocket());
        }
    }

    #[test]
    fn acks_and_their_tails(id in any::<u64>(), args in args(), skip in 0_usize..8) {
        let frame = encode::ack("/", id, &Several(&args)).unwrap();
        let packet = decode_frame(&frame).unwrap();
        prop_assert_eq!((packet.kind, packet.id), (Kind::Ack, Some(id)));
        let tail = encode::ack("/", id, &packet.args.skip(skip)).unwrap();
        let expected = encode::ack("/", id, &Several(args.get(skip..).unwrap_or_default())).unwrap();
        let (tail, expected) = (decode_frame(&tail).unwrap(), decode_frame(&expected).unwrap());
        prop_assert_eq!(tail.args.to_values().unwrap(), expected.args.to_values().unwrap());
        prop_assert_eq!(tail.args.attachments(), expected.args.attachments());
    }

    #[test]
    fn any_text_is_a_packet_or_an_error(text in any::<String>(), kind in 0_u8..8, binary in any::<Vec<u8>>()) {
        let mut decoder = Decoder::new(Limits::default());
        let result = decoder.text(format!("{kind}{text}").into());
        if let Ok(Some(packet)) = &result {
            prop_assert_eq!(packet.args.iter().count(), packet.args.len());
        }
        prop_assert_eq!(decoder.is_waiting(), matches!(result, Ok(None)));
        if result.is_ok() && !decoder.is_waiting() {
            let error = decoder.binary(binary.into()).unwrap_err();
            prop_assert_eq!(error, DecodeError::UnexpectedBinary);
        }
    }

    #[test]
    fn any_payload_is_packets_and_at_most_one_error(body in any::<Vec<u8>>()) {
        let results: Vec<_> = payload::decode(body.into()).collect();
        let errors = results.iter().filter(|result| result.is_err()).count();
        prop_assert!(errors <= 1);
        prop_assert!(errors == 0 || results.last().unwrap().is_err());
    }
}
