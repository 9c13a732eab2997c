//! Emits stored changes to clients.
//!
//! The store sends the commits of this server through a channel. Commits of other servers are
//! announced, or found by polling the store.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::handle::{Chat, now};
use super::sequencer::delivery;
use super::sequencer::order::{EmitDecision, Gap};
use super::sequencer::traced;
use crate::service::feed::follower::{Failure, Followed, Intervals, Progress};
use crate::service::hooks::Source as HookSource;
use crate::store::{Commit, Commits, Committed, MAX_REMOVED_CHANGES, Missed, StoreError};
use roomcast::{Io, Namespace};

impl Chat {
    /// Emits the commits of one write worker in the order in which they were stored.
    ///
    /// Ends when the store is closed and all its commits are emitted. Panics if a task that fills a
    /// gap panics.
    pub(crate) async fn run(self, io: Io, mut commits: Commits) {
        let namespace = io.of("/");
        let mut filling = JoinSet::new();
        // Only this task emits commits, one by one, which gives each conversation one order. Gaps
        // are filled in separate tasks, so that a waiting conversation does not block the worker.
        loop {
            tokio::select! {
                commit = commits.next() => match commit {
                    Some(commit) => if let Some((id, gap)) = self.emit(&namespace, commit) {
                        filling.spawn(self.clone().fill(namespace.clone(), id, gap));
                    },
                    None => break,
                },
                Some(filled) = filling.join_next() => {
                    // A panic must end this task too. The write worker then stops storing.
                    // Otherwise it would store changes that no task emits.
                    if let Err(error) = filled && error.is_panic() {
                        resume_unwind(error.into_panic());
                    }
                }
            }
        }
        // The store is closed, so the remaining tasks end without waiting.
        filling.join_all().await;
    }

    /// Emits each notice when it is due. Never returns.
    pub(crate) async fn advance(self, io: Io) {
        let (namespace, conversations) = (io.of("/"), &self.0.conversations);
        let advance = |id| {
            conversations.with(id, |live| live.advance(&namespace, now()));
        };
        conversations.time_out(advance).await;
    }

    /// Emits a commit to the sockets in its conversation, then answers the sender.
    ///
    /// Returns the gap before the commit, if earlier steps are missing. Messages are emitted only
    /// here and where a gap is filled.
    fn emit(&self, namespace: &Namespace, commit: Commit) -> Option<(Uuid, Gap)> {
        let id = commit.event().conversation_id();
        let common = self.0.conversations.common();
        traced::committed(&common.traces, &commit);
        // A message that is to be confirmed is announced together with the confirmation request.
        if let Some(announcer) = &common.announcer
            && !commit.is_foreign()
            && !commit.origin().confirm
        {
            announcer.step(commit.event(), commit.revision(), commit.origin().trace);
        }
        if let Committed::Edited(message) | Committed::Deleted { message, .. } = commit.event() {
            self.0.streams.forget(message.id);
        }
        // What other servers have committed may be older than what is written here: their removals
        // are found by the sweep.
        if let Committed::Members {
            user_id,
            removed: true,
            ..
        } = commit.event()
            && !commit.is_foreign()
        {
            self.interrupt_removed(id, user_id);
        }
        // The notifications were stored in the transaction of the message, so they can be emitted
        // now.
        match commit.origin().trace {
            Some(trace) => trace.call(common.traces.spans(), || self.notify_mentioned(&commit)),
            None => self.notify_mentioned(&commit),
        }
        // The commit is moved only if the conversation is live. Otherwise it is answered below,
        // without the lock of a conversation.
        let mut commit = Some(commit);
        let gap = self.0.conversations.with(id, |live| {
            commit
                .take()
                .and_then(|commit| live.sequence(namespace, commit))
        });
        if let Some(commit) = commit {
            delivery::unseen(namespace, common, commit);
        }
        gap.flatten().map(|gap| (id, gap))
    }

    /// Notifies mentioned users and webhooks of the notifications that were stored with a message
    /// of this server.
    ///
    /// Other servers read these notifications from the feed.
    fn notify_mentioned(&self, commit: &Commit) {
        // A message that is being written notifies at its end.
        if let Committed::Message(message) | Committed::Edited(message) = commit.event()
            && !message.streaming
            && (message.version == 1 || !commit.notified().is_empty())
            && !commit.is_foreign()
            && !message.mentions.is_empty()
        {
            self.0.notifications.schedule(&message.mentions);
            for (journal, entry) in commit.notified() {
                let source = HookSource::User(message.user_id.clone());
                self.0.notifications.hook(journal, entry, source);
            }
        }
    }

    /// Reads the steps of a gap from the store and emits them.
    ///
    /// Another server stored them, or this server did before it lost its connection. Commits that
    /// arrive in the meantime wait in their conversation, for a limited time.
    async fn fill(self, namespace: Namespace, id: Uuid, mut gap: Gap) {
        let conversations = &self.0.conversations;
        let mut timer = GapTimer::new();
        loop {
            // No lock is held while the store is read. New commits queue up after the gap.
            let Some(missed) = self.read_missed(&namespace, id, gap, &mut timer).await else {
                conversations.with(id, |live| live.abandon(&namespace));
                return;
            };
            match conversations.with(id, |live| live.fill(&namespace, gap, missed)) {
                Some(Some(next)) => gap = next,
                Some(None) => break,
                None => return,
            }
        }
        // The clients learn that the interruption is over, no matter which steps were missing.
        while timer.is_over {
            match self.0.store.conversation(id).await {
                Ok(Some(now)) => {
                    conversations.with(id, |live| live.reload(&namespace, &now));
                    return;
                }
                // The steps of a deleted conversation contain its end.
                Ok(None) | Err(StoreError::Closed) => return,
                Err(error) => sleep(error.retry_after().min(timer.delay())).await,
            }
        }
    }

    /// Reads the first steps of a gap.
    ///
    /// Retries until the store answers. Returns `None` if the store is closed, or if the
    /// conversation is interrupted and no socket is left in it. A removal or a revocation may be
    /// hidden in a gap that lasts. Both are therefore read before the first step of the gap is
    /// emitted.
    async fn read_missed(
        &self,
        namespace: &Namespace,
        id: Uuid,
        gap: Gap,
        timer: &mut GapTimer,
    ) -> Option<Missed> {
        let conversations = &self.0.conversations;
        loop {
            // A gap may be long, so it is read page by page. Each page is emitted before the next
            // is read.
            let limit = self.0.limits.page;
            let page = self.0.store.missed(id, gap.after, gap.through, limit);
            let so_far = *timer;
            let reading = async {
                let missed = page.await?;
                if so_far.lasts() {
                    self.evict_unauthorized(namespace, id).await?;
                }
                Ok(missed)
            };
            tokio::pin!(reading);
            let read = tokio::select! {
                read = &mut reading => read,
                () = sleep_until(timer.deadline), if !timer.is_over => {
                    timer.is_over = true;
                    conversations.with(id, |live| live.interrupt(namespace));
                    reading.await
                }
            };
            match read {
                Ok(missed) => return Some(missed),
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    let delay = timer.delay();
                    sleep(error.retry_after().min(delay)).await;
                }
            }
            let is_attended = conversations.with(id, |live| live.is_attended());
            if timer.is_over && is_attended != Some(true) {
                return None;
            }
        }
    }

    /// Removes sockets that must not see the steps of a gap: users that are no longer members, and
    /// revoked credentials.
    async fn evict_unauthorized(&self, namespace: &Namespace, id: Uuid) -> Result<(), StoreError> {
        // If there is no row, the conversation was deleted, and the missing steps contain the
        // deletion.
        if let Some(now) = self.0.store.conversation(id).await? {
            let conversations = &self.0.conversations;
            conversations.with(id, |live| live.evict_nonmembers(namespace, &now));
        }
        if self.0.store.is_shared() {
            self.0.fed.applied().await;
        }
        Ok(())
    }

    /// Returns a follower of commits of other servers in live conversations.
    pub(crate) fn remote_commits(&self, io: &Io) -> RemoteCommits {
        RemoteCommits {
            chat: self.clone(),
            namespace: io.of("/"),
        }
    }

    async fn poll_revisions(&self, namespace: &Namespace) -> Result<(), StoreError> {
        let conversations = &self.0.conversations;
        // Each query has at most `BATCH` ids. A query for all conversations of a busy server would
        // hold a connection for long.
        for ids in conversations.ids().chunks(BATCH) {
            let mut unknown: HashSet<Uuid> = ids.iter().copied().collect();
            for (id, revision) in self.0.store.revisions(ids).await? {
                unknown.remove(&id);
                let is_gap = |gap| matches!(gap, EmitDecision::Gap(_));
                let lags = conversations.with(id, |live| {
                    // The revision is queued in the write worker, after this server's own commits
                    // in flight. If the steps were read here, those commits would look missing.
                    is_gap(live.sequencer.decide(revision, revision))
                });
                if lags == Some(true) {
                    let event = Committed::Announced(id);
                    drop(self.0.store.announce(event, revision, false));
                }
            }
            // These conversations may have been deleted, together with the change that announces
            // the deletion.
            for id in unknown {
                if self.0.store.conversation(id).await?.is_none() {
                    // A conversation is closed only if the store confirms that its row is deleted.
                    conversations.with(id, |live| live.close(namespace, 0));
                }
            }
        }
        Ok(())
    }
}

/// Polls the store for commits of other servers in live conversations, and deletes old changes.
///
/// Each conversation has its own mark: the last revision that was emitted.
pub(crate) struct RemoteCommits {
    chat: Chat,
    namespace: Namespace,
}

impl Followed for RemoteCommits {
    async fn advance(&mut self) -> Result<Progress, Failure> {
        // This iteration only queues announcements. The emission task emits the commits later, or
        // has emitted them already.
        self.chat.poll_revisions(&self.namespace).await?;
        Ok(Progress::Done { changed: false })
    }

    fn intervals(&self) -> Intervals {
        Intervals::every(POLL_INTERVAL)
    }

    async fn clean(&mut self) -> Result<bool, Failure> {
        let removed = self.chat.0.store.forget_changes().await?;
        Ok(removed >= MAX_REMOVED_CHANGES)
    }
}

/// The time limits of a conversation that waits for missing steps.
#[derive(Clone, Copy)]
struct GapTimer {
    since: Instant,
    /// When the waiting commits are dropped.
    deadline: Instant,
    /// Whether they were dropped.
    is_over: bool,
    /// Whether a read has failed.
    has_failed: bool,
    delay: Duration,
}

impl GapTimer {
    fn new() -> Self {
        let since = Instant::now();
        Self {
            since,
            deadline: since + GAP_TIMEOUT,
            is_over: false,
            has_failed: false,
            delay: GAP_DELAY,
        }
    }

    /// Returns whether members may have been removed or credentials revoked while the gap could not
    /// be read.
    fn lasts(&self) -> bool {
        self.has_failed || self.since.elapsed() > SHORT_GAP
    }

    /// Records a failed read and returns the delay before the next one.
    fn delay(&mut self) -> Duration {
        self.has_failed = true;
        let delay = self.delay;
        if self.is_over {
            // All conversations of the server may be waiting for the store.
            self.delay = (delay * 2).min(MAX_GAP_DELAY);
        }
        delay
    }
}

/// Maximum time for which commits of a conversation wait for an earlier commit.
const GAP_TIMEOUT: Duration = Duration::from_secs(30);

/// The first delay between two attempts to read the missing steps.
const GAP_DELAY: Duration = Duration::from_millis(250);

/// The longest gap that needs no separate check for removals and revocations, because these may
/// take this long to reach another server anyway.
const SHORT_GAP: Duration = Duration::from_millis(500);

/// The interval for polling commits of other servers: half of the documented delay.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The longest delay between two attempts to read a gap.
const MAX_GAP_DELAY: Duration = Duration::from_secs(4);
/// The number of conversations per query.
const BATCH: usize = 1000;
