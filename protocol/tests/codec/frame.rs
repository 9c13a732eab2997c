//! Frames: encoded once, shared by every recipient and transport.

use bytes::Bytes;
use roomcast_protocol::{
    Frame,
    engine::{Message, Packet, Probe},
    socket::encode,
};

fn mixed() -> Frame {
    let data = (Bytes::from_static(&[1, 2, 3]), Bytes::from_static(&[4]));
    encode::event("/", None, "x", &data).unwrap()
}

#[test]
fn a_text_message_is_one_websocket_frame() {
    let frame = Frame::text(b"hello");
    assert_eq!(frame.websocket()[..], *b"\x81\x064hello");
    assert_eq!(frame.polling()[..], *b"4hello");
    assert_eq!(frame.len(), 8);
    assert_eq!(frame.packets(), 1);
}

#[test]
fn a_binary_message_is_its_bytes_on_a_websocket_and_base64_when_polling() {
    let frame = Frame::binary(&[1, 2, 3, 4]);
    assert_eq!(frame.websocket()[..], [0x82, 4, 1, 2, 3, 4]);
    assert_eq!(frame.polling()[..], *b"bAQIDBA==");
    assert_eq!(frame.packets(), 1);
    let empty = Frame::binary(b"");
    assert_eq!(empty.websocket()[..], [0x82, 0]);
    assert_eq!(empty.polling()[..], *b"b");
}

#[test]
fn control_packets_are_text_frames() {
    for (packet, text) in [
        (Packet::Close, &b"1"[..]),
        (Packet::Ping(Probe::None), b"2"),
        (Packet::Pong(Probe::Probe), b"3probe"),
        (Packet::Upgrade, b"5"),
        (Packet::Noop, b"6"),
        (
            Packet::Message(Message::Text(Bytes::from_static(b"x"))),
            b"4x",
        ),
    ] {
        let frame = Frame::packet(&packet);
        assert_eq!(frame.polling()[..], *text);
        assert_eq!(
            frame.websocket()[..2],
            [0x81, u8::try_from(text.len()).unwrap()]
        );
        assert_eq!(frame.websocket()[2..], *text);
    }
    let binary = Frame::packet(&Packet::Message(Message::Binary(Bytes::from_static(b"x"))));
    assert_eq!(binary.websocket()[..], [0x82, 1, b'x']);
}

#[test]
fn a_packet_and_its_attachments_are_contiguous() {
    let frame = mixed();
    let text = br#"452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let mut expected = vec![0x81, u8::try_from(text.len()).unwrap()];
    expected.extend_from_slice(text);
    expected.extend_from_slice(&[0x82, 3, 1, 2, 3, 0x82, 1, 4]);
    assert_eq!(frame.websocket()[..], expected);
    let polling = [&text[..], b"\x1ebAQID\x1ebBA=="].concat();
    assert_eq!(frame.polling()[..], polling);
    assert_eq!(frame.packets(), 3);
    assert_eq!(frame.len(), expected.len());
}

#[test]
fn headers_grow_with_the_payload() {
    for (length, header) in [
        (124, &[0x81, 125][..]),
        (125, &[0x81, 126, 0, 126]),
        (65_534, &[0x81, 126, 0xff, 0xff]),
        (65_535, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let text = vec![b'x'; length];
        let frame = Frame::text(&text);
        assert_eq!(frame.websocket()[..header.len()], *header);
        assert_eq!(
            frame.websocket()[header.len()..],
            [b"4", &text[..]].concat()
        );
        assert_eq!(frame.polling().len(), length + 1);
    }
}

#[test]
fn a_clone_shares_its_bytes() {
    let frame = mixed();
    let clone = frame.clone();
    assert_eq!(frame.websocket().as_ptr(), clone.websocket().as_ptr());
    assert_eq!(size_of::<Frame>(), size_of::<usize>());
}

#[test]
fn text_for_polling_is_not_copied() {
    let frame = Frame::text(b"hello");
    assert_eq!(frame.polling().as_ptr(), frame.websocket()[2..].as_ptr());
}

#[test]
fn base64_is_computed_once_for_all_recipients() {
    let frame = mixed();
    let clone = frame.clone();
    assert_eq!(frame.polling().as_ptr(), clone.polling().as_ptr());
    assert_eq!(frame.polling().as_ptr(), frame.polling().as_ptr());
}

#[test]
fn compression_is_a_flag_of_one_handle() {
    let frame = mixed();
    assert!(frame.is_compressible());
    let polling = frame.polling();
    let plain = frame.clone().without_compression();
    assert!(frame.is_compressible());
    assert!(!plain.is_compressible());
    assert_eq!(plain.polling().as_ptr(), polling.as_ptr());
}

#[test]
fn a_frame_made_while_another_is_encoded_is_whole() {
    struct Nested;
    impl serde::Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = encode::event("/", None, "inner", &1).unwrap();
            serializer.serialize_str(std::str::from_utf8(&inner.polling()).unwrap())
        }
    }
    let frame = encode::event("/", None, "outer", &(2, Nested)).unwrap();
    assert_eq!(frame.polling()[..], *br#"42["outer",2,"42[\"inner\",1]"]"#);
}

#[test]
fn failed_encoding_leaves_no_bytes() {
    struct Fails;
    impl serde::Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let attachment = Bytes::from_static(b"1");
    assert!(encode::event("/", None, "x", &("a", attachment, Fails)).is_err());
    assert_eq!(
        encode::event("/", None, "y", &()).unwrap().polling()[..],
        *br#"42["y"]"#
    );
}
