//! A private Redis.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// A server of its own. It is gone when this is dropped, and when the process of the test ends.
pub struct RedisServer {
    port: u16,
    supervisor: Child,
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

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
            .map(|node| format!("127.0.0.1:{}", node.port));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .arg("--cluster-yes")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        nodes
    }

    fn start_with(options: &str) -> Self {
        let free = || {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            free.local_addr().unwrap().port()
        };
        let port = free();
        let options = options.replace("BUS", &free().to_string());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/redis.sh");
        let mut supervisor = Command::new(script)
            .arg(port.to_string())
            .env("REDIS_OPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = supervisor.stdin.take().unwrap();
        let answers = BufReader::new(supervisor.stdout.take().unwrap());
        let redis = Self {
            port,
            supervisor,
            talk: Mutex::new(Some((commands, answers))),
        };
        redis.restart();
        redis
    }

    /// One for all tests of the process that do nothing to it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again after it was killed.
    pub fn restart(&self) {
        let answer = self.tell("start");
        assert!(
            answer.starts_with("ready "),
            "Redis does not start: {answer}"
        );
    }

    pub fn kill(&self) {
        assert_eq!(self.tell("kill"), "killed");
    }

    /// It stands still: connections stay, nothing answers.
    pub fn pause(&self) {
        assert_eq!(self.tell("pause"), "paused");
    }

    pub fn resume(&self) {
        assert_eq!(self.tell("resume"), "resumed");
    }

    /// Runs a command of the command line, with the last argument from standard input.
    pub fn command(&self, args: &[&str], last: &[u8]) {
        let mut cli = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "-x"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        cli.stdin.take().unwrap().write_all(last).unwrap();
        assert!(cli.wait().unwrap().success());
    }

    fn tell(&self, command: &str) -> String {
        let mut talk = self.talk.lock().unwrap();
        let (commands, answers) = talk.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.talk.lock().unwrap().take();
        self.supervisor.wait().unwrap();
    }
}
