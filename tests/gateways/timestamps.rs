//! Among values that replace each other, the value with the latest `timestamp` counts, whatever the
//! order of publication.

use serde_json::{Value, json};

#[cfg(feature = "postgres")]
use crate::guard::KEY;
use crate::guard::Server;
use crate::market::{client, must, publish, start, trade};
#[cfg(feature = "postgres")]
use crate::nodes::Database;

fn portfolio(value: usize, timestamp: Value) -> Value {
    let mut portfolio = json!({"userId": "ann", "totalValue": value, "cash": 0, "positions": []});
    if !timestamp.is_null() {
        portfolio["timestamp"] = timestamp;
    }
    portfolio
}

fn at(second: usize) -> Value {
    json!(format!(
        "2026-01-31T12:{:02}:{:02}.000Z",
        second / 60,
        second % 60
    ))
}

/// Returns a time this many milliseconds in the future.
fn ahead(millis: i64) -> Value {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(millis);
    json!(format!("{time:.3}"))
}

fn read(server: &Server, path: &str) -> Value {
    let (status, answer) = server.call("GET", path, "service", "");
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn older_portfolio_changes_nothing_and_returns_the_newer() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:portfolio", json!({"userId": "ann"}))
        .await;
    let newer = must(binary, "/portfolios", portfolio(2, at(10))).await;
    assert_eq!(ann.event("portfolio:update").await["totalValue"], 2.0);
    let answer = must(binary, "/portfolios", portfolio(1, at(9))).await;
    assert_eq!(answer, newer);
    let args = json!({"event": "portfolio:update", "args": [portfolio(1, at(8))]});
    let (status, answer) = publish(binary, "/emit", args).await;
    assert_eq!((status, &answer["published"]), (200, &newer));
    let stored = read(&server, "/users/ann/portfolio");
    assert_eq!(
        (&stored["portfolio"], &stored["revision"]),
        (&newer, &json!(1))
    );
    // Among values with the same time the last counts, so a repetition does no harm.
    must(binary, "/portfolios", portfolio(3, at(10))).await;
    assert_eq!(ann.event("portfolio:update").await["totalValue"], 3.0);
    assert!(ann.events_until_now("portfolio:update").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn portfolio_without_a_time_is_never_older_than_the_stored() {
    let server = start(&[]);
    let binary = &server.binary;
    // The clock of the publishing service is ahead, within the allowed tolerance.
    let time = ahead(50_000);
    must(binary, "/portfolios", portfolio(1, time.clone())).await;
    let answer = must(binary, "/portfolios", portfolio(2, Value::Null)).await;
    assert_eq!(
        (&answer["totalValue"], &answer["timestamp"]),
        (&json!(2.0), &time)
    );
    assert_eq!(read(&server, "/users/ann/portfolio")["portfolio"], answer);
    let mut pending = trade("t", "pending");
    pending["timestamp"] = time.clone();
    must(binary, "/trades", pending).await;
    let answer = must(binary, "/trades", trade("t", "pending")).await;
    assert_eq!(answer["timestamp"], time);
    assert_eq!(read(&server, "/users/ann/trades")["revision"], 2);
    let mut pending = trade("u", "pending");
    pending["timestamp"] = ahead(90_000);
    for (path, body) in [
        ("/portfolios", portfolio(3, ahead(90_000))),
        ("/trades", pending),
    ] {
        let (status, answer) = publish(binary, path, body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("CONFLICT"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_pending_trade_changes_nothing_and_an_outcome_always_counts() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let of = |status: &str, quantity: usize, second: usize| {
        let mut trade = trade("t", status);
        trade["quantity"] = json!(quantity);
        trade["timestamp"] = at(second);
        trade
    };
    let newer = must(binary, "/trades", of("pending", 5, 10)).await;
    assert_eq!(must(binary, "/trades", of("pending", 2, 9)).await, newer);
    assert_eq!(read(&server, "/users/ann/trades")["revision"], 1);
    // The clock of the exchange may lag behind the clock of the service that announced the trade.
    must(binary, "/trades", of("executed", 5, 8)).await;
    for (status, time) in [("pending", at(10)), ("executed", at(8))] {
        let update = ann.event("trade:update").await;
        assert_eq!(
            (&update["status"], &update["timestamp"]),
            (&json!(status), &time)
        );
        assert_eq!(update["quantity"], 5.0);
    }
    let (status, _) = publish(binary, "/trades", of("pending", 5, 11)).await;
    assert_eq!(status, 409);
    assert!(ann.events_until_now("trade:update").await.is_empty());
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn newest_value_counts_at_two_servers_whichever_is_published_last() {
    const VALUES: usize = 60;
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut followers = Vec::new();
    for binary in &servers {
        let mut ann = client(binary, "ann", "user").await;
        ann.must("subscribe:portfolio", json!({"userId": "ann"}))
            .await;
        ann.must("subscribe:trades", json!({"userId": "ann"})).await;
        followers.push(ann);
    }
    // Each server receives half of the values, in another order.
    let publish_all = async |binary, offset: usize| {
        for n in 0..VALUES / 2 {
            let value = (n * 7 + offset) % (VALUES / 2) * 2 + offset;
            must(binary, "/portfolios", portfolio(value, at(value))).await;
            let mut trade = trade("t", "pending");
            trade["quantity"] = json!(value + 1);
            trade["timestamp"] = at(value);
            let answer = must(binary, "/trades", trade).await;
            assert!(answer["quantity"].as_f64().unwrap() >= (value + 1) as f64);
        }
    };
    tokio::join!(publish_all(&servers[0], 0), publish_all(&servers[1], 1));
    must(&servers[0], "/trades", trade("last", "failed")).await;
    let newest = (VALUES - 1) as f64;
    for mut ann in followers {
        let (mut value, mut quantity) = (-1.0, 0.0);
        while value < newest {
            let next = ann.event("portfolio:update").await["totalValue"]
                .as_f64()
                .unwrap();
            assert!(next > value, "{next} after {value}");
            value = next;
        }
        loop {
            let update = ann.event("trade:update").await;
            if update["tradeId"] == "last" {
                break;
            }
            let next = update["quantity"].as_f64().unwrap();
            assert!(next > quantity, "{next} after {quantity}");
            quantity = next;
        }
        assert!(
            (quantity - VALUES as f64).abs() < f64::EPSILON,
            "{quantity}"
        );
        let again = ann
            .must("subscribe:portfolio", json!({"userId": "ann"}))
            .await;
        assert_eq!(again["snapshot"]["portfolio"]["totalValue"], newest);
    }
}
