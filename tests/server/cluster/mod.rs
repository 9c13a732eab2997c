//! Several servers as one. Whatever works on one server works on three servers, connected by a test
//! adapter, Redis, PostgreSQL or NATS.

mod acks;
mod bounds;
mod emit;
mod fetch;
mod forwarding;
mod garbage;
mod handover;
mod hub;
mod joining;
mod journal;
mod model;
mod namespaces;
mod nats;
mod nats_cluster;
mod nodes;
mod options;
mod postgres;
mod recovery;
mod redis;
mod redis_cluster;
mod refused;
mod sealed;
mod server_side;
mod streams;
mod values;

use std::{
    net::TcpListener,
    ops::Index,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use roomcast::{
    Builder, Io, SocketId,
    adapter::{
        Adapter, Emitter, Health, NodeId, Secrets,
        nats::Nats,
        postgres::Postgres,
        redis::{Redis, Subscriptions},
    },
    handler::ServerSide,
    metrics::Counter,
    types::Bytes,
};
use tokio::time::timeout;

use self::hub::Hub;
use crate::{
    contracts::Moved,
    local::{Local, text, until},
    nats_server::NatsServer,
    postgres_server,
    redis_server::RedisServer,
    support::{DEADLINE, Frame},
};

/// The transports of the Redis adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Classic,
    Sharded,
    Streams,
    /// Sharded, with a channel for each socket.
    Private,
    /// With a stream that each event passes before it reaches a client.
    Journal,
}

impl Wire {
    const ALL: [Self; 3] = [Self::Classic, Self::Sharded, Self::Streams];

    fn on(self, redis: Redis) -> Redis {
        match self {
            Self::Classic => redis,
            Self::Sharded => redis.sharded(Subscriptions::Rooms),
            Self::Private => redis.sharded(Subscriptions::RoomsAndSockets),
            Self::Streams => redis.streams(),
            Self::Journal => redis.streams().recovery(),
        }
    }
}

/// Servers connected by an adapter; a single server has none.
struct Servers {
    hub: Option<Hub>,
    /// Prefix of channel names.
    key: String,
    servers: Vec<Local>,
}

impl Servers {
    fn alone(build: impl FnOnce(Builder) -> Builder) -> Self {
        Self {
            hub: None,
            key: String::new(),
            servers: vec![Local::serve(build(Io::builder()))],
        }
    }

    fn joined(count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        Self::joined_by(Hub::new(), count, build)
    }

    fn joined_by(hub: Hub, count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        let serve = |_| Local::serve(build(Io::builder().adapter(hub.adapter())));
        Self {
            servers: (0..count).map(serve).collect(),
            hub: Some(hub),
            key: String::new(),
        }
    }

    /// Starts servers connected by Redis, on one of its transports.
    fn on_redis(
        redis: &RedisServer,
        count: usize,
        wire: Wire,
        build: impl Fn(Builder) -> Builder,
    ) -> Self {
        Self::on_redis_at(&redis.url(), count, wire, build)
    }

    fn on_redis_at(
        url: &str,
        count: usize,
        wire: Wire,
        build: impl Fn(Builder) -> Builder,
    ) -> Self {
        Self::on_redis_with(url, count, |redis| wire.on(redis), build)
    }

    /// Starts servers connected by Redis, with these options.
    fn on_redis_with(
        url: &str,
        count: usize,
        options: impl Fn(Redis) -> Redis,
        build: impl Fn(Builder) -> Builder,
    ) -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        // Contains a wildcard, which must not act as one in a pattern.
        let key = format!("test*{cluster}");
        let serve = |_| {
            let adapter = Redis::new(url).unwrap();
            let adapter = options(adapter.key(&key));
            Local::serve(build(Io::builder().adapter(adapter)))
        };
        let servers = Self {
            hub: None,
            servers: (0..count).map(serve).collect(),
            key: key.clone(),
        };
        for server in &servers.servers {
            until(|| server.io.adapter_health() == Some(Health::Ready));
        }
        servers
    }

    /// Starts servers connected by the shared PostgreSQL.
    fn on_postgres(count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        let url = postgres_url();
        Self::serve_and_meet(count, |key| Postgres::new(&url).unwrap().key(key), build)
    }

    /// Starts servers connected by NATS.
    fn on_nats(nats: &NatsServer, count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        let url = nats.url();
        Self::serve_and_meet(count, |key| Nats::new(&url).unwrap().key(key), build)
    }

    /// Starts servers connected by Redis that seal.
    fn sealed_on_redis(
        redis: &RedisServer,
        count: usize,
        wire: Wire,
        build: impl Fn(Builder) -> Builder,
    ) -> Self {
        let sealed = |redis| wire.on(redis).sealed(secrets([1]));
        Self::on_redis_with(&redis.url(), count, sealed, build)
    }

    fn sealed_on_postgres(count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        let url = postgres_url();
        let adapter = |key: &str| Postgres::new(&url).unwrap().key(key);
        Self::serve_and_meet(count, |key| adapter(key).sealed(secrets([1])), build)
    }

    fn sealed_on_nats(nats: &NatsServer, count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        let url = nats.url();
        let adapter = |key: &str| Nats::new(&url).unwrap().key(key);
        Self::serve_and_meet(count, |key| adapter(key).sealed(secrets([1])), build)
    }

    /// Starts servers whose adapters are made from a prefix for their channels.
    fn serve_and_meet<A: Adapter>(
        count: usize,
        adapter: impl Fn(&str) -> A,
        build: impl Fn(Builder) -> Builder,
    ) -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        // Contains a quote, which must not end an identifier.
        let key = format!("test\"{cluster}");
        let met = Arc::new(AtomicUsize::new(0));
        let serve = |_| {
            let mut io = build(Io::builder().adapter(adapter(&key)));
            let met = Arc::clone(&met);
            io = io.namespace("/", |namespace| {
                namespace.on_server_side("meet", move |_: ServerSide| {
                    met.fetch_add(1, Ordering::Relaxed);
                    std::future::ready(())
                })
            });
            Local::serve(io)
        };
        let servers = Self {
            hub: None,
            servers: (0..count).map(serve).collect(),
            key: key.clone(),
        };
        for server in &servers.servers {
            until(|| server.io.adapter_health() == Some(Health::Ready));
        }
        // Each server receives from each server.
        for server in &servers.servers {
            server.io.of("/").server_side_emit("meet", ()).unwrap();
        }
        until(|| met.load(Ordering::Relaxed) == count * (count - 1));
        servers
    }

    /// Runs a suite on one server and on three.
    fn each(build: impl Fn(Builder) -> Builder, suite: impl Fn(&Self)) {
        suite(&Self::alone(&build));
        suite(&Self::joined(3, &build));
        for wire in Wire::ALL {
            suite(&Self::on_redis(RedisServer::shared(), 3, wire, &build));
        }
        suite(&Self::on_postgres(3, &build));
        suite(&Self::on_nats(NatsServer::shared(), 3, &build));
        for wire in Wire::ALL {
            suite(&Self::sealed_on_redis(
                RedisServer::shared(),
                3,
                wire,
                &build,
            ));
        }
        suite(&Self::sealed_on_postgres(3, &build));
        suite(&Self::sealed_on_nats(NatsServer::shared(), 3, &build));
    }

    /// Runs the suites concurrently, for a suite that mostly waits.
    fn each_at_once(build: impl Fn(Builder) -> Builder + Sync, suite: impl Fn(&Self) + Sync) {
        let (build, suite) = (&build, &suite);
        thread::scope(|scope| {
            scope.spawn(|| suite(&Self::alone(build)));
            scope.spawn(|| suite(&Self::joined(3, build)));
            for wire in Wire::ALL {
                scope.spawn(move || suite(&Self::on_redis(RedisServer::shared(), 3, wire, build)));
            }
            scope.spawn(|| suite(&Self::on_postgres(3, build)));
            scope.spawn(|| suite(&Self::on_nats(NatsServer::shared(), 3, build)));
            for wire in Wire::ALL {
                let redis = RedisServer::shared();
                scope.spawn(move || suite(&Self::sealed_on_redis(redis, 3, wire, build)));
            }
            scope.spawn(|| suite(&Self::sealed_on_postgres(3, build)));
            scope.spawn(|| suite(&Self::sealed_on_nats(NatsServer::shared(), 3, build)));
        });
    }

    fn are_alone(&self) -> bool {
        self.servers.len() == 1
    }

    fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    fn node(&self, i: usize) -> NodeId {
        self[i].io.node().unwrap().clone()
    }

    /// Waits until everything published so far has been applied everywhere.
    fn settle(&self) {
        if let Some(hub) = &self.hub {
            return hub.settle();
        }
        // Answers of other servers arrive after everything that was published before the request.
        for server in self.servers.iter().filter(|_| !self.are_alone()) {
            let asked = server.io.to("nobody").timeout(Duration::from_secs(20));
            let fetched = server.runtime.block_on(asked.fetch_sockets());
            assert!(fetched.missing.is_empty(), "{:?}", fetched.missing);
        }
        for server in &self.servers {
            server.runtime.block_on(server.io.rooms_followed());
        }
    }
}

/// Returns the server with this index, modulo their number.
impl Index<usize> for Servers {
    type Output = Local;

    fn index(&self, i: usize) -> &Local {
        &self.servers[i % self.servers.len()]
    }
}

/// Makes secrets from one byte each.
fn secrets<const N: usize>(secrets: [u8; N]) -> Secrets {
    Secrets::new(secrets.map(|secret| [secret; 32])).unwrap()
}

fn postgres_url() -> String {
    let shared = postgres_server::shared();
    format!("postgres://roomcast@127.0.0.1:{}/postgres", shared.port())
}

/// Two servers work without their broker, and reach each other again when it is back. Each event
/// that one of them sends during the outage reaches the other once and in order, or is counted as
/// lost. If servers do not read the missed events later, both report the gap.
fn survives_outage(servers: &Servers, catch_up: bool, fail: impl FnOnce(), restart: impl FnOnce()) {
    let gaps = |i: usize| servers[i].io.adapter_gaps().unwrap();
    assert_eq!([gaps(0).count, gaps(1).count], [0, 0]);
    let (mut a, _) = servers[0].connect();
    let (mut b, id) = servers[1].connect();
    servers[1]
        .io
        .in_(SocketId::parse(&id).unwrap())
        .join("room");
    servers.settle();
    let is_down = |i: usize| matches!(servers[i].io.adapter_health(), Some(Health::Down(_)));
    // Redis servers count each other once a second, and await as many answers as there were then.
    thread::sleep(Duration::from_secs(3));
    let lost = || servers[0].io.metrics().counter(Counter::ClusterLost);
    let before = lost();
    fail();
    // Sent first before either server can have noticed the outage, then after both have.
    let sent: u64 = 80;
    for n in 0..sent {
        if n == sent / 2 {
            until(|| is_down(0) && is_down(1));
        }
        servers[0].io.emit("alone", n);
        a.expect_text(&format!("42[\"alone\",{n}]"));
    }
    // Each server detects the gap once per heartbeat.
    until(|| catch_up || (gaps(0).is_cut_off && gaps(1).is_cut_off));
    restart();
    until(|| !is_down(0) && !is_down(1));
    for gaps in [gaps(0), gaps(1)] {
        assert_eq!(gaps.count > 0, !catch_up, "{gaps:?}");
        assert_eq!(gaps.time.is_zero(), catch_up, "{gaps:?}");
        assert!(!gaps.is_cut_off);
    }
    // Servers report it to each other.
    let told = || {
        let nodes = servers[0].io.nodes();
        nodes.iter().all(|node| (node.load.gaps > 0) != catch_up)
    };
    until(|| servers[0].io.nodes().len() == 2 && told());
    servers.settle();
    servers[0].io.to("room").emit("back", ());
    let mut arrived: Vec<u64> = Vec::new();
    loop {
        let event = text(&mut b);
        if event == "42[\"back\"]" {
            break;
        }
        let number = event.strip_prefix("42[\"alone\",");
        let number = number.and_then(|rest| rest.strip_suffix(']'));
        arrived.push(number.unwrap_or_else(|| panic!("{event}")).parse().unwrap());
    }
    assert!(
        arrived.is_sorted_by(|one, next| one < next),
        "once and in order: {arrived:?}"
    );
    // Lost heartbeats count as well, and messages that arrived may also be counted as lost.
    let lost = lost() - before;
    assert!(
        arrived.len() as u64 + lost >= sent,
        "{} of {sent} have arrived, and {lost} are lost",
        arrived.len()
    );
}

/// A server without peers stops publishing when it knows this for sure, and publishes again from
/// another server's greeting on.
fn publishes_only_to_others<A: Adapter>(adapter: impl Fn() -> A) {
    let serve = || Local::serve(quiet(Io::builder().adapter(adapter())));
    let first = serve();
    let (mut near, _) = first.connect();
    let published = || first.io.metrics().counter(Counter::ClusterSent);
    let mut sent = 0;
    let mut emit = || {
        let before = published();
        first.io.emit("n", sent);
        near.expect_text(&format!("42[\"n\",{sent}]"));
        sent += 1;
        published() > before
    };
    assert!(emit(), "others may be there for all it knows");
    let note = || {
        let before = published();
        first.io.of("/").server_side_emit("note", 1).unwrap();
        published() > before
    };
    // A server that stalls is unsure until it resumes, so all three calls are checked together.
    let has_no_peers = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(20)); // The pace of asking.
        !emit() && !emit() && !note()
    });
    assert!(
        has_no_peers,
        "nobody would hear what servers tell each other"
    );
    // Requests that need answers are published nevertheless.
    let before = published();
    let all = first.runtime.block_on(first.io.fetch_sockets());
    assert!(all.missing.is_empty() && published() > before);
    let second = serve();
    let (mut far, _) = second.connect();
    until(|| second.io.adapter_health() == Some(Health::Ready));
    second.runtime.block_on(second.io.rooms_followed());
    until(|| first.io.nodes().len() == 2);
    for n in 0..100 {
        first.io.emit("far", n);
        far.expect_text(&format!("42[\"far\",{n}]"));
    }
    drop(second);
    let before = published();
    first.io.emit("gone", ());
    assert!(published() > before, "another one may come in its place");
}

/// A broker that accepts connections and never answers, for each adapter.
#[test]
fn silent_broker_is_reported_and_does_not_block_the_server() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let redis = |wire: Wire| wire.on(Redis::new(&format!("redis://127.0.0.1:{port}")).unwrap());
    let url = format!("postgres://roomcast@127.0.0.1:{port}/postgres");
    let adapters: [Box<dyn FnOnce(Builder) -> Builder + Send + '_>; 5] = [
        Box::new(|io| io.adapter(redis(Wire::Classic))),
        Box::new(|io| io.adapter(redis(Wire::Sharded))),
        Box::new(|io| io.adapter(redis(Wire::Streams))),
        Box::new(|io| io.adapter(Postgres::new(&url).unwrap())),
        Box::new(|io| io.adapter(Nats::new(&format!("nats://127.0.0.1:{port}")).unwrap())),
    ];
    thread::scope(|scope| {
        for adapter in adapters {
            scope.spawn(move || {
                let server = Local::serve(quiet(adapter(Io::builder())));
                let (mut client, _) = server.connect();
                until(|| match server.io.adapter_health() {
                    Some(Health::Down(why)) => why != "not connected yet",
                    health => panic!("{health:?}"),
                });
                server.io.emit("here", ());
                client.expect_text("42[\"here\"]");
                let closing = async { timeout(DEADLINE, server.io.close(DEADLINE * 2)).await };
                assert!(server.runtime.block_on(closing).is_ok());
            });
        }
    });
}

/// Adds a namespace without handlers.
fn quiet(mut io: Builder) -> Builder {
    io = io.namespace("/", |namespace| namespace);
    io
}

/// Adds a handler that forwards the event `note` of other servers to clients.
fn noted(mut io: Builder) -> Builder {
    io = io.namespace("/", |namespace| {
        namespace.on_server_side("note", async |event: ServerSide| {
            let namespace = event.namespace();
            namespace.local().emit("noted", event.args().clone());
        })
    });
    io
}

/// A program that is no server does everything that it can to the clients of two [`noted`] servers.
fn reaches_everything(servers: &Servers, emitter: impl FnOnce() -> Emitter) {
    let (mut a, a_id) = servers[0].connect();
    let (mut b, b_id) = servers[1].connect();
    let _runtime = servers[0].runtime.enter();
    let emitter = emitter();
    emitter.emit("all", (1, Bytes::from_static(b"x"))).unwrap();
    let large = "x".repeat(9_000);
    emitter.emit("large", &large).unwrap();
    for client in [&mut a, &mut b] {
        let placeholder = "{\"_placeholder\":true,\"num\":0}";
        client.expect_text(&format!("451-[\"all\",1,{placeholder}]"));
        assert_eq!(client.message(), Frame::Binary(b"x".to_vec()));
        client.expect_text(&format!("42[\"large\",\"{large}\"]"));
    }
    emitter.to([&a_id, &b_id]).join("room").unwrap();
    // The emitter does not wait for the join: the next event finds both sockets in the room.
    emitter.to(Vec::<String>::new()).emit("nobody", ()).unwrap();
    emitter.to("room").except(&a_id).emit("b", ()).unwrap();
    let both = emitter.to("room").without_compression();
    both.emit("both", ()).unwrap();
    a.expect_text("42[\"both\"]");
    b.expect_text("42[\"b\"]");
    b.expect_text("42[\"both\"]");
    emitter.send(Moved { x: 1 }).unwrap();
    emitter.to("room").send(Moved { x: 2 }).unwrap();
    for client in [&mut a, &mut b] {
        client.expect_text("42[\"moved\",{\"x\":1}]");
        client.expect_text("42[\"moved\",{\"x\":2}]");
    }
    emitter.of("/").server_side_emit("note", 7).unwrap();
    for client in [&mut a, &mut b] {
        client.expect_text("42[\"noted\",7]");
    }
    assert!(emitter.emit("disconnect", ()).is_err());
    assert_eq!(emitter.health(), Health::Ready);
    // The emitter is no server, so servers expect no answers from it.
    servers.settle();
    emitter.to(&a_id).leave("room").unwrap();
    emitter.to("room").close_connections().unwrap();
    assert_eq!(servers[0].runtime.block_on(emitter.close()), Ok(()));
    b.expect_text("41");
    servers[0].io.emit("end", ());
    a.expect_text("42[\"end\"]");
    assert!(emitter.emit("closed", ()).is_err());
}
