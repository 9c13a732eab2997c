//! Migrations of a PostgreSQL database that is in use.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use roomcast_server::config;
use roomcast_server::store::{Current, Store, Time};
use tokio::time::{sleep, timeout};

use crate::harness::postgres;
use crate::server::shared;

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_table_keeps_nobody_else_from_it() {
    let config = of_version(6).await;
    let has_migrated = "SELECT count(*) FROM pg_attribute
        WHERE attrelid = 'conversations'::regclass AND attname = 'deleted_at'";
    // A transaction that reads for long holds the table.
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
    assert_eq!(read, "0\n");

    let migrating = tokio::spawn({
        let config = config.clone();
        async move { Store::migrate(&config).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks
        WHERE relation = 'conversations'::regclass AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waits = async {
        while sql(&config, waiting) == "0" {
            // The pace of asking.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, waits).await.unwrap();
    // Others want the same table, and would wait behind the migration as long as that waits.
    let others = "SET statement_timeout = '30s'; SELECT count(*) FROM conversations";
    assert_eq!(sql(&config, others), "0");
    assert_eq!(sql(&config, has_migrated), "0");

    drop(commands);
    reader.wait().unwrap();
    let applied = timeout(DEADLINE, migrating).await.unwrap().unwrap();
    let applied = applied.unwrap();
    assert!(applied[0].contains("deleted_conversations"), "{applied:?}");
    assert_eq!(sql(&config, has_migrated), "1");
}

/// A new database with the tables of an older version.
async fn of_version(version: u32) -> config::Store {
    let (newest, _) = postgres();
    Store::migrate(&newest).await.unwrap();
    let (config, _) = postgres();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    for number in 1..=version {
        let start = format!("V{number}__");
        let mut files = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap());
        let file = files.find(|file| file.file_name().to_string_lossy().starts_with(&start));
        sql(
            &config,
            &std::fs::read_to_string(file.unwrap().path()).unwrap(),
        );
    }
    let rows =
        "SELECT string_agg(format('(%s, %L, %L, %L)', version, name, applied_on, checksum), ', ')
        FROM refinery_schema_history WHERE version <= ";
    let rows = sql(&newest, &format!("{rows}{version}"));
    let history = "CREATE TABLE refinery_schema_history
        (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255));
        INSERT INTO refinery_schema_history VALUES ";
    sql(&config, &format!("{history}{rows}"));
    config
}

/// Runs SQL in the database of a store on the shared server.
fn sql(config: &config::Store, sql: &str) -> String {
    let (_, database) = config.url.rsplit_once('/').unwrap();
    shared().lock().unwrap().sql(database, sql)
}

/// What the version before has stored of prices: each symbol is a journal of its own.
const PRICES: &str = "INSERT INTO journals (name, revision) VALUES ('prices:A', 7), ('prices:B/C', 1);
    INSERT INTO journal_entries (journal, revision, key, body, is_open, created_at) VALUES
        ('prices:A', 7, '', '{\"symbol\":\"A\",\"price\":1.5,\"timestamp\":\"2025-01-31T12:00:00.000Z\"}', true,
         '2025-01-31T12:00:00.000Z'),
        ('prices:B/C', 1, '', '{\"symbol\":\"B/C\",\"price\":2,\"timestamp\":\"2025-01-31T12:00:01.000Z\"}', true,
         '2025-01-31T12:00:01.000Z')";
/// The same in one journal.
const MOVED: [(u64, &str); 2] = [(1, "B/C"), (2, "A")];

async fn assert_moved(store: &Store) {
    let current = Current {
        journal: "prices",
        category: None,
        open: 10,
        newest: 0,
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
async fn prices_of_the_version_before_are_known_afterwards() {
    let config = of_version(15).await;
    sql(&config, PRICES);
    Store::migrate(&config).await.unwrap();
    let (store, _commits) = Store::open(&config, Arc::default()).await.unwrap();
    assert_moved(&store).await;
    // Servers of the version before go on with theirs.
    let before = store.journal_entry("prices:A", "").await.unwrap();
    assert_eq!(before.unwrap().revision, 7);
    store.close().await;
}
