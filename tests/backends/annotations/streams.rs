//! Messages whose text grows: what is stored of them, and their ends.

use std::time::Duration;

use futures_util::future::join_all;
use roomcast_server::store::{EraseAuthor, Extension, Finish, MemberChange};

use super::*;

on_every_backend! {
    growing_text_is_in_pages_and_found_only_at_its_end,
    repeated_text_is_stored_once,
    repetitions_at_the_same_time_are_all_answered_alike,
    another_holder_goes_on_with_what_is_stored,
    removed_author_extends_nothing,
    interrupted_message_keeps_its_reason,
    erasure_of_the_author_interrupts_a_growing_text,
    message_that_stands_still_is_ended_once,
    growing_message_is_deleted_but_not_edited,
    mentions_notify_at_the_end,
}

/// A message that is being written, and who extends it.
struct Writing {
    message: Arc<Message>,
    holder: Uuid,
}

async fn begin(harness: &Harness, id: Uuid, client_id: &str) -> Writing {
    let holder = Uuid::now_v7();
    let new = NewMessage {
        content: String::new(),
        holder: Some(holder),
        mentions: vec!["bob".into()],
        ..retriable(id, "ann", client_id)
    };
    let insert = harness.store.insert_message(new, Origin::default()).await;
    let Insert::Stored(message) = insert.unwrap() else {
        panic!("not stored");
    };
    Writing { message, holder }
}

impl Writing {
    fn extension(&self, from: usize, text: &str) -> Extension {
        Extension {
            message_id: self.message.id,
            holder: self.holder,
            from,
            text: text.into(),
            chars: text.chars().count(),
        }
    }

    fn finish(&self, content: Option<&str>) -> Finish {
        Finish {
            message_id: self.message.id,
            holder: Some(self.holder),
            content: content.map(Into::into),
            metadata: None,
            interrupted: None,
            idle_since: None,
            notice: None,
        }
    }
}

async fn extend(harness: &Harness, extensions: &[Extension]) -> Vec<Uuid> {
    harness.store.extend_streams(extensions).await.unwrap()
}

async fn finish(harness: &Harness, finish: Finish) -> Change<Arc<Message>> {
    let finished = harness.store.finish_stream(finish, Origin::default());
    finished.await.unwrap()
}

async fn found(harness: &Harness, word: &str) -> usize {
    let search = Search {
        words: vec![word.into()],
        ..Search::default()
    };
    let found = harness.store.search("bob", search, 10).await;
    found.unwrap().unwrap().messages.len()
}

async fn growing_text_is_in_pages_and_found_only_at_its_end(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    let other = begin(&harness, id, "s2").await;
    assert!(writing.message.streaming && writing.message.content.is_empty());
    let both = [writing.extension(0, "grün "), other.extension(0, "other")];
    assert_eq!(extend(&harness, &both).await.len(), 2);
    extend(&harness, &[writing.extension(5, "€😀")]).await;
    let read = harness.read(&writing.message, "bob").await;
    assert_eq!(
        (&*read.content, read.streaming, read.version),
        ("grün €😀", true, 1)
    );
    assert_eq!(harness.store.streams_in(id).await.unwrap(), [1, 2]);
    assert_eq!(harness.store.count_streams("ann").await.unwrap(), 2);
    assert_eq!(found(&harness, "grün").await, 0);

    let Change::Done(end) = finish(&harness, writing.finish(Some("grün €😀!"))).await else {
        panic!("not finished");
    };
    let read = harness.read(&writing.message, "bob").await;
    let as_json = |message: &Message| serde_json::to_value(message).unwrap();
    assert_eq!(as_json(&read), as_json(&end));
    assert_eq!(
        (&*end.content, end.streaming, end.version),
        ("grün €😀!", false, 2)
    );
    assert!(end.edited_at.is_none() && !end.interrupted);
    assert_eq!(found(&harness, "grün").await, 1);
    assert_eq!(harness.store.streams_in(id).await.unwrap(), [2]);
    let again = finish(&harness, writing.finish(Some("changed"))).await;
    assert!(matches!(again, Change::Unchanged(same) if as_json(&same) == as_json(&end)));
    assert!(
        extend(&harness, &[writing.extension(7, "late")])
            .await
            .is_empty()
    );
    let steps = harness.store.conversation(id).await.unwrap().unwrap();
    assert_eq!((steps.last_seq, steps.changes), (2, 1));
}

async fn repeated_text_is_stored_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    let piece = [writing.extension(0, "one ")];
    for _ in 0..2 {
        assert_eq!(extend(&harness, &piece).await, [writing.message.id]);
    }
    assert!(
        extend(&harness, &[writing.extension(5, "gap")])
            .await
            .is_empty()
    );
    extend(&harness, &[writing.extension(4, "two")]).await;
    let stored = harness.store.stored_stream(writing.message.id).await;
    assert_eq!(stored.unwrap().unwrap().text, "one two");
}

async fn repetitions_at_the_same_time_are_all_answered_alike(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    extend(&harness, &[writing.extension(0, "so far")]).await;
    harness.react(&writing.message, "bob", "👍").await;
    // All but the first wait for its transaction, and share the next.
    let repeat = || harness.insert(retriable(id, "ann", "s1"));
    for insert in join_all((0..20).map(|_| repeat())).await {
        let Insert::Repeated(message) = insert else {
            panic!("{insert:?}");
        };
        assert_eq!((&*message.content, message.streaming), ("so far", true));
        assert_eq!(reactions(&message), [("👍", 1, vec!["bob"], false)]);
    }
}

async fn another_holder_goes_on_with_what_is_stored(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let mut writing = begin(&harness, id, "s1").await;
    extend(&harness, &[writing.extension(0, "one ")]).await;
    let (message, store) = (writing.message.id, &harness.store);
    let next = Uuid::now_v7();
    assert_eq!(store.take_stream(message, "bob", next).await.unwrap(), None);
    for not_greater in [Uuid::nil(), writing.holder] {
        let taken = store.take_stream(message, "ann", not_greater).await;
        assert_eq!(taken.unwrap(), None);
    }
    let taken = store
        .take_stream(message, "ann", next)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (taken.conversation_id, taken.seq, &*taken.text),
        (id, 1, "one ")
    );
    assert!(
        extend(&harness, &[writing.extension(4, "lost")])
            .await
            .is_empty()
    );
    let refused = finish(&harness, writing.finish(Some("one lost"))).await;
    assert!(matches!(refused, Change::Conflict));
    let held = store.held_streams(vec![message]).await.unwrap();
    assert_eq!(held[0].holder, next);
    writing.holder = next;
    assert_eq!(
        extend(&harness, &[writing.extension(4, "two")]).await,
        [message]
    );
    let Change::Done(end) = finish(&harness, writing.finish(None)).await else {
        panic!("not finished");
    };
    assert_eq!(end.content, "one two");
}

async fn removed_author_extends_nothing(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["bob", "ann"]).await;
    let writing = begin(&harness, id, "s1").await;
    let held = || harness.store.held_streams(vec![writing.message.id]);
    assert_eq!(held().await.unwrap().len(), 1);
    let removal = MemberChange {
        conversation_id: id,
        user_id: "ann".into(),
        by: actor("bob"),
        removes: true,
        limit: 1000,
    };
    let removed = harness
        .store
        .change_member(removal, Origin::default())
        .await;
    assert!(matches!(removed.unwrap(), Change::Done(_)));
    assert!(
        extend(&harness, &[writing.extension(0, "x")])
            .await
            .is_empty()
    );
    assert!(held().await.unwrap().is_empty());
    // Nor does the author at another server.
    let taken = harness
        .store
        .take_stream(writing.message.id, "ann", Uuid::now_v7());
    assert_eq!(taken.await.unwrap(), None);
}

async fn interrupted_message_keeps_its_reason(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    for (reason, expected) in [("", None), ("the model failed", Some("the model failed"))] {
        let writing = begin(&harness, id, &format!("of {reason}")).await;
        extend(&harness, &[writing.extension(0, "half")]).await;
        let end = Finish {
            interrupted: Some(reason.into()),
            ..writing.finish(None)
        };
        assert!(matches!(finish(&harness, end).await, Change::Done(_)));
        let read = harness.read(&writing.message, "bob").await;
        assert_eq!((&*read.content, read.interrupted), ("half", true));
        assert_eq!(read.interrupted_reason.as_deref(), expected);
        let deleted = harness.delete(&writing.message).await;
        assert!(!deleted.interrupted && deleted.interrupted_reason.is_none());
        let read = harness.read(&writing.message, "bob").await;
        assert!(!read.interrupted && !read.streaming);
    }
}

async fn erasure_of_the_author_interrupts_a_growing_text(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    extend(&harness, &[writing.extension(0, "half")]).await;
    let erase = EraseAuthor {
        message_id: writing.message.id,
        user_id: "ann".into(),
        removes_text: false,
    };
    let erased = harness.store.erase_author(erase, Origin::default()).await;
    let Change::Done(erased) = erased.unwrap() else {
        panic!("not erased");
    };
    let read = harness.read(&writing.message, "bob").await;
    for message in [&erased, &read] {
        assert_eq!((&*message.content, message.streaming), ("half", false));
        assert!(message.interrupted && message.interrupted_reason.is_none());
    }
}

async fn message_that_stands_still_is_ended_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    let long_ago = Time::now().before(Duration::from_secs(60));
    let store = &harness.store;
    assert!(store.idle_streams(long_ago, 10).await.unwrap().is_empty());
    let now = Time::now().after(Duration::from_secs(1));
    let idle = store.idle_streams(now, 10).await.unwrap();
    assert_eq!(
        (idle[0].message_id, idle[0].conversation_id),
        (writing.message.id, id)
    );
    let end = |since| Finish {
        holder: None,
        interrupted: Some(String::new()),
        idle_since: Some(since),
        ..writing.finish(None)
    };
    let early = finish(&harness, end(long_ago)).await;
    assert!(matches!(early, Change::Conflict));
    assert!(matches!(finish(&harness, end(now)).await, Change::Done(_)));
    assert!(matches!(
        finish(&harness, end(now)).await,
        Change::Unchanged(_)
    ));
    assert!(store.idle_streams(now, 10).await.unwrap().is_empty());
}

async fn growing_message_is_deleted_but_not_edited(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    extend(&harness, &[writing.extension(0, "half")]).await;
    let message_id = writing.message.id;
    let by = actor("ann");
    let edit = Edit {
        message_id,
        by: by.clone(),
        content: "whole".into(),
        version: None,
    };
    let edited = harness.store.edit_message(edit, Origin::default()).await;
    assert!(matches!(edited.unwrap(), Change::Conflict));
    let delete = Delete { message_id, by };
    let deleted = harness
        .store
        .delete_message(delete, Origin::default())
        .await;
    let Change::Done(deleted) = deleted.unwrap() else {
        panic!("not deleted");
    };
    assert!(deleted.content.is_empty() && !deleted.streaming);
    assert!(
        extend(&harness, &[writing.extension(4, "x")])
            .await
            .is_empty()
    );
    let late = finish(&harness, writing.finish(None)).await;
    assert!(matches!(late, Change::Absent));
    assert_eq!(harness.store.count_streams("ann").await.unwrap(), 0);
}

async fn mentions_notify_at_the_end(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let writing = begin(&harness, id, "s1").await;
    assert!(harness.notifications("bob").await.is_empty());
    let notice = Notice::new(|message, user| Append {
        journal: format!("test:{user}"),
        key: message.id.to_string(),
        body: message.content.clone(),
        category: None,
        is_open: true,
        if_open: IfOpen::Refuse,
        needs_open: false,
        created_at: message.created_at,
        expires_at: None,
        most_open: 3,
        quota: Quota::All,
    });
    let end = Finish {
        notice: Some(notice),
        ..writing.finish(Some("for Bob"))
    };
    for _ in 0..2 {
        finish(&harness, end.clone()).await;
        assert_eq!(harness.notifications("bob").await, ["for Bob"]);
    }
}
