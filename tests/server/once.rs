//! Handlers that run once per key and user.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use roomcast::{
    Ack, Builder, Connect, Event, Io, NoAck, Principal, Refusal, State,
    handler::{argument, field, idempotent},
    metrics::Gauge,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    local::{Local, text, until},
    support::RawClient,
};

/// The number of handler runs, and a latch for which some handlers wait.
struct Runs {
    count: AtomicU32,
    latch: Semaphore,
}

impl Runs {
    fn add(&self) -> u32 {
        self.count.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }
}

async fn order(_: Event, order: Value, runs: State<Runs>) -> Ack<(u32, Value)> {
    Ack((runs.add(), order))
}

fn builder() -> (Builder, Arc<Runs>) {
    let runs = Arc::new(Runs {
        count: AtomicU32::new(0),
        latch: Semaphore::new(0),
    });
    let mut io = Io::builder().shared_state(Arc::clone(&runs));
    for nsp in ["/", "/other"] {
        io = io.namespace(nsp, |namespace| {
            namespace
                .authenticate(async |connect: Connect| {
                    #[derive(serde::Deserialize)]
                    struct Auth {
                        name: String,
                    }
                    let name = connect.auth::<Auth>().map(|auth| auth.name);
                    Ok::<_, Refusal>(name.map_or_else(|_| Principal::anonymous(), Principal::new))
                })
                .on("order", idempotent(field("id"), order))
        });
    }
    (io, runs)
}

fn serve() -> (Local, Arc<Runs>) {
    let (mut io, runs) = builder();
    io = io.namespace("/", |namespace| {
        namespace
            .on(
                "slow",
                idempotent(argument(0), async |_: Event, _: u32, runs: State<Runs>| {
                    let run = runs.add();
                    runs.latch.acquire().await.unwrap().forget();
                    Ack(run)
                }),
            )
            .on_serial(
                "in turn",
                idempotent(argument(0), async |_: Event, _: u32, runs: State<Runs>| {
                    let run = runs.add();
                    tokio::task::yield_now().await;
                    Ack(run)
                }),
            )
            .on(
                "fails",
                idempotent(
                    argument(0),
                    async |_: Event, _: u32, runs: State<Runs>| match runs.add() {
                        1 => Err(Refusal::new("LATER", "try again")),
                        2 => panic!("a test panics"),
                        run => Ok(Ack(run)),
                    },
                ),
            )
            .on(
                "bytes",
                idempotent(argument(0), async |_: Event, _: u32, runs: State<Runs>| {
                    Ack((runs.add(), Bytes::from_static(b"abc")))
                }),
            )
            .on(
                "silent",
                idempotent(argument(0), async |_: Event, _: u32, runs: State<Runs>| {
                    runs.add();
                    NoAck
                }),
            )
            .on("count", async |_: Event, runs: State<Runs>| {
                Ack(runs.count())
            })
    });
    (Local::serve(io), runs)
}

fn enter(server: &Local, nsp: &str, name: &str) -> RawClient {
    let mut client = server.open();
    let auth = match name {
        "" => String::new(),
        name => json!({"name": name}).to_string(),
    };
    client.send_text(format!("40{nsp}{auth}"));
    assert!(text(&mut client).starts_with(&format!("40{nsp}{{")));
    client
}

#[test]
fn repeated_event_gets_the_first_answer_under_its_own_id() {
    let (server, runs) = serve();
    let mut client = enter(&server, "", "ann");
    client.send_text("421[\"order\",{\"id\":\"a\",\"n\":1}]");
    client.expect_text("431[1,{\"id\":\"a\",\"n\":1}]");
    // Only the key is compared.
    client.send_text("427[\"order\",{\"id\":\"a\",\"n\":2}]");
    client.expect_text("437[1,{\"id\":\"a\",\"n\":1}]");
    // Another key is another event.
    client.send_text("428[\"order\",{\"id\":\"b\"}]");
    client.expect_text("438[2,{\"id\":\"b\"}]");
    assert_eq!(runs.count(), 2);
}

#[test]
fn repeat_on_another_connection_gets_the_first_answer() {
    let (server, runs) = serve();
    let mut client = enter(&server, "", "ann");
    client.send_text("42[\"order\",{\"id\":7}]");
    client.send_text("421[\"count\"]");
    client.expect_text("431[1]");
    drop(client);
    let mut client = enter(&server, "", "ann");
    client.send_text("420[\"order\",{\"id\":7}]");
    client.expect_text("430[1,{\"id\":7}]");
    assert_eq!(runs.count(), 1);
}

#[test]
fn same_key_of_another_user_or_namespace_is_another_event() {
    let (server, runs) = serve();
    for (nsp, name) in [
        ("", "ann"),
        ("", "bob"),
        ("/other,", "ann"),
        ("", ""),
        ("", ""),
    ] {
        let mut client = enter(&server, nsp, name);
        client.send_text(format!("42{nsp}1[\"order\",{{\"id\":\"a\"}}]"));
        let answer = text(&mut client);
        assert!(answer.starts_with(&format!("43{nsp}1[")), "{answer}");
    }
    assert_eq!(runs.count(), 5);
}

#[test]
fn repeat_waits_for_the_running_handler() {
    let (server, runs) = serve();
    let mut first = enter(&server, "", "ann");
    first.send_text("421[\"slow\",1]");
    until(|| runs.count() == 1);
    let mut second = enter(&server, "", "ann");
    second.send_text("422[\"slow\",1]");
    first.send_text("423[\"slow\",1]");
    first.send_text("424[\"count\"]");
    first.expect_text("434[1]");
    runs.latch.add_permits(1);
    first.expect_text("431[1]");
    first.expect_text("433[1]");
    second.expect_text("432[1]");
}

#[test]
fn handler_continues_after_disconnect_and_a_repeat_gets_its_answer() {
    let (server, runs) = serve();
    let mut client = enter(&server, "", "ann");
    client.send_text("421[\"slow\",1]");
    until(|| runs.count() == 1);
    drop(client);
    until(|| server.io.metrics().gauge(Gauge::HandlersDetached) == 1);
    let mut client = enter(&server, "", "ann");
    client.send_text("420[\"slow\",1]");
    client.send_text("421[\"count\"]");
    client.expect_text("431[1]");
    runs.latch.add_permits(1);
    client.expect_text("430[1]");
    assert_eq!(runs.count(), 1);
}

#[test]
fn serial_handlers_can_be_idempotent_too() {
    let (server, _) = serve();
    let mut client = enter(&server, "", "ann");
    for packet in [
        "421[\"in turn\",1]",
        "422[\"in turn\",1]",
        "423[\"in turn\",2]",
    ] {
        client.send_text(packet);
    }
    client.expect_text("431[1]");
    client.expect_text("432[1]");
    client.expect_text("433[2]");
}

#[test]
fn failed_event_may_be_repeated() {
    let (server, runs) = serve();
    let mut client = enter(&server, "", "ann");
    client.send_text("421[\"fails\",1]");
    assert!(text(&mut client).contains("LATER"));
    client.send_text("422[\"fails\",1]");
    assert!(text(&mut client).contains("INTERNAL"));
    client.send_text("423[\"fails\",\"no number\"]");
    assert!(text(&mut client).contains("INVALID_PAYLOAD"));
    client.send_text("424[\"fails\",1]");
    client.expect_text("434[3]");
    client.send_text("425[\"fails\",1]");
    client.expect_text("435[3]");
    assert_eq!(runs.count(), 3);
}

#[test]
fn answers_with_attachments_or_without_arguments_are_remembered() {
    let (server, runs) = serve();
    let mut client = enter(&server, "", "ann");
    for id in [1, 2] {
        client.send_text(format!("42{id}[\"bytes\",1]"));
        client.expect_text(&format!("461-{id}[1,{{\"_placeholder\":true,\"num\":0}}]"));
        client.expect_binary(b"abc");
    }
    client.send_text("423[\"silent\",1]");
    client.send_text("424[\"silent\",1]");
    client.send_text("425[\"count\"]");
    client.expect_text("435[2]");
    assert_eq!(runs.count(), 2);
}

#[test]
fn events_without_a_key_are_never_repeats() {
    let (server, runs) = serve();
    let mut client = enter(&server, "", "ann");
    for (id, order) in [
        (1, "{}"),
        (2, "{}"),
        (3, "{\"id\":null}"),
        (4, "{\"id\":1.5}"),
    ] {
        client.send_text(format!("42{id}[\"order\",{order}]"));
        assert!(text(&mut client).starts_with(&format!("43{id}[{id},")));
    }
    let long = "x".repeat(257);
    client.send_text(format!("425[\"order\",{{\"id\":\"{long}\"}}]"));
    assert!(text(&mut client).contains("INVALID_PAYLOAD"));
    assert_eq!(runs.count(), 4);
}

/// Starts a server that remembers answers within these bounds.
fn bounded(bound: impl FnOnce(Bounded) -> Bounded) -> (Local, Arc<Runs>) {
    let (mut io, runs) = builder();
    io = io.namespace("/", |namespace| {
        namespace.on("bounded", bound(idempotent(by_first, bounded_order)))
    });
    (Local::serve(io), runs)
}

type Bounded = roomcast::handler::Idempotent<
    fn(&Event) -> Option<String>,
    fn(Event, u32, State<Runs>) -> Answer,
>;
type Answer = std::pin::Pin<Box<dyn Future<Output = Ack<u32>> + Send>>;

fn by_first(event: &Event) -> Option<String> {
    argument(0)(event)
}

fn bounded_order(_: Event, _: u32, runs: State<Runs>) -> Answer {
    Box::pin(async move { Ack(runs.add()) })
}

#[test]
fn remembered_answers_are_bounded_in_number_bytes_and_time() {
    let gauge = |server: &Local| server.io.metrics().gauge(Gauge::IdempotentAnswers);
    let ask = |client: &mut RawClient, key: u32| {
        client.send_text(format!("420[\"bounded\",{key}]"));
        let answer = text(client);
        let number = answer
            .strip_prefix("430[")
            .unwrap()
            .strip_suffix(']')
            .unwrap();
        number.parse::<u32>().unwrap()
    };
    // By number, in total and per user: the oldest key is removed.
    for per_user in [false, true] {
        let (server, _) = bounded(|handler| match per_user {
            true => handler.max_keys_per_user(2),
            false => handler.max_keys(2),
        });
        let mut client = enter(&server, "", "ann");
        let mut other = enter(&server, "", "bob");
        assert_eq!(ask(&mut client, 1), 1);
        assert_eq!(ask(&mut client, 2), 2);
        assert_eq!(ask(&mut other, 3), 3);
        assert_eq!(gauge(&server), if per_user { 3 } else { 2 });
        assert_eq!(ask(&mut client, 1), if per_user { 1 } else { 4 });
        assert_eq!(ask(&mut other, 3), 3);
    }
    // By bytes.
    let (server, _) = bounded(|handler| handler.max_bytes(1));
    let mut client = enter(&server, "", "ann");
    assert_eq!([ask(&mut client, 1), ask(&mut client, 1)], [1, 2]);
    assert_eq!(gauge(&server), 0);
    // By time, without any request.
    let (server, _) = bounded(|handler| handler.window(Duration::from_secs(10)));
    let mut client = enter(&server, "", "ann");
    assert_eq!([ask(&mut client, 1), ask(&mut client, 1)], [1, 1]);
    assert_eq!(gauge(&server), 1);
    until(|| gauge(&server) == 0);
    assert_eq!(ask(&mut client, 1), 2);
}
