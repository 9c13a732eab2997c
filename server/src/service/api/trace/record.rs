//! Records what clients send to this server, for `roomcast replay`.
//!
//! A recording has the connections of the called server only: offsets of several servers would need
//! one clock, and the payloads of users would pass through the broker.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{RENEWAL_INTERVAL, RETRY_AFTER, StreamCaller, selected};
use crate::auth::Permission;
use crate::metrics::trace::{
    Backlog, Dropped, Ended, Filter, Header, Line, Lines, Masker, Policy, RecordLine, Recorder,
    Tracer, Traces, VERSION, Vocabulary,
};
use crate::service::authorization::{Access, Allowed};
use crate::service::documents::Catalogue;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::UserId;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::event::Command;
use roomcast::Io;

/// `GET /api/v1/recording`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    /// Record this user. Exactly one of `userId`, `socketId` and `everyone` is required.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// Record this socket.
    pub(crate) socket_id: Option<String>,
    /// Record all connections.
    #[serde(default)]
    pub(crate) everyone: bool,
    /// Seconds after which the recording ends, 1 to 3,600. Default 600.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) seconds: Option<u64>,
    /// Why the recorded users agreed, 1 to 256 bytes. Texts and ids of users are then recorded
    /// as they are; otherwise they are replaced. Requires the permission `trace:unmasked` as well.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) consent: Option<String>,
}

impl Command for Record {
    const PERMISSION: Option<Permission> = Some(Permission::TrafficRecord);
}

/// A running recording. Dropping it ends the recording.
#[derive(Debug)]
pub(crate) struct Recording {
    traces: Traces,
    tracer: Arc<Tracer>,
    lines: Lines,
    /// The sockets that were connected before.
    backlog: Backlog,
    /// The first line, until it is returned.
    header: Option<Line>,
    /// When an empty line shows that the stream is alive.
    alive_at: Instant,
    caller: StreamCaller,
    has_ended: bool,
}

/// Returns the names that masked recordings keep: those of the catalogue of events.
pub(crate) fn vocabulary() -> Arc<Vocabulary> {
    static VOCABULARY: LazyLock<Arc<Vocabulary>> =
        LazyLock::new(|| Arc::new(Vocabulary::of(&Catalogue::new().json_schema())));
    Arc::clone(&VOCABULARY)
}

/// Starts a recording.
///
/// # Errors
///
/// If the query is invalid, the caller may not see texts and states a consent, or too many traces
/// and recordings run.
pub(crate) fn record(
    io: &Io,
    access: &Access,
    allowed: Allowed<Record>,
) -> Result<Recording, ServiceError> {
    let (by, command) = allowed.into_parts();
    let seconds = super::seconds(command.seconds)?;
    let filter = filter(&command)?;
    let policy = match &command.consent {
        Some(text) => {
            access.require(&by, Permission::TraceUnmasked)?;
            check_consent(text)?;
            Policy::Consented
        }
        None => Policy::Masked(vocabulary()),
    };
    let unavailable = || ServiceError::limited(RETRY_AFTER);
    let recorder = Recorder::new(Masker::new(policy).ok_or_else(unavailable)?);
    let is_masked = recorder.is_masked();
    let traces = io.state::<Traces>().clone();
    let started_at = Timestamp::now().to_string();
    let started = traces.start_recording(filter.clone(), recorder, io);
    let (tracer, lines, backlog) = started.map_err(|_| unavailable())?;
    let header = RecordLine::Recording(Header {
        version: VERSION,
        started_at,
        server: env!("CARGO_PKG_VERSION").to_owned(),
        node: tracer.node().to_owned(),
        selection: selection(&filter).to_owned(),
        masked: is_masked,
        consent: command.consent,
    });
    let caller = StreamCaller::new(access, by, Permission::TrafficRecord, !is_masked, seconds);
    caller.log("recording started", &filter, Some(seconds));
    Ok(Recording {
        traces,
        tracer,
        lines,
        backlog,
        header: Some(header.text()),
        alive_at: Instant::now() + RENEWAL_INTERVAL,
        caller,
        has_ended: false,
    })
}

/// Returns what a query selects.
fn filter(command: &Record) -> Result<Filter, ServiceError> {
    match (&command.user_id, &command.socket_id, command.everyone) {
        (None, None, true) => Ok(Filter::Everyone),
        (user, socket, false) => selected(user.as_deref(), socket.as_deref(), None, "everyone"),
        (Some(_), _, true) | (_, Some(_), true) => Err(ServiceError::invalid(
            "everyone",
            "must not be combined with userId or socketId",
        )),
    }
}

/// Returns the kind of a selection. Ids are not part of a masked recording.
const fn selection(filter: &Filter) -> &'static str {
    match filter {
        Filter::User(_) => "user",
        Filter::Socket(_) => "socket",
        Filter::Conversation(_) => "conversation",
        Filter::Everyone => "everyone",
    }
}

fn check_consent(text: &str) -> Result<(), ServiceError> {
    let is_valid = (1..=MAX_CONSENT).contains(&text.len())
        && !text.trim().is_empty()
        && !text.chars().any(char::is_control);
    if is_valid {
        return Ok(());
    }
    let rule = "must have 1 to 256 bytes, no control characters, and not only spaces";
    Err(ServiceError::invalid("consent", rule))
}

impl Recording {
    /// Returns the next line, an empty text if nothing happens for a while, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        if self.has_ended {
            return None;
        }
        if let Some(header) = self.header.take() {
            return Some(header);
        }
        loop {
            if let Some(reason) = self.caller.end_reason() {
                return Some(self.last_line(reason));
            }
            // A full recording queues no more lines.
            if self.recorder().is_some_and(Recorder::is_full) {
                return match self.lines.try_recv() {
                    Ok(line) => Some(self.taken(line)),
                    Err(_) => Some(self.last_line("the recording is full")),
                };
            }
            self.backlog.observe_some(&self.tracer);
            let lines = self.tracer.take_dropped();
            if lines > 0 {
                return Some(RecordLine::Dropped(Dropped { lines }).text());
            }
            tokio::select! {
                // Queued lines come before the end.
                biased;
                Some(line) = self.lines.recv() => return Some(self.taken(line)),
                () = self.tracer.stopped() => return Some(self.last_line("the server shuts down")),
                () = self.caller.due() => {}
                () = sleep_until(self.alive_at) => {
                    self.alive_at = Instant::now() + RENEWAL_INTERVAL;
                    return Some(Line::new());
                }
            }
        }
    }

    fn recorder(&self) -> Option<&Recorder> {
        self.tracer.recorder.as_ref()
    }

    /// Returns a line that has left the queue.
    fn taken(&mut self, line: Line) -> Line {
        self.alive_at = Instant::now() + RENEWAL_INTERVAL;
        if let Some(recorder) = self.recorder() {
            recorder.take(&line);
        }
        line
    }

    fn last_line(&mut self, reason: &str) -> Line {
        self.has_ended = true;
        let at_ms = self.recorder().map_or(0.0, Recorder::at_ms);
        let reason = reason.to_owned();
        RecordLine::End(Ended { at_ms, reason }).text()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.traces.stop(&self.tracer);
        self.caller
            .log("recording ended", &self.tracer.filter, None);
    }
}

/// Maximum bytes of the statement of consent: the audit log stores as many.
const MAX_CONSENT: usize = 256;
