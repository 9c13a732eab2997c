//! Deletion of conversations, on every store.

use std::sync::Arc;

use roomcast_server::store::{
    Actor, Change, Conversation, Delete, DeleteConversation, DeletedConversation, Edit, Insert,
    MarkRead, MemberChange, Message, Origin, Page, Rename, Search, Time, words,
};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend, retriable, text};

on_every_backend! {
    only_owner_and_admins_delete_a_conversation_unless_it_is_open,
    deleted_conversation_exists_for_no_user,
    deleting_twice_is_answered_like_the_first_time,
    remains_of_deleted_conversation_are_removed_in_batches,
    messages_sent_during_deletion_precede_it_or_are_refused,
    conversation_of_a_sole_member_stays_if_it_has_another,
    member_joins_before_the_deletion_for_a_sole_member_or_not_at_all,
}

fn actor(user: &str) -> Actor {
    Actor {
        user_id: user.into(),
        is_admin: user == "root",
    }
}

async fn delete(harness: &Harness, id: Uuid, by: &str) -> Change<DeletedConversation> {
    let deletion = DeleteConversation {
        conversation_id: id,
        by: actor(by),
    };
    let deleted = harness
        .store
        .delete_conversation(deletion, Origin::default());
    deleted.await.unwrap()
}

async fn deleted(harness: &Harness, id: Uuid, by: &str) -> DeletedConversation {
    match delete(harness, id, by).await {
        Change::Done(deleted) => deleted,
        other => panic!("{other:?}"),
    }
}

async fn edit(harness: &Harness, message: &Message, by: &str) -> Change<Arc<Message>> {
    let edit = Edit {
        message_id: message.id,
        by: actor(by),
        content: "another apple".into(),
        version: None,
    };
    let edited = harness.store.edit_message(edit, Origin::default());
    edited.await.unwrap()
}

async fn repeat(harness: &Harness, id: Uuid) -> Insert {
    let message = retriable(id, "ann", "once");
    let insert = harness.store.insert_message(message, Origin::default());
    insert.await.unwrap()
}

/// A time after everything that these tests do.
fn later() -> Time {
    "2100-01-01T00:00:00.000Z".parse().unwrap()
}

async fn only_owner_and_admins_delete_a_conversation_unless_it_is_open(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let open = harness.open_conversation().await;
    for (conversation, by, expected) in [
        (id, "bob", Change::Denied),
        (id, "eve", Change::Absent),
        (Uuid::new_v4(), "ann", Change::Absent),
        (Uuid::new_v4(), "root", Change::Absent),
        (open, "ann", Change::Denied),
        (open, "root", Change::Conflict),
    ] {
        assert_eq!(delete(&harness, conversation, by).await, expected, "{by}");
    }
    let emitted = deleted(&harness, id, "ann").await;
    assert_eq!((emitted.conversation_id, &*emitted.deleted_by), (id, "ann"));
    let other = harness.conversation(&["ann"]).await;
    assert_eq!(deleted(&harness, other, "root").await.deleted_by, "root");
}

async fn deleted_conversation_exists_for_no_user(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann", "bob"]).await;
    let message = harness.send(id, "ann", "an apple").await;
    assert!(matches!(repeat(&harness, id).await, Insert::Stored(_)));
    deleted(&harness, id, "ann").await;

    assert!(store.conversation(id).await.unwrap().is_none());
    assert!(store.membership(id, "bob").await.unwrap().is_none());
    assert!(!store.is_member(id, "ann").await.unwrap());
    for user in ["ann", "bob"] {
        let list = store.conversations(user, None, 9).await.unwrap();
        assert!(list.conversations.is_empty());
        let page = store.messages(id, user, Page::Newest, 9).await.unwrap();
        assert!(page.is_none());
    }
    assert!(store.history(id, Page::Newest, 9).await.unwrap().is_none());
    for (conversation, is_refused) in [(Some(id), true), (None, false)] {
        let search = Search {
            words: words("apple"),
            conversation,
            before: None,
        };
        let found = store.search("ann", search, 9).await.unwrap();
        assert_eq!(found.is_none(), is_refused);
        assert!(found.is_none_or(|found| found.messages.is_empty()));
    }
    assert!(store.authorship(message.id).await.unwrap().is_none());

    let send = store.insert_message(text(id, "ann", "x"), Origin::default());
    assert!(matches!(send.await.unwrap(), Insert::Absent));
    assert!(matches!(repeat(&harness, id).await, Insert::Absent));
    let read = MarkRead {
        conversation_id: id,
        user_id: "ann".into(),
        seq: 1,
    };
    assert_eq!(store.mark_read(read).await.unwrap(), None);
    for by in ["ann", "root"] {
        assert_eq!(changed(edit(&harness, &message, by).await), Change::Absent);
        let delete = Delete {
            message_id: message.id,
            by: actor(by),
        };
        let refused = store.delete_message(delete, Origin::default()).await;
        assert_eq!(changed(refused.unwrap()), Change::Absent);
        let change = MemberChange {
            conversation_id: id,
            user_id: "carl".into(),
            by: actor(by),
            removes: false,
            limit: 9,
        };
        let added = store.change_member(change, Origin::default()).await;
        assert_eq!(added.unwrap(), Change::Absent);
        let rename = Rename {
            conversation_id: id,
            title: "no".into(),
            by: actor(by),
        };
        let renamed = store.rename_conversation(rename, Origin::default());
        assert_eq!(renamed.await.unwrap(), Change::Absent);
    }
}

/// Reduces the outcome of a message change to ids, which can be compared.
fn changed(change: Change<Arc<Message>>) -> Change<Uuid> {
    match change {
        Change::Done(message) => Change::Done(message.id),
        Change::Unchanged(message) => Change::Unchanged(message.id),
        Change::Absent => Change::Absent,
        Change::Denied => Change::Denied,
        Change::Conflict => Change::Conflict,
    }
}

async fn deleting_twice_is_answered_like_the_first_time(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let first = deleted(&harness, id, "ann").await;
    for by in ["ann", "root"] {
        let again = delete(&harness, id, by).await;
        assert_eq!(again, Change::Unchanged(first.clone()));
    }
    for by in ["bob", "eve"] {
        assert_eq!(delete(&harness, id, by).await, Change::Absent, "{by}");
    }
}

async fn remains_of_deleted_conversation_are_removed_in_batches(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let (id, other) = (
        harness.conversation(&["ann", "bob"]).await,
        harness.conversation(&["ann"]).await,
    );
    let message = harness.send(id, "ann", "an apple").await;
    assert!(matches!(
        edit(&harness, &message, "ann").await,
        Change::Done(_)
    ));
    assert!(matches!(repeat(&harness, id).await, Insert::Stored(_)));
    for room in [id, other] {
        for _ in 0..5 {
            harness.send(room, "ann", "x").await;
        }
        let read = MarkRead {
            conversation_id: room,
            user_id: "ann".into(),
            seq: 1,
        };
        store.mark_read(read).await.unwrap();
    }
    let early: Time = "2000-01-01T00:00:00.000Z".parse().unwrap();
    assert_eq!(store.purge(later(), 3).await.unwrap(), 0);
    deleted(&harness, id, "ann").await;
    assert!(matches!(repeat(&harness, other).await, Insert::Conflict));
    let mut removed = Vec::new();
    while let rows @ 1.. = store.purge(early, 3).await.unwrap() {
        removed.push(rows);
    }
    assert!(removed.iter().all(|rows| *rows <= 3), "{removed:?}");
    assert_eq!(removed.iter().sum::<u64>(), 7 + 1, "messages and a mark");
    assert!(store.versions(message.id).await.unwrap().is_empty());
    // The client message ids are deleted with the messages.
    assert!(matches!(repeat(&harness, other).await, Insert::Stored(_)));
    assert!(matches!(
        delete(&harness, id, "ann").await,
        Change::Unchanged(_)
    ));
    assert_eq!(store.purge(later(), 3).await.unwrap(), 1, "the row");
    assert_eq!(store.purge(later(), 3).await.unwrap(), 0);
    assert_eq!(delete(&harness, id, "ann").await, Change::Absent);

    let list = store.conversations("ann", None, 9).await.unwrap();
    let [left] = list.conversations.as_slice() else {
        panic!("{list:?}");
    };
    assert_eq!(
        (left.conversation.id, left.last_seq, left.read_seq),
        (other, 6, 1)
    );
    let page = store.history(other, Page::Newest, 9).await.unwrap();
    assert_eq!(page.unwrap().messages.len(), 6);
}

async fn messages_sent_during_deletion_precede_it_or_are_refused(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let send = || {
        let message = text(id, "ann", "x");
        harness.store.insert_message(message, Origin::default())
    };
    // All of them wait at the same time.
    let before = futures_util::future::join_all((0..20).map(|_| send()));
    let after = futures_util::future::join_all((0..20).map(|_| send()));
    let (before, emitted, after) =
        futures_util::future::join3(before, deleted(&harness, id, "ann"), after).await;
    assert_eq!(emitted.conversation_id, id);
    assert!(
        before
            .iter()
            .all(|sent| matches!(sent, Ok(Insert::Stored(_)))),
        "{before:?}"
    );
    assert!(
        after.iter().all(|sent| matches!(sent, Ok(Insert::Absent))),
        "{after:?}"
    );
    let mut removed = 0;
    while let rows @ 1.. = harness.store.purge(later(), 9).await.unwrap() {
        removed += rows;
    }
    assert_eq!(removed, 21);
}

async fn delete_without_others(harness: &Harness, id: Uuid) -> Change<DeletedConversation> {
    let deletion = DeleteConversation {
        conversation_id: id,
        by: actor("root"),
    };
    let deleted =
        harness
            .store
            .delete_conversation_without_others(deletion, "ann".into(), Origin::default());
    deleted.await.unwrap()
}

async fn change_bob(harness: &Harness, id: Uuid, removes: bool) -> Change<Conversation> {
    let change = MemberChange {
        conversation_id: id,
        user_id: "bob".into(),
        by: actor("ann"),
        removes,
        limit: 9,
    };
    let changed = harness.store.change_member(change, Origin::default());
    changed.await.unwrap()
}

async fn conversation_of_a_sole_member_stays_if_it_has_another(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    assert_eq!(delete_without_others(&harness, id).await, Change::Conflict);
    assert!(harness.store.is_member(id, "bob").await.unwrap());
    assert!(harness.store.is_member(id, "ann").await.unwrap());
    let left = change_bob(&harness, id, true).await;
    assert!(matches!(left, Change::Done(_)), "{left:?}");
    let first = match delete_without_others(&harness, id).await {
        Change::Done(deleted) => deleted,
        other => panic!("{other:?}"),
    };
    assert_eq!(change_bob(&harness, id, false).await, Change::Absent);
    let again = delete_without_others(&harness, id).await;
    assert_eq!(again, Change::Unchanged(first));
}

async fn member_joins_before_the_deletion_for_a_sole_member_or_not_at_all(backend: Backend) {
    let harness = Harness::new(backend).await;
    for round in 0..20 {
        let id = harness.conversation(&["ann"]).await;
        let (delete, join) = (
            delete_without_others(&harness, id),
            change_bob(&harness, id, false),
        );
        let (deleted, joined) = if round % 2 == 0 {
            futures_util::future::join(delete, join).await
        } else {
            let (joined, deleted) = futures_util::future::join(join, delete).await;
            (deleted, joined)
        };
        let is_bob_in = harness.store.is_member(id, "bob").await.unwrap();
        match (deleted, joined) {
            (Change::Done(_), Change::Absent) => assert!(!is_bob_in),
            (Change::Conflict, Change::Done(_)) => assert!(is_bob_in),
            other => panic!("{other:?}"),
        }
    }
}
