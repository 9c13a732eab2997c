//! 7: closing.

use roomcast_protocol::websocket::FrameError::{
    InvalidCloseCode, InvalidUtf8, OversizedControl, TruncatedClose,
};

use crate::table::{
    Case, Data,
    End::{Fails, Idle, Waits},
    Seen::{Close, EmptyClose, Long, Text},
    case, check, f,
};

#[test]
fn close() {
    check(CASES);
}

// One row, one line.
#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    case("7.1.1 text, then close", &[f(b"\x81\x05", b"Hello"), f(b"\x88\x02", b"\x03\xe8")], &[Text(b"Hello"), Close(1000, "")], Idle),
    case("7.1.2 two closes", &[f(b"\x88\x02", b"\x03\xe8"), f(b"\x88\x02", b"\x03\xe9")], &[Close(1000, "")], Idle),
    case("7.1.3 a ping behind the close", &[f(b"\x88\x02", b"\x03\xe8"), f(b"\x89\x00", b"")], &[Close(1000, "")], Idle),
    case("7.1.4 a text behind the close", &[f(b"\x88\x02", b"\x03\xe8"), f(b"\x81\x04", b"late")], &[Close(1000, "")], Idle),
    case("7.1.5 a close inside a fragmented text", &[f(b"\x01\x01", b"a"), f(b"\x88\x02", b"\x03\xe8"), f(b"\x80\x01", b"b")], &[Close(1000, "")], Idle),
    case("7.1.6 a long text, then close and ping", &[f(b"\x81\x7e\x80\x00", b"BAsd7&jh").payload_times(4096), f(b"\x88\x02", b"\x03\xe8"), f(b"\x89\x00", b"")], &[Long(Data(b"BAsd7&jh", 4096)), Close(1000, "")], Idle),
    case("7.1 nonsense behind the close", &[f(b"\x88\x00", b""), f(b"\xff\x03", b"\xff\xff\xff")], &[EmptyClose], Idle),
    case("7.1 an unfinished frame behind the close", &[f(b"\x88\x00", b""), f(b"\x82\x64", b"a")], &[EmptyClose], Idle),
    case("7.1 an unfinished close", &[f(b"\x88\x02", b"\x03")], &[], Waits),
    case("7.3.1 a close without payload", &[f(b"\x88\x00", b"")], &[EmptyClose], Idle),
    case("7.3.2 a close of one byte", &[f(b"\x88\x01", b"a")], &[], Fails(TruncatedClose)),
    case("7.3.3 a code alone", &[f(b"\x88\x02", b"\x03\xe8")], &[Close(1000, "")], Idle),
    case("7.3.4 a code and a reason", &[f(b"\x88\x0e", b"\x03\xe8Hello World!")], &[Close(1000, "Hello World!")], Idle),
    case("7.3.5 the longest reason", &[f(b"\x88\x7d", b"\x03\xe8***************************************************************************************************************************")], &[Close(1000, "***************************************************************************************************************************")], Idle),
    case("7.3.6 a reason too long", &[f(b"\x88\x7e\x00\x7e", b"\x03\xe8****************************************************************************************************************************")], &[], Fails(OversizedControl)),
    case("7.3 a reason in Greek", &[f(b"\x88\x0c", b"\x03\xe8\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5")], &[Close(1000, "κόσμε")], Idle),
    case("7.5.1 a reason that is not UTF-8", &[f(b"\x88\x15", b"\x03\xe8\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")], &[], Fails(InvalidUtf8)),
    case("7.5 a reason that ends inside a character", &[f(b"\x88\x03", b"\x03\xe8\xce")], &[], Fails(InvalidUtf8)),
    case("7.5 a reason with a surrogate", &[f(b"\x88\x05", b"\x0f\xa0\xed\xa0\x80")], &[], Fails(InvalidUtf8)),
    case("7.7.1 code 1000", &[f(b"\x88\x02", b"\x03\xe8")], &[Close(1000, "")], Idle),
    case("7.7.2 code 1001", &[f(b"\x88\x02", b"\x03\xe9")], &[Close(1001, "")], Idle),
    case("7.7.3 code 1002", &[f(b"\x88\x02", b"\x03\xea")], &[Close(1002, "")], Idle),
    case("7.7.4 code 1003", &[f(b"\x88\x02", b"\x03\xeb")], &[Close(1003, "")], Idle),
    case("7.7.5 code 1007", &[f(b"\x88\x02", b"\x03\xef")], &[Close(1007, "")], Idle),
    case("7.7.6 code 1008", &[f(b"\x88\x02", b"\x03\xf0")], &[Close(1008, "")], Idle),
    case("7.7.7 code 1009", &[f(b"\x88\x02", b"\x03\xf1")], &[Close(1009, "")], Idle),
    case("7.7.8 code 1010", &[f(b"\x88\x02", b"\x03\xf2")], &[Close(1010, "")], Idle),
    case("7.7.9 code 1011", &[f(b"\x88\x02", b"\x03\xf3")], &[Close(1011, "")], Idle),
    case("7.7.10 code 3000", &[f(b"\x88\x02", b"\x0b\xb8")], &[Close(3000, "")], Idle),
    case("7.7.11 code 3999", &[f(b"\x88\x02", b"\x0f\x9f")], &[Close(3999, "")], Idle),
    case("7.7.12 code 4000", &[f(b"\x88\x02", b"\x0f\xa0")], &[Close(4000, "")], Idle),
    case("7.7.13 code 4999", &[f(b"\x88\x02", b"\x13\x87")], &[Close(4999, "")], Idle),
    case("7.7 code 1012", &[f(b"\x88\x03", b"\x03\xf4x")], &[Close(1012, "x")], Idle),
    case("7.7 code 1013", &[f(b"\x88\x03", b"\x03\xf5x")], &[Close(1013, "x")], Idle),
    case("7.7 code 1014", &[f(b"\x88\x03", b"\x03\xf6x")], &[Close(1014, "x")], Idle),
    case("7.9.1 code 0", &[f(b"\x88\x02", b"\x00\x00")], &[], Fails(InvalidCloseCode)),
    case("7.9.1 code 0 with a reason", &[f(b"\x88\x08", b"\x00\x00reason")], &[], Fails(InvalidCloseCode)),
    case("7.9.2 code 999", &[f(b"\x88\x02", b"\x03\xe7")], &[], Fails(InvalidCloseCode)),
    case("7.9.3 code 1004", &[f(b"\x88\x02", b"\x03\xec")], &[], Fails(InvalidCloseCode)),
    case("7.9.4 code 1005", &[f(b"\x88\x02", b"\x03\xed")], &[], Fails(InvalidCloseCode)),
    case("7.9.4 code 1005 with a reason", &[f(b"\x88\x08", b"\x03\xedreason")], &[], Fails(InvalidCloseCode)),
    case("7.9.5 code 1006", &[f(b"\x88\x02", b"\x03\xee")], &[], Fails(InvalidCloseCode)),
    case("7.9.6 code 1015", &[f(b"\x88\x02", b"\x03\xf7")], &[], Fails(InvalidCloseCode)),
    case("7.9.6 code 1015 with a reason", &[f(b"\x88\x08", b"\x03\xf7reason")], &[], Fails(InvalidCloseCode)),
    case("7.9.7 code 1016", &[f(b"\x88\x02", b"\x03\xf8")], &[], Fails(InvalidCloseCode)),
    case("7.9.8 code 1100", &[f(b"\x88\x02", b"\x04L")], &[], Fails(InvalidCloseCode)),
    case("7.9.9 code 2000", &[f(b"\x88\x02", b"\x07\xd0")], &[], Fails(InvalidCloseCode)),
    case("7.9.10 code 2999", &[f(b"\x88\x02", b"\x0b\xb7")], &[], Fails(InvalidCloseCode)),
    case("7.13.1 code 5000", &[f(b"\x88\x02", b"\x13\x88")], &[], Fails(InvalidCloseCode)),
    case("7.13.2 code 65535", &[f(b"\x88\x02", b"\xff\xff")], &[], Fails(InvalidCloseCode)),
    case("7.13 a bad code before a bad reason", &[f(b"\x88\x03", b"\x13\x88\xff")], &[], Fails(InvalidCloseCode)),
];
