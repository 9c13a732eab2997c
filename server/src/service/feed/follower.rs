//! Followers: long-lived tasks that apply the changes of other servers of the store.
//!
//! A [`Follower`] repeats the iterations of a [`Followed`]. An iteration reads the page of changes
//! after a mark, applies it, and then moves the mark. So an iteration that fails or is dropped is
//! repeated, and no change is missed. The mark belongs to the `Followed`, which decides whether it
//! outlives the task. This is when the next iteration begins:
//!
//! | event | next iteration |
//! |---|---|
//! | A page was applied that is not the last. | immediately |
//! | The last page was applied. | after the poll interval, or later if idle ([`BURST_WINDOW`]) |
//! | An iteration failed. | after the retry delay, doubled by each failure up to a maximum |
//! | The store is overloaded. | as after the failure before; the delay does not grow |
//! | The database denies access. | after [`DENIED_DELAY`] |
//! | Another server announced a change. | immediately, also during a delay after a failure |
//!
//! Announcements arrive through the adapter and may be lost, so each follower also polls. The
//! metric `roomcast_follower_lag_seconds` has the time since each follower had applied everything.

use std::fmt;
use std::future::{pending, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::metrics::Metrics;
use crate::store::{PublicationFault, StoreError};
use crate::supervisor::Supervisor;

/// A source of changes, with the mark up to which this server has applied them.
pub(crate) trait Followed: Send {
    /// Reads the page after the mark, applies it, and moves the mark.
    fn advance(&mut self) -> impl Future<Output = Result<Progress, Failure>> + Send;

    /// Returns the current intervals between iterations.
    fn intervals(&self) -> Intervals;

    /// Waits until another server announces a change. Must be cancel safe.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Deletes changes that all servers have applied. Returns whether there are more to delete.
    ///
    /// Called once per [`CLEAN_INTERVAL`] after the last page, and after each last page while there
    /// are more.
    fn clean(&mut self) -> impl Future<Output = Result<bool, Failure>> + Send {
        ready(Ok(false))
    }
}

/// The result of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A page was applied, and more pages are available.
    More,
    /// Everything is applied.
    Done {
        /// Whether the last page had changes.
        changed: bool,
    },
    /// There are no more pages, but some changes must be read again.
    Partial,
}

/// The reason why an iteration failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The store has too many requests, but works.
    Overloaded,
    /// The store does not answer.
    Failed(String),
    /// The database denies access until an operator grants it.
    Denied(String),
}

/// The intervals between iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// The interval while there are changes.
    pub(in crate::service) poll: Duration,
    /// The interval after a while without changes.
    pub(in crate::service) idle: Duration,
    /// The delay after the first failure.
    pub(in crate::service) retry: Duration,
    /// The maximum delay after a failure.
    pub(in crate::service) max_retry: Duration,
}

impl Intervals {
    /// Creates intervals that do not depend on the age of the last change.
    pub(in crate::service) const fn every(poll: Duration) -> Self {
        Self {
            poll,
            idle: poll,
            retry: poll,
            max_retry: MAX_RETRY_DELAY,
        }
    }
}

/// Repeats the iterations of a [`Followed`]. Clones share the lag.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    name: &'static str,
    /// The start of the last iterations that applied everything.
    applied: watch::Sender<Instant>,
}

/// The family of the lags of all followers.
const LAG: &str = "roomcast_follower_lag_seconds";
const LAG_HELP: &str = "Time since a follower had applied all changes of other servers.";

impl Follower {
    /// Creates a follower with the name of its task.
    pub(crate) fn new(name: &'static str) -> Self {
        let (applied, _) = watch::channel(Instant::now());
        Self { name, applied }
    }

    /// Adds the lag of this follower to the metrics.
    pub(crate) fn measured(self, metrics: &Metrics) -> Self {
        let (name, applied) = (self.name.replace(' ', "_"), self.applied.subscribe());
        metrics.extend(move |out| {
            let lag = applied.borrow().elapsed().as_secs_f64();
            out.labelled(LAG, LAG_HELP, "follower", &name, lag);
        });
        self
    }

    /// Starts the follower as a supervised task. `make` is called again after a restart.
    pub(crate) fn start<F: Followed + 'static>(
        self,
        supervisor: &Supervisor,
        mut make: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<()> {
        supervisor.start(self.name, move || {
            let (follower, mut followed) = (self.clone(), make());
            async move { follower.run(&mut followed).await }
        })
    }

    /// Repeats iterations for as long as it is polled.
    pub(in crate::service) async fn run(&self, followed: &mut impl Followed) {
        let mut schedule = Schedule::new();
        loop {
            let delay = self.apply_all(followed, &mut schedule).await;
            tokio::select! {
                () = sleep(delay) => {}
                () = followed.woken() => {}
            }
        }
    }

    /// Waits until every change is applied that was made before `time`.
    pub(in crate::service) async fn applied_since(&self, time: Instant) {
        // The sender is in this follower, so waiting never fails.
        let _ = self
            .applied
            .subscribe()
            .wait_for(|began| *began >= time)
            .await;
    }

    /// Applies pages until none is left. Returns the delay until the next iteration.
    async fn apply_all(&self, followed: &mut impl Followed, schedule: &mut Schedule) -> Duration {
        // Later pages may lack changes made after the first page was read.
        let began = Instant::now();
        let progress = loop {
            match followed.advance().await {
                Ok(Progress::More) => schedule.changed = Instant::now(),
                progress => break progress,
            }
        };
        match &progress {
            Ok(Progress::Done { .. }) => {
                self.applied.send_replace(began);
                if schedule.is_clean_due() {
                    let cleaned = followed.clean().await;
                    if let Err(error) = &cleaned {
                        tracing::debug!(follower = self.name, %error, "could not delete old changes");
                    }
                    schedule.cleaned = Some(Instant::now()).filter(|_| cleaned != Ok(true));
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(
                    follower = self.name,
                    %error,
                    "could not apply changes of other servers, retrying"
                );
            }
        }
        schedule.delay(&progress, followed.intervals())
    }
}

/// Determines the delays between iterations.
struct Schedule {
    /// The number of failures in a row.
    failures: u32,
    /// The time of the last change.
    changed: Instant,
    cleaned: Option<Instant>,
}

impl Schedule {
    fn new() -> Self {
        Self {
            failures: 0,
            changed: Instant::now(),
            cleaned: None,
        }
    }

    fn is_clean_due(&self) -> bool {
        self.cleaned.is_none_or(|at| at.elapsed() >= CLEAN_INTERVAL)
    }

    fn delay(&mut self, progress: &Result<Progress, Failure>, intervals: Intervals) -> Duration {
        match progress {
            Ok(progress) => {
                self.failures = 0;
                if *progress == (Progress::Done { changed: true }) {
                    self.changed = Instant::now();
                }
                // Changes come in bursts.
                return match self.changed.elapsed() < BURST_WINDOW {
                    true => intervals.poll,
                    false => intervals.idle,
                };
            }
            Err(Failure::Denied(_)) => return DENIED_DELAY,
            // The source itself has not failed.
            Err(Failure::Overloaded) => {}
            Err(Failure::Failed(_)) => self.failures += 1,
        }
        // A recovering database is not queried by all servers at once.
        let doubled = 1 << self.failures.saturating_sub(1).min(MAX_DOUBLINGS);
        let delay = intervals.retry.saturating_mul(doubled);
        delay.min(intervals.max_retry)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => StoreError::Overloaded.fmt(f),
            Self::Failed(why) | Self::Denied(why) => f.write_str(why),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error == StoreError::Overloaded {
            return Self::Overloaded;
        }
        Self::Failed(error.to_string())
    }
}

impl From<PublicationFault> for Failure {
    fn from(fault: PublicationFault) -> Self {
        match fault {
            PublicationFault::Denied(why) => Self::Denied(why),
            PublicationFault::Store(error) => error.into(),
        }
    }
}

/// Time for which a follower uses the poll interval after a change.
const BURST_WINDOW: Duration = Duration::from_secs(5);
/// The interval between deletions of old changes.
const CLEAN_INTERVAL: Duration = Duration::from_secs(60);
/// The maximum delay after a failure, unless a follower has a shorter one.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(4);
/// The delay while the database denies access.
const DENIED_DELAY: Duration = Duration::from_secs(10);
/// The maximum number of doublings, so that the factor has a limit.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    const POLL: Duration = Duration::from_millis(100);
    const IDLE: Duration = Duration::from_secs(1);
    const PAGE: usize = 10;
    /// The duration of an iteration.
    const QUERY: Duration = Duration::from_millis(10);

    /// A journal of numbers, of which each iteration applies a page.
    #[derive(Clone, Default)]
    struct Journal(Arc<JournalInner>);

    #[derive(Default)]
    struct JournalInner {
        stored: Mutex<usize>,
        mark: Mutex<usize>,
        /// The results of the next iterations.
        failures: Mutex<VecDeque<Failure>>,
        /// The time of each iteration.
        reads: Mutex<Vec<Instant>>,
        cleaned: Mutex<usize>,
        announced: Notify,
    }

    impl Followed for Journal {
        async fn advance(&mut self) -> Result<Progress, Failure> {
            let Self(journal) = self;
            journal.reads.lock().push(Instant::now());
            sleep(QUERY).await;
            if let Some(failure) = journal.failures.lock().pop_front() {
                return Err(failure);
            }
            let (stored, mut mark) = (*journal.stored.lock(), journal.mark.lock());
            let page = (stored - *mark).min(PAGE);
            *mark += page;
            Ok(match *mark < stored {
                true => Progress::More,
                false => Progress::Done { changed: page > 0 },
            })
        }

        fn intervals(&self) -> Intervals {
            Intervals {
                idle: IDLE,
                ..Intervals::every(POLL)
            }
        }

        async fn woken(&mut self) {
            self.0.announced.notified().await;
        }

        async fn clean(&mut self) -> Result<bool, Failure> {
            *self.0.cleaned.lock() += 1;
            Ok(false)
        }
    }

    impl Journal {
        /// Follows the journal for this long, and returns the delays between its iterations.
        async fn follow(&self, follower: &Follower, time: Duration) -> Vec<Duration> {
            self.0.reads.lock().clear();
            let mut journal = self.clone();
            timeout(time, follower.run(&mut journal)).await.unwrap_err();
            let reads = self.0.reads.lock();
            let delay = |pair: &[Instant]| {
                // Timers round up to a millisecond.
                let delay = pair[1].duration_since(pair[0] + QUERY);
                Duration::from_millis(delay.as_millis() as u64 / 10 * 10)
            };
            reads.windows(2).map(delay).collect()
        }

        fn fail(&self, count: usize, failure: &Failure) {
            let failures = std::iter::repeat_n(failure.clone(), count);
            self.0.failures.lock().extend(failures);
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn pages_follow_immediately_until_everything_is_applied() {
        let (journal, follower) = (Journal::default(), Follower::new("test"));
        *journal.0.stored.lock() = 3 * PAGE + 1;
        let delays = journal.follow(&follower, 2 * POLL).await;
        assert_eq!(
            delays,
            [Duration::ZERO, Duration::ZERO, Duration::ZERO, POLL]
        );
        assert_eq!(*journal.0.mark.lock(), 3 * PAGE + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn announcement_ends_a_delay_also_after_a_failure() {
        let (journal, follower) = (Journal::default(), Follower::new("test"));
        journal.fail(10, &Failure::Failed("down".into()));
        let announced = journal.clone();
        let early = POLL / 2;
        tokio::spawn(async move {
            sleep(early).await;
            announced.0.announced.notify_one();
        });
        let delays = journal.follow(&follower, 2 * POLL).await;
        assert!(delays[0] < POLL, "{delays:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn delay_doubles_up_to_a_maximum_and_ends_with_success() {
        let (journal, follower) = (Journal::default(), Follower::new("test"));
        journal.fail(3, &Failure::Failed("down".into()));
        journal.fail(2, &Failure::Overloaded);
        journal.fail(5, &Failure::Failed("down".into()));
        let delays = journal.follow(&follower, seconds(25)).await;
        let tenths = [1, 2, 4, 4, 4, 8, 16, 32, 40, 40].map(|tenths| POLL * tenths);
        assert_eq!(delays[..10], tenths);
        assert!(delays[10] <= IDLE, "{delays:?}");

        journal.fail(1, &Failure::Denied("no right".into()));
        let delays = journal.follow(&follower, seconds(11)).await;
        assert_eq!(delays[0], DENIED_DELAY);
    }

    #[test]
    fn longest_delay_is_reached_with_any_number_of_failures() {
        let mut schedule = Schedule::new();
        let intervals = Intervals {
            max_retry: POLL * 3,
            ..Intervals::every(POLL)
        };
        let failed = Err(Failure::Failed("down".into()));
        for failures in [0, 1, 40, 1000] {
            schedule.failures = failures;
            let expected = [POLL, POLL * 2, POLL * 3][failures.min(2) as usize];
            assert_eq!(schedule.delay(&failed, intervals), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn interval_grows_when_the_last_change_is_old() {
        let (journal, follower) = (Journal::default(), Follower::new("test"));
        *journal.0.stored.lock() = 1;
        let delays = journal.follow(&follower, seconds(20)).await;
        let fast = delays.iter().filter(|delay| **delay == POLL).count();
        assert!((40..=50).contains(&fast), "{fast}");
        assert_eq!(delays.last(), Some(&IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn lag_grows_until_everything_is_applied() {
        let metrics = Metrics::default();
        let (journal, follower) = (Journal::default(), Follower::new("test").measured(&metrics));
        let lag = || {
            let text = metrics.render();
            let row = text.split("roomcast_follower_lag_seconds{follower=\"test\"} ");
            row.last().unwrap().trim().parse::<f64>().unwrap()
        };
        journal.fail(100, &Failure::Failed("down".into()));
        journal.follow(&follower, seconds(60)).await;
        assert!((60.0..61.0).contains(&lag()), "{}", lag());
        let start = Instant::now();
        let waiting = timeout(seconds(60), follower.applied_since(start));
        waiting.await.unwrap_err();

        journal.0.failures.lock().clear();
        journal.follow(&follower, seconds(2)).await;
        assert!(lag() < 2.0 * IDLE.as_secs_f64(), "{}", lag());
        follower.applied_since(start).await;
    }

    #[tokio::test(start_paused = true)]
    async fn old_changes_are_deleted_once_a_minute() {
        let (journal, follower) = (Journal::default(), Follower::new("test"));
        journal.follow(&follower, seconds(100)).await;
        assert_eq!(*journal.0.cleaned.lock(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn follower_canceled_while_reading_leaves_the_page_to_its_successor() {
        let (journal, follower) = (Journal::default(), Follower::new("test"));
        *journal.0.stored.lock() = 2 * PAGE;
        // The second iteration is dropped while it reads.
        journal.follow(&follower, QUERY * 3 / 2).await;
        assert_eq!(*journal.0.mark.lock(), PAGE);
        journal.follow(&follower, POLL).await;
        assert_eq!(*journal.0.mark.lock(), 2 * PAGE);
    }
}
