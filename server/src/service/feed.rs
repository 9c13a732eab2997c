//! Applies changes that other servers have committed to the shared store.
//!
//! A reader polls the change feed. For each changed table, the registered [`Applier`] reads the
//! current rows, so a change may be applied again and in any order. Two readers exist, so that
//! revocations do not wait for conversation changes.
//!
//! A new reader, or a reader that lags behind the retained feed, marks the end of the feed and then
//! reads the tables.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::store::{Changed, Feed, FeedMark, StoreError};

/// Brings this server up to date with one table of the store.
pub(crate) trait Applier: Send + Sync {
    /// Returns the name of the table.
    fn topic(&self) -> &'static str;

    /// Reads the entries that may have changed and applies them.
    ///
    /// Entries that this server is changing at the same time are skipped, because the rows just
    /// read may be older.
    fn apply<'a>(&'a self, feed: &'a Feed, changed: &'a Entries) -> Applying<'a>;
}

pub(crate) type Applying<'a> =
    Pin<Box<dyn Future<Output = Result<Applied, StoreError>> + Send + 'a>>;

/// The entries of a table that may have changed.
pub(crate) enum Entries {
    All,
    /// Entries by their keys in the feed. Not empty.
    These(HashSet<String>),
}

/// The result of applying changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// This server is changing one of the entries too, so they must be applied again.
    pub(in crate::service) own: bool,
    /// An entry did not fit and must be applied again later.
    pub(in crate::service) too_many: bool,
}

/// A reader of the change feed. Clones share its state.
#[derive(Clone)]
pub(crate) struct ChangeFeed(Arc<FeedInner>);

struct FeedInner {
    feed: Feed,
    appliers: Vec<Box<dyn Applier>>,
    fed: Arc<FeedProgress>,
    /// Whether this reader also deletes feed entries that all servers have read.
    shortens: bool,
    /// The mark to start from, if the tables need not be read first.
    begin: Mutex<Option<FeedMark>>,
}

/// Wakes the readers of the feed, and reports when revocations and blocks are applied.
#[derive(Debug, Default)]
pub(crate) struct FeedProgress {
    woken: watch::Sender<()>,
    /// The start of the last iteration that applied the whole feed.
    applied: watch::Sender<Option<Instant>>,
}

impl FeedProgress {
    /// Wakes the readers, so that they read the feed immediately.
    pub(in crate::service) fn wake(&self) {
        self.woken.send_replace(());
    }

    /// Waits until every change is applied that is in the feed when this method is called.
    ///
    /// The store must have a feed. This method waits for as long as the store does not answer.
    pub(in crate::service) async fn applied(&self) {
        let asked = Instant::now();
        let mut applied = self.applied.subscribe();
        loop {
            self.wake();
            let is_applied = applied.wait_for(|began| began.is_some_and(|began| began >= asked));
            // After failures a reader sleeps longer and longer, so this loop wakes it again.
            if timeout(POLL_INTERVAL, is_applied).await.is_ok() {
                return;
            }
        }
    }
}

/// The position and the schedule of one reader.
#[derive(Default)]
struct Reader {
    /// The mark up to which the feed is read, or `None` if the tables must be read first.
    mark: Option<FeedMark>,
    /// When to read the tables again, because an entry did not fit.
    full: Option<Instant>,
    /// A mark taken earlier, with the time when it was taken.
    older: Option<(Instant, FeedMark)>,
    /// A mark that every server that still reads the feed has passed.
    passed: Option<FeedMark>,
    /// When the feed was last shortened.
    shortened: Option<Instant>,
}

impl ChangeFeed {
    /// Creates the main reader. Code that learns of new feed entries calls [`FeedProgress::wake`].
    pub(crate) fn new(
        feed: Feed,
        appliers: Vec<Box<dyn Applier>>,
        fed: &Arc<FeedProgress>,
    ) -> Self {
        Self(Arc::new(FeedInner {
            feed,
            appliers,
            fed: Arc::clone(fed),
            shortens: true,
            begin: Mutex::default(),
        }))
    }

    /// Creates a second reader, which does not shorten the feed.
    ///
    /// It applies every change made after this call. If the store does not answer now, the reader
    /// starts with its first iteration.
    pub(crate) async fn second_reader(
        feed: Feed,
        applier: Box<dyn Applier>,
        fed: &Arc<FeedProgress>,
    ) -> Self {
        let begin = Mutex::new(feed.end().await.ok());
        Self(Arc::new(FeedInner {
            begin,
            feed,
            appliers: vec![applier],
            fed: Arc::clone(fed),
            shortens: false,
        }))
    }

    /// Applies changes of other servers for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut reader = Reader {
            mark: self.0.begin.lock().take(),
            ..Reader::default()
        };
        let mut pause = POLL_INTERVAL;
        let mut woken = self.0.fed.woken.subscribe();
        loop {
            tokio::select! {
                // The reader also polls without a wake-up, because an announcement may be lost.
                () = sleep(pause) => {}
                Ok(()) = woken.changed() => {}
            }
            let began = Instant::now();
            match self.0.turn(&mut reader).await {
                Ok(is_complete) => {
                    pause = POLL_INTERVAL;
                    // The second reader does not apply revocations.
                    if is_complete && self.0.shortens {
                        self.0.fed.applied.send_replace(Some(began));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "could not read changes of other servers, retrying");
                    pause = after(pause, error);
                }
            }
        }
    }
}

impl FeedInner {
    /// Applies new changes.
    ///
    /// Returns whether everything is applied that was in the feed when the iteration began.
    async fn turn(&self, reader: &mut Reader) -> Result<bool, StoreError> {
        if reader.full.is_some_and(|again| again <= Instant::now()) {
            reader.mark = None;
        }
        loop {
            let Some(mark) = &reader.mark else {
                return self.reload(reader).await;
            };
            let Some(page) = self.feed.read(mark, PAGE).await? else {
                if self.shortens {
                    tracing::info!(
                        "missed changes that the store no longer has, reloading everything"
                    );
                }
                reader.mark = None;
                continue;
            };
            let applied = self.dispatch(page.changes).await?;
            reader.note(applied);
            // The page is read again: concurrent changes of this server may be newer than the rows
            // that were read.
            if applied.own {
                return Ok(false);
            }
            reader.mark = Some(page.next);
            if !page.has_more {
                if self.shortens {
                    // Only a reader that has caught up shortens the feed. A slow reader would
                    // delete entries that it has not read.
                    self.shorten(reader).await;
                }
                return Ok(true);
            }
        }
    }

    /// Reads the tables.
    ///
    /// Changes committed in the meantime are after the new mark. Returns whether all entries are
    /// applied.
    async fn reload(&self, reader: &mut Reader) -> Result<bool, StoreError> {
        // The mark is taken before the tables are read. Changes in between are applied twice, which
        // is harmless. With a later mark they would be missed.
        let mark = self.feed.end().await?;
        let mut all = Applied::default();
        for applier in &self.appliers {
            all.add(applier.apply(&self.feed, &Entries::All).await?);
        }
        reader.full = None;
        reader.note(all);
        // Without a mark the next iteration reads the tables again.
        if !all.own {
            reader.mark = Some(mark);
        }
        Ok(!all.own)
    }

    async fn dispatch(&self, changes: Vec<Changed>) -> Result<Applied, StoreError> {
        let mut topics: HashMap<String, Entries> = HashMap::new();
        for Changed { topic, key } in changes {
            let entries = topics.entry(topic);
            let entries = entries.or_insert_with(|| Entries::These(HashSet::new()));
            match (key, entries) {
                (Some(key), Entries::These(keys)) => drop(keys.insert(key)),
                (None, entries) => *entries = Entries::All,
                (Some(_), Entries::All) => {}
            }
        }
        let mut all = Applied::default();
        // Topics without an applier come from newer versions and are ignored.
        for applier in &self.appliers {
            if let Some(entries) = topics.get(applier.topic()) {
                all.add(applier.apply(&self.feed, entries).await?);
            }
        }
        Ok(all)
    }

    /// Deletes feed entries from the store when due, if all servers have read them.
    async fn shorten(&self, reader: &mut Reader) {
        let now = Instant::now();
        let is_due = |time: Option<Instant>, span| time.is_none_or(|time| now >= time + span);
        if is_due(reader.older.as_ref().map(|(since, _)| *since), RETENTION) {
            let newer = reader.mark.clone().map(|mark| (now, mark));
            let older = std::mem::replace(&mut reader.older, newer);
            // A mark counts as passed one period later. Every server that reads the feed is past it
            // by then.
            reader.passed = older.map(|(_, mark)| mark);
        }
        if is_due(reader.shortened, SHORTEN_INTERVAL) {
            let shortened = self.feed.shorten(reader.passed.as_ref(), MAX_ENTRIES).await;
            if let Err(error) = shortened {
                tracing::debug!(%error, "could not delete old changes");
            }
            reader.shortened = Some(now).filter(|_| shortened != Ok(true));
        }
    }
}

impl Reader {
    fn note(&mut self, applied: Applied) {
        if applied.too_many && self.full.is_none() {
            self.full = Some(Instant::now() + RELOAD_DELAY);
        }
    }
}

impl Applied {
    pub(in crate::service) fn add(&mut self, other: Self) {
        self.own |= other.own;
        self.too_many |= other.too_many;
    }
}

/// Returns the delay after a failure.
fn after(pause: Duration, error: StoreError) -> Duration {
    // If the store is overloaded, the feed itself has not failed.
    if error == StoreError::Overloaded {
        return pause;
    }
    (pause * 2).min(LONGEST_PAUSE)
}

/// The poll interval of the feed.
///
/// Prices of 10,000 symbols must reach clients of other servers within 500 ms. Storing and reading
/// the prices takes the rest of that time.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The longest delay between reads while the store does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The number of changes read per query.
const PAGE: usize = 1000;
/// The delay before the tables are read again because an entry did not fit.
const RELOAD_DELAY: Duration = Duration::from_secs(5);
/// How long feed entries are retained, unless there are more than [`MAX_ENTRIES`].
const RETENTION: Duration = Duration::from_secs(600);
/// The interval between deletions of old feed entries.
const SHORTEN_INTERVAL: Duration = Duration::from_secs(60);
/// The approximate maximum number of feed entries.
const MAX_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_store_is_polled_less_often_than_a_busy_store() {
        let mut pause = POLL_INTERVAL;
        pause = after(pause, StoreError::Overloaded);
        assert_eq!(pause, POLL_INTERVAL);
        for _ in 0..9 {
            assert!(pause <= after(pause, StoreError::Failed));
            pause = after(pause, StoreError::Failed);
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }
}
