//! Prices that end: a symbol expires if no price of it is published.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::KEY;
use crate::market::{client, must, publish, start};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

const CALLS: (&str, &str) = ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0");
const EXPIRY: (&str, &str) = ("ROOMCAST_MARKET__SYMBOL_EXPIRY", "1s");

fn price(symbol: &str, price: f64) -> Value {
    json!({"symbol": symbol, "price": price})
}

/// Returns the symbols with a price in the snapshot of a new subscription.
async fn known(client: &mut Client, symbols: &[&str]) -> Vec<String> {
    let answer = client
        .must("subscribe:prices", json!({ "symbols": symbols }))
        .await;
    let prices = answer["snapshot"]["prices"].as_array().unwrap().iter();
    prices
        .map(|price| price["symbol"].as_str().unwrap().to_owned())
        .collect()
}

/// Subscribes until no price of a symbol is known.
async fn until_unknown(client: &mut Client, symbol: &str) {
    let begin = Instant::now();
    while !known(client, &[symbol]).await.is_empty() {
        assert!(begin.elapsed() < DEADLINE, "{symbol} is still known");
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

/// Publishes prices of a symbol until a client is notified that another symbol has expired.
async fn publish_until_end(binary: &ServerProcess, lasting: &str, client: &mut Client) -> Value {
    let begin = Instant::now();
    loop {
        must(binary, "/prices", price(lasting, 2.0)).await;
        if let Some(end) = client.events_until_now("price:withdrawn").await.pop() {
            return end;
        }
        assert!(begin.elapsed() < DEADLINE, "no symbol has expired");
        tokio::time::sleep(Duration::from_millis(50)).await; // The pace of publishing.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn symbol_expires_unless_its_price_is_published_again() {
    let server = start(&[EXPIRY, ("ROOMCAST_MARKET__PRICE_INTERVAL", "0s")]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "admin").await;
    assert!(known(&mut ann, &["OLD", "LASTING"]).await.is_empty());
    must(binary, "/prices", price("OLD", 1.0)).await;
    let end = publish_until_end(binary, "LASTING", &mut ann).await;
    assert_eq!(
        (&end["symbol"], &end["reason"]),
        (&json!("OLD"), &json!("expired"))
    );
    assert!(end["timestamp"].is_string(), "{end}");
    // A later subscriber does not receive it, and no trade is executed at it.
    must(binary, "/prices", price("LASTING", 3.0)).await;
    let mut bob = client(binary, "bob", "admin").await;
    assert_eq!(known(&mut bob, &["OLD", "LASTING"]).await, ["LASTING"]);
    let order = json!({"symbol": "OLD", "side": "buy", "quantity": 1});
    let refused = bob.refused("execute:trade", order, "CONFLICT").await;
    assert_eq!(refused["details"]["reason"], "NO_PRICE");
    // A new price activates the symbol again, even if its time is older.
    let older = json!({"symbol": "OLD", "price": 4, "timestamp": "2025-01-31T12:00:00.000Z"});
    must(binary, "/prices", older).await;
    assert_eq!(bob.event("price:update").await["price"], 4.0);
    until_unknown(&mut bob, "OLD").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_symbols_free_their_slots() {
    let server = start(&[]);
    let binary = &server.binary;
    for thousand in 0..10 {
        let prices: Vec<_> = (0..1000)
            .map(|n| price(&format!("{thousand}/{n}"), 1.0))
            .collect();
        must(binary, "/prices", json!({ "prices": prices })).await;
    }
    let (status, _) = publish(binary, "/prices", price("NEW", 1.0)).await;
    assert_eq!(status, 409);
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY, EXPIRY, CALLS]].concat());
    let binary = &server.binary;
    let begin = Instant::now();
    // A symbol frees its place when it expires, and they were not published together.
    let freed = async |body: Value| {
        while publish(binary, "/prices", body.clone()).await.0 != 200 {
            assert!(begin.elapsed() < DEADLINE, "no place was freed");
            tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
        }
    };
    freed(price("NEW", 1.0)).await;
    // The store has places for as many other symbols.
    for thousand in 0..9 {
        let prices: Vec<_> = (0..1000)
            .map(|n| price(&format!("other/{thousand}/{n}"), 1.0))
            .collect();
        freed(json!({ "prices": prices })).await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn symbol_expires_at_every_server_of_a_database() {
    let variables = [KEY, EXPIRY, CALLS];
    let database = Database::new();
    let servers = [
        database.server_with(&variables),
        database.server_with(&variables),
    ];
    let mut clients = Vec::new();
    for (server, user) in servers.iter().zip(["ann", "bob"]) {
        let mut client = client(server, user, "user").await;
        assert!(known(&mut client, &["A"]).await.is_empty());
        clients.push(client);
    }
    must(&servers[0], "/prices", price("A", 1.0)).await;
    for client in &mut clients {
        assert_eq!(client.event("price:update").await["symbol"], "A");
        let end = client.event("price:withdrawn").await;
        assert_eq!(
            (&end["symbol"], &end["reason"]),
            (&json!("A"), &json!("expired"))
        );
        until_unknown(client, "A").await;
    }
    let reader = database.client().await;
    let begin = Instant::now();
    loop {
        let rows = reader
            .query(
                "SELECT key FROM journal_entries WHERE journal = 'prices'",
                &[],
            )
            .await
            .unwrap();
        if rows.is_empty() {
            break;
        }
        assert!(
            begin.elapsed() < DEADLINE,
            "the store has {} symbols",
            rows.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}
