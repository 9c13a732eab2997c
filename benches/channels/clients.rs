//! Followers of channels, each with a connection, and what a service publishes to them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ops::Range,
    rc::Rc,
    time::Instant,
};

use roomcast::client::Connection;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tokio::{sync::Notify, time::timeout};

use crate::connections::{DELIVERY_TIMEOUT, Service, must};

/// The maximum number of events of a request.
pub const MAX_EVENTS: u64 = 1000;

/// Returns the data of an event: its number, when it was due, and a text.
fn data(n: u64, due: u64) -> String {
    format!(r#"[{n},{due},"{:x<64}"]"#, "")
}

/// Publishes events with one request: the number of the channel, that of the event there, and when
/// it was due. Returns how many there are.
pub async fn publish(service: &mut Service, events: impl Iterator<Item = (u64, u64, u64)>) -> u64 {
    let events = events.map(|(at, n, due)| {
        let data = data(n, due);
        format!(r#"{{"channel":"bench:{at}","event":"bench:event","data":{data},"id":"{n}"}}"#)
    });
    let events: Vec<_> = events.collect();
    let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
    service.post("channels/events", body).await;
    events.len() as u64
}

/// The room of all followers.
pub const ROOM: &str = "bench";

/// Publishes an event to the room, with a second argument like that of an event of a channel.
pub async fn emit_to_room(service: &mut Service, n: u64) {
    let meta = r#""channel":"plain:0","position":"01234567.100.01234567.01234567""#;
    let meta = format!(r#"{{{meta},"id":"{n}","timestamp":"2026-01-01T00:00:00.000Z"}}"#);
    let args = format!("[{},{meta}]", data(n, 0));
    let body = format!(r#"{{"event":"bench:plain","args":{args},"rooms":["{ROOM}"]}}"#);
    service.post("emit", body).await;
}

/// Publishes events with the numbers from 1 to `last` to channels, as fast as possible.
pub async fn fill(service: &mut Service, channels: Range<u64>, last: u64) {
    let all = channels.flat_map(|at| (1..=last).map(move |n| (at, n, 0)));
    let mut all = all.peekable();
    while all.peek().is_some() {
        publish(service, all.by_ref().take(MAX_EVENTS as usize)).await;
    }
}

/// What all followers have received.
pub struct Received {
    start: Instant,
    count: Cell<u64>,
    arrived: Notify,
    /// The size of the last event.
    pub size: Cell<usize>,
    /// When an event was due, if that is known, and how much later it arrived, in microseconds.
    pub times: RefCell<Vec<(u64, u64)>>,
}

impl Received {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            start: Instant::now(),
            count: Cell::default(),
            arrived: Notify::new(),
            size: Cell::default(),
            times: RefCell::default(),
        })
    }

    /// Returns the form of a time in events.
    pub fn micros(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Waits until this many events have arrived.
    pub async fn wait(&self, events: u64) {
        while self.count.get() < events {
            let next = timeout(DELIVERY_TIMEOUT, self.arrived.notified());
            next.await.expect("events are missing");
        }
    }
}

/// Follows a channel that has the events from 1 to `stored`.
pub async fn subscribe(connection: &mut Connection, channel: &str, stored: u64) {
    let payload = json!({ "channel": channel });
    let answer = must(connection, "channel:subscribe", &payload).await;
    let events = answer["events"].as_array().unwrap().iter();
    let numbers = events.map(|event| event["data"][0].as_u64().unwrap());
    assert!(numbers.eq(1..=stored), "{channel} has other events");
}

/// Receives the events after `stored` of each channel for as long as the run lasts. Panics if one is
/// not the next of its channel. The run then fails, because events are missing.
pub async fn follow(mut connection: Connection, stored: u64, received: Rc<Received>) {
    #[derive(Deserialize)]
    struct Meta {
        channel: String,
    }
    let mut last = HashMap::new();
    loop {
        let packet = connection.next().await.unwrap();
        let now = received.micros(Instant::now());
        assert_ne!(packet.event_name(), "channel:ended");
        if !packet.event_name().starts_with("bench:") {
            continue;
        }
        let (n, due, _): (u64, u64, IgnoredAny) = packet.args.get(0).unwrap();
        let Meta { channel } = packet.args.get(1).unwrap();
        let last = last.entry(channel).or_insert(stored);
        assert_eq!(n, *last + 1, "not the next event");
        *last = n;
        received.count.update(|count| count + 1);
        received.arrived.notify_one();
        received.size.set(packet.args.size());
        if due > 0 {
            received.times.borrow_mut().push((due, now - due));
        }
    }
}
