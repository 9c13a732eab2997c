//! 10: what the other sections leave.

use roomcast_protocol::websocket::FrameError::{ExpectedContinuation, ReservedBits};

use crate::table::{
    Case, Data,
    End::{Fails, Idle, Waits},
    Seen::{Binary, EmptyClose, Long, Ping, Pong, Text},
    case, check, f,
};

#[test]
fn misc() {
    check(CASES);
}

pub(crate) const CASES: &[Case] = &[
    case("10 nothing", &[], &[], Idle),
    case(
        "10 a header without its payload",
        &[f(b"\x81\x05", b"")],
        &[],
        Waits,
    ),
    case("10 half a payload", &[f(b"\x81\x05", b"He")], &[], Waits),
    case(
        "10 half a length",
        &[f(b"\x81\x00", b""), f(b"\x81\x7f\x00\x00\x00", b"")],
        &[Text(b"")],
        Waits,
    ),
    case(
        "10.1.1 a text in fragments of 1300 bytes",
        &[
            f(b"\x01\x7e\x05\x14", b"*").payload_times(1300),
            f(b"\x00\x7e\x05\x14", b"*").payload_times(1300).times(49),
            f(b"\x80\x7e\x02\x18", b"*").payload_times(536),
        ],
        &[Long(Data(b"*", 65_536))],
        Idle,
    ),
    case(
        "10 the word test behind the handshake",
        &[f(b"\x74\x65\x73\x74", b"")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "10 an HTTP request",
        &[f(b"GET / HTTP/1.1\r\n", b"")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "10 zeros, sent as text inside text",
        &[f(b"\x01\x02", b"\x00\x00"), f(b"\x01\x00", b"")],
        &[],
        Fails(ExpectedContinuation),
    ),
    case(
        "10 every kind in one connection",
        &[
            f(b"\x81\x01", b"t"),
            f(b"\x82\x01", b"b"),
            f(b"\x89\x01", b"i"),
            f(b"\x8a\x01", b"o"),
            f(b"\x01\x01", b"f"),
            f(b"\x89\x00", b""),
            f(b"\x80\x01", b"g"),
            f(b"\x88\x00", b""),
        ],
        &[
            Text(b"t"),
            Binary(b"b"),
            Ping(b"i"),
            Pong(b"o"),
            Ping(b""),
            Text(b"fg"),
            EmptyClose,
        ],
        Idle,
    ),
];
