//! Market events for a client that does not read: only the newest portfolios and prices arrive, but
//! every trade.

use futures_util::future::join3;
use serde_json::{Value, json};

use crate::client::Client;
use crate::market::{client, must, start, trade};

/// Number of events of each kind. The portfolios far exceed the buffers at both ends of a
/// connection.
const MANY: usize = 250;

/// Returns a portfolio near the size limit.
fn portfolio(n: usize) -> Value {
    let position = |m: usize| json!({"symbol": format!("{m:X<32}"), "quantity": 1, "avgPrice": 1});
    let positions: Vec<_> = (0..800).map(position).collect();
    json!({"userId": "ann", "totalValue": n, "cash": 1, "positions": positions})
}

/// Receives events until the field has the value [`MANY`], and returns its values.
async fn until_last(client: &mut Client, event: &str, field: &str) -> Vec<f64> {
    let mut got = Vec::new();
    while got.last() != Some(&(MANY as f64)) {
        got.push(client.event(event).await[field].as_f64().unwrap());
    }
    assert!(client.events_until_now(event).await.is_empty(), "{event}");
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_client_gets_every_trade_but_only_newest_portfolio_and_price() {
    let server = start(&[
        ("ROOMCAST_MARKET__PRICE_INTERVAL", "0s"),
        // A client that does not read answers no ping.
        ("ROOMCAST_ENGINE__PING_TIMEOUT", "10min"),
    ]);
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
    // The client starts to read only now.
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
        assert!(got.len() < MANY, "{event}: no event was conflated");
    }
    assert!(ann.events_until_now("trade:update").await.is_empty());
}
