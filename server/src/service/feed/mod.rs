//! Applies changes that other servers have committed to the shared store.
//!
//! A [`FeedReader`] follows the change feed. For each changed table, the registered [`Applier`]
//! reads the current rows, so a change may be applied again and in any order. Three readers exist,
//! so that revocations wait neither for conversation changes nor for statuses.
//!
//! A new reader, or a reader that lags behind the retained feed, marks the end of the feed and then
//! reads the tables.

pub(in crate::service) mod follower;

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
    time::{Instant, timeout},
};

use crate::store::{Changed, Feed, FeedMark, StoreError};
use follower::{Failure, Followed, Follower, Intervals, Progress};

/// Brings this server up to date with one table of the store.
pub(crate) trait Applier: Send + Sync {
    /// Returns the name of the table, or of changes that only the feed has.
    fn topic(&self) -> &'static str;

    /// Returns whether a table has the current state. Otherwise [`Entries::All`] means that changes
    /// may have been missed.
    fn has_table(&self) -> bool {
        true
    }

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

/// The change feed and what is done with its changes. Clones share it.
#[derive(Clone)]
pub(crate) struct ChangeFeed(Arc<FeedInner>);

struct FeedInner {
    feed: Feed,
    appliers: Vec<Box<dyn Applier>>,
    fed: Arc<FeedProgress>,
    /// Whether the reader also deletes feed entries that all servers have read.
    shortens: bool,
    /// The mark to start from, if the tables need not be read first.
    begin: Mutex<Option<FeedMark>>,
}

/// Wakes the readers of the feed, and reports when revocations and blocks are applied.
#[derive(Debug)]
pub(crate) struct FeedProgress {
    woken: watch::Sender<()>,
    /// The follower of the main reader. The additional readers do not apply revocations.
    main: Follower,
}

impl FeedProgress {
    pub(crate) fn new() -> Self {
        Self {
            woken: watch::Sender::default(),
            main: Follower::new("change feed"),
        }
    }

    /// Wakes the readers, so that they read the feed immediately.
    pub(in crate::service) fn wake(&self) {
        self.woken.send_replace(());
    }

    /// Waits until every change is applied that is in the feed when this method is called.
    ///
    /// The store must have a feed. This method waits for as long as the store does not answer.
    pub(crate) async fn applied(&self) {
        let start = Instant::now();
        loop {
            self.wake();
            // After failures a reader sleeps longer and longer, so this loop wakes it again.
            let applied = timeout(POLL_INTERVAL, self.main.applied_since(start));
            if applied.await.is_ok() {
                return;
            }
        }
    }
}

/// Follows the change feed.
pub(crate) struct FeedReader {
    inner: Arc<FeedInner>,
    woken: watch::Receiver<()>,
    /// The mark up to which the feed is read, or `None` if the tables must be read first.
    mark: Option<FeedMark>,
    /// When to read the tables again, because an entry did not fit.
    full: Option<Instant>,
    /// A mark taken earlier, with the time when it was taken.
    older: Option<(Instant, FeedMark)>,
    /// A mark that every server that still reads the feed has passed.
    passed: Option<FeedMark>,
}

impl ChangeFeed {
    /// Creates the feed of the main reader, and returns the follower that reads it.
    ///
    /// Code that learns of new feed entries calls [`FeedProgress::wake`].
    pub(crate) fn new(
        feed: Feed,
        appliers: Vec<Box<dyn Applier>>,
        fed: &Arc<FeedProgress>,
    ) -> (Self, Follower) {
        let changes = Self(Arc::new(FeedInner {
            feed,
            appliers,
            fed: Arc::clone(fed),
            shortens: true,
            begin: Mutex::default(),
        }));
        (changes, fed.main.clone())
    }

    /// Creates the feed of an additional reader, which does not shorten it.
    ///
    /// It applies every change made after this call. If the store does not answer now, the reader
    /// starts with its first iteration.
    pub(crate) async fn additional_reader(
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

    /// Returns a new reader. The first one may start at the mark of the feed's creation.
    pub(crate) fn reader(&self) -> FeedReader {
        FeedReader {
            inner: Arc::clone(&self.0),
            woken: self.0.fed.woken.subscribe(),
            mark: self.0.begin.lock().take(),
            full: None,
            older: None,
            passed: None,
        }
    }
}

impl Followed for FeedReader {
    async fn advance(&mut self) -> Result<Progress, Failure> {
        if self.full.is_some_and(|again| again <= Instant::now()) {
            // The feed is read on from the mark, so nothing in it is missed.
            let applied = self
                .inner
                .read_tables(|applier| applier.has_table())
                .await?;
            self.full = applied.own.then(Instant::now);
            self.note(applied);
        }
        let Some(mark) = &self.mark else {
            return self.reload().await;
        };
        let Some(page) = self.inner.feed.read(mark, PAGE).await? else {
            if self.inner.shortens {
                tracing::info!("missed changes that the store no longer has, reloading everything");
            }
            return self.reload().await;
        };
        let changed = !page.changes.is_empty();
        let applied = self.inner.dispatch(page.changes).await?;
        self.note(applied);
        // The page is read again: concurrent changes of this server may be newer than the rows that
        // were read.
        if applied.own {
            return Ok(Progress::Partial);
        }
        self.mark = Some(page.next);
        Ok(match page.has_more {
            true => Progress::More,
            false => Progress::Done { changed },
        })
    }

    fn intervals(&self) -> Intervals {
        Intervals::every(POLL_INTERVAL)
    }

    async fn woken(&mut self) {
        // The sender is in the feed, so waiting never fails.
        let _ = self.woken.changed().await;
    }

    /// Deletes feed entries from the store, if all servers have read them.
    ///
    /// Only a reader that has caught up shortens the feed. A slow reader would delete entries that
    /// it has not read.
    async fn clean(&mut self) -> Result<bool, Failure> {
        if !self.inner.shortens {
            return Ok(false);
        }
        let now = Instant::now();
        let since = self.older.as_ref().map(|(since, _)| *since);
        if since.is_none_or(|since| now >= since + RETENTION) {
            let newer = self.mark.clone().map(|mark| (now, mark));
            let older = std::mem::replace(&mut self.older, newer);
            // A mark counts as passed one period later. Every server that reads the feed is past it
            // by then.
            self.passed = older.map(|(_, mark)| mark);
        }
        let feed = &self.inner.feed;
        Ok(feed.shorten(self.passed.as_ref(), MAX_ENTRIES).await?)
    }
}

impl FeedReader {
    /// Reads the tables. Changes committed in the meantime are after the new mark.
    async fn reload(&mut self) -> Result<Progress, Failure> {
        self.mark = None;
        let inner = &self.inner;
        // The mark is taken before the tables are read. Changes in between are applied twice, which
        // is harmless. With a later mark they would be missed.
        let mark = inner.feed.end().await?;
        let all = inner.read_tables(|_| true).await?;
        self.full = None;
        self.note(all);
        // Without a mark the next iteration reads the tables again.
        if all.own {
            return Ok(Progress::Partial);
        }
        self.mark = Some(mark);
        Ok(Progress::Done { changed: true })
    }

    fn note(&mut self, applied: Applied) {
        if applied.too_many && self.full.is_none() {
            self.full = Some(Instant::now() + RELOAD_DELAY);
        }
    }
}

impl FeedInner {
    /// Applies all entries of those appliers that `is_meant` returns `true` for.
    async fn read_tables(
        &self,
        is_meant: impl Fn(&dyn Applier) -> bool,
    ) -> Result<Applied, StoreError> {
        let mut all = Applied::default();
        for applier in self.appliers.iter().filter(|applier| is_meant(&***applier)) {
            all.add(applier.apply(&self.feed, &Entries::All).await?);
        }
        Ok(all)
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
}

impl Applied {
    pub(in crate::service) fn add(&mut self, other: Self) {
        self.own |= other.own;
        self.too_many |= other.too_many;
    }
}

/// The poll interval of the feed.
///
/// Prices of 10,000 symbols must reach clients of other servers within 500 ms. Storing and reading
/// the prices takes the rest of that time.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The number of changes read per query.
const PAGE: usize = 1000;
/// The delay before the tables are read again because an entry did not fit.
const RELOAD_DELAY: Duration = Duration::from_secs(5);
/// Retention time of feed entries, unless there are more than [`MAX_ENTRIES`].
const RETENTION: Duration = Duration::from_secs(600);
/// The approximate maximum number of feed entries.
const MAX_ENTRIES: usize = 100_000;
