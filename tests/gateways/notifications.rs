//! Notifications: stored until acknowledged, sent immediately or in batches, and sent again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{KEY, Server};
use crate::market::{call, client, must, publish, publish_as, start};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};

fn notice(id: &str, priority: &str) -> Value {
    json!({
        "notificationId": id, "userId": "ann", "type": "info", "priority": priority,
        "title": "A title", "message": format!("about {id}"), "actionUrl": "/orders/1",
    })
}

async fn notify(server: &Server, id: &str, priority: &str) -> Value {
    must(&server.binary, "/notifications", notice(id, priority)).await
}

/// Connects a user who subscribes to notifications, and returns the ids in the snapshot.
async fn follower(server: &Server, user: &str) -> (Client, Vec<String>) {
    let mut client = client(&server.binary, user, "user").await;
    let answer = client.must("subscribe:notifications", json!({})).await;
    assert_eq!(answer["room"], format!("notifications:{user}"));
    let known = ids(&answer["snapshot"]);
    (client, known)
}

fn ids(holder: &Value) -> Vec<String> {
    let list = holder["notifications"].as_array().unwrap().iter();
    list.map(|one| one["notificationId"].as_str().unwrap().to_owned())
        .collect()
}

fn ack(id: &str) -> Value {
    json!({"notificationId": id})
}

#[tokio::test(flavor = "multi_thread")]
async fn first_notification_is_immediate_next_batched_urgent_immediate() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__WINDOW", "10s")]);
    let (mut ann, known) = follower(&server, "ann").await;
    assert!(known.is_empty());
    for (id, priority) in [
        ("n1", "normal"),
        ("n2", "low"),
        ("n3", "high"),
        ("u1", "urgent"),
        ("n4", "normal"),
    ] {
        notify(&server, id, priority).await;
    }
    let mut first = ann.event("notification:new").await;
    let body = first.as_object_mut().unwrap();
    for time in ["timestamp", "expiresAt"] {
        assert!(body.remove(time).is_some_and(|time| time.is_string()));
    }
    let expected = json!({
        "notificationId": "n1", "type": "info", "priority": "normal", "title": "A title",
        "message": "about n1", "actionUrl": "/orders/1", "revision": 1,
    });
    assert_eq!(first, expected);
    let second = ann.event("notification:new").await;
    assert_eq!(second["notificationId"], "u1", "before those that wait");
    let batch = ann.event("notification:batch").await;
    assert_eq!(ids(&batch), ["n2", "n3", "n4"]);
    assert_eq!(batch["notifications"][1]["revision"], 3);
    // A new window starts after the batch. A single notification at its end is sent alone.
    notify(&server, "n5", "normal").await;
    assert_eq!(ann.event("notification:new").await["notificationId"], "n5");
    assert!(ann.events_until_now("notification:batch").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_notifications_are_sent_before_the_snapshot_of_a_new_tab() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__WINDOW", "50s")]);
    let (mut ann, _) = follower(&server, "ann").await;
    for id in ["n1", "n2", "n3"] {
        notify(&server, id, "normal").await;
    }
    let (mut tab, known) = follower(&server, "ann").await;
    assert_eq!(known, ["n1", "n2", "n3"]);
    assert_eq!(ids(&ann.event("notification:batch").await), ["n2", "n3"]);
    for event in ["notification:new", "notification:batch"] {
        assert!(tab.events_until_now(event).await.is_empty());
    }
    // A notification that is acknowledged while it waits is not sent.
    notify(&server, "n4", "normal").await;
    tab.must("notification:ack", ack("n4")).await;
    let acked = ann.event("notification:acked").await;
    assert_eq!(acked["notificationId"], "n4");
    let (_, known) = follower(&server, "ann").await;
    assert_eq!(known, ["n1", "n2", "n3"]);
    let events = ann.events_until_now("notification:batch").await;
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_split_and_do_not_close_slow_clients() {
    // As much as can be pending for one client, with room for its other events.
    const MANY: usize = 80;
    const MOST_BYTES: usize = 192 << 10;
    let server = start(&[("ROOMCAST_NOTIFICATIONS__WINDOW", "50s")]);
    let (mut ann, _) = follower(&server, "ann").await;
    notify(&server, "first", "normal").await;
    for n in 0..MANY {
        let mut largest = notice(&format!("{n:0>3}{}", "\u{10348}".repeat(125)), "normal");
        largest["title"] = json!("\u{10348}".repeat(200));
        largest["message"] = json!("\u{10348}".repeat(2000));
        largest["actionUrl"] = json!(format!("/{}", "a".repeat(2047)));
        must(&server.binary, "/notifications", largest).await;
    }
    // The snapshot of another tab has as many of the newest notifications as fit. All pending
    // notifications are sent before it.
    let mut tab = client(&server.binary, "ann", "user").await;
    let answer = tab.must("subscribe:notifications", json!({})).await;
    let snapshot = &answer["snapshot"];
    let (known, bytes) = (ids(snapshot), snapshot.to_string().len());
    assert_eq!(snapshot["hasMore"], true);
    assert!(known.len() > 10 && known.len() < MANY, "{}", known.len());
    assert!(
        bytes < MOST_BYTES + 1024 && bytes > MOST_BYTES * 9 / 10,
        "{bytes}"
    );
    assert!(known[known.len() - 1].starts_with("079"));
    notify(&server, "last", "urgent").await;

    // The first tab starts to read only now.
    assert_eq!(
        ann.event("notification:new").await["notificationId"],
        "first"
    );
    let (mut received, mut events) = (Vec::new(), 0);
    while received.len() < MANY {
        let batch = ann.event("notification:batch").await;
        let bytes = batch.to_string().len();
        assert!(bytes <= MOST_BYTES, "{bytes}");
        received.extend(ids(&batch));
        events += 1;
    }
    assert!(events >= MANY * (11 << 10) / MOST_BYTES, "{events}");
    let order = received.iter().map(|id| id[..3].parse().unwrap());
    assert_eq!(order.collect::<Vec<usize>>(), (0..MANY).collect::<Vec<_>>());
    assert_eq!(
        ann.event("notification:new").await["notificationId"],
        "last"
    );
    assert!(ann.events_until_now("notification:batch").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn notification_is_sent_again_until_any_tab_acknowledges_it() {
    let server = start(&[]);
    notify(&server, "n1", "urgent").await;
    notify(&server, "n2", "low").await;
    let variables = [UNLIMITED.as_slice(), &[KEY]].concat();
    let server = server.restarted(&variables);
    let (mut ann, known) = follower(&server, "ann").await;
    assert_eq!(known, ["n1", "n2"]);
    let (mut tab, known) = follower(&server, "ann").await;
    assert_eq!(known, ["n1", "n2"]);

    let first = ann.must("notification:ack", ack("n1")).await;
    let received = tab.event("notification:acked").await;
    assert_eq!(received["notificationId"], "n1");
    assert_eq!(received["timestamp"], first["timestamp"]);
    let again = tab.must("notification:ack", ack("n1")).await;
    assert_eq!(again["timestamp"], first["timestamp"], "the first counts");
    assert!(ann.events_until_now("notification:acked").await.is_empty());
    assert_eq!(follower(&server, "ann").await.1, ["n2"]);
    // A repeated publication does not bring it back.
    notify(&server, "n1", "urgent").await;
    assert_eq!(follower(&server, "ann").await.1, ["n2"]);

    let (mut bob, known) = follower(&server, "bob").await;
    assert!(known.is_empty());
    bob.refused("notification:ack", ack("n2"), "NOT_FOUND")
        .await;
    for wrong in [
        json!({}),
        json!({"notificationId": 7}),
        json!("n2"),
        json!(null),
    ] {
        bob.refused("notification:ack", wrong, "INVALID_PAYLOAD")
            .await;
    }
    let left = ann.must("unsubscribe:notifications", json!({})).await;
    assert_eq!(left["room"], "notifications:ann");
    ann.event("notifications:unsubscribed").await;
    notify(&server, "n3", "urgent").await;
    assert_eq!(tab.event("notification:new").await["notificationId"], "n3");
    assert!(ann.events_until_now("notification:new").await.is_empty());
    // A subscription is not required.
    ann.must("notification:ack", ack("n3")).await;
    assert_eq!(
        tab.event("notification:acked").await["notificationId"],
        "n3"
    );
}

/// Publishes the same notification three times: before and after its user acknowledges it, and
/// after a restart.
async fn publish_around_acknowledgement(notice: Value, key: Option<&str>) {
    let server = start(&[]);
    let (mut ann, _) = follower(&server, "ann").await;
    let first = publish_under(&server.binary, key, &notice).await;
    assert_eq!(first.0, 200, "{}", first.1);
    let id = first.1["notificationId"].as_str().unwrap().to_owned();
    ann.must("notification:ack", ack(&id)).await;
    assert_eq!(publish_under(&server.binary, key, &notice).await, first);
    let variables = [UNLIMITED.as_slice(), &[KEY]].concat();
    let server = server.restarted(&variables);
    assert_eq!(publish_under(&server.binary, key, &notice).await, first);
    // It is not sent again, and another notification with its id is refused.
    assert!(follower(&server, "ann").await.1.is_empty());
    let mut other = notice;
    other["notificationId"] = json!(id);
    other["title"] = json!("Another title");
    let (status, _) = publish(&server.binary, "/notifications", other).await;
    assert_eq!(status, 409);
}

async fn publish_under(binary: &ServerProcess, key: Option<&str>, notice: &Value) -> (u16, Value) {
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n"));
    let (headers, body) = (key.unwrap_or_default(), notice.to_string());
    call(binary, "service", "POST /notifications", &headers, &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_notification_published_again_gets_the_first_answer() {
    publish_around_acknowledgement(notice("n1", "high"), None).await;
    // Times set by the service count as well.
    let mut timed = notice("n1", "high");
    timed["timestamp"] = json!("2025-01-31T12:00:00.000Z");
    timed["expiresAt"] = json!(in_an_hour());
    publish_around_acknowledgement(timed, None).await;
    let mut unnamed = notice("", "high");
    unnamed.as_object_mut().unwrap().remove("notificationId");
    publish_around_acknowledgement(unnamed, Some("order-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_after_the_expiry_gets_the_first_answer_if_acknowledged() {
    let server = start(&[]);
    let (mut ann, _) = follower(&server, "ann").await;
    let end = jiff::Timestamp::now() + Duration::from_secs(3);
    let mut timed = notice("n1", "urgent");
    timed["expiresAt"] = json!(end.to_string());
    let first = publish_under(&server.binary, None, &timed).await;
    assert_eq!(first.0, 200, "{}", first.1);
    ann.must("notification:ack", ack("n1")).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // Until it has expired.
    assert!(jiff::Timestamp::now() > end);
    assert_eq!(publish_under(&server.binary, None, &timed).await, first);
    // An id that was never published has no first answer.
    timed["notificationId"] = json!("n2");
    let (status, answer) = publish_under(&server.binary, None, &timed).await;
    assert_eq!(status, 409);
    assert_eq!(answer["error"]["details"]["field"], "expiresAt");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_notification_is_stored_once_and_a_user_has_a_limited_number() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__PER_USER", "2")]);
    let (mut ann, _) = follower(&server, "ann").await;
    let first = notify(&server, "n1", "urgent").await;
    assert_eq!(notify(&server, "n1", "urgent").await, first);
    let (status, _) = publish(&server.binary, "/notifications", notice("n1", "low")).await;
    assert_eq!(status, 409, "another one under the same id");
    notify(&server, "n2", "urgent").await;
    let (status, answer) = publish(&server.binary, "/notifications", notice("n3", "low")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    ann.must("notification:ack", ack("n1")).await;
    notify(&server, "n3", "urgent").await;
    let received = ann.events_until_now("notification:new").await;
    let received: Vec<_> = received.iter().map(|one| &one["notificationId"]).collect();
    assert_eq!(received, ["n1", "n2", "n3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_notifications_are_not_sent() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__EXPIRY", "300ms")]);
    notify(&server, "n1", "low").await;
    let mut lasting = notice("n2", "low");
    lasting["expiresAt"] = json!(in_an_hour());
    must(&server.binary, "/notifications", lasting).await;
    let (mut ann, known) = loop {
        let (ann, known) = follower(&server, "ann").await;
        if known.len() < 2 {
            break (ann, known);
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    };
    assert_eq!(known, ["n2"]);
    ann.refused("notification:ack", ack("n1"), "NOT_FOUND")
        .await;
    for (wrong, expected) in [
        ("2020-01-01T00:00:00Z", 409),
        ("2999-01-01T00:00:00Z", 409),
        ("soon", 400),
    ] {
        let mut body = notice("n3", "low");
        body["expiresAt"] = json!(wrong);
        let (status, answer) = publish(&server.binary, "/notifications", body).await;
        assert_eq!(status, expected, "{wrong}");
        assert_eq!(answer["error"]["details"]["field"], "expiresAt", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_that_expire_while_batched_are_not_sent() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__WINDOW", "50s")]);
    let (mut ann, _) = follower(&server, "ann").await;
    notify(&server, "n1", "normal").await;
    assert_eq!(ann.event("notification:new").await["notificationId"], "n1");
    let end = jiff::Timestamp::now() + Duration::from_secs(3);
    let mut short = notice("n2", "normal");
    short["expiresAt"] = json!(end.to_string());
    must(&server.binary, "/notifications", short).await;
    for id in ["n3", "n4"] {
        notify(&server, id, "normal").await;
    }
    while jiff::Timestamp::now() <= end {
        tokio::time::sleep(Duration::from_millis(20)).await; // What is waited for is time itself.
    }
    // Pending notifications are sent before another tab has its snapshot.
    let (_tab, known) = follower(&server, "ann").await;
    assert_eq!(known, ["n1", "n3", "n4"]);
    assert_eq!(ids(&ann.event("notification:batch").await), ["n3", "n4"]);
    for event in ["notification:new", "notification:batch"] {
        assert!(ann.events_until_now(event).await.is_empty(), "{event}");
    }
}

fn in_an_hour() -> String {
    let time = jiff::Timestamp::now() + Duration::from_secs(3600);
    time.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_connect_setting_sends_notifications_to_each_connection() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__ON_CONNECT", "true")]);
    notify(&server, "n1", "low").await;
    let mut ann = client(&server.binary, "ann", "user").await;
    let received = ann.event("notifications:subscribed").await;
    assert_eq!(ids(&received["snapshot"]), ["n1"]);
    notify(&server, "n2", "urgent").await;
    assert_eq!(ann.event("notification:new").await["notificationId"], "n2");
}

#[tokio::test(flavor = "multi_thread")]
async fn notification_beyond_bounds_or_without_permission_is_refused() {
    let server = start(&[("ROOMCAST_AUTH__ROLES__CALLER__PERMISSIONS", "api:*")]);
    for (field, value) in [
        ("notificationId", json!("")),
        ("userId", json!("")),
        ("type", json!("joke")),
        ("priority", json!("highest")),
        ("title", json!("")),
        ("title", json!("x".repeat(201))),
        ("message", json!("x".repeat(2001))),
        ("message", json!("a\u{0}b")),
        ("actionUrl", json!("javascript:alert(1)")),
        ("actionUrl", json!("//evil.example")),
        ("actionUrl", json!("/\\evil.example")),
        ("actionUrl", json!("")),
        ("timestamp", json!(7)),
        ("timestamp", json!("2026-01-01 00:00:00Z")),
        ("type", json!({"info": null})),
    ] {
        let mut body = notice("n1", "low");
        body[field] = value;
        let (status, answer) = publish(&server.binary, "/notifications", body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("INVALID_PAYLOAD")),
            "{field}"
        );
        assert_eq!(answer["error"]["details"]["field"], field);
    }
    // This time matches its schema, but is in the past.
    let mut past = notice("n1", "low");
    past["expiresAt"] = json!("2020-01-01T00:00:00Z");
    let (status, answer) = publish(&server.binary, "/notifications", past).await;
    let code = &answer["error"]["code"];
    assert_eq!((status, code), (409, &json!("CONFLICT")), "{answer}");
    for role in ["user", "caller"] {
        let answer = publish_as(&server.binary, role, "/notifications", notice("n1", "low"));
        assert_eq!(answer.await.0, 403, "{role}");
    }
    let mut body = notice("n1", "low");
    body["actionUrl"] = Value::Null;
    body["message"] = json!("two\nlines");
    let answer = must(&server.binary, "/notifications", body).await;
    assert_eq!(answer["actionUrl"], Value::Null);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn tabs_at_all_servers_get_notifications_and_one_ack_suffices() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut tabs = Vec::new();
    for binary in &servers {
        let mut ann = client(binary, "ann", "user").await;
        ann.must("subscribe:notifications", json!({})).await;
        tabs.push(ann);
    }
    for (n, server) in servers.iter().enumerate() {
        let id = format!("n{n}");
        must(server, "/notifications", notice(&id, "urgent")).await;
    }
    for tab in &mut tabs {
        for id in ["n0", "n1"] {
            assert_eq!(tab.event("notification:new").await["notificationId"], id);
        }
    }
    let first = tabs[0].must("notification:ack", ack("n0")).await;
    let received = tabs[1].event("notification:acked").await;
    assert_eq!(received["timestamp"], first["timestamp"]);
    let again = tabs[1].must("notification:ack", ack("n0")).await;
    assert_eq!(again["timestamp"], first["timestamp"]);
}
