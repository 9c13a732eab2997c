//! Engine.IO v3: packets, the two forms of polling payloads, encodings of frames, and the session.

use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_protocol::{
    DecodeError, Frame,
    engine::{
        Action, CloseReason, Message, Packet, Probe, Revision, Session, Source, Transport,
        v3::{self, Payload},
    },
    socket::encode,
};

use super::session::{CONFIG, start};

type Decoded = Vec<Result<Packet, DecodeError>>;

fn from_text(body: &str) -> Decoded {
    v3::decode_text(Bytes::copy_from_slice(body.as_bytes())).collect()
}

fn from_binary(body: &[u8]) -> Decoded {
    v3::decode_binary(Bytes::copy_from_slice(body)).collect()
}

fn text(text: &'static str) -> Packet {
    Packet::Message(Message::Text(Bytes::from_static(text.as_bytes())))
}

fn binary(data: &'static [u8]) -> Packet {
    Packet::Message(Message::Binary(Bytes::from_static(data)))
}

#[test]
fn text_payload_has_lengths_in_utf16_units() {
    for (body, packets) in [
        ("6:4hello", vec![text("hello")]),
        ("1:2", vec![Packet::Ping(Probe::None)]),
        ("6:2probe", vec![Packet::Ping(Probe::Probe)]),
        (
            "1:21:56:4hello",
            vec![Packet::Ping(Probe::None), Packet::Upgrade, text("hello")],
        ),
        ("2:4€", vec![text("€")]),
        ("3:4😀", vec![text("😀")]),
        ("5:4é😀a1:1", vec![text("é😀a"), Packet::Close]),
        ("6:b4AQID", vec![binary(&[1, 2, 3])]),
        ("2:b4", vec![binary(&[])]),
        // The padding of base64 may be missing.
        ("5:b4AQI6:b4AQI=", vec![binary(&[1, 2]), binary(&[1, 2])]),
    ] {
        let expected: Decoded = packets.into_iter().map(Ok).collect();
        assert_eq!(from_text(body), expected, "{body}");
    }
    assert_eq!(from_text("9:42[\"1:2\"]"), [Ok(text("2[\"1:2\"]"))]);
}

#[test]
fn each_packet_of_length_zero_becomes_a_noop() {
    assert_eq!(
        from_text("0:1:20:"),
        [
            Ok(Packet::Noop),
            Ok(Packet::Ping(Probe::None)),
            Ok(Packet::Noop)
        ]
    );
    assert_eq!(from_text(&"0:".repeat(10_000)).len(), 10_000);
}

#[test]
fn binary_payload_has_lengths_in_bytes() {
    assert_eq!(
        from_binary(b"\x00\x01\xff2"),
        [Ok(Packet::Ping(Probe::None))]
    );
    assert_eq!(from_binary(b"\x00\x04\xff4\xe2\x82\xac"), [Ok(text("€"))]);
    assert_eq!(
        from_binary(b"\x00\x06\xff4hello\x01\x04\xff\x04\x01\x02\x03\x00\x01\xff6"),
        [Ok(text("hello")), Ok(binary(&[1, 2, 3])), Ok(Packet::Noop)]
    );
    assert_eq!(from_binary(b"\x00\x06\xffb4AQID"), [Ok(binary(&[1, 2, 3]))]);
    let long = [&b"\x01\x01\x02\x03\xff\x04"[..], &[7; 122]].concat();
    assert_eq!(
        from_binary(&long),
        [Ok(Packet::Message(Message::Binary(vec![7; 122].into())))]
    );
}

#[test]
fn invalid_lengths_are_refused() {
    for body in [
        ":4",
        "4",
        "42",
        "a:4",
        "NaN:4",
        "-1:4",
        "+1:4",
        " 1:4",
        "1 :4",
        "0x1:4",
        "1e0:4",
        "1.0:4",
        "01:4",
        "00:",
        "Infinity:4",
        "١:4",
        "2:4",
        "7:4hello",
        "999999999999:4",
        "1000000000000:4",
        "18446744073709551617:4",
        "99999999999999999999999999:4",
        // The length ends between the two units of a character.
        "2:4😀",
        "4:4😀😀",
        "1:😀",
    ] {
        assert_eq!(from_text(body), [Err(DecodeError::InvalidLength)], "{body}");
    }
    let digits = |count| [&[0][..], &vec![9; count], b"\xff4"].concat();
    for body in [
        &b"\x00"[..],
        b"\x00\xff4",
        b"\x00\x01",
        b"\x00\x014",
        b"\x00\x0a\xff4",
        b"\x00\xfe\xff4",
        b"\x00\x00\x01\xff4",
        b"\x00\x02\xff4",
        b"\x01\x02\xff\x04",
        b"\x00\x01\x00\xff4",
        &digits(12),
        &digits(13),
        &digits(309),
        &digits(100_000),
    ] {
        assert_eq!(
            from_binary(body),
            [Err(DecodeError::InvalidLength)],
            "{body:?}"
        );
    }
}

#[test]
fn invalid_packets_are_refused_and_end_the_payload() {
    for (body, error) in [
        ("", DecodeError::EmptyPacket),
        ("1:7", DecodeError::UnknownPacket),
        ("1:b", DecodeError::UnknownPacket),
        ("2:b5", DecodeError::UnknownPacket),
        ("3:b4!", DecodeError::InvalidBase64),
        ("3:b4é", DecodeError::InvalidBase64),
        ("1:€", DecodeError::UnknownPacket),
    ] {
        assert_eq!(from_text(body), [Err(error)], "{body}");
        let twice = from_text(&format!("1:2{body}1:2"));
        assert_eq!(twice.last().unwrap().is_err(), !body.is_empty(), "{body}");
    }
    for (body, error) in [
        (&b""[..], DecodeError::EmptyPacket),
        (b"\x00\x00\xff", DecodeError::EmptyPacket),
        (b"\x01\x00\xff", DecodeError::EmptyPacket),
        (b"\x02\x01\xff4", DecodeError::UnknownPacket),
        (b"4\x01\xff4", DecodeError::UnknownPacket),
        // Only messages are binary.
        (b"\x01\x01\xff\x02", DecodeError::UnknownPacket),
        (b"\x01\x01\xff4", DecodeError::UnknownPacket),
        (b"\x00\x02\xff4\xff", DecodeError::InvalidUtf8),
        // A surrogate, which utf8.js encodes like this.
        (b"\x00\x04\xff4\xed\xa0\x80", DecodeError::InvalidUtf8),
    ] {
        assert_eq!(from_binary(body), [Err(error)], "{body:?}");
    }
    let body = Bytes::from_static(b"1:21:4\xff1:2");
    let mut packets = v3::decode_text(body);
    assert_eq!(packets.next(), Some(Err(DecodeError::InvalidUtf8)));
    assert_eq!(packets.next(), None);
}

#[test]
fn websocket_packets_have_a_type_in_front_of_binary_data() {
    let decode = |data| v3::packet_from_binary(Bytes::from_static(data));
    assert_eq!(decode(b"\x04\x01\x02"), Ok(binary(&[1, 2])));
    assert_eq!(decode(b"\x04"), Ok(binary(&[])));
    assert_eq!(decode(b""), Err(DecodeError::EmptyPacket));
    assert_eq!(decode(b"\x02"), Err(DecodeError::UnknownPacket));
    assert_eq!(decode(b"4"), Err(DecodeError::UnknownPacket));
    let decode = |text: &'static str| v3::packet_from_text(Bytes::from_static(text.as_bytes()));
    assert_eq!(decode("4hi"), Ok(text("hi")));
    assert_eq!(decode("b4AQID"), Ok(binary(&[1, 2, 3])));
    assert_eq!(decode("3"), Ok(Packet::Pong(Probe::None)));
    assert_eq!(decode(""), Err(DecodeError::EmptyPacket));
}

fn event() -> Frame {
    let data = Bytes::from_static(&[1, 2, 3]);
    encode::event("/", None, "b", &data).unwrap()
}

const EVENT: &str = r#"451-["b",{"_placeholder":true,"num":0}]"#;

#[test]
fn frames_are_encoded_for_websockets() {
    let plain = Frame::text("2[\"é\"]".as_bytes());
    for revision in [Revision::V3, Revision::V3Base64] {
        // The same bytes as for revision 4.
        assert_eq!(
            plain.websocket_for(revision).as_ptr(),
            plain.websocket().as_ptr()
        );
    }
    let event = event();
    assert_eq!(event.websocket_for(Revision::V4), event.websocket());
    let head = [&[0x81, EVENT.len() as u8], EVENT.as_bytes()].concat();
    let native = [&head[..], b"\x82\x04\x04\x01\x02\x03"].concat();
    assert_eq!(event.websocket_for(Revision::V3), &native);
    let base64 = [&head[..], b"\x81\x06b4AQID"].concat();
    assert_eq!(event.websocket_for(Revision::V3Base64), &base64);
    let raw = Frame::binary(&[9; 125]);
    let expected = [&b"\x82\x7e\x00\x7e\x04"[..], &[9; 125]].concat();
    assert_eq!(raw.websocket_for(Revision::V3), &expected);
}

#[test]
fn frames_are_encoded_for_polling() {
    let plain = Frame::text("2[\"é😀\"]".as_bytes());
    let noop = Frame::packet(&Packet::Noop);
    let encode = |frames: &[Frame], revision| v3::encode(frames, revision);
    let expected = Payload::Text("9:42[\"é😀\"]1:6".into());
    for revision in [Revision::V3, Revision::V3Base64] {
        assert_eq!(encode(&[plain.clone(), noop.clone()], revision), expected);
    }
    let expected = format!("{}:{EVENT}6:b4AQID1:6", EVENT.len());
    assert_eq!(
        encode(&[event(), noop.clone()], Revision::V3Base64),
        Payload::Text(expected.into())
    );
    let expected = [
        b"\x00\x03\x09\xff",
        EVENT.as_bytes(),
        b"\x01\x04\xff\x04\x01\x02\x03\x00\x01\xff6",
    ];
    assert_eq!(EVENT.len(), 39);
    assert_eq!(
        encode(&[event(), noop], Revision::V3),
        Payload::Binary(expected.concat().into())
    );
    for (frame, revision) in [(event(), Revision::V3), (plain, Revision::V3Base64)] {
        let (Payload::Text(bytes) | Payload::Binary(bytes)) =
            encode(std::slice::from_ref(&frame), revision);
        assert!(bytes.len() <= v3::max_payload_len(&frame, revision));
    }
}

#[test]
fn frame_is_encoded_once_for_each_form() {
    let event = event();
    let address = |revision| {
        let frames = std::slice::from_ref(&event);
        let (Payload::Text(bytes) | Payload::Binary(bytes)) = v3::encode(frames, revision);
        (bytes.as_ptr(), event.websocket_for(revision).as_ptr())
    };
    for revision in [Revision::V3, Revision::V3Base64] {
        assert_eq!(address(revision), address(revision));
    }
    assert_ne!(address(Revision::V3), address(Revision::V3Base64));
    let copy = event.clone();
    assert_eq!(
        copy.websocket_for(Revision::V3).as_ptr(),
        event.websocket_for(Revision::V3).as_ptr(),
        "all recipients share the encodings"
    );
}

#[test]
fn revision_and_session_have_the_smallest_size() {
    assert_eq!(size_of::<Revision>(), 1);
    // The state and the heartbeat have 24 bytes each, the timing 48. The role needs one byte with
    // seven of padding, one of which stores the side that pings.
    assert_eq!(size_of::<Session>(), 96 + 8);
}

fn session() -> (Session, Instant) {
    let now = start();
    (Session::server_v3(now, Transport::WebSocket, CONFIG), now)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn client_pings_and_server_answers() {
    let (mut session, start) = session();
    for n in 1..100 {
        let now = start + n * secs(44);
        assert_eq!(session.handle_timeout(now), Action::None);
        let ping = Packet::Ping(Probe::None);
        let pong = Action::Reply(Packet::Pong(Probe::None));
        assert_eq!(session.handle_packet(now, Source::Current, ping), pong);
        assert_eq!(session.poll_timeout(), Some(now + secs(45)));
        assert_eq!(session.next_ping(), None, "the server sends no pings");
    }
}

#[test]
fn any_packet_postpones_the_timeout_and_silence_ends_the_session() {
    let (mut session, start) = session();
    assert_eq!(session.poll_timeout(), Some(start + secs(45)));
    for (at, packet) in [(10, text("x")), (20, Packet::Noop), (30, Packet::Upgrade)] {
        let _ = session.handle_packet(start + secs(at), Source::Current, packet);
        assert_eq!(session.poll_timeout(), Some(start + secs(at + 45)));
    }
    assert_eq!(session.handle_timeout(start + secs(74)), Action::None);
    let closed = Action::Close(CloseReason::PingTimeout);
    assert_eq!(session.handle_timeout(start + secs(75)), closed);
}

#[test]
fn pong_of_a_client_closes_the_session() {
    let (mut session, now) = session();
    let pong = Packet::Pong(Probe::None);
    let closed = Action::Close(CloseReason::TransportError);
    assert_eq!(session.handle_packet(now, Source::Current, pong), closed);
}
