//! D: WebSocket frames (RFC 6455).

use super::{MANY, assert_alive, assert_growth, attack, attack_with, crowd, opened, socket};
use crate::support::{DEADLINE, Frame, ServerProcess, websocket::masked};
use std::time::Instant;

/// Asserts that each sequence of bytes closes a connection with `code`.
fn assert_code<T: AsRef<[u8]>>(
    server: &ServerProcess,
    code: u16,
    inputs: impl IntoIterator<Item = T>,
) {
    for input in inputs {
        let input = input.as_ref();
        let mut client = socket(server);
        let _ = client.try_send(input);
        let shown = input[..input.len().min(40)].escape_ascii().to_string();
        assert_eq!(client.close_code(), Some(code), "after {shown}");
    }
}

/// Returns the header of a masked frame: literal bytes and the masking key.
fn header(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0, 0, 0, 0]].concat()
}

#[test]
fn d1_an_unmasked_frame_is_a_protocol_error() {
    attack(|server| {
        assert_code(
            server,
            1002,
            [
                b"\x81\x05Hello".as_slice(),
                b"\x82\x00",
                b"\x89\x00",
                b"\x88\x00",
            ],
        );
    });
}

#[test]
fn d2_reserved_bits_and_opcodes_are_protocol_errors() {
    attack(|server| {
        let reserved = [0xc1, 0xa1, 0x91, 0xf1, 0xc0, 0xc9, 0xa8];
        let unknown = [
            0x83, 0x84, 0x85, 0x86, 0x87, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x03, 0x0b,
        ];
        assert_code(
            server,
            1002,
            reserved
                .iter()
                .chain(&unknown)
                .map(|first| masked(*first, "x")),
        );
    });
}

#[test]
fn d3_control_frames_are_whole_and_short() {
    attack(|server| {
        let fragmented = [0x09, 0x0a, 0x08].map(|first| masked(first, ""));
        let long = [0x89, 0x8a, 0x88].map(|first| masked(first, [b'x'; 126]));
        assert_code(server, 1002, fragmented.iter().chain(&long));
    });
}

#[test]
fn d4_fragments_out_of_order_close() {
    attack(|server| {
        let inside = |first| [masked(0x01, "4"), masked(first, "x")].concat();
        assert_code(
            server,
            1002,
            [
                masked(0x80, "x"),
                masked(0x00, "x"),
                inside(0x81),
                inside(0x82),
                inside(0x01),
            ],
        );
    });
}

#[test]
fn d5_a_frame_over_the_limit_fails_at_its_header() {
    attack(|server| {
        let before = server.resident_bytes();
        assert_code(
            server,
            1009,
            [
                header(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
                header(b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x41"),
                header(b"\x81\xff\x00\x00\x00\x00\xff\xff\xff\xff"),
            ],
        );
        assert_code(
            server,
            1002,
            [
                header(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                header(b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"),
            ],
        );
        // Fragments are added up.
        let half = masked(0x02, vec![0; 600_000]);
        assert_code(
            server,
            1009,
            [[half, header(b"\x80\xff\x00\x00\x00\x00\x00\x06\x1a\x81")].concat()],
        );
        assert_growth(server, before, 2_000_000);
    });
}

#[test]
fn d6_memory_follows_what_was_received_and_has_a_deadline() {
    let _crowd = crowd();
    attack_with(
        r#"{"message_timeout":"3s","connect_timeout":"600s"}"#,
        |server| {
            let before = server.resident_bytes();
            let mut clients: Vec<_> = (0..MANY).map(|_| opened(server)).collect();
            for client in &mut clients {
                client.send(header(b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x40"));
                client.send("x");
            }
            let mut waiting = socket(server);
            assert_alive(&mut waiting);
            assert_growth(server, before, MANY * 16_384);
            for client in &mut clients {
                client.expect_close();
            }
            assert_alive(&mut waiting);
        },
    );
    // Neither single bytes nor pings between fragments extend the deadline of a message.
    attack_with(r#"{"message_timeout":"1s"}"#, |server| {
        let mut bytes = socket(server);
        bytes.send(header(b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x40"));
        let mut pings = socket(server);
        pings.send(masked(0x01, "4"));
        for (client, more) in [(&mut bytes, vec![b'x']), (&mut pings, masked(0x89, ""))] {
            let start = Instant::now();
            while !client.has_closed_after(&more) {
                assert!(start.elapsed() < DEADLINE, "kept alive by {more:?}");
            }
        }
    });
}

#[test]
fn d7_a_length_in_a_longer_form_is_a_protocol_error() {
    attack(|server| {
        let text = br#"421["echo",1]"#;
        let forms = [
            &b"\x81\xfe\x00\x0d"[..],
            b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x0d",
        ];
        assert_code(
            server,
            1002,
            forms.map(|form| [header(form).as_slice(), text].concat()),
        );
    });
}

#[test]
fn d8_text_split_within_a_character_is_valid_utf8() {
    attack(|server| {
        let invalid: [&[u8]; 7] = [
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xff",
            b"\x80",
            b"\xe2\x82",
            b"\xf0\x9f\xa6",
        ];
        for bytes in invalid {
            let whole = [&b"42[\"echo\",\""[..], bytes, b"\"]"].concat();
            assert_code(server, 1007, [masked(0x81, &whole)]);
            // The first invalid byte suffices; the rest is never sent.
            if !matches!(bytes, b"\xe2\x82" | b"\xf0\x9f\xa6") {
                assert_code(server, 1007, [masked(0x01, &whole[..whole.len() - 2])]);
            }
        }
        let text = "421[\"echo\",\"\u{e4}\u{20ac}\u{1f980}\"]".as_bytes();
        for at in 0..=text.len() {
            let mut client = socket(server);
            client.send(masked(0x01, &text[..at]));
            client.send(masked(0x80, &text[at..]));
            client.expect_text("431[\"\u{e4}\u{20ac}\u{1f980}\"]");
        }
    });
}

#[test]
fn d9_a_close_is_answered_once_and_nothing_follows() {
    attack(|server| {
        let mut faults = vec![masked(0x88, "x"), masked(0x88, b"\x03\xe8\xff")];
        let codes = [
            0u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
        ];
        faults.extend(codes.iter().map(|code| masked(0x88, code.to_be_bytes())));
        for fault in faults {
            let mut client = socket(server);
            client.send(&fault);
            assert!(
                matches!(client.close_code(), Some(1002 | 1007)),
                "after {fault:?}"
            );
        }
        for payload in [
            &b""[..],
            b"\x03\xe8",
            b"\x03\xe8bye",
            b"\x0b\xb8",
            b"\x13\x87",
        ] {
            let frame = masked(0x88, payload);
            let mut client = socket(server);
            client.send([&frame[..], &frame, &masked(0x81, r#"42["echo",1]"#)].concat());
            let Frame::Close(answer) = client.message() else {
                panic!("no close frame")
            };
            assert!(
                payload.is_empty() || answer.get(..2) == payload.get(..2),
                "{answer:?}"
            );
            assert!(client.is_at_end(), "something follows the close frame");
        }
        let mut client = socket(server);
        client.send_bytewise(masked(0x88, b"\x03\xe8done"));
        assert_eq!(client.close_code(), Some(1000));
    });
}

#[test]
fn d10_fragments_are_limited_and_counted_per_message() {
    attack(|server| {
        let before = server.resident_bytes();
        let tiny = masked(0x00, "x").repeat(131_000);
        let empty = masked(0x00, "").repeat(131_000);
        for rest in [tiny, empty] {
            let mut client = socket(server);
            client.send(masked(0x01, "4"));
            let _ = client.try_send(rest);
            assert_eq!(client.close_code(), Some(1008));
        }
        let mut client = socket(server);
        for round in 0..5 {
            let text = format!("42{round}[\"echo\",\"{}\"]", "x".repeat(10_000));
            let mut frames = masked(0x01, "");
            for byte in text.bytes() {
                frames.extend(masked(0x00, [byte]));
            }
            frames.extend(masked(0x80, ""));
            client.send(frames);
            client.expect_text(&format!("43{round}[\"{}\"]", "x".repeat(10_000)));
        }
        assert_growth(server, before, 4_000_000);
    });
}

#[test]
fn d11_pings_are_answered_with_their_payload_and_limited() {
    attack(|server| {
        let mut client = socket(server);
        for payload in [&b""[..], b"x", &[0xff; 125]] {
            client.send(masked(0x89, payload));
            assert_eq!(client.message(), Frame::Pong(payload.to_vec()));
        }
        client.send(masked(0x8a, "unasked"));
        assert_alive(&mut client);

        let before = server.resident_bytes();
        let mut flood = socket(server);
        let pings = masked(0x89, [b'x'; 125]).repeat(1000);
        let start = Instant::now();
        while flood.try_send(&pings).is_ok() {
            assert!(start.elapsed() < DEADLINE, "pings are taken without end"); // Nothing is read.
        }
        assert_growth(server, before, 1_000_000);
    });
}

#[test]
fn d13_segment_sizes_do_not_matter() {
    attack(|server| {
        let handshake = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
                         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let session = [
            handshake.as_bytes(),
            &masked(0x81, "40"),
            &masked(0x81, r#"421["echo","text"]"#),
            &masked(0x81, r#"451-2["echo",{"_placeholder":true,"num":0}]"#),
            &masked(0x82, [7; 200]),
            &masked(0x88, b"\x03\xe8"),
        ]
        .concat();
        for bytewise in [true, false] {
            let mut client = server.connect();
            if bytewise {
                client.send_bytewise(&session);
            } else {
                client.send(&session);
            }
            assert_eq!(client.response().status, 101);
            assert!(matches!(client.message(), Frame::Text(open) if open.starts_with("0{")));
            assert!(matches!(client.message(), Frame::Text(joined) if joined.starts_with("40{")));
            client.expect_text(r#"431["text"]"#);
            client.expect_text(r#"461-2[{"_placeholder":true,"num":0}]"#);
            client.expect_binary(&[7; 200]);
            assert_eq!(client.close_code(), Some(1000));
        }
    });
}

#[test]
fn d14_a_client_that_stops_reading_is_closed_at_its_budget() {
    attack(|server| {
        let before = server.resident_bytes();
        let mut slow = socket(server);
        for _ in 0..4 {
            slow.send_text(r#"42["stream",1000,10000]"#);
        }
        let mut other = socket(server);
        for _ in 0..100 {
            assert_alive(&mut other);
        }
        assert_growth(server, before, 2 << 20);
        // It was disconnected in the middle: far less than 40 MB arrives before the end.
        let received = slow.take_all().len();
        assert!(received < 30_000_000, "{received} bytes were kept for it");
    });
}

#[test]
fn d15_base64_belongs_to_polling() {
    attack(|server| {
        let mut client = socket(server);
        client.send_text("bAQID");
        assert!(client.is_closed_by_server());
        let mut client = opened(server);
        client.send_binary([1, 2, 3]);
        assert!(client.is_closed_by_server());
    });
}
