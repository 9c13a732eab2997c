//! `roomcast replay`: sends what `roomcast record` stored to any Socket.IO server, and compares the
//! answers and their latency.
//!
//! `file` reads and checks the recording, `player` drives one client per recorded connection,
//! `compare` has the rules of the comparison, and `report` counts and prints.

mod compare;
mod file;
mod player;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use humantime_serde::re::humantime::parse_duration;
use roomcast::client::Options;
use serde_json::{Map, Value};

use self::compare::Comparison;
use self::player::{Pace, play};
use self::report::Report;
use super::output::{fail, out, outln};

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArguments {
    /// File of `roomcast record`.
    file: PathBuf,
    /// URL of the server, such as `http://localhost:3000`.
    url: String,
    /// How many times faster than recorded, 0.1 to 1000.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Keep the order of different connections: send nothing before the earlier lines of the
    /// recording are done, also those of other connections.
    #[arg(long)]
    in_order: bool,
    /// JSON object for the server's authentication; `{user}` is replaced by the recorded user.
    #[arg(long, value_name = "JSON", value_parser = auth)]
    auth: Option<Map<String, Value>>,
    /// Path of Engine.IO requests.
    #[arg(long, default_value = "/socket.io/")]
    path: String,
    /// Time after which an event counts as unanswered, such as `5s`, from 1 ms to 10 minutes.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = answer_timeout)]
    answer_timeout: Duration,
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok();
    let speed = speed.filter(|speed| (MIN_SPEED..=MAX_SPEED).contains(speed));
    speed.ok_or_else(|| "not a number from 0.1 to 1000".to_owned())
}

fn auth(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

fn answer_timeout(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    let is_valid = (MIN_ANSWER_TIMEOUT..=MAX_ANSWER_TIMEOUT).contains(&duration);
    is_valid
        .then_some(duration)
        .ok_or_else(|| "not from 1ms to 10m".to_owned())
}

/// Replays a recording, and prints the report.
///
/// The exit code is 0 if all answers are equal, 3 if answers differ or are missing, and 1 if the
/// recording is invalid or the server cannot be reached.
pub(super) fn run(arguments: &ReplayArguments) -> ExitCode {
    match replay(arguments) {
        Ok(report) => {
            if arguments.json {
                match serde_json::to_string_pretty(&report) {
                    Ok(text) => outln!("{text}"),
                    Err(error) => return fail(true, error, 1),
                }
            } else {
                out!("{report}");
            }
            if report.has_failed() {
                ExitCode::FAILURE
            } else if report.is_equal() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(DIFFERENT)
            }
        }
        Err(error) => fail(arguments.json, error, 1),
    }
}

fn replay(arguments: &ReplayArguments) -> Result<Report, String> {
    let recording = file::read(&arguments.file)?;
    let comparison = Comparison::new(recording.header.masked);
    let comparison = comparison.ok_or("the system has no random numbers")?;
    let options = Options {
        url: arguments.url.clone(),
        path: arguments.path.clone(),
        connect_timeout: CONNECT_TIMEOUT,
        ..Options::default()
    };
    let pace = Pace {
        speed: arguments.speed,
        answer_timeout: arguments.answer_timeout,
        auth: arguments.auth.clone(),
        in_order: arguments.in_order,
    };
    let runtime = super::runtime().map_err(|error| error.to_string())?;
    let tally = runtime.block_on(async {
        // An unreachable server is reported once, not for each connection.
        let options = options.resolve().await;
        let options = options.map_err(|error| format!("{}: {error}", arguments.url))?;
        Ok::<_, String>(play(&recording, &options, &pace, &comparison).await)
    })?;
    Ok(Report::new(&recording, arguments.speed, tally))
}

/// The exit code if answers differ or are missing.
const DIFFERENT: u8 = 3;
const MIN_SPEED: f64 = 0.1;
const MAX_SPEED: f64 = 1000.0;
const MIN_ANSWER_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// The timeout of each connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
