//! Floating-point numbers for tests of wire formats. Each number must arrive bit for bit.

use bytes::Bytes;
use roomcast_protocol::socket::{Args, Decoder, Limits, Nsp, Parser};

use crate::adapter::{Kind, Publication};

/// The number of floats per packet.
const BATCH: usize = 10_000;
/// The number of packets per format: half a million floats in JSON, and half a million in
/// MessagePack.
const BATCHES: u64 = 50;

/// Returns finite numbers with random bit patterns.
fn batch(seed: u64) -> Vec<f64> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from_bits(state)
    });
    let edges = [-0.0, 5e-324, f64::MIN_POSITIVE, 1e21, f64::MAX];
    let random = random.filter(|number| number.is_finite());
    edges.into_iter().chain(random).take(BATCH).collect()
}

/// Encodes the numbers as the arguments of a client's packet.
fn args(parser: Parser, numbers: &[f64]) -> Args {
    let frame = parser.ack("/", 0, &(numbers,)).unwrap();
    let (_, message) = frame.messages().next().unwrap();
    let mut decoder = Decoder::with_parser(parser, Limits::default());
    let packet = match parser == Parser::Json {
        // A text message begins with the packet type of Engine.IO.
        true => decoder.text(Bytes::copy_from_slice(&message[1..])),
        false => decoder.binary(Bytes::copy_from_slice(message)),
    };
    packet.unwrap().unwrap().args
}

/// Passes the arguments of a million numbers to `pass`, and compares the result bit by bit.
pub(crate) fn pass_a_million(pass: impl Fn(Args) -> Args) {
    for (offset, parser) in [(0, Parser::Json), (BATCHES, Parser::MessagePack)] {
        for seed in offset..offset + BATCHES {
            let numbers = batch(seed);
            let passed: Vec<f64> = pass(args(parser, &numbers)).get(0).unwrap();
            assert_eq!(passed.len(), numbers.len());
            for (passed, number) in passed.iter().zip(&numbers) {
                assert_eq!(passed.to_bits(), number.to_bits(), "{passed:?}, {number:?}");
            }
        }
    }
}

/// Creates a publication that broadcasts these arguments.
pub(crate) fn broadcast(args: Args) -> Publication {
    let event = "e".into();
    Publication::new(Nsp::ROOT, Kind::Broadcast { event, args })
}

/// Returns the arguments of a broadcast.
pub(crate) fn broadcast_args(publication: &Publication) -> Args {
    let Kind::Broadcast { args, .. } = &publication.kind else {
        panic!("{publication:?}");
    };
    args.clone()
}
