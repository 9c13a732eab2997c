//! Invitations, on every store.

use futures_util::future::join_all;
use roomcast_server::store::{
    Actor, Change, Conversation, DeleteConversation, Invite, Origin, Time,
};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    an_invitation_makes_members_until_it_is_used_up_and_counts_each_once,
    invalid_invitation_is_not_found,
    join_refused_for_lack_of_room_does_not_use_the_invitation,
    expired_invitations_do_not_count_against_the_limit,
    concurrent_joins_do_not_exceed_the_invitation_limit,
}

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

fn invite(conversation_id: Uuid, token: &str, uses_left: Option<u32>) -> Invite {
    Invite {
        token_hash: token.into(),
        conversation_id,
        created_by: "ann".into(),
        expires_at: at("2100-01-01T00:00:00.000Z"),
        uses_left,
    }
}

async fn join(harness: &Harness, token: &str, user: &str, limit: usize) -> Change<Conversation> {
    let joining = harness
        .store
        .join_by_invite(token, user, limit, Origin::default());
    joining.await.unwrap()
}

/// Returns the members after a user has joined.
fn members(change: &Change<Conversation>) -> Vec<&str> {
    match change {
        Change::Done(conversation) => conversation.member_ids.iter().map(String::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

async fn an_invitation_makes_members_until_it_is_used_up_and_counts_each_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann"]).await;
    let twice = invite(id, "twice", Some(2));
    assert!(store.insert_invite(twice.clone(), 9).await.unwrap());
    assert_eq!(store.invite("twice").await.unwrap(), Some(twice));

    assert_eq!(
        members(&join(&harness, "twice", "bob", 9).await),
        ["ann", "bob"]
    );
    for member in ["ann", "bob"] {
        let again = join(&harness, "twice", member, 9).await;
        assert!(matches!(again, Change::Unchanged(_)), "{again:?}");
    }
    let carl = join(&harness, "twice", "carl", 9).await;
    assert_eq!(members(&carl), ["ann", "bob", "carl"]);
    assert_eq!(join(&harness, "twice", "dan", 9).await, Change::Absent);
    assert_eq!(store.invite("twice").await.unwrap(), None);

    assert!(
        store
            .insert_invite(invite(id, "ever", None), 9)
            .await
            .unwrap()
    );
    for user in ["dan", "eve"] {
        assert!(members(&join(&harness, "ever", user, 9).await).contains(&user));
    }
    assert_eq!(store.invite("ever").await.unwrap().unwrap().uses_left, None);
}

async fn invalid_invitation_is_not_found(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann"]).await;
    let other = harness.conversation(&["ann"]).await;
    let ended = Invite {
        expires_at: at("2000-01-01T00:00:00.000Z"),
        ..invite(id, "ended", None)
    };
    let valid = invite(other, "kept", None);
    for new in [
        ended,
        invite(id, "revoked", None),
        invite(id, "another", None),
        valid,
    ] {
        assert!(store.insert_invite(new, 9).await.unwrap());
    }
    // The expired invitation was removed when the next one was created.
    assert_eq!(store.count_invites(id).await.unwrap(), 2);
    assert_eq!(store.delete_invites(id).await.unwrap(), 2);
    assert_eq!(store.delete_invites(id).await.unwrap(), 0);
    assert_eq!(store.count_invites(id).await.unwrap(), 0);
    assert_eq!(store.count_invites(other).await.unwrap(), 1);
    for token in ["unknown", "", "ended", "revoked", "another"] {
        assert_eq!(store.invite(token).await.unwrap(), None, "{token}");
        assert_eq!(join(&harness, token, "bob", 9).await, Change::Absent);
    }
    assert!(store.invite("kept").await.unwrap().is_some());
    let deletion = DeleteConversation {
        conversation_id: other,
        by: Actor {
            user_id: "ann".into(),
            is_admin: false,
        },
    };
    let deleted = store.delete_conversation(deletion, Origin::default()).await;
    assert!(matches!(deleted.unwrap(), Change::Done(_)));
    assert_eq!(store.invite("kept").await.unwrap(), None);
    assert_eq!(join(&harness, "kept", "bob", 9).await, Change::Absent);
}

async fn join_refused_for_lack_of_room_does_not_use_the_invitation(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann", "bob"]).await;
    assert!(
        store
            .insert_invite(invite(id, "once", Some(1)), 9)
            .await
            .unwrap()
    );
    assert_eq!(join(&harness, "once", "carl", 1).await, Change::Conflict);
    assert_eq!(
        members(&join(&harness, "once", "carl", 2).await),
        ["ann", "bob", "carl"]
    );
}

async fn expired_invitations_do_not_count_against_the_limit(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann"]).await;
    let other = harness.conversation(&["ann"]).await;
    let ended = Invite {
        expires_at: at("2000-01-01T00:00:00.000Z"),
        ..invite(id, "ended", None)
    };
    for (new, is_stored, valid) in [
        (ended, true, 0),
        (invite(id, "one", Some(1)), true, 1),
        (invite(id, "two", None), true, 2),
        (invite(id, "three", None), false, 2),
        (invite(other, "four", None), true, 2),
    ] {
        let token = new.token_hash.clone();
        assert_eq!(
            store.insert_invite(new, 2).await.unwrap(),
            is_stored,
            "{token}"
        );
        assert_eq!(store.count_invites(id).await.unwrap(), valid, "{token}");
    }
    join(&harness, "one", "bob", 9).await;
    assert_eq!(store.count_invites(id).await.unwrap(), 1, "one is used up");
    assert!(
        store
            .insert_invite(invite(id, "three", None), 2)
            .await
            .unwrap()
    );
}

async fn concurrent_joins_do_not_exceed_the_invitation_limit(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let thrice = invite(id, "thrice", Some(3));
    assert!(harness.store.insert_invite(thrice, 9).await.unwrap());
    let users: Vec<String> = (0..20).map(|n| format!("user {n}")).collect();
    let joining = users.iter().map(|user| join(&harness, "thrice", user, 99));
    let outcomes = join_all(joining).await;
    let joined = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Change::Done(_)));
    assert_eq!(joined.count(), 3);
    let found = harness.store.conversation(id).await.unwrap().unwrap();
    assert_eq!(found.conversation.member_ids.len(), 4);
}
