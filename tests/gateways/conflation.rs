//! What becomes of the market's events for a client that does not read: of portfolios and prices the newest comes, of trades
//! every one.

use futures_util::future::join3;
use serde_json::{Value, json};

use crate::client::Client;
use crate::market::{client, must, start, trade};

/// So many of each. Their portfolios are far more than the buffers of both ends of a connection hold.
const MANY: usize = 250;

/// A portfolio nearly as large as may be.
fn portfolio(n: usize) -> Value {
    let position = |m: usize| json!({"symbol": format!("{m:X<32}"), "quantity": 1, "avgPrice": 1});
    let positions: Vec<_> = (0..800).map(position).collect();
    json!({"userId": "ann", "totalValue": n, "cash": 1, "positions": positions})
}

/// What came of an event of which the newest is enough, up to the last one, as numbers in this field.
async fn until_last(client: &mut Client, event: &str, field: &str) -> Vec<f64> {
    let mut got = Vec::new();
    while got.last() != Some(&(MANY as f64)) {
        got.push(client.event(event).await[field].as_f64().unwrap());
    }
    assert!(client.events_until_now(event).await.is_empty(), "{event}");
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_gets_every_trade_and_of_portfolio_and_prices_the_newest_last() {
    let server = start(&[("ROOMCAST_MARKET__PRICE_INTERVAL", "0s")]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    for event in ["subscribe:trades", "subscribe:portfolio"] {
        ann.must(event, json!({"userId": "ann"})).await;
    }
    ann.must("subscribe:prices", json!({"symbols": ["A"]}))
        .await;
    for n in 1..=MANY {
        join3(
            must(binary, "/portfolios", portfolio(n)),
            must(binary, "/trades", trade(&n.to_string(), "executed")),
            must(binary, "/prices", json!({"symbol": "A", "price": n})),
        )
        .await;
    }
    // Only now the client reads.
    for n in 1..=MANY {
        let update = ann.event("trade:update").await;
        assert_eq!(
            (&update["tradeId"], &update["revision"]),
            (&json!(n.to_string()), &json!(n))
        );
    }
    for (event, field) in [
        ("portfolio:update", "totalValue"),
        ("price:update", "price"),
    ] {
        let got = until_last(&mut ann, event, field).await;
        assert!(got.is_sorted_by(|one, next| one < next), "{event}: {got:?}");
        assert!(got.len() < MANY, "{event}: all of them came");
    }
    assert!(ann.events_until_now("trade:update").await.is_empty());
}
