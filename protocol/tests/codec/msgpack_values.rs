//! MessagePack values: the same bytes as `rmp-serde`, the same values as JSON.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_protocol::socket::{Parser, encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    msgpack::{decode, hex, message},
    socket::decode_frame,
};

/// A value with all types of serde's data model.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Everything {
    bools: Vec<bool>,
    signed: (i8, i16, i32, i64),
    unsigned: (u8, u16, u32, u64),
    floats: (f32, f64),
    character: char,
    text: String,
    bytes: Bytes,
    nothing: Option<u8>,
    something: Option<Box<Self>>,
    #[serde(rename = "unité")]
    unit: (),
    newtype: Newtype,
    variants: Vec<Variant>,
    map: BTreeMap<String, u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Newtype(i32);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Variant {
    Unit,
    Newtype(u8),
    Tuple(u8, String),
    Struct { a: u8, b: Option<String> },
}

fn variant() -> impl Strategy<Value = Variant> {
    prop_oneof![
        Just(Variant::Unit),
        any::<u8>().prop_map(Variant::Newtype),
        any::<(u8, String)>().prop_map(|(a, b)| Variant::Tuple(a, b)),
        any::<(u8, Option<String>)>().prop_map(|(a, b)| Variant::Struct { a, b }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    let leaf = (
        (
            prop::collection::vec(any::<bool>(), 0..20),
            any::<(i8, i16, i32, i64)>(),
            any::<(u8, u16, u32, u64)>(),
            any::<(f32, f64)>(),
            any::<char>(),
            ".{0,40}",
            prop::collection::vec(any::<u8>(), 0..300),
        ),
        (
            any::<Option<u8>>(),
            any::<i32>(),
            prop::collection::vec(variant(), 0..18),
            prop::collection::btree_map(".{0,40}", any::<u16>(), 0..20),
            any::<Option<String>>(),
        ),
    );
    leaf.prop_map(|(first, second)| {
        let (bools, signed, unsigned, floats, character, text, bytes) = first;
        let (nothing, newtype, variants, map, skipped) = second;
        Everything {
            bools,
            signed,
            unsigned,
            floats,
            character,
            text,
            bytes: bytes.into(),
            nothing,
            something: None,
            unit: (),
            newtype: Newtype(newtype),
            variants,
            map,
            skipped,
        }
    })
}

/// Serialises a value with another implementation.
fn oracle(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut out)
        .with_human_readable()
        .with_struct_map();
    value.serialize(&mut serializer).expect("serialises");
    out
}

/// Returns the bytes of one argument.
fn packed(value: &impl Serialize) -> Vec<u8> {
    let frame = Parser::MessagePack.ack("/", 0, &(value,)).unwrap();
    let packet = decode(message(&frame)).unwrap();
    packet.args.raw(0).unwrap().to_vec()
}

fn unpacked<T: DeserializeOwned>(bytes: &[u8]) -> T {
    let mut message = hex("84 a474797065 03 a36e7370 a12f a26964 00 a464617461 91").to_vec();
    message.extend(bytes);
    decode(message).unwrap().args.get(0).unwrap()
}

proptest! {
    #[test]
    fn values_are_encoded_byte_for_byte_as_by_rmp_serde(value in everything()) {
        let nested = Everything { something: Some(Box::new(value.clone())), ..value };
        prop_assert_eq!(packed(&nested), oracle(&nested));
    }

    #[test]
    fn values_are_decoded_as_by_rmp_serde(value in everything()) {
        let bytes = oracle(&value);
        let actual: Everything = unpacked(&bytes);
        let mut expected = rmp_serde::Deserializer::new(&bytes[..]).with_human_readable();
        let expected = Everything::deserialize(&mut expected).unwrap();
        prop_assert_eq!(&actual, &expected);
        prop_assert_eq!(actual, value);
    }

    #[test]
    fn values_without_floats_mean_the_same_in_json(value in everything()) {
        let value = Everything { floats: (0.5, -2.25), bytes: Bytes::new(), ..value };
        let json = decode_frame(&encode::ack("/", 0, &value).unwrap()).unwrap().args;
        let packed = decode(message(&Parser::MessagePack.ack("/", 0, &value).unwrap())).unwrap().args;
        prop_assert_eq!(json.get::<Everything>(0).unwrap(), packed.get::<Everything>(0).unwrap());
        prop_assert_eq!(json.to_values().unwrap(), packed.to_values().unwrap());
    }
}

#[test]
fn lengths_that_serde_does_not_know_are_filled_in_later() {
    struct Unknown(usize, bool);
    impl Serialize for Unknown {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::{SerializeMap as _, SerializeSeq as _};
            if self.1 {
                let mut map = serializer.serialize_map(None)?;
                for i in 0..self.0 {
                    map.serialize_entry(&i, &[i])?;
                }
                map.end()
            } else {
                // The announced length is wrong.
                let mut list = serializer.serialize_seq(Some(self.0 * 2 + 1))?;
                for i in 0..self.0 {
                    list.serialize_element(&[i])?;
                }
                list.end()
            }
        }
    }
    for count in [0, 1, 15, 16, 17, 65_535, 65_536] {
        let list: Vec<[usize; 1]> = unpacked(&packed(&Unknown(count, false)));
        assert!(list.into_iter().eq((0..count).map(|i| [i])));
        let map: HashMap<usize, [usize; 1]> = unpacked(&packed(&Unknown(count, true)));
        assert_eq!(map.len(), count);
        assert!(map.into_iter().all(|(i, value)| value == [i]));
    }
}

#[test]
fn keys_are_values_that_json_converts_to_strings() {
    #[derive(Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
    enum Color {
        Red,
        Green,
    }
    fn same<K>(map: &BTreeMap<K, u8>)
    where
        K: Ord + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let bytes = packed(map);
        let value: Value = unpacked(&bytes);
        assert_eq!(value, serde_json::to_value(map).unwrap());
        assert_eq!(unpacked::<BTreeMap<K, u8>>(&bytes), *map);
    }
    same(&BTreeMap::from([(Color::Red, 1), (Color::Green, 2)]));
    same(&BTreeMap::from([(true, 1), (false, 2)]));
    same(&BTreeMap::from([(-3_i64, 1), (i64::MAX, 2)]));
    same(&BTreeMap::from([(u64::MAX, 1)]));
    same(&BTreeMap::from([('é', 1)]));
    let nested = BTreeMap::from([(vec![1], 2)]);
    assert!(Parser::MessagePack.ack("/", 0, &nested).is_err());
    assert!(
        Parser::MessagePack
            .ack("/", 0, &BTreeMap::from([((), 2)]))
            .is_err()
    );
}

#[test]
fn numbers_beyond_64_bits_are_not_sent() {
    assert!(Parser::MessagePack.ack("/", 0, &(u128::MAX,)).is_err());
    assert!(Parser::MessagePack.ack("/", 0, &(i128::MIN,)).is_err());
    assert_eq!(unpacked::<i128>(&packed(&-5_i128)), -5);
    assert_eq!(
        unpacked::<u128>(&packed(&u128::from(u64::MAX))),
        u128::from(u64::MAX)
    );
}

#[test]
fn flattened_and_tagged_types_work() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    #[serde(tag = "kind", rename_all = "camelCase")]
    enum Shape {
        Circle { radius: f64 },
        Square { side: u32 },
    }
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Outer {
        id: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }
    let shapes = vec![Shape::Circle { radius: 1.5 }, Shape::Square { side: 2 }];
    assert_eq!(unpacked::<Vec<Shape>>(&packed(&shapes)), shapes);
    let outer = Outer {
        id: 1,
        rest: [("a".to_owned(), json!([1])), ("b".to_owned(), json!(null))].into(),
    };
    assert_eq!(unpacked::<Outer>(&packed(&outer)), outer);
}

#[test]
fn variants_with_content_are_maps_of_one_entry() {
    for bytes in [
        "82 a7 4e657774797065 01 a161 02",
        "80",
        "91 01",
        "a3666f6f",
        "01",
    ] {
        let mut message = hex("84 a474797065 03 a36e7370 a12f a26964 00 a464617461 91").to_vec();
        message.extend(hex(bytes));
        assert!(
            decode(message).unwrap().args.get::<Variant>(0).is_err(),
            "{bytes}"
        );
    }
}

#[test]
fn tuples_and_structs_of_another_length_are_errors() {
    let list = packed(&[1, 2, 3]);
    let args = |bytes: &[u8]| {
        let mut message = hex("84 a474797065 03 a36e7370 a12f a26964 00 a464617461 91").to_vec();
        message.extend(bytes);
        decode(message).unwrap().args
    };
    assert!(args(&list).get::<(u8, u8)>(0).is_err());
    assert!(args(&list).get::<(u8, u8, u8, u8)>(0).is_err());
    assert_eq!(args(&list).get(0), Ok((1, 2, 3)));
    let bin = packed(&Bytes::from_static(&[1]));
    assert!(args(&bin).get::<String>(0).is_err());
    assert!(args(&bin).get::<Vec<u8>>(0).is_err());
    assert!(args(&list).get::<Bytes>(0).is_err());
}
