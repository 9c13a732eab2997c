//! Follows what happens to a user, a socket, a conversation or a channel on all servers.
//!
//! The server that an operator calls starts a tracer, and asks its peers to start one with the same
//! id. It repeats the request while the operator listens: so a server that joins later takes part,
//! and a peer ends its tracer if the requesting server has died. Peers send their lines in batches.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::metrics::trace::{
    Detail, Filter, Line, Lines, MAX_TRACERS, Reader, Subject, Tracer, TracerId, Traces,
};
use crate::service::authorization::{Access, Allowed, LostAccess};
use crate::service::chat::Chat;
use crate::service::cluster::{Announcer, NAMESPACE};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::UserId;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content;
use crate::service::rules::event::Command;
use roomcast::{Builder, Io, Namespace, SocketId, handler::ServerSide};

/// `GET /api/v1/trace`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Follow {
    /// Follow this user. Exactly one of `userId`, `socketId` and `conversationId` is required.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// Follow this socket.
    pub(crate) socket_id: Option<String>,
    /// Follow this conversation.
    pub(crate) conversation_id: Option<Uuid>,
    /// Seconds after which the stream ends, 1 to 3,600. Default 600.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) seconds: Option<u64>,
    /// Whether lines contain texts and whole addresses. Requires the permission `trace:unmasked` as
    /// well.
    #[serde(default)]
    pub(crate) unmasked: bool,
}

impl Command for Follow {
    const PERMISSION: Option<Permission> = Some(Permission::ApiTrace);
}

/// A line of the response of `GET /api/v1/trace`: a JSON object with further fields that depend on
/// the step.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TraceLine")]
pub(crate) struct StreamedLine {
    /// When the step happened, by the clock of its server.
    at: String,
    /// The id of the server.
    node: String,
    /// What happened, such as `received` or `stored`.
    step: String,
    /// The user that the step concerns.
    user: Option<String>,
    /// The socket that the step concerns.
    socket: Option<String>,
    /// The conversation that the step concerns.
    conversation: Option<Uuid>,
    /// The channel that the step concerns.
    channel: Option<String>,
}

/// A running trace. Dropping it ends the trace on all servers.
#[derive(Debug)]
pub(crate) struct Followed {
    traces: Traces,
    tracer: Arc<Tracer>,
    lines: Lines,
    peers: Option<Peers>,
    renews_at: Instant,
    caller: StreamCaller,
    has_ended: bool,
}

/// Who reads a stream, with which permissions and until when.
#[derive(Debug)]
struct StreamCaller {
    access: Access,
    by: Arc<Principal>,
    permissions: &'static [Permission],
    is_unmasked: bool,
    ends_at: Instant,
    checks_at: Instant,
}

/// How to reach the other servers.
#[derive(Debug)]
struct Peers {
    announcer: Announcer,
    namespace: Namespace,
    detail: Detail,
}

/// A message between servers about a trace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum TraceMessage {
    /// Starts or continues a tracer.
    Trace {
        id: TracerId,
        filter: Filter,
        unmasked: bool,
    },
    /// Ends a tracer.
    Untrace { id: TracerId },
    /// What a peer has recorded.
    Lines {
        id: TracerId,
        lines: Vec<Line>,
        dropped: u64,
    },
}

/// Starts a trace.
///
/// # Errors
///
/// If the query is invalid, the caller requests an unmasked trace without the permission for it,
/// too many traces run, or the server shuts down.
pub(crate) fn follow(
    io: &Io,
    access: &Access,
    allowed: Allowed<Follow>,
) -> Result<Followed, ServiceError> {
    let (by, command) = allowed.into_parts();
    let filter = selected(
        command.user_id.as_deref(),
        command.socket_id.as_deref(),
        command.conversation_id,
    )?;
    let (detail, permissions): (_, &[Permission]) = if command.unmasked {
        access.require(&by, Permission::TraceUnmasked)?;
        let both = &[Permission::ApiTrace, Permission::TraceUnmasked];
        (Detail::Unmasked, both)
    } else {
        (Detail::Masked, &[Permission::ApiTrace])
    };
    let selection = (filter, detail);
    start(io, access, by, selection, permissions, command.seconds)
}

/// Starts a trace of what a filter selects, for a caller that has these permissions. It ends when
/// the caller loses one of them, or after this number of seconds.
///
/// # Errors
///
/// If the number is out of range, too many traces run, or the server shuts down.
pub(super) fn start(
    io: &Io,
    access: &Access,
    by: Arc<Principal>,
    (filter, detail): (Filter, Detail),
    permissions: &'static [Permission],
    requested_seconds: Option<u64>,
) -> Result<Followed, ServiceError> {
    let seconds = seconds(requested_seconds)?;
    let traces = io.state::<Traces>().clone();
    let id = Uuid::new_v4();
    let started = traces.start(id, Reader::Caller, filter.clone(), detail, io);
    let (tracer, lines) = started.map_err(|_| ServiceError::limited(RETRY_AFTER))?;
    let is_unmasked = detail == Detail::Unmasked;
    let caller = StreamCaller::new(access, by, permissions, is_unmasked, seconds);
    caller.log("trace started", &filter, Some(seconds));
    let announcer = io.state::<Chat>().announcer().cloned();
    let peers = announcer.map(|announcer| Peers {
        announcer,
        namespace: io.of(NAMESPACE),
        detail,
    });
    let mut followed = Followed {
        traces,
        tracer,
        lines,
        peers,
        renews_at: Instant::now(),
        caller,
        has_ended: false,
    };
    followed.note("tracing", &[]);
    followed.renew();
    Ok(followed)
}

/// Returns the requested or default duration in seconds, or an error if it is out of range.
fn seconds(requested: Option<u64>) -> Result<u64, ServiceError> {
    let seconds = requested.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(ServiceError::invalid("seconds", "must be 1 to 3600"));
    }
    Ok(seconds)
}

/// Returns what a query selects.
fn selected(
    user: Option<&str>,
    socket: Option<&str>,
    conversation: Option<Uuid>,
) -> Result<Filter, ServiceError> {
    match (user, socket, conversation) {
        (Some(user), None, None) => {
            content::check_user_id("userId", user)?;
            Ok(Filter::User(user.to_owned()))
        }
        (None, Some(socket), None) => {
            if SocketId::parse(socket).is_none() {
                return Err(ServiceError::invalid(
                    "socketId",
                    "is not the id of a socket",
                ));
            }
            Ok(Filter::Socket(socket.to_owned()))
        }
        (None, None, Some(conversation)) => Ok(Filter::Conversation(conversation)),
        _ => Err(ServiceError::invalid(
            "userId",
            "is required, or instead one of socketId and conversationId",
        )),
    }
}

impl StreamCaller {
    /// Creates the caller of a stream that ends after this number of seconds.
    fn new(
        access: &Access,
        by: Arc<Principal>,
        permissions: &'static [Permission],
        is_unmasked: bool,
        seconds: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            access: access.clone(),
            by,
            permissions,
            is_unmasked,
            ends_at: now + Duration::from_secs(seconds),
            checks_at: now + CHECK_INTERVAL,
        }
    }

    /// Returns why the stream must end, if it must. Called before each line, so that the stream
    /// also ends if there are always lines.
    fn end_reason(&mut self) -> Option<&'static str> {
        let now = Instant::now();
        if self.ends_at <= now {
            return Some("the time is over");
        }
        if self.checks_at > now {
            return None;
        }
        self.checks_at = now + CHECK_INTERVAL;
        let permissions = self.permissions.iter();
        let mut checks = permissions.map(|permission| self.access.recheck(&self.by, *permission));
        let lost = checks.find_map(Result::err)?;
        Some(match lost {
            LostAccess::Revoked => "the credentials have been revoked",
            LostAccess::Expired => "the credentials have expired",
            LostAccess::Denied => "the caller no longer has the permission",
        })
    }

    /// Waits until [`end_reason`](Self::end_reason) must be called again.
    async fn due(&self) {
        sleep_until(self.ends_at.min(self.checks_at)).await;
    }

    /// Logs the start of a stream, with its maximum duration in seconds, or its end. The request
    /// itself is recorded in the audit table.
    fn log(&self, act: &str, target: &Filter, seconds: Option<u64>) {
        let (by, target, unmasked) = (&self.by.subject, target.describe(), self.is_unmasked);
        tracing::info!(target: "audit", by, act, on = target, unmasked, seconds, "administrative act");
    }
}

impl Followed {
    /// Returns the next line, an empty text if nothing happens for a while, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        if self.has_ended {
            return None;
        }
        loop {
            if let Some(reason) = self.caller.end_reason() {
                return Some(self.last_line(reason));
            }
            let dropped = self.tracer.take_dropped();
            if dropped > 0 {
                return Some(self.line("lines_dropped", &[("lines", dropped.into())]));
            }
            if self.renews_at <= Instant::now() {
                self.renew();
            }
            tokio::select! {
                // At a shutdown, queued lines come before the end.
                biased;
                Some(line) = self.lines.recv() => return Some(line),
                () = self.tracer.stopped() => return Some(self.last_line("the server shuts down")),
                () = self.caller.due() => {}
                () = sleep_until(self.renews_at) => return Some(Line::new()),
            }
        }
    }

    /// Repeats the request to the other servers.
    fn renew(&mut self) {
        self.renews_at = Instant::now() + RENEWAL_INTERVAL;
        if let Some(peers) = &self.peers {
            let unmasked = peers.detail == Detail::Unmasked;
            peers.send(&TraceMessage::Trace {
                id: self.tracer.id,
                filter: self.tracer.filter.clone(),
                unmasked,
            });
        }
    }

    fn last_line(&mut self, reason: &str) -> Line {
        self.has_ended = true;
        self.line("ended", &[("reason", reason.into())])
    }

    fn line(&self, step: &str, fields: &[(&str, serde_json::Value)]) -> Line {
        let fields = fields.iter().cloned();
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        self.tracer
            .line(&Subject::default(), step, fields.collect())
    }

    fn note(&self, step: &str, fields: &[(&str, serde_json::Value)]) {
        self.tracer.queue(self.line(step, fields));
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.traces.stop(&self.tracer);
        if let Some(peers) = &self.peers {
            peers.send(&TraceMessage::Untrace { id: self.tracer.id });
        }
        self.caller.log("trace ended", &self.tracer.filter, None);
    }
}

impl Peers {
    /// Sends a message to the other servers. Returns `false` if it was not sent.
    fn send(&self, message: &TraceMessage) -> bool {
        let text = self.announcer.write(message);
        text.is_some_and(|text| self.namespace.server_side_emit(EVENT, text).is_ok())
    }
}

/// Registers the handler for traces of other servers of the store.
///
/// Must be called only in a cluster, where no client can enter the namespace for messages between
/// servers.
pub(crate) fn trace_for_peers(io: Builder, announcer: &Announcer, traces: &Traces) -> Builder {
    let (announcer, traces) = (announcer.clone(), traces.clone());
    io.namespace(NAMESPACE, |namespace| {
        namespace.on_server_side(EVENT, move |event: ServerSide| {
            let text: String = event.arg(0).unwrap_or_default();
            match announcer.read::<TraceMessage>(&text) {
                Ok(message) => receive(&traces, &announcer, event.io(), message),
                Err(reason) => tracing::debug!(?reason, "could not decode a trace message"),
            }
            std::future::ready(())
        })
    })
}

fn receive(traces: &Traces, announcer: &Announcer, io: &Io, message: TraceMessage) {
    match message {
        TraceMessage::Trace {
            id,
            filter,
            unmasked,
        } => {
            if let Some(known) = traces.find(id) {
                return known.renew();
            }
            let detail = if unmasked {
                Detail::Unmasked
            } else {
                Detail::Masked
            };
            let peers = Peers {
                announcer: announcer.clone(),
                namespace: io.of(NAMESPACE),
                detail,
            };
            match traces.start(id, Reader::Peer, filter, detail, io) {
                Ok((tracer, lines)) => {
                    tokio::spawn(relay(traces.clone(), tracer, lines, peers));
                }
                Err(_) => {
                    roomcast::throttled_log!(
                        warn,
                        limit = MAX_TRACERS,
                        "too many tracers, a trace of another server has no lines of this server"
                    );
                }
            }
        }
        TraceMessage::Untrace { id } => {
            if let Some(known) = traces.find(id) {
                traces.stop(&known);
            }
        }
        TraceMessage::Lines { id, lines, dropped } => {
            // The message reaches all servers. One that traces for a peer, too, would send the
            // lines on, back to their sender.
            let known = traces.find(id);
            if let Some(known) = known.filter(|known| known.reader == Reader::Caller) {
                known.count_dropped(dropped);
                for line in lines {
                    known.queue(line);
                }
            }
        }
    }
}

/// Sends the lines of a requested tracer to the other servers, in batches, until it ends or is not
/// renewed. Only the server that requested it uses them.
async fn relay(traces: Traces, tracer: Arc<Tracer>, mut lines: Lines, peers: Peers) {
    tracer.queue(tracer.line(&Subject::default(), "tracing", serde_json::Map::new()));
    loop {
        let ends_at = tracer.renewed_at() + LEASE;
        if ends_at <= Instant::now() {
            break;
        }
        let first = tokio::select! {
            biased;
            Some(line) = lines.recv() => line,
            () = tracer.stopped() => break,
            () = sleep_until(ends_at) => {
                // The tracer may have been renewed in the meantime.
                if tracer.renewed_at() + LEASE <= Instant::now() {
                    break;
                }
                continue;
            }
        };
        let mut bytes = first.len();
        let mut batch = vec![first];
        let sent_at = Instant::now() + BATCH_TIME;
        while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let Ok(Some(line)) = timeout_at(sent_at, lines.recv()).await else {
                break;
            };
            bytes += line.len();
            batch.push(line);
        }
        let (sent, dropped) = (batch.len() as u64, tracer.take_dropped());
        let message = TraceMessage::Lines {
            id: tracer.id,
            lines: batch,
            dropped,
        };
        if !peers.send(&message) {
            tracer.count_dropped(sent + dropped);
        }
    }
    traces.stop(&tracer);
}

/// The name of the event between servers.
const EVENT: &str = "trace";
/// The default duration of a trace in seconds.
const DEFAULT_SECONDS: u64 = 600;
/// Maximum duration of a trace in seconds.
const MAX_SECONDS: u64 = 3600;
/// The interval of requests to other servers, and of empty lines while nothing happens.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);
/// The interval of checks whether the caller may still follow.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The time after which a server ends a tracer that is not renewed.
const LEASE: Duration = Duration::from_secs(20);
/// The delay before a caller retries if too many traces run.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Maximum lines of a batch.
const BATCH_LINES: usize = 64;
/// Bytes from which on a batch gets no more lines.
const BATCH_BYTES: usize = 64 << 10;
/// How long a batch waits for more lines.
const BATCH_TIME: Duration = Duration::from_millis(100);
