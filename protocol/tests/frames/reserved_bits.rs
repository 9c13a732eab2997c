//! Tests reserved bits that an extension uses.

use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Role};

use crate::support::drain;

const RSV1: u8 = 0x40;

fn client() -> Decoder {
    Decoder::new(Role::Client, Limits::default()).with_rsv(RSV1)
}

#[test]
fn a_claimed_bit_marks_its_message() {
    let mut decoder = client();
    let mut input: &[u8] = b"\xc1\x01\xff\x81\x01a\xc2\x01b";
    for (expected, rsv) in [
        (Event::Text((&b"\xff"[..]).into()), RSV1),
        (Event::Text("a".into()), 0),
        (Event::Binary("b".into()), RSV1),
    ] {
        assert_eq!(decoder.decode(&mut input), Ok(Some(expected)));
        assert_eq!(decoder.rsv(), rsv);
    }
}

#[test]
fn a_claimed_bit_is_on_the_first_fragment_only() {
    let mut decoder = client();
    let (events, error) = drain(&mut decoder, b"\x41\x01\xff\x89\x00\x80\x01\xfe");
    assert_eq!(error, None);
    assert_eq!(events.last(), Some(&Event::Text((&b"\xff\xfe"[..]).into())));
    assert_eq!(decoder.rsv(), RSV1);
    let (_, error) = drain(&mut client(), b"\x41\x01\xff\xc0\x01\xfe");
    assert_eq!(error, Some(FrameError::ReservedBits));
}

#[test]
fn a_claimed_bit_is_refused_on_control_frames() {
    for first in [0xc8, 0xc9, 0xca] {
        let (_, error) = drain(&mut client(), &[first, 0]);
        assert_eq!(error, Some(FrameError::ReservedBits));
    }
}

#[test]
fn other_bits_stay_refused() {
    for first in [0xa1, 0x91, 0xe1, 0xd1, 0xf1] {
        let (_, error) = drain(&mut client(), &[first, 0]);
        assert_eq!(error, Some(FrameError::ReservedBits));
    }
    // `with_rsv` ignores the other bits of its parameter, here those of FIN and of the opcode.
    let mut decoder = Decoder::new(Role::Client, Limits::default()).with_rsv(0x8f);
    let (_, error) = drain(&mut decoder, b"\xc1\x00");
    assert_eq!(error, Some(FrameError::ReservedBits));
}
