//! Membership, read positions and conversation lists, on every store.

use super::*;

on_every_backend! {
    only_owner_and_admins_change_members_and_members_leave,
    members_beyond_the_limit_are_refused,
    a_member_is_added_once,
    a_removed_member_sees_and_sends_nothing,
    the_owner_is_not_removed,
    an_owner_that_leaves_is_followed_by_the_oldest_member,
    a_read_mark_only_grows,
    a_read_mark_ends_at_the_newest_message,
    unread_count_excludes_own_and_deleted_messages,
    unread_messages_are_counted_up_to_a_limit,
    opening_a_conversation_returns_read_positions_of_members,
    non_member_cannot_read_a_conversation,
    a_user_has_the_conversations_of_its_memberships_and_the_open_ones,
    a_list_of_conversations_ends_at_its_limit,
}

async fn only_owner_and_admins_change_members_and_members_leave(backend: Backend) {
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

async fn members_beyond_the_limit_are_refused(backend: Backend) {
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
    // Concurrent, so that they are stored in one group or in several.
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
    let by_admin = MemberChange {
        conversation_id: id,
        user_id: "ann".into(),
        by: admin(),
        removes: true,
        limit: 1000,
    };
    let changed = harness.store.change_member(by_admin, Origin::default());
    assert!(matches!(changed.await.unwrap(), Change::Conflict));
    assert!(harness.store.is_member(id, "ann").await.unwrap());
}

async fn an_owner_that_leaves_is_followed_by_the_oldest_member(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    assert!(matches!(
        members(&harness, id, "ann", "ann", true).await,
        Change::Conflict
    ));
    assert!(harness.store.is_member(id, "ann").await.unwrap());
    for user in ["dan", "bob", "cid"] {
        done(members(&harness, id, "ann", user, false).await);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await; // Times of joining are of a millisecond.
    }
    let changed = done(members(&harness, id, "ann", "ann", true).await);
    assert_eq!(changed.owner_id.as_deref(), Some("dan"));
    assert_eq!(changed.member_ids, ["bob", "cid", "dan"]);
    assert!(matches!(
        members(&harness, id, "bob", "eve", false).await,
        Change::Denied
    ));
    // Concurrent, possibly as one group of changes: each is checked against the current owner.
    let both = tokio::join!(
        members(&harness, id, "dan", "dan", true),
        members(&harness, id, "dan", "eve", false),
        members(&harness, id, "bob", "bob", true),
    );
    assert_eq!(done(both.0).owner_id.as_deref(), Some("bob"));
    assert!(matches!(both.1, Change::Absent));
    let last = done(both.2);
    assert_eq!(
        (last.owner_id.as_deref(), last.member_ids),
        (Some("cid"), vec!["cid".into()])
    );
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

async fn unread_count_excludes_own_and_deleted_messages(backend: Backend) {
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
    let sends = (0..MAX_UNREAD_COUNT + 5).map(|_| harness.send(id, "ann", "x"));
    futures_util::future::join_all(sends).await;
    assert_eq!(
        read(&harness, id, "bob", 1).await,
        Some((1, MAX_UNREAD_COUNT))
    );
    assert_eq!(
        read(&harness, id, "bob", 8).await,
        Some((8, MAX_UNREAD_COUNT - 3))
    );
}

async fn opening_a_conversation_returns_read_positions_of_members(backend: Backend) {
    let harness = Harness::new(backend).await;
    let others_read = async |id: Uuid, user: Option<&str>| {
        let opening = harness.store.opening(id, user).await.unwrap();
        opening.map(|opening| opening.others_read_seq)
    };
    let id = harness.conversation(&["ann", "bob", "cid"]).await;
    let open = harness.open_conversation().await;
    for id in [id, open] {
        assert_eq!(others_read(id, Some("ann")).await, Some(None));
        read(&harness, id, "bob", 0).await;
        assert_eq!(others_read(id, Some("ann")).await, Some(None), "nothing");
        for _ in 0..5 {
            harness.send(id, "ann", "x").await;
        }
        read(&harness, id, "ann", 5).await;
        assert_eq!(others_read(id, Some("ann")).await, Some(None), "oneself");
        assert_eq!(others_read(id, Some("bob")).await, Some(Some(5)));
        read(&harness, id, "bob", 3).await;
        read(&harness, id, "cid", 2).await;
        assert_eq!(others_read(id, Some("ann")).await, Some(Some(3)));
        read(&harness, id, "cid", 4).await;
        assert_eq!(others_read(id, Some("ann")).await, Some(Some(4)));
        assert_eq!(others_read(id, None).await, Some(None), "others than whom");
    }
    assert_eq!(others_read(id, Some("eve")).await, None);
    assert_eq!(others_read(open, Some("eve")).await, Some(Some(5)));
    let elsewhere = harness.conversation(&["ann", "bob"]).await;
    assert_eq!(others_read(elsewhere, Some("ann")).await, Some(None));
    // Read positions stay when members leave.
    done(members(&harness, id, "ann", "cid", true).await);
    assert_eq!(others_read(id, Some("ann")).await, Some(Some(4)));
}

async fn non_member_cannot_read_a_conversation(backend: Backend) {
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
    let newest = harness.send(first, "ann", "z").await;
    assert_eq!(read(&harness, first, "bob", 1).await, Some((1, 1)));

    let list = harness.store.conversations("bob", None, 50).await.unwrap();
    assert!(!list.has_more);
    let mut ids: Vec<Uuid> = list
        .conversations
        .iter()
        .map(|l| l.conversation.id)
        .collect();
    let time = |listed: &roomcast_server::store::ListedConversation| {
        let changed_at = listed.conversation.updated_at;
        let last = listed.last_message.as_ref();
        last.map_or(changed_at, |last| last.created_at.max(changed_at))
    };
    let times: Vec<Time> = list.conversations.iter().map(time).collect();
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
            "notificationLevel": "all",
            "lastMessage": {
                "id": newest.id,
                "seq": 3,
                "userId": "ann",
                "userName": newest.user_name,
                "excerpt": "z",
                "createdAt": newest.created_at,
            },
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

async fn read(harness: &Harness, conversation: Uuid, user: &str, seq: u64) -> Option<(u64, u64)> {
    let read = MarkRead {
        conversation_id: conversation,
        user_id: user.into(),
        seq,
    };
    let mark = harness.store.mark_read(read).await.unwrap();
    mark.map(|mark| (mark.seq, mark.unread))
}
