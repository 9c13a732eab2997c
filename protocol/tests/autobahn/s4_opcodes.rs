//! 4: opcodes without a meaning.

use roomcast_protocol::websocket::FrameError::ReservedOpcode;

use crate::table::{Case, End::Fails, Seen::Text, case, check, f};

#[test]
fn opcodes() {
    check(CASES);
}

// One row, one line.
#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    case("4.1.1 opcode 3 without payload", &[f(b"\x83\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.1 opcode 3 behind a message", &[f(b"\x81\x01", b"a"), f(b"\x83\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.1.1 opcode 3 without FIN", &[f(b"\x03\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.2 opcode 4 without payload", &[f(b"\x84\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.2 opcode 4 behind a message", &[f(b"\x81\x01", b"a"), f(b"\x84\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.1.2 opcode 4 without FIN", &[f(b"\x04\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.3 opcode 5 without payload", &[f(b"\x85\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.3 opcode 5 behind a message", &[f(b"\x81\x01", b"a"), f(b"\x85\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.1.3 opcode 5 without FIN", &[f(b"\x05\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.4 opcode 6 without payload", &[f(b"\x86\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.4 opcode 6 behind a message", &[f(b"\x81\x01", b"a"), f(b"\x86\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.1.4 opcode 6 without FIN", &[f(b"\x06\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.5 opcode 7 without payload", &[f(b"\x87\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.1.5 opcode 7 behind a message", &[f(b"\x81\x01", b"a"), f(b"\x87\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.1.5 opcode 7 without FIN", &[f(b"\x07\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.1 opcode B without payload", &[f(b"\x8b\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.1 opcode B behind a message", &[f(b"\x81\x01", b"a"), f(b"\x8b\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.2.1 opcode B without FIN", &[f(b"\x0b\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.2 opcode C without payload", &[f(b"\x8c\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.2 opcode C behind a message", &[f(b"\x81\x01", b"a"), f(b"\x8c\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.2.2 opcode C without FIN", &[f(b"\x0c\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.3 opcode D without payload", &[f(b"\x8d\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.3 opcode D behind a message", &[f(b"\x81\x01", b"a"), f(b"\x8d\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.2.3 opcode D without FIN", &[f(b"\x0d\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.4 opcode E without payload", &[f(b"\x8e\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.4 opcode E behind a message", &[f(b"\x81\x01", b"a"), f(b"\x8e\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.2.4 opcode E without FIN", &[f(b"\x0e\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.5 opcode F without payload", &[f(b"\x8f\x00", b"")], &[], Fails(ReservedOpcode)),
    case("4.2.5 opcode F behind a message", &[f(b"\x81\x01", b"a"), f(b"\x8f\x01", b"*"), f(b"\x89\x00", b"")], &[Text(b"a")], Fails(ReservedOpcode)),
    case("4.2.5 opcode F without FIN", &[f(b"\x0f\x00", b"")], &[], Fails(ReservedOpcode)),
];
