//! Named tasks that run as long as their owner, with supervision.
//!
//! A task that ends unexpectedly or panics is logged, counted and listed by [`Tasks::ended`]. It is
//! restarted if possible. A leaf module: it depends on the metrics only.
//!
//! `roomcast-server` starts its own tasks with it as well.
//!
//! Only a task whose state outlives it is restarted: one that restarts with a lost state may lose
//! or repeat data. The list of a flusher and the timer wheel outlive their tasks, and take back
//! what the ended task had taken out.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;

use crate::metrics::{Counter, Gauge, Metrics};

/// A task of the server that ended unexpectedly or panicked. See
/// [`Io::ended_tasks`](crate::Io::ended_tasks).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedTask {
    /// The name of the task.
    pub name: &'static str,
    /// Whether the task was restarted, less than ten seconds ago. If `false`, its work is not being
    /// done.
    pub is_restarted: bool,
}

/// The tasks of one server. Clones share the same state.
#[derive(Clone)]
pub struct Tasks(Arc<TasksInner>);

struct TasksInner {
    metrics: Arc<Metrics>,
    /// Whether tasks are allowed to return.
    may_end: AtomicBool,
    /// The ended tasks by record id. Bounded by the number of tasks.
    ended: Mutex<Vec<(u64, EndedTask)>>,
    last: AtomicU64,
    #[cfg(debug_assertions)]
    killed: tokio::sync::watch::Sender<Kill>,
}

/// The delay before the first restart of a task. Each further end within [`PROBATION`] doubles it.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(10);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// Minimum time that a restarted task must run until it no longer counts as ended, so that a load
/// balancer that polls now and then sees it.
const PROBATION: Duration = Duration::from_secs(10);

impl Tasks {
    /// Creates a group whose tasks may return at any time.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self::with(metrics, true)
    }

    /// Creates a group whose tasks must not return before [`let_end`](Self::let_end).
    #[must_use]
    pub fn endless(metrics: Arc<Metrics>) -> Self {
        Self::with(metrics, false)
    }

    fn with(metrics: Arc<Metrics>, may_end: bool) -> Self {
        Self(Arc::new(TasksInner {
            metrics,
            may_end: may_end.into(),
            ended: Mutex::default(),
            last: AtomicU64::new(0),
            #[cfg(debug_assertions)]
            killed: tokio::sync::watch::Sender::default(),
        }))
    }

    /// Allows tasks to return from now on.
    pub fn let_end(&self) {
        self.0.may_end.store(true, Ordering::Release);
    }

    /// Returns the tasks that ended unexpectedly and those that were restarted recently.
    #[must_use]
    pub fn ended(&self) -> Vec<EndedTask> {
        let ended = self.0.ended.lock();
        ended.iter().map(|(_, task)| task.clone()).collect()
    }

    /// Runs the future that `make` returns, and restarts it whenever it ends unexpectedly.
    pub fn keep<F: Future<Output = ()> + Send + 'static>(
        self,
        name: &'static str,
        mut make: impl FnMut() -> F + Send + 'static,
    ) -> BoxFuture<'static, ()> {
        // All tasks are boxed to one type, so that the supervision is compiled once.
        self.keep_boxed(name, Box::new(move || make().boxed()))
            .boxed()
    }

    async fn keep_boxed(
        self,
        name: &'static str,
        mut make: Box<dyn FnMut() -> BoxFuture<'static, ()> + Send>,
    ) {
        let mut record = self.record(name);
        let mut delay = MIN_RESTART_DELAY;
        loop {
            let mut run = pin!(self.outcome(name, make()));
            // Only a task that has failed before is on probation; other tasks need no timer.
            let outcome = if record.is_ended {
                match tokio::time::timeout(PROBATION, run.as_mut()).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        record.clear();
                        delay = MIN_RESTART_DELAY;
                        // The timeout only borrowed the future, so it continues from the same
                        // state.
                        run.await
                    }
                }
            } else {
                run.await
            };
            let Err(reason) = outcome else { return };
            record.end(&reason);
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(MAX_RESTART_DELAY);
            record.restart();
        }
    }

    /// Runs a future that cannot be restarted.
    ///
    /// # Errors
    ///
    /// If it ended unexpectedly; [`ended`](Self::ended) lists it from then on.
    pub async fn once(
        self,
        name: &'static str,
        task: impl Future<Output = ()>,
    ) -> Result<(), TaskEnded> {
        let outcome = self.outcome(name, task).await;
        outcome.map_err(|reason| self.record(name).stay(&reason))
    }

    /// Runs blocking code on the current thread that cannot be restarted.
    ///
    /// # Errors
    ///
    /// If it ended unexpectedly; [`ended`](Self::ended) lists it from then on.
    pub fn once_blocking(self, name: &'static str, task: impl FnOnce()) -> Result<(), TaskEnded> {
        let outcome = self.judge(catch_unwind(AssertUnwindSafe(task)));
        outcome.map_err(|reason| self.record(name).stay(&reason))
    }

    async fn outcome(
        &self,
        name: &'static str,
        task: impl Future<Output = ()>,
    ) -> Result<(), String> {
        #[cfg(debug_assertions)]
        let task = self.killable(name, task);
        #[cfg(not(debug_assertions))]
        let _ = name;
        self.judge(AssertUnwindSafe(task).catch_unwind().await)
    }

    fn judge(&self, result: Result<(), Box<dyn Any + Send>>) -> Result<(), String> {
        match result {
            Ok(()) if self.0.may_end.load(Ordering::Acquire) => Ok(()),
            Ok(()) => Err("it returned".to_owned()),
            Err(panic) => Err(format!("it panicked: {}", text(&*panic))),
        }
    }

    fn record(&self, name: &'static str) -> Record {
        Record {
            id: self.0.last.fetch_add(1, Ordering::Relaxed),
            name,
            tasks: self.clone(),
            is_ended: false,
        }
    }
}

/// The error for a task that ended unexpectedly and is not restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskEnded {
    /// The name of the task.
    pub name: &'static str,
}

/// The state of one task. Dropping it, for example when the task is aborted, removes the task from
/// the list.
struct Record {
    id: u64,
    name: &'static str,
    tasks: Tasks,
    is_ended: bool,
}

impl Record {
    fn end(&mut self, reason: &str) {
        tracing::error!(
            task = self.name,
            reason,
            "background task ended unexpectedly"
        );
        self.set(false);
    }

    fn restart(&mut self) {
        self.tasks.0.metrics.count(Counter::TaskRestarts);
        tracing::warn!(task = self.name, "background task restarted");
        self.set(true);
    }

    fn set(&mut self, is_restarted: bool) {
        self.clear();
        let task = EndedTask {
            name: self.name,
            is_restarted,
        };
        self.tasks.0.ended.lock().push((self.id, task));
        self.tasks.0.metrics.shift(Gauge::TasksDown, 1);
        self.is_ended = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_ended) {
            self.tasks.0.ended.lock().retain(|(id, _)| *id != self.id);
            self.tasks.0.metrics.shift(Gauge::TasksDown, -1);
        }
    }

    /// Records a permanent end, which dropping the record does not remove.
    fn stay(mut self, reason: &str) -> TaskEnded {
        self.end(reason);
        self.is_ended = false;
        TaskEnded { name: self.name }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Lets tests kill tasks; absent in release builds.
#[cfg(debug_assertions)]
impl Tasks {
    /// Makes every task of this name panic at its next await, or the next one to start if none
    /// runs. The panic hook does not run, so test logs show only unintended panics.
    pub fn kill(&self, name: &str) {
        self.0.killed.send_replace(Kill {
            name: name.to_owned(),
            has_ended_one: false,
        });
    }

    async fn killable(&self, name: &str, task: impl Future<Output = ()>) {
        let mut killed = self.0.killed.subscribe();
        let killing = async {
            let mut is_for_this = {
                let kill = killed.borrow_and_update();
                kill.name == name && !kill.has_ended_one
            };
            while !is_for_this {
                // The sender lives as long as this handle, so waiting never fails.
                let _ = killed.changed().await;
                is_for_this = killed.borrow_and_update().name == name;
            }
            self.0.killed.send_if_modified(|kill| {
                kill.has_ended_one = true;
                // The other tasks of this name are to see the kill, not this change.
                false
            });
            std::panic::resume_unwind(Box::new("killed by a test"));
        };
        tokio::select! {
            // A killed task does nothing more, so that all tasks of a name end at the same time.
            biased;
            () = killing => {}
            () = task => {}
        }
    }
}

/// The last kill of a test.
#[cfg(debug_assertions)]
#[derive(Default)]
struct Kill {
    /// The name of the tasks.
    name: String,
    /// Whether a task has ended by it. If none has, it waits for one to start.
    has_ended_one: bool,
}

/// Returns the message of a panic.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text")
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{Instant, sleep};

    use super::*;

    fn ended(name: &'static str, is_restarted: bool) -> EndedTask {
        EndedTask { name, is_restarted }
    }

    #[cfg(debug_assertions)]
    #[tokio::test(start_paused = true)]
    async fn a_kill_ends_running_tasks_or_else_the_next_to_start() {
        let tasks = Tasks::new(Arc::new(Metrics::new()));
        tasks.kill("one");
        for name in ["one", "another"] {
            tokio::spawn(tasks.clone().keep(name, pending));
        }
        sleep(Duration::from_millis(1)).await;
        assert_eq!(tasks.ended(), [ended("one", false)]);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(tasks.ended(), []);
        tokio::spawn(tasks.clone().keep("one", pending));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(tasks.ended(), []);
        for _ in 0..2 {
            tasks.kill("one");
            sleep(Duration::from_millis(1)).await;
            assert_eq!(tasks.ended(), vec![ended("one", false); 2]);
            sleep(Duration::from_secs(20)).await;
        }
        assert_eq!(tasks.ended(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn panicked_task_restarts_and_is_listed_until_probation_ends() {
        let metrics = Arc::new(Metrics::new());
        let tasks = Tasks::new(Arc::clone(&metrics));
        let mut runs = 0;
        let task = tokio::spawn(tasks.clone().keep("one", move || {
            runs += 1;
            let is_bad = runs < 3;
            async move {
                sleep(Duration::from_secs(1)).await;
                assert!(!is_bad, "bad");
                pending().await
            }
        }));
        assert_eq!(tasks.ended(), []);
        sleep(Duration::from_millis(1005)).await;
        assert_eq!(tasks.ended(), [ended("one", false)]);
        assert_eq!(metrics.gauge(Gauge::TasksDown), 1);
        assert_eq!(metrics.counter(Counter::TaskRestarts), 0);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(tasks.ended(), [ended("one", true)]);
        sleep(Duration::from_secs(8)).await;
        assert_eq!(metrics.counter(Counter::TaskRestarts), 2);
        assert_eq!(tasks.ended(), [ended("one", true)]);
        sleep(PROBATION).await;
        assert_eq!(tasks.ended(), []);
        assert_eq!(metrics.gauge(Gauge::TasksDown), 0);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_always_fails_restarts_with_growing_delays() {
        let metrics = Arc::new(Metrics::new());
        let start = Instant::now();
        let keep = Tasks::endless(Arc::clone(&metrics)).keep("one", || ready(()));
        let task = tokio::spawn(keep);
        while metrics.counter(Counter::TaskRestarts) < 14 {
            sleep(Duration::from_secs(1)).await;
        }
        // The delay doubles eleven times from 10 ms, then reaches the maximum twice.
        let least = MIN_RESTART_DELAY * 4095 + 2 * MAX_RESTART_DELAY;
        assert!(start.elapsed() >= least, "{:?}", start.elapsed());
        task.abort();
    }

    #[tokio::test]
    async fn a_return_is_an_end_only_before_tasks_may_end() {
        let tasks = Tasks::endless(Arc::default());
        let early = tasks.clone().once("early", ready(())).await;
        assert_eq!(early, Err(TaskEnded { name: "early" }));
        let blocking = tasks.clone().once_blocking("blocking", || panic!("bad"));
        assert_eq!(blocking, Err(TaskEnded { name: "blocking" }));
        tasks.let_end();
        assert_eq!(tasks.clone().once("late", ready(())).await, Ok(()));
        let (early, blocking) = (ended("early", false), ended("blocking", false));
        assert_eq!(tasks.ended(), [early, blocking]);
    }

    #[tokio::test(start_paused = true)]
    async fn removed_task_is_no_longer_listed() {
        let tasks = Tasks::endless(Arc::default());
        let task = tokio::spawn(tasks.clone().keep("one", || ready(())));
        while tasks.ended().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        task.abort();
        let _ = task.await;
        assert_eq!(tasks.ended(), []);
    }
}
