//! permessage-deflate as a client sees it, byte by byte.

use std::time::Duration;

use roomcast::{
    Ack, Config, Event, Io,
    client::Client,
    metrics::{Counter, Gauge},
    options::PerMessageDeflate,
};
use roomcast_protocol::websocket::{
    self,
    deflate::{Compressor, Decompressor, Settings, WindowBits, inflate},
};

use crate::{
    local::{Local, until},
    options::WEBSOCKET,
    support::{Frame, Polling, RawClient, Response, websocket::masked},
};

pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";
pub(crate) const ANSWER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const NO_CONTEXT: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const MAX_PAYLOAD: usize = 100_000;

pub(crate) fn options() -> PerMessageDeflate {
    PerMessageDeflate::default().threshold(0)
}

fn serve(options: PerMessageDeflate) -> Local {
    let config = Config::default()
        .per_message_deflate(options)
        .max_payload(MAX_PAYLOAD)
        .outbox_bytes(64 << 20);
    Local::serve(Io::builder().config(config).namespace("/", |namespace| {
        namespace
            .on("echo", async |_: Event, text: String| Ack(text))
            .on("all", async |event: Event, text: String| {
                event.io().emit("all", text);
            })
            .on("plain", async |event: Event, text: String| {
                event.socket.without_compression().emit("all", text);
            })
            .on("noise", async |event: Event, bytes: usize, count: usize| {
                for index in 0..count {
                    event.socket.emit("noise", noise(index, bytes));
                }
            })
    }))
}

/// Returns text without repetitions, of which compression saves a part.
fn noise(seed: usize, bytes: usize) -> String {
    let mut state = seed as u32 + 1;
    let digit = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + 2 + (*state >> 24) as u8 % 56)
    };
    (0..bytes)
        .map(|_| digit(&mut state))
        .filter(|c| *c != '\\')
        .collect()
}

/// Sends a WebSocket handshake with these offers.
pub(crate) fn offer(client: &mut RawClient, target: &str, offers: &[&str]) -> Response {
    let offers: String = offers
        .iter()
        .map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"))
        .collect();
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offers}\r\n"
    ));
    client.response()
}

/// Returns the first byte and the payload of the next frame that is not an Engine.IO ping.
pub(crate) fn raw(client: &mut RawClient) -> (u8, Vec<u8>) {
    loop {
        let head = client.take(2);
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(client.take(2).try_into().unwrap())),
            127 => u64::from_be_bytes(client.take(8).try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        let payload = client.take(length);
        if payload != b"2" {
            return (head[0], payload);
        }
        client.send_text("3");
    }
}

pub(crate) fn inflated(payload: Vec<u8>) -> String {
    let event = inflate(websocket::Event::Text(payload.into()), 100 << 20);
    let Ok(websocket::Event::Text(text)) = event else {
        panic!("not inflated: {event:?}")
    };
    String::from_utf8(text.to_vec()).unwrap()
}

/// Returns the next message, inflated if it is compressed.
pub(crate) fn text(client: &mut RawClient) -> String {
    match raw(client) {
        (0x81, payload) => String::from_utf8(payload).unwrap(),
        (0xc1, payload) => inflated(payload),
        other => panic!("no text: {other:x?}"),
    }
}

pub(crate) fn compressed(text: &str) -> Vec<u8> {
    let settings = Settings {
        threshold: 0,
        level: 6,
    };
    let text = text.strip_prefix('4').unwrap();
    let frame = roomcast_protocol::Frame::text(text.as_bytes());
    let bytes = frame.deflated(WindowBits::MIN, &settings);
    assert_eq!(bytes[0], 0xc1, "the text is too short to be compressed");
    let header = if bytes[1] == 126 { 4 } else { 2 };
    bytes[header..].to_vec()
}

/// Connects a client to `/` with this offer.
fn join(server: &Local, offers: &[&str]) -> RawClient {
    let mut client = RawClient::connect(server.address());
    let response = offer(&mut client, WEBSOCKET, offers);
    assert_eq!(response.status, 101, "{response:?}");
    assert!(text(&mut client).starts_with("0{"));
    client.send_text("40");
    assert!(text(&mut client).starts_with("40{"));
    client
}

#[test]
fn answer_names_what_was_agreed() {
    let server = serve(options());
    for (offers, expected) in [
        (&[][..], None),
        (&[OFFER][..], Some(ANSWER.to_owned())),
        (&["x-webkit-deflate-frame"], None),
        (&["permessage-deflate; server_max_window_bits=8"], None),
        (
            &[
                "permessage-deflate; x=1",
                "permessage-deflate; server_max_window_bits=10",
            ],
            Some(format!("{ANSWER}; server_max_window_bits=10")),
        ),
    ] {
        let mut client = RawClient::connect(server.address());
        let response = offer(&mut client, WEBSOCKET, offers);
        assert_eq!(response.status, 101);
        let chosen = response.header("sec-websocket-extensions");
        assert_eq!(chosen, expected.as_deref(), "{offers:?}");
    }
    let mut client = RawClient::connect(server.address());
    assert_eq!(
        offer(&mut client, WEBSOCKET, &["permessage-deflate;"]).status,
        400
    );
}

#[test]
fn compression_is_off_by_default() {
    let server = Local::serve(Io::builder().namespace("/", |namespace| namespace));
    for offers in [OFFER, "permessage-deflate;"] {
        let mut client = RawClient::connect(server.address());
        let response = offer(&mut client, WEBSOCKET, &[offers]);
        assert_eq!(response.status, 101);
        assert_eq!(response.header("sec-websocket-extensions"), None);
        assert!(matches!(client.frame(), Frame::Text(_)));
        client.send(masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
        assert_eq!(client.close_code(), Some(1002));
    }
}

#[test]
fn upgraded_session_compresses_as_well() {
    let server = serve(options());
    let polling = Polling::open(server.address(), "/socket.io/");
    let mut client = RawClient::connect(server.address());
    let response = offer(&mut client, &polling.upgrade, &[OFFER]);
    assert_eq!(response.header("sec-websocket-extensions"), Some(ANSWER));
    client.send_text("2probe");
    assert_eq!(text(&mut client), "3probe");
    client.send_text("5");
    client.send_text("40");
    assert!(text(&mut client).starts_with("40{"));
    client.send(masked(
        0xc1,
        compressed(r#"42["all","aaaaaaaaaaaaaaaaaaaaaaaaa"]"#),
    ));
    let (first, payload) = raw(&mut client);
    assert_eq!(
        (first, inflated(payload)),
        (0xc1, r#"42["all","aaaaaaaaaaaaaaaaaaaaaaaaa"]"#.into())
    );
}

#[test]
fn broadcast_reaches_every_window_in_its_form() {
    let server = serve(options());
    let small = "permessage-deflate; server_max_window_bits=9";
    let mut clients = [
        join(&server, &[OFFER]),
        join(&server, &[small]),
        join(&server, &[]),
        join(&server, &[OFFER]),
    ];
    for content in [
        "short short short short short".to_owned(),
        noise(1, 3000).repeat(2),
    ] {
        let packet = format!("42[\"all\",\"{content}\"]");
        clients[0].send(masked(0xc1, compressed(&packet)));
        let received: Vec<_> = clients.iter_mut().map(raw).collect();
        assert_eq!(received[2], (0x81, packet.clone().into_bytes()));
        assert_eq!(received[0], received[3]);
        for index in [0, 1] {
            let (first, payload) = received[index].clone();
            assert_eq!(first, 0xc1);
            assert!(payload.len() < packet.len());
            assert_eq!(inflated(payload), packet);
        }
        // A short message has one form; the second half of a long one refers too far back.
        assert_eq!(received[0] == received[1], content.len() < 512);
    }
}

#[test]
fn small_incompressible_and_plain_messages_stay_as_they_are() {
    let server = serve(options().threshold(100));
    let mut client = join(&server, &[OFFER]);
    let long = "x".repeat(100);
    for (event, content, is_compressed) in [
        ("all", "x".repeat(80), false),
        ("all", long.clone(), true),
        ("plain", long, false),
    ] {
        client.send_text(format!("42[\"{event}\",\"{content}\"]"));
        let (first, payload) = raw(&mut client);
        assert_eq!(first == 0xc1, is_compressed, "{event} {}", content.len());
        let packet = if first == 0xc1 {
            inflated(payload)
        } else {
            String::from_utf8(payload).unwrap()
        };
        assert_eq!(packet, format!("42[\"all\",\"{content}\"]"));
    }
}

#[test]
fn broken_frame_ends_only_its_own_connection() {
    let server = serve(options());
    let mut witness = join(&server, &[OFFER]);
    let bomb = {
        let frame = roomcast_protocol::Frame::text(&vec![b' '; 5 << 20]);
        let bytes = frame.deflated(WindowBits::MAX, &Settings::default());
        bytes[4..].to_vec()
    };
    let halves = bomb.split_at(bomb.len() / 2);
    let deflated = compressed(r#"42["all","aaaaaaaaaaaaaaaaaaaaaaaaa"]"#);
    for (name, offers, bytes, code) in [
        ("not negotiated", &[][..], masked(0xc1, &deflated), 1002),
        ("RSV1 on a ping", &[OFFER][..], masked(0xc9, ""), 1002),
        ("RSV1 on a close", &[OFFER], masked(0xc8, ""), 1002),
        ("RSV2", &[OFFER], masked(0xa1, "x"), 1002),
        (
            "RSV1 on a continuation",
            &[OFFER],
            [masked(0x41, "x"), masked(0xc0, "x")].concat(),
            1002,
        ),
        (
            "no deflate data",
            &[OFFER],
            masked(0xc1, b"\xff\xff\xff"),
            1007,
        ),
        (
            "truncated",
            &[OFFER],
            masked(0xc1, &deflated[..deflated.len() - 2]),
            1007,
        ),
        (
            "not UTF-8",
            &[OFFER],
            masked(0xc1, b"\x00\x02\x00\xfd\xff\xc3\x28\x00"),
            1007,
        ),
        ("a bomb", &[OFFER], masked(0xc1, &bomb), 1009),
        (
            "a bomb in two frames",
            &[OFFER],
            [masked(0x41, halves.0), masked(0x80, halves.1)].concat(),
            1009,
        ),
    ] {
        let mut client = join(&server, offers);
        client.send(bytes);
        assert_eq!(client.close_code(), Some(code), "{name}");
    }
    witness.send(masked(
        0xc1,
        compressed(r#"420["echo","still here, still here, still here"]"#),
    ));
    assert_eq!(
        text(&mut witness),
        r#"430["still here, still here, still here"]"#
    );
}

#[test]
fn slow_client_receives_every_compressed_frame() {
    for context_takeover in [false, true] {
        let mut options = options();
        options.context_takeover = context_takeover;
        let server = serve(options);
        let mut client = RawClient::connect_with_buffer(server.address(), 4096);
        let response = offer(&mut client, WEBSOCKET, &[OFFER]);
        assert_eq!(response.status, 101);
        let mut context = Decompressor::new();
        let mut next = |client: &mut RawClient| match raw(client) {
            (0xc1, payload) if context_takeover => {
                let event = context.inflate(websocket::Event::Text(payload.into()), 1 << 20);
                match event {
                    Ok(websocket::Event::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            (0xc1, payload) => inflated(payload),
            (first, payload) => {
                assert!(matches!(first, 0x81 | 0x8a), "{first:x}");
                String::from_utf8(payload).unwrap()
            }
        };
        next(&mut client);
        client.send_text("40");
        next(&mut client);
        client.send_text(r#"42["noise",70000,60]"#);
        client.send_text(r#"42["noise",300,60]"#);
        // The kernel accepts no more, and a pong overtakes what waits.
        std::thread::sleep(Duration::from_millis(200));
        client.send(masked(0x89, "overtakes"));
        let mut expected: Vec<_> = [70_000, 300]
            .iter()
            .flat_map(|bytes| {
                (0..60).map(|index| format!("42[\"noise\",\"{}\"]", noise(index, *bytes)))
            })
            .collect();
        expected.reverse();
        let mut pongs = 0;
        while let Some(packet) = expected.last() {
            let received = next(&mut client);
            if received == "overtakes" {
                pongs += 1;
                continue;
            }
            assert!(received == *packet, "{} are left", expected.len());
            expected.pop();
        }
        if pongs == 0 {
            assert_eq!(next(&mut client), "overtakes");
        }
    }
}

#[test]
fn client_of_the_library_compresses_in_both_directions() {
    let server = serve(options());
    let counted = |counter| server.io.metrics().counter(counter);
    let url = format!("http://{}", server.address());
    for threshold in [Some(0), None] {
        let text = "the same words again, ".repeat(1000);
        let mut builder = Client::builder(&url);
        if let Some(threshold) = threshold {
            builder = builder.per_message_deflate(threshold);
        }
        let socket = server.runtime.block_on(builder.connect()).unwrap();
        let before = counted(Counter::BytesSent);
        let echo = socket.emit_with_ack("echo", &text);
        let answer: String = server.runtime.block_on(echo).unwrap();
        assert_eq!(answer, text);
        // The server counts bytes after it has sent them. The client may have them before.
        let sent = || counted(Counter::BytesSent) - before;
        match threshold {
            Some(_) => {
                until(|| sent() > 0);
                assert!(sent() < 1000, "{} bytes", sent());
            }
            None => until(|| sent() > 1000),
        }
        server.runtime.block_on(socket.client().close());
    }
}

#[test]
fn contexts_are_kept_on_request_and_counted() {
    let server = serve(options().context_takeover());
    let bytes = || server.io.metrics().gauge(Gauge::DeflateContextBytes);
    let without = join(&server, &[NO_CONTEXT]);
    assert_eq!(bytes(), 0);
    let mut client = join(&server, &[OFFER]);
    assert!(bytes() > 100_000);
    assert_eq!(server.io.metrics().gauge(Gauge::DeflateConnections), 1);
    let settings = Settings {
        threshold: 0,
        level: 6,
    };
    let (mut sender, mut receiver) = (Compressor::new(WindowBits::MAX, 6), Decompressor::new());
    let content = noise(3, 500);
    let frame = roomcast_protocol::Frame::text(format!("2[\"all\",\"{content}\"]").as_bytes());
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let sent = frame.deflated_by(&mut sender, &settings);
        let header = if sent[1] == 126 { 4 } else { 2 };
        client.send(masked(0xc1, &sent[header..]));
        let (first, payload) = raw(&mut client);
        assert_eq!(first, 0xc1);
        sizes.push(payload.len());
        let event = receiver.inflate(websocket::Event::Text(payload.into()), 1 << 20);
        let expected = format!("42[\"all\",\"{content}\"]");
        assert_eq!(event, Ok(websocket::Event::Text(expected.into())));
    }
    assert!(sizes[1] * 5 < sizes[0], "{sizes:?}");
    drop((client, without));
    until(|| bytes() == 0);
}
