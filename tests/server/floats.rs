//! Floating-point numbers keep their exact value on the way through a handler, in every type that
//! the handler accepts.

use roomcast::{Ack, Args, Config, Event, Io, Parser, testing::serve};

use crate::random::Random;

/// Numbers per packet. With [`BATCHES`], a million numbers per parser.
const BATCH: usize = 10_000;
const BATCHES: u64 = 100;

/// Returns finite numbers of random bit patterns.
fn batch(seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let half = 1 << 32;
    let numbers = std::iter::repeat_with(|| {
        let (high, low) = (random.below(half), random.below(half));
        f64::from_bits((high as u64) << 32 | low as u64)
    });
    let finite = numbers.filter(|number| number.is_finite());
    finite.take(BATCH).collect()
}

#[tokio::test]
async fn a_million_numbers_are_unchanged_in_each_form_of_handler() {
    for parser in [Parser::Json, Parser::MessagePack] {
        let io = Io::builder()
            .config(Config::default().parser(parser))
            .namespace("/", |namespace| {
                namespace
                    .on("args", async |_: Event, numbers: Args| Ack(numbers))
                    .on("typed", async |_: Event, numbers: Vec<f64>| Ack((numbers,)))
                    .on("value", async |_: Event, numbers: roomcast::Value| {
                        Ack((numbers,))
                    })
                    .on("json", async |_: Event, numbers: serde_json::Value| {
                        Ack((numbers,))
                    })
            });
        let server = serve(io).await;
        let client = server.client().connect().await.unwrap();
        for seed in 0..BATCHES {
            let numbers = batch(seed);
            let sent: Args = client.emit_with_ack("args", (&numbers,)).await.unwrap();
            let found: Vec<f64> = sent.get(0).unwrap();
            let bits = |numbers: &[f64]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found), bits(&numbers), "{parser:?}");
            for form in ["typed", "value", "json"] {
                let answer: Args = client.emit_with_ack(form, &sent).await.unwrap();
                // Each number has one shortest form, so equal numbers have equal bytes.
                assert!(answer.raw(0) == sent.raw(0), "{form}, {parser:?}, {seed}");
            }
        }
    }
}
