//! Several servers as one. Whatever works on one server works on three servers, connected by a test
//! adapter, Redis, PostgreSQL or NATS.

mod acks;
mod bounds;
mod emit;
mod fetch;
mod forwarding;
mod garbage;
mod handover;
mod holding_proxy;
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
mod scenarios;
mod sealed;
mod server_side;
mod streams;
mod values;

use std::{
    net::TcpListener,
    ops::Index,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use roomcast::{
    Ack, Builder, Io,
    adapter::{
        Adapter, Health, NodeId, Secrets, Subscriptions, nats::Nats, postgres::Postgres,
        redis::Redis,
    },
    handler::ServerSide,
};
use tokio::time::timeout;

use self::hub::Hub;
use crate::{
    local::{Local, until},
    nats_server::NatsServer,
    postgres_server,
    redis_server::RedisServer,
    support::DEADLINE,
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
        let serve = |_| {
            let mut io = build(Io::builder().adapter(adapter(&key)));
            io = io.namespace("/", |namespace| {
                namespace.on_server_side("meet", async |_: ServerSide| Ack(0_u8))
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
        // A server that receives the events of another one may not know it yet: on a busy machine,
        // the answer to its greeting can arrive later. Only servers that it knows must answer.
        for server in &servers.servers {
            until(|| {
                let main = server.io.of("/");
                let answers = main.server_side_emit_with_acks::<u8>("meet", ());
                let answers = server.runtime.block_on(answers);
                answers.is_ok_and(|answers| answers.len() == count - 1)
            });
        }
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
