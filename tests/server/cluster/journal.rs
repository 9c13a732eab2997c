//! Clients that reconnect at another server, which finds their session and missed events in Redis.

use std::{
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use roomcast::{
    Ack, Authenticate, Builder, Connect, Event, Io, Principal, Refusal, Room,
    adapter::{Health, redis::Redis},
    metrics::Gauge,
    options::Recovery,
};
use serde_json::{Value, json};

use super::{Servers, Wire, holding_proxy::HoldingProxy};
use crate::{
    local::{Local, text, until},
    redis_server::RedisServer,
    support::RawClient,
};

fn recovering(io: Builder) -> Builder {
    recovering_for(io, Duration::from_secs(60))
}

fn recovering_for(io: Builder, window: Duration) -> Builder {
    // Long enough that a slow machine does not change the outcome.
    let recovery = Recovery::default().claim_timeout(Duration::from_secs(10));

    io.recovery(recovery.window(window))
        .namespace("/", |namespace| {
            namespace
                .on("join", async |event: Event, room: String| {
                    event.socket.join(room)
                })
                .on("share", async |event: Event, value: Value| {
                    drop(event.socket.share(value));
                })
                .on("direct", async |event: Event, n: i64| {
                    event.socket.emit("n", ("direct", n));
                })
                .on("who", async |event: Event| {
                    let rooms: Vec<String> =
                        event.socket.rooms().iter().map(Room::to_string).collect();
                    Ack((event.socket.recovered(), rooms))
                })
        })
}

/// Returns a Redis that no other test keeps busy: a client whose session is not read within two
/// seconds starts a new session.
fn own() -> &'static RedisServer {
    static OWN: OnceLock<RedisServer> = OnceLock::new();
    OWN.get_or_init(RedisServer::start)
}

fn two() -> Servers {
    Servers::on_redis(own(), 2, Wire::Journal, recovering)
}

/// Runs a test with two servers, and with two servers that seal.
fn each(test: impl Fn(Servers)) {
    test(two());
    test(Servers::sealed_on_redis(
        own(),
        2,
        Wire::Journal,
        recovering,
    ));
}

/// Waits until all servers have received everything sent so far from Redis.
fn settle(servers: &Servers) {
    servers.settle();
    servers
        .servers
        .iter()
        .for_each(|server| assert_receives(server, ""));
}

/// Waits until a server has received its own messages.
fn assert_receives(server: &Local, offer: &str) {
    let (mut client, _, answer) = enter(server, offer);
    let id = answer["sid"].as_str().unwrap();
    server.io.to(id).emit("heard", ());
    assert_eq!(read(&text(&mut client)).0, json!(["heard"]));
}

/// A client, the ids of its session, and its last offset.
struct Person {
    client: RawClient,
    sid: String,
    pid: String,
    offset: String,
}

/// Connects with an offer, and returns the client, the events before the answer, and the answer.
fn enter(server: &Local, offer: &str) -> (RawClient, Vec<String>, Value) {
    let mut client = server.open();
    client.send_text(format!("40{offer}"));
    let mut events = Vec::new();
    loop {
        let packet = text(&mut client);
        match packet.strip_prefix("40") {
            Some(answer) => return (client, events, serde_json::from_str(answer).unwrap()),
            None => events.push(packet),
        }
    }
}

/// Splits an event into its arguments and its offset.
pub(super) fn read(event: &str) -> (Value, String) {
    let array = event
        .strip_prefix("42")
        .unwrap_or_else(|| panic!("{event}"));
    let mut args: Vec<Value> = serde_json::from_str(array).unwrap();
    let offset = args.pop().unwrap().as_str().unwrap().to_owned();
    (args.into(), offset)
}

impl Person {
    /// Connects a client in a room that has received an event.
    fn new(server: &Local) -> Self {
        let mut person = Self::without_events(server);
        server.io.to(&*person.sid).emit("hello", ());
        assert_eq!(person.next(), json!(["hello"]));
        person
    }

    /// Connects a client in a room.
    fn without_events(server: &Local) -> Self {
        let (client, events, answer) = enter(server, "");
        assert!(events.is_empty());
        let id_of = |name: &str| answer[name].as_str().unwrap().to_owned();
        let mut person = Self {
            client,
            sid: id_of("sid"),
            pid: id_of("pid"),
            offset: String::new(),
        };
        person.client.send_text("421[\"join\",\"room\"]");
        person.client.expect_text("431[]");
        person
    }

    fn next(&mut self) -> Value {
        let (args, offset) = read(&text(&mut self.client));
        self.offset = offset;
        args
    }

    fn offer(&self) -> String {
        match self.offset.as_str() {
            "" => json!({"pid": self.pid}),
            offset => json!({"pid": self.pid, "offset": offset}),
        }
        .to_string()
    }

    /// Breaks the connection and waits until other servers can find the session.
    fn lose_stored(self, server: &Local) -> LostClient {
        let lost = self.lose(server);
        let keys = ["", "sealed:"].map(|form| format!("sio:session:{form}{}", lost.pid));
        until(|| {
            let mut cli = Command::new("redis-cli");
            let reply = cli
                .args(["-u", &own().url(), "EXISTS"])
                .args(&keys)
                .output();
            reply.unwrap().stdout.starts_with(b"1")
        });
        lost
    }

    /// Breaks the connection and waits until the server has noticed.
    fn lose(self, server: &Local) -> LostClient {
        let recoverable = || server.io.metrics().gauge(Gauge::RecoverySessions);
        let before = recoverable();
        let offer = self.offer();
        let Self {
            client, sid, pid, ..
        } = self;
        drop(client);
        until(|| recoverable() > before);
        LostClient { sid, pid, offer }
    }
}

/// A client without a connection.
struct LostClient {
    sid: String,
    pid: String,
    offer: String,
}

impl LostClient {
    /// Reconnects and returns the client with the events before the answer, or an error if it got a
    /// new session.
    fn reconnect(&self, server: &Local) -> Result<(Person, Vec<Value>), RawClient> {
        let (client, events, answer) = enter(server, &self.offer);
        if answer["sid"] != *self.sid {
            assert!(events.is_empty(), "{events:?}");
            assert_ne!(answer["pid"], *self.pid);
            return Err(client);
        }
        assert_eq!(answer["pid"], *self.pid);
        let read: Vec<_> = events.iter().map(|event| read(event)).collect();
        let offered: Value = serde_json::from_str(&self.offer).unwrap();
        let last = read.last().map(|(_, offset)| offset.clone());
        let offset =
            last.unwrap_or_else(|| offered["offset"].as_str().unwrap_or_default().to_owned());
        let events = read.into_iter().map(|(args, _)| args).collect();
        let (sid, pid) = (self.sid.clone(), self.pid.clone());
        let person = Person {
            client,
            sid,
            pid,
            offset,
        };
        Ok((person, events))
    }
}

#[test]
fn client_recovers_missed_events_and_identity_at_another_server() {
    each(|servers| {
        let mut person = Person::new(&servers[0]);
        person.client.send_text("42[\"share\",{\"name\":\"Ann\"}]");
        person.client.send_text("42[\"direct\",1]");
        assert_eq!(person.next(), json!(["n", "direct", 1]));
        let lost = person.lose_stored(&servers[0]);
        for n in 0..3 {
            servers[n].io.to("room").emit("n", n);
            servers[n].io.to("other").emit("n", "other");
            servers[n]
                .io
                .to("room")
                .except(&*lost.sid)
                .emit("n", "except");
            servers[n].io.to("room").volatile().emit("n", "volatile");
            servers[n].io.emit("all", n);
        }
        settle(&servers);
        let (mut person, events) = lost.reconnect(&servers[1]).ok().unwrap();
        let expected = [0, 1, 2].map(|n| [json!(["n", n]), json!(["all", n])]);
        let mut sorted = events.clone();
        sorted.sort_by_key(Value::to_string);
        let mut all = expected.concat();
        all.sort_by_key(Value::to_string);
        assert_eq!(sorted, all);
        // The events of each server are in order.
        for parity in [0, 1] {
            let is_from_server = |args: &&Value| args[1].as_i64().unwrap() % 2 == parity;
            let got: Vec<_> = events.iter().filter(is_from_server).collect();
            let all = expected.concat();
            assert_eq!(got, all.iter().filter(is_from_server).collect::<Vec<_>>());
        }
        person.client.send_text("422[\"who\"]");
        person.client.expect_text("432[true,[\"room\"]]");
        let socket = servers[1].io.local().in_(&*person.sid);
        let found = servers[1].runtime.block_on(socket.fetch_sockets());
        let data: Value = found.sockets[0].data().unwrap();
        assert_eq!(data, json!({"name": "Ann"}));
        servers[0].io.to("room").emit("end", ());
        assert_eq!(person.next(), json!(["end"]));
    });
}

#[test]
fn client_without_offset_recovers_at_another_server() {
    each(|servers| {
        servers[1].io.to("room").emit("n", "before");
        settle(&servers);
        let mut lost = Person::without_events(&servers[0]).lose_stored(&servers[0]);
        for at in [1, 0] {
            let (person, events) = lost.reconnect(&servers[at]).ok().unwrap();
            assert!(events.is_empty(), "{events:?}");
            lost = person.lose_stored(&servers[at]);
        }
        servers[1].io.to("room").emit("n", 0);
        servers[1].io.to("other").emit("n", "other");
        settle(&servers);
        // It does not read the events, and the last ones are sent before the connection breaks.
        let (mut person, events) = lost.reconnect(&servers[1]).ok().unwrap();
        assert_eq!(events, [json!(["n", 0])]);
        servers[1].io.to("room").emit("n", 1);
        settle(&servers);
        person.offset.clear();
        let lost = person.lose_stored(&servers[1]);
        servers[1].io.to("room").emit("n", 2);
        settle(&servers);
        let (mut person, events) = lost.reconnect(&servers[0]).ok().unwrap();
        assert_eq!(events, [0, 1, 2].map(|n| json!(["n", n])));
        person.client.send_text("422[\"who\"]");
        person.client.expect_text("432[true,[\"room\"]]");
        servers[1].io.to("room").emit("end", ());
        assert_eq!(person.next(), json!(["end"]));
    });
}

/// Sets a flag when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn moving_client_gets_events_once_and_in_order() {
    each(|servers| {
        let mut person = Person::new(&servers[0]);
        let done = AtomicBool::new(false);
        let next = [const { AtomicU64::new(0) }; 2];
        let take = |args: &Value| {
            if args[0] == "n" {
                let server = args[1].as_u64().unwrap() as usize;
                let expected = next[server].fetch_add(1, Ordering::Relaxed);
                assert_eq!(args[2], expected, "of server {server}");
            }
        };
        let (mut person, sent) = thread::scope(|scope| {
            let writers = [0, 1].map(|i| {
                let (servers, done, next) = (&servers, &done, &next);
                scope.spawn(move || {
                    let mut n = 0;
                    while !done.load(Ordering::Relaxed) {
                        // At most as many as are kept for a client, even if it reconnects late on a
                        // busy machine.
                        if n < next[i].load(Ordering::Relaxed) + 500 {
                            servers[i].io.to("room").emit("n", (i, n));
                            n += 1;
                        }
                        // Send interval.
                        thread::sleep(Duration::from_millis(2));
                    }
                    n
                })
            });
            // Stops the senders also when something fails here.
            let _over = Over(&done);
            let mut at = 0;
            for _ in 0..20 {
                for _ in 0..10 {
                    take(&person.next());
                }
                let lost = person.lose_stored(&servers[at]);
                at += usize::from(at % 3 != 2) + 1;
                let (back, events) = lost.reconnect(&servers[at]).ok().unwrap();
                events.iter().for_each(take);
                person = back;
            }
            done.store(true, Ordering::Relaxed);
            (person, writers.map(|writer| writer.join().unwrap()))
        });
        for server in &servers.servers {
            server.io.to("room").emit("end", ());
        }
        let mut ends = 0;
        while ends < 2 {
            let args = person.next();
            take(&args);
            ends += usize::from(args[0] == "end");
        }
        assert_eq!(next.map(AtomicU64::into_inner), sent);
    });
}

#[test]
fn client_at_a_lagging_server_gets_no_duplicates() {
    let between = HoldingProxy::start(own(), "XREAD");
    let servers = Servers::on_redis(own(), 1, Wire::Journal, recovering);
    let redis = Wire::Journal.on(Redis::new(&between.url()).unwrap().key(&servers.key));
    let lagging = Local::serve(recovering(Io::builder().adapter(redis)));
    let mut person = Person::new(&servers[0]);
    until(|| lagging.io.nodes().len() == 2);
    // Without the stream it would send the next event without an offset.
    until(|| lagging.io.adapter_health() == Some(Health::Ready));
    assert_receives(&lagging, "");

    between.hold(true);
    for n in 0..5 {
        servers[0].io.to("room").emit("n", n);
        assert_eq!(person.next(), json!(["n", n]));
    }
    let lost = person.lose_stored(&servers[0]);
    let (mut person, events) = thread::scope(|scope| {
        let joining = scope.spawn(|| lost.reconnect(&lagging).ok().unwrap());
        // A server that did not wait would admit the client in this time.
        thread::sleep(Duration::from_millis(300));
        between.hold(false);
        joining.join().unwrap()
    });
    assert!(events.is_empty(), "{events:?}");
    servers[0].io.to("room").emit("n", 5);
    assert_eq!(person.next(), json!(["n", 5]));
}

#[test]
fn one_of_concurrent_servers_gets_the_session() {
    each(|servers| {
        for _ in 0..10 {
            let lost = Person::new(&servers[0]).lose_stored(&servers[0]);
            let both = thread::scope(|scope| {
                let recoveries = [0, 1].map(|i| {
                    let (lost, server) = (&lost, &servers[i]);
                    scope.spawn(move || lost.reconnect(server))
                });
                recoveries.map(|recoveries| recoveries.join().unwrap())
            });
            // Both are still connected: a client that left would leave the session to the other.
            assert_eq!(both.iter().filter(|result| result.is_ok()).count(), 1);
        }
    });
}

#[test]
fn a_client_of_redis_deletes_sessions_and_restores_captured_ones() {
    // The client does not know the secret.
    let servers = Servers::sealed_on_redis(own(), 2, Wire::Journal, recovering);
    let rename = |from: &str, to: &str| {
        assert_eq!(own().ask(&["RENAME", from, to]).trim(), "OK");
    };
    for is_restored in [false, true] {
        let lost = Person::new(&servers[0]).lose_stored(&servers[0]);
        let key = format!("sio:session:sealed:{}", lost.pid);
        let captured = format!("captured:{}", lost.pid);
        rename(&key, &captured);
        if is_restored {
            rename(&captured, &key);
        }
        assert_eq!(lost.reconnect(&servers[1]).is_ok(), is_restored);
    }
}

#[test]
fn client_that_cannot_get_all_events_gets_a_new_session() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 2, Wire::Journal, recovering);
    // The stream was trimmed.
    for connect in [Person::new, Person::without_events] {
        let lost = connect(&servers[0]).lose(&servers[0]);
        servers[0].io.to("room").emit("n", 1);
        settle(&servers);
        redis.command(&["XTRIM", &servers.key, "MAXLEN"], b"0");
        assert!(lost.reconnect(&servers[1]).is_err());
    }
    // More events than one client is sent.
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    for n in 0..2100 {
        servers[0].io.to("room").emit("n", n);
    }
    settle(&servers);
    assert!(lost.reconnect(&servers[1]).is_err());
    // The client was disconnected by the server in the meantime.
    let lost = Person::new(&servers[0]).lose(&servers[0]);
    let recoverable = || servers[0].io.metrics().gauge(Gauge::RecoverySessions);
    let before = recoverable();
    servers[1].io.in_(&*lost.sid).close_connections();
    until(|| recoverable() < before);
    settle(&servers);
    assert!(lost.reconnect(&servers[1]).is_err());
}

#[test]
fn socket_removed_from_a_room_is_recovered_without_it() {
    each(|servers| {
        let lost = Person::new(&servers[0]).lose_stored(&servers[0]);
        servers[1].io.in_(&*lost.sid).leave("room");
        settle(&servers);
        let (mut person, _) = lost.reconnect(&servers[1]).ok().unwrap();
        person.client.send_text("422[\"who\"]");
        person.client.expect_text("432[true,[]]");
    });
}

struct Token;

impl Authenticate for Token {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        let auth: Value = connect.auth().unwrap_or_default();
        let name = auth["token"]
            .as_str()
            .ok_or_else(|| Refusal::unauthenticated("no token"))?;
        Ok(Principal::new(name))
    }
}

#[test]
fn another_user_gets_nothing_of_a_session_at_another_server() {
    let build = |io: Builder| {
        io.recovery(Recovery::default())
            .namespace("/", |namespace| namespace.authenticate(Token))
    };
    let servers = Servers::on_redis(own(), 2, Wire::Journal, build);
    let (mut client, _, answer) = enter(&servers[0], "{\"token\":\"ann\"}");
    servers[0].io.emit("hello", ());
    let (_, offset) = read(&text(&mut client));
    let offer =
        |token: &str| json!({"pid": answer["pid"], "offset": offset, "token": token}).to_string();
    drop(client);
    until(|| servers[0].io.metrics().gauge(Gauge::RecoverySessions) == 1);
    servers[0].io.emit("secret", ());
    servers.settle();
    assert_receives(&servers[1], "{\"token\":\"eve\"}");
    let (_, events, other) = enter(&servers[1], &offer("bob"));
    assert!(events.is_empty() && other["sid"] != answer["sid"]);
    // The session is still available to its user.
    let (_, events, same) = enter(&servers[1], &offer("ann"));
    assert_eq!((events.len(), &same["sid"]), (1, &answer["sid"]));
}

#[test]
fn clients_of_a_stopped_server_are_recovered_at_another() {
    each(|servers| {
        let person = Person::new(&servers[0]);
        let close = servers[0].io.close(Duration::from_secs(5));
        servers[0].runtime.block_on(close);
        let lost = LostClient {
            sid: person.sid.clone(),
            pid: person.pid.clone(),
            offer: person.offer(),
        };
        servers[1].io.to("room").emit("n", 1);
        assert_receives(&servers[1], "");
        let (_, events) = lost.reconnect(&servers[1]).ok().unwrap();
        assert_eq!(events, [json!(["n", 1])]);
    });
}

#[test]
fn local_clients_work_and_recover_during_a_redis_outage() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 2, Wire::Journal, recovering);
    let mut person = Person::new(&servers[0]);
    redis.kill();
    until(|| servers[0].io.adapter_health() != Some(Health::Ready));
    servers[0].io.to("room").emit("alone", ());
    person.client.expect_text("42[\"alone\"]");
    let lost = person.lose(&servers[0]);
    let (mut person, _) = lost.reconnect(&servers[0]).ok().unwrap();
    servers[0].io.to("room").emit("still", ());
    person.client.expect_text("42[\"still\"]");
}
