//! 2: pings and pongs.

use roomcast_protocol::websocket::FrameError::OversizedControl;

use crate::table::{
    Case,
    End::{Fails, Idle, Waits},
    Seen::{Ping, Pong, Text},
    case, check, f,
};

#[test]
fn pings() {
    check(CASES);
}

const LONGEST: &[u8; 125] = &[0xfe; 125];

pub(crate) const CASES: &[Case] = &[
    case(
        "2.1 ping without payload",
        &[f(b"\x89\x00", b"")],
        &[Ping(b"")],
        Idle,
    ),
    case(
        "2.2 ping with text",
        &[f(b"\x89\x0d", b"Hello, world!")],
        &[Ping(b"Hello, world!")],
        Idle,
    ),
    case(
        "2.3 ping with binary",
        &[f(b"\x89\x08", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
        &[Ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
        Idle,
    ),
    case(
        "2.4 ping with 125 bytes",
        &[f(b"\x89\x7d", LONGEST)],
        &[Ping(LONGEST)],
        Idle,
    ),
    case(
        "2.5 ping with 126 bytes",
        &[f(b"\x89\x7e\x00\x7e", b"\xfe").payload_times(126)],
        &[],
        Fails(OversizedControl),
    ),
    case(
        "2.5 ping with a 64-bit length",
        &[f(b"\x89\x7f\x00\x00\x00\x00\x00\x00\x00\x01", b"x")],
        &[],
        Fails(OversizedControl),
    ),
    case(
        "2.5 pong with 126 bytes",
        &[f(b"\x8a\x7e\x00\x7e", b"\xfe").payload_times(126)],
        &[],
        Fails(OversizedControl),
    ),
    case(
        "2.6 ping with half its payload",
        &[f(b"\x89\x04", b"ab")],
        &[],
        Waits,
    ),
    case(
        "2.7 pong without payload",
        &[f(b"\x8a\x00", b"")],
        &[Pong(b"")],
        Idle,
    ),
    case(
        "2.8 pong with payload",
        &[f(b"\x8a\x10", b"unsolicited pong")],
        &[Pong(b"unsolicited pong")],
        Idle,
    ),
    case(
        "2.8 pong with 125 bytes",
        &[f(b"\x8a\x7d", LONGEST)],
        &[Pong(LONGEST)],
        Idle,
    ),
    case(
        "2.9 pong, then ping",
        &[f(b"\x8a\x04", b"pong"), f(b"\x89\x04", b"ping")],
        &[Pong(b"pong"), Ping(b"ping")],
        Idle,
    ),
    case(
        "2.10 ten pings",
        &[f(b"\x89\x03", b"abc").times(10)],
        &[Ping(b"abc"); 10],
        Idle,
    ),
    case(
        "2.11 pings between texts",
        &[
            f(b"\x89\x00", b""),
            f(b"\x81\x01", b"a"),
            f(b"\x89\x01", b"1"),
            f(b"\x81\x01", b"b"),
        ],
        &[Ping(b""), Text(b"a"), Ping(b"1"), Text(b"b")],
        Idle,
    ),
];
