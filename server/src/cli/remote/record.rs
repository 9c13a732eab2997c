//! `roomcast record`: stores what clients send to a running server, for `roomcast replay`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use form_urlencoded::Serializer;
use http::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::super::output::outln;
use super::lines::read_lines;
use super::trace::{ADMIN, duration};
use super::{ANSWER, Caller, Server, run};
use crate::auth::jwt::jwks::request_with;
use crate::config::{Settings, private_files};
use crate::metrics::trace::{Ended, RecordLine};

/// Arguments of `record`.
#[derive(Clone, Debug, Args)]
#[group(id = "recorded", required = true, multiple = false, args = ["user", "socket", "everyone"])]
pub(in crate::cli) struct RecordArguments {
    /// File to create, with mode 0600. It must not exist.
    file: PathBuf,
    /// Record the user with this id.
    #[arg(long, allow_hyphen_values = true)]
    user: Option<String>,
    /// Record the socket with this id.
    #[arg(long, allow_hyphen_values = true)]
    socket: Option<String>,
    /// Record all connections of the server.
    #[arg(long)]
    everyone: bool,
    /// Duration, such as `90s` or `10m`, from a second to an hour.
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// Why the recorded users agreed, for the audit log. Texts and ids of users are then recorded
    /// as they are, secrets still are not. The caller needs the permission `trace:unmasked` as
    /// well.
    #[arg(long, value_name = "TEXT")]
    consent: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Stores a recording until it ends or the command is interrupted.
pub(in crate::cli) fn record(settings: &Settings, arguments: &RecordArguments) -> ExitCode {
    run(async {
        // The server ends the stream when the token expires.
        let time = arguments.duration + ANSWER;
        let caller = Caller::for_time(settings, &arguments.server, ADMIN, time)?;
        let (url, request) = caller.request(None, Method::GET, &path(arguments), String::new())?;
        let mut output = Output::create(&arguments.file)?;
        let deadline = Instant::now() + arguments.duration + ANSWER;
        let read = async |response| read_lines(response, |line| output.store(line)).await;
        let read = tokio::time::timeout_at(deadline, request_with(&url, request, read));
        let outcome = tokio::select! {
            outcome = read => Some(outcome),
            interrupted = interrupted() => {
                interrupted.map_err(|error| error.to_string())?;
                None
            }
        };
        let outcome = match outcome {
            None => output.interrupt(),
            Some(Err(_)) => Err(format!("{}: the stream did not end", caller.url)),
            Some(Ok(Err(error))) => Err(format!("{}: {error}", caller.url)),
            Some(Ok(Ok(outcome))) => outcome,
        };
        output.finish(outcome)
    })
}

fn path(arguments: &RecordArguments) -> String {
    let mut query = Serializer::new("/recording?".to_owned());
    for (name, value) in [
        ("userId", &arguments.user),
        ("socketId", &arguments.socket),
        ("consent", &arguments.consent),
    ] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    if arguments.everyone {
        query.append_pair("everyone", "true");
    }
    query.append_pair("seconds", &arguments.duration.as_secs().to_string());
    query.finish()
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}

/// The file of a recording.
struct Output<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    start: Instant,
    lines: u64,
    events: u64,
    connections: u64,
    dropped: bool,
}

impl<'a> Output<'a> {
    fn create(path: &'a Path) -> Result<Self, String> {
        let file = private_files::open(path, OpenOptions::new().write(true).create_new(true));
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            path,
            file: BufWriter::new(file),
            start: Instant::now(),
            lines: 0,
            events: 0,
            connections: 0,
            dropped: false,
        })
    }

    /// Stores a line. Returns whether it is the last.
    fn store(&mut self, line: &str) -> Result<bool, String> {
        let is = |kind: &str| {
            let rest = line.strip_prefix("{\"");
            rest.and_then(|rest| rest.strip_prefix(kind))
                .is_some_and(|rest| rest.starts_with('"'))
        };
        self.lines += 1;
        self.events += u64::from(is("event"));
        self.connections += u64::from(is("open"));
        self.dropped |= is("dropped");
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(is("end"))
    }

    /// Ends the recording because the command was interrupted.
    fn interrupt(&mut self) -> Result<(), String> {
        if self.lines == 0 {
            return Err("interrupted before the recording started".to_owned());
        }
        let end = RecordLine::End(Ended {
            at_ms: self.start.elapsed().as_millis() as f64,
            reason: "interrupted".to_owned(),
        });
        self.store(&end.text()).map(|_| ())
    }

    /// Removes an empty file, and reports what was recorded.
    fn finish(self, outcome: Result<(), String>) -> Result<(), String> {
        let path = self.path.display();
        if self.lines == 0 {
            let _ = std::fs::remove_file(self.path);
            return outcome;
        }
        if let Err(error) = outcome {
            return Err(format!("{error}; {path} has the lines until then"));
        }
        let (events, connections) = (self.events, self.connections);
        outln!("recorded {events} events of {connections} connections in {path}");
        if self.dropped {
            outln!("some lines found no place in the queue: the recording is incomplete");
        }
        Ok(())
    }
}
