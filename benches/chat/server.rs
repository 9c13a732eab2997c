//! The load generator of the binary, and the server's metrics.

use std::time::Duration;

use serde_json::Value;

use crate::{
    binary::{BINARY, SECRET, Server},
    processor,
};

/// Runs `roomcast bench chat` with these arguments on these cores, and returns its report.
pub fn load(server: &Server, words: &str, cores: &str) -> Value {
    let url = format!("http://{}", server.address());
    let output = processor::command(cores, BINARY)
        .args(["bench", "chat", &url, "--json"])
        .args(["--server-pid", &server.process().to_string()])
        .args(words.split(' '))
        .envs([SECRET])
        .output()
        .expect("setpriv, taskset and the binary are there");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let log = String::from_utf8_lossy(&output.stderr);
        panic!("no report: {error}: {log}")
    })
}

/// Returns the processing times of messages until now, from the server's metrics.
pub fn processing(server: &Server) -> Processing {
    let bucket = |line: &str| {
        let row = line.strip_prefix("roomcast_message_processing_seconds_bucket{le=\"")?;
        let (bound, count) = row.split_once("\"} ")?;
        let bound = match bound.parse() {
            Ok(seconds) if f64::is_finite(seconds) => Duration::from_secs_f64(seconds),
            _ => Duration::MAX,
        };
        Some((bound, count.trim().parse().ok()?))
    };
    Processing(server.metrics().lines().filter_map(bucket).collect())
}

/// The number of messages whose processing time did not exceed each bound.
pub struct Processing(Vec<(Duration, u64)>);

impl Processing {
    /// Returns the counts since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let both = self.0.iter().zip(&before.0);
        Self(both.map(|(now, then)| (now.0, now.1 - then.1)).collect())
    }

    /// Returns the bound that this share does not exceed, if there were any messages.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.0.last()?.1;
        let needed_count = (share * all as f64).ceil() as u64;
        let found = self.0.iter().find(|(_, count)| *count >= needed_count)?;
        Some(found.0).filter(|_| all > 0)
    }
}
