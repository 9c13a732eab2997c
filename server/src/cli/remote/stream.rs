//! `roomcast stream`: sends a message whose text is read from standard input while it is written.

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use form_urlencoded::Serializer;
use futures_util::stream;
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::super::output::errln;
use super::super::progress::Progress;
use super::{ANSWER, Caller, MAX_BYTES, Server, print, refusal, run};
use crate::auth::jwt::jwks::exchange;
use crate::config::Settings;

/// Arguments of `stream`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct StreamArguments {
    /// Conversation of the message.
    #[arg(long)]
    conversation: Uuid,
    /// User who sends the message; must be a member.
    #[arg(long, allow_hyphen_values = true)]
    user: String,
    /// Name of the user. Default: the id.
    #[arg(long, allow_hyphen_values = true)]
    name: Option<String>,
    /// Mark the message as written by a language model.
    #[arg(long)]
    ai: bool,
    /// Id under which a repeated command goes on with the message. It sends the text from its
    /// beginning.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    client_id: Option<String>,
    /// Read lines of JSON, `{"text": …}`, instead of text.
    #[arg(long, conflicts_with = "select")]
    lines: bool,
    /// Read server-sent events, and take the text at this place in the `data` of each:
    /// `choices.0.delta.content`.
    #[arg(long, value_name = "PLACE")]
    select: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Sends standard input as a message, and prints the stored message.
pub(in crate::cli) fn stream(settings: &Settings, arguments: &StreamArguments) -> ExitCode {
    if io::stdin().is_terminal() {
        errln!("roomcast: writing from the terminal; end the message with Ctrl+D");
    }
    run(async {
        // The server ends the stream when the token expires.
        let caller = Caller::for_time(settings, &arguments.server, super::SERVICE, LONGEST)?;
        let (url, request) = caller.request(None, Method::POST, &path(arguments), String::new())?;
        let (mut parts, _) = request.into_parts();
        let kind = match (arguments.lines, &arguments.select) {
            (true, _) => "application/x-ndjson",
            (false, Some(_)) => "text/event-stream",
            (false, None) => "text/plain; charset=utf-8",
        };
        let kind = HeaderValue::from_static(kind);
        parts.headers.insert(header::CONTENT_TYPE, kind);
        let sent = Arc::new(Sent::default());
        let body = StreamBody::new(stream::unfold(input(), {
            let sent = Arc::clone(&sent);
            move |mut parts| {
                let sent = Arc::clone(&sent);
                async move {
                    sent.has_begun.store(true, Ordering::Relaxed);
                    let part = parts.recv().await;
                    sent.note(part.as_ref());
                    part.map(|part| (part.map(Frame::data), parts))
                }
            }
        }));
        let request = http::Request::from_parts(parts, body.boxed_unsync());
        let answer = tokio::select! {
            answer = exchange(&url, request, MAX_BYTES) => answer,
            () = sent.watch() => return Err(format!("{}: no answer in time", caller.url)),
        };
        let (status, text) = answer.map_err(|error| format!("{}: {error}", caller.url))?;
        if !status.is_success() {
            return Err(refusal(status, &text));
        }
        print(&serde_json::from_str::<Value>(&text).unwrap_or_default())
    })
}

fn path(arguments: &StreamArguments) -> String {
    let conversation = arguments.conversation;
    let mut query = Serializer::new(format!("/conversations/{conversation}/messages/stream?"));
    query.append_pair("userId", &arguments.user);
    for (name, value) in [
        ("userName", &arguments.name),
        ("clientMessageId", &arguments.client_id),
        ("select", &arguments.select),
    ] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    if arguments.ai {
        query.append_pair("type", "ai");
    }
    query.finish()
}

/// Returns standard input in parts. A thread reads it, because it cannot be read without blocking.
fn input() -> mpsc::Receiver<io::Result<Bytes>> {
    let (parts, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; PART];
        loop {
            let part = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(
                    buffer.get(..count).unwrap_or_default(),
                )),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let has_failed = part.is_err();
            if parts.blocking_send(part).is_err() || has_failed {
                return;
            }
        }
    });
    receiver
}

/// What was sent so far.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    /// Whether the server takes the body.
    has_begun: AtomicBool,
    has_ended: AtomicBool,
}

impl Sent {
    fn note(&self, part: Option<&io::Result<Bytes>>) {
        match part {
            Some(Ok(part)) => {
                let bytes = part.len() as u64;
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Some(Err(_)) => {}
            None => self.has_ended.store(true, Ordering::Relaxed),
        }
    }

    /// Shows the progress. Returns when the connection, or the answer after the end of the input,
    /// is overdue.
    async fn watch(&self) {
        let progress = Progress::counting("bytes sent:");
        let mut ticks = interval(TICK);
        let mut deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline {
            ticks.tick().await;
            progress.reach(self.bytes.load(Ordering::Relaxed));
            let is_waiting = self.has_begun.load(Ordering::Relaxed);
            if is_waiting && !self.has_ended.load(Ordering::Relaxed) {
                deadline = Instant::now() + ANSWER;
            }
        }
    }
}

/// The longest time that a message may take.
const LONGEST: Duration = Duration::from_secs(3600);
/// The size of a part of the input, in bytes.
const PART: usize = 8 << 10;
/// The interval between updates of the progress.
const TICK: Duration = Duration::from_millis(100);
