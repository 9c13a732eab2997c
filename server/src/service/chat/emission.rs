//! From what is stored to those who are there: what this server commits comes by itself, what others
//! commit is looked for.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::handle::{Chat, now};
use super::sequencer::delivery;
use super::sequencer::order::{Gap, Verdict};
use crate::service::hooks::Source as HookSource;
use crate::store::{Commit, Commits, Committed, FORGOTTEN_AT_ONCE, Missed, StoreError};
use roomcast::{Io, Namespace};

impl Chat {
    /// Emits what is stored in a lane, in the order of storing. Ends when the store is closed and everything
    /// that was stored is emitted, and panics with whatever fills a gap.
    pub(crate) async fn run(self, io: Io, mut commits: Commits) {
        let namespace = io.of("/");
        let mut filling = JoinSet::new();
        // Commits are emitted one by one by this task alone, which is what gives each conversation
        // one order. Gaps are filled beside it, so that one conversation that waits does not hold
        // up the lane.
        loop {
            tokio::select! {
                commit = commits.next() => match commit {
                    Some(commit) => if let Some((id, gap)) = self.emit(&namespace, commit) {
                        filling.spawn(self.clone().fill(namespace.clone(), id, gap));
                    },
                    None => break,
                },
                Some(filled) = filling.join_next() => {
                    // A panic must end this task too: it drops the end of the lane, which then
                    // stores nothing that nobody would emit.
                    if let Err(error) = filled && error.is_panic() {
                        resume_unwind(error.into_panic());
                    }
                }
            }
        }
        // The store is closed, so that nothing is waited for any more.
        filling.join_all().await;
    }

    /// Tells what is due by time, as long as it runs.
    pub(crate) async fn advance(self, io: Io) {
        let (namespace, conversations) = (io.of("/"), &self.0.conversations);
        let advance = |id| {
            conversations.with(id, |live| live.advance(&namespace, now()));
        };
        conversations.time_out(advance).await;
    }

    /// Shows what was stored to those who are in its conversation, then answers who asked for it.
    /// Messages go out from here alone, and where a gap is filled. Says what is missing before it.
    fn emit(&self, namespace: &Namespace, commit: Commit) -> Option<(Uuid, Gap)> {
        let id = commit.event().conversation_id();
        let common = self.0.conversations.common();
        // Other servers are told of a message that is to be confirmed when they are asked for that.
        if let Some(announcer) = &common.announcer
            && !commit.is_foreign()
            && !commit.origin().confirm
        {
            announcer.step(commit.event(), commit.revision());
        }
        // Notifications were stored in the transaction of the message, so they may be told from
        // here on.
        self.tell_mentioned(&commit);
        // The commit is moved only if somebody is here; otherwise it is answered below without the
        // lock of a conversation.
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

    /// Has those told whom a message of this server mentions, and webhooks, of what is stored with it. Other servers read it in
    /// the feed.
    fn tell_mentioned(&self, commit: &Commit) {
        if let Committed::Message(message) = commit.event()
            && !commit.is_foreign()
            && !message.mentions.is_empty()
        {
            self.0.notifications.tell_soon(&message.mentions);
            for (journal, entry) in commit.notified() {
                let source = HookSource::User(message.user_id.clone());
                self.0.notifications.hook(journal, entry, source);
            }
        }
    }

    /// Reads what was stored but has not come by: another server stored it, or this one before its
    /// connection was lost. What came by meanwhile waits in its conversation, for a limited time.
    async fn fill(self, namespace: Namespace, id: Uuid, mut gap: Gap) {
        let conversations = &self.0.conversations;
        let mut patience = GapPatience::new();
        loop {
            // Nothing is locked while the store is read. What is committed meanwhile queues up
            // behind the gap.
            let Some(missed) = self.read_missed(&namespace, id, gap, &mut patience).await else {
                conversations.with(id, |live| live.abandon(&namespace));
                return;
            };
            match conversations.with(id, |live| live.fill(&namespace, gap, missed)) {
                Some(Some(next)) => gap = next,
                Some(None) => break,
                None => return,
            }
        }
        // The clients find out that the interruption is over, whatever was missing.
        if patience.is_over
            && let Ok(Some(now)) = self.0.store.conversation(id).await
        {
            conversations.with(id, |live| live.reload(&namespace, &now));
        }
    }

    /// Reads the first steps of a gap, until the store answers or no socket is left to wait for it. Returns `None` then.
    ///
    /// A gap that lasts hides removals and revocations. Both are read before its first step is emitted.
    async fn read_missed(
        &self,
        namespace: &Namespace,
        id: Uuid,
        gap: Gap,
        patience: &mut GapPatience,
    ) -> Option<Missed> {
        let conversations = &self.0.conversations;
        loop {
            // A gap may be long, so it is read page by page and each page is emitted before the
            // next one is read.
            let limit = self.0.limits.page;
            let page = self.0.store.missed(id, gap.after, gap.through, limit);
            let so_far = *patience;
            let reading = async {
                let missed = page.await?;
                if so_far.lasts() {
                    self.evict_gone(namespace, id).await?;
                }
                Ok(missed)
            };
            tokio::pin!(reading);
            let read = tokio::select! {
                read = &mut reading => read,
                () = sleep_until(patience.deadline), if !patience.is_over => {
                    patience.is_over = true;
                    conversations.with(id, |live| live.interrupt(namespace));
                    reading.await
                }
            };
            match read {
                Ok(missed) => return Some(missed),
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    let pause = patience.pause();
                    sleep(error.retry_after().min(pause)).await;
                }
            }
            let is_attended = conversations.with(id, |live| live.is_attended());
            if patience.is_over && is_attended != Some(true) {
                return None;
            }
        }
    }

    /// Has those leave that may not see what comes after a gap: users that are no members now, and whatever is revoked.
    async fn evict_gone(&self, namespace: &Namespace, id: Uuid) -> Result<(), StoreError> {
        // Without a row the conversation is deleted, which the steps say.
        if let Some(now) = self.0.store.conversation(id).await? {
            let conversations = &self.0.conversations;
            conversations.with(id, |live| live.evict_strangers(namespace, &now));
        }
        if self.0.store.is_shared() {
            self.0.fed.applied().await;
        }
        Ok(())
    }

    /// Looks what other servers have committed in the conversations in which somebody is here, as long as
    /// it runs, and forgets what none of them needs any more.
    pub(crate) async fn follow(self, io: Io) {
        let namespace = io.of("/");
        // The interval doubles while the store does not answer, and goes back at once when it does.
        let mut pause = TURN;
        let mut turns: u32 = 0;
        let mut has_more = false;
        loop {
            sleep(pause).await;
            pause = match self.look(&namespace).await {
                Ok(()) => TURN,
                // The log of the store says why it does not answer.
                Err(_) => (pause * 2).min(LONGEST_PAUSE),
            };
            turns = turns.wrapping_add(1);
            // A backlog is worked off in every turn, and otherwise a deletion that finds nothing is
            // spared.
            if has_more || turns.is_multiple_of(FORGETTING) {
                let forgotten = self.0.store.forget_changes().await;
                has_more = forgotten.is_ok_and(|changes| changes >= FORGOTTEN_AT_ONCE);
            }
        }
    }

    async fn look(&self, namespace: &Namespace) -> Result<(), StoreError> {
        let conversations = &self.0.conversations;
        // The statement has a bounded list, so that it neither grows with the server nor holds a
        // connection for long.
        for ids in conversations.ids().chunks(BATCH) {
            let mut unknown: HashSet<Uuid> = ids.iter().copied().collect();
            for (id, revision) in self.0.store.revisions(ids).await? {
                unknown.remove(&id);
                let is_behind = |gap| matches!(gap, Verdict::Gap(_));
                let behind = conversations.with(id, |live| {
                    // The revision goes through the lane instead of being read here: behind the
                    // commits of this server that are on their way, nothing of its own looks
                    // missing.
                    is_behind(live.sequencer.look(revision, revision))
                });
                if behind == Some(true) {
                    let event = Committed::Announced(id);
                    drop(self.0.store.announce(event, revision, false));
                }
            }
            // The rows of these conversations may be gone, with the change that would have told of
            // it.
            for id in unknown {
                if self.0.store.conversation(id).await?.is_none() {
                    // A conversation is closed only if the store says itself that its row is gone.
                    conversations.with(id, |live| live.close(namespace, 0));
                }
            }
        }
        Ok(())
    }
}

/// How long a conversation waits for what is missing.
#[derive(Clone, Copy)]
struct GapPatience {
    since: Instant,
    /// When what waits is dropped.
    deadline: Instant,
    /// Whether it was dropped.
    is_over: bool,
    /// Whether a read has failed.
    has_failed: bool,
    pause: Duration,
}

impl GapPatience {
    fn new() -> Self {
        let since = Instant::now();
        Self {
            since,
            deadline: since + GAP_PATIENCE,
            is_over: false,
            has_failed: false,
            pause: GAP_PAUSE,
        }
    }

    /// Returns whether others may have been removed or revoked while the gap could not be read.
    fn lasts(&self) -> bool {
        self.has_failed || self.since.elapsed() > SHORT_GAP
    }

    /// Notes that a read has failed. Returns how long to wait before the next one.
    fn pause(&mut self) -> Duration {
        self.has_failed = true;
        let pause = self.pause;
        if self.is_over {
            // All conversations of the server may wait for the store.
            self.pause = (pause * 2).min(LONGEST_PAUSE);
        }
        pause
    }
}

/// How long messages of a conversation may wait for one that is stored before them.
const GAP_PATIENCE: Duration = Duration::from_secs(30);

/// The first pause between two tries to read the message.
const GAP_PAUSE: Duration = Duration::from_millis(250);

/// A gap that is read within this time hides nothing that is not in its steps: so long removals and revocations may
/// take to another server in any case.
const SHORT_GAP: Duration = Duration::from_millis(500);

/// How often others are looked at: half of what is promised.
const TURN: Duration = Duration::from_millis(500);
/// How long nobody asks a store that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Conversations that are asked for at once.
const BATCH: usize = 1000;
/// The number of turns after which old changes are forgotten.
const FORGETTING: u32 = 120;
