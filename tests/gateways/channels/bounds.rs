//! Limits of channels: how many a user follows, their followers, and their events per second.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Channels;
use crate::client::Client;
use crate::support::DEADLINE;

/// Returns how often a limit has refused.
async fn refusals(channels: &Channels, limit: &str) -> i64 {
    let row = format!("roomcast_channels_limited_total{{limit=\"{limit}\"}}");
    channels.server.metric(&row).await
}

async fn subscribe(client: &mut Client, channel: &str) {
    client
        .must("channel:subscribe", json!({"channel": channel}))
        .await;
}

/// Subscribes as soon as the server has noticed what frees a place.
async fn subscribe_later(client: &mut Client, channel: &str) {
    let start = Instant::now();
    let request = json!({"channel": channel});
    loop {
        let answer = client.ask("channel:subscribe", request.clone()).await;
        if answer["success"] == true {
            return;
        }
        assert_eq!(answer["error"]["code"], "CONFLICT", "{answer}");
        assert!(start.elapsed() < DEADLINE, "{channel}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

/// Expects that a limit refuses a subscription.
async fn assert_full(client: &mut Client, channel: &str, message: &str) {
    let request = json!({"channel": channel});
    let error = client
        .refused("channel:subscribe", request, "CONFLICT")
        .await;
    assert_eq!(error["message"], message, "{channel}");
    // Reading needs no place.
    let history = json!({"channel": channel});
    client.must("channel:history", history).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_a_user_share_one_number_of_channels() {
    const FULL: &str = "the connections of the user follow too many channels";
    let channels = Channels::start(&[("ROOMCAST_LIMITS__CHANNELS_PER_USER", "3")]);
    let [mut first, mut second] = [channels.user("ann").await, channels.user("ann").await];
    let mut bob = channels.user("bob").await;
    subscribe(&mut first, "orders:ann:1").await;
    subscribe(&mut first, "news").await;
    // A channel counts once for each socket that follows it.
    subscribe(&mut second, "orders:ann:1").await;
    for ann in [&mut first, &mut second] {
        assert_full(ann, "orders:ann:2", FULL).await;
        subscribe(ann, "orders:ann:1").await;
    }
    assert_eq!(refusals(&channels, "channels_per_user").await, 2);
    for channel in ["orders:bob:1", "news", "mine:bob"] {
        subscribe(&mut bob, channel).await;
    }
    assert_full(&mut bob, "logs:1", FULL).await;

    first
        .must("channel:unsubscribe", json!({"channel": "news"}))
        .await;
    subscribe(&mut second, "orders:ann:2").await;
    assert_full(&mut second, "orders:ann:3", FULL).await;
    assert_eq!(refusals(&channels, "channels_per_user").await, 4);
    for limit in ["channels_per_connection", "max_followers"] {
        assert_eq!(refusals(&channels, limit).await, 0, "{limit}");
    }
    first.disconnect().await;
    subscribe_later(&mut second, "orders:ann:3").await;
    assert_full(&mut second, "orders:ann:4", FULL).await;
    // What was refused is not followed.
    channels.publish("orders:ann:4", 4).await;
    channels.publish("orders:ann:3", 3).await;
    assert_eq!(second.event("order:updated").await[0]["n"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_has_a_limited_number_of_followers() {
    const FULL: &str = "the channel has too many followers";
    let channels = Channels::start(&[("ROOMCAST_CHANNELS__LOGS__MAX_FOLLOWERS", "2")]);
    let [mut ann, mut bob] = [channels.user("ann").await, channels.user("bob").await];
    let [mut carl, mut other] = [channels.user("carl").await, channels.user("ann").await];
    for follower in [&mut ann, &mut bob] {
        subscribe(follower, "logs:1").await;
    }
    // Each socket is a follower.
    for full in [&mut carl, &mut other] {
        assert_full(full, "logs:1", FULL).await;
    }
    assert_eq!(refusals(&channels, "max_followers").await, 2);
    // A follower has its place already, and other channels have places of their own.
    for _ in 0..2 {
        subscribe(&mut ann, "logs:1").await;
    }
    for follower in [&mut carl, &mut other] {
        subscribe(follower, "logs:2").await;
    }
    let news = [&mut ann, &mut bob, &mut carl, &mut other];
    for follower in news {
        subscribe(follower, "news").await;
    }
    assert_full(&mut bob, "logs:2", FULL).await;
    assert_eq!(refusals(&channels, "max_followers").await, 3);

    ann.must("channel:unsubscribe", json!({"channel": "logs:1"}))
        .await;
    subscribe(&mut carl, "logs:1").await;
    assert_full(&mut ann, "logs:1", FULL).await;
    assert_eq!(refusals(&channels, "max_followers").await, 4);
    bob.disconnect().await;
    subscribe_later(&mut ann, "logs:1").await;
    assert_full(&mut other, "logs:1", FULL).await;
    for limit in ["channels_per_connection", "channels_per_user"] {
        assert_eq!(refusals(&channels, limit).await, 0, "{limit}");
    }
}

const PACE: &str = "publishes_per_second";
const PACE_OF_ORDERS: &str = "ROOMCAST_CHANNELS__ORDERS__PUBLISHES_PER_SECOND";

/// Returns events, each with a channel if one is given.
fn list(channel: Option<&str>, numbers: RangeInclusive<u64>) -> Value {
    let events = numbers.map(|n| {
        let data = json!({"status": "open", "n": n});
        let mut event = json!({"event": "order:updated", "data": data, "id": n.to_string()});
        if let Some(channel) = channel {
            event["channel"] = json!(channel);
        }
        event
    });
    json!({"events": events.collect::<Vec<_>>()})
}

/// Publishes a list. Returns the error, or nothing if all events are published.
async fn publish_all(channels: &Channels, channel: &str, list: Value) -> Option<Value> {
    let count = list["events"].as_array().unwrap().len();
    let path = format!("/channels/{channel}/events");
    let (status, answer) = channels.call("POST", &path, list).await;
    if status == 200 {
        assert_eq!(answer["positions"].as_array().unwrap().len(), count);
        return None;
    }
    assert_eq!(status, 429, "{answer}");
    Some(answer["error"].clone())
}

#[track_caller]
fn assert_limited(error: &Value) -> Duration {
    assert_eq!(error["code"], "RATE_LIMITED", "{error}");
    let wait = error["retryAfter"].as_u64().unwrap();
    assert!(wait > 0, "{error}");
    Duration::from_millis(wait)
}

/// Returns the stored events of a channel.
async fn history(channels: &Channels, channel: &str) -> Value {
    let path = format!("/channels/{channel}/history");
    let (status, answer) = channels.call("GET", &path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer["events"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_services_share_the_pace_of_a_kind() {
    let channels = Channels::start(&[(PACE_OF_ORDERS, "1")]);
    let mut ann = channels.user("ann").await;
    let event = |n: u64| {
        json!({"channel": "orders:ann:1", "event": "order:updated",
               "data": {"status": "open", "n": n}, "id": n.to_string()})
    };
    // After a pause, 1,000 events are possible: events of clients count.
    for n in 1..=100 {
        ann.must("channel:publish", event(n)).await;
    }
    let refused = publish_all(&channels, "orders:ann:2", list(None, 1..=1000)).await;
    assert_limited(&refused.expect("100 of 1,000 events were published"));
    assert_eq!(history(&channels, "orders:ann:2").await, json!([]));
    assert_eq!(refusals(&channels, PACE).await, 1);

    // Until no more is possible, of which the elapsed time allows a little.
    let mut count = 0;
    let error = loop {
        count += 1;
        let answer = ann.ask("channel:publish", event(100 + count)).await;
        if answer["success"] != true {
            break answer["error"].clone();
        }
        assert!(count <= 1000, "no limit for clients");
    };
    assert_limited(&error);
    assert_eq!(refusals(&channels, PACE).await, 2);
    let newest = ann
        .must("channel:history", json!({"channel": "orders:ann:1"}))
        .await;
    let newest = newest["events"].as_array().unwrap().last().unwrap();
    assert_eq!(newest["data"]["n"], 99 + count);
    // Also for a service, in each channel of the kind, and only there.
    let refused = publish_all(&channels, "orders:bob:1", list(None, 1..=500)).await;
    assert_limited(&refused.expect("the events of all channels count"));
    let lines = json!({"event": "line", "data": 1, "id": "1"});
    for _ in 0..2 {
        let (status, answer) = channels
            .call("POST", "/channels/logs:1/events", lines.clone())
            .await;
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(refusals(&channels, PACE).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_for_several_kinds_is_refused_whole_by_the_limit_of_one() {
    let channels = Channels::start(&[(PACE_OF_ORDERS, "1")]);
    let all = publish_all(&channels, "orders:ann:1", list(None, 1..=1000)).await;
    assert_eq!(all, None, "a whole list is possible");
    let mut ann = channels.user("ann").await;
    for channel in ["orders:ann:2", "logs:1"] {
        subscribe(&mut ann, channel).await;
    }
    let mut mixed = list(Some("orders:ann:2"), 1..=500);
    let line = json!({"channel": "logs:1", "event": "line", "data": 1, "id": "1"});
    mixed["events"].as_array_mut().unwrap().insert(0, line);
    let (status, answer) = channels.call("POST", "/channels/events", mixed).await;
    assert_eq!(status, 429, "{answer}");
    assert_limited(&answer["error"]);
    for channel in ["orders:ann:2", "logs:1"] {
        assert_eq!(history(&channels, channel).await, json!([]), "{channel}");
    }
    for event in ["order:updated", "line"] {
        assert!(ann.events_until_now(event).await.is_empty(), "{event}");
    }
    assert_eq!(refusals(&channels, PACE).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn longest_list_is_possible_again_after_a_pause() {
    let channels = Channels::start(&[(PACE_OF_ORDERS, "200")]);
    let longest = |channel: &'static str| publish_all(&channels, channel, list(None, 1..=1000));
    assert_eq!(longest("orders:ann:1").await, None);
    let refused = longest("orders:ann:2").await;
    assert_limited(&refused.expect("1,000 events take 5 s"));
    assert_eq!(history(&channels, "orders:ann:2").await, json!([]));
    tokio::time::sleep(Duration::from_secs(5)).await; // The time for 1,000 events.
    assert_eq!(longest("orders:ann:2").await, None);
    assert_eq!(refusals(&channels, PACE).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_list_costs_nothing_so_that_repeats_succeed() {
    let channels = Channels::start(&[(PACE_OF_ORDERS, "200")]);
    let longest = list(None, 1..=1000);
    for channel in ["orders:ann:1", "orders:ann:2"] {
        let start = Instant::now();
        while let Some(error) = publish_all(&channels, channel, longest.clone()).await {
            let wait = assert_limited(&error);
            assert!(start.elapsed() < DEADLINE, "{channel} is refused forever");
            tokio::time::sleep(wait).await; // Retry time of the server.
        }
    }
}
