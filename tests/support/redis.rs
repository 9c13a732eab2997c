//! A private Redis.

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

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(20);

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
        Self::clustered("", 0)
    }

    /// Starts a cluster of three, each with a replica that can take its place.
    pub fn start_cluster_with_replicas() -> [Self; 6] {
        let soon = "--cluster-node-timeout 3000 --cluster-replica-validity-factor 0 --repl-diskless-sync-delay 0";
        let nodes = Self::clustered(soon, 1);
        let is_synchronous = |node: &Self| {
            let told = node.ask(&["info", "replication"]);
            told.contains("role:master") || told.contains("master_link_status:up")
        };
        let start = Instant::now();
        while !nodes.iter().all(is_synchronous) {
            assert!(start.elapsed() < DEADLINE, "the replicas are not ready");
            thread::sleep(Duration::from_millis(20)); // The pace of asking.
        }
        nodes
    }

    fn clustered<const N: usize>(options: &str, replicas: usize) -> [Self; N] {
        // The bus of a cluster listens on a port of its own.
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

    /// Starts one that has what this one has.
    pub fn start_replica(&self) -> Self {
        Self::start_with(&format!("--replicaof 127.0.0.1 {}", self.port()))
    }

    /// Starts a sentinel, which calls this one `main`.
    pub fn start_sentinel(&self) -> Broker {
        self.start_sentinel_with("")
    }

    /// Starts a sentinel with more lines of configuration.
    pub fn start_sentinel_with(&self, lines: &str) -> Broker {
        Broker::start("sentinel.sh", &format!("{}\n{lines}", self.port()))
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

    /// What an adapter is given for a cluster of these.
    pub fn cluster_url(nodes: &[Self]) -> String {
        let hosts: Vec<_> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// What it answers a command of the command line; an error is an answer too.
    pub fn ask(&self, args: &[&str]) -> String {
        let port = self.port().to_string();
        let mut cli = Command::new("redis-cli");
        let told = cli.args(["-p", &port]).args(args).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    }

    /// Listens to a channel, or to those of a pattern.
    pub fn listen(&self, command: &str, name: &str) -> Listening {
        let mut cli = Command::new("redis-cli")
            .args(["-p", &self.port().to_string(), command, name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(cli.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        // It ends with what it reads, or with whoever listens.
        thread::spawn(move || {
            let mut told = told.lines().map_while(Result::ok);
            told.try_for_each(|line| tell.send(line))
        });
        let mut listening = Listening { cli, lines };
        // It says that it listens, to what, and to how many.
        assert_eq!(listening.next(), [command, name, "1"]);
        listening
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

/// Somebody who listens to a channel, until this is dropped.
pub struct Listening {
    cli: Child,
    lines: mpsc::Receiver<String>,
}

impl Listening {
    /// The lines of what comes next.
    pub fn next<const N: usize>(&mut self) -> [String; N] {
        [0; N].map(|_| self.lines.recv_timeout(DEADLINE).unwrap())
    }
}

impl Drop for Listening {
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
