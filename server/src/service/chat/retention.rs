//! The job that removes expired messages and the remains of deleted conversations.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::store::{Store, StoreError, Time};

/// Periodically removes expired data, in batches with delays in between.
#[derive(Debug)]
pub(crate) struct Retention {
    store: Store,
    metrics: Arc<Metrics>,
    /// Retention time of messages, or `None` to retain them forever.
    age: Option<SignedDuration>,
    /// Retention time of the audit log.
    audit_age: Duration,
    interval: Duration,
    batch: usize,
}

impl Retention {
    /// Creates the job.
    pub(crate) fn new(
        store: Store,
        config: &config::Store,
        audit_age: Duration,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let age = |retention| SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        Arc::new(Self {
            store,
            metrics,
            age: config.retention.map(age),
            audit_age,
            interval: config.retention_interval,
            batch: config.retention_batch,
        })
    }

    /// Runs the job, for the first time immediately. Never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            match self.run_once().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed data past its retention"),
                Err(error) => {
                    tracing::warn!(%error, "could not remove data past its retention");
                }
            }
            sleep(self.interval).await;
        }
    }

    /// Removes everything that is expired or deleted by now, and returns the number of rows.
    async fn run_once(&self) -> Result<u64, StoreError> {
        // After a failure the rest waits for the next run, which spares a store in trouble.
        let removing = async {
            let (expired, purged) = (self.expire().await?, self.purge().await?);
            let (acts, statuses) = (self.expire_audit().await?, self.expire_statuses().await?);
            Ok(expired + purged + acts + statuses)
        };
        let result = removing.await;
        self.metrics.count(match result {
            Ok(_) => Counter::RetentionDone,
            Err(_) => Counter::RetentionFailed,
        });
        result
    }

    /// Removes messages that are too old.
    async fn expire(&self) -> Result<u64, StoreError> {
        // A time before the start of the calendar is older than any message. The time is fixed for
        // the whole run. Otherwise the run would chase messages that expire in the meantime.
        let retained_since = self.age.map(|age| Timestamp::now().checked_sub(age));
        let Some(Ok(before)) = retained_since else {
            return Ok(0);
        };
        in_batches(|| async {
            let removed = self.store.expire(Time::from(before), self.batch).await?;
            self.metrics.add(Counter::MessagesExpired, removed);
            Ok(removed)
        })
        .await
    }

    /// Removes acts from the audit log that are too old.
    async fn expire_audit(&self) -> Result<u64, StoreError> {
        let before = Time::now().before(self.audit_age);
        in_batches(|| self.store.expire_audit(before, self.batch)).await
    }

    /// Removes expired statuses of users.
    async fn expire_statuses(&self) -> Result<u64, StoreError> {
        let now = Time::now();
        in_batches(|| self.store.expire_statuses(now, self.batch)).await
    }

    /// Removes the remains of deleted conversations.
    async fn purge(&self) -> Result<u64, StoreError> {
        let before = Time::from(Timestamp::now() - DELETED_RETENTION);
        in_batches(|| self.store.purge(before, self.batch)).await
    }
}

/// Removes batches until nothing is left, and returns the number of rows.
async fn in_batches<F>(mut remove: impl FnMut() -> F) -> Result<u64, StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    let mut all = 0;
    loop {
        let removed = remove().await?;
        if removed == 0 {
            return Ok(all);
        }
        all += removed;
        // A batch holds locks and fills the database log, so writers get a chance in between.
        sleep(BATCH_DELAY).await;
    }
}

/// Retention time of the row of a deleted conversation. Until then a client that received no
/// answer may repeat the deletion.
const DELETED_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// The delay between two batches.
const BATCH_DELAY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::store::{Commits, MessageKind, NewConversation, NewMessage, Origin, Page};

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn only_audit_entries_past_their_retention_are_removed() {
        let config = config(Duration::from_millis(1));
        let (store, _commits) = Store::open(&config, Arc::default()).await.unwrap();
        let entry = |age| crate::store::AuditEntry {
            id: Time::now().before(age).first_id(),
            created_at: Time::now().before(age),
            node: "n".into(),
            via: "http".into(),
            user_id: None,
            stated_user: None,
            address: None,
            connection_id: None,
            operation: "revoke".into(),
            target: None,
            request: serde_json::Value::Null,
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
            outcome: None,
            finished_at: None,
        };
        let kept = entry(DAY / 2);
        for stored in [kept.clone(), entry(DAY * 2), entry(DAY * 3)] {
            store.record_act(stored).await.unwrap();
        }
        let job = Retention::new(store.clone(), &config, DAY, Arc::default());
        assert_eq!(job.run_once().await, Ok(2));
        let query = crate::store::AuditQuery {
            limit: 10,
            ..crate::store::AuditQuery::default()
        };
        assert_eq!(store.audit(query).await, Ok(vec![kept]));
    }

    #[tokio::test]
    async fn only_expired_statuses_are_removed() {
        let config = config(DAY);
        let (store, _commits) = Store::open(&config, Arc::default()).await.unwrap();
        let now = Time::now();
        for n in 0..6 {
            let new = crate::store::NewStatus {
                user_id: format!("user {n}").into(),
                status: crate::store::Status::Busy,
                text: None,
                retention: DAY,
            };
            let age = DAY * u32::from(n > 0);
            store.set_status(new, now.before(age)).await.unwrap();
        }
        let job = Retention::new(store.clone(), &config, DAY, Arc::default());
        assert_eq!(job.run_once().await, Ok(5));
        let users = (0..6).map(|n| format!("user {n}")).collect();
        let left = store.statuses(users, 10, now.before(DAY)).await.unwrap();
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn expired_messages_are_removed_in_batches_at_each_interval() {
        let config = config(Duration::from_millis(1));
        let metrics = Arc::new(Metrics::default());
        let (store, commits) = Store::open(&config, Arc::clone(&metrics)).await.unwrap();
        let emitting = tokio::spawn(drain(commits));
        let id = conversation(&store).await;
        for _ in 0..7 {
            send(&store, id).await;
        }
        wait_a_millisecond();
        let job = Retention::new(store.clone(), &config, DAY, Arc::clone(&metrics));
        assert_eq!(job.run_once().await, Ok(7));
        assert_eq!(metrics.counter(Counter::MessagesExpired), 7);
        assert_eq!(metrics.counter(Counter::RetentionDone), 1);
        assert_eq!(seqs(&store, id).await, [0; 0]);
        send(&store, id).await;
        assert_eq!(seqs(&store, id).await, [8], "numbers go on");
        wait_a_millisecond();
        let running = tokio::spawn(job.run());
        while metrics.counter(Counter::MessagesExpired) < 8 {
            tokio::task::yield_now().await;
        }
        send(&store, id).await;
        wait_a_millisecond();
        while metrics.counter(Counter::MessagesExpired) < 9 {
            sleep(config.retention_interval).await;
        }
        running.abort();
        store.close().await;
        drop(store);
        emitting.await.unwrap();
    }

    #[tokio::test]
    async fn recent_messages_stay_and_unlimited_retention_removes_none() {
        let config = config(Duration::from_secs(3600));
        let (store, commits) = Store::open(&config, Arc::default()).await.unwrap();
        tokio::spawn(drain(commits));
        let id = conversation(&store).await;
        send(&store, id).await;
        let job = Retention::new(store.clone(), &config, DAY, Arc::default());
        assert_eq!(job.run_once().await, Ok(0));
        assert_eq!(seqs(&store, id).await, [1]);
        let for_ever = config::Store {
            retention: None,
            ..config.clone()
        };
        let job = Retention::new(store.clone(), &for_ever, DAY, Arc::default());
        assert_eq!(job.run_once().await, Ok(0));
        let longer_than_time = config::Store {
            retention: Some(Duration::MAX),
            ..config
        };
        let job = Retention::new(store, &longer_than_time, DAY, Arc::default());
        assert_eq!(job.run_once().await, Ok(0));
    }

    fn config(retention: Duration) -> config::Store {
        config::Store {
            url: "memory:".into(),
            retention: Some(retention),
            retention_interval: Duration::from_millis(20),
            retention_batch: 3,
            ..config::Store::default()
        }
    }

    /// Lets real time pass, since messages are dated by it.
    fn wait_a_millisecond() {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
    }

    async fn drain(mut commits: Commits) {
        while let Some(commit) = commits.next().await {
            commit.resolve();
        }
    }

    async fn conversation(store: &Store) -> Uuid {
        let new = NewConversation::lobby();
        store.insert_conversation(new).await.unwrap().id
    }

    async fn send(store: &Store, id: Uuid) {
        let message = NewMessage {
            conversation_id: id,
            user_id: "ann".into(),
            user_name: "Ann".into(),
            content: "x".into(),
            kind: MessageKind::User,
            metadata: RawValue::from_string("{}".into()).unwrap(),
            client_message_id: None,
            reply_to: None,
            mentions: Vec::new(),
            notice: None,
            holder: None,
        };
        store
            .insert_message(message, Origin::default())
            .await
            .unwrap();
    }

    async fn seqs(store: &Store, id: Uuid) -> Vec<u64> {
        let page = store.history(id, Page::Newest, 100).await.unwrap().unwrap();
        page.messages.iter().map(|message| message.seq).collect()
    }
}
