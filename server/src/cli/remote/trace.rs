//! `roomcast trace`: shows what happens to a user, a socket or a conversation.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use form_urlencoded::Serializer;
use http::{Method, Response};
use http_body_util::BodyExt as _;
use humantime_serde::re::humantime::parse_duration;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::super::output::outln;
use super::{ANSWER, Caller, Server, refusal, run};
use crate::auth::jwt::jwks::{FetchError, request_with};
use crate::config::Settings;

/// Arguments of `trace`.
#[derive(Clone, Debug, Args)]
#[group(id = "selection", required = true, multiple = false, args = ["user", "socket", "conversation"])]
pub(in crate::cli) struct TraceArguments {
    /// Follow the user with this id.
    #[arg(long, allow_hyphen_values = true)]
    user: Option<String>,
    /// Follow the socket with this id.
    #[arg(long, allow_hyphen_values = true)]
    socket: Option<String>,
    /// Follow the conversation with this id.
    #[arg(long)]
    conversation: Option<Uuid>,
    /// Duration, such as `90s` or `10m`, from a second to an hour.
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// Also show texts and whole addresses. The caller needs the permission `trace:unmasked`.
    #[arg(long)]
    unmasked: bool,
    #[command(flatten)]
    server: Server,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    let is_valid = (1..=MAX_SECONDS).contains(&duration.as_secs()) && duration.subsec_nanos() == 0;
    is_valid
        .then_some(duration)
        .ok_or_else(|| "not whole seconds from 1s to 1h".to_owned())
}

/// Prints the lines of a trace until it ends.
pub(in crate::cli) fn trace(settings: &Settings, arguments: &TraceArguments) -> ExitCode {
    run(async {
        let role = if arguments.unmasked {
            ADMIN
        } else {
            super::SERVICE
        };
        // The server ends the stream when the token expires.
        let time = arguments.duration + ANSWER;
        let caller = Caller::for_time(settings, &arguments.server, role, time)?;
        let (url, request) = caller.request(None, Method::GET, &path(arguments), String::new())?;
        let deadline = Instant::now() + arguments.duration + ANSWER;
        let read = async |response| print_lines(response).await;
        let read = request_with(&url, request, read);
        let outcome = tokio::time::timeout_at(deadline, read).await;
        let outcome = outcome.map_err(|_| format!("{}: the stream did not end", caller.url))?;
        outcome.map_err(|error| format!("{}: {error}", caller.url))?
    })
}

fn path(arguments: &TraceArguments) -> String {
    let mut query = Serializer::new("/trace?".to_owned());
    let conversation = arguments.conversation.map(|id| id.to_string());
    for (name, value) in [
        ("userId", &arguments.user),
        ("socketId", &arguments.socket),
        ("conversationId", &conversation),
    ] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.append_pair("seconds", &arguments.duration.as_secs().to_string());
    if arguments.unmasked {
        query.append_pair("unmasked", "true");
    }
    query.finish()
}

/// Prints the lines of a response. The inner error is the reason of a refusal or of an early end.
async fn print_lines(response: Response<Incoming>) -> Result<Result<(), String>, FetchError> {
    let status = response.status();
    let mut body = response.into_body();
    let mut rest = Vec::new();
    let mut has_ended = false;
    // The server sends at least an empty line every few seconds.
    while let Some(frame) = timeout(SILENCE, body.frame())
        .await
        .map_err(|_| FetchError::Broken)?
    {
        let frame = frame.map_err(FetchError::Http)?;
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        if rest.len() > MAX_LINE {
            return Err(FetchError::TooLarge(MAX_LINE));
        }
        if !status.is_success() {
            continue;
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if !line.is_empty() {
                has_ended = line.contains(ENDED);
                outln!("{line}");
            }
        }
    }
    if !status.is_success() {
        return Ok(Err(refusal(status, &String::from_utf8_lossy(&rest))));
    }
    Ok(if has_ended {
        Ok(())
    } else {
        Err("the server ended the stream early".to_owned())
    })
}

/// The role of a caller that may see texts.
const ADMIN: &str = "admin";
/// The field that marks the last line.
const ENDED: &str = r#""step":"ended""#;
/// Maximum duration of a trace in seconds.
const MAX_SECONDS: u64 = 3600;
/// Maximum bytes of a line.
const MAX_LINE: usize = 1 << 20;
/// The time without any line after which the server counts as gone.
const SILENCE: Duration = Duration::from_secs(20);
