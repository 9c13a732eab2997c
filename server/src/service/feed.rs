//! Hears from the store what other servers have changed that all must know, and has it applied here.
//!
//! A reader asks for whatever has changed, and those who registered for a table look up there what it is
//! now. There are two readers, so that who must go at once does not wait behind news of conversations. So a change may be told again, and in any order. Who knows nothing yet, or has fallen behind what
//! the store keeps of the feed, marks its end and reads the tables.

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

/// Brings this server to what the store says of one table.
pub(crate) trait Applier: Send + Sync {
    /// The name of the table.
    fn topic(&self) -> &'static str;

    /// Looks up what may have changed and takes it over. What this server is changing itself meanwhile is
    /// left alone: what was read may be older.
    fn apply<'a>(&'a self, feed: &'a Feed, changed: &'a Entries) -> Applying<'a>;
}

pub(crate) type Applying<'a> =
    Pin<Box<dyn Future<Output = Result<Applied, StoreError>> + Send + 'a>>;

/// Which entries of a table may have changed.
pub(crate) enum Entries {
    All,
    /// Entries by their keys in the feed; not empty.
    These(HashSet<String>),
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Something is being changed by this server as well: to be told again.
    pub(in crate::service) own: bool,
    /// There is no room for something, which is to be told again when there may be.
    pub(in crate::service) too_many: bool,
}

/// Reads the feed. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct ChangeFeed(Arc<FeedInner>);

struct FeedInner {
    feed: Feed,
    appliers: Vec<Box<dyn Applier>>,
    fed: Arc<Fed>,
    /// Whether this reader has the store forget what all know.
    shortens: bool,
    /// Where the reader begins, if it need not read the tables first.
    begin: Mutex<Option<FeedMark>>,
}

/// Wakes the readers of the feed, and reports how far revocations and blocks are applied.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    woken: watch::Sender<()>,
    /// When the last turn began that applied everything in the feed.
    applied: watch::Sender<Option<Instant>>,
}

impl Fed {
    /// Has the feed read now.
    pub(in crate::service) fn wake(&self) {
        self.woken.send_replace(());
    }

    /// Waits until everything is applied that is in the feed at the moment of this call.
    ///
    /// Must not be called if the store has no feed, and waits for as long as the store does not answer.
    pub(in crate::service) async fn applied(&self) {
        let asked = Instant::now();
        let mut applied = self.applied.subscribe();
        loop {
            self.wake();
            let is_applied = applied.wait_for(|began| began.is_some_and(|began| began >= asked));
            // A reader that has failed waits longer and longer: it is woken again.
            if timeout(TURN, is_applied).await.is_ok() {
                return;
            }
        }
    }
}

/// How far one run of the reader has got.
#[derive(Default)]
struct Reader {
    /// How far the feed is read; none if the tables have to be read first.
    mark: Option<FeedMark>,
    /// When they have to be read again, because something had no room.
    full: Option<Instant>,
    /// A mark of some time ago, and since when.
    older: Option<(Instant, FeedMark)>,
    /// A mark that everybody has passed who reads at all.
    passed: Option<FeedMark>,
    /// When the feed was shortened.
    shortened: Option<Instant>,
}

impl ChangeFeed {
    /// Whoever hears that there is more in the feed tells `fed`.
    pub(crate) fn new(feed: Feed, appliers: Vec<Box<dyn Applier>>, fed: &Arc<Fed>) -> Self {
        Self(Arc::new(FeedInner {
            feed,
            appliers,
            fed: Arc::clone(fed),
            shortens: true,
            begin: Mutex::default(),
        }))
    }

    /// Creates a further reader, which does not shorten the feed: what is forgotten is far behind it in any case.
    ///
    /// It applies everything that changes after this call. If the store does not answer now, it begins with its first turn.
    pub(crate) async fn beside(feed: Feed, applier: Box<dyn Applier>, fed: &Arc<Fed>) -> Self {
        let begin = Mutex::new(feed.end().await.ok());
        Self(Arc::new(FeedInner {
            begin,
            feed,
            appliers: vec![applier],
            fed: Arc::clone(fed),
            shortens: false,
        }))
    }

    /// Takes over what other servers change, for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut reader = Reader {
            mark: self.0.begin.lock().take(),
            ..Reader::default()
        };
        let mut pause = TURN;
        let mut woken = self.0.fed.woken.subscribe();
        loop {
            tokio::select! {
                // The reader looks even if nobody wakes it: an announcement may be lost, and the
                // feed never is.
                () = sleep(pause) => {}
                Ok(()) = woken.changed() => {}
            }
            let began = Instant::now();
            match self.0.turn(&mut reader).await {
                Ok(is_complete) => {
                    pause = TURN;
                    // The reader beside this one does not apply revocations.
                    if is_complete && self.0.shortens {
                        self.0.fed.applied.send_replace(Some(began));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "what other servers change is not known at the moment");
                    pause = after(pause, error);
                }
            }
        }
    }
}

impl FeedInner {
    /// Applies what is new. Returns whether everything is applied that was in the feed when the turn began.
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
                        "behind what the store keeps of changes: reading everything again"
                    );
                }
                reader.mark = None;
                continue;
            };
            let applied = self.dispatch(page.changes).await?;
            reader.note(applied);
            // The page is read again: what this server is changing at the same moment may be newer
            // than what was read.
            if applied.own {
                return Ok(false);
            }
            reader.mark = Some(page.next);
            if !page.has_more {
                if self.shortens {
                    // The feed is shortened only by a reader that has caught up, so that a slow one
                    // does not forget what it has not read.
                    self.shorten(reader).await;
                }
                return Ok(true);
            }
        }
    }

    /// Reads the tables. What changes meanwhile comes behind the mark. Returns whether all of it is applied.
    async fn reload(&self, reader: &mut Reader) -> Result<bool, StoreError> {
        // The mark is taken before the tables are read. Changes in between are applied twice, which
        // does no harm, while those after a later mark would be missed.
        let mark = self.feed.end().await?;
        let mut all = Applied::default();
        for applier in &self.appliers {
            all.add(applier.apply(&self.feed, &Entries::All).await?);
        }
        reader.full = None;
        reader.note(all);
        // Without a mark the next turn reads the tables again.
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
        // Topics that a newer version writes are left out.
        for applier in &self.appliers {
            if let Some(entries) = topics.get(applier.topic()) {
                all.add(applier.apply(&self.feed, entries).await?);
            }
        }
        Ok(all)
    }

    /// Has the store forget, now and then, what everybody knows.
    async fn shorten(&self, reader: &mut Reader) {
        let now = Instant::now();
        let is_due = |time: Option<Instant>, span| time.is_none_or(|time| now >= time + span);
        if is_due(reader.older.as_ref().map(|(since, _)| *since), KEPT) {
            let newer = reader.mark.clone().map(|mark| (now, mark));
            let older = std::mem::replace(&mut reader.older, newer);
            // A mark counts as passed one period later, by which every server that reads at all has
            // read behind it.
            reader.passed = older.map(|(_, mark)| mark);
        }
        if is_due(reader.shortened, SHORTENED) {
            let shortened = self.feed.shorten(reader.passed.as_ref(), MOST).await;
            if let Err(error) = shortened {
                tracing::debug!(%error, "old changes could not be forgotten");
            }
            reader.shortened = Some(now).filter(|_| shortened != Ok(true));
        }
    }
}

impl Reader {
    fn note(&mut self, applied: Applied) {
        if applied.too_many && self.full.is_none() {
            self.full = Some(Instant::now() + FULL);
        }
    }
}

impl Applied {
    pub(in crate::service) fn add(&mut self, other: Self) {
        self.own |= other.own;
        self.too_many |= other.too_many;
    }
}

/// The pause after a failure.
fn after(pause: Duration, error: StoreError) -> Duration {
    // An overloaded store is busy with others; the feed itself has not failed.
    if error == StoreError::Overloaded {
        return pause;
    }
    (pause * 2).min(LONGEST_PAUSE)
}

/// How often the feed is read without an announcement. Prices of 10,000 symbols must reach clients of other servers within 500 ms,
/// of which storing and reading them takes the rest.
const TURN: Duration = Duration::from_millis(200);
/// How long nobody asks a store that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Changes that are read at once.
const PAGE: usize = 1000;
/// How soon everything is read again because there was no room for something.
const FULL: Duration = Duration::from_secs(5);
/// How long changes are kept at least, unless there are too many.
const KEPT: Duration = Duration::from_secs(600);
/// How often some are forgotten.
const SHORTENED: Duration = Duration::from_secs(60);
/// How many are kept, roughly.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_asked_less_often_and_one_that_is_busy_is_not() {
        let mut pause = TURN;
        pause = after(pause, StoreError::Overloaded);
        assert_eq!(pause, TURN);
        for _ in 0..9 {
            assert!(pause <= after(pause, StoreError::Failed));
            pause = after(pause, StoreError::Failed);
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }
}
