//! The alerts of this server, which outlive it: they are stored, and sent to the webhook.
//!
//! Their names are those of the rules in `deploy/prometheus/rules.yml`. The webhook gets an alert
//! directly and not through the store, because the store may be what has failed.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::hooks::Hooks;
use crate::service::rules::admin::emissions::{ALERT_EVENT, Alert, Part, PartState};
use crate::service::rules::bounds::REVISION_DIGITS;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::page_limit;
use crate::service::rules::event::Command;
use crate::store::{Append, Current, IfOpen, Quota, Store, StoreError, Time};
use roomcast::Io;

/// `GET /api/v1/alerts`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListAlerts {
    /// The `cursor` of the previous page. Default: the first page.
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

impl Command for ListAlerts {
    const PERMISSION: Option<Permission> = Some(Permission::ApiMetrics);
}

/// A page of the alerts of all servers in the last seven days, those that changed last first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AlertPage {
    alerts: Vec<ListedAlert>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

/// An alert: a part of a server that did not work, or does not work.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ListedAlert {
    id: Uuid,
    /// The id of the server.
    node: String,
    /// The name of the rule and of the section in the runbooks.
    #[schemars(with = "String")]
    alert: &'static str,
    part: Part,
    /// The name of the task, if the part is a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    state: PartState,
    /// When it began. Absent if an older version of the server has stored the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<Time>,
    /// When it ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Time>,
}

impl From<StoredAlert> for ListedAlert {
    fn from(stored: StoredAlert) -> Self {
        let ended = stored.state == PartState::Ok;
        // The entry of the end replaces that of the beginning, whose time is in the id.
        let began_at = if ended {
            stored.id.get_timestamp().map(|began| {
                let (seconds, nanos) = began.to_unix();
                let since = Duration::new(seconds, nanos);
                Time::from(std::time::SystemTime::UNIX_EPOCH + since)
            })
        } else {
            Some(stored.timestamp)
        };
        Self {
            id: stored.id,
            alert: stored.part.alert(),
            part: stored.part,
            state: stored.state,
            began_at,
            ended_at: ended.then_some(stored.timestamp),
            node: stored.node,
            task: stored.task,
        }
    }
}

/// Lists the stored alerts.
pub(crate) async fn list_alerts(
    io: &Io,
    allowed: Allowed<ListAlerts>,
) -> Result<AlertPage, ServiceError> {
    let (_, command) = allowed.into_parts();
    let limit = page_limit(command.limit)?;
    let cursor = |text: &String| {
        let is_number = text.len() <= REVISION_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
        let revision = text.parse().ok().filter(|_| is_number);
        revision.ok_or_else(|| ServiceError::invalid("cursor", "is not of a list of alerts"))
    };
    let before = command.cursor.as_ref().map(cursor).transpose()?;
    Ok(io.state::<AlertLog>().page(before, limit).await?)
}

/// The alerts that began or ended. Clones share them.
#[derive(Clone)]
pub(crate) struct AlertLog(Arc<Inner>);

struct Inner {
    store: Store,
    hooks: Hooks,
    /// Whether other servers use the store.
    is_shared: bool,
    /// The record of this process.
    run: OnceLock<Uuid>,
    to_store: Queue,
    to_send: Queue,
}

/// Changes that wait for a task. Each stays until the task has finished it, so that a restarted
/// task continues with it.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<StoredAlert>>,
    added: Notify,
}

/// An alert as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredAlert {
    /// Begins and ends the same alert.
    pub(super) id: Uuid,
    pub(super) node: String,
    pub(super) part: Part,
    pub(super) task: Option<String>,
    pub(super) state: PartState,
    pub(super) timestamp: Time,
}

impl StoredAlert {
    /// Creates an alert that begins now.
    pub(super) fn new(node: &str, part: Part, task: Option<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            node: node.to_owned(),
            part,
            task,
            state: PartState::Unavailable,
            timestamp: Time::now(),
        }
    }

    /// Returns the event for admins and the webhook.
    pub(super) fn event(&self) -> Alert<'_> {
        Alert {
            node: &self.node,
            alert: self.part.alert(),
            part: self.part,
            task: self.task.as_deref(),
            state: self.state,
            timestamp: self.timestamp,
        }
    }
}

impl Queue {
    fn push(&self, alert: StoredAlert) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(alert);
            drop(waiting);
            self.added.notify_one();
        } else {
            tracing::warn!("too many alerts wait to be stored or sent, one is dropped");
        }
    }

    /// Waits for the first change, which stays in the queue.
    async fn first(&self) -> StoredAlert {
        loop {
            let first = self.waiting.lock().front().cloned();
            match first {
                Some(alert) => return alert,
                None => self.added.notified().await,
            }
        }
    }

    /// Removes the first change.
    fn finish_first(&self) {
        self.waiting.lock().pop_front();
    }
}

impl AlertLog {
    pub(crate) fn new(store: Store, hooks: Hooks, is_shared: bool) -> Self {
        Self(Arc::new(Inner {
            store,
            hooks,
            is_shared,
            run: OnceLock::new(),
            to_store: Queue::default(),
            to_send: Queue::default(),
        }))
    }

    /// Stores and sends a change of an alert. Never waits.
    pub(super) fn note(&self, alert: &StoredAlert) {
        self.0.to_store.push(alert.clone());
        if self.0.hooks.includes(ALERT_EVENT) {
            self.0.to_send.push(alert.clone());
        }
    }

    /// Returns the latest alerts of all servers of the store, in the order of their changes.
    pub(super) async fn latest(&self) -> Result<Vec<StoredAlert>, StoreError> {
        self.read(JOURNAL, MAX_SHOWN).await
    }

    async fn page(&self, before: Option<u64>, limit: usize) -> Result<AlertPage, StoreError> {
        let current = Current {
            journal: JOURNAL,
            category: None,
            open: 0,
            newest: limit + 1,
            is_closed: false,
            before,
            with_withdrawn: false,
            now: Time::now(),
        };
        let mut entries = self.0.store.journal(current).await?.entries;
        entries.sort_unstable_by_key(|entry| Reverse(entry.revision));
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| has_more);
        let cursor = last.map(|last| last.revision.to_string());
        // A later version may have stored alerts of parts that this one does not know.
        let stored = entries.iter().filter_map(|entry| {
            let alert: StoredAlert = serde_json::from_str(&entry.body).ok()?;
            Some(alert.into())
        });
        Ok(AlertPage {
            alerts: stored.collect(),
            cursor,
            has_more,
        })
    }

    async fn read(&self, journal: &str, most: usize) -> Result<Vec<StoredAlert>, StoreError> {
        let current = Current {
            journal,
            category: None,
            open: most,
            newest: most,
            is_closed: true,
            before: None,
            with_withdrawn: false,
            now: Time::now(),
        };
        let view = self.0.store.journal(current).await?;
        let bodies = view.entries.into_iter().map(|entry| entry.body);
        // A later version may have stored alerts of parts that this one does not know.
        Ok(bodies
            .filter_map(|body| serde_json::from_str(&body).ok())
            .collect())
    }

    /// Begins to record alerts. Returns those that an earlier process of this server has not ended.
    /// If that process was killed, one of them is the server itself.
    pub(super) async fn start(&self, node: &str) -> Result<Vec<StoredAlert>, StoreError> {
        let own = |alert: &StoredAlert| !self.0.is_shared || alert.node == node;
        // The journal has the alerts of all servers, which can be more than an admin receives.
        let mut open = self.read(JOURNAL, MAX_OPEN as usize).await?;
        open.retain(|alert| alert.state == PartState::Unavailable && own(alert));
        let mut earlier = self.read(RUNS, MAX_OPEN as usize).await?;
        earlier.retain(|run| run.state == PartState::Unavailable && own(run));
        for mut run in earlier {
            // The run ends only once, however often this task is restarted.
            if Some(&run.id) == self.0.run.get() {
                continue;
            }
            open.push(run.clone());
            run.state = PartState::Ok;
            self.0.store.append(entry(RUNS, &run)).await?;
        }
        let run = StoredAlert::new(node, Part::Server, None);
        if self.0.run.set(run.id).is_ok() {
            self.0.store.append(entry(RUNS, &run)).await?;
        }
        Ok(open)
    }

    /// Records that this server stops as it should.
    pub(super) async fn finish(&self, node: &str) {
        let Some(id) = self.0.run.get() else { return };
        let run = StoredAlert {
            id: *id,
            state: PartState::Ok,
            ..StoredAlert::new(node, Part::Server, None)
        };
        let ended = timeout(FINISH_TIMEOUT, self.0.store.append(entry(RUNS, &run))).await;
        if !matches!(ended, Ok(Ok(_))) {
            tracing::warn!("could not record the shutdown, the next start reports a crash");
        }
    }

    /// Stores and sends alerts for as long as it is polled.
    pub(super) async fn run(self) {
        tokio::join!(self.store_all(), self.send_all());
    }

    async fn store_all(&self) {
        loop {
            let alert = self.0.to_store.first().await;
            match self.0.store.append(entry(JOURNAL, &alert)).await {
                Ok(_) | Err(StoreError::Closed) => self.0.to_store.finish_first(),
                Err(error) => sleep(error.retry_after()).await,
            }
        }
    }

    async fn send_all(&self) {
        loop {
            let alert = self.0.to_send.first().await;
            self.0.hooks.send_now(ALERT_EVENT, &alert.event()).await;
            self.0.to_send.finish_first();
        }
    }
}

/// Returns the entry of the journal. The end of an alert closes the entry of its beginning.
fn entry(journal: &str, alert: &StoredAlert) -> Append {
    Append {
        journal: journal.to_owned(),
        key: alert.id.to_string(),
        body: serde_json::to_string(alert).unwrap_or_default(),
        category: None,
        is_open: alert.state == PartState::Unavailable,
        if_open: IfOpen::Remove,
        needs_open: false,
        created_at: alert.timestamp,
        expires_at: Some(alert.timestamp.after(RETENTION)),
        most_open: MAX_OPEN,
        quota: Quota::All,
    }
}

const JOURNAL: &str = "alerts";
/// The journal of the processes of servers. An entry that is still open is of a process that runs,
/// or was killed.
const RUNS: &str = "runs";
/// Time for which alerts are retained.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// Maximum number of alerts that a new admin receives.
const MAX_SHOWN: usize = 50;
/// Maximum number of open alerts in the store.
const MAX_OPEN: u32 = 1000;
/// Maximum number of changes that wait to be stored, and to be sent.
const MAX_WAITING: usize = 256;
/// The maximum time to record a shutdown.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);
