//! The broker that connects the servers, on the core of the clients.

use rustix::process::Pid;

use crate::{nats::NatsServer, postgres::Postgres, processor, redis::RedisServer};

/// The adapters that the command line accepts.
pub const ADAPTERS: [&str; 5] = [
    "postgres",
    "redis",
    "redis-sharded",
    "redis-streams",
    "nats",
];

/// A private broker, stopped when this is dropped.
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
    /// Starts the broker of an adapter.
    pub fn start(adapter: &str) -> Self {
        let redis = || {
            let server = RedisServer::start();
            (server.url(), Process::Redis(server))
        };
        // Brokers started here inherit this process's core; PostgreSQL is moved to it explicitly.
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

    /// Returns the adapter URL for the contract server.
    pub fn url(&self) -> &str {
        &self.url
    }
}
