//! Tests that the work for a message is linear in its size, whatever it contains.
//!
//! Everything that is done with a message reads a bounded number of tokens for each of its bytes,
//! and writes a bounded number of bytes.

use std::cell::Cell;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use super::write;
use crate::{
    Frame,
    socket::{Args, Decoder, EncodeError, Limits, Parser},
};

thread_local! {
    static TOKENS: Cell<usize> = const { Cell::new(0) };
}

/// Counts values that have been read or inspected.
pub(super) fn count(values: usize) {
    TOKENS.set(TOKENS.get() + values);
}

/// Returns an event with these encoded arguments.
fn event(count: u32, args: &[u8]) -> Vec<u8> {
    let mut out = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd".to_vec();
    out.extend((count + 1).to_be_bytes());
    out.extend(b"\xa1x");
    out.extend(args);
    out
}

/// Returns an event that repeats this argument until it has `size` bytes.
fn many(size: usize, arg: &[u8]) -> Vec<u8> {
    let count = size / arg.len();
    event(u32::try_from(count).unwrap(), &arg.repeat(count))
}

/// Returns an event whose argument is a map of this many entries.
fn map(entries: usize, entry: impl Fn(usize, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0xdf];
    out.extend(u32::try_from(entries).unwrap().to_be_bytes());
    (0..entries).for_each(|i| entry(i, &mut out));
    event(1, &out)
}

fn nested(open: &[u8], close: &[u8]) -> Vec<u8> {
    [open.repeat(126), close.to_vec()].concat()
}

/// Returns the most expensive messages for their size, of about `size` bytes each.
fn worst_cases(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let key = |i: usize, out: &mut Vec<u8>| write::text(out, format!("{i:0>30}").as_bytes());
    let placeholder = b"\x82\xac_placeholder\xc3\xa3num";
    // The position of the binary value, which is the first argument.
    let at = u8::try_from(event(1, b"").len()).unwrap();
    let mut mentions = vec![0xc6];
    mentions.extend(u32::try_from(size / 2).unwrap().to_be_bytes());
    mentions.resize(size / 2 + 5, 7);
    let count = size / 2 / (placeholder.len() + 1);
    for _ in 0..count {
        mentions.extend(placeholder);
        mentions.push(at);
    }
    let mentions = event(u32::try_from(count).unwrap() + 1, &mentions);
    let lists = size / 13;
    let mut again = vec![0xdf];
    again.extend(u32::try_from(lists + 3).unwrap().to_be_bytes());
    again.extend(b"\xa4type\x02\xa3nsp\xa1/");
    again.extend(b"\xa4data\x97\xa1x\x01\x02\x03\x04\x05\x06".repeat(lists + 1));
    let mut one = vec![0xdd];
    one.extend(u32::try_from(size).unwrap().to_be_bytes());
    one.resize(size + 5, 0xc0);
    vec![
        ("small integers", many(size, b"\x01")),
        ("empty lists", many(size, b"\x90")),
        ("empty maps", many(size, b"\x80")),
        ("empty texts", many(size, b"\xa0")),
        ("empty binary values", many(size, b"\xc4\x00")),
        ("array buffers", many(size, b"\xc7\x00\x00")),
        (
            "long forms of short lists",
            many(size, b"\xdd\x00\x00\x00\x00"),
        ),
        (
            "long forms of short texts",
            many(size, b"\xdb\x00\x00\x00\x01a"),
        ),
        (
            "dates",
            many(size, b"\xd7\x00\x00\x00\x00\xdd\x9d\x5a\x0c\x95"),
        ),
        ("undefined", many(size, b"\xd4\x00\x00")),
        ("nested lists", many(size, &nested(b"\x91", b"\xc0"))),
        (
            "nested maps",
            many(size, &nested(b"\x81\xa1a", b"\xd4\x00\x00")),
        ),
        (
            "nested placeholders",
            many(size, &nested(b"\x81\xac_placeholder", b"\xc3")),
        ),
        ("one list", event(1, &one)),
        (
            "one text",
            event(1, &[b"\xda\xff\xff", &[b'a'; 65_535][..]].concat()),
        ),
        (
            "keys",
            map(size / 32, |i, out| {
                key(i, out);
                out.push(0xc0);
            }),
        ),
        (
            "keys that are integers",
            map(size / 4, |i, out| {
                write::unsigned(out, i as u64);
                out.push(0xc0);
            }),
        ),
        (
            "entries that are not there",
            map(size / 34, |i, out| {
                key(i, out);
                out.extend(b"\xd4\x00\x00");
            }),
        ),
        (
            "the same key",
            map(size / 3, |_, out| out.extend(b"\xa1a\x01")),
        ),
        ("one binary value that is named often", mentions),
        ("arguments that are replaced", again),
    ]
}

/// Does everything that is ever done with a message, and returns the encoded results.
fn work(message: &[u8]) -> Vec<Result<Frame, EncodeError>> {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only read")]
    enum Recursive {
        One(Box<Self>),
    }
    let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
    let packet = decoder.binary(Bytes::copy_from_slice(message));
    let packet = packet.unwrap().unwrap();
    let args = &packet.args;
    let values = args.to_values().unwrap();
    assert_eq!(values.len(), args.len());
    for i in 0..args.len().min(100) {
        let _ = args.get::<IgnoredAny>(i);
        let _ = args.get::<Box<RawValue>>(i);
        let _ = args.get::<Vec<Option<Bytes>>>(i);
        let _ = args.get::<std::collections::BTreeMap<String, Value>>(i);
        let _ = args.get::<Vec<Vec<Vec<u8>>>>(i);
        let _ = args.get::<Recursive>(i);
    }
    let whole = packet.event_name().to_owned();
    let send = |parser: Parser, args: &Args| parser.event("/", None, &whole, args);
    vec![
        send(Parser::MessagePack, args),
        send(Parser::MessagePack, &args.skip(1)),
        send(Parser::Json, args),
    ]
}

#[test]
fn work_is_linear_in_message_size() {
    for size in [10_000, 100_000] {
        for (what, message) in worst_cases(size) {
            TOKENS.set(0);
            let frames = work(&message);
            let tokens = TOKENS.get();
            assert!(
                tokens <= 20 * message.len(),
                "{what}: {tokens} tokens for {} bytes",
                message.len()
            );
            for frame in frames {
                let written = match frame {
                    Ok(frame) => frame.len(),
                    Err(EncodeError::TooManyAttachments) => 0,
                    Err(error) => panic!("{what}: {error}"),
                };
                assert!(
                    written <= 10 * message.len(),
                    "{what}: {written} bytes for {}",
                    message.len()
                );
            }
        }
    }
}

#[test]
fn refused_messages_are_not_scanned_repeatedly() {
    let deep = [event(1, b""), vec![0x91; 1_000_000]].concat();
    let long = [event(1, b""), vec![0xdd, 0xff, 0xff, 0xff, 0xff]].concat();
    let mut trailing = many(100_000, b"\x90");
    trailing.push(0);
    for message in [deep, long, trailing] {
        TOKENS.set(0);
        let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
        let size = message.len();
        assert!(decoder.binary(message.into()).is_err());
        assert!(TOKENS.get() <= size + 10);
    }
}
