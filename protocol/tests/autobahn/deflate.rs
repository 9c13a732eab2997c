//! Sections 12 and 13: messages of all sizes through a connection that has negotiated
//! permessage-deflate, and all offers.
//!
//! The suite sends a thousand messages per case from five files. This test sends two per case
//! from generated content of the same kinds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use roomcast_protocol::{
    Frame,
    websocket::{
        Decoder, Event, Fragment, Limits, Opcode, Role,
        deflate::{Agreement, Compressor, Decompressor, RSV1, Settings, Terms, inflate, negotiate},
        encode_frame,
    },
};

const MESSAGES: &str = include_str!("cases/12_deflate.txt");
const OFFERS: &str = include_str!("cases/13_offers.txt");
const DEFAULT_OFFER: &str =
    "permessage-deflate; client_no_context_takeover; client_max_window_bits";
const COUNT: usize = 2;
const SETTINGS: Settings = Settings {
    threshold: 0,
    level: 6,
};

/// The cases of section 12, and the sizes of section 13, which are those of its first group.
fn sizes() -> impl Iterator<Item = (&'static str, &'static str, usize, usize)> {
    MESSAGES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let number = |index: usize| columns[index].parse().expect(line);
            (columns[0], columns[1], number(2), number(3))
        })
}

fn terms(context_takeover: bool) -> Terms {
    Terms {
        context_takeover,
        ..Terms::default()
    }
}

#[test]
fn deflated_messages() {
    let mut cases = 0;
    for context_takeover in [false, true] {
        let terms = terms(context_takeover);
        let agreement = negotiate([DEFAULT_OFFER], &terms).unwrap().unwrap();
        for (name, kind, len, fragment) in sizes() {
            exchange(name, &agreement, &content(kind), len, fragment);
            cases += 1;
        }
    }
    assert_eq!(cases, 2 * 5 * 18);
}

#[test]
fn offers_of_deflate() {
    let mut cases = 0;
    for line in OFFERS.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let (name, offer, answer) = (columns[0], columns[1], columns[2]);
        let agreement = negotiate([offer], &terms(false)).unwrap().unwrap();
        assert_eq!(agreement.header(), answer, "{name}");
        let takeover = negotiate([offer], &terms(true)).unwrap().unwrap();
        let json = content("json");
        for (size, _, len, fragment) in sizes().filter(|(_, kind, ..)| *kind == "json") {
            exchange(&format!("{name}, {size}"), &agreement, &json, len, fragment);
            exchange(&format!("{name}, {size}"), &takeover, &json, len, fragment);
            cases += 1;
        }
    }
    assert_eq!(cases, 7 * 18);
}

/// Sends messages that follow each other in the content, and compares what arrives. Both ends of
/// the connection are ours: the server compresses, and a client with the agreed contexts receives.
fn exchange(name: &str, agreement: &Agreement, content: &[u8], len: usize, fragment: usize) {
    let window = agreement.window.unwrap();
    let mut compressor = Compressor::new(window, SETTINGS.level);
    let mut decompressor = Decompressor::new();
    let limits = Limits {
        max_message: len,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(Role::Server, limits).with_rsv(RSV1);
    let mut start = 0;
    for _ in 0..COUNT {
        let mut message = [&content[start..], content].concat();
        message.truncate(len);
        start = (start + len) % content.len();
        let frame = Frame::binary(&message);
        let bytes = if agreement.keeps_context {
            frame.deflated_by(&mut compressor, &SETTINGS)
        } else {
            frame.deflated(window, &SETTINGS).clone()
        };
        let bytes = as_client(&bytes, fragment);
        let mut received = Vec::new();
        for mut piece in bytes.chunks(1400) {
            while let Some(event) = decoder.decode(&mut piece).expect(name) {
                let event = match decoder.rsv() {
                    0 => event,
                    _ if agreement.keeps_context => decompressor.inflate(event, len).expect(name),
                    _ => inflate(event, len).expect(name),
                };
                received.push(event);
            }
        }
        assert!(received == [Event::Binary(message.into())], "{name}");
        assert!(decoder.is_idle());
    }
}

/// Splits a message into frames and masks them.
fn as_client(mut bytes: &[u8], fragment: usize) -> Vec<u8> {
    let limits = Limits {
        max_message: usize::MAX,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(Role::Client, limits).with_rsv(RSV1);
    let Some(Event::Binary(payload)) = decoder.decode(&mut bytes).unwrap() else {
        panic!("the frame is not binary");
    };
    let size = if fragment == 0 {
        payload.len()
    } else {
        fragment
    };
    let last = payload.len().div_ceil(size) - 1;
    let mut out = Vec::new();
    for (index, piece) in payload.chunks(size).enumerate() {
        let (opcode, start) = match index {
            0 => (Opcode::Binary, out.len()),
            _ => (Opcode::Continuation, out.len()),
        };
        let position = if index == last {
            Fragment::Final
        } else {
            Fragment::More
        };
        encode_frame(
            &mut out,
            position,
            opcode,
            piece,
            Some([0x37, 0xfa, 0x21, 0x3d]),
        );
        if index == 0 {
            out[start] |= decoder.rsv();
        }
    }
    out
}

/// Generates content of a kind, longer than the window.
fn content(kind: &str) -> Vec<u8> {
    let mut state = 12_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let words = [
        "Habe",
        "nun",
        "ach",
        "Philosophie",
        "Juristerei",
        "und",
        "Medizin",
        "leider",
    ];
    let mut out = Vec::new();
    while out.len() < 200_000 {
        let (word, number) = (words[random() as usize % words.len()], random());
        let piece = match kind {
            "text" => format!("{word}, "),
            "json" => format!(r#"{{"id":{number},"name":"{word}","tags":["{word}",null]}},"#),
            "html" => format!("<tr class=\"row\"><td>{word}</td><td>{number}</td></tr>\n"),
            // Pixels that differ little from their neighbours, and bytes without repetitions.
            "bitmap" => {
                out.extend((0..64).map(|_| 128 + (random() % 9) as u8));
                continue;
            }
            "document" => {
                out.extend((0..64).map(|_| random() as u8));
                continue;
            }
            _ => panic!("no content: {kind}"),
        };
        out.extend(piece.as_bytes());
    }
    out
}
