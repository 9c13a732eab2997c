//! Write workers store one batch after another, and none delays the conversations of the rest for
//! long.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn locked_conversation_does_not_delay_other_workers() {
    let (config, _) = postgres();
    let config = config::Store {
        statement_timeout: DEADLINE,
        answer_timeout: DEADLINE,
        ..config
    };
    let harness = Harness::new((config.clone(), None)).await;
    let mut rooms = Vec::new();
    for _ in 0..64 {
        rooms.push(harness.open_conversation().await);
    }
    let held = rooms[0];
    let (mut client, connection) = tokio_postgres::connect(&config.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let hold = client.transaction().await.unwrap();
    hold.execute(
        "SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE",
        &[&held],
    )
    .await
    .unwrap();
    let send = |room: Uuid| {
        let store = harness.store.clone();
        tokio::spawn(async move {
            let message = text(room, "ann", "x");
            store.insert_message(message, Origin::default()).await
        })
    };
    let stuck = send(held);
    // Whatever worker the held conversation uses, some of the 64 others use another.
    let mut others = tokio::task::JoinSet::new();
    for room in &rooms[1..] {
        others.spawn(send(*room));
    }
    let first_of_others = timeout(DEADLINE / 2, others.join_next()).await;
    let stored = first_of_others
        .expect("other lanes go on")
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(stored, Ok(Insert::Stored(_))), "{stored:?}");
    assert!(!stuck.is_finished());
    hold.commit().await.unwrap();
    while let Some(other) = others.join_next().await {
        assert!(matches!(other.unwrap().unwrap(), Ok(Insert::Stored(_))));
    }
    assert!(matches!(stuck.await.unwrap(), Ok(Insert::Stored(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_search_list_stays_short_enough_to_sort_immediately() {
    let (config, _) = postgres();
    let _harness = Harness::new((config.clone(), None)).await;
    let options = sql(
        &config,
        "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE relname = 'messages_by_word'",
    );
    assert_eq!(options.trim(), "gin_pending_list_limit=512");
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_search_index_entries_are_merged_in_the_background() {
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.open_conversation().await;
    sql(&config, "CREATE EXTENSION pgstattuple");
    for n in 0..300 {
        harness.send(id, "ann", &format!("word{n}")).await;
    }
    // The pending list of the index has room for thousands of entries.
    let sorted = async {
        let waiting = "SELECT pending_tuples < 256 FROM pgstatginindex('messages_by_word')";
        while sql(&config, waiting).trim() != "t" {
            sleep(Duration::from_millis(10)).await; // Poll interval.
        }
    };
    timeout(DEADLINE, sorted)
        .await
        .expect("the words are sorted in");
}
