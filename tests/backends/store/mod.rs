//! Basic operations, on every store.

mod pages;

use std::collections::HashSet;
use std::sync::Arc;

use roomcast_server::config;
use roomcast_server::metrics::Counter;
use roomcast_server::store::{
    Insert, MessageKind, Messages, NewMessage, Origin, PAGE_BYTES, Page, StoreError,
};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::harness::{Backend, Harness, drain, on_every_backend, retriable, text};

on_every_backend! {
    seq_counts_from_one_in_each_conversation,
    message_is_read_as_sent,
    many_senders_at_once_leave_no_gap,
    a_message_is_emitted_before_its_sender_is_answered,
    message_of_a_disconnected_sender_is_stored_and_emitted,
    a_client_message_id_is_stored_once,
    a_client_message_id_sent_many_times_at_once_is_stored_once,
    a_client_message_id_belongs_to_one_user,
    a_client_message_id_used_in_another_conversation_is_a_conflict,
    unknown_or_foreign_conversation_accepts_no_message,
    an_open_conversation_admits_everyone,
    the_owner_is_a_member,
    a_conversation_is_inserted_once,
    a_membership_has_the_conversation_and_its_newest_seq,
    full_queue_refuses_immediately,
    closing_stores_queued_changes_and_refuses_new_changes,
}

async fn seq_counts_from_one_in_each_conversation(backend: Backend) {
    let harness = Harness::new(backend).await;
    let (first, second) = (
        harness.conversation(&["ann"]).await,
        harness.conversation(&["ann"]).await,
    );
    assert_eq!(harness.send(first, "ann", "a").await.seq, 1);
    assert_eq!(harness.send(first, "ann", "b").await.seq, 2);
    assert_eq!(harness.send(second, "ann", "c").await.seq, 1);
    assert_eq!(harness.send(first, "ann", "d").await.seq, 3);
}

async fn message_is_read_as_sent(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let content = " <b>\u{200b}e\u{301}\u{1f600}\\\"'\n\t; DROP TABLE messages; -- ";
    let metadata = r#"{ "b":1.50, "a":["\u00e4"],"imageUrl":"https://x.org/a.png" }"#;
    let new = NewMessage {
        kind: MessageKind::Ai,
        metadata: RawValue::from_string(metadata.into()).unwrap(),
        ..text(id, "ann", content)
    };
    let insert = harness
        .store
        .insert_message(new, Origin::default())
        .await
        .unwrap();
    let Insert::Stored(message) = insert else {
        panic!("{insert:?}")
    };

    let read = page(&harness, id, Page::Newest, 1).await;
    for message in [&message, &read.messages[0]] {
        assert_eq!(message.metadata.get(), metadata);
        let created_at = message.created_at.to_string();
        assert!(
            created_at.ends_with('Z') && created_at.len() == 24,
            "{created_at}"
        );
        assert_eq!(message.id.get_version_num(), 7);
        assert_eq!(
            serde_json::to_value(&**message).unwrap(),
            json!({
                "id": message.id,
                "conversationId": id,
                "seq": 1,
                "userId": "ann",
                "userName": "ann's name",
                "content": content,
                "type": "ai",
                "metadata": {"b": 1.5, "a": ["ä"], "imageUrl": "https://x.org/a.png"},
                "version": 1,
                "createdAt": created_at,
            })
        );
    }
    assert_eq!(message.id, read.messages[0].id);
    assert_eq!(message.created_at, read.messages[0].created_at);
}

async fn many_senders_at_once_leave_no_gap(backend: Backend) {
    const SENDERS: u64 = 60;
    const EACH: u64 = 10;
    let harness = Arc::new(Harness::new(backend).await);
    let rooms = [
        harness.open_conversation().await,
        harness.open_conversation().await,
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let harness = Arc::clone(&harness);
        tasks.spawn(async move {
            let mut last = [0, 0];
            for round in 0..EACH {
                let room = usize::try_from((sender + round) % 2).unwrap();
                let message = harness.send(rooms[room], &format!("u{sender}"), "x").await;
                assert!(
                    message.seq > last[room],
                    "a later message has a greater seq"
                );
                last[room] = message.seq;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for room in rooms {
        let emitted: Vec<u64> = harness
            .emitted_to(room)
            .into_iter()
            .map(|(seq, _)| seq)
            .collect();
        assert_eq!(emitted, (1..=SENDERS * EACH / 2).collect::<Vec<_>>());
        let read = page(&harness, room, Page::After(0), 1000).await;
        assert_eq!(seqs(&read), emitted);
        let ids: HashSet<Uuid> = read.messages.iter().map(|message| message.id).collect();
        assert_eq!(ids.len(), emitted.len());
    }
    assert_eq!(
        harness.metrics.counter(Counter::MessagesStored),
        SENDERS * EACH
    );
}

async fn a_message_is_emitted_before_its_sender_is_answered(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for seq in 1..=20 {
        harness.send(id, "ann", "x").await;
        assert_eq!(harness.emitted_to(id).last().unwrap().0, seq);
    }
}

async fn message_of_a_disconnected_sender_is_stored_and_emitted(backend: Backend) {
    let (harness, commits) = Harness::undrained(backend).await;
    let id = harness.conversation(&["ann"]).await;
    {
        let insert = harness
            .store
            .insert_message(text(id, "ann", "gone"), Origin::default());
        let mut insert = std::pin::pin!(insert);
        assert!(futures_util::poll!(insert.as_mut()).is_pending());
    }
    let emitted = drain(commits);
    harness.send(id, "ann", "next").await;
    let emitted: Vec<_> = emitted
        .lock()
        .unwrap()
        .iter()
        .map(|m| (m.seq, m.content.clone()))
        .collect();
    assert_eq!(emitted, [(1, "gone".into()), (2, "next".into())]);
}

async fn a_client_message_id_is_stored_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let first = harness
        .store
        .insert_message(retriable(id, "ann", "m1"), Origin::default());
    let Insert::Stored(first) = first.await.unwrap() else {
        panic!()
    };
    harness.send(id, "ann", "between").await;
    let changed = NewMessage {
        content: "changed".into(),
        ..retriable(id, "ann", "m1")
    };
    let again = harness
        .store
        .insert_message(changed, Origin::default())
        .await
        .unwrap();
    let Insert::Repeated(again) = again else {
        panic!("{again:?}")
    };
    assert_eq!(
        serde_json::to_value(&*again).unwrap(),
        serde_json::to_value(&*first).unwrap()
    );
    assert_eq!(
        harness.emitted_to(id),
        [(1, "retriable".into()), (2, "between".into())]
    );
    assert_eq!(harness.send(id, "ann", "after").await.seq, 3);
}

async fn a_client_message_id_sent_many_times_at_once_is_stored_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = harness.store.clone();
        tasks.spawn(async move {
            match store
                .insert_message(retriable(id, "ann", "m1"), Origin::default())
                .await
                .unwrap()
            {
                Insert::Stored(message) => (true, message.id),
                Insert::Repeated(message) => (false, message.id),
                refused @ (Insert::Absent
                | Insert::Conflict
                | Insert::NoOriginal
                | Insert::NoMember(_)) => panic!("{refused:?}"),
            }
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|(new, _)| *new).count(), 1);
    assert_eq!(
        answers
            .iter()
            .map(|(_, id)| id)
            .collect::<HashSet<_>>()
            .len(),
        1
    );
    assert_eq!(harness.emitted_to(id).len(), 1);
}

async fn a_client_message_id_belongs_to_one_user(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    for (user, seq) in [("ann", 1), ("bob", 2)] {
        let insert = harness
            .store
            .insert_message(retriable(id, user, "m1"), Origin::default());
        let Insert::Stored(message) = insert.await.unwrap() else {
            panic!()
        };
        assert_eq!(message.seq, seq);
    }
}

async fn a_client_message_id_used_in_another_conversation_is_a_conflict(backend: Backend) {
    let harness = Harness::new(backend).await;
    let (first, second) = (
        harness.conversation(&["ann"]).await,
        harness.conversation(&["ann"]).await,
    );
    let foreign = harness.conversation(&["bob"]).await;
    let send = |conversation| {
        harness
            .store
            .insert_message(retriable(conversation, "ann", "m1"), Origin::default())
    };
    assert!(matches!(send(first).await.unwrap(), Insert::Stored(_)));
    assert!(matches!(send(second).await.unwrap(), Insert::Conflict));
    assert!(matches!(send(foreign).await.unwrap(), Insert::Absent));
    assert_eq!(harness.send(second, "ann", "x").await.seq, 1);
}

async fn unknown_or_foreign_conversation_accepts_no_message(backend: Backend) {
    let harness = Harness::new(backend).await;
    let foreign = harness.conversation(&["ann"]).await;
    for id in [foreign, Uuid::new_v4()] {
        let insert = harness
            .store
            .insert_message(text(id, "eve", "hi"), Origin::default());
        assert!(matches!(insert.await.unwrap(), Insert::Absent));
        assert!(!harness.store.is_member(id, "eve").await.unwrap());
        assert!(harness.store.membership(id, "eve").await.unwrap().is_none());
        assert!(
            harness
                .store
                .messages(id, "eve", Page::Newest, 10)
                .await
                .unwrap()
                .is_none()
        );
    }
    assert_eq!(harness.send(foreign, "ann", "x").await.seq, 1);
    assert_eq!(harness.emitted_to(foreign).len(), 1);
}

async fn an_open_conversation_admits_everyone(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.open_conversation().await;
    assert_eq!(harness.send(id, "anyone", "x").await.seq, 1);
    assert!(harness.store.is_member(id, "someone").await.unwrap());
    let membership = harness
        .store
        .membership(id, "someone")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(membership.conversation.member_ids, [""; 0]);
    assert_eq!(membership.conversation.owner_id, None);
}

async fn the_owner_is_a_member(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = Uuid::new_v4();
    let new = roomcast_server::store::NewConversation {
        id,
        title: None,
        owner_id: Some("zoe".into()),
        member_ids: vec!["bob".into(), "ann".into(), "bob".into()],
        is_open: false,
    };
    let conversation = harness.store.insert_conversation(new).await.unwrap();
    assert_eq!(conversation.member_ids, ["ann", "bob", "zoe"]);
    for user in ["ann", "bob", "zoe"] {
        assert!(harness.store.is_member(id, user).await.unwrap(), "{user}");
    }
    assert!(!harness.store.is_member(id, "an").await.unwrap());
}

async fn a_conversation_is_inserted_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let new = |title: &str| roomcast_server::store::NewConversation {
        id: Uuid::from_u128(7),
        title: Some(title.into()),
        owner_id: None,
        member_ids: Vec::new(),
        is_open: true,
    };
    let first = harness
        .store
        .insert_conversation(new("first"))
        .await
        .unwrap();
    harness.send(first.id, "ann", "x").await;
    let second = harness
        .store
        .insert_conversation(new("second"))
        .await
        .unwrap();
    assert_eq!(first, second);
    assert_eq!(harness.send(first.id, "ann", "y").await.seq, 2);
}

async fn a_membership_has_the_conversation_and_its_newest_seq(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["bob", "ann"]).await;
    let membership = harness.store.membership(id, "ann").await.unwrap().unwrap();
    assert_eq!(membership.last_seq, 0);
    harness.send(id, "ann", "x").await;
    harness.send(id, "bob", "y").await;
    let membership = harness.store.membership(id, "ann").await.unwrap().unwrap();
    assert_eq!(membership.last_seq, 2);
    let created_at = membership.conversation.created_at.to_string();
    assert_eq!(
        serde_json::to_value(&membership.conversation).unwrap(),
        json!({
            "id": id,
            "title": "A title",
            "ownerId": "bob",
            "memberIds": ["ann", "bob"],
            "createdAt": created_at,
            "updatedAt": created_at,
        })
    );
}

async fn full_queue_refuses_immediately((config, folder): Backend) {
    let config = config::Store {
        queue: 3,
        max_batch: 2,
        ..config
    };
    let (harness, commits) = Harness::undrained((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    let mut accepted = Vec::new();
    let refused = loop {
        let send = harness
            .store
            .insert_message(text(id, "ann", "x"), Origin::default());
        let mut send = Box::pin(send);
        match futures_util::poll!(send.as_mut()) {
            std::task::Poll::Pending => accepted.push(send),
            std::task::Poll::Ready(answer) => break answer.unwrap_err(),
        }
        assert!(accepted.len() < 20, "the queue has a limit");
    };
    assert_eq!(refused, StoreError::Overloaded);
    assert!(!refused.retry_after().is_zero());
    let emitted = drain(commits);
    let accepted_count = accepted.len();
    for send in accepted {
        assert!(matches!(send.await.unwrap(), Insert::Stored(_)));
    }
    assert_eq!(emitted.lock().unwrap().len(), accepted_count);
    assert_eq!(
        usize::try_from(harness.send(id, "ann", "again").await.seq).unwrap(),
        accepted_count + 1
    );
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn full_memory_store_refuses_and_keeps_acknowledged_messages() {
    full_store_refuses_and_retains_acknowledged_messages(crate::harness::memory()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn full_file_store_refuses_and_keeps_acknowledged_messages() {
    full_store_refuses_and_retains_acknowledged_messages(crate::harness::sqlite()).await;
}

#[cfg(feature = "sqlite")]
async fn full_store_refuses_and_retains_acknowledged_messages((config, folder): Backend) {
    let config = config::Store {
        max_bytes: Some(400_000),
        ..config
    };
    let harness = Harness::new((config, folder)).await;
    let id = harness.conversation(&["ann"]).await;
    let content = "x".repeat(5_000);
    let mut stored = 0;
    let refused = loop {
        let new = text(id, "ann", &content);
        match harness.store.insert_message(new, Origin::default()).await {
            Ok(Insert::Stored(message)) => {
                stored += 1;
                assert_eq!(message.seq, stored);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
        assert!(stored < 1000, "the store has a limit");
    };
    assert_eq!(refused, StoreError::Failed);
    assert!(!harness.store.is_healthy());
    assert!(harness.metrics.counter(Counter::StoreErrors) > 0);
    assert!(stored > 10);
    let read = page(&harness, id, Page::After(0), 1000).await;
    assert_eq!(seqs(&read), (1..=stored).collect::<Vec<_>>());
    assert_eq!(harness.emitted_to(id).len() as u64, stored);
}

async fn closing_stores_queued_changes_and_refuses_new_changes(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let store = harness.store.clone();
            let send = async move {
                store
                    .insert_message(text(id, "ann", "x"), Origin::default())
                    .await
            };
            let mut send = Box::pin(send);
            assert!(futures_util::FutureExt::now_or_never(&mut send).is_none());
            send
        })
        .collect();
    harness.store.close().await;
    for send in waiting {
        assert!(matches!(send.await.unwrap(), Insert::Stored(_)));
    }
    assert_eq!(harness.emitted_to(id).len(), 50);
    let late = harness
        .store
        .insert_message(text(id, "ann", "late"), Origin::default())
        .await;
    assert_eq!(late.unwrap_err(), StoreError::Closed);
    harness.store.close().await;
}

fn seqs(messages: &Messages) -> Vec<u64> {
    messages
        .messages
        .iter()
        .map(|message| message.seq)
        .collect()
}

async fn page(harness: &Harness, id: Uuid, page: Page, limit: usize) -> Messages {
    harness
        .store
        .messages(id, "ann", page, limit)
        .await
        .unwrap()
        .unwrap()
}
