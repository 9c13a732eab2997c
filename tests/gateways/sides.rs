//! The side of a trade, the scale of confidence, and the signal channels that clients may follow.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{Server, signed};
use crate::market::{client, must, publish, signal, start};
use crate::server::ServerProcess;

const ACCESS: (&str, &str) = (
    "ROOMCAST_MARKET__SIGNALS",
    r#"[
        {channel = "gold", follow = ["role:premium"]},
        {channel = "vip-*", follow = ["claim:channels={channel}"]},
        {channel = "open", follow = ["anyone"]},
        {channel = "*", follow = ["users"]},
    ]"#,
);

/// Returns a token of a user with one role and an additional claim.
fn token(user: &str, role: &str, channels: &Value) -> String {
    signed(&json!({
        "sub": user, "roles": [role, "user"], "exp": 4_000_000_000_u64, "channels": channels,
    }))
}

async fn connect(binary: &ServerProcess, token: &str) -> Client {
    let auth = json!({ "token": token });
    Client::connect(binary.address(), &auth).await.unwrap()
}

/// Returns the channels that a client may follow; `null` is all signals.
async fn followed(client: &mut Client) -> Vec<Value> {
    let mut followed = Vec::new();
    for channel in [
        json!("gold"),
        json!("vip-1"),
        json!("open"),
        json!("oil"),
        Value::Null,
    ] {
        let answer = client
            .ask("subscribe:signals", json!({ "channelId": channel }))
            .await;
        if answer["success"] == true {
            followed.push(channel);
        } else {
            assert_eq!(answer["error"]["code"], "FORBIDDEN", "{answer}");
        }
    }
    followed
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_keeps_the_side_of_its_first_publication() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let trade = |status: &str, side: Value| {
        let mut trade = json!({
            "tradeId": "t", "userId": "ann", "symbol": "A", "status": status, "quantity": 1,
            "executedPrice": (status == "executed").then_some(2),
        });
        if !side.is_null() {
            trade["side"] = side;
        }
        trade
    };
    must(binary, "/trades", trade("pending", json!("sell"))).await;
    assert_eq!(ann.event("trade:update").await["side"], "sell");
    let (status, answer) = publish(binary, "/trades", trade("executed", json!("buy"))).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    let answer = must(binary, "/trades", trade("executed", Value::Null)).await;
    assert_eq!(answer["side"], "sell");
    assert_eq!(ann.event("trade:update").await["side"], "sell");
    // Published again with the same side or without one, it is the same trade.
    for side in [json!("sell"), Value::Null] {
        assert_eq!(
            must(binary, "/trades", trade("executed", side)).await,
            answer
        );
    }
    let (status, list) = server.call("GET", "/users/ann/trades", "service", "");
    assert_eq!((status, &list["trades"][0]["side"]), (200, &json!("sell")));
    for wrong in [json!("hold"), json!({"buy": null}), json!(1)] {
        let (status, answer) = publish(binary, "/trades", trade("pending", wrong)).await;
        assert_eq!(
            (status, &answer["error"]["details"]["field"]),
            (400, &json!("side"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_brings_its_side_into_each_update() {
    let server = start(&[("ROOMCAST_MARKET__PRICES", "AAPL=190.5")]);
    let mut ann = client(&server.binary, "ann", "admin").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let order = json!({"symbol": "AAPL", "side": "sell", "quantity": 1});
    ann.must("execute:trade", order).await;
    for status in ["pending", "executed"] {
        let update = ann.event("trade:update").await;
        assert_eq!(
            (&update["status"], &update["side"]),
            (&json!(status), &json!("sell"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confidence_that_is_a_fraction_is_refused() {
    let server = start(&[]);
    let of = |confidence: Value| {
        let mut signal = signal(&format!("s{confidence}"), None);
        signal["confidence"] = confidence;
        signal
    };
    for wrong in [json!(0.8), json!(0.01), json!(100.5), json!(-1)] {
        let (status, answer) = publish(&server.binary, "/signals", of(wrong.clone())).await;
        let field = &answer["error"]["details"]["field"];
        assert_eq!((status, field), (400, &json!("confidence")), "{wrong}");
    }
    for good in [json!(0), json!(1), json!(80.5), json!(100)] {
        must(&server.binary, "/signals", of(good)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_channels_admit_only_permitted_users() {
    let server: Server = start(&[ACCESS]);
    let binary = &server.binary;
    let every = json!(["gold", "vip-1", "open", "oil", null]);
    for (role, channels, expected) in [
        ("user", Value::Null, json!(["open", "oil"])),
        ("premium", Value::Null, json!(["gold", "open", "oil"])),
        ("user", json!(["vip-1"]), json!(["vip-1", "open", "oil"])),
        ("user", json!(["vip-2"]), json!(["open", "oil"])),
        ("premium", json!("*"), every.clone()),
    ] {
        let mut user = connect(binary, &token("ann", role, &channels)).await;
        assert_eq!(
            json!(followed(&mut user).await),
            expected,
            "{role} {channels}"
        );
    }
    let mut guest = Client::connect(binary.address(), &json!({"name": "Guest"}))
        .await
        .unwrap();
    assert_eq!(json!(followed(&mut guest).await), json!(["open"]));
    // Without rules, every client may follow every channel.
    let server = start(&[]);
    let mut guest = Client::connect(server.binary.address(), &json!({"name": "Guest"}))
        .await
        .unwrap();
    assert_eq!(json!(followed(&mut guest).await), every);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_claim_ends_the_subscription() {
    let server = start(&[ACCESS]);
    let binary = &server.binary;
    let mut ann = connect(binary, &token("ann", "user", &json!(["vip-1"]))).await;
    for channel in ["vip-1", "oil"] {
        let channel = json!({ "channelId": channel });
        ann.must("subscribe:signals", channel).await;
    }
    let less = json!({"token": token("ann", "user", &json!([]))});
    ann.must("auth:refresh", less).await;
    let ended = ann.event("signals:unsubscribed").await;
    assert_eq!(ended["room"], "signals:vip-1");
    must(binary, "/signals", signal("s1", Some("vip-1"))).await;
    must(binary, "/signals", signal("s2", Some("oil"))).await;
    assert_eq!(ann.event("signal:new").await["signalId"], "s2");
}
