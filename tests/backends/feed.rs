//! What the servers of one store tell one another by its change feed, and that nothing is left out of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use roomcast::network::{Block, BlockSource};
use roomcast_server::config;
use roomcast_server::store::{Changed, Feed, FeedMark, Revocation, Time};
use tokio_postgres::Client;

use crate::harness::{Harness, memory, postgres, sqlite};
use crate::server::Postgres;

/// More than there is.
const ALL: usize = 1000;

/// How many changes are kept at most in tests that are not about that.
const MANY: usize = 1_000_000;

/// A store with a feed, on a server of its own if what is forgotten is looked at: that depends on all
/// transactions of a server.
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
        let (mut config, _) = memory();
        config.url = server.database();
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

    /// A connection of somebody else.
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

/// How a server revokes that knows nothing of the feed.
fn revoke(user: &str, year: u16) -> String {
    format!(
        "INSERT INTO revocations (kind, value, until, created_at)
         VALUES ('user', '{user}', '{year}-01-01', now())
         ON CONFLICT (kind, value) DO UPDATE SET until = '{year}-01-01'"
    )
}

/// What is told behind a mark, in the order of its text; the mark moves on.
async fn told(feed: &Feed, mark: &mut FeedMark) -> Vec<String> {
    let page = feed.read(mark, ALL).await.unwrap().expect("kept");
    *mark = page.next;
    assert!(!page.has_more);
    let told = page.changes.into_iter().map(shown);
    told.collect::<BTreeSet<_>>().into_iter().collect()
}

fn shown(Changed { topic, key }: Changed) -> String {
    format!("{topic} {}", key.as_deref().unwrap_or("all"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_one_server_has_no_feed() {
    assert!(Harness::new(memory()).await.store.feed().is_none());
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
async fn what_the_store_changes_is_told_and_looked_up() {
    let FeedDatabase { harness, feed, .. } = &FeedDatabase::new().await;
    let mut mark = feed.end().await.unwrap();
    assert!(told(feed, &mut mark).await.is_empty());
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
    assert_eq!(told(feed, &mut mark).await, both);
    let names = [("session", "a:b"), ("session", "a"), ("user", "a:b")];
    let found = feed.revocations(&names).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&revocation));
    let found = feed.blocks(&[block.id, later.id]).await.unwrap();
    assert_eq!(
        found.iter().map(|block| block.id).collect::<Vec<_>>(),
        [block.id]
    );
    // One that replaces another tells of both.
    store.insert_block(later.clone()).await.unwrap();
    let mut both = [block_row, format!("blocks {}", later.id)];
    both.sort();
    assert_eq!(told(feed, &mut mark).await, both);
    assert!(feed.blocks(&[block.id]).await.unwrap().is_empty());

    store.delete_blocks(vec![later.id]).await.unwrap();
    store.delete_revocation("session", "a:b").await.unwrap();
    let both = [format!("blocks {}", later.id), revocation_row];
    assert_eq!(told(feed, &mut mark).await, both);
    assert!(told(feed, &mut mark).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_knows_only_the_tables_is_heard() {
    let place = FeedDatabase::new().await;
    let (feed, client) = (&place.feed, place.client().await);
    let mut mark = feed.end().await.unwrap();
    // It need not even be allowed to write the feed.
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
        // Over already when it is removed: that is no news.
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
        let told: Vec<String> = told(feed, &mut mark).await;
        assert_eq!(told, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_once_in_whatever_order_they_are_committed() {
    let place = FeedDatabase::new().await;
    let (late, later) = (place.client().await, place.client().await);
    let feed = &place.feed;
    let mut mark = feed.end().await.unwrap();
    late.batch_execute(&format!("BEGIN; {}", revoke("ann", 2035)))
        .await
        .unwrap();
    later.batch_execute(&revoke("bob", 2035)).await.unwrap();
    assert_eq!(told(feed, &mut mark).await, ["revocations user:bob"]);
    // Something older is under way all the time, and what is known is not told again for that.
    assert!(told(feed, &mut mark).await.is_empty());
    later.batch_execute(&revoke("carl", 2035)).await.unwrap();
    assert_eq!(told(feed, &mut mark).await, ["revocations user:carl"]);
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(told(feed, &mut mark).await, ["revocations user:ann"]);
    assert!(told(feed, &mut mark).await.is_empty());
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
    // More of one transaction than there are in a page.
    let users: Vec<String> = (0..7).map(|n| format!("u{n}")).collect();
    let sql: Vec<String> = users.iter().map(|user| revoke(user, 2035)).collect();
    many.batch_execute(&sql.join(";")).await.unwrap();
    let (mut mark, mut told) = (start, Vec::new());
    for page in 0..8 {
        let read = feed.read(&mark, 2).await.unwrap().unwrap();
        assert!(read.changes.len() <= 2);
        if page == 1 {
            // Older than all that was read, and only now there.
            late.batch_execute("COMMIT").await.unwrap();
        }
        assert_eq!(read.has_more, page < 3, "{page}");
        told.extend(read.changes.into_iter().map(shown));
        mark = read.next;
    }
    told.sort();
    let mut expected = vec!["revocations user:late".to_owned()];
    expected.extend(users.iter().map(|user| format!("revocations user:{user}")));
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_missed_by_nobody_who_is_not_told_so() {
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
    // A mark that is not passed keeps what is behind it.
    assert!(!feed.shorten(Some(&old), MANY).await.unwrap());
    assert_eq!(rows().await, 2);
    assert!(!feed.shorten(Some(&new), MANY).await.unwrap());
    assert_eq!(rows().await, 1);
    assert!(feed.read(&old, ALL).await.unwrap().is_none(), "behind");
    let mut mark = new.clone();
    assert_eq!(told(feed, &mut mark).await, ["revocations user:bob"]);
    // Said again, or of something older, it changes nothing.
    assert!(!feed.shorten(Some(&old), MANY).await.unwrap());
    assert!(feed.read(&old, ALL).await.unwrap().is_none());
    assert!(feed.read(&new, ALL).await.unwrap().is_some());

    // Of too many the newest are kept, as far as nothing older is under way.
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
    assert_eq!(told(feed, &mut mark).await.len(), 9);
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
async fn a_database_that_has_lost_what_it_had_or_comes_from_a_dump_is_read_again() {
    let place = FeedDatabase::new().await;
    let (feed, client) = (&place.feed, place.client().await);
    // Numbers of transactions that are still to come, as in the dump of a database that is older.
    let dump = "INSERT INTO changes (changed_in, topic, key) VALUES ('9000000000', 'blocks', 'x');
        UPDATE changes_kept SET since = '8999999999'";
    client.batch_execute(dump).await.unwrap();
    let mut mark = feed.end().await.unwrap();
    assert!(told(feed, &mut mark).await.is_empty());
    client.batch_execute(&revoke("ann", 2035)).await.unwrap();
    assert_eq!(told(feed, &mut mark).await, ["revocations user:ann"]);
    assert!(told(feed, &mut mark).await.is_empty());

    // One that has lost its last transactions, as it may when another machine takes over.
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

/// What happens to a database, by one of some writers, and to those who follow it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Revoke(usize, usize, u16),
    Lift(usize, usize),
    Commit(usize),
    RollBack(usize),
    /// A page of so many changes.
    Read(usize),
    /// Everything that is committed must be known then.
    Settle(usize),
    /// What the reader has passed is forgotten.
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

/// Somebody who follows revocations.
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

    /// Reads a page; whether there are more. None: it is behind.
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

    /// Reads to the end, and to the end of what came after the page that it was reading.
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

/// What each writer has touched in its open transaction; none if it has none.
type Open = [Option<BTreeSet<usize>>; WRITERS];

/// Lets a writer write of a user, in a transaction that stays open; not if it had to wait for another one.
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
    // It reads once, in the end: then it is told that it is behind, or everything.
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
fn whoever_reads_knows_what_is_committed_whatever_is_under_way() {
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
