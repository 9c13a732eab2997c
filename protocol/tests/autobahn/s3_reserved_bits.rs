//! 3: reserved bits that no extension claims.

use roomcast_protocol::websocket::FrameError::ReservedBits;

use crate::table::{
    Case,
    End::Fails,
    Seen::{Ping, Text},
    case, check, f,
};

#[test]
fn reserved_bits() {
    check(CASES);
}

pub(crate) const CASES: &[Case] = &[
    case(
        "3.1 RSV3",
        &[f(b"\x91\x01", b"*")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3.2 RSV2 between good messages",
        &[
            f(b"\x81\x01", b"*"),
            f(b"\xa1\x01", b"*"),
            f(b"\x89\x00", b""),
        ],
        &[Text(b"*")],
        Fails(ReservedBits),
    ),
    case(
        "3.3 RSV2 and RSV3",
        &[f(b"\x81\x01", b"*"), f(b"\xb1\x01", b"*")],
        &[Text(b"*")],
        Fails(ReservedBits),
    ),
    case(
        "3.4 RSV1",
        &[f(b"\xc1\x01", b"*")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3.4 RSV1 on binary",
        &[f(b"\xc2\x01", b"*")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3.5 RSV1 and RSV3 on binary",
        &[f(b"\xd2\x01", b"*")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3.6 RSV1 and RSV2 on a ping",
        &[f(b"\x89\x00", b""), f(b"\xe9\x01", b"*")],
        &[Ping(b"")],
        Fails(ReservedBits),
    ),
    case(
        "3.7 all bits on a close",
        &[f(b"\xf8\x00", b"")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3 RSV1 on a pong",
        &[f(b"\xca\x00", b"")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3 RSV1 on a continuation",
        &[f(b"\x01\x01", b"a"), f(b"\xc0\x01", b"b")],
        &[],
        Fails(ReservedBits),
    ),
    case(
        "3 RSV1 before its second byte",
        &[f(b"\x81\x00", b""), f(b"\xc1\x00", b"")],
        &[Text(b"")],
        Fails(ReservedBits),
    ),
];
