//! A database that is full: it may have no more pages than it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::Sqlite;
use crate::config;
use crate::store::StoreError;
use crate::supervisor::Supervisor;

/// Much longer than the interval between two probes.
const SEVERAL_PROBES: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_full_database_is_unhealthy_until_it_has_room() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("chat.db");
    let metrics = Arc::default();
    let supervisor = Supervisor::new(&metrics);
    let config = config::Store::default();
    let (store, _commits) = Sqlite::open(path.clone(), &config, metrics, &supervisor).unwrap();
    let fill = "CREATE TABLE ballast AS SELECT zeroblob(262144) AS bytes";
    store.write(move |c| c.execute_batch(fill)).await.unwrap();
    // A number below that of the pages is taken for that of the pages.
    let limit = |c: &Connection| c.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()));
    store.write(limit).await.unwrap();
    assert!(store.is_healthy());

    let more = "CREATE TABLE more AS SELECT zeroblob(65536) AS bytes";
    let refused = store.write(move |c| c.execute_batch(more)).await;
    assert_eq!(refused, Err(StoreError::Failed));
    let full = Instant::now();
    while full.elapsed() < SEVERAL_PROBES {
        assert!(!store.is_healthy());
        tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
    }

    let operator = Connection::open(path).unwrap();
    operator.execute_batch("DROP TABLE ballast").unwrap();
    let freed = Instant::now();
    while !store.is_healthy() {
        assert!(freed.elapsed() < DEADLINE, "it has room");
        tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
    }
    store.write(move |c| c.execute_batch(more)).await.unwrap();
}
