//! Pages and searches of a long history use indexes.
//!
//! PostgreSQL counts rows read. The statements are those of the store, prepared and planned as in
//! production. SQLite's plans are tested in `server/src/store/sqlite/plans.rs`.

use std::time::{Duration, Instant};

use roomcast_server::config;
use roomcast_server::store::{
    Actor, Change, DeleteConversation, Origin, Page, Search, Time, words,
};
use tokio::time::sleep;
use uuid::Uuid;

use crate::harness::{Harness, postgres};
use crate::server::shared;

/// Messages of one conversation. 100 other conversations have 100 each, of the same time.
const LENGTH: u64 = 30_000;

/// Executions of each statement. PostgreSQL switches to one generic plan after the fifth.
const TIMES: u64 = 8;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn page_queries_use_the_index_at_any_position() {
    let place = LongConversation::fill().await;
    let pages = [
        Page::Newest,
        Page::Before(3),
        Page::Before(LENGTH / 2),
        Page::Before(LENGTH - 3),
        Page::Before(u64::MAX),
        Page::After(0),
        Page::After(LENGTH / 2),
        Page::After(LENGTH - 3),
        Page::After(u64::MAX),
        Page::Between {
            after: LENGTH / 3,
            through: LENGTH / 2,
        },
    ];
    let before = place.counted().await;
    let harness = place.open().await;
    for _ in 0..TIMES {
        for page in pages {
            let read = harness.store.messages(place.room, "ann", page, 50).await;
            let read = read.unwrap().expect("a member").messages.len();
            let expected = match page {
                Page::Before(3) => 2,
                Page::After(u64::MAX) => 0,
                Page::After(seq) if seq > LENGTH - 50 => 3,
                _ => 50,
            };
            assert_eq!(read, expected, "{page:?}");
        }
    }
    harness.store.close().await;
    let read = place.counted().await.since(before);
    let queries = TIMES * pages.len() as u64;
    assert_eq!(read.read_through, 0, "{read:?}");
    assert!(read.along_order >= queries, "{read:?}");
    assert!(
        read.rows <= queries * 51,
        "{read:?} for {queries} pages of 50"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn search_reads_few_rows_besides_its_results() {
    let place = LongConversation::fill().await;
    let before = place.counted().await;
    let harness = place.open().await;
    let queries = [
        ("message", 50),
        ("rare7", 30),
        ("once999", 1),
        ("nowhere", 0),
        ("m", 50),
        ("rar", 30),
        ("message rar", 30),
        ("nowh", 0),
    ];
    for _ in 0..TIMES {
        for (query, found) in queries {
            let search = Search {
                words: words(query),
                ..Search::default()
            };
            let read = harness.store.search("ann", search, 50).await;
            assert_eq!(read.unwrap().unwrap().messages.len(), found, "{query}");
        }
    }
    harness.store.close().await;
    let read = place.counted().await.since(before);
    assert_eq!(read.read_through, 0, "{read:?}");
    assert!(read.along_words >= TIMES * 6, "{read:?}");
    assert!(read.rows <= TIMES * 800, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_of_a_long_conversation_reads_only_its_batch() {
    let place = LongConversation::fill().await;
    let before = place.counted().await;
    let harness = place.open().await;
    let deletion = DeleteConversation {
        conversation_id: place.room,
        by: Actor {
            user_id: "ann".into(),
            is_admin: false,
        },
    };
    let deleted = harness
        .store
        .delete_conversation(deletion, Origin::default());
    assert!(matches!(deleted.await.unwrap(), Change::Done(_)));
    let early: Time = "2000-01-01T00:00:00.000Z".parse().unwrap();
    for _ in 0..TIMES {
        assert_eq!(harness.store.purge(early, 50).await.unwrap(), 50);
    }
    harness.store.close().await;
    let read = place.counted().await.since(before);
    assert_eq!(read.read_through, 0, "{read:?}");
    assert!(read.rows <= TIMES * 51 * 3, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_positions_take_two_index_entries() {
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let room = harness.conversation(&["ann"]).await;
    harness.store.close().await;
    let place = LongConversation { config, room };
    place.sql(&format!(
        "INSERT INTO reads (conversation_id, user_id, seq)
             SELECT '{room}', 'reader ' || n, n FROM generate_series(1, 20000) n;
         INSERT INTO reads (conversation_id, user_id, seq) VALUES ('{room}', 'ann', 30000)"
    ));
    place.sql("VACUUM ANALYZE");
    let harness = place.open().await;
    for _ in 0..TIMES {
        let opening = harness.store.opening(room, Some("ann")).await.unwrap();
        assert_eq!(opening.unwrap().others_read_seq, Some(20_000));
    }
    harness.store.close().await;
    // The counts of connections are available after these have ended.
    place.counted().await;
    let read = |column: &str| -> u64 {
        let sql = format!(
            "SELECT {column} FROM pg_stat_user_indexes WHERE indexrelname = 'reads_by_seq'"
        );
        place.sql(&sql).parse().unwrap()
    };
    assert_eq!((read("idx_scan"), read("idx_tup_read")), (TIMES, 2 * TIMES));
}

/// A database with a long conversation whose only member is ann.
struct LongConversation {
    config: config::Store,
    room: Uuid,
}

/// PostgreSQL's statistics for the table of messages.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// Number of sequential scans.
    read_through: u64,
    /// Number of scans of the index of conversation and `seq`.
    along_order: u64,
    /// Number of scans of the index of words.
    along_words: u64,
    /// Rows fetched along any index.
    rows: u64,
}

impl Counted {
    fn since(self, before: Self) -> Self {
        Self {
            read_through: self.read_through - before.read_through,
            along_order: self.along_order - before.along_order,
            along_words: self.along_words - before.along_words,
            rows: self.rows - before.rows,
        }
    }
}

impl LongConversation {
    async fn fill() -> Self {
        let (config, _) = postgres();
        let harness = Harness::new((config.clone(), None)).await;
        let room = harness.conversation(&["ann"]).await;
        harness.store.close().await;
        let place = Self { config, room };
        let text = "'message ' || n || ' of a conversation' || CASE WHEN n % 1000 = 7 THEN ' rare7' ELSE '' END \
             || CASE WHEN n = 999 THEN ' once999' ELSE '' END";
        let columns =
            "id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at";
        place.sql(&format!(
            "INSERT INTO conversations (id, owner_id, created_at, updated_at)
                 SELECT gen_random_uuid(), 'bob', now(), now() FROM generate_series(1, 100);
             INSERT INTO messages ({columns})
                 SELECT ('0193' || lpad(to_hex(n), 8, '0') || '70008000000000000000')::uuid,
                     '{room}', n, 'ann', 'Ann', {text}, 'user', '{{}}', now()
                 FROM generate_series(1, {LENGTH}) n;
             INSERT INTO messages ({columns})
                 SELECT ('0193' || lpad(to_hex(n * 300), 8, '0') || '7001'
                         || lpad(to_hex(row_number() OVER ()), 16, '0'))::uuid,
                     c.id, n, 'bob', 'Bob', {text}, 'user', '{{}}', now()
                 FROM conversations c, generate_series(1, 100) n WHERE c.id <> '{room}';
             UPDATE conversations SET last_seq = {LENGTH} WHERE id = '{room}'"
        ));
        place.sql("VACUUM ANALYZE");
        place
    }

    async fn open(&self) -> Harness {
        Harness::new((self.config.clone(), None)).await
    }

    fn sql(&self, sql: &str) -> String {
        let (_, database) = self.config.url.rsplit_once('/').unwrap();
        shared().sql(database, sql)
    }

    /// Returns the counts so far. A connection might report its counts only when it ends, so this
    /// waits until all have ended.
    async fn counted(&self) -> Counted {
        let start = Instant::now();
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        while self.sql(others) != "0" {
            assert!(start.elapsed() < DEADLINE, "connections do not end");
            sleep(Duration::from_millis(20)).await; // Poll interval.
        }
        let number = |sql: &str| self.sql(sql).parse().unwrap();
        let of_index = |index: &str| {
            number(&format!(
                "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = '{index}'"
            ))
        };
        Counted {
            read_through: number(
                "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'messages'",
            ),
            along_order: of_index("messages_in_order"),
            along_words: of_index("messages_by_word"),
            rows: number(
                "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'messages'",
            ),
        }
    }
}
