//! The codec: packets, payloads, frames and binary reassembly. No I/O.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roomcast_protocol::{
    Frame,
    engine::{Message as Content, Packet, payload},
    socket::{Args, Decoder, Limits, Parser, Value, encode},
    websocket::{self, Role},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An event of 100 bytes, without the packet type of Engine.IO.
const EVENT: &str = r#"2["message",{"conversationId":"00000000-0000-4000-8000-000000000001","content":"hello, world; yes"}]"#;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    conversation_id: String,
    content: String,
}

fn message() -> Message {
    Message {
        conversation_id: "00000000-0000-4000-8000-000000000001".into(),
        content: "hello, world; yes".into(),
    }
}

/// Returns bytes that are already shared, like those that a transport has read.
fn shared(text: impl Into<Vec<u8>>) -> Bytes {
    let bytes = Bytes::from(text.into());
    drop(bytes.clone());
    bytes
}

fn decode(text: &Bytes) -> Args {
    let packet = Decoder::new(Limits::default()).text(text.clone());
    packet.expect("a packet").expect("complete").args
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");

    let packet = shared(format!("4{EVENT}"));
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function("engine_packet", |b| {
        b.iter(|| Packet::decode_text(black_box(&packet).clone()));
    });

    for (name, text) in [
        ("100_bytes", EVENT.to_owned()),
        ("ack_and_namespace", EVENT.replacen('2', "2/admin,12", 1)),
        ("smallest", "2[\"m\"]".to_owned()),
        (
            "10_kilobytes",
            EVENT.replace("hello", &"hello ".repeat(1_700)),
        ),
        (
            "1000_numbers",
            format!("2[\"m\"{}]", ",12345".repeat(1_000)),
        ),
    ] {
        let text = shared(text);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("event", name), &text, |b, text| {
            let mut decoder = Decoder::new(Limits::default());
            b.iter(|| decoder.text(black_box(text).clone()));
        });
    }

    let args = decode(&shared(EVENT));
    group.throughput(Throughput::Elements(1));
    group.bench_function("typed_argument", |b| {
        b.iter(|| black_box(&args).get::<Message>(0))
    });

    let body = ["4", EVENT, "\u{1e}"].concat().repeat(16);
    let body = shared(body.trim_end_matches('\u{1e}'));
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("payload_of_16", |b| {
        b.iter(|| {
            payload::decode(black_box(&body).clone())
                .filter(Result::is_ok)
                .count()
        });
    });
    group.finish();
}

fn reassembly(c: &mut Criterion) {
    let mut group = c.benchmark_group("binary");
    let placeholder = |i| format!("{{\"_placeholder\":true,\"num\":{i}}}");
    for count in [1, 10] {
        let placeholders: Vec<_> = (0..count).map(placeholder).collect();
        let text = shared(format!("5{count}-[\"upload\",{}]", placeholders.join(",")));
        let data = shared(vec![7; 1_024]);
        group.throughput(Throughput::Bytes((text.len() + count * data.len()) as u64));
        group.bench_with_input(
            BenchmarkId::new("attachments", count),
            &count,
            |b, &count| {
                let mut decoder = Decoder::new(Limits::default());
                b.iter(|| {
                    let mut packet = decoder.text(black_box(&text).clone());
                    for _ in 0..count {
                        packet = decoder.binary(black_box(&data).clone());
                    }
                    packet
                });
            },
        );
    }
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let message = message();
    group.bench_function("event", |b| {
        b.iter(|| encode::event("/", None, "message", black_box(&message)));
    });
    group.bench_function("ack", |b| b.iter(|| encode::ack("/", 12, black_box(&true))));
    let args = decode(&shared(EVENT));
    group.bench_function("pass_on", |b| {
        b.iter(|| encode::event("/", None, "message", black_box(&args)));
    });
    let data = Bytes::from(vec![7; 1_024]);
    group.bench_function("event_with_attachment", |b| {
        b.iter(|| encode::event("/", None, "upload", black_box(&data)));
    });
    group.bench_function("base64_of_a_frame", |b| {
        let fresh = || encode::event("/", None, "upload", &data).expect("a frame");
        b.iter_batched(fresh, |frame| frame.polling(), BatchSize::SmallInput);
    });
    let frame = Frame::text(EVENT.as_bytes());
    group.bench_function("clone", |b| b.iter(|| black_box(&frame).clone()));
    group.finish();
}

/// A packet whose only argument is a `T`, for another implementation.
#[derive(Deserialize, Serialize)]
struct Whole<T> {
    r#type: u8,
    nsp: String,
    data: (String, T),
}

/// A typical larger value of an application: a list of messages, with numbers and binary data.
#[derive(Deserialize, Serialize)]
struct Page {
    messages: Vec<Entry>,
    next: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    id: u64,
    score: f64,
    is_read: bool,
    tags: Vec<String>,
    message: Message,
    picture: Bytes,
}

fn page() -> Page {
    let entry = |id| Entry {
        id,
        score: 0.5,
        is_read: true,
        tags: vec!["first".into(), "second".into()],
        message: message(),
        picture: Bytes::from_static(&[7; 64]),
    };
    Page {
        messages: (1_000_000..1_000_050).map(entry).collect(),
        next: Some(1_000_050),
    }
}

/// Measures the cost of exact numbers, with numbers as `Math.random()` creates them, with 16 or 17
/// digits each.
fn floats(c: &mut Criterion) {
    let mut group = c.benchmark_group("floats");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let numbers: Vec<f64> = (0..1000).map(|_| random()).collect();
    let list = serde_json::to_string(&numbers).expect("numbers");
    let text = shared(format!("2[\"m\",{list}]"));
    group.throughput(Throughput::Elements(1000));
    group.bench_function("typed_1000", |b| {
        b.iter(|| {
            decode(black_box(&text))
                .get::<Vec<f64>>(0)
                .expect("numbers")
        });
    });
    group.bench_function("value_1000", |b| {
        b.iter(|| decode(black_box(&text)).get::<Value>(0).expect("a value"));
    });
    group.bench_function("json_to_messagepack_1000", |b| {
        b.iter(|| Parser::MessagePack.event("/", None, "m", &decode(black_box(&text))));
    });
    group.finish();
}

/// Compares MessagePack with `rmp-serde` on the same packets. It may take at most 1.5 times as
/// long.
fn messagepack(c: &mut Criterion) {
    compare(c, "message", &message());
    compare(c, "page", &page());
    compare(
        c,
        "1000_numbers",
        &(0..1000_i32).map(|i| i * i).collect::<Vec<_>>(),
    );
    compare(c, "10_kilobytes", &"hello ".repeat(1_700));
    compare(c, "10_kilobytes_cyrillic", &"привет ".repeat(800));
}

fn compare<T: Serialize + DeserializeOwned>(c: &mut Criterion, name: &str, value: &T) {
    let mut group = c.benchmark_group("messagepack");
    let frame = Parser::MessagePack.event("/", None, "message", &(value,));
    let polled: Vec<_> = payload::decode(frame.expect("encodes").polling()).collect();
    let [Ok(Packet::Message(Content::Binary(packet)))] = &polled[..] else {
        unreachable!("a packet is one binary message");
    };
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function(BenchmarkId::new("decode", name), |b| {
        let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
        b.iter(|| {
            let packet = decoder.binary(black_box(packet).clone());
            let packet = packet.expect("a packet").expect("complete");
            packet.args.get::<T>(0).expect("the value")
        });
    });
    group.bench_function(BenchmarkId::new("decode_by_rmp_serde", name), |b| {
        b.iter(|| {
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(&black_box(packet)[..])
                .with_human_readable();
            Whole::<T>::deserialize(&mut deserializer)
                .expect("the packet")
                .data
                .1
        });
    });
    group.bench_function(BenchmarkId::new("encode", name), |b| {
        b.iter(|| Parser::MessagePack.event("/", None, "message", &(black_box(value),)));
    });
    group.bench_function(BenchmarkId::new("encode_by_rmp_serde", name), |b| {
        b.iter(|| {
            let whole = Whole {
                r#type: 2,
                nsp: "/".into(),
                data: ("message".into(), black_box(value)),
            };
            let mut out = Vec::with_capacity(128);
            let mut serializer = rmp_serde::Serializer::new(&mut out)
                .with_human_readable()
                .with_struct_map();
            whole.serialize(&mut serializer).map(|()| Bytes::from(out))
        });
    });
    group.finish();
}

/// Measures the whole path of a message: bytes of a socket to an event, and an event to bytes for a
/// socket.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("websocket");
    let mut frame = Vec::new();
    let text = format!("4{EVENT}");
    let key = [1, 2, 3, 4];
    websocket::encode_header(
        &mut frame,
        websocket::Fragment::Final,
        websocket::Opcode::Text,
        text.len() as u64,
        Some(key),
    );
    let start = frame.len();
    frame.extend_from_slice(text.as_bytes());
    websocket::mask::apply(frame.get_mut(start..).unwrap_or_default(), key, 0);
    let limits = websocket::Limits {
        max_message: 1_000_000,
        max_fragments: 16_384,
    };
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("frame_to_event", |b| {
        let mut frames = websocket::Decoder::new(Role::Server, limits);
        let mut packets = Decoder::new(Limits::default());
        b.iter(|| {
            let mut input = black_box(&frame[..]);
            let Ok(Some(websocket::Event::Text(text))) = frames.decode(&mut input) else {
                unreachable!("the frame is whole");
            };
            match Packet::decode_text(text) {
                Ok(Packet::Message(Content::Text(text))) => packets.text(text),
                other => unreachable!("{other:?}"),
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    targets = decoding, reassembly, encoding, floats, messagepack, round_trip
}
criterion_main!(benches);
