//! Signals, trades and prices that services withdraw.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::KEY;
use crate::market::{call, client, must, publish, signal, start, trade};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};

async fn withdraw(binary: &ServerProcess, path: &str) -> (u16, Value) {
    call(binary, "service", &format!("DELETE {path}"), "", "").await
}

async fn must_withdraw(binary: &ServerProcess, path: &str) -> Value {
    let (status, answer) = withdraw(binary, path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn get(binary: &ServerProcess, path: &str) -> Value {
    let (status, answer) = call(binary, "service", &format!("GET {path}"), "", "").await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Returns the ids in a list.
fn ids<'a>(list: &'a Value, id: &str) -> Vec<&'a str> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[id].as_str().unwrap()).collect()
}

/// Subscribes to signals, and returns the snapshot.
async fn signals(client: &mut Client, channel: Option<&str>) -> Value {
    let request = json!({ "channelId": channel });
    client.must("subscribe:signals", request).await["snapshot"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_signal_reaches_followers_and_leaves_every_list() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut all = client(binary, "ann", "user").await;
    let mut gold = client(binary, "bob", "user").await;
    let mut silver = client(binary, "carl", "user").await;
    signals(&mut all, None).await;
    signals(&mut gold, Some("gold")).await;
    signals(&mut silver, Some("silver")).await;
    for id in ["s1", "s2"] {
        must(binary, "/signals", signal(id, Some("gold"))).await;
    }
    let answer = must_withdraw(binary, "/signals/s1").await;
    let timestamp = &answer["timestamp"];
    assert!(timestamp.is_string(), "{answer}");
    let expected =
        json!({"signalId": "s1", "channelId": "gold", "timestamp": timestamp, "revision": 3});
    assert_eq!(answer, expected);
    for follower in [&mut all, &mut gold] {
        assert_eq!(follower.event("signal:withdrawn").await, answer);
    }
    assert!(silver.events_until_now("signal:withdrawn").await.is_empty());
    // A client that subscribes later sees by the revision that something has changed.
    let later = signals(&mut silver, None).await;
    assert_eq!(ids(&later["signals"], "signalId"), ["s2"]);
    assert_eq!(later["revision"], 3);
    assert_eq!(
        ids(&get(binary, "/signals").await["signals"], "signalId"),
        ["s2"]
    );
    let of_channel = get(binary, "/signals?channelId=gold").await;
    assert_eq!(ids(&of_channel["signals"], "signalId"), ["s2"]);
    // The answer is the same each time, also after a restart, and the id stays in use.
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY]].concat());
    let binary = &server.binary;
    assert_eq!(must_withdraw(binary, "/signals/s1").await, answer);
    let (status, again) = publish(binary, "/signals", signal("s1", Some("gold"))).await;
    assert_eq!((status, &again["error"]["code"]), (409, &json!("CONFLICT")));
    let (status, none) = withdraw(binary, "/signals/s3").await;
    assert_eq!((status, &none["error"]["code"]), (404, &json!("NOT_FOUND")));
    assert_eq!(
        ids(&get(binary, "/signals").await["signals"], "signalId"),
        ["s2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_signals_do_not_count_in_a_snapshot() {
    let server = start(&[]);
    let binary = &server.binary;
    for n in 0..40 {
        must(binary, "/signals", signal(&format!("s{n}"), None)).await;
    }
    for n in 20..40 {
        must_withdraw(binary, &format!("/signals/s{n}")).await;
    }
    let mut ann = client(binary, "ann", "user").await;
    let snapshot = signals(&mut ann, None).await;
    let expected: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    assert_eq!(ids(&snapshot["signals"], "signalId"), expected);
    assert_eq!(snapshot["hasMore"], false);
    let page = get(binary, "/signals?limit=20").await;
    assert_eq!(page["signals"].as_array().unwrap().len(), 20);
    assert_eq!(page["hasMore"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_is_withdrawn_unless_it_is_executed() {
    let server = start(&[("ROOMCAST_MARKET__OPEN_TRADES", "1")]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    let own = json!({"userId": "ann"});
    ann.must("subscribe:trades", own.clone()).await;
    for (id, status) in [("t1", "failed"), ("t2", "canceled"), ("t3", "pending")] {
        must(binary, "/trades", trade(id, status)).await;
    }
    assert_eq!(
        publish(binary, "/trades", trade("t4", "pending")).await.0,
        409
    );
    for id in ["t1", "t3"] {
        let path = format!("/users/ann/trades/{id}");
        let answer = must_withdraw(binary, &path).await;
        assert_eq!(
            (&answer["tradeId"], &answer["userId"]),
            (&json!(id), &json!("ann"))
        );
        assert_eq!(ann.event("trade:withdrawn").await, answer);
        // It does not come back, and the first answer counts.
        for status in ["pending", "executed"] {
            assert_eq!(publish(binary, "/trades", trade(id, status)).await.0, 409);
        }
        assert_eq!(must_withdraw(binary, &path).await, answer);
    }
    // Its place is free for another trade.
    must(binary, "/trades", trade("t4", "pending")).await;
    must(binary, "/trades", trade("t4", "executed")).await;
    let (status, refused) = withdraw(binary, "/users/ann/trades/t4").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    for path in ["/users/ann/trades/t9", "/users/bob/trades/t4"] {
        assert_eq!(withdraw(binary, path).await.0, 404, "{path}");
    }
    let snapshot = ann.must("subscribe:trades", own).await["snapshot"].clone();
    assert_eq!(ids(&snapshot["trades"], "tradeId"), ["t2", "t4"]);
    let list = get(binary, "/users/ann/trades").await;
    assert_eq!(ids(&list["trades"], "tradeId"), ["t4", "t2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_without_known_outcome_is_not_withdrawn() {
    // The executor accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let server = start(&[
        ("ROOMCAST_MARKET__EXECUTOR", "webhook"),
        ("ROOMCAST_MARKET__WEBHOOK__URL", &url),
        ("ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "200ms"),
        ("ROOMCAST_MARKET__WEBHOOK__ATTEMPTS", "1"),
    ]);
    let mut ann = client(&server.binary, "ann", "admin").await;
    let order = json!({"symbol": "A", "side": "buy", "quantity": 1});
    let refused = ann.refused("execute:trade", order, "CONFLICT").await;
    assert_eq!(refused["details"]["reason"], "OUTCOME_UNKNOWN");
    let error = ann.event("trade:error").await;
    let path = format!("/users/ann/trades/{}", error["tradeId"].as_str().unwrap());
    let (status, answer) = withdraw(&server.binary, &path).await;
    assert_eq!(status, 409, "{answer}");
    let list = get(&server.binary, "/users/ann/trades").await;
    assert_eq!(list["trades"][0]["status"], "pending");
}

/// Subscribes to the price of a symbol, and returns the prices in the snapshot.
async fn prices(client: &mut Client, symbol: &str) -> Vec<f64> {
    let request = json!({"symbols": [symbol]});
    let answer = client.must("subscribe:prices", request).await;
    let prices = answer["snapshot"]["prices"].as_array().unwrap().iter();
    prices.map(|one| one["price"].as_f64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_price_is_unknown_until_the_next_one() {
    let server = start(&[("ROOMCAST_MARKET__PRICE_INTERVAL", "500ms")]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "admin").await;
    assert!(prices(&mut ann, "BTC/USD").await.is_empty());
    // The first price is sent immediately; the second is withdrawn while it is pending.
    for price in [60_000, 1] {
        must(
            binary,
            "/prices",
            json!({"symbol": "BTC/USD", "price": price}),
        )
        .await;
    }
    let answer = must_withdraw(binary, "/prices/BTC%2FUSD").await;
    assert_eq!(
        (&answer["symbol"], &answer["reason"]),
        (&json!("BTC/USD"), &json!("withdrawn"))
    );
    assert_eq!(ann.event("price:withdrawn").await, answer);
    let mut bob = client(binary, "bob", "admin").await;
    assert!(prices(&mut bob, "BTC/USD").await.is_empty());
    let order = json!({"symbol": "BTC/USD", "side": "buy", "quantity": 1});
    let refused = bob.refused("execute:trade", order, "CONFLICT").await;
    assert_eq!(refused["details"]["reason"], "NO_PRICE");
    for path in ["/prices/BTC%2FUSD", "/prices/NONE", "/prices/BTC%20USD"] {
        assert_eq!(withdraw(binary, path).await.0, 404, "{path}");
    }
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY]].concat());
    let binary = &server.binary;
    let mut bob = client(binary, "bob", "user").await;
    assert!(prices(&mut bob, "BTC/USD").await.is_empty());
    // A further price activates the symbol again, whatever its time is.
    let older = json!({"symbol": "BTC/USD", "price": 2, "timestamp": "2025-01-31T12:00:00.000Z"});
    must(binary, "/prices", older).await;
    assert_eq!(bob.event("price:update").await["price"], 2.0);
    assert_eq!(prices(&mut bob, "BTC/USD").await, [2.0]);
    // The first server sent no price after the withdrawal.
    let mut updates = Vec::new();
    while let Some(update) = ann.any_event("price:update").await {
        updates.push(update);
    }
    let updates: Vec<_> = updates
        .iter()
        .map(|one| one["price"].as_f64().unwrap())
        .collect();
    assert!(
        updates.iter().all(|price| *price == 60_000.0),
        "{updates:?}"
    );
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn withdrawals_at_one_server_reach_followers_at_another() {
    let variables = [KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0")];
    let database = Database::new();
    let servers = [
        database.server_with(&variables),
        database.server_with(&variables),
    ];
    let mut ann = client(&servers[1], "ann", "user").await;
    signals(&mut ann, Some("gold")).await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    assert!(prices(&mut ann, "A").await.is_empty());
    must(&servers[0], "/signals", signal("s1", Some("gold"))).await;
    must(&servers[0], "/trades", trade("t1", "failed")).await;
    must(&servers[0], "/prices", json!({"symbol": "A", "price": 1})).await;
    for event in ["signal:new", "trade:update", "price:update"] {
        ann.event(event).await;
    }
    let signal = must_withdraw(&servers[0], "/signals/s1").await;
    assert_eq!(ann.event("signal:withdrawn").await, signal);
    let trade = must_withdraw(&servers[0], "/users/ann/trades/t1").await;
    assert_eq!(ann.event("trade:withdrawn").await, trade);
    must_withdraw(&servers[0], "/prices/A").await;
    let price = ann.event("price:withdrawn").await;
    assert_eq!(
        (&price["symbol"], &price["reason"]),
        (&json!("A"), &json!("withdrawn"))
    );
    assert!(prices(&mut ann, "A").await.is_empty());
    // A price from the other server activates the symbol again at both.
    must(&servers[1], "/prices", json!({"symbol": "A", "price": 2})).await;
    assert_eq!(ann.event("price:update").await["price"], 2.0);
    // Each server withdraws what the other has received.
    must_withdraw(&servers[0], "/prices/A").await;
    ann.event("price:withdrawn").await;
    // A server that starts later has none of it.
    let third = database.server_with(&variables);
    let mut bob = client(&third, "bob", "user").await;
    assert_eq!(signals(&mut bob, None).await["signals"], json!([]));
    assert!(prices(&mut bob, "A").await.is_empty());
    assert_eq!(get(&third, "/users/ann/trades").await["trades"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn continuing_client_learns_of_missed_withdrawals() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    for id in ["s1", "s2"] {
        must(binary, "/signals", signal(id, Some("gold"))).await;
        must(binary, "/trades", trade(id, "pending")).await;
    }
    for id in ["s1", "s2"] {
        must_withdraw(binary, &format!("/signals/{id}")).await;
        must_withdraw(binary, &format!("/users/ann/trades/{id}")).await;
    }
    must(binary, "/signals", signal("s3", Some("gold"))).await;
    must(binary, "/trades", trade("s3", "pending")).await;
    for (kind, id, mut request) in [
        ("signals", "signalId", json!({"channelId": "gold"})),
        ("signals", "signalId", json!({})),
        ("trades", "tradeId", json!({"userId": "ann"})),
    ] {
        let whole = ann
            .must(&format!("subscribe:{kind}"), request.clone())
            .await["snapshot"]
            .clone();
        assert_eq!(whole["withdrawn"], Value::Null, "{whole}");
        for (since, withdrawn) in [
            (2, json!(["s1", "s2"])),
            (3, json!(["s2"])),
            (4, Value::Null),
        ] {
            request["sinceRevision"] = json!(since);
            let snapshot = ann
                .must(&format!("subscribe:{kind}"), request.clone())
                .await["snapshot"]
                .clone();
            assert_eq!(snapshot["withdrawn"], withdrawn, "{snapshot}");
            assert_eq!(ids(&snapshot[kind], id), ["s3"]);
        }
        // A page has the newest first, and a withdrawal takes a place on it.
        let mut request = json!({"sinceRevision": 2, "limit": 2});
        let page = ann.must(&format!("{kind}:history"), request.clone()).await;
        assert_eq!(ids(&page[kind], id), ["s3"]);
        assert_eq!(
            (&page["withdrawn"], &page["hasMore"]),
            (&json!(["s2"]), &json!(true))
        );
        request["cursor"] = page["cursor"].clone();
        let page = ann.must(&format!("{kind}:history"), request).await;
        assert_eq!(page[kind], json!([]));
        assert_eq!(
            (&page["withdrawn"], &page["hasMore"]),
            (&json!(["s1"]), &json!(false))
        );
        // A revision that was never reached requests the whole list.
        let page = ann
            .must(&format!("{kind}:history"), json!({"sinceRevision": 99}))
            .await;
        assert_eq!(page["withdrawn"], Value::Null, "{page}");
        assert_eq!(ids(&page[kind], id), ["s3"]);
    }
}
