//! The audit log: who changed what, from where, with the state before and after.
//!
//! An entry is stored before its act, and completed after it. If the entry cannot be stored or
//! written to the file, the act is refused, unless it is a reload: see [`reload`]. An entry without
//! an outcome is of an act whose server stopped before it could record the outcome. Entries contain
//! no secrets and no texts of users: see [`masking`].

mod masking;
mod moderation;
mod reload;
mod subject;

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::masking::{masked, shortened};
pub(crate) use self::moderation::Moderation;
pub(crate) use self::reload::key_names;
use self::subject::{Subject, of_path};
use crate::auth::{Permission, Principal};
use crate::metrics::{Counter, Metrics};
use crate::service::authorization::{Allowed, Blocks};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::UserId;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::page_limit;
use crate::service::rules::event::Command;
use crate::store::{AuditEntry, AuditQuery, Store, StoreError, Time};
use roomcast::{Io, Socket};

/// A file of lines. Each call of `write` appends complete lines.
pub(crate) type AuditFile = Box<dyn Write + Send>;

/// The audit log of one server. Clones share it.
#[derive(Clone)]
pub(crate) struct Audit(Arc<AuditInner>);

struct AuditInner {
    store: Store,
    io: Io,
    blocks: Option<Blocks>,
    file: Option<Arc<Mutex<AuditFile>>>,
    metrics: Arc<Metrics>,
}

/// The client that requests an act.
#[derive(Debug, Default)]
pub(crate) struct Requester {
    /// The user whose credentials were verified.
    pub(crate) user: Option<String>,
    /// The name that a command states.
    pub(crate) stated: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) connection: Option<String>,
}

impl Requester {
    /// Returns the requester of an event.
    pub(crate) fn of_socket(by: &Principal, socket: &Socket) -> Self {
        Self {
            user: Some(by.subject.clone()),
            stated: None,
            address: Some(socket.handshake().address().ip().to_canonical()),
            connection: Some(socket.conn().log_id().to_string()),
        }
    }
}

/// An act that is recorded and not finished.
#[must_use = "the outcome must be recorded"]
pub(crate) struct StartedAct {
    audit: Audit,
    entry: AuditEntry,
    subject: Option<Subject>,
    shows_titles: bool,
}

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActOutcome {
    Done,
    /// The request was refused, so nothing has changed.
    Refused,
    /// The server failed. It may have changed something.
    Failed,
}

impl ActOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Returns the outcome of a service call.
    pub(crate) const fn of<T>(result: &Result<T, ServiceError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(ServiceError::Unavailable { .. } | ServiceError::Failed { .. }) => Self::Failed,
            Err(_) => Self::Refused,
        }
    }
}

impl Audit {
    pub(crate) fn new(
        store: Store,
        io: Io,
        blocks: Option<Blocks>,
        file: Option<AuditFile>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(AuditInner {
            store,
            io,
            blocks,
            file: file.map(|file| Arc::new(Mutex::new(file))),
            metrics,
        }))
    }

    /// Records an HTTP operation before it is performed.
    ///
    /// # Errors
    ///
    /// If it cannot be recorded. The operation must not be performed then.
    pub(crate) async fn begin_http(
        &self,
        requester: Requester,
        operation: &str,
        route: &str,
        parameters: &[(String, String)],
        request: &Value,
    ) -> Result<StartedAct, ServiceError> {
        let (path, subject) = of_path(route, parameters);
        let shows_titles = route.starts_with("/conversations");
        let entry = self.entry(requester, "http", operation);
        let started = StartedAct {
            audit: self.clone(),
            entry: AuditEntry {
                target: Some(shortened(&path)),
                request: text(&masked(request, shows_titles)),
                ..entry
            },
            subject,
            shows_titles,
        };
        started.begin().await
    }

    /// Records an event of an admin before it is handled.
    ///
    /// # Errors
    ///
    /// If it cannot be recorded. The event must not be handled then.
    pub(crate) async fn begin_event(
        &self,
        requester: Requester,
        event: &str,
        request: &Value,
    ) -> Result<StartedAct, ServiceError> {
        let started = StartedAct {
            audit: self.clone(),
            entry: AuditEntry {
                request: text(&masked(request, false)),
                ..self.entry(requester, "socket", event)
            },
            subject: None,
            shows_titles: false,
        };
        started.begin().await
    }

    /// Records an event of a moderator before it is handled.
    async fn begin_moderation(
        &self,
        requester: Requester,
        event: &str,
        target: String,
        subject: Subject,
        request: &Value,
    ) -> Result<StartedAct, ServiceError> {
        let shows_titles = matches!(subject, Subject::Conversation(_));
        let started = StartedAct {
            audit: self.clone(),
            entry: AuditEntry {
                target: Some(shortened(&target)),
                request: text(&masked(request, shows_titles)),
                ..self.entry(requester, "socket", event)
            },
            subject: Some(subject),
            shows_titles,
        };
        started.begin().await
    }

    fn entry(&self, requester: Requester, via: &str, operation: &str) -> AuditEntry {
        let this = self.0.io.nodes().into_iter().find(|node| node.is_this);
        let node = this.map_or_else(String::new, |node| node.id.to_string());
        new_entry(requester, node, via, operation)
    }

    /// Returns a page of entries, the newest first.
    pub(crate) async fn list(
        &self,
        allowed: Allowed<ListAudit>,
    ) -> Result<AuditPage, ServiceError> {
        let (_, query) = allowed.into_parts();
        let limit = page_limit(query.limit)?;
        let before = query.cursor.as_deref().map(Uuid::try_parse).transpose();
        let before = before.map_err(|_| ServiceError::invalid("cursor", "is not a cursor"))?;
        let found = self.0.store.audit(AuditQuery {
            before,
            user: query.user_id,
            operation: query.operation,
            limit: limit + 1,
        });
        let mut found = found.await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| has_more);
        Ok(AuditPage {
            cursor: last.map(|entry| entry.id.to_string()),
            has_more,
            entries: found.into_iter().map(ShownAuditEntry::from).collect(),
        })
    }

    /// Writes an entry to the file. Returns the first fault of the table and the file.
    async fn write(
        &self,
        entry: &AuditEntry,
        stored: Result<(), StoreError>,
    ) -> Result<(), String> {
        let written = self.write_line(entry).await;
        let written = written.map_err(|error| error.to_string());
        stored.map_err(|error| error.to_string()).and(written)
    }

    /// Writes an entry with its outcome to the file. Returns whether table and file have it.
    async fn finish(&self, entry: &AuditEntry, stored: Result<(), StoreError>) -> bool {
        let Err(error) = self.write(entry, stored).await else {
            return true;
        };
        self.0.metrics.count(Counter::AuditIncomplete);
        tracing::error!(
            id = %entry.id,
            operation = entry.operation,
            %error,
            "the outcome of an administrative act could not be recorded"
        );
        false
    }

    async fn write_line(&self, entry: &AuditEntry) -> std::io::Result<()> {
        let Some(file) = self.0.file.clone() else {
            return Ok(());
        };
        let line = line(entry);
        // A full or slow disk must not block the tasks of clients.
        let written = tokio::task::spawn_blocking(move || {
            // Behind a write that hangs, no more threads wait for long.
            match file.try_lock_for(FILE_TIMEOUT) {
                Some(mut file) => write_to(&mut **file, &line),
                None => Err(std::io::ErrorKind::TimedOut.into()),
            }
        });
        let written = tokio::time::timeout(FILE_TIMEOUT, written).await?;
        written.map_err(std::io::Error::other)?
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl StartedAct {
    async fn begin(mut self) -> Result<Self, ServiceError> {
        let inner = &self.audit.0;
        let stored = async {
            if let Some(subject) = &self.subject {
                self.entry.before = text(&inner.state(subject).await?);
            }
            inner.store.begin_audit(self.entry.clone()).await?;
            let Err(error) = self.audit.write_line(&self.entry).await else {
                return Ok(());
            };
            roomcast::throttled_log!(error, %error, "could not write the audit file, administrative acts are refused");
            // Without an outcome, the table would suggest that the act may have happened.
            let refused = AuditEntry {
                outcome: Some(ActOutcome::Refused.as_str().to_owned()),
                finished_at: Some(Time::now()),
                ..self.entry.clone()
            };
            inner.store.end_audit(refused).await?;
            Err(StoreError::Closed)
        };
        match stored.await {
            Ok(()) => {
                inner.metrics.count(Counter::AuditRecorded);
                Ok(self)
            }
            Err(error) => {
                inner.metrics.count(Counter::AuditRefused);
                roomcast::throttled_log!(
                    warn,
                    operation = self.entry.operation,
                    %error,
                    "an administrative act could not be recorded and is refused"
                );
                Err(error.into())
            }
        }
    }

    /// Records the outcome of the act. `answer` is what the requester gets.
    pub(crate) async fn end(mut self, outcome: ActOutcome, answer: &Value) {
        let Self {
            audit,
            entry,
            subject,
            shows_titles,
        } = &mut self;
        let inner = &audit.0;
        let state = match subject {
            Some(subject) if outcome == ActOutcome::Done => inner.state(subject).await,
            _ => Ok(masked(answer, *shows_titles)),
        };
        // A disconnect has no stored object: the answer has the number of connections.
        if let Some(count) = answer.get("disconnected").filter(|_| subject.is_none()) {
            entry.before = text(&serde_json::json!({"connections": count}));
        }
        // The log level has no stored object either: the answer has the former one.
        if let Some(former) = answer.get("former") {
            entry.before = text(&serde_json::json!({"level": former}));
        }
        entry.outcome = Some(outcome.as_str().to_owned());
        entry.finished_at = Some(Time::now());
        let recorded = async {
            entry.after = text(&state?);
            inner.store.end_audit(entry.clone()).await
        };
        let stored = recorded.await;
        audit.finish(entry, stored).await;
    }
}

/// Returns an entry of an act that begins now.
pub(crate) fn new_entry(
    requester: Requester,
    node: String,
    via: &str,
    operation: &str,
) -> AuditEntry {
    AuditEntry {
        id: Uuid::now_v7(),
        created_at: Time::now(),
        node,
        via: via.to_owned(),
        user_id: requester.user,
        stated_user: requester.stated,
        address: requester.address.map(|address| address.to_string()),
        connection_id: requester.connection,
        operation: operation.to_owned(),
        target: None,
        request: None,
        before: None,
        after: None,
        outcome: None,
        finished_at: None,
    }
}

/// Returns a line of the audit file: the entry as JSON.
pub(crate) fn line(entry: &AuditEntry) -> String {
    let shown = ShownAuditEntry::from(entry.clone());
    let mut line = serde_json::to_string(&shown).unwrap_or_default();
    line.push('\n');
    line
}

fn write_to(file: &mut (dyn Write + Send), line: &str) -> std::io::Result<()> {
    file.write_all(line.as_bytes())?;
    file.flush()
}

/// Returns a value as text, or `None` for null.
fn text(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}

/// Maximum time to write a line of the file.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// The query of `GET /api/v1/audit`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListAudit {
    /// Only acts of this user: whose credentials were verified, or whom a command stated.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// Only acts with this name, such as `revoke` or `admin:kick`.
    pub(crate) operation: Option<String>,
    /// The `cursor` of the previous page. Without it, the first page.
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

impl Command for ListAudit {
    const PERMISSION: Option<Permission> = Some(Permission::AuditRead);
}

/// A page of the audit log, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuditList")]
pub(crate) struct AuditPage {
    entries: Vec<ShownAuditEntry>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// Whether there are more entries.
    has_more: bool,
}

/// An administrative act.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuditEntry")]
pub(crate) struct ShownAuditEntry {
    id: Uuid,
    /// When the act began.
    timestamp: Time,
    /// The server that performed the act.
    node: String,
    /// How the act was requested: `http`, `socket`, `command` or `signal`.
    via: String,
    /// The user whose credentials the server has verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// The user of the operating system that the command line states. Nothing proves this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    stated_user: Option<String>,
    /// The address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The id of the Socket.IO connection in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<String>,
    /// The name of the act: the `operationId` of an HTTP operation, or the name of an event.
    operation: String,
    /// The path of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The body of the request, with masked values.
    request: Value,
    /// The state before the act. Null if there was none.
    before: Value,
    /// The state after the act, or the error.
    after: Value,
    /// `done`, `refused` or `failed`. Absent while the act runs, and if the server stopped before
    /// it could record the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// When the act ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Time>,
}

impl From<AuditEntry> for ShownAuditEntry {
    fn from(entry: AuditEntry) -> Self {
        let json = |text: Option<String>| {
            let value = text.and_then(|text| serde_json::from_str(&text).ok());
            value.unwrap_or(Value::Null)
        };
        Self {
            id: entry.id,
            timestamp: entry.created_at,
            node: entry.node,
            via: entry.via,
            user_id: entry.user_id,
            stated_user: entry.stated_user,
            address: entry.address,
            connection_id: entry.connection_id,
            operation: entry.operation,
            target: entry.target,
            request: json(entry.request),
            before: json(entry.before),
            after: json(entry.after),
            outcome: entry.outcome,
            finished_at: entry.finished_at,
        }
    }
}
