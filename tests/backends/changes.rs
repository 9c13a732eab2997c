//! What every store does with changes of what is stored, lists, searches and expiry.

use std::sync::Arc;

use roomcast_server::store::{
    Actor, Authorship, Change, Committed, Delete, DeleteConversation, Edit, Insert, MarkRead,
    MemberChange, Message, Messages, Origin, Page, Search, Time, UNREAD_MAX, words,
};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend, retriable, text};

on_every_backend! {
    an_edit_gives_a_new_text_and_keeps_the_old_one,
    an_edit_of_another_version_is_a_conflict,
    of_two_editors_with_one_version_one_wins,
    only_the_author_and_admins_edit,
    only_the_author_and_admins_delete,
    a_removed_author_changes_nothing,
    who_wrote_a_message_is_known,
    what_is_unknown_is_neither_edited_nor_deleted,
    a_deleted_message_stays_without_its_text,
    deleting_twice_changes_nothing_more,
    a_deleted_message_is_not_edited,
    changes_come_out_in_the_order_of_their_commits,
    only_the_owner_and_admins_change_members_and_others_leave,
    a_conversation_has_no_more_members_than_it_may_have,
    a_member_is_added_once,
    a_removed_member_sees_and_sends_nothing,
    the_owner_is_not_removed,
    a_read_mark_only_grows,
    a_read_mark_ends_at_the_newest_message,
    unread_are_the_messages_of_others_that_are_not_deleted,
    unread_messages_are_counted_up_to_a_limit,
    nobody_reads_what_is_foreign,
    a_user_has_the_conversations_of_its_memberships_and_the_open_ones,
    a_list_of_conversations_ends_at_its_limit,
    a_search_finds_messages_that_have_all_words,
    a_search_sees_what_its_user_may_see,
    a_search_follows_edits_and_deletions,
    a_search_takes_operators_for_words,
    a_search_goes_on_before_a_message,
    history_for_the_server_needs_no_member,
    what_expires_is_the_beginning_and_leaves_no_gap,
    what_has_expired_may_be_sent_again,
}

async fn an_edit_gives_a_new_text_and_keeps_the_old_one(backend: Backend) {
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

async fn of_two_editors_with_one_version_one_wins(backend: Backend) {
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

async fn who_wrote_a_message_is_known(backend: Backend) {
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

async fn what_is_unknown_is_neither_edited_nor_deleted(backend: Backend) {
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

async fn changes_come_out_in_the_order_of_their_commits(backend: Backend) {
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

async fn only_the_owner_and_admins_change_members_and_others_leave(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    assert!(matches!(
        members(&harness, id, "bob", "cid", false).await,
        Change::Denied
    ));
    assert!(matches!(
        members(&harness, id, "bob", "ann", true).await,
        Change::Denied
    ));
    assert!(matches!(
        members(&harness, id, "eve", "eve", false).await,
        Change::Absent
    ));
    assert!(matches!(
        members(&harness, Uuid::new_v4(), "ann", "cid", false).await,
        Change::Absent
    ));
    let open = harness.open_conversation().await;
    assert!(matches!(
        members(&harness, open, "ann", "cid", false).await,
        Change::Denied
    ));
    let by_admin = MemberChange {
        conversation_id: id,
        user_id: "cid".into(),
        by: admin(),
        removes: false,
        limit: 1000,
    };
    let changed = harness
        .store
        .change_member(by_admin, Origin::default())
        .await
        .unwrap();
    assert_eq!(done(changed).member_ids, ["ann", "bob", "cid"]);
    let left = members(&harness, id, "cid", "cid", true).await;
    assert_eq!(done(left).member_ids, ["ann", "bob"]);
    assert!(matches!(
        members(&harness, id, "cid", "cid", true).await,
        Change::Absent
    ));
}

async fn a_conversation_has_no_more_members_than_it_may_have(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let add = async |user_id: String| {
        let change = MemberChange {
            conversation_id: id,
            user_id,
            by: user("ann"),
            removes: false,
            limit: 5,
        };
        let change = harness.store.change_member(change, Origin::default());
        change.await.unwrap()
    };
    // At the same time, so that they are stored in one group or in several.
    let many = (0..10).map(|n| add(format!("u{n}")));
    let outcomes = futures_util::future::join_all(many).await;
    let added = |change: &&Change<_>| matches!(change, Change::Done(_));
    assert_eq!(outcomes.iter().filter(added).count(), 4, "{outcomes:?}");
    let refused = |change: &&Change<_>| matches!(change, Change::Conflict);
    assert_eq!(outcomes.iter().filter(refused).count(), 6, "{outcomes:?}");
    let Change::Unchanged(full) = add("bob".into()).await else {
        panic!("a member already");
    };
    assert_eq!(full.member_ids.len(), 6, "the owner and five others");
    let Change::Done(_) = members(&harness, id, "ann", "bob", true).await else {
        panic!("removed");
    };
    assert!(matches!(add("cid".into()).await, Change::Done(_)));
    assert!(matches!(add("dan".into()).await, Change::Conflict));
}

async fn a_member_is_added_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let before = harness.store.conversation(id).await.unwrap().unwrap();
    let added = done(members(&harness, id, "ann", "bob", false).await);
    assert_eq!(added.member_ids, ["ann", "bob"]);
    assert!(added.updated_at >= before.conversation.updated_at);
    assert_eq!(added.created_at, before.conversation.created_at);
    let Change::Unchanged(again) = members(&harness, id, "ann", "bob", false).await else {
        panic!()
    };
    assert_eq!(again, added);
    let Change::Unchanged(nobody) = members(&harness, id, "ann", "zoe", true).await else {
        panic!()
    };
    assert_eq!(nobody, added);
}

async fn a_removed_member_sees_and_sends_nothing(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    harness.send(id, "bob", "x").await;
    let left = done(members(&harness, id, "ann", "bob", true).await);
    assert_eq!(left.member_ids, ["ann"]);
    let insert = harness
        .store
        .insert_message(text(id, "bob", "y"), Origin::default());
    assert!(matches!(insert.await.unwrap(), Insert::Absent));
    let read = harness.store.messages(id, "bob", Page::Newest, 9).await;
    assert!(read.unwrap().is_none());
    done(members(&harness, id, "ann", "bob", false).await);
    assert_eq!(harness.send(id, "bob", "back").await.seq, 2);
}

async fn the_owner_is_not_removed(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    assert!(matches!(
        members(&harness, id, "ann", "ann", true).await,
        Change::Conflict
    ));
    assert!(harness.store.is_member(id, "ann").await.unwrap());
}

async fn a_read_mark_only_grows(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    for _ in 0..5 {
        harness.send(id, "ann", "x").await;
    }
    assert_eq!(read(&harness, id, "bob", 3).await, Some((3, 2)));
    assert_eq!(read(&harness, id, "bob", 2).await, Some((3, 2)));
    assert_eq!(read(&harness, id, "bob", 3).await, Some((3, 2)));
    assert_eq!(read(&harness, id, "bob", 0).await, Some((3, 2)));
    assert_eq!(read(&harness, id, "bob", 5).await, Some((5, 0)));
    harness.send(id, "ann", "y").await;
    assert_eq!(read(&harness, id, "bob", 1).await, Some((5, 1)));
}

async fn a_read_mark_ends_at_the_newest_message(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    assert_eq!(read(&harness, id, "bob", 7).await, Some((0, 0)));
    harness.send(id, "ann", "x").await;
    for seq in [u64::MAX, i64::MAX as u64, 2] {
        assert_eq!(read(&harness, id, "bob", seq).await, Some((1, 0)));
    }
    harness.send(id, "ann", "y").await;
    assert_eq!(read(&harness, id, "bob", 0).await, Some((1, 1)));
}

async fn unread_are_the_messages_of_others_that_are_not_deleted(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    harness.send(id, "ann", "1").await;
    harness.send(id, "bob", "2").await;
    let third = harness.send(id, "ann", "3").await;
    harness.send(id, "ann", "4").await;
    assert_eq!(read(&harness, id, "bob", 0).await, Some((0, 3)));
    assert_eq!(read(&harness, id, "ann", 0).await, Some((0, 1)));
    done(delete(&harness, &third, user("ann")).await);
    assert_eq!(read(&harness, id, "bob", 1).await, Some((1, 1)));
}

async fn unread_messages_are_counted_up_to_a_limit(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let sends = (0..UNREAD_MAX + 5).map(|_| harness.send(id, "ann", "x"));
    futures_util::future::join_all(sends).await;
    assert_eq!(read(&harness, id, "bob", 1).await, Some((1, UNREAD_MAX)));
    assert_eq!(
        read(&harness, id, "bob", 8).await,
        Some((8, UNREAD_MAX - 3))
    );
}

async fn nobody_reads_what_is_foreign(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "x").await;
    assert_eq!(read(&harness, id, "eve", 1).await, None);
    assert_eq!(read(&harness, Uuid::new_v4(), "ann", 1).await, None);
    let open = harness.open_conversation().await;
    assert_eq!(read(&harness, open, "eve", 1).await, Some((0, 0)));
}

async fn a_user_has_the_conversations_of_its_memberships_and_the_open_ones(backend: Backend) {
    let harness = Harness::new(backend).await;
    let first = harness.conversation(&["ann", "bob"]).await;
    let foreign = harness.conversation(&["eve"]).await;
    let open = harness.open_conversation().await;
    let last = harness.conversation(&["bob"]).await;
    harness.send(first, "ann", "x").await;
    harness.send(first, "bob", "y").await;
    harness.send(first, "ann", "z").await;
    assert_eq!(read(&harness, first, "bob", 1).await, Some((1, 1)));

    let list = harness.store.conversations("bob", None, 50).await.unwrap();
    assert!(!list.has_more);
    let mut ids: Vec<Uuid> = list
        .conversations
        .iter()
        .map(|l| l.conversation.id)
        .collect();
    let times: Vec<Time> = list
        .conversations
        .iter()
        .map(|l| l.conversation.updated_at)
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "the newest come first");
    ids.sort_unstable();
    let mut expected = [first, open, last];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(!ids.contains(&foreign));
    let listed = list
        .conversations
        .iter()
        .find(|l| l.conversation.id == first)
        .unwrap();
    let created_at = listed.conversation.created_at.to_string();
    assert_eq!(
        serde_json::to_value(listed).unwrap(),
        json!({
            "id": first,
            "title": "A title",
            "ownerId": "ann",
            "memberIds": ["ann", "bob"],
            "createdAt": created_at,
            "updatedAt": created_at,
            "lastSeq": 3,
            "readSeq": 1,
            "unread": 1,
        })
    );
}

async fn a_list_of_conversations_ends_at_its_limit(backend: Backend) {
    let harness = Harness::new(backend).await;
    for _ in 0..5 {
        harness.conversation(&["ann"]).await;
    }
    let list = harness.store.conversations("ann", None, 3).await.unwrap();
    assert_eq!((list.conversations.len(), list.has_more), (3, true));
    let list = harness.store.conversations("ann", None, 5).await.unwrap();
    assert_eq!((list.conversations.len(), list.has_more), (5, false));
    let nobody = harness.store.conversations("eve", None, 5).await.unwrap();
    assert_eq!(
        serde_json::to_string(&nobody).unwrap(),
        r#"{"conversations":[],"hasMore":false}"#
    );
}

async fn a_search_finds_messages_that_have_all_words(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for content in [
        "The quick brown fox",
        "a QUICK-witted reply",
        "quicker than light",
        "Ärger mit dem Fuchs, https://example.org/a_b?c=1",
        "brown bread; quick!",
    ] {
        harness.send(id, "ann", content).await;
    }
    for (query, expected) in [
        ("quick", vec![1, 2, 5]),
        ("Quick brown", vec![1, 5]),
        ("brown quick", vec![1, 5]),
        ("quick fox bread", vec![]),
        ("ärger", vec![4]),
        ("ÄRGER", vec![4]),
        ("arger", vec![]),
        ("example.org", vec![4]),
        ("witted", vec![2]),
        ("qui", vec![]),
        ("", vec![]),
        (" ,.- ", vec![]),
        ("the", vec![1]),
    ] {
        assert_eq!(
            find(&harness, "ann", query, Some(id)).await,
            expected,
            "{query}"
        );
    }
}

async fn a_search_sees_what_its_user_may_see(backend: Backend) {
    let harness = Harness::new(backend).await;
    let own = harness.conversation(&["ann"]).await;
    let shared = harness.conversation(&["ann", "bob"]).await;
    let open = harness.open_conversation().await;
    for id in [own, shared, open] {
        harness.send(id, "ann", "secret").await;
    }
    let all = |user: &'static str| {
        let harness = &harness;
        async move {
            let search = Search {
                words: words("secret"),
                ..Search::default()
            };
            let found = harness.store.search(user, search, 50).await;
            let mut found: Vec<Uuid> = found
                .unwrap()
                .unwrap()
                .messages
                .iter()
                .map(|m| m.conversation_id)
                .collect();
            found.sort_unstable();
            found
        }
    };
    let sorted = |mut ids: Vec<Uuid>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(all("ann").await, sorted(vec![own, shared, open]));
    assert_eq!(all("bob").await, sorted(vec![shared, open]));
    assert_eq!(all("eve").await, [open]);
    let foreign = Search {
        words: words("secret"),
        conversation: Some(own),
        before: None,
    };
    assert!(
        harness
            .store
            .search("eve", foreign, 50)
            .await
            .unwrap()
            .is_none()
    );
    done(members(&harness, shared, "ann", "bob", true).await);
    assert_eq!(all("bob").await, [open]);
}

async fn a_search_follows_edits_and_deletions(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "apple").await;
    done(edit(&harness, &sent, "ann", "pear", None).await);
    assert_eq!(find(&harness, "ann", "apple", None).await, [0; 0]);
    assert_eq!(find(&harness, "ann", "pear", None).await, [1]);
    done(delete(&harness, &sent, user("ann")).await);
    assert_eq!(find(&harness, "ann", "pear", None).await, [0; 0]);
}

async fn a_search_takes_operators_for_words(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", "this or that and near").await;
    harness.send(id, "ann", "something else").await;
    for query in [
        "\"this\" OR nothing",
        "this AND that",
        "NEAR(this that)",
        "this & that",
        "th*",
        "content:this",
        "') OR 1=1 --",
        "-this",
        "!that",
        "^this",
    ] {
        let found = find(&harness, "ann", query, None).await;
        assert!(found.is_empty() || found == [1], "{query}: {found:?}");
    }
    assert_eq!(find(&harness, "ann", "this AND that", None).await, [1]);
    assert_eq!(find(&harness, "ann", "!that", None).await, [1]);
}

async fn a_search_goes_on_before_a_message(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(harness.send(id, "ann", "x").await);
    }
    let search = |before| Search {
        words: words("x"),
        conversation: None,
        before,
    };
    let first = harness.store.search("ann", search(None), 2).await;
    let first = first.unwrap().unwrap();
    assert_eq!((seqs(&first), first.has_more), (vec![4, 5], true));
    let second = harness
        .store
        .search("ann", search(Some(first.messages[0].id)), 3)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seqs(&second), second.has_more), (vec![1, 2, 3], false));
    assert_eq!(second.messages[0].id, sent[0].id);
}

async fn history_for_the_server_needs_no_member(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for _ in 0..3 {
        harness.send(id, "ann", "x").await;
    }
    let read = harness.store.history(id, Page::After(1), 9).await;
    assert_eq!(seqs(&read.unwrap().unwrap()), [2, 3]);
    let unknown = Uuid::new_v4();
    assert!(
        harness
            .store
            .history(unknown, Page::Newest, 9)
            .await
            .unwrap()
            .is_none()
    );
    assert!(harness.store.conversation(unknown).await.unwrap().is_none());
    let known = harness.store.conversation(id).await.unwrap().unwrap();
    assert_eq!(known.last_seq, 3);
}

async fn what_expires_is_the_beginning_and_leaves_no_gap(backend: Backend) {
    let harness = Harness::new(backend).await;
    let (first, second) = (
        harness.conversation(&["ann"]).await,
        harness.conversation(&["ann"]).await,
    );
    for n in 0..6 {
        let sent = harness.send(first, "ann", "old").await;
        if n == 0 {
            done(edit(&harness, &sent, "ann", "older", None).await);
        }
    }
    harness.send(second, "ann", "old").await;
    let now: Time = soon();
    let long_ago: Time = "2001-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(harness.store.expire(long_ago, 100).await.unwrap(), 0);
    let mut removed = 0;
    loop {
        let some = harness.store.expire(now, 2).await.unwrap();
        if some == 0 {
            break;
        }
        removed += some;
        let left = page(&harness, first, Page::After(0)).await;
        let left = seqs(&left);
        let last = left.len() as u64;
        assert_eq!(left, (7 - last..=6).collect::<Vec<_>>());
    }
    assert_eq!(removed, 7);
    assert_eq!(find(&harness, "ann", "old", None).await, [0; 0]);
    let next = harness.send(first, "ann", "new").await;
    assert_eq!(next.seq, 7, "seq goes on");
    assert_eq!(seqs(&page(&harness, first, Page::Before(9)).await), [7]);
    let known = harness.store.conversation(first).await.unwrap().unwrap();
    assert_eq!(known.last_seq, 7);
    done(edit(&harness, &next, "ann", "newer", None).await);
    assert_eq!(newest(&harness, first).await.content, "newer");
}

async fn what_has_expired_may_be_sent_again(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let send = || {
        harness
            .store
            .insert_message(retriable(id, "ann", "m1"), Origin::default())
    };
    assert!(matches!(send().await.unwrap(), Insert::Stored(_)));
    assert!(matches!(send().await.unwrap(), Insert::Repeated(_)));
    let removed = harness.store.expire(soon(), 100).await;
    assert_eq!(removed.unwrap(), 1);
    let Insert::Stored(again) = send().await.unwrap() else {
        panic!()
    };
    assert_eq!(again.seq, 2);
}

fn user(id: &str) -> Actor {
    Actor {
        user_id: id.into(),
        is_admin: false,
    }
}

/// An admin who is a member of nothing.
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

async fn read(harness: &Harness, conversation: Uuid, user: &str, seq: u64) -> Option<(u64, u64)> {
    let read = MarkRead {
        conversation_id: conversation,
        user_id: user.into(),
        seq,
    };
    let mark = harness.store.mark_read(read).await.unwrap();
    mark.map(|mark| (mark.seq, mark.unread))
}

/// The `seq`s of what is found.
async fn find(harness: &Harness, user: &str, query: &str, conversation: Option<Uuid>) -> Vec<u64> {
    let search = Search {
        words: words(query),
        conversation,
        before: None,
    };
    let found = harness.store.search(user, search, 50).await.unwrap();
    seqs(&found.unwrap())
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

/// A time after everything that was stored so far.
fn soon() -> Time {
    let now: jiff::Timestamp = Time::now().to_string().parse().unwrap();
    Time::from(now + std::time::Duration::from_secs(1))
}
