//! Searches 1,000,000 messages with PostgreSQL and SQLite.
//!
//! `cargo bench --bench search` fills both databases first, which takes minutes. It starts a
//! private PostgreSQL from the installed programs.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use roomcast_server::config;
use roomcast_server::store::{NewConversation, Search, Store, words};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

#[path = "../tests/support/broker.rs"]
mod broker;
#[path = "../tests/support/port.rs"]
mod port;
#[path = "../tests/support/postgres.rs"]
mod postgres;

const MESSAGES: u64 = 1_000_000;
const ROOM: Uuid = Uuid::from_u128(1);
/// A hundred other conversations are interleaved, as in a database in use.
const OTHERS: u64 = 100;

fn search(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let server = postgres::Postgres::start();
    let url = server.database();
    let store = open(&runtime, &url);
    let (_, database) = url.rsplit_once('/').expect("a database");
    server.sql(database, &fill_postgres());
    server.sql(database, "VACUUM ANALYZE");
    measure(criterion, &runtime, "postgresql", &store);
    drop((store, server));

    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("chat.db");
    let store = open(&runtime, &format!("sqlite:{}", path.display()));
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute_batch(&fill_sqlite()).expect("messages");
    measure(criterion, &runtime, "sqlite", &store);
}

fn open(runtime: &Runtime, url: &str) -> Store {
    let config = config::Store {
        url: url.into(),
        ..config::Store::default()
    };
    runtime.block_on(async {
        let (store, mut commits) = Store::open(&config, Arc::default()).await.expect("a store");
        tokio::spawn(async move {
            while let Some(commit) = commits.next().await {
                commit.resolve();
            }
        });
        let room = NewConversation {
            id: ROOM,
            title: None,
            owner_id: Some("ann".into()),
            member_ids: Vec::new(),
            is_open: false,
        };
        store.insert_conversation(room).await.expect("a room");
        store
    })
}

fn measure(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &Store) {
    let mut group = criterion.benchmark_group("search");
    // The words occur in one of a thousand messages, in one message, in all, and in none. The last
    // two are beginnings of words: of one word, and of several in each message.
    for (search_name, text, found) in [
        ("a rare word", "rare7", 50),
        ("a word that is there once", "once999", 1),
        ("a common word", "message", 50),
        ("a word that is not there", "nowhere", 0),
        ("a beginning", "rar", 50),
        ("one letter", "a", 50),
    ] {
        group.bench_function(BenchmarkId::new(search_name, name), |bencher| {
            bencher.iter(|| {
                let search = Search {
                    words: words(text),
                    ..Search::default()
                };
                let read = store.search("ann", search, 50);
                let read = runtime
                    .block_on(read)
                    .expect("an answer")
                    .expect("a member");
                assert_eq!(read.messages.len(), found);
            });
        });
    }
    group.finish();
}

/// Texts of about a hundred characters. Every thousandth has a rare word, and one has a unique
/// word.
const TEXT: &str = "'message ' || n || ' of a long conversation about nothing in particular, as they go on' \
    || CASE WHEN n % 1000 = 7 THEN ' rare7' ELSE '' END || CASE WHEN n = 999 THEN ' once999' ELSE '' END";

fn fill_postgres() -> String {
    format!(
        "INSERT INTO conversations (id, owner_id, created_at, updated_at)
             SELECT gen_random_uuid(), 'bob', now(), now() FROM generate_series(1, {OTHERS});
         INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
             SELECT ('0193' || lpad(to_hex(n), 8, '0') || '70008000000000000000')::uuid,
                 '{ROOM}', n, 'ann', 'Ann', {TEXT}, 'user', '{{}}', now()
             FROM generate_series(1, {MESSAGES}) n;
         INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
             SELECT ('0193' || lpad(to_hex(n * 1000), 8, '0') || '7001'
                     || lpad(to_hex(row_number() OVER ()), 16, '0'))::uuid,
                 c.id, n, 'bob', 'Bob', {TEXT}, 'user', '{{}}', now()
             FROM conversations c, generate_series(1, 1000) n WHERE c.id <> '{ROOM}';
         UPDATE conversations SET last_seq = {MESSAGES} WHERE id = '{ROOM}'"
    )
}

fn fill_sqlite() -> String {
    let at = "'2030-01-01T00:00:00.000Z'";
    format!(
        "BEGIN;
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {MESSAGES})
         INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
             SELECT printf('0193%04x-%04x-7000-8000-000000000000', n / 65536, n % 65536),
                 '{ROOM}', n, 'ann', 'Ann', {TEXT}, 'user', '{{}}', {at} FROM numbers;
         UPDATE conversations SET last_seq = {MESSAGES} WHERE id = '{ROOM}';
         COMMIT"
    )
}

criterion_group!(benches, search);
criterion_main!(benches);
