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
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use self::masking::{masked, shortened};
pub(crate) use self::reload::key_names;
pub(crate) use self::subject::{Subject, of_path};
use crate::auth::{Permission, Principal};
use crate::metrics::{Counter, Metrics};
use crate::service::authorization::{Access, Allowed, Blocks};
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
    access: Access,
    file: Option<Arc<Mutex<AuditFile>>>,
    metrics: Arc<Metrics>,
    /// The id of the server and its block list; empty until it is built.
    server: OnceLock<(String, Option<Blocks>)>,
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
    /// Whether the entry is missing in the table or the file.
    is_missing: bool,
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

    const fn of<T>(result: &Result<T, ServiceError>) -> Self {
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
        access: Access,
        file: Option<AuditFile>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(AuditInner {
            store,
            access,
            file: file.map(|file| Arc::new(Mutex::new(file))),
            metrics,
            server: OnceLock::new(),
        }))
    }

    /// Starts recording, after the server is built.
    pub(crate) fn serve(&self, io: &Io, blocks: Option<Blocks>) {
        let this = io.nodes().into_iter().find(|node| node.is_this);
        let node = this.map_or_else(String::new, |node| node.id.to_string());
        // The server is built once, so the cell is empty.
        let _ = self.0.server.set((node, blocks));
    }

    /// Returns who may do what.
    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// Records an act before it is performed: its path and the object that it changes, if it has
    /// them, and what the request asks for.
    ///
    /// # Errors
    ///
    /// If it cannot be recorded. The act must not be performed then.
    pub(crate) async fn begin(
        &self,
        requester: Requester,
        via: &str,
        operation: &str,
        (path, subject): (Option<String>, Option<Subject>),
        request: &Value,
    ) -> Result<StartedAct, ServiceError> {
        let mut entry = self.entry(requester, via, operation);
        entry.target = path.as_deref().map(shortened);
        entry.request = masked(request, shows_titles(&entry));
        let started = StartedAct {
            audit: self.clone(),
            entry,
            subject,
            is_missing: false,
        };
        in_time(started.begin()).await
    }

    fn entry(&self, requester: Requester, via: &str, operation: &str) -> AuditEntry {
        let server = self.0.server.get();
        let node = server.map_or_else(String::new, |(node, _)| node.clone());
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
            entries: found,
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
                self.entry.before = inner.state(subject).await?;
            }
            inner.store.record_act(self.entry.clone()).await?;
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
            inner.store.record_act(refused).await?;
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

    /// Records the outcome of a service call. `answer` returns what the requester gets.
    pub(crate) fn end_of<T, F: FnOnce(&T) -> Value>(
        self,
        result: &Result<T, ServiceError>,
        answer: F,
    ) -> impl Future<Output = ()> + Send + use<T, F> {
        let outcome = ActOutcome::of(result);
        let answer = match result {
            Ok(value) => answer(value),
            Err(error) => json!({"error": error.kind()}),
        };
        async move { self.end(outcome, &answer).await }
    }

    /// Records the outcome of the act. `answer` is what the requester gets. The store may still
    /// record the outcome after the maximum time of this.
    pub(crate) async fn end(self, outcome: ActOutcome, answer: &Value) {
        let _ = tokio::time::timeout(RECORD_TIMEOUT, self.end_with(outcome, answer)).await;
    }

    async fn end_with(mut self, outcome: ActOutcome, answer: &Value) {
        // A disconnect has no stored object: the answer has the number of connections.
        if let Some(count) = answer
            .get("disconnected")
            .filter(|_| self.subject.is_none())
        {
            self.entry.before = json!({"connections": count});
        }
        // The log level has no stored object either: the answer has the former one.
        if let Some(former) = answer.get("former") {
            self.entry.before = json!({"level": former});
        }
        let after = match &self.subject {
            Some(subject) if outcome == ActOutcome::Done => self.audit.0.state(subject).await,
            _ => Ok(masked(answer, shows_titles(&self.entry))),
        };
        self.finish(outcome, after).await;
    }

    /// Records the outcome and the state after the act.
    async fn finish(mut self, outcome: ActOutcome, after: Result<Value, StoreError>) {
        let AuditInner { store, metrics, .. } = &*self.audit.0;
        let entry = &mut self.entry;
        entry.outcome = Some(outcome.as_str().to_owned());
        entry.finished_at = Some(Time::now());
        let recorded = async {
            entry.after = after?;
            store.record_act(entry.clone()).await
        };
        let stored = recorded.await;
        match self.audit.write(entry, stored).await {
            Ok(()) if self.is_missing => metrics.count(Counter::AuditRecorded),
            Ok(()) => {}
            Err(error) => {
                metrics.count(Counter::AuditIncomplete);
                tracing::error!(
                    id = %entry.id,
                    operation = entry.operation,
                    %error,
                    "the outcome of an administrative act could not be recorded"
                );
            }
        }
    }
}

/// Returns whether titles are those of conversations, and not texts for users.
fn shows_titles(entry: &AuditEntry) -> bool {
    let target = entry.target.as_deref();
    target.is_some_and(|path| path.starts_with("/conversations"))
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
        request: Value::Null,
        before: Value::Null,
        after: Value::Null,
        outcome: None,
        finished_at: None,
    }
}

/// Returns a line of the audit file: the entry as JSON.
pub(crate) fn line(entry: &AuditEntry) -> String {
    let mut line = serde_json::to_string(entry).unwrap_or_default();
    line.push('\n');
    line
}

fn write_to(file: &mut (dyn Write + Send), line: &str) -> std::io::Result<()> {
    file.write_all(line.as_bytes())?;
    file.flush()
}

/// Returns what `recording` returns, or an error after the maximum time to record an act.
async fn in_time<T>(
    recording: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    let recorded = tokio::time::timeout(RECORD_TIMEOUT, recording).await;
    recorded.unwrap_or_else(|_| Err(late()))
}

/// Returns the error if an act cannot be recorded in time.
fn late() -> ServiceError {
    ServiceError::unavailable(RETRY_AFTER)
}

/// Maximum time to record an act before it is performed, and the same after it.
pub(crate) const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay before a client retries an act that could not be recorded.
const RETRY_AFTER: Duration = Duration::from_secs(2);
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
    entries: Vec<AuditEntry>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// Whether there are more entries.
    has_more: bool,
}
