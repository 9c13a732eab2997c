//! A private NATS.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]

use std::{ops::Deref, sync::OnceLock};

use crate::broker::Broker;

/// A server of its own. It is gone when this is dropped, and when the process of the test ends.
pub struct NatsServer(Broker);

impl NatsServer {
    /// Starts one that keeps messages.
    pub fn start() -> Self {
        Self::start_with("-js")
    }

    /// Starts one with these options of its command line; `FOLDER` in them is a folder of its own.
    pub fn start_with(options: &str) -> Self {
        Self(Broker::start("nats.sh", options))
    }

    /// One for all tests of the process that do nothing to it.
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
