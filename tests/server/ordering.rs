//! The order in which events start, and which handlers wait for each other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use roomcast::{Ack, Args, Config, Event, Io, State, metrics::Gauge};
use tokio::sync::Semaphore;

use crate::{
    local::{Local, until},
    support::{Frame, Polling},
};

/// Releases one waiting handler at a time.
struct Latch(Semaphore);

fn server(config: Config) -> (Local, Arc<Latch>) {
    let latch = Arc::new(Latch(Semaphore::new(0)));
    let io = Io::builder()
        .config(config)
        .shared_state(Arc::clone(&latch))
        .namespace("/", |namespace| {
            namespace
                .on("wait", async |event: Event, n: u32, latch: State<Latch>| {
                    event.socket.emit("started", n);
                    latch.0.acquire().await.unwrap().forget();
                    Ack(n)
                })
                .on_serial("one", one)
                .on_serial("other", one)
                .on("now", async |_: Event, n: u32| Ack(n))
                .on("ask", async |event: Event| {
                    let answer = event.socket.emit_with_ack::<u32>("question", ()).await;
                    Ack(answer.ok())
                })
        });
    (Local::serve(io), latch)
}

async fn one(event: Event, n: u32, latch: State<Latch>) -> Ack<u32> {
    event.socket.emit("started", n);
    latch.0.acquire().await.unwrap().forget();
    Ack(n)
}

#[test]
fn handlers_start_in_the_order_of_their_events_and_end_in_any() {
    let (server, latch) = server(Config::default());
    let (mut client, _) = server.connect();
    client.send_text("421[\"wait\",1]");
    client.send_text("422[\"now\",2]");
    client.send_text("423[\"wait\",3]");
    client.expect_text("42[\"started\",1]");
    client.expect_text("432[2]");
    client.expect_text("42[\"started\",3]");
    latch.0.add_permits(1);
    client.expect_text("431[1]");
    latch.0.add_permits(1);
    client.expect_text("433[3]");
}

#[test]
fn serial_handlers_of_a_socket_run_one_after_the_other() {
    let (server, latch) = server(Config::default());
    let (mut client, _) = server.connect();
    for packet in [
        "421[\"one\",1]",
        "422[\"other\",2]",
        "423[\"one\",\"bad\"]",
        "424[\"one\",4]",
    ] {
        client.send_text(packet);
    }
    client.send_text("425[\"now\",5]");
    client.expect_text("42[\"started\",1]");
    client.expect_text("435[5]");
    // Another socket has its own queue.
    let (mut second, _) = server.connect();
    second.send_text("42[\"one\",9]");
    second.expect_text("42[\"started\",9]");
    latch.0.add_permits(2);
    client.expect_text("431[1]");
    client.expect_text("42[\"started\",2]");
    latch.0.add_permits(1);
    client.expect_text("432[2]");
    client.expect_text(
        "433[{\"success\":false,\"error\":{\"code\":\"INVALID_PAYLOAD\",\
         \"message\":\"argument 0: invalid type: expected u32, found a string\",\
         \"details\":{\"field\":\"[0]\"}}}]",
    );
    client.expect_text("42[\"started\",4]");
    latch.0.add_permits(1);
    client.expect_text("434[4]");
}

#[test]
fn events_beyond_the_handler_limit_start_later_in_order() {
    let (server, latch) = server(Config::default().max_in_flight(2));
    let (mut client, _) = server.connect();
    for n in 1..=4 {
        client.send_text(format!("42{n}[\"wait\",{n}]"));
    }
    client.send_text("425[\"one\",5]");
    client.send_text("426[\"now\",6]");
    client.expect_text("42[\"started\",1]");
    client.expect_text("42[\"started\",2]");
    latch.0.add_permits(1);
    client.expect_text("431[1]");
    client.expect_text("42[\"started\",3]");
    latch.0.add_permits(1);
    client.expect_text("432[2]");
    client.expect_text("42[\"started\",4]");
    latch.0.add_permits(1);
    client.expect_text("433[3]");
    client.expect_text("42[\"started\",5]");
    latch.0.add_permits(1);
    client.expect_text("434[4]");
    client.expect_text("436[6]");
    latch.0.add_permits(1);
    client.expect_text("435[5]");
}

#[test]
fn acknowledgements_do_not_wait_for_handlers() {
    let (server, _door) = server(Config::default().max_in_flight(1));
    let (mut client, _) = server.connect();
    client.send_text("421[\"ask\"]");
    client.expect_text("420[\"question\"]");
    client.send_text("422[\"now\",2]");
    client.send_text("430[7]");
    client.expect_text("431[7]");
    client.expect_text("432[2]");
}

#[test]
fn a_client_that_sends_faster_than_is_handled_is_closed() {
    for (config, payload) in [
        (
            Config::default().max_in_flight(1).max_parked_events(2),
            String::new(),
        ),
        (
            Config::default().max_in_flight(1).outbox_bytes(1000),
            "x".repeat(400),
        ),
    ] {
        for event in ["wait", "one"] {
            let (server, _door) = server(config.clone());
            let (mut client, id) = server.connect();
            let id = roomcast::SocketId::parse(&id).unwrap();
            let socket = server.io.of("/").socket(id).unwrap();
            for _ in 0..4 {
                client.send_text(format!("42[\"{event}\",1,\"{payload}\"]"));
            }
            client.expect_close();
            until(|| !socket.is_connected());
            assert_eq!(socket.disconnect_reason().unwrap().to_string(), "overflow");
        }
    }
}

#[test]
fn handlers_that_outlive_their_client_are_waited_for() {
    let (server, latch) = server(Config::default());
    let (mut client, _) = server.connect();
    client.send_text("42[\"wait\",1]");
    client.expect_text("42[\"started\",1]");
    drop(client);
    let detached = || server.io.metrics().gauge(Gauge::HandlersDetached);
    until(|| detached() == 1);
    latch.0.add_permits(1);
    server
        .runtime
        .block_on(server.io.close(Duration::from_secs(20)));
    assert_eq!(detached(), 0);
}

/// Returns the number of an event named `n`, or `None` for attachments.
fn number(packet: &str) -> Option<u64> {
    let (_, rest) = packet.split_once("[\"n\",")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
    Some(rest[..digits].parse().unwrap())
}

#[test]
fn events_arrive_in_order_across_the_upgrade() {
    const EVENTS: u64 = 4000;
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let polling = Polling::open(server.address(), "/socket.io/");
    polling.post("40");
    assert!(polling.poll().body.starts_with("40{"));
    let socket = server.io.sockets().remove(0);
    let runtime = server.runtime.handle().clone();
    let sender = std::thread::spawn(move || {
        let _runtime = runtime.enter();
        let io = socket.io();
        for n in 0..EVENTS {
            match n % 4 {
                0 => drop(io.emit("n", n)),
                1 => drop(socket.emit("n", (n, Bytes::from_static(b"binary")))),
                2 => drop(socket.volatile().emit("n", n)),
                _ => drop(socket.emit_with_ack::<Args>("n", n)),
            }
            if n % 32 == 0 {
                std::thread::sleep(Duration::from_micros(200)); // Pace of a sender.
            }
        }
    });
    let mut numbers = Vec::new();
    while numbers.len() < 200 {
        let payload = polling.poll().body;
        numbers.extend(payload.split('\x1e').filter_map(number));
    }
    let mut client = polling.upgraded();
    while numbers.last() != Some(&(EVENTS - 1)) {
        if let Frame::Text(text) = client.message() {
            numbers.extend(number(&text));
        }
    }
    sender.join().unwrap();
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order");
    let reliable = numbers.iter().filter(|n| **n % 4 != 2);
    assert!(reliable.copied().eq((0..EVENTS).filter(|n| n % 4 != 2)));
}
