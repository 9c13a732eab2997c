use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    Frame,
    websocket::{Decoder, Event, FrameError, Limits, Role},
};

fn agree(offers: &[&str], terms: &Terms) -> Option<String> {
    let agreement = negotiate(offers.iter().copied(), terms).unwrap();
    agreement.map(|agreement| agreement.header())
}

fn window(bits: u8) -> WindowBits {
    WindowBits::new(bits).unwrap()
}

#[test]
fn answer_promises_and_asks_for_no_context_takeover() {
    let terms = Terms::default();
    let none = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (offer, more) in [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),
        ("permessage-deflate;server_no_context_takeover", ""),
        ("permessage-deflate ; client_no_context_takeover\t", ""),
        (
            "permessage-deflate; server_max_window_bits=15",
            "; server_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_max_window_bits=\"9\"",
            "; server_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_max_window_bits=\"1\\0\"",
            "; server_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            "; client_max_window_bits=8",
        ),
        ("x-webkit-deflate-frame, permessage-deflate", ""),
        (", ,permessage-deflate,", ""),
    ] {
        assert_eq!(
            agree(&[offer], &terms),
            Some(format!("{none}{more}")),
            "{offer}"
        );
    }
}

#[test]
fn invalid_offer_is_declined_and_next_is_used() {
    let terms = Terms::default();
    for declined in [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=115",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=15",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-deflate; x=toString",
        "Permessage-Deflate",
        "permessage-deflate2",
    ] {
        assert_eq!(agree(&[declined], &terms), None, "{declined}");
        let both = format!("{declined}, permessage-deflate; server_max_window_bits=12");
        let expected = "permessage-deflate; server_no_context_takeover; \
            client_no_context_takeover; server_max_window_bits=12";
        assert_eq!(agree(&[&both], &terms).as_deref(), Some(expected));
        let apart = [
            "permessage-deflate; server_max_window_bits=12",
            "permessage-deflate",
        ];
        assert_eq!(
            agree(&[declined, apart[0], apart[1]], &terms).as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn malformed_header_is_an_error() {
    for malformed in [
        ";;;,,,===\"",
        "permessage-deflate;",
        "permessage-deflate; =9",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate; server_max_window_bits=\"10\"x",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate, \u{e9}",
    ] {
        let refused = negotiate([malformed], &Terms::default());
        assert_eq!(refused, Err(MalformedExtensions), "{malformed}");
    }
}

#[test]
fn windows_of_the_server_limit_both_sides() {
    let terms = Terms {
        server_window: window(11),
        client_window: window(10),
        context_takeover: false,
    };
    let offer = "permessage-deflate; server_max_window_bits=12; client_max_window_bits";
    let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
        server_max_window_bits=11; client_max_window_bits=10";
    assert_eq!(agree(&[offer], &terms).as_deref(), Some(expected));
    assert_eq!(agree(&["permessage-deflate"], &terms), None);
}

#[test]
fn contexts_are_kept_if_both_sides_agree() {
    let terms = Terms {
        context_takeover: true,
        ..Terms::default()
    };
    let agreed = |offer: &str| {
        let agreement = negotiate([offer], &terms).unwrap().unwrap();
        (
            agreement.keeps_context,
            agreement.peer_keeps_context,
            agreement.header(),
        )
    };
    let (own, peer) = (
        "; server_no_context_takeover",
        "; client_no_context_takeover",
    );
    for (offer, expected) in [
        ("", (true, true)),
        (own, (false, true)),
        (peer, (true, false)),
    ] {
        let header = format!("permessage-deflate{offer}");
        assert_eq!(agreed(&header), (expected.0, expected.1, header.clone()));
    }
}

#[test]
fn client_refuses_answers_that_do_not_fit_its_offer() {
    let check = |answer: &str| Offer.check([answer]);
    let good = "permessage-deflate; server_no_context_takeover";
    assert_eq!(check(good).unwrap().unwrap().window, Some(WindowBits::MAX));
    let small = format!("{good}; client_max_window_bits=9; server_max_window_bits=8");
    assert_eq!(
        check(&small).unwrap().unwrap().window,
        Some(WindowBits::MIN)
    );
    let tiny = format!("{good}; client_max_window_bits=8");
    assert_eq!(check(&tiny).unwrap().unwrap().window, None);
    assert_eq!(Offer.check([]), Ok(None));
    assert_eq!(check("permessage-deflate"), Err(AnswerFault::Parameters));
    assert_eq!(
        check(&format!("{good}; client_max_window_bits")),
        Err(AnswerFault::Parameters)
    );
    assert_eq!(check(&format!("{good}; x")), Err(AnswerFault::Parameters));
    assert_eq!(
        check(&format!("{good}, {good}")),
        Err(AnswerFault::Unrequested)
    );
    assert_eq!(check("bbf-usp-protocol"), Err(AnswerFault::Unrequested));
    assert_eq!(check("permessage-deflate;"), Err(AnswerFault::Malformed));
    assert!(
        negotiate([Offer.header()], &Terms::default())
            .unwrap()
            .is_some()
    );
}

/// Decodes the bytes of a server that has negotiated compression.
fn receive(mut bytes: &[u8], max_message: usize) -> Result<Vec<Event>, FrameError> {
    let limits = Limits {
        max_message,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(Role::Client, limits).with_rsv(RSV1);
    let mut events = Vec::new();
    while let Some(event) = decoder.decode(&mut bytes)? {
        events.push(match decoder.rsv() {
            0 => event,
            _ => inflate(event, max_message)?,
        });
    }
    Ok(events)
}

fn hello() -> Result<Vec<Event>, FrameError> {
    Ok(vec![Event::Text(Bytes::from_static(b"Hello"))])
}

#[test]
fn examples_of_the_rfc() {
    for (section, bytes) in [
        ("7.2.3.1", &b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..]),
        (
            "7.2.3.1 in two frames",
            b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00",
        ),
        (
            "7.2.3.3",
            b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        ),
        ("7.2.3.4", b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
        (
            "7.2.3.5",
            b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ),
        (
            "without the last byte of 7.2.3.4",
            b"\xc1\x07\xf3\x48\xcd\xc9\xc9\x07\x00",
        ),
        ("an uncompressed message", b"\x81\x05Hello"),
    ] {
        assert_eq!(receive(bytes, 5), hello(), "{section}");
    }
    // Section 7.2.3.6: an empty message is an empty block.
    assert_eq!(
        receive(b"\xc1\x01\x00", 5),
        Ok(vec![Event::Text(Bytes::new())])
    );
    assert_eq!(
        receive(b"\xc2\x00", 5),
        Ok(vec![Event::Binary(Bytes::new())])
    );
}

#[test]
fn second_message_needs_the_context_of_the_first() {
    // Section 7.2.3.2.
    let (first, second) = (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x00\x11\x00\x00");
    let text = |payload: &'static [u8]| Event::Text(Bytes::from_static(payload));
    let mut context = Decompressor::new();
    for payload in [&first[..], &second[..]] {
        assert_eq!(context.inflate(text(payload), 5), Ok(text(b"Hello")));
    }
    assert_eq!(inflate(text(first), 5), Ok(text(b"Hello")));
    assert_eq!(inflate(text(second), 5), Err(FrameError::InvalidDeflate));
}

#[test]
fn incomplete_payload_is_refused_with_and_without_a_context() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let truncated = (1..hello.len()).map(|len| &hello[..len]);
    // Here, what follows every payload would be data, and then a final block.
    for payload in truncated.chain([&b"\xf2\x07\x6c"[..]]) {
        let event = || Event::Binary(Bytes::from_static(payload));
        let refused = Err(FrameError::InvalidDeflate);
        assert_eq!(inflate(event(), 1000), refused, "{payload:x?}");
        let in_context = Decompressor::new().inflate(event(), 1000);
        assert_eq!(in_context, refused, "{payload:x?}");
    }
}

#[test]
fn bits_of_other_extensions_and_frames_are_refused() {
    for (bytes, error) in [
        (&b"\xa1\x00"[..], FrameError::ReservedBits),
        (b"\xd1\x00", FrameError::ReservedBits),
        (b"\xc9\x00", FrameError::ReservedBits),
        (b"\xc8\x00", FrameError::ReservedBits),
        (
            b"\x41\x03\xf2\x48\xcd\xc0\x04\xc9\xc9\x07\x00",
            FrameError::ReservedBits,
        ),
        (b"\x01\x01a\xc0\x01b", FrameError::ReservedBits),
        (b"\xc1\x02\xff\xff", FrameError::InvalidDeflate),
        (b"\xc1\x03\x07\x00\x00", FrameError::InvalidDeflate),
        // The last byte is missing, or follows a final block and is no block.
        (
            b"\xc1\x06\xf2\x48\xcd\xc9\xc9\x07",
            FrameError::InvalidDeflate,
        ),
        (
            b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x07",
            FrameError::InvalidDeflate,
        ),
        // A stored block that ends after the message.
        (
            b"\xc1\x07\x00\x05\x00\xfa\xff\x48\x65",
            FrameError::InvalidDeflate,
        ),
    ] {
        assert_eq!(receive(bytes, 100), Err(error), "{bytes:x?}");
    }
    let endless = [&b"\xc2\x7e\x01\x00"[..], &[3, 0].repeat(128)].concat();
    assert_eq!(receive(&endless, 1000), Err(FrameError::InvalidDeflate));
}

#[test]
fn inflated_text_must_be_utf8() {
    let frame = |binary: bool| {
        let payload = b"\x00\x02\x00\xfd\xff\xc3\x28\x00";
        [
            &[if binary { 0xc2 } else { 0xc1 }, payload.len() as u8],
            &payload[..],
        ]
        .concat()
    };
    assert_eq!(receive(&frame(false), 9), Err(FrameError::InvalidUtf8));
    assert!(receive(&frame(true), 9).is_ok());
}

#[test]
fn bomb_ends_at_the_limit_in_any_fragments() {
    let bomb = Frame::binary(&vec![0; 4 << 20]);
    let bytes = bomb.deflated(WindowBits::MAX, &Settings::default());
    assert!(bytes.len() < 5_000);
    assert_eq!(receive(bytes, 1_000_000), Err(FrameError::MessageTooBig));
    let payload = &bytes[4..];
    let mut pieces = Vec::new();
    for (index, piece) in payload.chunks(100).enumerate() {
        let fin = if index == payload.len().div_ceil(100) - 1 {
            0x80
        } else {
            0
        };
        let first = if index == 0 { 0x42 } else { 0 };
        pieces.extend([fin | first, piece.len() as u8]);
        pieces.extend(piece);
    }
    assert_eq!(receive(&pieces, 1_000_000), Err(FrameError::MessageTooBig));
    assert_eq!(receive(&pieces, 4 << 20).unwrap().len(), 1);
    assert_eq!(
        receive(bytes, (4 << 20) - 1),
        Err(FrameError::MessageTooBig)
    );
}

#[test]
fn incompressible_message_at_the_limit_is_accepted() {
    // A stored block is five bytes longer than its content.
    let payload = [&b"\x00\xff\x00\x00\xff"[..], &[7; 255], b"\x00"].concat();
    let frame = [&b"\xc2\x7e\x01\x05"[..], &payload].concat();
    assert_eq!(
        receive(&frame, 255),
        Ok(vec![Event::Binary(vec![7; 255].into())])
    );
    assert_eq!(receive(&frame, 254), Err(FrameError::MessageTooBig));
    let plain = [&b"\x82\x7e\x01\x05"[..], &payload].concat();
    assert_eq!(receive(&plain, 255), Err(FrameError::MessageTooBig));
}

#[test]
fn compressed_frame_has_its_bytes_and_its_messages() {
    let all = Settings {
        threshold: 0,
        level: 6,
    };
    let frame = Frame::text(&b"a".repeat(20));
    let bytes = frame.deflated(WindowBits::MAX, &all);
    assert_eq!(bytes[0], 0xc1);
    assert!(bytes.len() < frame.len());
    let sent = Event::Text([&b"4"[..], &b"a".repeat(20)].concat().into());
    assert_eq!(receive(bytes, 100), Ok(vec![sent]));
    // The same bytes, not a copy of them.
    assert_eq!(
        frame.deflated(WindowBits::MAX, &all).as_ptr(),
        bytes.as_ptr()
    );
}

#[test]
fn frame_is_plain_if_compression_does_not_help() {
    let settings = Settings {
        threshold: 10,
        level: 6,
    };
    let long = b"a".repeat(100);
    for (frame, is_plain) in [
        (Frame::text(&long), false),
        (Frame::text(&long).without_compression(), true),
        (Frame::text(b"aaaaaaaa"), true),
        (Frame::text(b"abcdefghijklmnopq"), true),
    ] {
        let bytes = frame.deflated(WindowBits::MAX, &settings);
        assert_eq!(bytes == frame.websocket(), is_plain);
    }
}

#[test]
fn broadcast_is_compressed_once_for_each_window_in_use() {
    let text = |len: usize| Frame::text(&b"broadcast ".repeat(len / 10));
    let settings = Settings {
        threshold: 0,
        level: 6,
    };
    for (frame, forms) in [
        (text(250), 1),
        (text(500), 1),
        (text(2000), 3),
        (text(40_000), 7),
    ] {
        for _ in 0..2 {
            for bits in 9..=15 {
                let bytes = frame.deflated(window(bits), &settings);
                assert!(bytes.len() < frame.len());
            }
        }
        assert_eq!(frame.deflated_forms(), forms);
    }
}

#[test]
fn compressor_with_a_context_refers_to_earlier_messages() {
    let settings = Settings {
        threshold: 0,
        level: 6,
    };
    let mut compressor = Compressor::new(WindowBits::MAX, 6);
    let mut decompressor = Decompressor::new();
    let content: Vec<u8> = (0..5000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
    let frame = Frame::binary(&content);
    let first = frame.deflated_by(&mut compressor, &settings);
    let second = frame.deflated_by(&mut compressor, &settings);
    assert!(
        second.len() * 10 < first.len(),
        "{} {}",
        second.len(),
        first.len()
    );
    for mut bytes in [&first[..], &second[..]] {
        let mut decoder = Decoder::new(Role::Client, Limits::default()).with_rsv(RSV1);
        let event = decoder.decode(&mut bytes).unwrap().unwrap();
        let event = decompressor.inflate(event, 20_000);
        assert_eq!(event, Ok(Event::Binary(content.clone().into())));
    }
}

#[test]
fn an_idle_connection_stores_one_byte() {
    assert_eq!(size_of::<Option<WindowBits>>(), 1);
}

proptest! {
    #[test]
    fn message_survives_every_window(
        seed: Vec<u8>,
        repeat in 1_usize..100,
        bits in 9_u8..=15,
        level in 1_u8..=9,
    ) {
        let content = seed.repeat(repeat);
        let frame = Frame::binary(&content);
        let bytes = frame.deflated(window(bits), &Settings { threshold: 0, level });
        prop_assert!(bytes.len() <= frame.len());
        let limit = content.len();
        prop_assert_eq!(receive(bytes, limit), Ok(vec![Event::Binary(content.into())]));
    }

    #[test]
    fn small_window_suffices_to_inflate(len in 0_usize..4000, bits in 9_u8..=15) {
        let content: Vec<u8> = (0..len).map(|i| (i * i / 7) as u8).collect();
        let frame = Frame::binary(&content);
        let bytes = frame.deflated(window(bits), &Settings { threshold: 0, level: 9 });
        let mut decoder = Decoder::new(Role::Client, Limits::default()).with_rsv(RSV1);
        let event = decoder.decode(&mut &bytes[..]).unwrap().unwrap();
        if decoder.rsv() != 0 && let Event::Binary(payload) = event {
            let mut small = flate2::Decompress::new_with_window_bits(false, bits);
            let mut out = Vec::with_capacity(len + 1);
            small.decompress_vec(&payload, &mut out, flate2::FlushDecompress::Sync).unwrap();
            small.decompress_vec(&TAIL, &mut out, flate2::FlushDecompress::Sync).unwrap();
            prop_assert_eq!(out, content);
        }
    }

    #[test]
    fn any_payload_is_inflated_or_refused(payload: Vec<u8>, max in 0_usize..1000) {
        if let Ok(Event::Binary(data)) = inflate(Event::Binary(payload.into()), max) {
            prop_assert!(data.len() <= max);
        }
    }

    #[test]
    fn any_header_is_negotiated_or_refused(value in "[ -~]{0,60}") {
        let _ = negotiate([&*value], &Terms::default());
    }
}
