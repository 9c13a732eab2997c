//! Revisions: each commit of a conversation takes one revision, and other servers can read the
//! commits that they missed.

use std::sync::Arc;

use futures_util::future::join_all;
#[cfg(feature = "postgres")]
use roomcast_server::store::Missed;
use roomcast_server::store::{
    Actor, Annotate, Annotated, Annotation, Change, Commits, Committed, Delete, DeleteConversation,
    Edit, Insert, MemberChange, Message, Origin, Rename, Revision, Store,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend, retriable, text};
use crate::random::Random;

on_every_backend! {
    each_change_takes_one_revision_and_no_op_takes_none,
    grouped_commits_are_emitted_in_revision_order,
    member_removed_earlier_in_a_group_cannot_send,
}

/// Resolves the commits of a store and returns them with their revisions.
fn recorded(mut commits: Commits) -> mpsc::Receiver<(Revision, Committed)> {
    let (sender, receiver) = mpsc::channel(10_000);
    tokio::spawn(async move {
        while let Some(commit) = commits.next().await {
            let event = commit.event().clone();
            sender.send((commit.revision(), event)).await.unwrap();
            commit.resolve();
        }
    });
    receiver
}

/// Returns a commit in short: its kind, the `seq` of a message, the text or user.
fn short(event: &Committed) -> String {
    match event {
        Committed::Message(message) => format!("message {} {}", message.seq, message.content),
        Committed::Repeated(message) => format!("repeated {}", message.seq),
        Committed::Edited(message) => {
            format!(
                "edited {} {} v{}",
                message.seq, message.content, message.version
            )
        }
        Committed::Deleted { message, by } => format!("deleted {} by {by}", message.seq),
        Committed::Annotated(annotated) => match &**annotated {
            Annotated::Reaction(reacted) => {
                let (seq, count) = (reacted.seq, reacted.count);
                format!("{} reacts to {seq}: {count}", reacted.user_id)
            }
            Annotated::Pinned(pinned) => format!("pinned {}", pinned.pin.message.excerpt),
            Annotated::Unpinned(unpinned) => format!("unpinned {}", unpinned.seq),
        },
        Committed::Renamed(_) => "renamed".into(),
        Committed::Members {
            user_id, removed, ..
        } => format!("{user_id} {}", if *removed { "removed" } else { "added" }),
        Committed::ConversationDeleted { deleted, .. } => format!("gone by {}", deleted.deleted_by),
        Committed::Announced(_) => "announced".into(),
    }
}

fn at(seq: u64, changes: u64) -> Revision {
    Revision { seq, changes }
}

fn admin() -> Actor {
    Actor {
        user_id: "admin".into(),
        is_admin: true,
    }
}

fn member(id: Uuid, user: &str, removes: bool) -> MemberChange {
    MemberChange {
        conversation_id: id,
        user_id: user.into(),
        by: admin(),
        removes,
        limit: 1000,
    }
}

fn rename(id: Uuid, title: &str) -> Rename {
    Rename {
        conversation_id: id,
        title: title.into(),
        by: admin(),
    }
}

fn edit(message_id: Uuid, content: &str) -> Edit {
    Edit {
        message_id,
        by: admin(),
        content: content.into(),
        version: None,
    }
}

fn delete(message: &Message) -> Delete {
    Delete {
        message_id: message.id,
        by: admin(),
    }
}

async fn each_change_takes_one_revision_and_no_op_takes_none(backend: Backend) {
    let (harness, commits) = Harness::undrained(backend).await;
    let mut recorded = recorded(commits);
    let (store, none) = (&harness.store, Origin::default);
    let id = harness.conversation(&["ann", "bob"]).await;
    let revision = async || store.conversation(id).await.unwrap().unwrap().revision();
    assert_eq!(revision().await, at(0, 0), "members from the beginning");
    let sent = harness.send(id, "ann", "one").await;
    let other = store.insert_message(retriable(id, "bob", "m"), none());
    assert!(matches!(other.await.unwrap(), Insert::Stored(_)));
    store
        .edit_message(edit(sent.id, "two"), none())
        .await
        .unwrap();
    let again = store.insert_message(retriable(id, "bob", "m"), none());
    assert!(matches!(again.await.unwrap(), Insert::Repeated(_)));
    for _ in 0..2 {
        let member = |user, removes| store.change_member(member(id, user, removes), none());
        store.delete_message(delete(&sent), none()).await.unwrap();
        store
            .edit_message(edit(sent.id, "no"), none())
            .await
            .unwrap();
        member("eve", false).await.unwrap();
        member("bob", true).await.unwrap();
        let renamed = store.rename_conversation(rename(id, "New"), none());
        renamed.await.unwrap();
    }
    assert_eq!(revision().await, at(2, 5));
    harness.send(id, "ann", "last").await;
    for _ in 0..2 {
        let deletion = DeleteConversation {
            conversation_id: id,
            by: admin(),
        };
        let deleted = store.delete_conversation(deletion, none());
        deleted.await.unwrap();
    }
    let mut seen = Vec::new();
    while let Ok((revision, event)) = recorded.try_recv() {
        seen.push((revision, short(&event)));
    }
    let expected = [
        (at(1, 0), "message 1 one"),
        (at(2, 0), "message 2 retriable"),
        (at(2, 1), "edited 1 two v2"),
        (at(2, 1), "repeated 2"),
        (at(2, 2), "deleted 1 by admin"),
        (at(2, 3), "eve added"),
        (at(2, 4), "bob removed"),
        (at(2, 5), "renamed"),
        (at(3, 5), "message 3 last"),
        (at(3, 6), "gone by admin"),
    ];
    assert_eq!(seen, expected.map(|(at, event)| (at, event.to_owned())));
}

/// Makes random changes, many at a time; some change nothing.
async fn stir(store: &Store, id: Uuid, messages: &[Arc<Message>], random: &mut Random) {
    let mut changes = Vec::new();
    for n in 0..24 {
        let (store, user) = (store.clone(), format!("u{}", random.below(3)));
        let what = random.below(10);
        let is_even = random.below(2) == 0;
        let message = Arc::clone(&messages[random.below(messages.len())]);
        changes.push(async move {
            match what {
                0 => drop(
                    store
                        .edit_message(edit(message.id, &user), Origin::default())
                        .await,
                ),
                1 => drop(
                    store
                        .delete_message(delete(&message), Origin::default())
                        .await,
                ),
                2 => drop(
                    store
                        .rename_conversation(rename(id, &user), Origin::default())
                        .await,
                ),
                3 | 4 => {
                    let change = member(id, &user, what == 3);
                    drop(store.change_member(change, Origin::default()).await);
                }
                8 | 9 => {
                    let annotation = match (what, is_even) {
                        (8, true) => Annotation::React("\u{1F44D}".into()),
                        (8, false) => Annotation::Unreact("\u{1F44D}".into()),
                        (_, true) => Annotation::Pin,
                        (_, false) => Annotation::Unpin,
                    };
                    let annotate = Annotate {
                        message_id: message.id,
                        by: Actor {
                            user_id: "ann".into(),
                            is_admin: false,
                        },
                        annotation,
                    };
                    drop(store.annotate(annotate, Origin::default()).await);
                }
                _ => {
                    let message = text(id, "ann", &n.to_string());
                    drop(store.insert_message(message, Origin::default()).await);
                }
            }
        });
    }
    join_all(changes).await;
}

async fn grouped_commits_are_emitted_in_revision_order(backend: Backend) {
    let (harness, commits) = Harness::undrained(backend).await;
    let mut recorded = recorded(commits);
    let id = harness.conversation(&["ann"]).await;
    let mut messages = Vec::new();
    for _ in 0..12 {
        messages.push(harness.send(id, "ann", "x").await);
    }
    for seed in 1..12 {
        stir(&harness.store, id, &messages, &mut Random::new(seed)).await;
    }
    let conversation = harness.store.conversation(id).await.unwrap().unwrap();
    let mut last = at(0, 0);
    while let Ok((revision, event)) = recorded.try_recv() {
        let next = match event {
            Committed::Message(message) => {
                assert_eq!(message.seq, revision.seq);
                at(last.seq + 1, last.changes)
            }
            _ => at(last.seq, last.changes + 1),
        };
        assert_eq!(revision, next);
        last = revision;
    }
    assert_eq!(last, conversation.revision());
    assert!(last.changes > 20, "{last:?}");
}

async fn member_removed_earlier_in_a_group_cannot_send(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let store = &harness.store;
    let (first, removed, second, added, third) = tokio::join!(
        store.insert_message(text(id, "bob", "1"), Origin::default()),
        store.change_member(member(id, "bob", true), Origin::default()),
        store.insert_message(text(id, "bob", "2"), Origin::default()),
        store.change_member(member(id, "bob", false), Origin::default()),
        store.insert_message(text(id, "bob", "3"), Origin::default()),
    );
    assert!(matches!(first.unwrap(), Insert::Stored(_)));
    assert!(matches!(removed.unwrap(), Change::Done(_)));
    assert!(matches!(second.unwrap(), Insert::Absent));
    assert!(matches!(added.unwrap(), Change::Done(_)));
    assert!(matches!(third.unwrap(), Insert::Stored(_)));
}

/// Reads everything between two revisions, page by page.
#[cfg(feature = "postgres")]
async fn read(
    store: &Store,
    id: Uuid,
    mut after: Revision,
    through: Revision,
    limit: usize,
) -> Vec<(Revision, Committed)> {
    let mut read = Vec::new();
    while after < through {
        match store.missed(id, after, through, limit).await.unwrap() {
            Missed::Steps { steps, reached } => {
                assert!(reached > after, "{after:?} {reached:?}");
                assert!(steps.len() <= 2 * limit, "{}", steps.len());
                after = reached;
                read.extend(steps);
            }
            Missed::Truncated(_) => panic!("everything is kept"),
        }
    }
    assert_eq!(after, through);
    read
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn third_server_reads_commits_of_two_servers_in_order() {
    let (config, _) = crate::harness::postgres();
    let (first, commits) = Harness::undrained((config.clone(), None)).await;
    let mut first_recorded = recorded(commits);
    let (second, commits) = Harness::undrained((config.clone(), None)).await;
    let mut second_recorded = recorded(commits);
    let third = Harness::new((config, None)).await;
    let id = first.conversation(&["ann"]).await;
    let mut messages = Vec::new();
    for _ in 0..12 {
        messages.push(first.send(id, "ann", "x").await);
    }
    for seed in 1..8 {
        let (mut one, mut other) = (Random::new(seed), Random::new(seed + 100));
        tokio::join!(
            stir(&first.store, id, &messages, &mut one),
            stir(&second.store, id, &messages, &mut other)
        );
    }
    let mut committed = Vec::new();
    for recorded in [&mut first_recorded, &mut second_recorded] {
        while let Ok(commit) = recorded.try_recv() {
            committed.push(commit);
        }
    }
    committed.sort_by_key(|(revision, _)| *revision);
    let shorten = |steps: Vec<(Revision, Committed)>| -> Vec<(Revision, String)> {
        let short = |(revision, event): (Revision, Committed)| (revision, short(&event));
        steps.into_iter().map(short).collect()
    };
    let committed = shorten(committed);
    let through = third
        .store
        .conversation(id)
        .await
        .unwrap()
        .unwrap()
        .revision();
    assert_eq!(committed.last().unwrap().0, through);
    for limit in [1, 3, 1000] {
        let steps = read(&third.store, id, at(0, 0), through, limit).await;
        assert_eq!(shorten(steps), committed, "pages of {limit}");
    }
    // From the middle to a revision before the end.
    let (after, before) = (committed[20].0, committed[committed.len() - 9].0);
    let steps = read(&third.store, id, after, before, 2).await;
    assert_eq!(shorten(steps), committed[21..committed.len() - 8]);
    let revisions = third.store.revisions(&[Uuid::new_v4(), id]).await.unwrap();
    assert_eq!(revisions, [(id, through)]);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn removed_member_does_not_receive_a_later_title() {
    let (config, _) = crate::harness::postgres();
    let harness = Harness::new((config, None)).await;
    let (store, id) = (&harness.store, harness.conversation(&["ann", "bob"]).await);
    let titled = async |title| {
        let renamed = store.rename_conversation(rename(id, title), Origin::default());
        renamed.await.unwrap();
    };
    titled("public").await;
    let removal = member(id, "bob", true);
    store
        .change_member(removal, Origin::default())
        .await
        .unwrap();
    let titles = async |through| {
        let steps = read(store, id, at(0, 0), through, 1000).await;
        let title = |(_, event): (Revision, Committed)| match event {
            Committed::Renamed(conversation) | Committed::Members { conversation, .. } => {
                conversation.title.clone()
            }
            other => panic!("{other:?}"),
        };
        steps.into_iter().map(title).collect::<Vec<_>>()
    };
    let public = || Some("public".to_owned());
    assert_eq!(titles(at(0, 2)).await, [public(), public()]);
    titled("secret").await;
    let secret = Some("secret".to_owned());
    assert_eq!(
        titles(at(0, 2)).await,
        [None, None],
        "although no more was asked for"
    );
    assert_eq!(titles(at(0, 3)).await, [None, None, secret]);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn expired_changes_are_replaced_by_the_conversation_state() {
    let (config, _) = crate::harness::postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let (store, id) = (&harness.store, harness.conversation(&["ann", "bob"]).await);
    let sent = harness.send(id, "ann", "first").await;
    for n in 0..6 {
        let edit = edit(sent.id, &n.to_string());
        store.edit_message(edit, Origin::default()).await.unwrap();
    }
    let sql = |sql: &str| crate::harness::sql(&config, sql);
    sql("UPDATE conversation_changes SET changed_at = now() - interval '2 hours' WHERE number < 4");
    assert_eq!(store.forget_changes().await.unwrap(), 3);
    assert_eq!(store.forget_changes().await.unwrap(), 0);
    assert_eq!(sql("SELECT min(number) FROM conversation_changes"), "4");
    let now = match store.missed(id, at(0, 2), at(1, 6), 10).await.unwrap() {
        Missed::Truncated(now) => now.unwrap(),
        steps @ Missed::Steps { .. } => panic!("{steps:?}"),
    };
    assert_eq!(now.revision(), at(1, 6));
    assert_eq!(now.conversation.member_ids, ["ann", "bob"]);
    assert!(!now.is_open);
    // The steps are read from the first revision that is still retained.
    let steps = read(store, id, at(1, 3), at(1, 6), 10).await;
    assert_eq!(steps.len(), 3);
    // A message whose edits are no longer retained is returned in its state after them.
    let steps = read(store, id, at(0, 3), at(1, 6), 10).await;
    assert_eq!(short(&steps[0].1), "message 1 2");
    let steps = read(store, id, at(0, 6), at(1, 6), 10).await;
    assert_eq!(short(&steps[0].1), "message 1 5");
    // A deleted conversation has nothing to read.
    sql("DELETE FROM conversations");
    let missed = store.missed(id, at(0, 2), at(1, 6), 10).await.unwrap();
    assert!(matches!(missed, Missed::Truncated(None)), "{missed:?}");
}
