//! What only PostgreSQL can show: several servers on one database, and a database that fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roomcast_server::config;
use roomcast_server::metrics::Counter;
use roomcast_server::store::{
    Actor, Change, Delete, DeleteConversation, Edit, Insert, MarkRead, MemberChange, OpenError,
    Origin, Page, Search, Store, StoreError, words,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::harness::{Harness, postgres, retriable, text};
use crate::server::{Postgres, shared};

/// How long anything may take that is expected to happen.
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
            for turn in 0..12 {
                let room = (sender + turn) % 3;
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
    for turn in 0..20 {
        let id = format!("m{turn}");
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
async fn storing_into_tables_that_were_empty_does_not_read_them_from_end_to_end() {
    const MESSAGES: u64 = 1500;
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let room = harness.open_conversation().await;
    for turn in 0..MESSAGES {
        let message = retriable(room, "ann", &format!("m{turn}"));
        let sent = harness.store.insert_message(message, Origin::default());
        assert!(matches!(sent.await, Ok(Insert::Stored(_))));
    }
    // What connections have counted is known when they end.
    harness.store.close().await;
    let read = "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = 'messages'";
    let read: u64 = sql(&config, read).trim().parse().unwrap();
    assert!(read < 20 * MESSAGES, "{read} rows read");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_migrate_at_once_one_does() {
    let (config, _) = postgres();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let config = config.clone();
        tasks.spawn(async move { Store::migrate(&config).await.unwrap() });
    }
    let applied = tasks.join_all().await;
    let busy: Vec<_> = applied.iter().filter(|names| !names.is_empty()).collect();
    assert_eq!(busy.len(), 1, "{applied:?}");
    assert!(busy[0].iter().any(|name| name.contains("chat")), "{busy:?}");
}

#[tokio::test]
async fn without_permission_to_migrate_missing_tables_are_refused() {
    let (config, _) = postgres();
    let careful = config::Store {
        migrate: false,
        ..config.clone()
    };
    let error = open(&careful).await.unwrap_err();
    assert!(error.to_string().contains("roomcast migrate"), "{error}");
    Store::migrate(&config).await.unwrap();
    open(&careful).await.unwrap();
}

#[tokio::test]
async fn tables_of_a_newer_version_are_taken_unless_they_refuse() {
    let (config, _) = postgres();
    Store::migrate(&config).await.unwrap();
    sql(
        &config,
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
         SELECT 999, 'later', applied_on, checksum FROM refinery_schema_history WHERE version = 1",
    );
    open(&config).await.unwrap();
    sql(&config, "UPDATE roomcast_schema SET oldest = 999");
    let error = open(&config).await.unwrap_err();
    assert!(matches!(error, OpenError::Migration { .. }), "{error}");
    assert!(error.to_string().contains("999"), "{error}");
}

#[tokio::test]
async fn a_server_goes_on_while_a_newer_one_adds_to_the_tables() {
    let (config, _) = postgres();
    let old = Harness::new((config.clone(), None)).await;
    let id = old.conversation(&["ann", "bob"]).await;
    // All that is asked is asked before: statements are prepared once.
    use_everything(&old, id, 1).await;
    sql(
        &config,
        "DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
                 AND tablename NOT LIKE 'refinery%' LOOP
                 EXECUTE format('ALTER TABLE %I ADD COLUMN later text', name);
                 EXECUTE format('ALTER TABLE %I ADD COLUMN sooner integer NOT NULL DEFAULT 7', name);
             END LOOP; END $$;
         INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
         SELECT 999, 'later', applied_on, checksum FROM refinery_schema_history WHERE version = 1",
    );
    use_everything(&old, id, 2).await;
    // One of this version that starts only now works beside it.
    let new = Harness::new((config, None)).await;
    use_everything(&new, id, 3).await;
    use_everything(&old, id, 4).await;
    assert_eq!(old.metrics.counter(Counter::StoreErrors), 0);
}

/// Every kind of statement on tables that grow.
async fn use_everything(harness: &Harness, id: Uuid, turn: u32) {
    let store = &harness.store;
    let ann = || Actor {
        user_id: "ann".into(),
        is_admin: false,
    };
    for n in 0..8 {
        let key = format!("{turn}.{n}");
        let first = store.insert_message(retriable(id, "ann", &key), Origin::default());
        let Insert::Stored(message) = first.await.unwrap() else {
            panic!("stored before");
        };
        let again = store.insert_message(retriable(id, "ann", &key), Origin::default());
        assert!(matches!(again.await.unwrap(), Insert::Repeated(_)));
        let edit = Edit {
            message_id: message.id,
            by: ann(),
            content: format!("edited {turn}"),
            version: None,
        };
        let edited = store.edit_message(edit, Origin::default()).await.unwrap();
        assert!(matches!(edited, Change::Done(_)), "{edited:?}");
        let delete = Delete {
            message_id: message.id,
            by: ann(),
        };
        let deleted = store.delete_message(delete, Origin::default()).await;
        assert!(matches!(deleted.unwrap(), Change::Done(_)));
        assert_eq!(store.versions(message.id).await.unwrap().len(), 2);
        for removes in [true, false] {
            let change = MemberChange {
                conversation_id: id,
                user_id: "bob".into(),
                by: ann(),
                removes,
                limit: 1000,
            };
            let changed = store.change_member(change, Origin::default()).await;
            assert!(matches!(changed.unwrap(), Change::Done(_)));
        }
        let read = MarkRead {
            conversation_id: id,
            user_id: "bob".into(),
            seq: message.seq,
        };
        assert_eq!(
            store.mark_read(read).await.unwrap().unwrap().seq,
            message.seq
        );
        assert!(store.membership(id, "bob").await.unwrap().is_some());
        assert_eq!(
            store
                .conversations("bob", None, 9)
                .await
                .unwrap()
                .conversations
                .len(),
            1
        );
        for page in [Page::Newest, Page::After(0), Page::Before(u64::MAX)] {
            let read = store.messages(id, "ann", page, 5).await.unwrap().unwrap();
            assert!(!read.messages.is_empty());
        }
        let search = Search {
            words: words("edited"),
            ..Search::default()
        };
        assert!(store.search("ann", search, 5).await.unwrap().is_some());
        store.blocks().await.unwrap();
        store.revocations().await.unwrap();
        store.logins_of("ann").await.unwrap();
        store.login("none").await.unwrap();
    }
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let (config, _) = postgres();
    sql(
        &config,
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    let (server, _) = config.url.rsplit_once('/').unwrap();
    let config = config::Store {
        url: format!("{server}/latin"),
        ..config.clone()
    };
    let error = open(&config).await.unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    assert!(error.to_string().contains("LATIN1"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_an_error_without_the_password() {
    let (config, _) = postgres();
    for url in [
        config.url.replace("roomcast@", "roomcast:secret@") + "_missing",
        "postgres://u:secret@127.0.0.1:1/d".into(),
    ] {
        let config = config::Store {
            url,
            retry_timeout: Duration::from_millis(300),
            ..config.clone()
        };
        let error = open(&config).await.unwrap_err();
        assert!(matches!(error, OpenError::Database { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn one_bad_message_does_not_fail_the_others_of_its_group() {
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
async fn a_killed_database_loses_nothing_that_was_acknowledged_and_comes_back() {
    let mut server = Postgres::start();
    let config = impatient(&server);
    let harness = Arc::new(Harness::new((config, None)).await);
    let id = harness.open_conversation().await;
    let stop = Arc::new(AtomicBool::new(false));
    let senders = senders(&harness, id, &stop);
    for _ in 0..2 {
        stored_more(&harness, id).await;
        server.kill();
        refused(&harness, id).await;
        server.restart();
        healthy(&harness).await;
    }
    stored_more(&harness, id).await;
    stop.store(true, Ordering::Relaxed);
    check(&harness, id, senders.join_all().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_database_is_not_waited_for_and_comes_back() {
    let server = Postgres::start();
    let config = impatient(&server);
    let harness = Arc::new(Harness::new((config, None)).await);
    let id = harness.open_conversation().await;
    let stop = Arc::new(AtomicBool::new(false));
    let senders = senders(&harness, id, &stop);
    for _ in 0..2 {
        stored_more(&harness, id).await;
        server.pause();
        refused(&harness, id).await;
        server.go_on();
        healthy(&harness).await;
    }
    stored_more(&harness, id).await;
    stop.store(true, Ordering::Relaxed);
    check(&harness, id, senders.join_all().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_what_waits_is_bounded() {
    let server = Postgres::start();
    let config = config::Store {
        queue: 50,
        ..impatient(&server)
    };
    let harness = Harness::new((config, None)).await;
    let id = harness.open_conversation().await;
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
    server.go_on();
    healthy(&harness).await;
    let last = harness.store.conversation(id).await.unwrap().unwrap();
    let next = harness.send(id, "ann", "after").await;
    assert_eq!(next.seq, last.last_seq + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_wait_in_vain_for_a_connection_do_not_keep_others_away() {
    let (config, _) = postgres();
    let config = config::Store {
        readers: 1,
        pool_timeout: Duration::from_millis(100),
        health_interval: Duration::from_secs(3600),
        ..config
    };
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "x").await;
    // Another program holds what is read, so that every connection waits.
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
    let read = harness.store.messages(id, "ann", Page::Newest, 9).await;
    assert_eq!(read.unwrap().unwrap().messages.len(), 1);
}

/// A store whose answers may be held back on their way.
async fn behind_proxy() -> (Proxy, Harness) {
    let (config, _) = postgres();
    let port = shared().lock().unwrap().port();
    let proxy = Proxy::start(port).await;
    let config = config::Store {
        url: proxy.url(&config.url),
        ..config
    };
    let harness = Harness::new((config, None)).await;
    (proxy, harness)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_looked_up_and_acknowledged() {
    let (proxy, harness) = behind_proxy().await;
    let id = harness.conversation(&["ann"]).await;
    for seq in 1..=5 {
        proxy.swallow.store(true, Ordering::Relaxed);
        let message = harness.send(id, "ann", &seq.to_string()).await;
        assert_eq!(message.seq, seq);
        assert!(!proxy.swallow.load(Ordering::Relaxed), "an answer was lost");
    }
    assert_eq!(harness.metrics.counter(Counter::StoreDoubts), 5);
    let emitted: Vec<u64> = harness.emitted_to(id).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(emitted, [1, 2, 3, 4, 5], "each is emitted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_whose_commit_is_cut_off_are_looked_up() {
    let (proxy, harness) = behind_proxy().await;
    let id = harness.conversation(&["ann"]).await;
    let ann = || Actor {
        user_id: "ann".into(),
        is_admin: false,
    };
    let message = harness.send(id, "ann", "text").await;
    // First the commit does not arrive, then its answer does not.
    for (cut, stored) in [(&proxy.eat, false), (&proxy.swallow, true)] {
        let doubts = harness.metrics.counter(Counter::StoreDoubts);
        let edit = Edit {
            message_id: message.id,
            by: ann(),
            content: "edited".into(),
            version: None,
        };
        let delete = Delete {
            message_id: message.id,
            by: ann(),
        };
        let member = |removes| MemberChange {
            conversation_id: id,
            user_id: "bob".into(),
            by: ann(),
            removes,
            limit: 1000,
        };
        let store = &harness.store;
        let cut_off = || cut.store(true, Ordering::Relaxed);
        let expect = |what: &str, done: bool| assert_eq!(done, stored, "{what}");

        cut_off();
        let edited = store.edit_message(edit, Origin::default()).await;
        expect("edit", matches!(edited, Ok(Change::Done(_))));
        cut_off();
        let added = store.change_member(member(false), Origin::default()).await;
        expect("add", matches!(added, Ok(Change::Done(_))));
        assert_eq!(store.is_member(id, "bob").await.unwrap(), stored);
        if !stored {
            let added = store.change_member(member(false), Origin::default()).await;
            assert!(matches!(added, Ok(Change::Done(_))));
        }
        cut_off();
        let removed = store.change_member(member(true), Origin::default()).await;
        expect("remove", matches!(removed, Ok(Change::Done(_))));
        assert_eq!(store.is_member(id, "bob").await.unwrap(), !stored);
        if !stored {
            let removed = store.change_member(member(true), Origin::default()).await;
            assert!(matches!(removed, Ok(Change::Done(_))));
        }
        cut_off();
        let new = roomcast_server::store::NewConversation {
            id: Uuid::new_v4(),
            title: None,
            owner_id: Some("ann".into()),
            member_ids: Vec::new(),
            is_open: false,
        };
        let made = store.insert_conversation(new.clone()).await;
        expect("conversation", made.is_ok());
        let is_there = store.conversation(new.id).await.unwrap().is_some();
        assert_eq!(is_there, stored);
        cut_off();
        let read = MarkRead {
            conversation_id: id,
            user_id: "ann".into(),
            seq: 1,
        };
        expect("read", store.mark_read(read).await.is_ok());
        cut_off();
        let deleted = store.delete_message(delete, Origin::default()).await;
        expect("delete", matches!(deleted, Ok(Change::Done(_))));
        let versions = store.versions(message.id).await.unwrap().len();
        assert_eq!(versions, if stored { 2 } else { 0 });
        cut_off();
        let deletion = DeleteConversation {
            conversation_id: id,
            by: ann(),
        };
        let gone = store.delete_conversation(deletion, Origin::default()).await;
        expect("end", matches!(gone, Ok(Change::Done(_))));
        let is_there = store.conversation(id).await.unwrap().is_some();
        assert_eq!(is_there, !stored);
        assert_eq!(harness.metrics.counter(Counter::StoreDoubts), doubts + 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_crash_has_undone_is_refused_whatever_was_stored_since() {
    let mut server = Postgres::start();
    let proxy = Proxy::start(server.port()).await;
    let direct = impatient(&server);
    let config = config::Store {
        url: proxy.url(&direct.url),
        // Everything goes one way, and only what is asked for.
        lanes: 1,
        health_interval: Duration::from_secs(3600),
        ..direct.clone()
    };
    let other = Harness::new((direct, None)).await;
    let harness = Harness::new((config, None)).await;
    let id = harness.conversation(&["ann"]).await;
    let message = harness.send(id, "ann", "text").await;
    let busy = other.conversation(&["bob"]).await;
    proxy.shut.store(true, Ordering::Relaxed);
    proxy.eat.store(true, Ordering::Relaxed);
    let edit = Edit {
        message_id: message.id,
        by: Actor {
            user_id: "ann".into(),
            is_admin: false,
        },
        content: "never".into(),
        version: None,
    };
    let store = harness.store.clone();
    let editing = tokio::spawn(async move { store.edit_message(edit, Origin::default()).await });
    let eaten = async {
        while proxy.eat.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await; // The pace of asking.
        }
    };
    timeout(DEADLINE, eaten)
        .await
        .expect("the edit is under way");
    server.kill();
    server.restart();
    healthy(&other).await;
    // Whatever number the edit had, another transaction has it now.
    for n in 0..20 {
        let send = other
            .store
            .insert_message(text(busy, "bob", &n.to_string()), Origin::default());
        assert!(send.await.is_ok());
    }
    proxy.is_shut.store(false, Ordering::Relaxed);
    let answer = timeout(DEADLINE, editing).await.unwrap().unwrap();
    assert_eq!(answer.unwrap_err(), StoreError::Failed);
    let read = other.store.history(id, Page::Newest, 1).await.unwrap();
    assert_eq!(read.unwrap().messages[0].content, "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_did_not_happen_is_looked_up_and_refused() {
    let (config, _) = postgres();
    let config = config::Store {
        // The server has no limit of its own here, so that the client gives up first.
        url: config.url.clone() + "?options=-c%20statement_timeout%3D0",
        statement_timeout: Duration::from_millis(100),
        ..config
    };
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    sql(
        &config,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.content = 'slow') EXECUTE FUNCTION slow()",
    );
    let send = harness
        .store
        .insert_message(text(id, "ann", "slow"), Origin::default());
    let answer = timeout(DEADLINE, send).await.unwrap();
    assert_eq!(answer.unwrap_err(), StoreError::Failed);
    assert_eq!(harness.metrics.counter(Counter::StoreDoubts), 1);
    assert_eq!(harness.send(id, "ann", "next").await.seq, 1);
    assert_eq!(harness.emitted_to(id), [(1, "next".into())]);
}

/// A store that does not wait for long.
fn impatient(server: &Postgres) -> config::Store {
    config::Store {
        url: server.database(),
        connect_timeout: Duration::from_millis(500),
        pool_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
        retry_timeout: Duration::from_millis(200),
        health_interval: Duration::from_millis(100),
        ..config::Store::default()
    }
}

/// Some who send messages with an id until each is acknowledged; they return the ids.
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
                            // The pace of a client that tries again.
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

/// What was acknowledged is stored exactly once, without a gap, and was emitted once and in order.
async fn check(harness: &Harness, id: Uuid, acknowledged: Vec<Vec<(u64, Uuid)>>) {
    let mut stored = Vec::new();
    loop {
        let after = stored.last().map_or(0, |(seq, _)| *seq);
        let page = harness.store.history(id, Page::After(after), 1000).await;
        let page = page.unwrap().unwrap();
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

/// Waits until messages are stored that were not yet when this was called.
async fn stored_more(harness: &Harness, id: Uuid) {
    let before = harness.emitted_to(id).len();
    let more = async {
        while harness.emitted_to(id).len() < before + 20 {
            sleep(Duration::from_millis(10)).await; // The pace of asking.
        }
    };
    timeout(DEADLINE, more).await.expect("messages are stored");
}

/// Waits until the store says that it does not work, and looks that it refuses at once.
async fn refused(harness: &Harness, id: Uuid) {
    let bad = async {
        while harness.store.is_healthy() {
            sleep(Duration::from_millis(10)).await; // The pace of asking.
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
            sleep(Duration::from_millis(10)).await; // The pace of asking.
        }
    };
    timeout(DEADLINE, good)
        .await
        .expect("it works again by itself");
}

async fn open(config: &config::Store) -> Result<Store, OpenError> {
    Store::open(config, Arc::default())
        .await
        .map(|(store, _)| store)
}

/// Runs SQL in the database of a store on the shared server.
fn sql(config: &config::Store, sql: &str) -> String {
    let (_, database) = config.url.rsplit_once('/').unwrap();
    let database = database.split('?').next().unwrap();
    shared().lock().unwrap().sql(database, sql)
}

/// Passes everything on, but can lose a commit, or the answer to one, together with the connection.
#[derive(Clone)]
struct Proxy {
    port: u16,
    /// The answer to the next commit is lost.
    swallow: Arc<AtomicBool>,
    /// The next commit itself is lost.
    eat: Arc<AtomicBool>,
    /// When a commit was lost, nobody comes through any more.
    shut: Arc<AtomicBool>,
    is_shut: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            swallow: Arc::default(),
            eat: Arc::default(),
            shut: Arc::default(),
            is_shut: Arc::default(),
        };
        let own = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if own.is_shut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                tokio::spawn(pass_on(client, server, own.clone()));
            }
        });
        proxy
    }

    fn url(&self, url: &str) -> String {
        let (server, database) = url.rsplit_once('/').unwrap();
        let (user, _) = server.rsplit_once(':').unwrap();
        format!("{user}:{}/{database}", self.port)
    }
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, proxy: Proxy) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut committing = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(read @ 1..) = read else { return };
                let sent = &from_client[..read];
                let commits = sent.windows(7).any(|window| window == b"COMMIT\0");
                if commits && proxy.eat.load(Ordering::Relaxed) {
                    let shut = proxy.shut.load(Ordering::Relaxed);
                    proxy.is_shut.store(shut, Ordering::Relaxed);
                    proxy.eat.store(false, Ordering::Relaxed);
                    return;
                }
                committing |= commits;
                if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                let answer = &from_server[..read];
                let done = answer.windows(7).any(|window| window == b"COMMIT\0");
                // The server has committed, and nobody will hear of it here.
                if committing && done && proxy.swallow.swap(false, Ordering::Relaxed) {
                    return;
                }
                committing &= !done;
                if client.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}
