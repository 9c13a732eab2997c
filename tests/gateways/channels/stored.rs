//! Limits of what the channels of a kind, and all channels, store.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Channels, call};
use crate::support::DEADLINE;

const EVENTS_OF_ORDERS: &str = "ROOMCAST_CHANNELS__ORDERS__MAX_STORED_EVENTS";

async fn refusals(channels: &Channels, limit: &str) -> i64 {
    let row = format!("roomcast_channels_limited_total{{limit=\"{limit}\"}}");
    channels.server.metric(&row).await
}

/// Publishes an order. Returns the status and the body.
async fn publish(channels: &Channels, channel: &str, id: u64) -> (u16, Value) {
    let data = json!({"status": "open", "n": id});
    let event = json!({"event": "order:updated", "data": data, "id": id.to_string()});
    let path = format!("/channels/{channel}/events");
    channels.call("POST", &path, event).await
}

#[track_caller]
fn assert_refused((status, answer): &(u16, Value)) {
    assert_eq!(*status, 429, "{answer}");
    let error = &answer["error"];
    assert_eq!(error["code"], "RATE_LIMITED", "{answer}");
    assert!(error["retryAfter"].as_u64().unwrap() >= 60_000, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kind_stores_a_limited_number_of_events() {
    let channels = Channels::start(&[(EVENTS_OF_ORDERS, "3")]);
    for id in 1..=3 {
        let channel = format!("orders:ann:{id}");
        assert_eq!(publish(&channels, &channel, id).await.0, 200);
    }
    assert_refused(&publish(&channels, "orders:ann:1", 4).await);
    let list = json!({"events": [
        {"channel": "logs:1", "event": "line", "data": 1, "id": "1"},
        {"channel": "orders:ann:1", "event": "order:updated", "data": {"status": "open"}, "id": "5"},
    ]});
    assert_refused(&channels.call("POST", "/channels/events", list).await);
    let (_, logs) = channels
        .call("GET", "/channels/logs:1/history", Value::Null)
        .await;
    assert_eq!(logs["events"], json!([]), "a list is stored whole");
    assert_eq!(refusals(&channels, "max_stored_events").await, 2);

    // What is stored already gets its answer again, and other kinds have limits of their own.
    assert_eq!(publish(&channels, "orders:ann:2", 2).await.0, 200);
    let line = json!({"event": "line", "data": 1, "id": "1"});
    let (status, _) = channels.call("POST", "/channels/logs:1/events", line).await;
    assert_eq!(status, 200);
    let mut ann = channels.user("ann").await;
    let own = json!({"channel": "orders:ann:9", "event": "order:updated",
                     "data": {"status": "open"}, "id": "9"});
    ann.refused("channel:publish", own, "RATE_LIMITED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_other_bound_refuses_and_counts() {
    for (key, most, limit) in [
        (
            "CHANNELS__ORDERS__MAX_STORED_BYTES",
            "300",
            "max_stored_bytes",
        ),
        (
            "LIMITS__STORED_CHANNEL_EVENTS",
            "3",
            "stored_channel_events",
        ),
    ] {
        let channels = Channels::start(&[(&format!("ROOMCAST_{key}"), most)]);
        let mut id = 0;
        let refused = loop {
            id += 1;
            let answer = publish(&channels, "orders:ann:1", id).await;
            if answer.0 != 200 {
                break answer;
            }
            assert!(id < 20, "{limit}");
        };
        assert!(id > 1, "{limit}: {refused:?}");
        assert_refused(&refused);
        assert_eq!(refusals(&channels, limit).await, 1, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_store_a_limited_number_of_bytes() {
    let channels = Channels::start(&[("ROOMCAST_LIMITS__STORED_CHANNEL_BYTES", "20000")]);
    let large = json!({"event": "line", "data": "x".repeat(19_980), "id": "1"});
    let (status, _) = channels
        .call("POST", "/channels/logs:1/events", large)
        .await;
    assert_eq!(status, 200);
    assert_refused(&publish(&channels, "orders:ann:1", 1).await);
    assert_eq!(refusals(&channels, "stored_channel_bytes").await, 1);
    let (status, _) = channels
        .call("DELETE", "/channels/logs:1", Value::Null)
        .await;
    assert_eq!(status, 200);
    let start = Instant::now();
    while publish(&channels, "orders:ann:1", 1).await.0 != 200 {
        assert!(start.elapsed() < DEADLINE, "a deletion makes no place");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // Poll interval.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_stored_before_a_restart_count() {
    let channels = Channels::start(&[]);
    for id in 1..=3 {
        assert_eq!(publish(&channels, "orders:ann:1", id).await.0, 200);
    }
    let again = channels.restarted(&[(EVENTS_OF_ORDERS, "4")]);
    // The server counts the store soon after it was started.
    let start = Instant::now();
    let mut id = 3;
    loop {
        id += 1;
        let event =
            json!({"event": "order:updated", "data": {"status": "open"}, "id": id.to_string()});
        let path = "/channels/orders:ann:1/events";
        let (status, answer) = call(again.server.address(), "POST", path, event).await;
        if status == 429 {
            break;
        }
        assert_eq!(status, 200, "{answer}");
        assert!(
            id < 8 && start.elapsed() < DEADLINE,
            "4 events are the limit"
        );
    }
}
