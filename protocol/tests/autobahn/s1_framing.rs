//! 1: text and binary messages of every form of length.

use crate::table::{
    Case, Data,
    End::Idle,
    Seen::{Binary, Long, LongBinary, Text},
    case, check, f,
};

#[test]
fn framing() {
    check(CASES);
}

pub(crate) const CASES: &[Case] = &[
    case(
        "1.1.1 empty text",
        &[f(b"\x81\x00", b"")],
        &[Text(b"")],
        Idle,
    ),
    case(
        "1.1 text of one byte",
        &[f(b"\x81\x01", b"*")],
        &[Text(b"*")],
        Idle,
    ),
    case(
        "1.1 the text of RFC 6455 section 5.7",
        &[f(b"\x81\x05", b"\x48\x65\x6c\x6c\x6f")],
        &[Text(b"Hello")],
        Idle,
    ),
    case(
        "1.1.2 text of 125 bytes",
        &[f(b"\x81\x7d", b"*").payload_times(125)],
        &[Long(Data(b"*", 125))],
        Idle,
    ),
    case(
        "1.1.3 text of 126 bytes",
        &[f(b"\x81\x7e\x00\x7e", b"*").payload_times(126)],
        &[Long(Data(b"*", 126))],
        Idle,
    ),
    case(
        "1.1.4 text of 127 bytes",
        &[f(b"\x81\x7e\x00\x7f", b"*").payload_times(127)],
        &[Long(Data(b"*", 127))],
        Idle,
    ),
    case(
        "1.1.5 text of 128 bytes",
        &[f(b"\x81\x7e\x00\x80", b"*").payload_times(128)],
        &[Long(Data(b"*", 128))],
        Idle,
    ),
    case(
        "1.1 text of 256 bytes",
        &[f(b"\x81\x7e\x01\x00", b"*").payload_times(256)],
        &[Long(Data(b"*", 256))],
        Idle,
    ),
    case(
        "1.1.6 text of 65535 bytes",
        &[f(b"\x81\x7e\xff\xff", b"*").payload_times(65535)],
        &[Long(Data(b"*", 65535))],
        Idle,
    ),
    case(
        "1.1.7 text of 65536 bytes",
        &[f(b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"*").payload_times(65536)],
        &[Long(Data(b"*", 65536))],
        Idle,
    ),
    case(
        "1.1 two texts in one segment",
        &[f(b"\x81\x01", b"a"), f(b"\x81\x01", b"b")],
        &[Text(b"a"), Text(b"b")],
        Idle,
    ),
    case(
        "1.2.1 empty binary",
        &[f(b"\x82\x00", b"")],
        &[Binary(b"")],
        Idle,
    ),
    case(
        "1.2 binary of one byte",
        &[f(b"\x82\x01", b"\xfe")],
        &[Binary(b"\xfe")],
        Idle,
    ),
    case(
        "1.2 binary is not text",
        &[f(b"\x82\x04", b"\xff\x00\xc0\x80")],
        &[Binary(b"\xff\x00\xc0\x80")],
        Idle,
    ),
    case(
        "1.2.2 binary of 125 bytes",
        &[f(b"\x82\x7d", b"\xfe").payload_times(125)],
        &[LongBinary(Data(b"\xfe", 125))],
        Idle,
    ),
    case(
        "1.2.3 binary of 126 bytes",
        &[f(b"\x82\x7e\x00\x7e", b"\xfe").payload_times(126)],
        &[LongBinary(Data(b"\xfe", 126))],
        Idle,
    ),
    case(
        "1.2.4 binary of 127 bytes",
        &[f(b"\x82\x7e\x00\x7f", b"\xfe").payload_times(127)],
        &[LongBinary(Data(b"\xfe", 127))],
        Idle,
    ),
    case(
        "1.2.5 binary of 128 bytes",
        &[f(b"\x82\x7e\x00\x80", b"\xfe").payload_times(128)],
        &[LongBinary(Data(b"\xfe", 128))],
        Idle,
    ),
    case(
        "1.2.6 binary of 65535 bytes",
        &[f(b"\x82\x7e\xff\xff", b"\xfe").payload_times(65535)],
        &[LongBinary(Data(b"\xfe", 65535))],
        Idle,
    ),
    case(
        "1.2.7 binary of 65536 bytes",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"\xfe").payload_times(65536)],
        &[LongBinary(Data(b"\xfe", 65536))],
        Idle,
    ),
    case(
        "1.2 text, binary, text",
        &[
            f(b"\x81\x01", b"a"),
            f(b"\x82\x01", b"\x80"),
            f(b"\x81\x01", b"b"),
        ],
        &[Text(b"a"), Binary(b"\x80"), Text(b"b")],
        Idle,
    ),
];
