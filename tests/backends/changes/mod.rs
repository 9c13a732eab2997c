//! Edits and deletions of messages, on every store.

mod members;
mod search;

use std::sync::Arc;

use roomcast_server::store::{
    Actor, Authorship, Change, Committed, Delete, DeleteConversation, Edit, Insert,
    MAX_UNREAD_COUNT, MarkRead, MemberChange, Message, Messages, Origin, Page, Search, Time, words,
};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend, retriable, text};

on_every_backend! {
    edit_stores_the_new_text_and_retains_the_old,
    an_edit_of_another_version_is_a_conflict,
    one_of_two_edits_of_the_same_version_succeeds,
    only_the_author_and_admins_edit,
    only_the_author_and_admins_delete,
    a_removed_author_changes_nothing,
    author_of_a_message_is_returned,
    unknown_message_is_neither_edited_nor_deleted,
    a_deleted_message_stays_without_its_text,
    deleting_twice_changes_nothing_more,
    a_deleted_message_is_not_edited,
    changes_are_emitted_in_commit_order,
}

async fn edit_stores_the_new_text_and_retains_the_old(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "first").await;
    let edited = done(edit(&harness, &sent, "ann", "second", None).await);
    assert_eq!((edited.version, edited.seq), (2, 1));
    assert!(edited.edited_at.is_some() && edited.deleted_at.is_none());
    let edited = done(edit(&harness, &sent, "ann", "third", Some(2)).await);
    assert_eq!((edited.version, edited.content.as_str()), (3, "third"));
    assert_eq!(edited.created_at, sent.created_at);

    let read = newest(&harness, id).await;
    assert_eq!(
        serde_json::to_value(&*read).unwrap(),
        serde_json::to_value(&*edited).unwrap()
    );
    let versions = harness.store.versions(sent.id).await.unwrap();
    let versions: Vec<_> = versions
        .iter()
        .map(|v| (v.version, v.content.as_str(), v.replaced_by.as_str()))
        .collect();
    assert_eq!(versions, [(1, "first", "ann"), (2, "second", "ann")]);
}

async fn an_edit_of_another_version_is_a_conflict(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "first").await;
    for version in [0, 2, u32::MAX] {
        let change = edit(&harness, &sent, "ann", "x", Some(version)).await;
        assert!(matches!(change, Change::Conflict), "{version}: {change:?}");
    }
    assert_eq!(newest(&harness, id).await.content, "first");
    assert!(harness.store.versions(sent.id).await.unwrap().is_empty());
}

async fn one_of_two_edits_of_the_same_version_succeeds(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "first").await;
    let edits = (0..20).map(|n| {
        let (harness, sent) = (&harness, &sent);
        async move { edit(harness, sent, "ann", &n.to_string(), Some(1)).await }
    });
    let changes = futures_util::future::join_all(edits).await;
    let won: Vec<_> = changes
        .into_iter()
        .filter_map(|change| match change {
            Change::Done(message) => Some(message),
            Change::Conflict => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(won.len(), 1);
    assert_eq!(newest(&harness, id).await.content, won[0].content);
}

async fn only_the_author_and_admins_edit(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let sent = harness.send(id, "ann", "first").await;
    let by_bob = edit(&harness, &sent, "bob", "x", None).await;
    assert!(matches!(by_bob, Change::Denied), "{by_bob:?}");
    let by_eve = edit(&harness, &sent, "eve", "x", None).await;
    assert!(matches!(by_eve, Change::Absent), "{by_eve:?}");
    let by_admin = harness.store.edit_message(
        Edit {
            message_id: sent.id,
            by: admin(),
            content: "moderated".into(),
            version: None,
        },
        Origin::default(),
    );
    assert_eq!(done(by_admin.await.unwrap()).content, "moderated");
}

async fn only_the_author_and_admins_delete(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let sent = harness.send(id, "ann", "first").await;
    assert!(matches!(
        delete(&harness, &sent, user("bob")).await,
        Change::Denied
    ));
    assert!(matches!(
        delete(&harness, &sent, user("eve")).await,
        Change::Absent
    ));
    assert!(matches!(
        delete(&harness, &sent, admin()).await,
        Change::Done(_)
    ));
}

async fn a_removed_author_changes_nothing(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let sent = harness.send(id, "bob", "first").await;
    done(members(&harness, id, "ann", "bob", true).await);
    assert!(matches!(
        edit(&harness, &sent, "bob", "x", None).await,
        Change::Absent
    ));
    assert!(matches!(
        delete(&harness, &sent, user("bob")).await,
        Change::Absent
    ));
}

async fn author_of_a_message_is_returned(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let sent = harness.send(id, "ann", "first").await;
    let mut expected = Authorship {
        conversation_id: id,
        user_id: "ann".into(),
        is_deleted: false,
    };
    let authorship = async || harness.store.authorship(sent.id).await.unwrap();
    assert_eq!(authorship().await, Some(expected.clone()));
    done(delete(&harness, &sent, user("ann")).await);
    expected.is_deleted = true;
    assert_eq!(authorship().await, Some(expected));
    let unknown = harness.store.authorship(Uuid::new_v4()).await.unwrap();
    assert_eq!(unknown, None);
}

async fn unknown_message_is_neither_edited_nor_deleted(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let mut sent = (*harness.send(id, "ann", "first").await).clone();
    sent.id = Uuid::new_v4();
    assert!(matches!(
        edit(&harness, &sent, "ann", "x", None).await,
        Change::Absent
    ));
    assert!(matches!(
        delete(&harness, &sent, admin()).await,
        Change::Absent
    ));
}

async fn a_deleted_message_stays_without_its_text(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "before").await;
    let sent = harness.send(id, "ann", "secret").await;
    harness.send(id, "ann", "after").await;
    let deleted = done(delete(&harness, &sent, user("ann")).await);
    assert_eq!((deleted.content.as_str(), deleted.seq), ("", 2));
    assert!(deleted.deleted_at.is_some());

    let page = page(&harness, id, Page::After(0)).await;
    let read: Vec<_> = page
        .messages
        .iter()
        .map(|m| (m.seq, m.content.as_str()))
        .collect();
    assert_eq!(read, [(1, "before"), (2, ""), (3, "after")]);
    let json = serde_json::to_value(&*page.messages[1]).unwrap();
    assert_eq!(
        json["deletedAt"],
        json!(deleted.deleted_at.unwrap().to_string())
    );
    assert_eq!(json["metadata"], json!({}));
    let versions = harness.store.versions(sent.id).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].content, "secret");
}

async fn deleting_twice_changes_nothing_more(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "x").await;
    let first = done(delete(&harness, &sent, user("ann")).await);
    let Change::Unchanged(second) = delete(&harness, &sent, user("ann")).await else {
        panic!()
    };
    assert_eq!(first.deleted_at, second.deleted_at);
    assert_eq!(harness.store.versions(sent.id).await.unwrap().len(), 1);
}

async fn a_deleted_message_is_not_edited(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "x").await;
    done(delete(&harness, &sent, user("ann")).await);
    assert!(matches!(
        edit(&harness, &sent, "ann", "y", None).await,
        Change::Absent
    ));
    assert_eq!(newest(&harness, id).await.content, "");
}

async fn changes_are_emitted_in_commit_order(backend: Backend) {
    let (harness, mut commits) = Harness::undrained(backend).await;
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 7
            && let Some(commit) = commits.next().await
        {
            seen.push(match commit.event() {
                Committed::Message(message) => format!("message {}", message.content),
                Committed::Repeated(message) => format!("again {}", message.content),
                Committed::Edited(message) => format!("edited {}", message.content),
                Committed::Deleted { message, by } => format!("deleted {} by {by}", message.seq),
                Committed::Annotated(annotated) => format!("annotated {annotated:?}"),
                Committed::Renamed(conversation) => format!("titled {:?}", conversation.title),
                Committed::Members {
                    conversation,
                    user_id,
                    removed,
                } => format!("{user_id} {removed} {:?}", conversation.member_ids),
                Committed::Announced(_) => "announced".into(),
                Committed::ConversationDeleted {
                    deleted,
                    member_ids,
                } => format!("gone by {} {member_ids:?}", deleted.deleted_by),
            });
            commit.resolve();
        }
        seen
    });
    let id = harness.conversation(&["ann"]).await;
    let insert = harness
        .store
        .insert_message(retriable(id, "ann", "m"), Origin::default());
    let Insert::Stored(sent) = insert.await.unwrap() else {
        panic!()
    };
    done(edit(&harness, &sent, "ann", "new", None).await);
    let again = harness
        .store
        .insert_message(retriable(id, "ann", "m"), Origin::default());
    assert!(matches!(again.await.unwrap(), Insert::Repeated(_)));
    done(delete(&harness, &sent, user("ann")).await);
    delete(&harness, &sent, user("ann")).await;
    done(members(&harness, id, "ann", "bob", false).await);
    members(&harness, id, "ann", "bob", false).await;
    done(members(&harness, id, "ann", "bob", true).await);
    let deletion = DeleteConversation {
        conversation_id: id,
        by: user("ann"),
    };
    let deleted = harness
        .store
        .delete_conversation(deletion, Origin::default());
    done(deleted.await.unwrap());
    assert_eq!(
        seen.await.unwrap(),
        [
            "message retriable",
            "edited new",
            "again new",
            "deleted 1 by ann",
            "bob false [\"ann\", \"bob\"]",
            "bob true [\"ann\"]",
            "gone by ann [\"ann\"]",
        ]
    );
}

fn user(id: &str) -> Actor {
    Actor {
        user_id: id.into(),
        is_admin: false,
    }
}

/// An admin without any membership.
fn admin() -> Actor {
    Actor {
        user_id: "root".into(),
        is_admin: true,
    }
}

async fn edit(
    harness: &Harness,
    message: &Message,
    by: &str,
    content: &str,
    version: Option<u32>,
) -> Change<Arc<Message>> {
    let edit = Edit {
        message_id: message.id,
        by: user(by),
        content: content.into(),
        version,
    };
    harness
        .store
        .edit_message(edit, Origin::default())
        .await
        .unwrap()
}

async fn delete(harness: &Harness, message: &Message, by: Actor) -> Change<Arc<Message>> {
    let delete = Delete {
        message_id: message.id,
        by,
    };
    harness
        .store
        .delete_message(delete, Origin::default())
        .await
        .unwrap()
}

async fn members(
    harness: &Harness,
    conversation_id: Uuid,
    by: &str,
    user_id: &str,
    removes: bool,
) -> Change<roomcast_server::store::Conversation> {
    let change = MemberChange {
        conversation_id,
        user_id: user_id.into(),
        by: user(by),
        removes,
        limit: 1000,
    };
    harness
        .store
        .change_member(change, Origin::default())
        .await
        .unwrap()
}

async fn page(harness: &Harness, conversation: Uuid, page: Page) -> Messages {
    harness
        .store
        .messages(conversation, "ann", page, 100)
        .await
        .unwrap()
        .unwrap()
}

async fn newest(harness: &Harness, conversation: Uuid) -> Arc<Message> {
    let page = page(harness, conversation, Page::Newest).await;
    Arc::clone(page.messages.last().unwrap())
}

fn done<T: std::fmt::Debug>(change: Change<T>) -> T {
    match change {
        Change::Done(value) => value,
        other => panic!("{other:?}"),
    }
}

fn seqs(messages: &Messages) -> Vec<u64> {
    messages.messages.iter().map(|m| m.seq).collect()
}
