//! Opening: which databases are accepted, and how their tables are created and migrated.

use super::*;
use crate::harness::OF_ANOTHER_PROGRAM;
use crate::server::Transaction;

#[tokio::test]
async fn inserts_into_formerly_empty_tables_scan_no_whole_table() {
    const MESSAGES: u64 = 1500;
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let room = harness.open_conversation().await;
    for round in 0..MESSAGES {
        let message = retriable(room, "ann", &format!("m{round}"));
        let sent = harness.store.insert_message(message, Origin::default());
        assert!(matches!(sent.await, Ok(Insert::Stored(_))));
    }
    // PostgreSQL reports the counts of a connection when it ends.
    harness.store.close().await;
    let read = "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = 'messages'";
    let read: u64 = sql(&config, read).trim().parse().unwrap();
    assert!(read < 20 * MESSAGES, "{read} rows read");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_concurrent_migrations_runs() {
    let (config, _) = postgres();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let config = config.clone();
        tasks.spawn(async move { Store::migrate(&config).await.unwrap() });
    }
    let applied = tasks.join_all().await;
    let busy: Vec<_> = applied.iter().filter(|names| !names.is_empty()).collect();
    assert_eq!(busy.len(), 1, "{applied:?}");
    assert!(
        busy[0].iter().any(|name| name.contains("schema")),
        "{busy:?}"
    );
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
async fn tables_of_a_newer_version_are_used_unless_they_refuse() {
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
async fn a_database_with_other_migrations_is_refused_with_the_remedy() {
    let (config, _) = postgres();
    Store::migrate(&config).await.unwrap();
    sql(&config, OF_ANOTHER_PROGRAM);
    for migrate in [true, false] {
        let config = config::Store {
            migrate,
            ..config.clone()
        };
        let error = open(&config).await.unwrap_err();
        assert!(matches!(error, OpenError::Divergent { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("V1__chat"), "{text}");
        assert!(text.contains("set store.url to a new database"), "{text}");
        assert_eq!(Store::try_out(&config).await.unwrap_err(), error);
        assert_eq!(Store::examine(&config).await.unwrap_err(), error);
    }
    assert!(Store::migrate(&config).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_that_times_out_on_a_lock_is_repeated() {
    let (config, _) = postgres();
    // The migration waits for this transaction, because it creates a table with the same name.
    let other = Transaction::begin(&config.url, "CREATE TABLE conversations (id uuid)");

    let migrating = tokio::spawn({
        let config = config.clone();
        async move { Store::migrate(&config).await }
    });
    let waiting = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE NOT l.granted AND a.datname = current_database()";
    for is_waiting in ["t", "f"] {
        let reached = async {
            while sql(&config, waiting) != is_waiting {
                // Poll interval.
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, reached).await.unwrap();
    }
    // The migration has timed out, so other transactions that queue after it proceed.
    assert!(!migrating.is_finished());

    drop(other);
    let applied = timeout(DEADLINE, migrating).await.unwrap().unwrap();
    let applied = applied.unwrap();
    assert!(applied[0].contains("schema"), "{applied:?}");
}

#[tokio::test]
async fn server_works_while_a_newer_version_extends_the_tables() {
    let (config, _) = postgres();
    let old = Harness::new((config.clone(), None)).await;
    let id = old.conversation(&["ann", "bob"]).await;
    // Execute every statement before the change, because statements are prepared once.
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
    // A server of this version that starts only now works beside it.
    let new = Harness::new((config, None)).await;
    use_everything(&new, id, 3).await;
    use_everything(&old, id, 4).await;
    assert_eq!(old.metrics.counter(Counter::StoreErrors), 0);
}

/// Executes every kind of statement on tables that grow.
async fn use_everything(harness: &Harness, id: Uuid, round: u32) {
    let store = &harness.store;
    let ann = || Actor {
        user_id: "ann".into(),
        is_admin: false,
    };
    for n in 0..8 {
        let key = format!("{round}.{n}");
        let first = store.insert_message(retriable(id, "ann", &key), Origin::default());
        let Insert::Stored(message) = first.await.unwrap() else {
            panic!("stored before");
        };
        let again = store.insert_message(retriable(id, "ann", &key), Origin::default());
        assert!(matches!(again.await.unwrap(), Insert::Repeated(_)));
        let edit = Edit {
            message_id: message.id,
            by: ann(),
            content: format!("edited {round}"),
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
async fn missing_database_is_an_error_without_the_password() {
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

async fn open(config: &config::Store) -> Result<Store, OpenError> {
    Store::open(config, Arc::default())
        .await
        .map(|(store, _)| store)
}
