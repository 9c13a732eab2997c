//! Packet middleware: what it admits, changes and refuses, and its effect on the order of events.

use std::sync::{Arc, Mutex};

use roomcast::{Ack, Args, Event, Incoming, Io, NamespaceBuilder, Refusal, handler::Failure};
use serde_json::json;
use tokio::sync::Notify;

use crate::local::{Local, until};

type Log = Arc<Mutex<Vec<String>>>;

/// Records failures that no client is notified of.
fn log_failures(namespace: NamespaceBuilder, log: &Log) -> NamespaceBuilder {
    let log = Arc::clone(log);
    namespace.on_error(move |failure: &Failure<'_>| {
        let line = format!("{}: {}", failure.event, failure.refusal.message());
        log.lock().unwrap().push(line);
    })
}

#[test]
fn middleware_stops_an_event_and_only_the_server_learns_why() {
    let log = Log::default();
    let io = Io::builder().namespace("/", |namespace| {
        log_failures(namespace, &log)
            .on_packet(async |packet: Incoming| {
                assert!(packet.name() != "panic", "a fault");
                if packet.name() == "secret" {
                    return Err(Refusal::new("E_FORBIDDEN", "not for you").data(json!({"a": 1})));
                }
                Ok(())
            })
            .on("secret", async |_: Event| Ack("the secret"))
            .on("panic", async |_: Event| {})
            .on("open", async |_: Event| Ack("come in"))
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("421[\"secret\"]");
    client.send_text("422[\"panic\"]");
    client.send_text("423[\"open\"]");
    // The first two get no answer, though they requested an acknowledgement.
    client.expect_text("433[\"come in\"]");
    assert_eq!(
        *log.lock().unwrap(),
        ["secret: not for you", "panic: internal error"]
    );
}

#[test]
fn middleware_run_in_order_on_the_changed_packet() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on_packet(async |mut packet: Incoming| {
                if packet.name() == "old" {
                    packet.set_name("new");
                    packet.set_args((1, "b", json!(null)))?;
                }
                Ok::<_, Unsendable>(packet)
            })
            .on_packet(async |packet: Incoming| {
                let known = ["new", "other"].contains(&packet.name());
                known
                    .then_some(())
                    .ok_or_else(|| Refusal::new("", "unknown"))
            })
            .on("new", async |event: Event, args: Args| {
                assert_eq!(event.name(), "new");
                Ack(args)
            })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("421[\"old\",7]");
    client.expect_text("431[1,\"b\",null]");
    client.send_text("422[\"strange\"]");
    client.send_text("423[\"new\",{\"n\":1.50}]");
    client.expect_text("433[{\"n\":1.50}]");
}

struct Unsendable;

impl From<roomcast::errors::EncodeError> for Unsendable {
    fn from(_: roomcast::errors::EncodeError) -> Self {
        Self
    }
}

impl From<Unsendable> for Refusal {
    fn from(_: Unsendable) -> Self {
        Self::new("", "cannot be sent")
    }
}

#[test]
fn binary_arguments_made_by_middleware_reach_handlers() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on_packet(async |mut packet: Incoming| {
                packet
                    .set_args((bytes::Bytes::from_static(b"\x01\x02"), 3))
                    .map(|()| packet)
                    .map_err(|_| Refusal::new("", "cannot be sent"))
            })
            .on("x", async |_: Event, data: bytes::Bytes, n: u8| {
                Ack((data.len(), n))
            })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("421[\"x\"]");
    client.expect_text("431[2,3]");
}

#[test]
fn later_events_of_a_socket_wait_for_middleware_in_order() {
    let (open, log) = (Arc::new(Notify::new()), Log::default());
    let latch = Arc::clone(&open);
    let mut io = Io::builder().namespace("/", |namespace| {
        namespace.on_packet(move |packet: Incoming| {
            let latch = Arc::clone(&latch);
            async move {
                if packet.name().starts_with("slow") {
                    latch.notified().await;
                }
                Ok::<_, Refusal>(())
            }
        })
    });
    for (name, serial) in [
        ("slow1", false),
        ("a", false),
        ("slow2", true),
        ("b", false),
        ("c", true),
    ] {
        let log = Arc::clone(&log);
        let handler = move |event: Event| {
            log.lock().unwrap().push(event.name().to_owned());
            async {
                tokio::task::yield_now().await;
                Ack(())
            }
        };
        io = io.namespace("/", |namespace| {
            if serial {
                namespace.on_serial(name, handler)
            } else {
                namespace.on(name, handler)
            }
        });
    }
    io = io.namespace("/other", |namespace| {
        namespace.on("d", async |_: Event| Ack(()))
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    crate::local::join(&mut client, "/other,");
    for name in ["slow1", "a", "slow2", "b", "c"] {
        client.send_text(format!("42[\"{name}\"]"));
    }
    client.send_text("42/other,1[\"d\"]");
    // Another socket of the connection is not delayed.
    client.expect_text("43/other,1[]");
    assert!(log.lock().unwrap().is_empty());
    open.notify_one();
    until(|| log.lock().unwrap().len() == 2);
    assert_eq!(*log.lock().unwrap(), ["slow1", "a"]);
    open.notify_one();
    until(|| log.lock().unwrap().len() == 5);
    assert_eq!(*log.lock().unwrap(), ["slow1", "a", "slow2", "b", "c"]);
}

#[test]
fn events_waiting_for_middleware_are_bounded() {
    let io = Io::builder()
        .config(roomcast::Config::default().max_parked_events(3))
        .namespace("/", |namespace| {
            namespace.on_packet(async |_: Incoming| {
                std::future::pending::<()>().await;
                Ok::<_, Refusal>(())
            })
        });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    for _ in 0..5 {
        client.send_text("42[\"x\"]");
    }
    client.expect_close();
    until(|| server.io.count() == 0);
}

#[test]
fn client_leaving_during_middleware_gets_no_answer() {
    let (open, log) = (Arc::new(Notify::new()), Log::default());
    let mut io = Io::builder();
    let latch = Arc::clone(&open);
    let handled = Arc::clone(&log);
    io = io.namespace("/", |namespace| {
        namespace
            .on_packet(move |packet: Incoming| {
                let latch = Arc::clone(&latch);
                async move {
                    if packet.name() == "slow" {
                        latch.notified().await;
                    }
                    Ok::<_, Refusal>(())
                }
            })
            .on("slow", move |_: Event| {
                handled.lock().unwrap().push("handled".into());
                async {}
            })
            .on("echo", async |_: Event| Ack(()))
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("42[\"slow\"]");
    client.send_text("42[\"slow\"]");
    client.send_text("41");
    crate::local::join(&mut client, "");
    open.notify_one();
    client.send_text("421[\"echo\"]");
    client.expect_text("431[]");
    assert!(log.lock().unwrap().is_empty());
}
