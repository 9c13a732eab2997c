//! A private Redis server.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    ops::Deref,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{broker::Broker, port::free_port};

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// A private server, stopped on drop and when the test process ends.
pub struct RedisServer(Broker);

impl RedisServer {
    /// Starts a server.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server that keeps its data when it is killed and restarted.
    pub fn start_persistent() -> Self {
        Self::start_with("--appendonly yes --appendfsync always")
    }

    /// Starts a cluster of three servers, and waits until it has formed.
    pub fn start_cluster() -> [Self; 3] {
        Self::clustered("", 0)
    }

    /// Starts a cluster of three servers, each with a replica that can replace it.
    pub fn start_cluster_with_replicas() -> [Self; 6] {
        let soon = "--cluster-node-timeout 3000 --cluster-replica-validity-factor 0 --repl-diskless-sync-delay 0";
        let nodes = Self::clustered(soon, 1);
        let is_synchronous = |node: &Self| {
            let output = node.ask(&["info", "replication"]);
            output.contains("role:master") || output.contains("master_link_status:up")
        };
        let start = Instant::now();
        while !nodes.iter().all(is_synchronous) {
            assert!(start.elapsed() < DEADLINE, "the replicas are not ready");
            thread::sleep(Duration::from_millis(20)); // Poll interval.
        }
        nodes
    }

    fn clustered<const N: usize>(options: &str, replicas: usize) -> [Self; N] {
        // The cluster bus needs its own port.
        let options = format!("--cluster-enabled yes --cluster-port BUS {options}");
        let nodes = [0; N].map(|_| Self::start_with(&options));
        let addresses = nodes
            .each_ref()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-yes", "--cluster-replicas", &replicas.to_string()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        nodes
    }

    /// Starts a replica of this server.
    pub fn start_replica(&self) -> Self {
        Self::start_with(&format!("--replicaof 127.0.0.1 {}", self.port()))
    }

    /// Starts a sentinel, which knows this server as `main`.
    pub fn start_sentinel(&self) -> Broker {
        self.start_sentinel_with("")
    }

    /// Starts a sentinel with additional lines of configuration.
    pub fn start_sentinel_with(&self, lines: &str) -> Broker {
        Broker::start("sentinel.sh", &format!("{}\n{lines}", self.port()))
    }

    fn start_with(options: &str) -> Self {
        let options = options.replace("BUS", &free_port().to_string());
        Self(Broker::start("redis.sh", &options))
    }

    /// Returns a server for all tests of the process that do not disturb it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Returns the URL with which an adapter connects to a cluster of these servers.
    pub fn cluster_url(nodes: &[Self]) -> String {
        let hosts: Vec<_> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Runs a command with `redis-cli` and returns the answer, which may be an error.
    pub fn ask(&self, args: &[&str]) -> String {
        let port = self.port().to_string();
        let mut cli = Command::new("redis-cli");
        let output = cli.args(["-p", &port]).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Subscribes to a channel or a pattern.
    pub fn listen(&self, command: &str, name: &str) -> Subscription {
        let mut cli = Command::new("redis-cli")
            .args(["-p", &self.port().to_string(), command, name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(cli.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        // The thread ends when its input ends or the receiver is dropped.
        thread::spawn(move || {
            let mut output = output.lines().map_while(Result::ok);
            output.try_for_each(|line| tell.send(line))
        });
        let mut listening = Subscription { cli, lines };
        // The answer confirms the command, the name and the number of subscriptions.
        assert_eq!(listening.next(), [command, name, "1"]);
        listening
    }

    /// Runs a command with `redis-cli`, with the last argument from standard input.
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

/// A subscription to a channel, until it is dropped.
pub struct Subscription {
    cli: Child,
    lines: mpsc::Receiver<String>,
}

impl Subscription {
    /// Returns the next lines.
    pub fn next<const N: usize>(&mut self) -> [String; N] {
        [0; N].map(|_| self.lines.recv_timeout(DEADLINE).unwrap())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cli.kill().unwrap();
        self.cli.wait().unwrap();
    }
}

impl Deref for RedisServer {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}
