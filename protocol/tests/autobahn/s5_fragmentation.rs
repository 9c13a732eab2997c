//! 5: fragmented messages.

use roomcast_protocol::websocket::FrameError::{
    ExpectedContinuation, FragmentedControl, UnexpectedContinuation,
};

use crate::table::{
    Case, Data,
    End::{Fails, Idle, Waits},
    Seen::{Binary, Long, Ping, Pong, Text},
    case, check, f,
};

#[test]
fn fragmentation() {
    check(CASES);
}

pub(crate) const CASES: &[Case] = &[
    case(
        "5.1 a ping in two fragments",
        &[f(b"\x09\x01", b"a"), f(b"\x80\x01", b"b")],
        &[],
        Fails(FragmentedControl),
    ),
    case(
        "5.2 a pong in two fragments",
        &[f(b"\x0a\x01", b"a"), f(b"\x80\x01", b"b")],
        &[],
        Fails(FragmentedControl),
    ),
    case(
        "5 a close in two fragments",
        &[f(b"\x08\x02", b"\x03\xe8"), f(b"\x80\x00", b"")],
        &[],
        Fails(FragmentedControl),
    ),
    case(
        "5.3 a text in two fragments",
        &[f(b"\x01\x09", b"fragment1"), f(b"\x80\x09", b"fragment2")],
        &[Text(b"fragment1fragment2")],
        Idle,
    ),
    case(
        "5 the fragments of RFC 6455 section 5.7",
        &[f(b"\x01\x03", b"\x48\x65\x6c"), f(b"\x80\x02", b"\x6c\x6f")],
        &[Text(b"Hello")],
        Idle,
    ),
    case(
        "5.4 a binary in two fragments",
        &[f(b"\x02\x01", b"\xff"), f(b"\x80\x01", b"\xfe")],
        &[Binary(b"\xff\xfe")],
        Idle,
    ),
    case(
        "5.5 a text in three fragments",
        &[
            f(b"\x01\x01", b"a"),
            f(b"\x00\x01", b"b"),
            f(b"\x80\x01", b"c"),
        ],
        &[Text(b"abc")],
        Idle,
    ),
    case(
        "5.6 a ping between two fragments",
        &[
            f(b"\x01\x01", b"a"),
            f(b"\x89\x04", b"ping"),
            f(b"\x80\x01", b"b"),
        ],
        &[Ping(b"ping"), Text(b"ab")],
        Idle,
    ),
    case(
        "5.7 a pong between two fragments",
        &[
            f(b"\x01\x01", b"a"),
            f(b"\x8a\x04", b"pong"),
            f(b"\x80\x01", b"b"),
        ],
        &[Pong(b"pong"), Text(b"ab")],
        Idle,
    ),
    case(
        "5.8 a ping between fragments of binary",
        &[
            f(b"\x02\x01", b"\xff"),
            f(b"\x89\x00", b""),
            f(b"\x80\x01", b"\xff"),
        ],
        &[Ping(b""), Binary(b"\xff\xff")],
        Idle,
    ),
    case(
        "5.9 a final continuation with nothing open",
        &[
            f(b"\x80\x18", b"non-continuation payload"),
            f(b"\x81\x01", b"a"),
        ],
        &[],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.10 an empty continuation with nothing open",
        &[f(b"\x80\x00", b"")],
        &[],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.11 a continuation behind a whole message",
        &[f(b"\x81\x01", b"a"), f(b"\x80\x01", b"b")],
        &[Text(b"a")],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.12 an open continuation with nothing open",
        &[f(b"\x00\x01", b"a"), f(b"\x81\x01", b"b")],
        &[],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.13 an empty open continuation with nothing open",
        &[f(b"\x00\x00", b"")],
        &[],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.14 an open continuation behind a whole message",
        &[f(b"\x82\x01", b"a"), f(b"\x00\x01", b"b")],
        &[Binary(b"a")],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.15 a continuation behind a fragmented message",
        &[
            f(b"\x01\x01", b"a"),
            f(b"\x80\x01", b"b"),
            f(b"\x00\x01", b"c"),
            f(b"\x81\x01", b"d"),
        ],
        &[Text(b"ab")],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.16 continuation, text, continuation",
        &[
            f(b"\x00\x01", b"a"),
            f(b"\x01\x01", b"b"),
            f(b"\x80\x01", b"c"),
        ],
        &[],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.17 final continuation, text, continuation",
        &[
            f(b"\x80\x01", b"a"),
            f(b"\x01\x01", b"b"),
            f(b"\x80\x01", b"c"),
        ],
        &[],
        Fails(UnexpectedContinuation),
    ),
    case(
        "5.18 a text inside a text",
        &[f(b"\x01\x01", b"a"), f(b"\x81\x01", b"b")],
        &[],
        Fails(ExpectedContinuation),
    ),
    case(
        "5.18 an open text inside a text",
        &[f(b"\x01\x01", b"a"), f(b"\x01\x01", b"b")],
        &[],
        Fails(ExpectedContinuation),
    ),
    case(
        "5.18 a binary inside a text",
        &[f(b"\x01\x01", b"a"), f(b"\x82\x01", b"b")],
        &[],
        Fails(ExpectedContinuation),
    ),
    case(
        "5.18 a text inside a binary",
        &[f(b"\x02\x01", b"a"), f(b"\x81\x01", b"b")],
        &[],
        Fails(ExpectedContinuation),
    ),
    case(
        "5.18 a text inside an empty beginning",
        &[f(b"\x01\x00", b""), f(b"\x81\x01", b"b")],
        &[],
        Fails(ExpectedContinuation),
    ),
    case(
        "5.19 five fragments and two pings",
        &[
            f(b"\x01\x01", b"1"),
            f(b"\x00\x01", b"2"),
            f(b"\x89\x05", b"ping1"),
            f(b"\x00\x01", b"3"),
            f(b"\x00\x01", b"4"),
            f(b"\x89\x05", b"ping2"),
            f(b"\x80\x01", b"5"),
        ],
        &[Ping(b"ping1"), Ping(b"ping2"), Text(b"12345")],
        Idle,
    ),
    case(
        "5 only empty fragments",
        &[
            f(b"\x02\x00", b""),
            f(b"\x00\x00", b"").times(5),
            f(b"\x80\x00", b""),
        ],
        &[Binary(b"")],
        Idle,
    ),
    case(
        "5 a final empty fragment",
        &[f(b"\x01\x03", b"abc"), f(b"\x80\x00", b"")],
        &[Text(b"abc")],
        Idle,
    ),
    case(
        "5 a message without its last fragment",
        &[f(b"\x01\x03", b"abc"), f(b"\x00\x00", b"")],
        &[],
        Waits,
    ),
    case(
        "5 two fragmented messages",
        &[
            f(b"\x01\x01", b"a"),
            f(b"\x80\x01", b"b"),
            f(b"\x02\x01", b"c"),
            f(b"\x80\x01", b"d"),
        ],
        &[Text(b"ab"), Binary(b"cd")],
        Idle,
    ),
    case(
        "5 fragments of every form of length",
        &[
            f(b"\x01\x7d", b"*").payload_times(125),
            f(b"\x00\x7e\x00\x7e", b"*").payload_times(126),
            f(b"\x00\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"*").payload_times(65536),
            f(b"\x80\x00", b""),
        ],
        &[Long(Data(b"*", 125 + 126 + 65536))],
        Idle,
    ),
    case(
        "5 a thousand fragments of one byte",
        &[
            f(b"\x01\x01", b"*"),
            f(b"\x00\x01", b"*").times(998),
            f(b"\x80\x01", b"*"),
        ],
        &[Long(Data(b"*", 1000))],
        Idle,
    ),
];
