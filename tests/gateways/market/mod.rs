//! Trades, signals and portfolios that services publish over HTTP and clients follow.

mod publishing;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::client::Client;
use crate::guard::{KEY, Server, signed};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};
use crate::support::RawClient;

/// Starts a server that accepts tokens and has no limits.
pub(crate) fn start(variables: &[(&str, &str)]) -> Server {
    let calls = ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0");
    Server::start(&[UNLIMITED.as_slice(), &[KEY, calls], variables].concat())
}

/// Connects a client of a user with a role.
pub(crate) async fn client(binary: &ServerProcess, user: &str, role: &str) -> Client {
    let claims = json!({"sub": user, "roles": [role], "exp": 4_000_000_000_u64});
    let auth = json!({"token": signed(&claims)});
    Client::connect(binary.address(), &auth).await.unwrap()
}

/// Calls the API as a service.
pub(crate) async fn publish(binary: &ServerProcess, path: &str, body: Value) -> (u16, Value) {
    publish_as(binary, "service", path, body).await
}

/// Calls the API with this role.
pub(crate) async fn publish_as(
    binary: &ServerProcess,
    role: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    call(binary, role, &format!("POST {path}"), "", &body.to_string()).await
}

/// Calls the API with this role, method and path, and additional headers.
pub(crate) async fn call(
    binary: &ServerProcess,
    role: &str,
    route: &str,
    headers: &str,
    body: &str,
) -> (u16, Value) {
    let claims = json!({"sub": "backend", "roles": [role], "exp": 4_000_000_000_u64});
    let (token, address) = (signed(&claims), binary.address());
    let (method, path) = route.split_once(' ').unwrap();
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = spawn_blocking(move || {
        let mut client = RawClient::connect(address);
        client.send(request);
        client.response()
    });
    let answer = answer.await.unwrap();
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
    (answer.status, body)
}

/// Publishes and expects success.
pub(crate) async fn must(binary: &ServerProcess, path: &str, body: Value) -> Value {
    let (status, answer) = publish(binary, path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

pub(crate) fn trade(id: &str, status: &str) -> Value {
    json!({
        "tradeId": id, "userId": "ann", "symbol": "AAPL", "side": "buy", "status": status, "quantity": 2,
        "executedPrice": (status == "executed").then_some(190.5),
    })
}

pub(crate) fn signal(id: &str, channel: Option<&str>) -> Value {
    json!({
        "signalId": id, "channelId": channel, "providerId": "p1", "providerName": "A provider",
        "symbol": "BTC/USD", "action": "buy", "entryPrice": 60000, "stopLoss": 58000.5,
        "takeProfit": null, "confidence": 75.0,
    })
}

fn ids<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[name].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_reaches_each_follower_of_all_or_its_channel_once() {
    let server = start(&[]);
    let binary = &server.binary;
    must(binary, "/signals", signal("s1", None)).await;
    must(binary, "/signals", signal("s2", Some("gold"))).await;
    let mut ann = client(binary, "ann", "user").await;
    let mut bob = client(binary, "bob", "user").await;
    let answer = ann.must("subscribe:signals", json!({})).await;
    assert_eq!(answer["room"], "signals");
    assert_eq!(
        ids(&answer["snapshot"]["signals"], "signalId"),
        ["s1", "s2"]
    );
    let told = ann.event("signals:subscribed").await;
    assert_eq!(told["snapshot"], answer["snapshot"]);
    assert_eq!(told["snapshot"]["revision"], 2);
    // Both rooms, and one of them twice.
    for _ in 0..2 {
        let answer = ann
            .must("subscribe:signals", json!({"channelId": "gold"}))
            .await;
        assert_eq!(answer["room"], "signals:gold");
        assert_eq!(ids(&answer["snapshot"]["signals"], "signalId"), ["s2"]);
    }
    bob.must("subscribe:signals", json!({"channelId": "gold"}))
        .await;
    // The payload is optional.
    let mut carl = client(binary, "carl", "user").await;
    carl.must("subscribe:signals", Value::Null).await;

    must(binary, "/signals", signal("s3", Some("gold"))).await;
    must(binary, "/signals", signal("s4", Some("oil"))).await;
    must(binary, "/signals", signal("s5", Some("gold"))).await;
    let expected = json!({
        "signalId": "s3", "channelId": "gold", "providerId": "p1", "providerName": "A provider",
        "symbol": "BTC/USD", "action": "buy", "entryPrice": 60000.0, "stopLoss": 58000.5,
        "takeProfit": null, "confidence": 75.0, "revision": 3,
    });
    let mut first = bob.event("signal:new").await;
    let timestamp = first.as_object_mut().unwrap().remove("timestamp");
    assert!(timestamp.is_some_and(|time| time.is_string()));
    assert_eq!(first, expected);
    assert_eq!(bob.event("signal:new").await["signalId"], "s5");
    for client in [&mut ann, &mut carl] {
        for id in ["s3", "s4", "s5"] {
            assert_eq!(client.event("signal:new").await["signalId"], id);
        }
    }

    let left = ann.must("unsubscribe:signals", json!({})).await;
    assert_eq!(left["room"], "signals");
    assert_eq!(ann.event("signals:unsubscribed").await["room"], "signals");
    bob.must("unsubscribe:signals", json!({"channelId": "gold"}))
        .await;
    must(binary, "/signals", signal("s6", Some("oil"))).await;
    must(binary, "/signals", signal("s7", Some("gold"))).await;
    assert_eq!(ann.event("signal:new").await["signalId"], "s7");
    assert_eq!(carl.event("signal:new").await["signalId"], "s6");
    assert!(bob.events_until_now("signal:new").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_during_publications_gets_each_once_in_order() {
    const TRADES: usize = 150;
    let server = start(&[]);
    let ((), subscribers) = tokio::join!(
        async {
            for n in 0..TRADES {
                let id = format!("t{n}");
                must(&server.binary, "/trades", trade(&id, "executed")).await;
            }
        },
        async {
            let mut subscribers = Vec::new();
            for _ in 0..10 {
                let mut ann = client(&server.binary, "ann", "user").await;
                let answer = ann.must("subscribe:trades", json!({"userId": "ann"})).await;
                subscribers.push((ann, answer["snapshot"].clone()));
            }
            subscribers
        }
    );
    must(&server.binary, "/trades", trade("last", "failed")).await;
    for (mut ann, snapshot) in subscribers {
        let told = ann.event("trades:subscribed").await;
        assert_eq!(told["snapshot"], snapshot);
        let mut revision = snapshot["revision"].as_u64().unwrap();
        let known = snapshot["trades"].as_array().unwrap();
        let last = known.last().map(|trade| trade["tradeId"].clone());
        let expected = revision.checked_sub(1).map(|n| json!(format!("t{n}")));
        assert_eq!(last, expected);
        while revision <= TRADES as u64 {
            let update = ann.event("trade:update").await;
            revision += 1;
            assert_eq!(update["revision"], revision);
        }
        assert!(ann.events_until_now("trade:update").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_snapshot_has_open_trades_and_the_last_fifty() {
    let server = start(&[]);
    let binary = &server.binary;
    must(binary, "/trades", trade("open", "pending")).await;
    for n in 0..55 {
        must(binary, "/trades", trade(&format!("t{n}"), "executed")).await;
    }
    let mut ann = client(binary, "ann", "user").await;
    let answer = ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let trades = ids(&answer["snapshot"]["trades"], "tradeId");
    assert_eq!((trades.len(), trades[0], trades[1]), (51, "open", "t5"));
    assert_eq!(answer["snapshot"]["hasMore"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_signals_has_the_last_twenty_of_all_or_of_a_channel() {
    let server = start(&[]);
    let binary = &server.binary;
    for n in 0..45 {
        let channel = (n % 2 == 0).then_some("gold");
        must(binary, "/signals", signal(&format!("s{n}"), channel)).await;
    }
    let mut ann = client(binary, "ann", "user").await;
    let all: Vec<_> = (25..45).map(|n| format!("s{n}")).collect();
    let gold: Vec<_> = (6..45).step_by(2).map(|n| format!("s{n}")).collect();
    for (payload, last) in [(json!({}), all), (json!({"channelId": "gold"}), gold)] {
        let answer = ann.must("subscribe:signals", payload).await;
        let snapshot = &answer["snapshot"];
        assert_eq!(ids(&snapshot["signals"], "signalId"), last);
        assert_eq!(snapshot["hasMore"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portfolio_follower_gets_current_state_then_changes() {
    let server = start(&[]);
    let binary = &server.binary;
    let portfolio = |value: f64| {
        json!({
            "userId": "ann", "totalValue": value, "cash": 10,
            "positions": [{"symbol": "AAPL", "quantity": -2, "avgPrice": 180.25}],
        })
    };
    let mut ann = client(binary, "ann", "user").await;
    let none = ann
        .must("subscribe:portfolio", json!({"userId": "ann"}))
        .await;
    assert_eq!(none["snapshot"], json!({"revision": 0, "portfolio": null}));
    assert_eq!(none["room"], "portfolio:ann");
    for value in [1.5, 2.5] {
        must(binary, "/portfolios", portfolio(value)).await;
    }
    // The first update may be replaced by the second.
    loop {
        let update = ann.event("portfolio:update").await;
        assert_eq!(update["userId"], "ann");
        if update["totalValue"] == 2.5 {
            assert_eq!(
                update["positions"],
                json!([{"symbol": "AAPL", "quantity": -2.0, "avgPrice": 180.25}])
            );
            break;
        }
    }
    let mut tab = client(binary, "ann", "user").await;
    let newest = tab
        .must("subscribe:portfolio", json!({"userId": "ann"}))
        .await;
    assert_eq!(newest["snapshot"]["portfolio"]["totalValue"], 2.5);
    assert_eq!(newest["snapshot"]["revision"], 2);
    let left = tab
        .must("unsubscribe:portfolio", json!({"userId": "ann"}))
        .await;
    assert_eq!(left["room"], "portfolio:ann");
    must(binary, "/portfolios", portfolio(3.5)).await;
    assert_eq!(ann.event("portfolio:update").await["totalValue"], 3.5);
    assert!(tab.events_until_now("portfolio:update").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_follow_only_their_own_and_keep_their_user_room() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    let mut bob = client(binary, "bob", "admin").await;
    for event in [
        "subscribe:trades",
        "unsubscribe:trades",
        "subscribe:portfolio",
        "unsubscribe:portfolio",
    ] {
        for client in [&mut ann, &mut bob] {
            client
                .refused(event, json!({"userId": "carl"}), "FORBIDDEN")
                .await;
        }
        for wrong in [
            json!({}),
            json!({"userId": 7}),
            json!("ann"),
            json!(["ann"]),
            Value::Null,
        ] {
            ann.refused(event, wrong, "INVALID_PAYLOAD").await;
        }
    }
    for wrong in [
        json!({"channelId": 7}),
        json!({"channelId": ""}),
        json!({"channelId": "a\u{0}"}),
        json!({"channelId": "x".repeat(129)}),
        json!("gold"),
        json!([]),
    ] {
        for event in ["subscribe:signals", "unsubscribe:signals"] {
            ann.refused(event, wrong.clone(), "INVALID_PAYLOAD").await;
        }
    }
    // A channel with the longest name has a room with a shorter name.
    let channel = "ü".repeat(128);
    let answer = ann
        .must("subscribe:signals", json!({"channelId": channel}))
        .await;
    assert!(answer["room"].as_str().unwrap().starts_with("signals#"));
    must(binary, "/signals", signal("s1", Some(&channel))).await;
    assert_eq!(ann.event("signal:new").await["channelId"], channel);

    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    ann.must("unsubscribe:trades", json!({"userId": "ann"}))
        .await;
    ann.must("unsubscribe:trades", json!({"userId": "ann"}))
        .await;
    bob.create(json!({"memberIds": ["ann"]})).await;
    ann.event("conversation_updated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_follows_a_limited_number_of_channels() {
    let server = start(&[("ROOMCAST_MARKET__CHANNELS", "2")]);
    let mut ann = client(&server.binary, "ann", "user").await;
    let channel = |name: &str| json!({"channelId": name});
    for name in ["a", "b", "a"] {
        ann.must("subscribe:signals", channel(name)).await;
    }
    ann.refused("subscribe:signals", channel("c"), "CONFLICT")
        .await;
    ann.must("unsubscribe:signals", channel("a")).await;
    ann.must("subscribe:signals", channel("c")).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn publications_reach_followers_at_all_servers() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut followers = Vec::new();
    for binary in &servers {
        let mut ann = client(binary, "ann", "user").await;
        ann.must("subscribe:trades", json!({"userId": "ann"})).await;
        ann.must("subscribe:portfolio", json!({"userId": "ann"}))
            .await;
        followers.push(ann);
    }
    for n in 0..40 {
        let id = format!("t{n}");
        must(&servers[n % 2], "/trades", trade(&id, "executed")).await;
    }
    let portfolio = json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []});
    must(&servers[0], "/portfolios", portfolio).await;
    for mut ann in followers {
        for n in 0..40 {
            let update = ann.event("trade:update").await;
            assert_eq!(
                (&update["tradeId"], &update["revision"]),
                (&json!(format!("t{n}")), &json!(n + 1))
            );
        }
        assert_eq!(ann.event("portfolio:update").await["totalValue"], 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_share_a_snapshot_until_the_next_change() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut clients = Vec::new();
    for n in 0..6 {
        if n % 2 == 0 {
            must(binary, "/signals", signal(&format!("s{n}"), Some("gold"))).await;
        }
        let mut client = client(binary, &format!("u{n}"), "user").await;
        for payload in [json!({}), json!({"channelId": "gold"})] {
            let answer = client.must("subscribe:signals", payload).await;
            let snapshot = &answer["snapshot"];
            assert_eq!(snapshot["revision"], n / 2 + 1);
            let known = snapshot["signals"].as_array().unwrap().len();
            assert_eq!(known, n / 2 + 1);
        }
        clients.push(client);
    }
    must(binary, "/signals", signal("last", None)).await;
    for (n, mut client) in clients.into_iter().enumerate() {
        for revision in n / 2 + 2..=4 {
            assert_eq!(client.event("signal:new").await["revision"], revision);
        }
        assert!(client.events_until_now("signal:new").await.is_empty());
    }
}
