//! PostgreSQL only: several servers on one database, and a database that fails.

mod commits;
mod lanes;
mod opening;
mod rights;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roomcast_server::config;
use roomcast_server::metrics::Counter;
use roomcast_server::store::{
    Actor, Annotate, Annotation, Change, Delete, DeleteConversation, Edit, Insert, MarkRead,
    MemberChange, OpenError, Origin, Page, Rename, Search, Store, StoreError, words,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::harness::{Harness, postgres, retriable, text};
use crate::server::{Postgres, shared};

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_database_leave_no_gap() {
    let (config, _) = postgres();
    let first = Arc::new(Harness::new((config.clone(), None)).await);
    let second = Arc::new(Harness::new((config, None)).await);
    let rooms = [
        first.open_conversation().await,
        first.open_conversation().await,
        first.open_conversation().await,
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..30 {
        let harness = Arc::clone(if sender % 2 == 0 { &first } else { &second });
        tasks.spawn(async move {
            let mut last = [0; 3];
            for round in 0..12 {
                let room = (sender + round) % 3;
                let message = harness.send(rooms[room], "ann", "x").await;
                assert!(message.seq > last[room]);
                last[room] = message.seq;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for room in rooms {
        let read = first.store.history(room, Page::After(0), 1000).await;
        let seqs: Vec<u64> = read
            .unwrap()
            .unwrap()
            .messages
            .iter()
            .map(|m| m.seq)
            .collect();
        assert_eq!(seqs, (1..=120).collect::<Vec<_>>());
        let mut emitted: Vec<u64> = Vec::new();
        for harness in [&first, &second] {
            let own: Vec<u64> = harness
                .emitted_to(room)
                .iter()
                .map(|(seq, _)| *seq)
                .collect();
            assert!(own.is_sorted(), "each emits its own in order");
            emitted.extend(own);
        }
        emitted.sort_unstable();
        assert_eq!(
            emitted, seqs,
            "each message is emitted by the one that stored it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_sent_to_two_servers_is_stored_once() {
    let (config, _) = postgres();
    let first = Harness::new((config.clone(), None)).await;
    let second = Harness::new((config, None)).await;
    let (here, there) = (
        first.open_conversation().await,
        first.open_conversation().await,
    );
    for round in 0..20 {
        let id = format!("m{round}");
        let sends = [
            first
                .store
                .insert_message(retriable(here, "ann", &id), Origin::default()),
            second
                .store
                .insert_message(retriable(here, "ann", &id), Origin::default()),
            second
                .store
                .insert_message(retriable(there, "ann", &id), Origin::default()),
        ];
        let answers = futures_util::future::join_all(sends).await;
        let stored = answers
            .iter()
            .filter(|answer| matches!(answer, Ok(Insert::Stored(_))))
            .count();
        assert_eq!(stored, 1, "{answers:?}");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    let (here, there) = (
        first.store.conversation(here).await.unwrap().unwrap(),
        first.store.conversation(there).await.unwrap().unwrap(),
    );
    assert_eq!(here.last_seq + there.last_seq, 20);
}

#[tokio::test]
async fn invalid_message_fails_no_other_message_of_its_group() {
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    sql(
        &config,
        "CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'bad'; END $$;
         CREATE TRIGGER bad BEFORE INSERT ON messages FOR EACH ROW
             WHEN (NEW.content = 'bad') EXECUTE FUNCTION bad()",
    );
    let sends = ["a", "bad", "b", "bad", "c"].map(|content| {
        harness
            .store
            .insert_message(text(id, "ann", content), Origin::default())
    });
    let answers = futures_util::future::join_all(sends).await;
    let stored: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(stored, [true, false, true, false, true]);
    assert_eq!(
        harness.emitted_to(id),
        [(1, "a".into()), (2, "b".into()), (3, "c".into())]
    );
    assert!(harness.store.is_healthy(), "the database works");
}

#[tokio::test]
async fn a_full_database_refuses_to_store_and_still_reads() {
    let (config, _) = postgres();
    let config = config::Store {
        health_interval: Duration::from_millis(50),
        ..config
    };
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "before").await;
    sql(
        &config,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON messages EXECUTE FUNCTION full_disk();
         CREATE TRIGGER full_disk BEFORE UPDATE ON roomcast_schema EXECUTE FUNCTION full_disk()",
    );
    for _ in 0..10 {
        let send = harness
            .store
            .insert_message(text(id, "ann", "x"), Origin::default());
        assert_eq!(send.await.unwrap_err(), StoreError::Failed);
    }
    assert!(!harness.store.is_healthy());
    let read = harness.store.messages(id, "ann", Page::Newest, 9).await;
    assert_eq!(read.unwrap().unwrap().messages.len(), 1);
    sql(
        &config,
        "DROP TRIGGER full_disk ON messages; DROP TRIGGER full_disk ON roomcast_schema",
    );
    healthy(&harness).await;
    assert_eq!(harness.send(id, "ann", "after").await.seq, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_database_keeps_acknowledged_messages_and_recovers() {
    survives(|server| server.kill(), |server| server.restart()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_time_out_on_a_suspended_database_until_it_resumes() {
    survives(|server| server.pause(), |server| server.resume()).await;
}

/// Messages acknowledged while a database fails twice are stored, and sending works again
/// afterwards.
async fn survives(fail: fn(&Postgres), mend: fn(&Postgres)) {
    let server = Postgres::start();
    let config = impatient(&server);
    let harness = Arc::new(Harness::new((config, None)).await);
    let id = opened(&harness).await;
    let stop = Arc::new(AtomicBool::new(false));
    let senders = senders(&harness, id, &stop);
    for _ in 0..2 {
        stored_more(&harness, id).await;
        fail(&server);
        refused(&harness, id).await;
        mend(&server);
        healthy(&harness).await;
    }
    stored_more(&harness, id).await;
    stop.store(true, Ordering::Relaxed);
    check(&harness, id, senders.join_all().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_is_bounded_while_the_database_is_down() {
    let server = Postgres::start();
    let config = config::Store {
        queue: 50,
        ..impatient(&server)
    };
    let harness = Harness::new((config, None)).await;
    let id = opened(&harness).await;
    server.pause();
    let sends = (0..500).map(|_| {
        harness
            .store
            .insert_message(text(id, "ann", "x"), Origin::default())
    });
    let answers = timeout(DEADLINE, futures_util::future::join_all(sends)).await;
    let answers = answers.expect("nobody waits for ever");
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(StoreError::Overloaded)));
    assert!(refused.count() >= 400);
    assert!(answers.iter().all(Result::is_err));
    server.resume();
    healthy(&harness).await;
    let last = done(async || harness.store.conversation(id).await).await;
    let next = done(async || {
        let after = retriable(id, "ann", "after");
        let sent = harness.store.insert_message(after, Origin::default());
        sent.await
    });
    let (Insert::Stored(next) | Insert::Repeated(next)) = next.await else {
        panic!("not stored");
    };
    assert_eq!(next.seq, last.unwrap().last_seq + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_without_a_connection_do_not_block_other_callers() {
    let (config, _) = postgres();
    let config = config::Store {
        readers: 1,
        pool_timeout: Duration::from_millis(100),
        health_interval: Duration::from_secs(3600),
        // Only the readers that wait in vain are under test.
        statement_timeout: DEADLINE,
        answer_timeout: DEADLINE,
        ..config
    };
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "x").await;
    // Another program locks the table, so that every connection waits.
    let hold = std::thread::spawn(move || {
        sql(
            &config,
            "BEGIN; LOCK TABLE members IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT",
        )
    });
    let hold = Arc::new(hold);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, hold) = (harness.store.clone(), Arc::clone(&hold));
        readers.spawn(async move {
            let mut overloaded = 0;
            while !hold.is_finished() {
                match store.messages(id, "ann", Page::Newest, 9).await {
                    Ok(_) => {}
                    Err(StoreError::Overloaded) => overloaded += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(store.is_healthy(), "the database answers");
            }
            overloaded
        });
    }
    let overloaded: u32 = readers.join_all().await.into_iter().sum();
    assert!(overloaded > 0);
    let read = done(async || harness.store.messages(id, "ann", Page::Newest, 9).await).await;
    assert_eq!(read.unwrap().messages.len(), 1);
}

/// Repeats a call until it succeeds: a store with short timeouts might refuse it on a slow machine.
async fn done<T>(ask: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Ok(done) => return done,
                // Retry interval of a client.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(DEADLINE, asking).await.expect("it is done")
}

/// Creates a conversation that admits every user.
async fn opened(harness: &Harness) -> Uuid {
    let conversation = done(async || {
        let new = roomcast_server::store::NewConversation {
            id: Uuid::new_v4(),
            title: None,
            owner_id: None,
            member_ids: Vec::new(),
            is_open: true,
        };
        harness.store.insert_conversation(new).await
    });
    conversation.await.id
}

/// Returns a store with short timeouts.
fn impatient(server: &Postgres) -> config::Store {
    config::Store {
        url: server.database(),
        // Longer than the others: a new connection is a new process, which a busy machine might
        // start late.
        connect_timeout: Duration::from_secs(2),
        pool_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
        retry_timeout: Duration::from_millis(200),
        health_interval: Duration::from_millis(100),
        ..config::Store::default()
    }
}

/// Starts senders that repeat each message with an id until it is acknowledged. They return the
/// ids.
fn senders(
    harness: &Arc<Harness>,
    id: Uuid,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinSet<Vec<(u64, Uuid)>> {
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..10 {
        let (harness, stop) = (Arc::clone(harness), Arc::clone(stop));
        tasks.spawn(async move {
            let user = format!("u{sender}");
            let mut acknowledged = Vec::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                loop {
                    let new = retriable(id, &user, &n.to_string());
                    let send = harness.store.insert_message(new, Origin::default());
                    match timeout(DEADLINE, send).await.expect("an answer") {
                        Ok(Insert::Stored(message) | Insert::Repeated(message)) => {
                            acknowledged.push((message.seq, message.id));
                            break;
                        }
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => {
                            assert!(!error.retry_after().is_zero());
                            // Retry interval of a client.
                            sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
                sleep(Duration::from_millis(5)).await; // The pace of one who writes.
            }
            acknowledged
        });
    }
    tasks
}

/// Checks that acknowledged messages are stored once, without a gap, and were emitted once in
/// order.
async fn check(harness: &Harness, id: Uuid, acknowledged: Vec<Vec<(u64, Uuid)>>) {
    let mut stored = Vec::new();
    loop {
        let after = stored.last().map_or(0, |(seq, _)| *seq);
        let page = async || harness.store.history(id, Page::After(after), 1000).await;
        let page = done(page).await.unwrap();
        stored.extend(page.messages.iter().map(|m| (m.seq, m.id)));
        if !page.has_more {
            break;
        }
    }
    let mut acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    acknowledged.sort_unstable();
    assert_eq!(
        stored, acknowledged,
        "all that is stored was acknowledged, once"
    );
    let seqs: Vec<u64> = stored.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=stored.len() as u64).collect::<Vec<_>>());
    let emitted: Vec<u64> = harness.emitted_to(id).iter().map(|(seq, _)| *seq).collect();
    assert!(emitted.is_sorted(), "in order");
    assert_eq!(emitted.iter().collect::<HashSet<_>>().len(), emitted.len());
    assert_eq!(emitted, seqs, "all that was stored was emitted");
}

/// Waits until messages are stored that did not exist when this was called.
async fn stored_more(harness: &Harness, id: Uuid) {
    let before = harness.emitted_to(id).len();
    let more = async {
        while harness.emitted_to(id).len() < before + 20 {
            sleep(Duration::from_millis(10)).await; // Poll interval.
        }
    };
    timeout(DEADLINE, more).await.expect("messages are stored");
}

/// Waits until the store is unhealthy, and checks that it refuses immediately.
async fn refused(harness: &Harness, id: Uuid) {
    let bad = async {
        while harness.store.is_healthy() {
            sleep(Duration::from_millis(10)).await; // Poll interval.
        }
    };
    timeout(DEADLINE, bad).await.expect("the breaker opens");
    let send = harness
        .store
        .insert_message(text(id, "ann", "never"), Origin::default());
    let error = timeout(DEADLINE, send).await.unwrap().unwrap_err();
    assert!(!error.retry_after().is_zero());
}

async fn healthy(harness: &Harness) {
    let good = async {
        while !harness.store.is_healthy() {
            sleep(Duration::from_millis(10)).await; // Poll interval.
        }
    };
    timeout(DEADLINE, good)
        .await
        .expect("it works again by itself");
}

/// Runs SQL in the database of a store on the shared server.
fn sql(config: &config::Store, sql: &str) -> String {
    let (_, database) = config.url.rsplit_once('/').unwrap();
    let database = database.split('?').next().unwrap();
    shared().sql(database, sql)
}
