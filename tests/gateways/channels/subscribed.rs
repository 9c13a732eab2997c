//! Channels that the Rust client follows.

use std::time::Duration;

use roomcast::client::channels::{ChannelEnd, ChannelError, ChannelItem, Subscription};
use roomcast::client::{Client as RustClient, Socket};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Channels, token};
use crate::port::free_port;
use crate::proxy::Proxy;
use crate::support::DEADLINE;

async fn connect(address: std::net::SocketAddr) -> Socket {
    let client = RustClient::builder(format!("http://{address}"));
    let client = client.auth(json!({"token": token("ann", json!({}))}));
    let client = client.reconnection_delay(Duration::from_millis(20));
    let client = client.reconnection_delay_max(Duration::from_millis(100));
    client.connect().await.unwrap()
}

async fn item(subscription: &mut Subscription) -> ChannelItem {
    let item = timeout(DEADLINE, subscription.next()).await;
    item.expect("an item arrives").unwrap()
}

/// Returns the numbers of the next events.
async fn numbers(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let item = item(subscription).await;
        let ChannelItem::Event(event) = item else {
            panic!("{item:?} after {numbers:?}");
        };
        numbers.push(event.data().unwrap());
    }
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_client_gets_each_event_once_in_order_over_cuts_and_a_kill() {
    let listen = format!("127.0.0.1:{}", free_port());
    let variables = [("ROOMCAST_LISTEN", &*listen)];
    let mut channels = Channels::start(&variables);
    let proxy = Proxy::start(channels.server.address()).await;
    let socket = connect(proxy.address()).await;
    let channel = socket.channel("mine:ann");
    let mut subscription = channel.subscribe(None).await.unwrap();
    let reading = tokio::spawn(async move {
        let numbers = numbers(&mut subscription, 120).await;
        (numbers, subscription.position().unwrap().to_owned())
    });
    for number in 1..=120_u64 {
        let publishing = {
            let channel = channel.clone();
            let id = number.to_string();
            tokio::spawn(async move { channel.publish("counted", number, &id).await })
        };
        match number {
            20 | 50 | 110 => proxy.cut(),
            80 => channels = channels.restarted(&variables),
            _ => {}
        }
        publishing.await.unwrap().unwrap();
    }
    let (read, position) = reading.await.unwrap();
    assert_eq!(read, (1..=120).collect::<Vec<u64>>());
    assert!(proxy.accepted() > 4, "{}", proxy.accepted());

    // Another process of the application continues from the stored position.
    for number in [121, 122] {
        let id = number.to_string();
        channel.publish("counted", number, &id).await.unwrap();
    }
    let socket = connect(proxy.address()).await;
    let channel = socket.channel("mine:ann");
    let mut subscription = channel.subscribe(Some(&position)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 2).await, [121, 122]);
    // An event that is published again is stored once.
    let again = channel.publish("counted", 122, "122").await.unwrap();
    assert_eq!(subscription.position(), Some(&*again));
    channel.publish("counted", 123, "123").await.unwrap();
    assert_eq!(numbers(&mut subscription, 1).await, [123]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_client_is_told_of_ends_forgotten_events_and_refusals() {
    let channels = Channels::start(&[]);
    let socket = connect(channels.server.address()).await;
    let error = socket.channel("orders:bob:1").subscribe(None).await;
    let Err(ChannelError::Refused { code, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, "NOT_FOUND");

    let channel = socket.channel("orders:ann:42");
    let mut subscription = channel.subscribe(None).await.unwrap();
    channels.publish("orders:ann:42", 1).await;
    let ChannelItem::Event(event) = item(&mut subscription).await else {
        panic!("no event");
    };
    assert_eq!(event.event, "order:updated");
    let data: Value = event.data().unwrap();
    assert_eq!(data, json!({"status": "open", "n": 1}));
    let error = channel.publish("order:updated", json!({}), "2").await;
    let Err(ChannelError::Refused { field, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(field.as_deref(), Some("data.status"));

    let (status, _) = channels
        .call("DELETE", "/channels/orders:ann:42", Value::Null)
        .await;
    assert_eq!(status, 200);
    let end = item(&mut subscription).await;
    assert!(
        matches!(end, ChannelItem::Ended(ChannelEnd::Deleted)),
        "{end:?}"
    );
    channels.publish("orders:ann:42", 3).await;
    let mut subscription = channel.subscribe(Some(&event.position)).await.unwrap();
    let first = item(&mut subscription).await;
    let is_forgotten = matches!(first, ChannelItem::Forgotten { has_older: false });
    assert!(is_forgotten, "{first:?}");
    let ChannelItem::Event(event) = item(&mut subscription).await else {
        panic!("no event");
    };
    assert_eq!(event.data::<Value>().unwrap()["n"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_client_reads_who_follows_a_channel() {
    let channels = Channels::start(&[]);
    let mut bob = channels.user("bob").await;
    bob.must("channel:subscribe", json!({"channel": "halls:1"}))
        .await;
    let socket = connect(channels.server.address()).await;
    let subscription = socket.channel("halls:1").subscribe(None).await.unwrap();
    let answered = subscription.presence().expect("the kind has presence");
    assert_eq!(answered.count, answered.users.len() as u64);
    // A list may be a second old.
    let reading = async {
        loop {
            let presence = socket.channel("halls:1").presence().await.unwrap();
            let users = presence.users.iter();
            let mut users: Vec<_> = users.map(|user| user.user_id.clone()).collect();
            users.sort();
            if users == ["ann", "bob"] {
                return (presence.count, presence.missing);
            }
        }
    };
    let (count, missing) = timeout(DEADLINE, reading).await.expect("both follow");
    assert_eq!((count, missing), (2, 0));
    let refused = socket.channel("news").presence().await.unwrap_err();
    assert!(
        matches!(&refused, ChannelError::Refused { code, .. } if code == "CONFLICT"),
        "{refused:?}"
    );
}
