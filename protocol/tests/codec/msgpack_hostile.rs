//! Hostile input to the MessagePack parser.

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_protocol::{
    DecodeError,
    socket::{Decoder, Limits, Parser},
};

use super::msgpack::{decode, hex, message};

fn refused(bytes: &str) -> DecodeError {
    decode(hex(bytes)).expect_err(bytes)
}

/// Returns an event with these encoded arguments.
fn event(data: &[u8]) -> Bytes {
    let mut event = hex("83 a474797065 02 a36e7370 a12f a464617461").to_vec();
    event.extend(data);
    event.into()
}

#[test]
fn a_packet_is_a_map() {
    for bytes in ["90", "c0", "00", "a178", "c40100", "d40000"] {
        assert_eq!(refused(bytes), DecodeError::InvalidPayload, "{bytes}");
    }
    assert_eq!(
        decode(Bytes::new()).unwrap_err(),
        DecodeError::InvalidMessagePack
    );
}

#[test]
fn a_kind_is_one_of_five() {
    for kind in [
        "05",
        "06",
        "ff",
        "cd0100",
        "a130",
        "c0",
        "cb4000000000000000",
        "c3",
        "91 00",
    ] {
        let bytes = format!("82 a474797065 {kind} a36e7370 a12f");
        assert_eq!(refused(&bytes), DecodeError::UnknownKind, "{kind}");
    }
    assert_eq!(refused("81 a36e7370 a12f"), DecodeError::UnknownKind);
    assert_eq!(refused("80"), DecodeError::UnknownKind);
}

#[test]
fn a_namespace_is_a_text_with_a_leading_slash() {
    for nsp in ["a0", "a163", "00", "c0", "d40000", "c4012f", "90"] {
        let bytes = format!("82 a474797065 00 a36e7370 {nsp}");
        assert_eq!(refused(&bytes), DecodeError::InvalidPayload, "{nsp}");
    }
    assert_eq!(refused("81 a474797065 00"), DecodeError::InvalidPayload);
    for (length, outcome) in [(256, None), (257, Some(DecodeError::NamespaceTooLong))] {
        let mut bytes = hex("82 a474797065 00 a36e7370 da").to_vec();
        bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        bytes.push(b'/');
        bytes.resize(bytes.len() + length - 1, b'n');
        assert_eq!(decode(bytes).err(), outcome);
    }
}

#[test]
fn a_payload_fits_its_kind() {
    for (kind, data) in [
        ("00", "90"),
        ("00", "a178"),
        ("00", "01"),
        ("00", "c40100"),
        ("01", "80"),
        ("01", "90"),
        ("01", "01"),
        ("02", "80"),
        ("02", "c0"),
        ("02", "d40000"),
        ("02", "a178"),
        ("02", "90"),
        ("02", "91 c0"),
        ("02", "91 91 a178"),
        ("02", "91 cb3ff8000000000000"),
        ("02", "91 c40178"),
        ("03", "80"),
        ("03", "c0"),
        ("04", "90"),
        ("04", "c0"),
        ("04", "01"),
    ] {
        let bytes = format!("83 a474797065 {kind} a464617461 {data} a36e7370 a12f");
        assert_eq!(
            refused(&bytes),
            DecodeError::InvalidPayload,
            "{kind} {data}"
        );
    }
    assert_eq!(
        refused("82 a474797065 02 a36e7370 a12f"),
        DecodeError::InvalidPayload
    );
}

#[test]
fn an_acknowledgement_id_is_a_natural_number() {
    for id in ["ff", "a130", "c3", "cb3ff8000000000000", "91 00"] {
        let bytes = format!("84 a474797065 03 a26964 {id} a464617461 90 a36e7370 a12f");
        assert_eq!(refused(&bytes), DecodeError::InvalidAckId, "{id}");
    }
    let largest = hex("84 a474797065 03 a26964 cfffffffffffffffff a464617461 90 a36e7370 a12f");
    assert_eq!(decode(largest).unwrap().id, Some(u64::MAX));
}

#[test]
fn reserved_event_names_are_refused() {
    for name in [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
    ] {
        let mut data = vec![0x91, 0xa0 | u8::try_from(name.len()).unwrap()];
        data.extend(name.as_bytes());
        assert_eq!(
            decode(event(&data)).unwrap_err(),
            DecodeError::ReservedEvent
        );
    }
}

#[test]
fn a_connect_payload_is_limited() {
    for (length, outcome) in [(100, None), (17_000, Some(DecodeError::TooLarge))] {
        let mut bytes = hex("83 a474797065 00 a36e7370 a12f a464617461 81 a161 da").to_vec();
        bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        bytes.resize(bytes.len() + length, b'x');
        assert_eq!(decode(bytes).err(), outcome);
    }
}

#[test]
fn unknown_extensions_are_refused_wherever_they_are() {
    for extension in [
        "d401 00",
        "d4ff 00",
        "d500 0000",
        "d501 0000",
        "d600 00000000",
        "d6ff 00000000",
        "d701 0000000000000000",
        "d7ff 0000000000000000",
        "d800 00000000000000000000000000000000",
        "c70101 00",
        "c701ff 00",
        "c8000101 00",
        "c90000000101 00",
        "c70cff 000000000000000000000000",
        "c70cff 000000007fffffffffffffff",
        "d7ff ffffffffffffffff",
    ] {
        for place in [
            "92 a178 EXT",
            "91 EXT",
            "92 a178 81 a161 91 EXT",
            "92 a178 81 EXT 01",
        ] {
            let bytes = event(&hex(&place.replace("EXT", extension)));
            let error = decode(bytes).unwrap_err();
            assert_eq!(error, DecodeError::UnknownExtension, "{place} {extension}");
        }
        let option = format!("83 a474797065 01 a36e7370 a12f a16f {extension}");
        assert_eq!(refused(&option), DecodeError::UnknownExtension);
    }
}

#[test]
fn keys_are_texts_or_integers() {
    for key in [
        "c0",
        "c3",
        "d40000",
        "cb3ff8000000000000",
        "c40161",
        "90",
        "80",
    ] {
        let bytes = event(&hex(&format!("92 a178 81 {key} 01")));
        assert_eq!(
            decode(bytes).unwrap_err(),
            DecodeError::InvalidPayload,
            "{key}"
        );
    }
}

#[test]
fn lengths_beyond_the_message_are_refused_before_anything_is_allocated() {
    for data in [
        "92 a178 ddffffffff",
        "92 a178 dfffffffff",
        "92 a178 dbffffffff",
        "92 a178 c6ffffffff",
        "92 a178 c9ffffffff00",
        "92 a178 dc0002 00",
        "92 a178 de0001 a161",
        "92 a178 a2 61",
        "ddffffffff a178",
        "92 a178 c403 0102",
        "92 a178 c1",
        "92 a178",
        "92 a178 cd01",
        "92 a178 d700 00",
        "92 a178 d4",
        "92 a178 d400",
    ] {
        let error = decode(event(&hex(data))).unwrap_err();
        assert_eq!(error, DecodeError::InvalidMessagePack, "{data}");
    }
    assert_eq!(refused("dfffffffff"), DecodeError::InvalidMessagePack);
    assert_eq!(refused("8f a474797065"), DecodeError::InvalidMessagePack);
}

#[test]
fn trailing_bytes_are_refused() {
    let packet = "82 a474797065 00 a36e7370 a12f";
    for suffix in ["00", "c0", packet] {
        let error = refused(&format!("{packet}{suffix}"));
        assert_eq!(error, DecodeError::TrailingBytes);
    }
}

#[test]
fn every_truncated_packet_is_refused() {
    let frame = Parser::MessagePack
        .event(
            "/admin",
            Some(70_000),
            "x",
            &(1.5, "text", Bytes::from_static(&[1, 2, 3]), [[1, 2]]),
        )
        .unwrap();
    let whole = message(&frame);
    assert!(decode(whole.clone()).is_ok());
    for end in 0..whole.len() {
        let error = decode(whole.slice(..end)).unwrap_err();
        assert_eq!(error, DecodeError::InvalidMessagePack, "{end}");
    }
}

#[test]
fn depth_is_limited_with_the_list_of_arguments_as_the_first() {
    let nested = |depth: usize, open: &[u8]| {
        let mut data = vec![0x92, 0xa1, b'x'];
        for _ in 1..depth {
            data.extend(open);
        }
        data.push(0xc0);
        event(&data)
    };
    for open in [&[0x91][..], &[0x81, 0xa1, b'a']] {
        assert!(decode(nested(128, open)).is_ok());
        assert_eq!(decode(nested(129, open)).unwrap_err(), DecodeError::TooDeep);
        assert_eq!(
            decode(nested(200_000, open)).unwrap_err(),
            DecodeError::TooDeep
        );
    }
    let limits = Limits {
        max_depth: 1,
        ..Limits::default()
    };
    let mut shallow = Decoder::with_parser(Parser::MessagePack, limits);
    assert!(shallow.binary(event(&hex("92 a178 01"))).is_ok());
    let error = shallow.binary(event(&hex("92 a178 90"))).unwrap_err();
    assert_eq!(error, DecodeError::TooDeep);
}

#[test]
fn depth_is_limited_in_options_too() {
    let mut bytes = hex("83 a474797065 01 a36e7370 a12f a16f").to_vec();
    bytes.resize(bytes.len() + 100_000, 0x91);
    bytes.push(0xc0);
    assert_eq!(decode(bytes).unwrap_err(), DecodeError::TooDeep);
}

#[test]
fn a_megabyte_of_small_things_is_read() {
    let mut data = vec![0xdd, 0, 0x0f, 0x42, 0x41, 0xa1, b'x']; // 1,000,001 elements
    data.resize(data.len() + 1_000_000, 0x90);
    let packet = decode(event(&data)).unwrap();
    assert_eq!(packet.args.len(), 1_000_000);
    assert_eq!(packet.args.raw(999_999), Some(&[0x90][..]));
}

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in any::<Vec<u8>>()) {
        let _ = decode(bytes);
    }

    #[test]
    fn arbitrary_arguments_are_readable_and_forwardable_or_an_error(data in any::<Vec<u8>>()) {
        let mut list = vec![0x92, 0xa1, b'x'];
        list.extend(data);
        if let Ok(packet) = decode(event(&list)) {
            let passed_on = Parser::MessagePack.event("/", None, "x", &packet.args);
            match packet.args.to_values() {
                Ok(values) => {
                    let again = decode(message(&passed_on.unwrap())).unwrap();
                    prop_assert_eq!(again.args.len(), values.len());
                    prop_assert!(again.args.iter().eq(packet.args.iter()));
                }
                // A text that is not UTF-8 is an error of its argument, and is not forwarded.
                Err(error) => {
                    prop_assert_eq!(error.message(), "half of a surrogate pair");
                    prop_assert!(passed_on.is_err());
                }
            }
        }
    }
}
