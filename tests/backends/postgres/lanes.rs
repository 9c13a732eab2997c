//! Lanes store one after the other, and none of them for long at the cost of the others.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_somebody_holds_does_not_hold_up_those_of_other_lanes() {
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
    // Whichever lane the held conversation has, some of the others have another one, and 64 do not all have the same.
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
async fn the_list_of_new_words_is_short_enough_to_be_sorted_at_once() {
    let (config, _) = postgres();
    let _harness = Harness::new((config.clone(), None)).await;
    let options = sql(
        &config,
        "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE relname = 'messages_by_word'",
    );
    assert_eq!(options.trim(), "gin_pending_list_limit=512");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_many_messages_are_sorted_into_the_index_and_not_left_for_a_lane() {
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.open_conversation().await;
    sql(&config, "CREATE EXTENSION pgstattuple");
    for n in 0..300 {
        harness.send(id, "ann", &format!("word{n}")).await;
    }
    // The list of the database has room for thousands.
    let sorted = async {
        let waiting = "SELECT pending_tuples < 256 FROM pgstatginindex('messages_by_word')";
        while sql(&config, waiting).trim() != "t" {
            sleep(Duration::from_millis(10)).await; // The pace of asking.
        }
    };
    timeout(DEADLINE, sorted)
        .await
        .expect("the words are sorted in");
}
