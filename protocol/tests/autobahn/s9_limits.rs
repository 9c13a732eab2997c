//! 9: long messages, and where they end.

use roomcast_protocol::websocket::FrameError::{
    LengthNotMinimal, LengthOverflow, MessageTooBig, TooManyFragments,
};

use crate::table::{
    Case, Data,
    End::{Fails, Idle, Waits},
    Seen::{Binary, Long, LongBinary, Ping, Text},
    case, check, f,
};

#[test]
fn limits() {
    check(CASES);
}

const MANY: u32 = 16_384;

pub(crate) const CASES: &[Case] = &[
    case(
        "9.1.1 a text of 64 KiB",
        &[f(b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", "ä".as_bytes()).payload_times(32_768)],
        &[Long(Data("ä".as_bytes(), 32_768))],
        Idle,
    ),
    case(
        "9.1.2 a text of 256 KiB",
        &[f(b"\x81\x7f\x00\x00\x00\x00\x00\x04\x00\x00", "😀".as_bytes()).payload_times(65_536)],
        &[Long(Data("😀".as_bytes(), 65_536))],
        Idle,
    ),
    case(
        "9.1.3 a text of 1 MiB",
        &[f(b"\x81\x7f\x00\x00\x00\x00\x00\x10\x00\x00", b"*").payload_times(1 << 20)],
        &[Long(Data(b"*", 1 << 20))],
        Idle,
    ),
    case(
        "9.2.1 a binary of 64 KiB",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"\x00\xff").payload_times(32_768)],
        &[LongBinary(Data(b"\x00\xff", 32_768))],
        Idle,
    ),
    case(
        "9.2.2 a binary of 256 KiB",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x04\x00\x00", b"\xff").payload_times(1 << 18)],
        &[LongBinary(Data(b"\xff", 1 << 18))],
        Idle,
    ),
    case(
        "9.2.3 a binary of 1 MiB",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x10\x00\x00", b"\xff").payload_times(1 << 20)],
        &[LongBinary(Data(b"\xff", 1 << 20))],
        Idle,
    ),
    case(
        "9.3.1 a text in fragments of 64 bytes",
        &[
            f(b"\x01\x40", b"*").payload_times(64),
            f(b"\x00\x40", b"*").payload_times(64).times(1022),
            f(b"\x80\x40", b"*").payload_times(64),
        ],
        &[Long(Data(b"*", 65_536))],
        Idle,
    ),
    case(
        "9.3.2 a text in fragments of 256 bytes",
        &[
            f(b"\x01\x7e\x01\x00", b"*").payload_times(256),
            f(b"\x00\x7e\x01\x00", b"*").payload_times(256).times(254),
            f(b"\x80\x7e\x01\x00", b"*").payload_times(256),
        ],
        &[Long(Data(b"*", 65_536))],
        Idle,
    ),
    case(
        "9.3.5 a text in fragments of 16 KiB",
        &[
            f(b"\x01\x7e\x40\x00", b"*").payload_times(16_384),
            f(b"\x00\x7e\x40\x00", b"*").payload_times(16_384).times(2),
            f(b"\x80\x7e\x40\x00", b"*").payload_times(16_384),
        ],
        &[Long(Data(b"*", 65_536))],
        Idle,
    ),
    case(
        "9.4.1 a binary in fragments of 64 bytes",
        &[
            f(b"\x02\x40", b"\xfe").payload_times(64),
            f(b"\x00\x40", b"\xfe").payload_times(64).times(1022),
            f(b"\x80\x40", b"\xfe").payload_times(64),
        ],
        &[LongBinary(Data(b"\xfe", 65_536))],
        Idle,
    ),
    case(
        "9.4.4 a binary in fragments of 4 KiB and pings",
        &[
            f(b"\x02\x7e\x10\x00", b"\xfe").payload_times(4096),
            f(b"\x89\x01", b"1"),
            f(b"\x00\x7e\x10\x00", b"\xfe").payload_times(4096),
            f(b"\x89\x01", b"2"),
            f(b"\x80\x7e\x10\x00", b"\xfe").payload_times(4096),
        ],
        &[Ping(b"1"), Ping(b"2"), LongBinary(Data(b"\xfe", 12_288))],
        Idle,
    ),
    case(
        "9.7 a thousand empty texts",
        &[f(b"\x81\x00", b"").times(1000)],
        &[Text(b""); 1000],
        Idle,
    ),
    case(
        "9.8 a thousand binaries of 16 bytes",
        &[f(b"\x82\x10", b"0123456789abcdef").times(1000)],
        &[Binary(b"0123456789abcdef"); 1000],
        Idle,
    ),
    case(
        "9 a message at the limit",
        &[f(b"\x82\x0a", b"0123456789")],
        &[Binary(b"0123456789")],
        Idle,
    )
    .limits(10, MANY),
    case(
        "9 a message over the limit, its header alone",
        &[f(b"\x82\x0b", b"")],
        &[],
        Fails(MessageTooBig),
    )
    .limits(10, MANY),
    case(
        "9 a 16-bit length over the limit",
        &[f(b"\x81\x7e\x04\x01", b"")],
        &[],
        Fails(MessageTooBig),
    )
    .limits(1024, MANY),
    case(
        "9 a 64-bit length over the limit",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x0f\x42\x41", b"")],
        &[],
        Fails(MessageTooBig),
    )
    .limits(1_000_000, MANY),
    case(
        "9 a 64-bit length at the limit",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x0f\x42\x40", b"")],
        &[],
        Waits,
    )
    .limits(1_000_000, MANY),
    case(
        "9 the largest length",
        &[f(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", b"")],
        &[],
        Fails(MessageTooBig),
    ),
    case(
        "9 all bits of a length",
        &[f(b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", b"")],
        &[],
        Fails(LengthOverflow),
    ),
    case(
        "9 the first bit of a length",
        &[f(b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", b"")],
        &[],
        Fails(LengthOverflow),
    ),
    case(
        "9 fragments at the limit together",
        &[
            f(b"\x02\x05", b"01234"),
            f(b"\x00\x04", b"5678"),
            f(b"\x80\x01", b"9"),
        ],
        &[Binary(b"0123456789")],
        Idle,
    )
    .limits(10, MANY),
    case(
        "9 fragments over the limit together",
        &[
            f(b"\x02\x05", b"01234"),
            f(b"\x00\x04", b"5678"),
            f(b"\x80\x02", b""),
        ],
        &[],
        Fails(MessageTooBig),
    )
    .limits(10, MANY),
    case(
        "9 a fragment whose sum would overflow",
        &[
            f(b"\x02\x05", b"01234"),
            f(b"\x80\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", b""),
        ],
        &[],
        Fails(MessageTooBig),
    )
    .limits(isize::MAX as usize, MANY),
    case(
        "9 control frames do not count",
        &[
            f(b"\x02\x05", b"01234"),
            f(b"\x89\x10", b"0123456789abcdef"),
            f(b"\x80\x00", b""),
        ],
        &[Ping(b"0123456789abcdef"), Binary(b"01234")],
        Idle,
    )
    .limits(5, 2),
    case(
        "9 the limit is for each message",
        &[f(b"\x82\x05", b"01234"), f(b"\x82\x05", b"56789")],
        &[Binary(b"01234"), Binary(b"56789")],
        Idle,
    )
    .limits(5, MANY),
    case(
        "9 fragments at the limit of their number",
        &[
            f(b"\x02\x00", b""),
            f(b"\x00\x00", b""),
            f(b"\x80\x01", b"a"),
        ],
        &[Binary(b"a")],
        Idle,
    )
    .limits(10, 3),
    case(
        "9 a fragment too many",
        &[
            f(b"\x02\x00", b""),
            f(b"\x00\x00", b"").times(2),
            f(b"\x80\x01", b"a"),
        ],
        &[],
        Fails(TooManyFragments),
    )
    .limits(10, 3),
    case(
        "9 the number of fragments is for each message",
        &[
            f(b"\x02\x01", b"a"),
            f(b"\x80\x01", b"b"),
            f(b"\x02\x01", b"c"),
            f(b"\x80\x01", b"d"),
        ],
        &[Binary(b"ab"), Binary(b"cd")],
        Idle,
    )
    .limits(10, 2),
    case(
        "9 five in 16 bits",
        &[f(b"\x81\x7e\x00\x05", b"Hello")],
        &[],
        Fails(LengthNotMinimal),
    ),
    case(
        "9 125 in 16 bits",
        &[f(b"\x82\x7e\x00\x7d", b"")],
        &[],
        Fails(LengthNotMinimal),
    ),
    case(
        "9 five in 64 bits",
        &[f(b"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x05", b"Hello")],
        &[],
        Fails(LengthNotMinimal),
    ),
    case(
        "9 65535 in 64 bits",
        &[f(b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", b"")],
        &[],
        Fails(LengthNotMinimal),
    ),
];
