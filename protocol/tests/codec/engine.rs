//! Engine.IO packets and polling payloads.

use std::time::Duration;

use bytes::Bytes;
use roomcast_protocol::{
    DecodeError, Sid,
    engine::{Message, Open, Packet, Probe, Transport, payload},
};

fn decode(text: &'static str) -> Result<Packet, DecodeError> {
    Packet::decode_text(Bytes::from_static(text.as_bytes()))
}

fn encode(packet: &Packet) -> String {
    let mut out = Vec::new();
    packet.encode(&mut out);
    String::from_utf8(out).unwrap()
}

fn decode_payload(body: &'static [u8]) -> Vec<Result<Packet, DecodeError>> {
    payload::decode(Bytes::from_static(body)).collect()
}

fn text(text: &'static str) -> Packet {
    Packet::Message(Message::Text(Bytes::from_static(text.as_bytes())))
}

fn binary(data: &'static [u8]) -> Packet {
    Packet::Message(Message::Binary(Bytes::from_static(data)))
}

#[test]
fn every_packet_has_its_official_text() {
    let open = Packet::Open(Open {
        sid: Sid::parse("lv_VI97HAXpY6yYWAAAC").unwrap().into(),
        upgrades: vec![Transport::WebSocket],
        ping_interval: Duration::from_millis(25_000),
        ping_timeout: Duration::from_millis(20_000),
        max_payload: 1_000_000,
    });
    let open_text = "0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[\"websocket\"],\
                     \"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
    for (packet, text) in [
        (open, open_text),
        (Packet::Close, "1"),
        (Packet::Ping(Probe::None), "2"),
        (Packet::Ping(Probe::Probe), "2probe"),
        (Packet::Pong(Probe::None), "3"),
        (Packet::Pong(Probe::Probe), "3probe"),
        (text("hello"), "4hello"),
        (text(""), "4"),
        (text("€"), "4€"),
        (Packet::Upgrade, "5"),
        (Packet::Noop, "6"),
    ] {
        assert_eq!(encode(&packet), text);
        assert_eq!(decode(text), Ok(packet));
    }
}

#[test]
fn session_without_upgrades_announces_none() {
    let open = Packet::Open(Open {
        sid: Sid::from_random([0; 15]).into(),
        upgrades: Vec::new(),
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
    });
    assert_eq!(
        encode(&open),
        "0{\"sid\":\"AAAAAAAAAAAAAAAAAAAA\",\"upgrades\":[],\"pingInterval\":300,\
         \"pingTimeout\":200,\"maxPayload\":1000000}"
    );
}

#[test]
fn data_of_packets_that_have_none_is_ignored() {
    assert_eq!(decode("1x"), Ok(Packet::Close));
    assert_eq!(decode("2x"), Ok(Packet::Ping(Probe::None)));
    assert_eq!(decode("2probex"), Ok(Packet::Ping(Probe::None)));
    assert_eq!(decode("3x"), Ok(Packet::Pong(Probe::None)));
    assert_eq!(decode("5x"), Ok(Packet::Upgrade));
    assert_eq!(decode("6x"), Ok(Packet::Noop));
}

#[test]
fn a_binary_frame_is_a_message() {
    assert_eq!(
        Packet::decode_binary(Bytes::from_static(b"4\xff")),
        binary(b"4\xff")
    );
    assert_eq!(Packet::decode_binary(Bytes::new()), binary(b""));
}

#[test]
fn a_message_shares_the_bytes_of_its_frame() {
    let frame = Bytes::from(b"4hello".to_vec());
    let Ok(Packet::Message(Message::Text(text))) = Packet::decode_text(frame.clone()) else {
        panic!("not a message");
    };
    assert_eq!(text.as_ptr(), frame[1..].as_ptr());
}

#[test]
fn a_payload_is_packets_joined_by_the_record_separator() {
    assert_eq!(decode_payload(b"4hello"), [Ok(text("hello"))]);
    assert_eq!(
        decode_payload(b"4test1\x1e4test2\x1e4test3"),
        [Ok(text("test1")), Ok(text("test2")), Ok(text("test3"))]
    );
    assert_eq!(
        decode_payload(b"4hello\x1ebAQIDBA=="),
        [Ok(text("hello")), Ok(binary(&[1, 2, 3, 4]))]
    );
    let mut out = Vec::new();
    payload::encode(
        &[text("hello"), binary(&[1, 2, 3, 4]), Packet::Noop],
        &mut out,
    );
    assert_eq!(out, b"4hello\x1ebAQIDBA==\x1e6");
}

#[test]
fn base64_is_read_with_and_without_padding() {
    assert_eq!(decode_payload(b"bAQ=="), [Ok(binary(&[1]))]);
    assert_eq!(decode_payload(b"bAQ"), [Ok(binary(&[1]))]);
    assert_eq!(decode_payload(b"b+/+/"), [Ok(binary(&[0xfb, 0xff, 0xbf]))]);
}

#[test]
fn empty_binary_message_is_the_letter_alone() {
    assert_eq!(encode(&binary(b"")), "b");
    assert_eq!(decode_payload(b"b"), [Ok(binary(b""))]);
}

#[test]
fn a11_bodies_that_are_no_payload_end_in_an_error() {
    use DecodeError::{EmptyPacket, InvalidUtf8, UnknownPacket};
    assert_eq!(decode_payload(b"abc"), [Err(UnknownPacket)]);
    assert_eq!(decode_payload(b""), [Err(EmptyPacket)]);
    assert_eq!(decode_payload(b"\xff\xfe"), [Err(InvalidUtf8)]);
    assert_eq!(
        decode_payload(b"4hello\x1e"),
        [Ok(text("hello")), Err(EmptyPacket)]
    );
    assert_eq!(decode_payload(b"\x1e\x1e"), [Err(EmptyPacket)]);
    assert_eq!(
        decode_payload(b"4a\x1e4\xc3\x1e\xa9"),
        [Ok(text("a")), Err(InvalidUtf8)]
    );
    assert_eq!(decode_payload(b"6:4hello"), [Ok(Packet::Noop)]);
}

#[test]
fn a12_reading_stops_at_the_first_error() {
    let mut packets = payload::decode(vec![payload::SEPARATOR; 1_000_000].into());
    assert_eq!(packets.next(), Some(Err(DecodeError::EmptyPacket)));
    assert_eq!(packets.next(), None);
    assert_eq!(packets.next(), None);
}

#[test]
fn a12_a_caller_may_stop_at_its_quota() {
    let mut packets = payload::decode(b"6\x1e".repeat(500_000).into());
    assert_eq!(
        packets
            .by_ref()
            .take(100)
            .filter(|packet| *packet == Ok(Packet::Noop))
            .count(),
        100
    );
}

#[test]
fn a13_base64_that_does_not_decode_is_refused() {
    for body in [
        &b"b!!!!"[..],
        b"bA",
        b"b====",
        b"b=",
        b"bAAA=A",
        b"bAR==",
        b"bAQ===",
        b"bAQID BA",
        b"b_-_-",
        b"b\xff\xff\xff\xff",
        b"bAQID\n",
    ] {
        assert_eq!(
            decode_payload(body),
            [Err(DecodeError::InvalidBase64)],
            "{body:?}"
        );
    }
}

#[test]
fn a13_base64_that_begins_with_a_four_is_no_text() {
    assert_eq!(decode_payload(b"b4OHi"), [Ok(binary(&[0xe0, 0xe1, 0xe2]))]);
}

#[test]
fn a14_unknown_types_are_refused_and_client_open_is_ignored() {
    for text in ["7", "9", "a", " ", "\0", "é", "-1", "x4hello"] {
        assert_eq!(decode(text), Err(DecodeError::UnknownPacket), "{text:?}");
    }
    assert_eq!(decode(""), Err(DecodeError::EmptyPacket));
    for text in ["0", "0{}", "0[", "0{\"sid\":\"__proto__\"}"] {
        assert_eq!(decode(text), Ok(Packet::Noop), "{text:?}");
    }
}

#[test]
fn d15_base64_is_for_polling_only() {
    assert_eq!(decode("bAQID"), Err(DecodeError::UnknownPacket));
}
