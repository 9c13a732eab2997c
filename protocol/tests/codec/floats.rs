//! Floating-point numbers keep their exact value, in both formats and in every form in which an
//! application reads or sends them.

use bytes::Bytes;
use roomcast_protocol::{
    socket::{Args, Arguments, Decoder, Limits, Parser, Value},
    websocket::Opcode,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const PARSERS: [Parser; 2] = [Parser::Json, Parser::MessagePack];

/// The count of numbers in one packet; with [`BATCHES`] packets, a test has a million numbers.
const BATCH: usize = 10_000;
const BATCHES: u64 = 100;

/// Edge cases of the format, which every batch begins with.
const EDGES: [f64; 17] = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    2.225_073_858_507_201e-308,
    f64::MIN_POSITIVE,
    f64::EPSILON,
    0.1,
    1.0 / 3.0,
    1e-7,
    1e21,
    1e23,
    9_007_199_254_740_991.0,
    9_007_199_254_740_993.0,
    9_223_372_036_854_775_808.0,
    f64::MAX,
    f64::MIN,
];

/// Returns the edge cases and finite numbers with random bit patterns.
fn batch(seed: u64) -> Vec<f64> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from_bits(state)
    });
    let random = random.filter(|number| number.is_finite());
    EDGES.into_iter().chain(random).take(BATCH).collect()
}

/// Encodes the arguments and returns them as the peer receives them.
fn received(parser: Parser, args: &(impl Arguments + ?Sized)) -> Args {
    let frame = parser.ack("/", 0, args).unwrap();
    let mut decoder = Decoder::with_parser(parser, Limits::default());
    let mut packet = None;
    for (opcode, message) in frame.messages() {
        let read = match opcode == Opcode::Text {
            // A text begins with the packet type of Engine.IO.
            true => decoder.text(Bytes::copy_from_slice(&message[1..])),
            false => decoder.binary(Bytes::copy_from_slice(message)),
        };
        packet = read.unwrap();
    }
    packet.unwrap().args
}

#[track_caller]
fn assert_same(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            found.to_bits(),
            expected.to_bits(),
            "{found:?}, {expected:?}"
        );
    }
}

/// Receives a million numbers as `T`, sends them again, and compares the result.
fn pass_a_million<T: DeserializeOwned + Serialize>(parser: Parser) {
    for seed in 0..BATCHES {
        let numbers = batch(seed);
        let value: T = received(parser, &(&numbers,)).get(0).unwrap();
        let again = received(parser, &(&value,));
        assert_same(&again.get::<Vec<f64>>(0).unwrap(), &numbers);
    }
}

#[test]
fn a_million_numbers_of_typed_handlers_keep_their_value() {
    PARSERS.into_iter().for_each(pass_a_million::<Vec<f64>>);
}

#[test]
fn a_million_numbers_as_values_keep_their_value() {
    PARSERS.into_iter().for_each(pass_a_million::<Value>);
}

#[test]
fn a_million_numbers_as_values_of_serde_json_keep_their_value() {
    PARSERS
        .into_iter()
        .for_each(pass_a_million::<serde_json::Value>);
}

#[test]
fn a_million_numbers_in_raw_text_keep_their_value() {
    PARSERS
        .into_iter()
        .for_each(pass_a_million::<Box<serde_json::value::RawValue>>);
}

#[test]
fn a_million_numbers_forwarded_between_formats_keep_their_value() {
    for (from, to) in [
        (Parser::Json, Parser::Json),
        (Parser::Json, Parser::MessagePack),
        (Parser::MessagePack, Parser::Json),
        (Parser::MessagePack, Parser::MessagePack),
    ] {
        for seed in 0..BATCHES {
            let numbers = batch(seed);
            let passed = received(to, &received(from, &(&numbers,)));
            assert_same(&passed.get::<Vec<f64>>(0).unwrap(), &numbers);
        }
    }
}

/// A type whose value serde buffers before it knows the variant.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum UntaggedValue {
    Text(String),
    Numbers(Vec<f64>),
}

#[derive(Deserialize, Serialize)]
struct Wrapped {
    picture: Bytes,
    #[serde(flatten)]
    rest: std::collections::BTreeMap<String, UntaggedValue>,
}

#[test]
fn numbers_beside_binary_and_in_untagged_types_keep_their_value() {
    for (seed, parser) in (0..).zip(PARSERS) {
        let numbers = batch(seed);
        let wrapped = Wrapped {
            picture: Bytes::from_static(b"\x00\xff"),
            rest: [(
                "numbers".to_owned(),
                UntaggedValue::Numbers(numbers.clone()),
            )]
            .into(),
        };
        let args = received(parser, &(&wrapped,));
        let value: Value = args.get(0).unwrap();
        for args in [
            received(parser, &(&value,)),
            received(PARSERS[1], &args),
            received(PARSERS[0], &args),
            args,
        ] {
            let read: Wrapped = args.get(0).unwrap();
            let Some(UntaggedValue::Numbers(found)) = read.rest.get("numbers") else {
                panic!("no numbers");
            };
            assert_same(found, &numbers);
        }
    }
}

/// Every text of a number has the value that the standard library parses, however it is written.
#[test]
fn texts_of_every_length_parse_to_the_nearest_number() {
    let mut texts: Vec<String> = [
        "1e23",
        "1E+5",
        "1e-5",
        "-1.0e0",
        "0e999",
        "1.7976931348623158e308",
        "4.9e-324",
        "2.4703282292062328e-324",
        "2.2250738585072011e-308",
        "123456789012345678901234567890",
        "9007199254740993.0",
        "-0.0",
        "-0",
        "179769313486231580793728971405301e276",
    ]
    .map(Into::into)
    .into();
    for number in batch(7).into_iter().take(2_000) {
        // These are all digits of a number and of the midpoint to the next: the last digit decides
        // the rounding.
        let exact = format!("{number:.40e}");
        let (digits, exponent) = exact.split_once('e').unwrap();
        texts.push(exact.clone());
        texts.push(format!("{digits}1e{exponent}"));
        texts.push(format!("{number:.17e}"));
        texts.push(format!("{number:.15e}"));
    }
    for halfway in [9_007_199_254_740_993_u64, 9_007_199_254_740_995] {
        for tail in ["", ".0", ".00000000000000000000000000000000000001"] {
            texts.push(format!("{halfway}{tail}"));
            texts.push(format!("{halfway}000000000000000000000{tail}"));
        }
    }
    // Rounding the largest number up leaves the range of numbers, which is an error in JSON.
    texts.retain(|text| text.parse().is_ok_and(f64::is_finite));
    let expected: Vec<f64> = texts.iter().map(|text| text.parse().unwrap()).collect();
    let packet = format!("30[[{}]]", texts.join(","));
    let packet = Decoder::new(Limits::default()).text(packet.into());
    let args = packet.unwrap().unwrap().args;
    assert_same(&args.get::<Vec<f64>>(0).unwrap(), &expected);
    let passed = received(Parser::MessagePack, &args);
    assert_same(&passed.get::<Vec<f64>>(0).unwrap(), &expected);
}

/// Integers are not converted to floating point: they keep all their digits.
#[test]
fn whole_numbers_of_64_bits_keep_all_digits() {
    let whole = [9_007_199_254_740_993, 1 << 63, u64::MAX];
    for parser in PARSERS {
        for other in PARSERS {
            let args = received(other, &received(parser, &(whole, i64::MIN)));
            assert_eq!(args.get::<[u64; 3]>(0).unwrap(), whole);
            assert_eq!(args.get::<i64>(1).unwrap(), i64::MIN);
        }
    }
}
