//! The server binary as a process.

#![allow(dead_code, reason = "each bench uses its part")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
};

use rustix::process::Pid;
use tempfile::TempDir;

use crate::processor;

/// The path of the server binary that was built for benches.
pub const BINARY: &str = env!("CARGO_BIN_EXE_roomcast");
/// The variable and the value of the token secret.
pub const SECRET: (&str, &str) = (
    "ROOMCAST_AUTH__JWT__SECRET",
    "a secret that is good enough for a bench",
);
/// Settings that disable all limits, so that only the machine limits the load.
const UNLIMITED: [(&str, &str); 11] = [
    ("ROOMCAST_LIMITS__MESSAGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__CHANGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__CHANNEL_EVENTS_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__CONNECTIONS_PER_USER", "0"),
    ("ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS", "0"),
    ("ROOMCAST_LIMITS__JOINS_PER_USER", "0"),
    ("ROOMCAST_LIMITS__JOINS_PER_ADDRESS", "0"),
    ("ROOMCAST_ENGINE__PACKETS_PER_SECOND", "0"),
    ("ROOMCAST_ENGINE__BYTES_PER_SECOND", "0"),
];

/// `roomcast serve` in its own folder, killed when this is dropped.
pub struct Server {
    process: Child,
    address: SocketAddr,
    /// The address of its metrics.
    admin: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts it with a store on these cores.
    pub fn start(store: &str, cores: &str) -> Self {
        Self::start_with(store, cores, &[])
    }

    /// Starts it with additional settings, as environment variables.
    pub fn start_with(store: &str, cores: &str, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = processor::command(cores, BINARY)
            .arg("serve")
            .current_dir(folder.path())
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", store)
            .envs([SECRET])
            .envs(UNLIMITED)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv, taskset and the binary are there");
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let [admin, address] = ["admin listener ready", "listening on"].map(|words| {
            let mut lines = log.by_ref().map_while(Result::ok);
            let address = lines.find_map(|line| {
                let (_, rest) = line.split_once(words)?;
                let (_, address) = rest.split_once("http://")?;
                let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
                address[..end.unwrap_or(address.len())].parse().ok()
            });
            address.expect("the server starts")
        });
        // A pipe without a reader would eventually block the server.
        std::thread::spawn(move || log.for_each(drop));
        Self {
            process,
            address,
            admin,
            _folder: folder,
        }
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Returns its metrics.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the server listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Creates a token with these arguments of `roomcast token`.
pub fn token(words: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let output = processor::command("0", BINARY)
        .arg("token")
        .args(words)
        .current_dir(folder.path())
        .envs([SECRET])
        .output()
        .expect("setpriv, taskset and the binary are there");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
