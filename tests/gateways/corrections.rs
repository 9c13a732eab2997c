//! Signals, trades and notifications that services correct.

use serde_json::{Value, json};

use crate::guard::KEY;
use crate::market::{call, client, must, publish, signal, start, trade};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};

const NOTICE: &str = "/users/ann/notifications/n1";

async fn correct(binary: &ServerProcess, path: &str, body: &Value) -> (u16, Value) {
    let route = format!("PUT {path}");
    call(binary, "service", &route, "", &body.to_string()).await
}

async fn must_correct(binary: &ServerProcess, path: &str, body: &Value) -> Value {
    let (status, answer) = correct(binary, path, body).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Expects a conflict, with the field at fault if there is one.
async fn conflicts(binary: &ServerProcess, path: &str, body: &Value, field: Value) {
    let (status, answer) = correct(binary, path, body).await;
    let error = &answer["error"];
    assert_eq!(
        (status, &error["code"]),
        (409, &json!("CONFLICT")),
        "{body}"
    );
    assert_eq!(error["details"]["field"], field, "{body}: {answer}");
}

async fn get(binary: &ServerProcess, path: &str) -> Value {
    let (status, answer) = call(binary, "service", &format!("GET {path}"), "", "").await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn notice() -> Value {
    json!({
        "notificationId": "n1", "userId": "ann", "type": "info", "priority": "urgent",
        "title": "A title", "message": "wrong",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn corrected_signal_reaches_followers_and_every_list() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut all = client(binary, "ann", "user").await;
    let mut gold = client(binary, "bob", "user").await;
    all.must("subscribe:signals", json!({})).await;
    gold.must("subscribe:signals", json!({"channelId": "gold"}))
        .await;
    let published = must(binary, "/signals", signal("s1", Some("gold"))).await;
    let mut body = signal("s1", Some("gold"));
    body["entryPrice"] = json!(61_000.5);
    let corrected = must_correct(binary, "/signals/s1", &body).await;
    let mut expected = published.clone();
    expected["entryPrice"] = json!(61_000.5);
    expected["revision"] = json!(2);
    assert_eq!(corrected, expected);
    for follower in [&mut all, &mut gold] {
        assert_eq!(follower.event("signal:new").await["entryPrice"], 60_000.0);
        assert_eq!(follower.event("signal:new").await, corrected);
    }
    // A repeated request changes nothing, also after a restart.
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY]].concat());
    let binary = &server.binary;
    assert_eq!(must_correct(binary, "/signals/s1", &body).await, corrected);
    let list = get(binary, "/signals?channelId=gold").await;
    assert_eq!(list["signals"], json!([corrected]));

    let mut other = body.clone();
    other["channelId"] = json!("silver");
    conflicts(binary, "/signals/s1", &other, json!("channelId")).await;
    other = body.clone();
    other["signalId"] = json!("s2");
    conflicts(binary, "/signals/s1", &other, json!("signalId")).await;
    assert_eq!(correct(binary, "/signals/s2", &other).await.0, 404);
    let (status, _) = call(binary, "service", "DELETE /signals/s1", "", "").await;
    assert_eq!(status, 200);
    conflicts(binary, "/signals/s1", &body, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_is_corrected_until_it_is_executed() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    for (id, status) in [("t1", "pending"), ("t2", "failed"), ("t3", "executed")] {
        must(binary, "/trades", trade(id, status)).await;
        ann.event("trade:update").await;
    }
    let mut body = trade("t1", "pending");
    body["quantity"] = json!(3);
    for (path, body) in [
        ("/users/ann/trades/t1", &body),
        ("/users/ann/trades/t2", &trade("t2", "canceled")),
        ("/users/ann/trades/t1", &trade("t1", "executed")),
    ] {
        let corrected = must_correct(binary, path, body).await;
        assert_eq!(corrected["status"], body["status"]);
        assert_eq!(ann.event("trade:update").await, corrected);
        assert_eq!(must_correct(binary, path, body).await, corrected);
    }
    for (path, body) in [
        ("/users/ann/trades/t1", &body),
        ("/users/ann/trades/t2", &trade("t2", "pending")),
        ("/users/ann/trades/t3", &trade("t3", "failed")),
    ] {
        conflicts(binary, path, body, Value::Null).await;
    }
    let foreign = trade("t2", "failed");
    conflicts(binary, "/users/bob/trades/t2", &foreign, json!("userId")).await;
    conflicts(binary, "/users/ann/trades/t9", &foreign, json!("tradeId")).await;
    let unknown = trade("t9", "failed");
    let (status, _) = correct(binary, "/users/ann/trades/t9", &unknown).await;
    assert_eq!(status, 404);
    assert!(ann.events_until_now("trade:update").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn notification_is_corrected_until_it_is_acknowledged() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:notifications", json!({})).await;
    must(binary, "/notifications", notice()).await;
    let published = ann.event("notification:new").await;
    let mut body = notice();
    body["message"] = json!("right");
    let corrected = must_correct(binary, NOTICE, &body).await;
    let mut expected = published.clone();
    expected["message"] = json!("right");
    expected["revision"] = corrected["revision"].clone();
    assert_eq!(corrected, expected);
    assert!(corrected["revision"].as_u64() > published["revision"].as_u64());
    assert_eq!(ann.event("notification:new").await, corrected);
    assert_eq!(must_correct(binary, NOTICE, &body).await, corrected);
    let list = get(binary, "/users/ann/notifications").await;
    assert_eq!(list["notifications"][0]["message"], "right");
    assert_eq!(list["unread"], 1);

    let mut later = body.clone();
    later["expiresAt"] =
        json!((jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string());
    conflicts(binary, NOTICE, &later, json!("expiresAt")).await;
    let mut many = body.clone();
    let _ = many.as_object_mut().unwrap().remove("userId");
    many["userIds"] = json!(["ann"]);
    conflicts(binary, NOTICE, &many, json!("userIds")).await;
    let path = "/users/bob/notifications/n1";
    let mut foreign = body.clone();
    foreign["userId"] = json!("bob");
    assert_eq!(correct(binary, path, &foreign).await.0, 404);
    ann.must("notification:ack", json!({"notificationId": "n1"}))
        .await;
    conflicts(binary, NOTICE, &body, Value::Null).await;
    // The first answer to the publication applies to the original, not to the correction.
    assert_eq!(publish(binary, "/notifications", notice()).await.0, 409);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn corrections_at_one_server_reach_followers_at_another() {
    let variables = [KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0")];
    let database = Database::new();
    let servers = [
        database.server_with(&variables),
        database.server_with(&variables),
    ];
    let mut ann = client(&servers[1], "ann", "user").await;
    ann.must("subscribe:signals", json!({})).await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    ann.must("subscribe:notifications", json!({})).await;
    let mut signal = signal("s1", None);
    let mut trade = trade("t1", "pending");
    let mut notice = notice();
    for (path, body, event) in [
        ("/signals", &signal, "signal:new"),
        ("/trades", &trade, "trade:update"),
        ("/notifications", &notice, "notification:new"),
    ] {
        must(&servers[0], path, body.clone()).await;
        ann.event(event).await;
    }
    signal["confidence"] = json!(50);
    trade["quantity"] = json!(7);
    notice["title"] = json!("Another title");
    for (path, body, event) in [
        ("/signals/s1", &signal, "signal:new"),
        ("/users/ann/trades/t1", &trade, "trade:update"),
        (NOTICE, &notice, "notification:new"),
    ] {
        let corrected = must_correct(&servers[0], path, body).await;
        assert_eq!(ann.event(event).await, corrected);
    }
}
