//! The binary as a process, its load, and what it says of itself.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::processor;

/// `roomcast serve` in a folder of its own, killed with this value.
pub struct Server {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

const BINARY: &str = env!("CARGO_BIN_EXE_roomcast");
/// What the tokens of the clients are signed with.
const SECRET: (&str, &str) = (
    "ROOMCAST_AUTH__JWT__SECRET",
    "a secret that is good enough for a bench",
);
/// Nothing is limited but what the machine does.
const UNLIMITED: [(&str, &str); 6] = [
    ("ROOMCAST_LIMITS__MESSAGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__CHANGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__CONNECTIONS_PER_USER", "0"),
    ("ROOMCAST_ENGINE__PACKETS_PER_SECOND", "0"),
    ("ROOMCAST_ENGINE__BYTES_PER_SECOND", "0"),
];

impl Server {
    /// Starts it on these cores.
    pub fn start(store: &str, cores: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = processor::command(cores, BINARY)
            .arg("serve")
            .current_dir(folder.path())
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", store)
            .envs([SECRET])
            .envs(UNLIMITED)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv, taskset and the binary are there");
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("listening on http://")?;
            let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
            address[..end.unwrap_or(address.len())].parse().ok()
        });
        // A pipe that nobody reads would stop the server sooner or later.
        std::thread::spawn(move || log.for_each(drop));
        Self {
            process,
            address: address.expect("the server starts"),
            _folder: folder,
        }
    }

    /// Plays `roomcast bench chat` with these words on these cores: its report.
    pub fn load(&self, words: &str, cores: &str) -> Value {
        let output = processor::command(cores, BINARY)
            .args([
                "bench",
                "chat",
                &format!("http://{}", self.address),
                "--json",
            ])
            .args(["--server-pid", &self.process.id().to_string()])
            .args(words.split(' '))
            .envs([SECRET])
            .output()
            .expect("setpriv, taskset and the binary are there");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("no report: {error}: {said}")
        })
    }

    /// How long messages have taken until now, as the server counts it.
    pub fn processing(&self) -> Processing {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let bucket = |line: &str| {
            let row = line.strip_prefix("roomcast_message_processing_seconds_bucket{le=\"")?;
            let (bound, count) = row.split_once("\"} ")?;
            let bound = match bound.parse() {
                Ok(seconds) if f64::is_finite(seconds) => Duration::from_secs_f64(seconds),
                _ => Duration::MAX,
            };
            Some((bound, count.trim().parse().ok()?))
        };
        Processing(text.lines().filter_map(bucket).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How many messages took no longer than what.
pub struct Processing(Vec<(Duration, u64)>);

impl Processing {
    /// Those that were not there before.
    pub fn since(&self, before: &Self) -> Self {
        let both = self.0.iter().zip(&before.0);
        Self(both.map(|(now, then)| (now.0, now.1 - then.1)).collect())
    }

    /// The bound that this share does not exceed, if there were any.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.0.last()?.1;
        let wanted = (share * all as f64).ceil() as u64;
        let found = self.0.iter().find(|(_, count)| *count >= wanted)?;
        Some(found.0).filter(|_| all > 0)
    }
}
