//! The change feed: servers of one store read each other's changes, and no change is missed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use roomcast::network::{Block, BlockSource};
use roomcast_server::config;
use roomcast_server::store::{Changed, Feed, FeedMark, Revocation, Time};
use tokio_postgres::Client;

use crate::harness::{Harness, postgres, sqlite};
use crate::server::Postgres;

/// More changes than any test makes.
const ALL: usize = 1000;

/// Maximum number of retained changes in tests that do not test the limit.
const MANY: usize = 1_000_000;

/// A store with a feed. Tests of `shorten` need a server of their own: what it may delete depends
/// on all transactions of the server.
struct FeedDatabase {
    harness: Harness,
    feed: Feed,
    url: String,
    _server: Option<Postgres>,
}

impl FeedDatabase {
    async fn new() -> Self {
        Self::on(postgres().0, None).await
    }

    async fn alone() -> Self {
        let server = Postgres::start();
        let config = config::Store {
            url: server.database(),
            ..config::Store::default()
        };
        Self::on(config, Some(server)).await
    }

    async fn on(config: config::Store, server: Option<Postgres>) -> Self {
        let url = config.url.clone();
        let harness = Harness::new((config, None)).await;
        let feed = harness.store.feed().unwrap();
        Self {
            harness,
            feed,
            url,
            _server: server,
        }
    }

    /// Connects as another client of the database.
    async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

async fn connect(url: &str) -> Client {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

/// Returns the SQL of a server that revokes a user and does not know the feed.
fn revoke(user: &str, year: u16) -> String {
    format!(
        "INSERT INTO revocations (kind, value, until, created_at)
         VALUES ('user', '{user}', '{year}-01-01', now())
         ON CONFLICT (kind, value) DO UPDATE SET until = '{year}-01-01'"
    )
}

/// Reads the changes after a mark, sorted by text, and advances the mark.
async fn read_changes(feed: &Feed, mark: &mut FeedMark) -> Vec<String> {
    let page = feed.read(mark, ALL).await.unwrap().expect("kept");
    *mark = page.next;
    assert!(!page.has_more);
    let changes = page.changes.into_iter().map(shown);
    changes.collect::<BTreeSet<_>>().into_iter().collect()
}

fn shown(Changed { topic, key }: Changed) -> String {
    format!("{topic} {}", key.as_deref().unwrap_or("all"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_one_server_has_no_feed() {
    let (config, folder) = sqlite();
    let file = config.url.strip_prefix("sqlite:").unwrap().to_owned();
    let harness = Harness::new((config, folder)).await;
    assert!(harness.store.feed().is_none());
    let database = rusqlite::Connection::open(file).unwrap();
    let tables = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'changes%'";
    let tables: i64 = database.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_the_store_are_in_the_feed() {
    let FeedDatabase { harness, feed, .. } = &FeedDatabase::new().await;
    let mut mark = feed.end().await.unwrap();
    assert!(read_changes(feed, &mut mark).await.is_empty());
    let revocation = Revocation {
        kind: "session".into(),
        value: "a:b".into(),
        until: Time::from("2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap()),
    };
    let network = "192.0.2.0/24".parse().unwrap();
    let block = Block::new(network, None, "tests", BlockSource::Admin);
    let later = Block::new(network, None, "tests", BlockSource::Admin);
    let store = &harness.store;
    store.insert_revocation(revocation.clone()).await.unwrap();
    store.insert_block(block.clone()).await.unwrap();
    let block_row = format!("blocks {}", block.id);
    let revocation_row = "revocations session:a:b".to_owned();
    let both = [block_row.clone(), revocation_row.clone()];
    assert_eq!(read_changes(feed, &mut mark).await, both);
    let names = [("session", "a:b"), ("session", "a"), ("user", "a:b")];
    let found = feed.revocations(&names).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&revocation));
    let found = feed.blocks(&[block.id, later.id]).await.unwrap();
    assert_eq!(
        found.iter().map(|block| block.id).collect::<Vec<_>>(),
        [block.id]
    );
    // A block that replaces another reports both.
    store.insert_block(later.clone()).await.unwrap();
    let mut both = [block_row, format!("blocks {}", later.id)];
    both.sort();
    assert_eq!(read_changes(feed, &mut mark).await, both);
    assert!(feed.blocks(&[block.id]).await.unwrap().is_empty());

    store.delete_blocks(vec![later.id]).await.unwrap();
    store.delete_revocation("session", "a:b").await.unwrap();
    let both = [format!("blocks {}", later.id), revocation_row];
    assert_eq!(read_changes(feed, &mut mark).await, both);
    assert!(read_changes(feed, &mut mark).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_written_directly_to_tables_are_in_the_feed() {
    let place = FeedDatabase::new().await;
    let (feed, client) = (&place.feed, place.client().await);
    let mut mark = feed.end().await.unwrap();
    // The writer does not even need the right to write the feed.
    let restricted = "CREATE ROLE only_the_tables;
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON revocations, blocks TO only_the_tables;
        SET ROLE only_the_tables";
    client.batch_execute(restricted).await.unwrap();
    let block = "INSERT INTO blocks (id, cidr, reason, source, created_at, expires_at) VALUES
        ('00000000-0000-4000-8000-00000000000";
    let blocks = "blocks 00000000-0000-4000-8000-00000000000";
    for (sql, expected) in [
        (revoke("ann", 2035), vec!["revocations user:ann".into()]),
        (revoke("ann", 2036), vec!["revocations user:ann".into()]),
        (
            "UPDATE revocations SET value = 'bob'".into(),
            vec!["revocations user:ann".into(), "revocations user:bob".into()],
        ),
        (
            "DELETE FROM revocations".into(),
            vec!["revocations user:bob".into()],
        ),
        // Already expired when it is removed, so not a change.
        (revoke("bob", 2020), vec!["revocations user:bob".into()]),
        ("DELETE FROM revocations".into(), vec![]),
        (
            format!("{block}1', '192.0.2.1', 'x', 'admin', now(), NULL)"),
            vec![format!("{blocks}1")],
        ),
        (
            format!("{block}2', '192.0.2.2', 'x', 'admin', now(), '2020-01-01')"),
            vec![format!("{blocks}2")],
        ),
        ("DELETE FROM blocks".into(), vec![format!("{blocks}1")]),
        (format!("BEGIN; {}; ROLLBACK", revoke("carl", 2035)), vec![]),
        (
            "TRUNCATE revocations, blocks".into(),
            vec!["blocks all".into(), "revocations all".into()],
        ),
    ] {
        client.batch_execute(&sql).await.unwrap();
        let changes: Vec<String> = read_changes(feed, &mut mark).await;
        assert_eq!(changes, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_read_once_in_any_commit_order() {
    let place = FeedDatabase::new().await;
    let (late, later) = (place.client().await, place.client().await);
    let feed = &place.feed;
    let mut mark = feed.end().await.unwrap();
    late.batch_execute(&format!("BEGIN; {}", revoke("ann", 2035)))
        .await
        .unwrap();
    later.batch_execute(&revoke("bob", 2035)).await.unwrap();
    assert_eq!(
        read_changes(feed, &mut mark).await,
        ["revocations user:bob"]
    );
    // An older transaction stays open throughout; known changes are not reported again because of
    // it.
    assert!(read_changes(feed, &mut mark).await.is_empty());
    later.batch_execute(&revoke("carl", 2035)).await.unwrap();
    assert_eq!(
        read_changes(feed, &mut mark).await,
        ["revocations user:carl"]
    );
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        read_changes(feed, &mut mark).await,
        ["revocations user:ann"]
    );
    assert!(read_changes(feed, &mut mark).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_skipped_between_two_pages() {
    let place = FeedDatabase::new().await;
    let (late, many) = (place.client().await, place.client().await);
    let feed = &place.feed;
    let start = feed.end().await.unwrap();
    late.batch_execute(&format!("BEGIN; {}", revoke("late", 2035)))
        .await
        .unwrap();
    // More changes in one transaction than in one page.
    let users: Vec<String> = (0..7).map(|n| format!("u{n}")).collect();
    let sql: Vec<String> = users.iter().map(|user| revoke(user, 2035)).collect();
    many.batch_execute(&sql.join(";")).await.unwrap();
    let (mut mark, mut changes) = (start, Vec::new());
    for page in 0..8 {
        let read = feed.read(&mark, 2).await.unwrap().unwrap();
        assert!(read.changes.len() <= 2);
        if page == 1 {
            // Older than everything read so far, and committed only now.
            late.batch_execute("COMMIT").await.unwrap();
        }
        assert_eq!(read.has_more, page < 3, "{page}");
        changes.extend(read.changes.into_iter().map(shown));
        mark = read.next;
    }
    changes.sort();
    let mut expected = vec!["revocations user:late".to_owned()];
    expected.extend(users.iter().map(|user| format!("revocations user:{user}")));
    assert_eq!(changes, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_older_than_retained_changes_is_notified() {
    let place = FeedDatabase::alone().await;
    let (feed, client) = (&place.feed, place.client().await);
    let rows = async || -> i64 {
        let row = client.query_one("SELECT count(*) FROM changes", &[]).await;
        row.unwrap().get(0)
    };
    let late = place.client().await;
    let old = feed.end().await.unwrap();
    client.batch_execute(&revoke("ann", 2035)).await.unwrap();
    let new = feed.end().await.unwrap();
    client.batch_execute(&revoke("bob", 2035)).await.unwrap();
    // `shorten` keeps the changes after a mark.
    assert!(!feed.shorten(Some(&old), MANY).await.unwrap());
    assert_eq!(rows().await, 2);
    assert!(!feed.shorten(Some(&new), MANY).await.unwrap());
    assert_eq!(rows().await, 1);
    assert!(feed.read(&old, ALL).await.unwrap().is_none(), "behind");
    let mut mark = new.clone();
    assert_eq!(
        read_changes(feed, &mut mark).await,
        ["revocations user:bob"]
    );
    // Shortening again, or to an older mark, changes nothing.
    assert!(!feed.shorten(Some(&old), MANY).await.unwrap());
    assert!(feed.read(&old, ALL).await.unwrap().is_none());
    assert!(feed.read(&new, ALL).await.unwrap().is_some());

    // Beyond the limit only the newest changes stay, unless an older transaction is still open.
    let start = feed.end().await.unwrap();
    late.batch_execute(&format!("BEGIN; {}", revoke("late", 2035)))
        .await
        .unwrap();
    for user in 0..9 {
        client
            .batch_execute(&revoke(&user.to_string(), 2035))
            .await
            .unwrap();
    }
    assert!(!feed.shorten(None, 4).await.unwrap());
    assert_eq!(rows().await, 10, "those since are not known to everybody");
    assert_eq!(read_changes(feed, &mut mark).await.len(), 9);
    late.batch_execute("COMMIT").await.unwrap();
    assert!(!feed.shorten(None, 4).await.unwrap());
    assert_eq!(rows().await, 5);
    assert!(feed.read(&start, ALL).await.unwrap().is_none());
    assert!(
        feed.read(&mark, ALL).await.unwrap().is_none(),
        "it had seen nine, and cannot know that"
    );
    let all = feed.revocations_after(None, ALL).await.unwrap();
    assert_eq!(all, place.harness.store.revocations().await.unwrap());
    assert_eq!(all.len(), 12);
    let rest = feed.revocations_after(Some(&all[4]), 3).await.unwrap();
    assert_eq!(rest, all[5..8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_with_lost_data_or_from_a_dump_is_read_again() {
    let place = FeedDatabase::new().await;
    let (feed, client) = (&place.feed, place.client().await);
    // Transaction ids of the future, as in a dump restored on a database with a lower counter.
    let dump = "INSERT INTO changes (changed_in, topic, key) VALUES ('9000000000', 'blocks', 'x');
        UPDATE changes_kept SET since = '8999999999'";
    client.batch_execute(dump).await.unwrap();
    let mut mark = feed.end().await.unwrap();
    assert!(read_changes(feed, &mut mark).await.is_empty());
    client.batch_execute(&revoke("ann", 2035)).await.unwrap();
    assert_eq!(
        read_changes(feed, &mut mark).await,
        ["revocations user:ann"]
    );
    assert!(read_changes(feed, &mut mark).await.is_empty());

    // A database that lost its last transactions, as after a failover.
    let (before, after) = (FeedDatabase::alone().await, FeedDatabase::alone().await);
    let client = before.client().await;
    for user in 0..100 {
        let sql = revoke(&user.to_string(), 2035);
        client.batch_execute(&sql).await.unwrap();
    }
    let mark = before.feed.end().await.unwrap();
    assert!(after.feed.read(&mark, ALL).await.unwrap().is_none());
    let mark = after.feed.end().await.unwrap();
    assert!(after.feed.read(&mark, ALL).await.unwrap().is_some());
}

/// A step of a random test: a change by one of several writers, or an action of the reader.
#[derive(Clone, Copy, Debug)]
enum Step {
    Revoke(usize, usize, u16),
    Lift(usize, usize),
    Commit(usize),
    RollBack(usize),
    /// Reads one page with this limit.
    Read(usize),
    /// Reads everything; all committed changes must be known afterwards.
    Settle(usize),
    /// Deletes the changes that the reader has passed.
    Shorten,
}

const WRITERS: usize = 3;
const USERS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..WRITERS, 0..USERS, 2035..2040_u16)
            .prop_map(|(writer, user, year)| Step::Revoke(writer, user, year)),
        2 => (0..WRITERS, 0..USERS).prop_map(|(writer, user)| Step::Lift(writer, user)),
        3 => (0..WRITERS).prop_map(Step::Commit),
        1 => (0..WRITERS).prop_map(Step::RollBack),
        4 => (1..4_usize).prop_map(Step::Read),
        2 => (1..4_usize).prop_map(Step::Settle),
        1 => Just(Step::Shorten),
    ]
}

/// A client that follows revocations.
struct Reader {
    feed: Feed,
    mark: FeedMark,
    known: BTreeMap<String, Time>,
}

impl Reader {
    async fn new(feed: &Feed) -> Self {
        let mark = feed.end().await.unwrap();
        let (feed, known) = (feed.clone(), all(feed).await);
        Self { feed, mark, known }
    }

    /// Reads one page and returns whether more follow, or `None` if the mark is no longer retained.
    async fn read(&mut self, limit: usize) -> Option<bool> {
        let page = self.feed.read(&self.mark, limit).await.unwrap()?;
        assert!(page.changes.len() <= limit);
        for Changed { key, .. } in page.changes {
            let key = key.unwrap();
            let user = key.strip_prefix("user:").unwrap();
            let found = self.feed.revocations(&[("user", user)]).await.unwrap();
            match found.first() {
                Some(row) => self.known.insert(user.into(), row.until),
                None => self.known.remove(user),
            };
        }
        self.mark = page.next;
        Some(page.has_more)
    }

    /// Reads to the end twice, for changes that arrived after the page that was being read.
    async fn settle(&mut self, limit: usize) -> Option<()> {
        for _ in 0..2 {
            while self.read(limit).await? {}
        }
        Some(())
    }
}

async fn all(feed: &Feed) -> BTreeMap<String, Time> {
    let rows = feed.revocations_after(None, ALL).await.unwrap();
    rows.into_iter().map(|row| (row.value, row.until)).collect()
}

/// The users that each writer has changed in its open transaction, or `None` without one.
type Open = [Option<BTreeSet<usize>>; WRITERS];

/// Changes a user in the writer's transaction, which stays open. Does nothing if it would have to
/// wait for another writer.
async fn write(writers: &[Client], open: &mut Open, writer: usize, user: usize, sql: &str) {
    let mut touched = open.iter().enumerate();
    if touched.any(|(n, users)| n != writer && users.as_ref().is_some_and(|u| u.contains(&user))) {
        return;
    }
    if open[writer].is_none() {
        writers[writer].batch_execute("BEGIN").await.unwrap();
    }
    open[writer].get_or_insert_default().insert(user);
    writers[writer].batch_execute(sql).await.unwrap();
}

async fn play(place: &FeedDatabase, writers: &[Client], steps: Vec<Step>) {
    let feed = &place.feed;
    let mut open = Open::default();
    let mut reader = Reader::new(feed).await;
    // It reads only once, at the end: it then either learns that its mark is too old, or gets
    // every change.
    let mut late = Reader::new(feed).await;
    let end = (0..WRITERS).map(Step::Commit).chain([Step::Settle(2)]);
    for step in steps.into_iter().chain(end) {
        match step {
            Step::Revoke(writer, user, year) => {
                let sql = revoke(&user.to_string(), year);
                write(writers, &mut open, writer, user, &sql).await;
            }
            Step::Lift(writer, user) => {
                let sql = format!("DELETE FROM revocations WHERE value = '{user}'");
                write(writers, &mut open, writer, user, &sql).await;
            }
            Step::Commit(writer) if open[writer].take().is_some() => {
                writers[writer].batch_execute("COMMIT").await.unwrap();
            }
            Step::RollBack(writer) if open[writer].take().is_some() => {
                writers[writer].batch_execute("ROLLBACK").await.unwrap();
            }
            Step::Commit(_) | Step::RollBack(_) => {}
            Step::Read(limit) => drop(reader.read(limit).await.expect("kept")),
            Step::Settle(limit) => {
                reader.settle(limit).await.expect("kept");
                assert_eq!(reader.known, all(feed).await);
            }
            Step::Shorten => {
                feed.shorten(Some(&reader.mark), MANY).await.unwrap();
            }
        }
    }
    if late.settle(2).await.is_some() {
        assert_eq!(late.known, all(feed).await);
    }
}

#[test]
fn reader_knows_all_commits_despite_open_transactions() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (place, writers) = runtime.block_on(async {
        let place = FeedDatabase::alone().await;
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            writers.push(place.client().await);
        }
        (place, writers)
    });
    let config = ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let steps = proptest::collection::vec(step(), 1..60);
    let mut runner = TestRunner::new(config);
    let played = runner.run(&steps, |steps| {
        runtime.block_on(async {
            for writer in &writers {
                writer.batch_execute("ROLLBACK").await.unwrap();
            }
            play(&place, &writers, steps).await;
        });
        Ok(())
    });
    played.unwrap();
}
