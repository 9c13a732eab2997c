//! The alerts of this server, which outlive it: they are stored, and sent to the webhook.
//!
//! Their names are those of the rules in `deploy/prometheus/rules.yml`. The webhook gets an alert
//! directly and not through the store, because the store may be what has failed.

mod queue;

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::auth::Permission;
use crate::metrics::{Counter, Inventoried, Inventory, Metrics};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::hooks::Hooks;
use crate::service::rules::admin::emissions::{ALERT_EVENT, Alert, Part, PartState};
use crate::service::rules::bounds::REVISION_DIGITS;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::page_limit;
use crate::service::rules::event::Command;
use crate::store::{Append, Current, Store, StoreError, Time};
use queue::{AlertChange, Queue};
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

/// A page of the open alerts of all servers and of those that ended in the last seven days, those
/// that changed last first.
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
    /// When it began. Absent if the id has no time.
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
    metrics: Arc<Metrics>,
    /// The record of this process.
    run: OnceLock<StoredAlert>,
    to_store: Queue,
    to_send: Queue,
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

impl Inventoried for AlertLog {
    fn report(&self, inventory: &mut Inventory) {
        inventory.add("alerts to store", self.0.to_store.len() as u64, None);
        inventory.add("alerts to send", self.0.to_send.len() as u64, None);
    }
}

impl AlertLog {
    pub(crate) fn new(store: Store, hooks: Hooks, is_shared: bool, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            store,
            hooks,
            is_shared,
            metrics,
            run: OnceLock::new(),
            to_store: Queue::default(),
            to_send: Queue::default(),
        }))
    }

    /// Counts a change of an alert that is dropped.
    fn count(&self, is_queued: bool, counter: Counter) {
        if !is_queued {
            self.0.metrics.count(counter);
        }
    }

    /// Stores and sends a change of an alert. Never waits.
    pub(super) fn note(&self, alert: &StoredAlert) {
        let change = AlertChange {
            journal: JOURNAL,
            alert: alert.clone(),
        };
        if self.0.hooks.includes(ALERT_EVENT) {
            self.count(self.0.to_send.push(change.clone()), Counter::AlertsUnsent);
        }
        self.count(self.0.to_store.push(change), Counter::AlertsUnstored);
    }

    /// Stores the record of this process and its open alerts again, so that they do not expire
    /// while they are open. Never waits.
    pub(super) fn refresh<'a>(&self, open: impl Iterator<Item = &'a StoredAlert>) {
        let run = self.0.run.get().map(|run| (RUNS, run));
        for (journal, alert) in open.map(|alert| (JOURNAL, alert)).chain(run) {
            // A change that waits will be stored with the time of then.
            if !self.0.to_store.has(alert) {
                let alert = alert.clone();
                let is_queued = self.0.to_store.push(AlertChange { journal, alert });
                self.count(is_queued, Counter::AlertsUnstored);
            }
        }
    }

    /// Returns the latest alerts of all servers of the store, in the order of their changes.
    /// Changes of this server that wait to be stored are included.
    pub(super) async fn latest(&self) -> Result<Vec<StoredAlert>, StoreError> {
        loop {
            let finished = self.0.to_store.finished();
            let mut alerts = self.read(JOURNAL, MAX_SHOWN).await?;
            let (waiting, finished_since) = self.0.to_store.snapshot();
            // A change that was stored in the meantime can be in neither of them.
            if finished == finished_since {
                for change in waiting.into_iter().filter(|c| c.journal == JOURNAL) {
                    alerts.retain(|alert| alert.id != change.alert.id);
                    alerts.push(change.alert);
                }
                return Ok(alerts);
            }
        }
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

    /// Records that this process runs. If it is killed afterwards, the next one reports it.
    pub(super) async fn begin(&self, node: &str) -> Result<(), StoreError> {
        let new = || StoredAlert::new(node, Part::Server, None);
        let run = self.0.run.get_or_init(new);
        self.0.store.append(entry(RUNS, run)).await.map(drop)
    }

    /// Begins to record alerts. Returns those that an earlier process of this server has not ended.
    /// If that process was killed, one of them is the server itself.
    pub(super) async fn start(&self, node: &str) -> Result<Vec<StoredAlert>, StoreError> {
        self.begin(node).await?;
        let own = |alert: &StoredAlert| !self.0.is_shared || alert.node == node;
        // The journal has the alerts of all servers, which can be more than an admin receives.
        let mut open = self.read(JOURNAL, MAX_OPEN as usize).await?;
        open.retain(|alert| alert.state == PartState::Unavailable && own(alert));
        let mut earlier = self.read(RUNS, MAX_OPEN as usize).await?;
        earlier.retain(|run| run.state == PartState::Unavailable && own(run));
        for mut run in earlier {
            // The run ends only once, however often this task is restarted.
            if self.0.run.get().is_some_and(|own| own.id == run.id) {
                continue;
            }
            open.push(run.clone());
            run.state = PartState::Ok;
            self.0.store.append(entry(RUNS, &run)).await?;
        }
        Ok(open)
    }

    /// Records that this server stops as it should.
    pub(super) async fn finish(&self, node: &str) {
        let Some(run) = self.0.run.get() else { return };
        let run = StoredAlert {
            id: run.id,
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
            let AlertChange { journal, alert } = self.0.to_store.first().await;
            match self.0.store.append(entry(journal, &alert)).await {
                Ok(_) | Err(StoreError::Closed) => self.0.to_store.finish_first(),
                Err(error) => sleep(error.retry_after()).await,
            }
        }
    }

    async fn send_all(&self) {
        loop {
            let AlertChange { alert, .. } = self.0.to_send.first().await;
            self.0.hooks.send_now(ALERT_EVENT, &alert.event()).await;
            self.0.to_send.finish_first();
        }
    }
}

/// Returns the entry of the journal. The end of an alert closes the entry of its beginning. Open
/// alerts expire only if they are not [refreshed](AlertLog::refresh).
fn entry(journal: &str, alert: &StoredAlert) -> Append {
    let is_open = alert.state == PartState::Unavailable;
    let since = if is_open {
        Time::now()
    } else {
        alert.timestamp
    };
    Append {
        is_open,
        created_at: alert.timestamp,
        expires_at: Some(since.after(RETENTION)),
        most_open: MAX_OPEN,
        ..Append::new(
            journal.to_owned(),
            alert.id.to_string(),
            serde_json::to_string(alert).unwrap_or_default(),
        )
    }
}

const JOURNAL: &str = "alerts";
/// The journal of the processes of servers. An entry that is still open is of a process that runs,
/// or was killed.
const RUNS: &str = "runs";
/// Time for which alerts are retained after they have ended, or were last refreshed.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// The interval between refreshes of open alerts. Each counts as a change of the alert.
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(86_400);
/// Maximum number of alerts that a new admin receives.
const MAX_SHOWN: usize = 50;
/// Maximum number of open alerts in the store.
const MAX_OPEN: u32 = 1000;
/// The maximum time to record a shutdown.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::slice;

    use super::queue::MAX_WAITING;
    use super::*;

    async fn log() -> AlertLog {
        let store = Store::in_memory().await;
        AlertLog::new(store, Hooks::default(), false, Arc::default())
    }

    /// Stores all changes that wait.
    async fn store_all(log: &AlertLog) {
        let is_stored = async {
            while log.0.to_store.len() > 0 {
                sleep(Duration::from_millis(5)).await; // Poll interval.
            }
        };
        tokio::select! {
            () = log.store_all() => unreachable!("it runs as long as it is polled"),
            stored = timeout(Duration::from_secs(20), is_stored) => stored.unwrap(),
        }
    }

    /// An alert that began before the retention.
    fn old() -> StoredAlert {
        let before = RETENTION + Duration::from_secs(3600);
        StoredAlert {
            timestamp: Time::from(std::time::SystemTime::now() - before),
            ..StoredAlert::new("one", Part::Adapter, None)
        }
    }

    #[tokio::test]
    async fn open_alerts_stay_while_they_are_refreshed_and_ended_ones_expire() {
        let log = log().await;
        // The entry is as it was when the alert began.
        let (open, ended) = (old(), old());
        for alert in [&open, &ended] {
            let expired = Append {
                expires_at: Some(alert.timestamp.after(RETENTION)),
                ..entry(JOURNAL, alert)
            };
            log.0.store.append(expired).await.unwrap();
        }
        assert_eq!(log.latest().await.unwrap(), []);
        log.refresh([&open].into_iter());
        log.refresh([&open].into_iter());
        assert_eq!(log.0.to_store.len(), 1, "one refresh waits");
        store_all(&log).await;
        assert_eq!(log.latest().await.unwrap(), slice::from_ref(&open));
        let page = log.page(None, 10).await.unwrap();
        let listed = &page.alerts[0];
        assert_eq!(
            (listed.began_at, listed.state),
            (Some(open.timestamp), PartState::Unavailable)
        );
        // A refresh that is stored after the end changes nothing.
        let end = StoredAlert {
            state: PartState::Ok,
            timestamp: Time::now(),
            ..open.clone()
        };
        log.note(&end);
        log.0.to_store.push(AlertChange {
            journal: JOURNAL,
            alert: open,
        });
        store_all(&log).await;
        assert_eq!(log.latest().await.unwrap(), [end]);
        // An alert that ended before the retention is not listed.
        let ended = StoredAlert {
            state: PartState::Ok,
            ..ended
        };
        log.note(&ended);
        store_all(&log).await;
        assert_eq!(log.latest().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn admins_receive_changes_that_are_not_yet_stored() {
        let log = log().await;
        let (store, adapter) = (Part::Store, Part::Adapter);
        let [first, second] = [store, adapter].map(|part| StoredAlert::new("one", part, None));
        log.note(&first);
        store_all(&log).await;
        let end = StoredAlert {
            state: PartState::Ok,
            timestamp: Time::now(),
            ..first.clone()
        };
        log.note(&second);
        log.note(&end);
        let expected = [second, end];
        assert_eq!(log.latest().await.unwrap(), expected);
        store_all(&log).await;
        assert_eq!(log.latest().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn changes_beyond_the_queue_are_dropped_and_counted() {
        let log = log().await;
        for _ in 0..MAX_WAITING + 3 {
            log.note(&old());
        }
        let dropped = log.0.metrics.counter(Counter::AlertsUnstored);
        assert_eq!((log.0.to_store.len(), dropped), (MAX_WAITING, 3));
        let mut inventory = Inventory::default();
        log.report(&mut inventory);
        let shown = serde_json::to_string(&inventory).unwrap();
        assert!(
            shown.contains(r#""alerts to store","count":256"#),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn killed_process_is_reported_however_long_it_ran() {
        let log = log().await;
        // The record of a process that has run for longer than the retention.
        let run = StoredAlert {
            part: Part::Server,
            ..old()
        };
        log.0.run.set(run.clone()).unwrap();
        let expired = Append {
            expires_at: Some(run.timestamp.after(RETENTION)),
            ..entry(RUNS, &run)
        };
        log.0.store.append(expired).await.unwrap();
        log.refresh(std::iter::empty());
        store_all(&log).await;
        // The next process of the server, whose predecessor did not finish.
        let next = AlertLog::new(log.0.store.clone(), Hooks::default(), false, Arc::default());
        assert_eq!(next.start("one").await.unwrap(), [run]);
    }
}
