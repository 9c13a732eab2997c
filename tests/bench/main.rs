//! `roomcast bench` as a separate process, against Roomcast servers and other programs. The tests
//! check its output, never its speed.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/local.rs"]
mod local;
#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "sqlite")]
mod chat;
mod faults;
mod figures;
mod trouble;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The output and exit code of a benchmark.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Outcome {
    /// Returns the report, which must be JSON.
    fn report(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }

    /// Returns the error, which must be a single line and the only output, with exit code 2.
    fn error(&self) -> &str {
        assert_eq!(self.code, 2, "{} {}", self.out, self.err);
        assert_eq!(self.out, "");
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err.trim_end()
    }
}

/// The folder of the development key, by which a benchmark and the chat that it measures know each
/// other.
const STATE: &str = env!("CARGO_TARGET_TMPDIR");

/// Runs a benchmark with these arguments, and small defaults for the rest.
fn bench(words: &str) -> Outcome {
    finish(command(words).output().unwrap())
}

/// Returns the command without starting it.
fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    command.arg("bench").args(words.split_whitespace());
    command.env("XDG_STATE_HOME", STATE);
    for (option, value) in [
        ("--warmup", "0.1"),
        ("--duration", "0.5"),
        ("--drain", "20"),
    ] {
        if !words.contains(option) {
            command.args([option, value]);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn finish(output: Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Returns the number at a path of a report.
fn count(report: &Value, path: &str) -> u64 {
    let value = report.pointer(path);
    let value = value.and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no number at {path}: {report:#}"))
}

/// Asserts that a run was complete and the server made no mistake.
fn assert_clean(outcome: &Outcome) -> Value {
    let report = outcome.report();
    assert_eq!(outcome.code, 0, "{report:#}");
    assert_eq!(report["complete"], true, "{report:#}");
    assert_eq!(report["problems"], serde_json::json!([]));
    for fault in [
        "lost",
        "duplicate",
        "outOfOrder",
        "corrupt",
        "misrouted",
        "unanswered",
    ] {
        let found = report["messages"].get(fault);
        assert!(found.is_none_or(|found| found == 0), "{fault}: {report:#}");
    }
    report
}
