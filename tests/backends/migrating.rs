//! Migrations of a PostgreSQL database that is in use.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use roomcast_server::store::{Current, Store, Time};
use tokio::time::{sleep, timeout};

use crate::harness::sql;
use crate::older::postgres_of;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn migration_waiting_for_a_table_does_not_block_other_clients() {
    let config = postgres_of(6).await.0;
    let has_migrated = "SELECT count(*) FROM pg_attribute
        WHERE attrelid = 'conversations'::regclass AND attname = 'deleted_at'";
    // A long transaction that reads holds a lock on the table.
    let mut reader = Command::new("psql")
        .args(["-X", "-q", "-A", "-t", &config.url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut commands = reader.stdin.take().unwrap();
    writeln!(commands, "BEGIN; SELECT count(*) FROM conversations;").unwrap();
    let mut read = String::new();
    let mut answers = BufReader::new(reader.stdout.take().unwrap());
    answers.read_line(&mut read).unwrap();
    assert_eq!(read, "1\n");

    let migrating = tokio::spawn({
        let config = config.clone();
        async move { Store::migrate(&config).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks
        WHERE relation = 'conversations'::regclass AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waits = async {
        while sql(&config, waiting) == "0" {
            // Poll interval.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, waits).await.unwrap();
    // Other clients need the same table, and would otherwise queue after the waiting migration.
    let others = "SET statement_timeout = '30s'; SELECT count(*) FROM conversations";
    assert_eq!(sql(&config, others), "1");
    assert_eq!(sql(&config, has_migrated), "0");

    drop(commands);
    reader.wait().unwrap();
    let applied = timeout(DEADLINE, migrating).await.unwrap().unwrap();
    let applied = applied.unwrap();
    assert!(applied[0].contains("deleted_conversations"), "{applied:?}");
    assert_eq!(sql(&config, has_migrated), "1");
}

/// Prices as the previous version stored them: each symbol has its own journal.
const PRICES: &str = "INSERT INTO journals (name, revision) VALUES ('prices:A', 7), ('prices:B/C', 1);
    INSERT INTO journal_entries (journal, revision, key, body, is_open, created_at) VALUES
        ('prices:A', 7, '', '{\"symbol\":\"A\",\"price\":1.5,\"timestamp\":\"2025-01-31T12:00:00.000Z\"}', true,
         '2025-01-31T12:00:00.000Z'),
        ('prices:B/C', 1, '', '{\"symbol\":\"B/C\",\"price\":2,\"timestamp\":\"2025-01-31T12:00:01.000Z\"}', true,
         '2025-01-31T12:00:01.000Z')";
/// The same prices in one journal.
const MOVED: [(u64, &str); 2] = [(1, "B/C"), (2, "A")];

async fn assert_moved(store: &Store) {
    let current = Current {
        journal: "prices",
        category: None,
        open: 10,
        newest: 0,
        is_closed: false,
        with_withdrawn: false,
        before: None,
        now: Time::now(),
    };
    let view = store.journal(current).await.unwrap();
    let entries = view.entries.iter();
    let moved: Vec<_> = entries
        .map(|entry| (entry.revision, entry.key.as_str()))
        .collect();
    assert_eq!((view.revision, &*moved), (2, &MOVED[..]));
    assert!(view.entries[1].body.contains("\"price\":1.5"));
    assert!(view.entries.iter().all(|entry| entry.is_open));
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_of_the_previous_version_are_read_after_migration() {
    let config = postgres_of(15).await.0;
    sql(&config, PRICES);
    Store::migrate(&config).await.unwrap();
    let (store, _commits) = Store::open(&config, Arc::default()).await.unwrap();
    assert_moved(&store).await;
    // Servers of the previous version continue to use their own journals.
    let before = store.journal_entry("prices:A", "").await.unwrap();
    assert_eq!(before.unwrap().revision, 7);
    store.close().await;
}
