//! A private Redis.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write as _,
    ops::Deref,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::{broker::Broker, port::free_port};

/// A server of its own. It is gone when this is dropped, and when the process of the test ends.
pub struct RedisServer(Broker);

impl RedisServer {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one that has what it had when it was killed.
    pub fn start_persistent() -> Self {
        Self::start_with("--appendonly yes --appendfsync always")
    }

    /// Starts a cluster of three, and waits until it is one.
    pub fn start_cluster() -> [Self; 3] {
        // The bus of a cluster listens on a port of its own.
        let nodes = [0, 1, 2].map(|_| Self::start_with("--cluster-enabled yes --cluster-port BUS"));
        let addresses = nodes
            .each_ref()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .arg("--cluster-yes")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        nodes
    }

    /// Starts one that has what this one has.
    pub fn start_replica(&self) -> Self {
        Self::start_with(&format!("--replicaof 127.0.0.1 {}", self.port()))
    }

    /// Starts a sentinel, which calls this one `main`.
    pub fn start_sentinel(&self) -> Broker {
        Broker::start("sentinel.sh", &self.port().to_string())
    }

    fn start_with(options: &str) -> Self {
        let options = options.replace("BUS", &free_port().to_string());
        Self(Broker::start("redis.sh", &options))
    }

    /// One for all tests of the process that do nothing to it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Runs a command of the command line, with the last argument from standard input.
    pub fn command(&self, args: &[&str], last: &[u8]) {
        let mut cli = Command::new("redis-cli")
            .args(["-p", &self.port().to_string(), "-x"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        cli.stdin.take().unwrap().write_all(last).unwrap();
        assert!(cli.wait().unwrap().success());
    }
}

impl Deref for RedisServer {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}
