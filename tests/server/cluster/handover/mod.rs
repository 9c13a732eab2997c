//! Clients that continue at another server, which requests their sessions from the peer: no journal
//! stores the missed events.

mod no_offset;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use roomcast::{
    Ack, Authenticate, Builder, Connect, Event, Lifecycle, Principal, Refusal, Room,
    adapter::Health,
    metrics::{Counter, Gauge},
    options::Recovery,
};
use serde_json::{Value, json};

use super::{Servers, Wire, hub::Hub, journal::read};
use crate::{
    local::{Local, text, until},
    nats_server::NatsServer,
    redis_server::RedisServer,
    support::{Frame, RawClient},
};

/// Configures a server that hands over clients unless they are in `secret`. The socket leaves
/// `news` first, and the position 7 goes along.
fn handing_over(io: Builder) -> Builder {
    // A machine that stands still for a while decides nothing.
    handing_over_within(io, Duration::from_secs(10))
}

fn handing_over_within(io: Builder, timeout: Duration) -> Builder {
    recovering_within(io, timeout)
        .handover(|socket| {
            let may_go = !socket.is_in("secret");
            socket.leave("news");
            may_go.then(|| json!({ "last": 7 }))
        })
        .namespace("/", |namespace| {
            namespace.on("arrived", async |event: Event| {
                let arrival = event.socket.arrival().cloned();
                event.socket.join("news").ok();
                event.socket.arrived();
                Ack(arrival)
            })
        })
}

fn recovering(io: Builder) -> Builder {
    recovering_within(io, Duration::from_secs(10))
}

fn recovering_within(io: Builder, timeout: Duration) -> Builder {
    io.recovery(Recovery::default().claim_timeout(timeout))
        .namespace("/", |namespace| {
            namespace
                .on("join", async |event: Event, room: String| {
                    event.socket.join(room)
                })
                .on("share", async |event: Event, value: Value| {
                    drop(event.socket.share(value));
                })
                .on("who", async |event: Event| {
                    let mut rooms: Vec<String> =
                        event.socket.rooms().iter().map(Room::to_string).collect();
                    rooms.sort();
                    Ack((event.socket.recovered(), rooms))
                })
        })
}

/// A client, the ids of its session, and its last offset.
struct Person {
    client: RawClient,
    sid: String,
    pid: String,
    offset: String,
}

impl Person {
    /// Connects a client in `room` and `news` that has received an event.
    fn new(server: &Local) -> Self {
        let mut person = Self::without_events(server);
        server.io.to(&*person.sid).local().emit("hello", ());
        assert_eq!(person.next(), json!(["hello"]));
        person
    }

    /// Connects a client in these rooms.
    fn without_events(server: &Local) -> Self {
        let mut person = Self::enter(server, "").0;
        for room in ["room", "news"] {
            person.client.send_text(format!("421[\"join\",\"{room}\"]"));
            person.client.expect_text("431[]");
        }
        person
    }

    /// Connects with an offer, and returns the client and the events before the answer.
    fn enter(server: &Local, offer: &str) -> (Self, Vec<Value>) {
        let mut client = server.open();
        client.send_text(format!("40{offer}"));
        let (mut events, mut offset) = (Vec::new(), String::new());
        let answer: Value = loop {
            let packet = text(&mut client);
            match packet.strip_prefix("40") {
                Some(answer) => break serde_json::from_str(answer).unwrap(),
                None => {
                    let (args, last) = read(&packet);
                    events.push(args);
                    offset = last;
                }
            }
        };
        let id_of = |name: &str| answer[name].as_str().unwrap().to_owned();
        let (sid, pid) = (id_of("sid"), id_of("pid"));
        let person = Self {
            client,
            sid,
            pid,
            offset,
        };
        (person, events)
    }

    fn next(&mut self) -> Value {
        let (args, offset) = read(&text(&mut self.client));
        self.offset = offset;
        args
    }

    fn ask(&mut self, event: &str) -> Value {
        self.client.send_text(format!("425[\"{event}\"]"));
        let answer = text(&mut self.client);
        let answer = answer
            .strip_prefix("435")
            .unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str(answer).unwrap()
    }

    fn as_lost(&self) -> LostClient {
        LostClient {
            sid: self.sid.clone(),
            pid: self.pid.clone(),
            offset: self.offset.clone(),
        }
    }

    /// Breaks the connection and waits until the server has noticed.
    fn lose(self, server: &Local) -> LostClient {
        let sessions = || server.io.metrics().gauge(Gauge::RecoverySessions);
        let before = sessions();
        let lost = self.as_lost();
        drop(self.client);
        until(|| sessions() > before);
        lost
    }
}

struct LostClient {
    sid: String,
    pid: String,
    offset: String,
}

impl LostClient {
    fn offer(&self) -> String {
        let offset = Some(&self.offset).filter(|offset| !offset.is_empty());
        json!({"pid": self.pid, "offset": offset}).to_string()
    }

    /// Reconnects at a server, and returns the client and the events before the connect answer.
    fn reconnect(&self, server: &Local) -> (Person, Vec<Value>) {
        let (mut person, events) = Person::enter(server, &self.offer());
        if events.is_empty() {
            person.offset.clone_from(&self.offset);
        }
        (person, events)
    }
}

/// Waits until all servers know and reach each other: sessions that started earlier are not
/// recovered.
fn await_all_peers(servers: &Servers) {
    for server in &servers.servers {
        until(|| server.io.nodes().len() == servers.servers.len());
        until(|| server.io.adapter_health() == Some(Health::Ready));
    }
}

fn three() -> Servers {
    let servers = Servers::joined(3, handing_over);
    await_all_peers(&servers);
    servers
}

/// A client reconnects at different servers, with and without missed events, and returns to the
/// first.
fn moves_between_servers(servers: &Servers) {
    await_all_peers(servers);
    let mut person = Person::new(&servers[0]);
    let sid = person.sid.clone();
    person.client.send_text("42[\"share\",{\"color\":\"red\"}]");
    assert_eq!(person.ask("who"), json!([false, ["news", "room"]]));
    let lost = person.lose(&servers[0]);
    servers[0]
        .io
        .to("room")
        .local()
        .emit("n", (1.5, "é", json!({"b": 1, "a": null})));
    servers[0].io.to("news").local().emit("n", 2);
    let (mut person, events) = lost.reconnect(&servers[1]);
    assert_eq!(
        events,
        [json!(["n", 1.5, "é", {"b": 1, "a": null}]), json!(["n", 2])]
    );
    assert_eq!((&person.sid, &person.pid), (&sid, &lost.pid));
    assert_eq!(person.ask("who"), json!([true, ["room"]]));
    assert_eq!(person.ask("arrived"), json!([{ "last": 7 }]));
    assert_eq!(person.ask("who"), json!([true, ["news", "room"]]));
    servers[1].io.to("room").local().emit("n", 3);
    assert_eq!(person.next(), json!(["n", 3]));
    // Nothing is missed on the way to the third server and back to the first, so the offset stays
    // the same.
    let mut lost = person.lose(&servers[1]);
    for at in [2, 0] {
        let (mut person, events) = lost.reconnect(&servers[at]);
        assert!(
            events.is_empty() && person.pid == lost.pid,
            "at {at}: {events:?}"
        );
        person.ask("arrived");
        lost = person.lose(&servers[at]);
    }
    // The first server recovers its own session, although the offset is from another server.
    servers[0].io.to("news").local().emit("n", 4);
    let (mut person, events) = lost.reconnect(&servers[0]);
    assert_eq!(events, [json!(["n", 4])]);
    assert_eq!(person.sid, sid);
    assert_eq!(person.ask("arrived"), json!([null]));
    let mut lost = person.lose(&servers[0]);
    // The client receives no events, so it offers an offset of the first server throughout, even
    // when it returns there.
    let offset = lost.offset.clone();
    for at in [1, 0, 0, 2, 0, 1, 2, 0] {
        let (mut person, events) = lost.reconnect(&servers[at]);
        assert!(
            events.is_empty() && person.sid == sid,
            "at {at}: {events:?}"
        );
        person.ask("arrived");
        lost = person.lose(&servers[at]);
        assert_eq!(lost.offset, offset);
    }
    servers[0].io.to("room").local().emit("n", 5);
    for at in [0, 1, 0] {
        let (mut person, events) = lost.reconnect(&servers[at]);
        assert_eq!(events, [json!(["n", 5])], "at {at}");
        person.ask("arrived");
        // The client has not read this event.
        person.offset.clone_from(&offset);
        lost = person.lose(&servers[at]);
    }
    let (person, _) = lost.reconnect(&servers[1]);
    assert_eq!(person.sid, sid);
    for server in &servers.servers {
        assert_eq!(server.io.metrics().gauge(Gauge::RecoverySessions), 0);
    }
}

#[test]
fn client_moving_between_servers_misses_nothing() {
    moves_between_servers(&three());
    for wire in [Wire::Classic, Wire::Sharded, Wire::Streams] {
        moves_between_servers(&Servers::on_redis(
            RedisServer::shared(),
            3,
            wire,
            handing_over,
        ));
    }
    moves_between_servers(&Servers::on_postgres(3, handing_over));
    moves_between_servers(&Servers::on_nats(NatsServer::shared(), 3, handing_over));
}

#[test]
fn client_that_seems_connected_is_handed_over() {
    let servers = three();
    let old = Person::new(&servers[0]);
    let lost = old.as_lost();
    let (person, _) = lost.reconnect(&servers[1]);
    assert_eq!(person.sid, lost.sid);
    until(|| servers[0].io.count() == 0);
    drop(old);
}

#[test]
fn late_handover_request_does_not_take_a_client_that_has_arrived() {
    let hub = Hub::new();
    let servers = Servers::joined_by(hub.clone(), 3, handing_over);
    await_all_peers(&servers);
    let mut lost = Person::new(&servers[0]).lose(&servers[0]);
    let (late, delivered) = (servers.node(2), hub.delivered());
    hub.set_late(&late, true);
    // The first server hands the client over, recovers it later, and hands it over again, to the
    // server that has not read the first request yet.
    for at in [1, 0, 2] {
        let (mut person, _) = lost.reconnect(&servers[at]);
        assert_eq!(person.pid, lost.pid, "at {at}");
        person.ask("arrived");
        lost = person.lose(&servers[at]);
    }
    let (mut person, _) = lost.reconnect(&servers[2]);
    assert_eq!(person.pid, lost.pid);
    // Four answers, then the two of the late server.
    until(|| hub.delivered() == delivered + 4);
    hub.set_late(&late, false);
    until(|| hub.delivered() == delivered + 6);
    assert_eq!(person.ask("who"), json!([true, ["news", "room"]]));
}

#[test]
fn client_stays_at_the_server_it_reached_last() {
    let servers = three();
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    let (mut first, _) = lost.reconnect(&servers[1]);
    assert_eq!(first.pid, lost.pid);
    // The application has confirmed the arrival.
    first.ask("arrived");
    let (second, _) = lost.reconnect(&servers[2]);
    assert_eq!(second.pid, lost.pid);
    until(|| [0, 1, 2].map(|at| servers[at].io.count()) == [0, 0, 1]);
}

#[test]
fn one_of_two_concurrent_servers_gets_the_client() {
    let servers = three();
    for _ in 0..5 {
        let lost = Person::new(&servers[0]).lose(&servers[0]);
        // The application never confirms the arrival at the faster server, so the client cannot be
        // taken from there.
        let same = thread::scope(|scope| {
            let results = [1, 2].map(|at| {
                let (lost, server) = (&lost, &servers[at]);
                scope.spawn(move || lost.reconnect(server).0.pid == lost.pid)
            });
            results.map(|results| results.join().unwrap())
        });
        assert_eq!(same.into_iter().filter(|same| *same).count(), 1);
    }
}

#[test]
fn client_taken_over_early_still_gets_its_connect_answer() {
    let holds = Arc::new(AtomicBool::new(false));
    let build = |io| {
        let mut io = handing_over(io);
        let holds = Arc::clone(&holds);
        io = io.namespace("/", |namespace| {
            namespace.on_connect(move |event: Event| {
                if holds.swap(false, Ordering::Relaxed) {
                    event.socket.arrived();
                    // The packet that admits the client is queued, and cannot be sent before this
                    // returns.
                    until(|| !event.socket.is_connected());
                }
                async {}
            })
        });
        io
    };
    let servers = Servers::joined(3, build);
    await_all_peers(&servers);
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    holds.store(true, Ordering::Relaxed);
    let mut first = servers[1].open();
    first.send_text(format!("40{}", lost.offer()));
    until(|| !holds.load(Ordering::Relaxed));
    let (second, _) = lost.reconnect(&servers[2]);
    assert_eq!(second.pid, lost.pid);
    let received = text(&mut first);
    let received: Value = serde_json::from_str(received.strip_prefix("40").unwrap()).unwrap();
    assert_eq!(received["pid"], lost.pid);
    assert!(matches!(first.message(), Frame::Close(_)));
}

#[test]
fn disconnect_handlers_start_before_the_handover() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let build = |io| {
        let mut io = handing_over(io);
        let (ending, begun, going_on) = (calls.clone(), calls.clone(), calls.clone());
        io = io
            .on_event(move |event: &Lifecycle<'_>| {
                if let Lifecycle::Disconnected { .. } = event {
                    // The socket has left its rooms. The delay gives the other server enough time
                    // to run its handler too early.
                    for _ in 0..20 {
                        if ending.lock().unwrap().is_empty() {
                            thread::sleep(Duration::from_millis(5)); // Poll interval.
                        }
                    }
                }
            })
            .namespace("/", |namespace| {
                namespace
                    .on("disconnect", move |_: Event| {
                        begun.lock().unwrap().push("disconnect");
                        // A handler that never ends does not delay the handover.
                        std::future::pending::<()>()
                    })
                    .on_connect(move |event: Event| {
                        if event.socket.recovered() {
                            going_on.lock().unwrap().push("connection");
                        }
                        async {}
                    })
            });
        io
    };
    let servers = Servers::joined(2, build);
    await_all_peers(&servers);
    let mut people = Vec::new();
    for seems_connected in [false, true] {
        calls.lock().unwrap().clear();
        let old = Person::new(&servers[0]);
        let lost = old.as_lost();
        // A connection that is kept open stays silent in between.
        people.extend(seems_connected.then_some(old));
        let (person, _) = lost.reconnect(&servers[1]);
        assert_eq!(person.sid, lost.sid);
        until(|| calls.lock().unwrap().len() == 2);
        assert_eq!(*calls.lock().unwrap(), ["disconnect", "connection"]);
        people.push(person);
    }
}

#[test]
fn handover_waits_for_the_arrival_handler_up_to_a_timeout() {
    let servers = three();
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    let (mut first, _) = lost.reconnect(&servers[1]);
    assert_eq!(first.pid, lost.pid);
    assert_ne!(lost.reconnect(&servers[2]).0.pid, lost.pid);
    assert_eq!(first.ask("who"), json!([true, ["room"]]));
    let second = thread::scope(|scope| {
        let joining = scope.spawn(|| lost.reconnect(&servers[2]).0);
        until(|| servers[2].io.metrics().gauge(Gauge::ClusterRequests) > 0);
        // The client may be taken over before its handler has answered.
        first.client.send_text("42[\"arrived\"]");
        joining.join().unwrap()
    });
    assert_eq!(second.pid, lost.pid);
}

#[test]
fn panicking_handover_hook_hands_over_no_client_and_leaks_none() {
    let servers = Servers::joined(2, |io| {
        recovering(io).handover(|_| panic!("it cannot say where the client stands"))
    });
    await_all_peers(&servers);
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    assert_ne!(lost.reconnect(&servers[1]).0.pid, lost.pid);
    let metrics = servers[0].io.metrics();
    until(|| metrics.gauge(Gauge::Rooms) == 0 && metrics.gauge(Gauge::RecoverySessions) == 0);
    assert_eq!(metrics.counter(Counter::HandlerPanics), 1);
}

#[test]
fn client_that_cannot_be_handed_over_gets_a_new_session() {
    let servers = three();
    let is_fresh = |lost: &LostClient, at: usize| {
        let (mut person, events) = lost.reconnect(&servers[at]);
        assert!(events.is_empty());
        assert_eq!(person.ask("who"), json!([false, []]));
        person.pid != lost.pid
    };
    // The application hands over no client in this room.
    let mut person = Person::new(&servers[0]);
    person.client.send_text("421[\"join\",\"secret\"]");
    person.client.expect_text("431[]");
    assert!(is_fresh(&person.lose(&servers[0]), 1));
    // The secret of another session, the offset of an unknown server, and an event that is not
    // stored.
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    let other = |pid: &str, offset: &str| LostClient {
        sid: String::new(),
        pid: pid.into(),
        offset: offset.into(),
    };
    assert!(is_fresh(&other("AAAAAAAAAAAAAAAAAAAA", &lost.offset), 1));
    let (number, tag) = lost.offset.split_once('.').unwrap();
    assert!(is_fresh(&other(&lost.pid, &format!("{number}.zzzzzz")), 1));
    assert!(is_fresh(&other(&lost.pid, &format!("C.{tag}")), 1));
    // Failed requests have consumed nothing.
    assert_eq!(lost.reconnect(&servers[0]).0.pid, lost.pid);
    // Binary events are not handed over.
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    let bytes = roomcast::types::Bytes::from_static(b"x");
    servers[0].io.to("room").local().emit("n", bytes);
    assert!(is_fresh(&lost, 1));
}

#[test]
fn clients_are_not_handed_over_without_a_handover_hook() {
    let servers = Servers::joined(2, recovering);
    await_all_peers(&servers);
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    assert_ne!(lost.reconnect(&servers[1]).0.pid, lost.pid);
    assert_eq!(lost.reconnect(&servers[0]).0.pid, lost.pid);
}

#[test]
fn silent_server_is_awaited_for_the_configured_timeout() {
    let hub = Hub::new();
    let timeout = Duration::from_millis(2500);
    let build = |io| handing_over_within(io, timeout);
    let servers = Servers::joined_by(hub.clone(), 2, build);
    await_all_peers(&servers);
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    hub.isolate(&servers.node(0));
    let begin = Instant::now();
    assert_ne!(lost.reconnect(&servers[1]).0.pid, lost.pid);
    assert!(begin.elapsed() >= timeout);
}

#[test]
fn client_lost_before_arrival_completes_gets_a_new_session() {
    let servers = three();
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    let (person, _) = lost.reconnect(&servers[1]);
    assert_eq!(person.pid, lost.pid);
    let again = person.as_lost();
    drop(person.client);
    until(|| servers[1].io.count() == 0);
    for server in &servers.servers {
        assert_ne!(again.reconnect(server).0.pid, lost.pid);
    }
}

#[test]
fn handover_authenticates_again_and_refuses_another_user() {
    struct Names(Arc<AtomicBool>);

    impl Authenticate for Names {
        async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
            #[derive(serde::Deserialize)]
            struct Login {
                name: String,
            }
            let login: Login = connect
                .auth()
                .map_err(|_| Refusal::unauthenticated("no name"))?;
            if self.0.load(Ordering::Relaxed) {
                return Err(Refusal::unauthenticated("banned"));
            }
            Ok(Principal::new(login.name))
        }
    }

    let is_banned = Arc::new(AtomicBool::new(false));
    let build = |io| {
        handing_over(io).namespace("/", |namespace| {
            namespace.authenticate(Names(Arc::clone(&is_banned)))
        })
    };
    let servers = Servers::joined(2, build);
    await_all_peers(&servers);
    let lose_client = || {
        let (mut person, _) = Person::enter(&servers[0], "{\"name\":\"ann\"}");
        servers[0].io.to(&*person.sid).local().emit("hello", ());
        person.next();
        let sid = person.sid.clone();
        let lost = person.lose(&servers[0]);
        servers[0].io.to(&*sid).local().emit("for ann", ());
        lost
    };
    let offer = |lost: &LostClient, name: &str| {
        json!({"pid": lost.pid, "offset": lost.offset, "name": name}).to_string()
    };
    let lost = lose_client();
    let (person, events) = Person::enter(&servers[1], &offer(&lost, "eve"));
    assert!(person.pid != lost.pid && events.is_empty());
    let lost = lose_client();
    let (person, events) = Person::enter(&servers[1], &offer(&lost, "ann"));
    assert_eq!((person.pid, events), (lost.pid, vec![json!(["for ann"])]));
    let lost = lose_client();
    is_banned.store(true, Ordering::Relaxed);
    let mut client = servers[1].open();
    client.send_text(format!("40{}", offer(&lost, "ann")));
    assert!(text(&mut client).starts_with("44"));
}
