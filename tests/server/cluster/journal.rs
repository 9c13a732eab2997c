//! Clients that come back to another server, which finds their session and what they missed in Redis.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, OnceLock,
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

use super::{Servers, Wire};
use crate::{
    local::{Local, text, until},
    redis_server::RedisServer,
    support::RawClient,
};

fn recovering(io: Builder) -> Builder {
    recovering_for(io, Duration::from_secs(60))
}

fn recovering_for(io: Builder, window: Duration) -> Builder {
    // A machine that stands still for a while decides nothing.
    let recovery = Recovery::default().claim_timeout(Duration::from_secs(10));
    let mut io = io.recovery(recovery.window(window));
    io.namespace("/")
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
            let rooms: Vec<String> = event.socket.rooms().iter().map(Room::to_string).collect();
            Ack((event.socket.recovered(), rooms))
        });
    io
}

/// A Redis that no other test keeps busy: who cannot be told within two seconds starts afresh.
fn own() -> &'static RedisServer {
    static OWN: OnceLock<RedisServer> = OnceLock::new();
    OWN.get_or_init(RedisServer::start)
}

fn two() -> Servers {
    Servers::on_redis(own(), 2, Wire::Journal, recovering)
}

/// Does the same with two servers, and with two that seal what they exchange.
fn each(test: impl Fn(Servers)) {
    test(two());
    test(Servers::sealed_on_redis(
        own(),
        2,
        Wire::Journal,
        recovering,
    ));
}

/// Waits until everything that was sent has come back from Redis everywhere.
fn settle(servers: &Servers) {
    servers.settle();
    servers.servers.iter().for_each(|server| heard(server, ""));
}

/// Waits until a server has heard what it has sent itself.
fn heard(server: &Local, offer: &str) {
    let (mut client, _, answer) = enter(server, offer);
    let id = answer["sid"].as_str().unwrap();
    server.io.to(id).emit("heard", ());
    assert_eq!(read(&text(&mut client)).0, json!(["heard"]));
}

/// A client, as whom it is known and what it has.
struct Person {
    client: RawClient,
    sid: String,
    pid: String,
    offset: String,
}

/// Enters with an offer; the events before the answer, and the answer.
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

/// The arguments of an event without its offset, and the offset.
pub(super) fn read(event: &str) -> (Value, String) {
    let array = event
        .strip_prefix("42")
        .unwrap_or_else(|| panic!("{event}"));
    let mut args: Vec<Value> = serde_json::from_str(array).unwrap();
    let offset = args.pop().unwrap().as_str().unwrap().to_owned();
    (args.into(), offset)
}

impl Person {
    /// One in a room, who has got an event.
    fn new(server: &Local) -> Self {
        let (client, events, answer) = enter(server, "");
        assert!(events.is_empty());
        let text_of = |name: &str| answer[name].as_str().unwrap().to_owned();
        let mut person = Self {
            client,
            sid: text_of("sid"),
            pid: text_of("pid"),
            offset: String::new(),
        };
        person.client.send_text("421[\"join\",\"room\"]");
        person.client.expect_text("431[]");
        server.io.to(&*person.sid).emit("hello", ());
        assert_eq!(person.next(), json!(["hello"]));
        person
    }

    fn next(&mut self) -> Value {
        let (args, offset) = read(&text(&mut self.client));
        self.offset = offset;
        args
    }

    fn offer(&self) -> String {
        json!({"pid": self.pid, "offset": self.offset}).to_string()
    }

    /// Breaks the connection, and waits until other servers find the session.
    fn lose_kept(self, server: &Local) -> Away {
        let away = self.lose(server);
        let keys = ["", "sealed:"].map(|form| format!("sio:session:{form}{}", away.pid));
        until(|| {
            let mut cli = Command::new("redis-cli");
            let asked = cli
                .args(["-u", &own().url(), "EXISTS"])
                .args(&keys)
                .output();
            asked.unwrap().stdout.starts_with(b"1")
        });
        away
    }

    /// Breaks the connection, which the server has noted when this returns.
    fn lose(self, server: &Local) -> Away {
        let recoverable = || server.io.metrics().gauge(Gauge::RecoverySessions);
        let before = recoverable();
        let offer = self.offer();
        let Self {
            client, sid, pid, ..
        } = self;
        drop(client);
        until(|| recoverable() > before);
        Away { sid, pid, offer }
    }
}

/// A client that has no connection.
struct Away {
    sid: String,
    pid: String,
    offer: String,
}

impl Away {
    /// Comes back; the events before the answer. `Err`: as somebody else.
    fn come(&self, server: &Local) -> Result<(Person, Vec<Value>), RawClient> {
        let (client, events, answer) = enter(server, &self.offer);
        if answer["sid"] != *self.sid {
            assert!(events.is_empty(), "{events:?}");
            assert_ne!(answer["pid"], *self.pid);
            return Err(client);
        }
        assert_eq!(answer["pid"], *self.pid);
        let read: Vec<_> = events.iter().map(|event| read(event)).collect();
        let known: Value = serde_json::from_str(&self.offer).unwrap();
        let last = read.last().map(|(_, offset)| offset.clone());
        let offset = last.unwrap_or_else(|| known["offset"].as_str().unwrap().to_owned());
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
fn a_client_goes_on_at_another_server_with_what_it_missed_and_who_it_was() {
    each(|servers| {
        let mut person = Person::new(&servers[0]);
        person.client.send_text("42[\"share\",{\"name\":\"Ann\"}]");
        person.client.send_text("42[\"direct\",1]");
        assert_eq!(person.next(), json!(["n", "direct", 1]));
        let away = person.lose_kept(&servers[0]);
        for n in 0..3 {
            servers[n].io.to("room").emit("n", n);
            servers[n].io.to("other").emit("n", "other");
            servers[n]
                .io
                .to("room")
                .except(&*away.sid)
                .emit("n", "except");
            servers[n].io.to("room").volatile().emit("n", "volatile");
            servers[n].io.emit("all", n);
        }
        settle(&servers);
        let (mut person, events) = away.come(&servers[1]).ok().unwrap();
        let expected = [0, 1, 2].map(|n| [json!(["n", n]), json!(["all", n])]);
        let mut sorted = events.clone();
        sorted.sort_by_key(Value::to_string);
        let mut all = expected.concat();
        all.sort_by_key(Value::to_string);
        assert_eq!(sorted, all);
        // Of each server in its order.
        for parity in [0, 1] {
            let of_one = |args: &&Value| args[1].as_i64().unwrap() % 2 == parity;
            let got: Vec<_> = events.iter().filter(of_one).collect();
            let all = expected.concat();
            assert_eq!(got, all.iter().filter(of_one).collect::<Vec<_>>());
        }
        person.client.send_text("422[\"who\"]");
        person.client.expect_text("432[true,[\"room\"]]");
        let here = servers[1].io.local().in_(&*person.sid);
        let found = servers[1].runtime.block_on(here.fetch_sockets());
        let data: Value = found.sockets[0].data().unwrap();
        assert_eq!(data, json!({"name": "Ann"}));
        servers[0].io.to("room").emit("end", ());
        assert_eq!(person.next(), json!(["end"]));
    });
}

/// Says that something is over when this is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_while_a_client_goes_from_server_to_server() {
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
                        // No more than is kept for a client, however long that takes to come back on a busy machine.
                        if n < next[i].load(Ordering::Relaxed) + 500 {
                            servers[i].io.to("room").emit("n", (i, n));
                            n += 1;
                        }
                        // The pace of the load.
                        thread::sleep(Duration::from_millis(2));
                    }
                    n
                })
            });
            // Whoever writes also ends when something fails here.
            let _over = Over(&done);
            let mut at = 0;
            for _ in 0..20 {
                for _ in 0..10 {
                    take(&person.next());
                }
                let away = person.lose_kept(&servers[at]);
                at += usize::from(at % 3 != 2) + 1;
                let (back, events) = away.come(&servers[at]).ok().unwrap();
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

/// Leads to a Redis, whose answers to those who read a stream can be held back.
struct Between {
    port: u16,
    is_held: AtomicBool,
}

impl Between {
    fn start(redis: &RedisServer) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            is_held: AtomicBool::new(false),
        });
        let (own, url) = (Arc::clone(&between), redis.url());
        let redis = url.strip_prefix("redis://").unwrap().to_owned();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&redis).unwrap();
                let ways = [(&client, &server), (&server, &client)];
                let ways =
                    ways.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
                let reads = Arc::new(AtomicBool::new(false));
                for (is_answer, (from, to)) in [false, true].into_iter().zip(ways) {
                    let (own, reads) = (Arc::clone(&own), Arc::clone(&reads));
                    thread::spawn(move || own.pass(is_answer, &reads, from, to));
                }
            }
        });
        between
    }

    fn pass(&self, is_answer: bool, reads: &AtomicBool, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let passed = &bytes[..length];
            if !is_answer && passed.windows(5).any(|word| word == b"XREAD") {
                reads.store(true, Ordering::Relaxed);
            }
            while is_answer && reads.load(Ordering::Relaxed) && self.is_held.load(Ordering::Relaxed)
            {
                thread::sleep(Duration::from_millis(1)); // The pace of looking.
            }
            if to.write_all(passed).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }
}

#[test]
fn who_comes_to_a_server_that_is_behind_gets_nothing_twice() {
    let between = Between::start(own());
    let servers = Servers::on_redis(own(), 1, Wire::Journal, recovering);
    let url = format!("redis://127.0.0.1:{}", between.port);
    let redis = Wire::Journal.on(Redis::new(&url).unwrap().key(&servers.key));
    let behind = Local::serve(recovering(Io::builder().adapter(redis)));
    let mut person = Person::new(&servers[0]);
    until(|| behind.io.nodes().len() == 2);
    heard(&behind, "");

    between.hold(true);
    for n in 0..5 {
        servers[0].io.to("room").emit("n", n);
        assert_eq!(person.next(), json!(["n", n]));
    }
    let away = person.lose_kept(&servers[0]);
    let (mut person, events) = thread::scope(|scope| {
        let coming = scope.spawn(|| away.come(&behind).ok().unwrap());
        // A server that does not wait lets the client in during this.
        thread::sleep(Duration::from_millis(300));
        between.hold(false);
        coming.join().unwrap()
    });
    assert!(events.is_empty(), "{events:?}");
    servers[0].io.to("room").emit("n", 5);
    assert_eq!(person.next(), json!(["n", 5]));
}

#[test]
fn of_servers_that_are_asked_at_once_one_gets_the_session() {
    each(|servers| {
        for _ in 0..10 {
            let away = Person::new(&servers[0]).lose_kept(&servers[0]);
            let both = thread::scope(|scope| {
                let asked = [0, 1].map(|i| {
                    let (away, server) = (&away, &servers[i]);
                    scope.spawn(move || away.come(server))
                });
                asked.map(|asked| asked.join().unwrap())
            });
            // Both are still there: who left would leave the session to the other.
            assert_eq!(both.iter().filter(|came| came.is_ok()).count(), 1);
        }
    });
}

#[test]
fn who_cannot_get_all_starts_afresh() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 2, Wire::Journal, recovering);
    // The stream was trimmed.
    let away = Person::new(&servers[0]).lose(&servers[0]);
    servers[0].io.to("room").emit("n", 1);
    settle(&servers);
    redis.command(&["XTRIM", &servers.key, "MAXLEN"], b"0");
    assert!(away.come(&servers[1]).is_err());
    // More than is sent to one client.
    let away = Person::new(&servers[0]).lose(&servers[0]);
    for n in 0..2100 {
        servers[0].io.to("room").emit("n", n);
    }
    settle(&servers);
    assert!(away.come(&servers[1]).is_err());
    // It was sent away meanwhile.
    let away = Person::new(&servers[0]).lose(&servers[0]);
    let recoverable = || servers[0].io.metrics().gauge(Gauge::RecoverySessions);
    let before = recoverable();
    servers[1].io.in_(&*away.sid).disconnect(true);
    until(|| recoverable() < before);
    settle(&servers);
    assert!(away.come(&servers[1]).is_err());
}

#[test]
fn who_was_taken_out_of_a_room_is_in_it_nowhere() {
    each(|servers| {
        let away = Person::new(&servers[0]).lose_kept(&servers[0]);
        servers[1].io.in_(&*away.sid).leave("room");
        settle(&servers);
        let (mut person, _) = away.come(&servers[1]).ok().unwrap();
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
        let mut io = io.recovery(Recovery::default());
        io.namespace("/").authenticate(Token);
        io
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
    heard(&servers[1], "{\"token\":\"eve\"}");
    let (_, events, other) = enter(&servers[1], &offer("bob"));
    assert!(events.is_empty() && other["sid"] != answer["sid"]);
    // It is still there for whom it belongs to.
    let (_, events, same) = enter(&servers[1], &offer("ann"));
    assert_eq!((events.len(), &same["sid"]), (1, &answer["sid"]));
}

#[test]
fn clients_of_a_server_that_stops_go_on_at_another_one() {
    each(|servers| {
        let person = Person::new(&servers[0]);
        let close = servers[0].io.close(Duration::from_secs(5));
        servers[0].runtime.block_on(close);
        let away = Away {
            sid: person.sid.clone(),
            pid: person.pid.clone(),
            offer: person.offer(),
        };
        servers[1].io.to("room").emit("n", 1);
        heard(&servers[1], "");
        let (_, events) = away.come(&servers[1]).ok().unwrap();
        assert_eq!(events, [json!(["n", 1])]);
    });
}

#[test]
fn without_redis_local_clients_hear_each_other_and_go_on_where_they_were() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 2, Wire::Journal, recovering);
    let mut person = Person::new(&servers[0]);
    redis.kill();
    until(|| servers[0].io.adapter_health() != Some(Health::Ready));
    servers[0].io.to("room").emit("alone", ());
    person.client.expect_text("42[\"alone\"]");
    let away = person.lose(&servers[0]);
    let (mut person, _) = away.come(&servers[0]).ok().unwrap();
    servers[0].io.to("room").emit("still", ());
    person.client.expect_text("42[\"still\"]");
}
