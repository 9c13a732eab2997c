//! The read connections, which blocking threads borrow.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connect;
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::store::StoreError;

/// A bounded set of read connections, opened on demand.
#[derive(Debug)]
pub(super) struct Readers {
    /// One permit per running or waiting read; closed when the store closes.
    admitted: Arc<Semaphore>,
    /// One permit per connection.
    running: Arc<Semaphore>,
    max_admitted: usize,
    pub(super) max_running: usize,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    busy_timeout: Duration,
    /// The timeout of a query, after which its caller no longer waits.
    patience: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, config: &config::Store, metrics: Arc<Metrics>) -> Self {
        let readers = config.readers.clamp(1, Semaphore::MAX_PERMITS / 2);
        let waiting = config.max_pending_reads.min(Semaphore::MAX_PERMITS / 2);
        let pool = Pool {
            path,
            busy_timeout: config.busy_timeout,
            patience: config.answer_timeout,
            idle: Mutex::new(Vec::new()),
        };
        Self {
            admitted: Arc::new(Semaphore::new(readers + waiting)),
            running: Arc::new(Semaphore::new(readers)),
            max_admitted: readers + waiting,
            max_running: readers,
            pool: Arc::new(pool),
            metrics,
        }
    }

    /// Returns the numbers of running and of waiting reads.
    pub(super) fn usage(&self) -> (usize, usize) {
        let running = self
            .max_running
            .saturating_sub(self.running.available_permits());
        let admitted = self
            .max_admitted
            .saturating_sub(self.admitted.available_permits());
        (running, admitted.saturating_sub(running))
    }

    /// Runs `query` on a blocking thread with an exclusive connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        // A read without a slot is refused and not queued, because the queue of blocking threads is
        // unbounded.
        let admitted = Arc::clone(&self.admitted).try_acquire_owned()?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| StoreError::Closed)?;
        let pool = Arc::clone(&self.pool);
        let read = tokio::task::spawn_blocking(move || {
            let result = pool.run(query);
            // The permits are released here and not by the caller, which may be dropped while the
            // thread still reads.
            drop((running, admitted));
            result
        });
        let reason = match read.await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.count(Counter::StoreErrors);
        roomcast::throttled_log!(warn, %reason, "could not read from the store");
        Err(StoreError::Failed)
    }

    /// Refuses further reads and closes the idle connections.
    pub(super) fn close(&self) {
        self.admitted.close();
        self.running.close();
        self.pool.idle.lock().clear();
    }
}

impl Pool {
    /// Runs a query. The connection is returned only after a success; after a failure, the next
    /// query opens a new one.
    fn run<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let connection = connect(&self.path, self.busy_timeout, false)?;
                // Only the writer may write, or the order of commits would differ from the order of
                // the lane.
                connection.pragma_update(None, "query_only", true)?;
                connection
            }
        };
        let begin = Instant::now();
        let patience = self.patience;
        // A query without a waiting caller must not occupy one of the few connections.
        connection.progress_handler(
            PROGRESS_CHECK_STEPS,
            Some(move || begin.elapsed() > patience),
        )?;
        let value = query(&connection)?;
        self.idle.lock().push(connection);
        Ok(value)
    }
}

/// The number of SQLite virtual machine steps between two timeout checks: about a millisecond.
const PROGRESS_CHECK_STEPS: i32 = 10_000;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Creates an empty database, and its readers.
    fn open(config: &config::Store) -> (TempDir, Readers) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("chat.db");
        connect(&path, Duration::ZERO, true).unwrap();
        let readers = Readers::new(path, config, Arc::default());
        (folder, readers)
    }

    #[tokio::test]
    async fn timed_out_query_is_interrupted_and_frees_its_slot() {
        let (_folder, readers) = open(&config::Store {
            readers: 1,
            max_pending_reads: 0,
            answer_timeout: Duration::from_secs(3),
            ..config::Store::default()
        });
        let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        for _ in 0..3 {
            let read = readers
                .read(|connection| connection.query_row(endless, [], |row| row.get::<_, i64>(0)));
            assert_eq!(read.await, Err(StoreError::Failed));
            let next =
                readers.read(|connection| connection.query_row("SELECT 1", [], |row| row.get(0)));
            assert_eq!(next.await, Ok(1));
        }
    }

    #[tokio::test]
    async fn running_and_waiting_reads_are_counted() {
        let (_folder, readers) = open(&config::Store {
            readers: 2,
            max_pending_reads: 3,
            ..config::Store::default()
        });
        let readers = Arc::new(readers);
        assert_eq!(readers.usage(), (0, 0));
        let (entered, mut entries) = tokio::sync::mpsc::channel(5);
        let reads: Vec<_> = (0..5)
            .map(|_| {
                let (readers, entered) = (Arc::clone(&readers), entered.clone());
                let (release, released) = std::sync::mpsc::channel::<()>();
                let read = tokio::spawn(async move {
                    let read = readers.read(move |_| {
                        entered.blocking_send(()).unwrap();
                        released.recv().unwrap();
                        Ok(())
                    });
                    read.await
                });
                (release, read)
            })
            .collect();
        for _ in 0..2 {
            entries.recv().await.unwrap();
        }
        while readers.usage() != (2, 3) {
            tokio::task::yield_now().await;
        }
        assert_eq!(readers.read(|_| Ok(())).await, Err(StoreError::Overloaded));
        for (release, _) in &reads {
            release.send(()).unwrap();
        }
        for (_, read) in reads {
            assert_eq!(read.await.unwrap(), Ok(()));
        }
        assert_eq!(readers.usage(), (0, 0));
    }
}
