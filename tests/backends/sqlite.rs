//! SQLite only: other processes, files, transactions.

use std::fs;
use std::time::Duration;

use roomcast_server::config;
use roomcast_server::metrics::Counter;
use roomcast_server::store::{Insert, OpenError, Origin, Page, Store, StoreError};
use rusqlite::Connection;
use uuid::Uuid;

use crate::harness::{Harness, OF_ANOTHER_PROGRAM, file, sqlite, text};

#[tokio::test]
async fn data_survives_reopening() {
    let (config, folder) = sqlite();
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "one").await;
    harness.send(id, "ann", "two").await;
    harness.store.close().await;

    let harness = Harness::new((config, folder)).await;
    assert_eq!(harness.send(id, "ann", "three").await.seq, 3);
    let page = harness
        .store
        .messages(id, "ann", Page::Newest, 10)
        .await
        .unwrap()
        .unwrap();
    let contents: Vec<&str> = page.messages.iter().map(|m| m.content.as_str()).collect();
    assert_eq!(contents, ["one", "two", "three"]);
}

#[tokio::test]
async fn changes_queued_during_a_lock_share_one_transaction() {
    let (config, folder) = sqlite();
    let config = config::Store {
        busy_timeout: Duration::from_secs(60),
        ..config
    };
    let other = Connection::open(file(&config)).unwrap();
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    let before = harness.metrics.counter(Counter::StoreCommits);

    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut sends: Vec<_> = (0..100)
        .map(|n| {
            let new = text(id, "ann", &n.to_string());
            Box::pin(harness.store.insert_message(new, Origin::default()))
        })
        .collect();
    for send in &mut sends {
        assert!(futures_util::poll!(send.as_mut()).is_pending());
    }
    other.execute_batch("ROLLBACK").unwrap();
    for send in sends {
        assert!(matches!(send.await.unwrap(), Insert::Stored(_)));
    }
    // The writer might have taken the first messages before the rest waited.
    let commits = harness.metrics.counter(Counter::StoreCommits) - before;
    assert!(commits <= 2, "{commits} transactions");
    let expected: Vec<_> = (0..100).map(|n: u64| (n + 1, n.to_string())).collect();
    assert_eq!(harness.emitted_to(id), expected);
}

#[tokio::test]
async fn a_locked_database_refuses_and_works_again_once_it_is_free() {
    let (config, folder) = sqlite();
    let config = config::Store {
        busy_timeout: Duration::from_millis(20),
        ..config
    };
    let other = Connection::open(file(&config)).unwrap();
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "before").await;

    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let sends = (0..10).map(|_| {
        harness
            .store
            .insert_message(text(id, "ann", "x"), Origin::default())
    });
    for answer in futures_util::future::join_all(sends).await {
        assert_eq!(answer.unwrap_err(), StoreError::Failed);
    }
    assert!(!harness.store.is_healthy());
    let page = harness
        .store
        .messages(id, "ann", Page::Newest, 10)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.messages.len(), 1, "readers do not wait for a writer");
    other.execute_batch("ROLLBACK").unwrap();

    assert_eq!(harness.send(id, "ann", "after").await.seq, 2);
    assert!(harness.store.is_healthy());
    assert_eq!(
        harness.emitted_to(id),
        [(1, "before".into()), (2, "after".into())]
    );
}

#[tokio::test]
async fn invalid_message_fails_no_other_message_of_its_group() {
    let (config, folder) = sqlite();
    let config = config::Store {
        busy_timeout: Duration::from_secs(60),
        ..config
    };
    let other = Connection::open(file(&config)).unwrap();
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    other
        .execute_batch(
            "CREATE TRIGGER bad BEFORE INSERT ON messages WHEN NEW.content = 'bad'
             BEGIN SELECT RAISE(ROLLBACK, 'bad'); END;
             BEGIN IMMEDIATE;",
        )
        .unwrap();
    let mut sends: Vec<_> = ["a", "bad", "b", "bad", "c"]
        .map(|content| {
            Box::pin(
                harness
                    .store
                    .insert_message(text(id, "ann", content), Origin::default()),
            )
        })
        .into();
    for send in &mut sends {
        assert!(futures_util::poll!(send.as_mut()).is_pending());
    }
    other.execute_batch("ROLLBACK").unwrap();
    let mut stored = Vec::new();
    for send in sends {
        stored.push(send.await.is_ok());
    }
    assert_eq!(stored, [true, false, true, false, true]);
    assert_eq!(
        harness.emitted_to(id),
        [(1, "a".into()), (2, "b".into()), (3, "c".into())]
    );
    assert_eq!(
        harness
            .store
            .membership(id, "ann")
            .await
            .unwrap()
            .unwrap()
            .last_seq,
        3
    );
}

#[tokio::test]
async fn a_query_that_fails_is_an_error_and_the_next_one_works() {
    let (config, folder) = sqlite();
    let other = Connection::open(file(&config)).unwrap();
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "x").await;
    other
        .execute_batch("UPDATE messages SET metadata = 'not JSON'")
        .unwrap();
    let read = harness.store.messages(id, "ann", Page::Newest, 10).await;
    assert_eq!(read.unwrap_err(), StoreError::Failed);
    other
        .execute_batch("UPDATE messages SET metadata = '{}'")
        .unwrap();
    assert!(
        harness
            .store
            .messages(id, "ann", Page::Newest, 10)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn readers_beyond_the_queue_limit_are_refused() {
    let (config, folder) = sqlite();
    let config = config::Store {
        readers: 1,
        max_pending_reads: 2,
        ..config
    };
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    let reads = (0..10).map(|_| harness.store.is_member(id, "ann"));
    let answers = futures_util::future::join_all(reads).await;
    assert_eq!(
        answers.iter().filter(|answer| **answer == Ok(true)).count(),
        3
    );
    assert_eq!(
        answers
            .iter()
            .filter(|answer| **answer == Err(StoreError::Overloaded))
            .count(),
        7
    );
    assert_eq!(harness.store.is_member(id, "ann").await, Ok(true));
}

#[tokio::test]
async fn file_without_a_database_is_refused() {
    let (config, _folder) = sqlite();
    fs::write(
        file(&config),
        "this is not a database, and long enough to be looked at".repeat(20),
    )
    .unwrap();
    let error = open(&config).await.unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_refused() {
    let (config, folder) = sqlite();
    let path = folder.as_ref().unwrap().path().join("missing/chat.db");
    let config = config::Store {
        url: format!("sqlite:{}", path.display()),
        ..config
    };
    let error = open(&config).await.unwrap_err();
    assert!(error.to_string().contains("missing/chat.db"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (config, _folder) = sqlite();
    let harness = Harness::new((config.clone(), None)).await;
    harness.store.close().await;
    let other = Connection::open(file(&config)).unwrap();
    other
        .execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             SELECT 999, 'later', applied_on, checksum FROM refinery_schema_history WHERE version = 1",
            [],
        )
        .unwrap();
    let error = open(&config).await.unwrap_err();
    assert!(matches!(error, OpenError::Migration { .. }), "{error}");
}

#[tokio::test]
async fn a_database_with_other_migrations_is_refused_with_the_remedy() {
    let (config, _folder) = sqlite();
    Store::migrate(&config).await.unwrap();
    let other = Connection::open(file(&config)).unwrap();
    other.execute_batch(OF_ANOTHER_PROGRAM).unwrap();
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
        assert_eq!(Store::examine(&config).await.unwrap_err(), error);
    }
    assert!(Store::migrate(&config).await.is_err());
    let backup = Store::backup(&config, &file(&config).with_extension("copy"), &mut |_| ());
    let error = backup.unwrap_err().to_string();
    assert!(error.contains("V1__chat"), "{error}");
}

#[tokio::test]
async fn full_durability_stores_messages() {
    let (config, folder) = sqlite();
    let config = config::Store {
        durability: config::Durability::Full,
        ..config
    };
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    assert_eq!(harness.send(id, "ann", "x").await.seq, 1);
}

#[tokio::test]
async fn closing_leaves_one_database_file() {
    let (config, folder) = sqlite();
    let folder = folder.unwrap();
    let harness = Harness::new((config, None)).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "x").await;
    assert!(harness.store.is_member(id, "ann").await.unwrap());
    harness.store.close().await;
    let files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert_eq!(files, ["chat.db"]);
    assert_eq!(
        harness.store.is_member(Uuid::new_v4(), "ann").await,
        Err(StoreError::Closed)
    );
}

async fn open(config: &config::Store) -> Result<Store, OpenError> {
    Store::open(config, Default::default())
        .await
        .map(|(store, _)| store)
}
