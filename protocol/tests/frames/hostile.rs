//! Known attacks on WebSocket servers, each by its number in the project's list (`d1`–`d15`).

use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Opcode, Role};

use crate::support::{KEY, drain, masked};

fn server() -> Decoder {
    Decoder::new(Role::Server, Limits::default())
}

/// Returns the events and the close code of a new server for these bytes.
fn outcome(input: &[u8]) -> (Vec<Event>, Option<u16>) {
    let (events, error) = drain(&mut server(), input);
    (events, error.map(|error| error.close_code().as_u16()))
}

fn refused(code: u16) -> (Vec<Event>, Option<u16>) {
    (Vec::new(), Some(code))
}

#[test]
fn d1_an_unmasked_frame_to_a_server_is_refused() {
    assert_eq!(outcome(b"\x81\x05\x48\x65\x6c\x6c\x6f"), refused(1002));
}

#[test]
fn d1_an_unmasked_frame_is_refused_at_its_second_byte() {
    assert_eq!(outcome(b"\x81"), (vec![], None));
    assert_eq!(outcome(b"\x81\x05"), refused(1002));
}

#[test]
fn d1_a_masked_frame_to_a_client_is_refused() {
    let mut client = Decoder::new(Role::Client, Limits::default());
    let (events, error) = drain(&mut client, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    assert_eq!((events.len(), error), (0, Some(FrameError::Masked)));
}

#[test]
fn d2_reserved_bits_are_refused_at_the_first_byte() {
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0x71, 0xc9, 0xc8, 0x74] {
        assert_eq!(outcome(&[first]), refused(1002));
        assert_eq!(outcome(&[first, 0x80, 0, 0, 0, 0]), refused(1002));
    }
}

#[test]
fn d2_reserved_opcodes_are_refused_at_the_first_byte() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        assert_eq!(outcome(&[0x80 | opcode]), refused(1002));
        assert_eq!(outcome(&[opcode, 0x80, 0, 0, 0, 0]), refused(1002));
    }
}

#[test]
fn d3_a_fragmented_control_frame_is_refused() {
    for first in [0x08, 0x09, 0x0a] {
        assert_eq!(outcome(&[first, 0x80, 0, 0, 0, 0]), refused(1002));
    }
}

#[test]
fn d3_a_control_frame_over_125_bytes_is_refused_before_its_length() {
    for first in [0x88, 0x89, 0x8a] {
        assert_eq!(outcome(&[first, 0x80 | 126]), refused(1002));
        assert_eq!(outcome(&[first, 0x80 | 127]), refused(1002));
    }
}

#[test]
fn d4_a_continuation_with_nothing_open_is_refused() {
    assert_eq!(outcome(b"\x80\x80\x37\xfa\x21\x3d"), refused(1002));
    assert_eq!(outcome(b"\x00\x80\x37\xfa\x21\x3d"), refused(1002));
}

#[test]
fn d4_a_text_inside_a_fragmented_message_is_refused() {
    let input = [
        masked(false, Opcode::Text, b"a"),
        masked(true, Opcode::Text, b"b"),
    ];
    assert_eq!(outcome(&input.concat()), refused(1002));
}

#[test]
fn d5_a_declared_length_over_the_limit_is_refused_from_the_header() {
    assert_eq!(
        outcome(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
        refused(1009)
    );
    // 1,000,001 bytes: not even the masking key is needed.
    assert_eq!(
        outcome(b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x41"),
        refused(1009)
    );
    assert_eq!(
        outcome(b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x40"),
        (vec![], None)
    );
}

#[test]
fn d5_a_length_with_its_first_bit_set_is_refused_from_the_header() {
    assert_eq!(
        outcome(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        refused(1002)
    );
    assert_eq!(
        outcome(b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"),
        refused(1002)
    );
}

#[test]
fn d5_fragments_over_the_limit_are_refused_from_the_header_of_the_last() {
    let mut decoder = server();
    for _ in 0..10 {
        let first = !decoder.is_idle();
        let opcode = if first {
            Opcode::Continuation
        } else {
            Opcode::Binary
        };
        let (_, error) = drain(&mut decoder, &masked(false, opcode, &[0; 100_000]));
        assert_eq!(error, None);
    }
    let (_, error) = drain(&mut decoder, b"\x80\x81");
    assert_eq!(error, Some(FrameError::MessageTooBig));
    assert_eq!(decoder.held(), 0);
}

#[test]
fn d6_memory_follows_the_bytes_received() {
    let mut decoder = server();
    // A million bytes are announced, and one arrives.
    let (events, error) = drain(
        &mut decoder,
        b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x00\x00\x00x",
    );
    assert_eq!((events.len(), error), (0, None));
    assert!(decoder.held() <= 8, "{}", decoder.held());
    assert!(!decoder.is_idle());
    for received in 2..=100_000 {
        drain(&mut decoder, b"x");
        assert!(
            decoder.held() <= 2 * received,
            "{} for {received}",
            decoder.held()
        );
    }
}

#[test]
fn d6_a_header_alone_holds_no_heap() {
    let mut decoder = server();
    drain(
        &mut decoder,
        b"\x82\xff\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x00\x00",
    );
    assert_eq!(decoder.held(), 0);
    assert!(!decoder.is_idle());
    drain(&mut decoder, b"\x00");
    assert_eq!(decoder.held(), 0);
    assert!(!decoder.is_idle());
}

#[test]
fn d6_complete_message_leaves_no_memory() {
    let mut decoder = server();
    for _ in 0..3 {
        for piece in masked(true, Opcode::Binary, &[7; 5000]).chunks(999) {
            drain(&mut decoder, piece);
        }
        assert!(decoder.is_idle());
        assert_eq!(decoder.held(), 0);
    }
}

#[test]
fn d7_a_length_not_in_its_shortest_form_is_refused() {
    for header in [
        &b"\x81\xfe\x00\x05"[..],
        b"\x81\xfe\x00\x7d",
        b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff",
    ] {
        assert_eq!(outcome(header), refused(1002));
    }
}

#[test]
fn d8_invalid_text_is_refused_at_its_first_bad_byte() {
    for (good, bad) in [
        (&b""[..], 0xc0_u8),
        (b"\xed", 0xa0),
        (b"\xf4", 0x90),
        (b"abc\xf0\x9f\x98", b'x'),
        ("κόσμε".as_bytes(), 0xff),
    ] {
        // Each frame announces 100 bytes: the missing bytes do not delay the error.
        let mut decoder = server();
        let frame = masked(
            true,
            Opcode::Text,
            &[good, &[bad], &[b'a'; 100]].concat()[..100],
        );
        let (head, tail) = frame.split_at(6 + good.len());
        assert_eq!(drain(&mut decoder, head), (vec![], None));
        let (_, error) = drain(&mut decoder, &tail[..1]);
        assert_eq!(error, Some(FrameError::InvalidUtf8));
    }
}

#[test]
fn d8_invalid_text_is_refused_across_fragments() {
    let mut decoder = server();
    drain(&mut decoder, &masked(false, Opcode::Text, b"\xed"));
    drain(&mut decoder, &masked(true, Opcode::Ping, b""));
    let (_, error) = drain(&mut decoder, &masked(false, Opcode::Continuation, b"\xa0"));
    assert_eq!(error, Some(FrameError::InvalidUtf8));
}

#[test]
fn d8_a_truncated_character_at_the_end_is_refused() {
    assert_eq!(
        outcome(&masked(true, Opcode::Text, b"\xe2\x82")),
        refused(1007)
    );
}

#[test]
fn d8_a_character_may_be_split_anywhere() {
    let text = "aé€😀";
    for cut in 0..=text.len() {
        let (left, right) = text.as_bytes().split_at(cut);
        let input = [
            masked(false, Opcode::Text, left),
            masked(true, Opcode::Continuation, right),
        ];
        assert_eq!(
            outcome(&input.concat()),
            (vec![Event::Text(text.into())], None)
        );
    }
}

#[test]
fn d9_a_close_of_one_byte_is_refused() {
    assert_eq!(
        outcome(&masked(true, Opcode::Close, b"\x03")),
        refused(1002)
    );
}

#[test]
fn d9_a_code_that_must_not_be_sent_is_refused() {
    let forbidden = [0, 1, 999, 1004, 1005, 1006, 1015].into_iter();
    for code in forbidden.chain(1016..=2999).chain([5000, 9999, 65535]) {
        let body = u16::to_be_bytes(code);
        assert_eq!(
            outcome(&masked(true, Opcode::Close, &body)),
            refused(1002),
            "{code}"
        );
    }
}

#[test]
fn d9_a_reason_that_is_not_utf8_is_refused() {
    let frame = masked(true, Opcode::Close, b"\x03\xe8\xff");
    assert_eq!(outcome(&frame), refused(1007));
}

#[test]
fn d9_input_after_a_close_is_ignored() {
    let close = masked(true, Opcode::Close, b"\x03\xe8bye");
    let input = [
        close.clone(),
        close,
        masked(true, Opcode::Text, b"late"),
        b"\xff\xff nonsense".to_vec(),
    ];
    let (events, code) = outcome(&input.concat());
    assert_eq!((events.len(), code), (1, None));
    let Some(Event::Close(Some(close))) = events.first() else {
        panic!("{events:?}");
    };
    assert_eq!((close.code.as_u16(), &*close.reason), (1000, "bye"));
}

#[test]
fn d9_a_close_may_be_split_at_each_byte() {
    let mut decoder = server();
    let frame = masked(true, Opcode::Close, b"\x03\xe8bye");
    let (last, head) = frame.split_last().unwrap();
    for byte in head {
        assert_eq!(drain(&mut decoder, &[*byte]), (vec![], None));
    }
    let (events, error) = drain(&mut decoder, &[*last]);
    assert!(matches!(&events[..], [Event::Close(Some(_))]));
    assert_eq!(error, None);
    assert_eq!(drain(&mut decoder, b"late"), (vec![], None));
    assert!(decoder.is_idle());
}

#[test]
fn d10_a_flood_of_tiny_fragments_is_refused_at_the_limit() {
    let mut decoder = server();
    drain(&mut decoder, &masked(false, Opcode::Text, b"x"));
    let fragment = masked(false, Opcode::Continuation, b"x");
    for count in 2..=16_384 {
        assert_eq!(drain(&mut decoder, &fragment), (vec![], None));
        assert!(decoder.held() <= 2 * count);
    }
    let (_, error) = drain(&mut decoder, &fragment);
    assert_eq!(error, Some(FrameError::TooManyFragments));
    assert_eq!(error.unwrap().close_code().as_u16(), 1008);
}

#[test]
fn d10_a_flood_of_empty_fragments_is_refused_and_holds_nothing() {
    let mut decoder = server();
    drain(&mut decoder, &masked(false, Opcode::Binary, b""));
    let flood = masked(false, Opcode::Continuation, b"").repeat(16_383);
    assert_eq!(drain(&mut decoder, &flood), (vec![], None));
    assert_eq!(decoder.held(), 0);
    let (_, error) = drain(&mut decoder, &masked(true, Opcode::Continuation, b""));
    assert_eq!(error, Some(FrameError::TooManyFragments));
}

#[test]
fn d10_an_honest_client_may_send_fragments_for_ever() {
    let mut decoder = server();
    let message = [
        masked(false, Opcode::Text, b"a"),
        masked(false, Opcode::Continuation, b"b"),
        masked(true, Opcode::Continuation, b"c"),
    ]
    .concat();
    for _ in 0..20_000 {
        let (events, error) = drain(&mut decoder, &message);
        assert_eq!((events, error), (vec![Event::Text("abc".into())], None));
    }
}

#[test]
fn d10_one_byte_segments_hold_at_most_twice_their_bytes() {
    let mut decoder = server();
    let frame = masked(true, Opcode::Binary, &[1; 60_000]);
    let (head, body) = frame.split_at(8);
    drain(&mut decoder, head);
    for (received, byte) in body.iter().enumerate() {
        drain(&mut decoder, &[*byte]);
        assert!(decoder.held() <= 2 * (received + 1).max(8));
    }
    assert!(decoder.is_idle());
}

#[test]
fn d11_a_ping_gives_only_the_bytes_received() {
    fn payloads(events: &[Event]) -> Vec<&[u8]> {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Ping(data) => Some(&**data),
                Event::Text(_) | Event::Binary(_) | Event::Pong(_) | Event::Close(_) => None,
            })
            .collect()
    }
    let mut decoder = server();
    // A long payload comes first: no part of it may appear in a later, shorter payload.
    let long = masked(true, Opcode::Ping, &[b'A'; 125]);
    let short = masked(true, Opcode::Ping, b"b");
    let (events, _) = drain(&mut decoder, &[long.clone(), short.clone()].concat());
    assert_eq!(payloads(&events), [&[b'A'; 125][..], b"b"]);
    let mut events = Vec::new();
    for byte in [long, short].concat() {
        events.extend(drain(&mut decoder, &[byte]).0);
    }
    assert_eq!(payloads(&events), [&[b'A'; 125][..], b"b"]);
}

#[test]
fn d11_a_million_pings_hold_nothing() {
    let mut decoder = server();
    let pings = masked(true, Opcode::Ping, &[0; 125]).repeat(1000);
    for _ in 0..1000 {
        let mut input = &pings[..];
        while let Some(event) = decoder.decode(&mut input).unwrap() {
            assert!(matches!(event, Event::Ping(_)));
        }
        assert_eq!(decoder.held(), 0);
    }
}

#[test]
fn d13_every_byte_in_its_own_segment_is_the_same_session() {
    let session = [
        masked(true, Opcode::Text, "grüße".as_bytes()),
        masked(false, Opcode::Binary, &[0xff; 300]),
        masked(true, Opcode::Ping, b"mid"),
        masked(true, Opcode::Continuation, &[0xfe; 70_000]),
        masked(true, Opcode::Pong, b""),
        masked(true, Opcode::Close, b"\x03\xe9away"),
    ]
    .concat();
    let whole = outcome(&session);
    assert_eq!((whole.0.len(), whole.1), (5, None));
    let mut decoder = server();
    let mut events = Vec::new();
    for byte in &session {
        let (more, error) = drain(&mut decoder, &[*byte]);
        assert_eq!(error, None);
        events.extend(more);
    }
    assert_eq!(events, whole.0);
}

#[test]
fn d15_message_content_is_not_validated() {
    // Base64 is for polling, and a binary message needs a header before it: the layers above check
    // both.
    let input = [
        masked(true, Opcode::Text, b"bAQID"),
        masked(true, Opcode::Binary, b"\x04x"),
    ];
    let expected = vec![Event::Text("bAQID".into()), Event::Binary("\x04x".into())];
    assert_eq!(outcome(&input.concat()), (expected, None));
}

#[test]
fn b1_raw_text_after_the_handshake_is_refused() {
    assert_eq!(outcome(b"\x74\x65\x73\x74"), refused(1002));
    assert_eq!(outcome(b"\x74"), refused(1002));
}

#[test]
fn every_pair_of_first_bytes_has_an_outcome() {
    for first in 0..=255 {
        for second in 0..=255 {
            for role in [Role::Server, Role::Client] {
                let mut decoder = Decoder::new(role, Limits::default());
                let input = [&[first, second][..], &KEY, &[0x55; 20]].concat();
                let (_, error) = drain(&mut decoder, &input);
                assert!(error.is_none() || decoder.held() == 0);
            }
        }
    }
}
