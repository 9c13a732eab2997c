//! A private NATS server.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]

use std::{ops::Deref, sync::OnceLock};

use crate::{broker::Broker, port::free_port};

/// A private server, stopped on drop and when the test process ends.
pub struct NatsServer(Broker);

impl NatsServer {
    /// Starts a server that stores messages.
    pub fn start() -> Self {
        Self::start_with("-js")
    }

    /// Starts a server with these command line options, in which `FOLDER` stands for a new folder.
    pub fn start_with(options: &str) -> Self {
        Self(Broker::start("nats.sh", options))
    }

    /// Starts a cluster of three servers, which do not advertise each other to clients. Each is
    /// returned with the port of its HTTP monitoring.
    pub fn cluster() -> [(Self, u16); 3] {
        let routes: [u16; 3] = std::array::from_fn(|_| free_port());
        std::array::from_fn(|n| {
            let others = routes.iter().filter(|port| **port != routes[n]);
            let others: Vec<_> = others
                .map(|port| format!("nats://127.0.0.1:{port}"))
                .collect();
            let (own, others, port) = (routes[n], others.join(","), free_port());
            let options = format!(
                "-js --name n{n} -m {port} --cluster_name roomcast --no_advertise \
                 --cluster nats://127.0.0.1:{own} --routes {others}"
            );
            (Self::start_with(&options), port)
        })
    }

    /// Returns a server for all tests of the process that do not disturb it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<NatsServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }
}

impl Deref for NatsServer {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}
