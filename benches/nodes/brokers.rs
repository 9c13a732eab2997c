//! What joins the servers, on the core of the clients.

use rustix::process::Pid;

use crate::{nats::NatsServer, postgres::Postgres, processor, redis::RedisServer};

/// What can be asked for.
pub const ADAPTERS: [&str; 5] = [
    "postgres",
    "redis",
    "redis-sharded",
    "redis-streams",
    "nats",
];

/// A broker of its own, gone when this is dropped.
pub struct Broker {
    url: String,
    _process: Process,
}

#[allow(dead_code, reason = "they are held, and nothing else")]
enum Process {
    Postgres(Postgres),
    Redis(RedisServer),
    Nats(NatsServer),
}

impl Broker {
    /// Starts what an adapter needs.
    pub fn start(adapter: &str) -> Self {
        let redis = || {
            let server = RedisServer::start();
            (server.url(), Process::Redis(server))
        };
        // What is started from here has this process's core, PostgreSQL the one it is given.
        let (url, process) = match adapter {
            "postgres" => {
                let server = Postgres::start_durable();
                let all: Vec<Pid> = server.processes();
                for process in all {
                    processor::pin(process, &processor::cores().database);
                }
                (server.database(), Process::Postgres(server))
            }
            "nats" => {
                let server = NatsServer::start();
                (server.url(), Process::Nats(server))
            }
            _ => redis(),
        };
        Self {
            url: match adapter {
                "redis-sharded" => url.replacen("redis:", "redis+sharded:", 1),
                "redis-streams" => url.replacen("redis:", "redis-streams:", 1),
                _ => url,
            },
            _process: process,
        }
    }

    /// What the contract server takes as its adapter.
    pub fn url(&self) -> &str {
        &self.url
    }
}
