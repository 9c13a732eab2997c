//! Conversation lists and titles, on every store.

use roomcast_server::store::{
    Actor, Change, Conversation, Cursor, Delete, DeleteConversation, NewConversation, Origin,
    Quote, Rename, Time,
};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    list_continues_after_its_cursor_until_complete,
    conversation_changed_during_paging_is_on_the_next_page,
    list_begins_with_the_conversation_of_the_newest_message,
    the_owner_and_admins_rename_a_conversation,
    setting_the_same_title_changes_nothing,
    conversations_of_a_user_match_the_list,
    contacts_are_members_of_shared_small_conversations,
}

fn actor(user: &str, is_admin: bool) -> Actor {
    Actor {
        user_id: user.into(),
        is_admin,
    }
}

async fn rename(harness: &Harness, id: Uuid, by: Actor, title: &str) -> Change<Conversation> {
    let rename = Rename {
        conversation_id: id,
        title: title.into(),
        by,
    };
    let renamed = harness.store.rename_conversation(rename, Origin::default());
    renamed.await.unwrap()
}

/// Returns the ids of a page and the cursor of the next page.
async fn page(harness: &Harness, before: Option<Cursor>) -> (Vec<Uuid>, Option<Cursor>) {
    let list = harness.store.conversations("ann", before, 3).await.unwrap();
    assert_eq!(list.cursor.is_some(), list.has_more);
    let listed = list.conversations.iter();
    (listed.map(|l| l.conversation.id).collect(), list.cursor)
}

async fn list_continues_after_its_cursor_until_complete(backend: Backend) {
    let harness = Harness::new(backend).await;
    let mut all = Vec::new();
    // Many within one millisecond, which are ordered by id.
    for _ in 0..10 {
        all.push(harness.conversation(&["ann"]).await);
        harness.conversation(&["eve"]).await;
    }
    let (mut seen, mut cursor) = page(&harness, None).await;
    while cursor.is_some() {
        // Parsed from text, as clients send it.
        let sent = cursor.map(|cursor| cursor.to_string().parse().unwrap());
        let (ids, next) = page(&harness, sent).await;
        seen.extend(ids);
        cursor = next;
    }
    let whole = harness.store.conversations("ann", None, 200).await.unwrap();
    let whole = whole.conversations.iter().map(|l| l.conversation.id);
    assert_eq!(seen, whole.collect::<Vec<_>>());
    all.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, all);
}

async fn conversation_changed_during_paging_is_on_the_next_page(backend: Backend) {
    let harness = Harness::new(backend).await;
    for _ in 0..4 {
        harness.conversation(&["ann"]).await;
    }
    let (first, cursor) = page(&harness, None).await;
    let (rest, end) = page(&harness, cursor).await;
    assert_eq!((rest.len(), end), (1, None));
    next_millisecond();
    assert!(matches!(
        rename(&harness, rest[0], actor("ann", false), "new").await,
        Change::Done(_)
    ));
    assert_eq!(page(&harness, cursor).await, (rest.clone(), None));
    let (again, _) = page(&harness, None).await;
    assert_eq!(again[0], rest[0]);
    assert_eq!(again[1..], first[..2]);

    // A message moves a conversation, too, and more of them than a page has.
    for id in &first {
        next_millisecond();
        harness.send(*id, "ann", "moves").await;
    }
    let (moved, next) = page(&harness, cursor).await;
    assert_eq!(moved, [first[2], first[1], first[0]]);
    let (end, none) = page(&harness, next).await;
    assert_eq!((end, none), (rest, None));
}

/// Waits, because the order of two changes within one millisecond is that of the ids.
fn next_millisecond() {
    let now = Time::now();
    while Time::now() <= now {}
}

async fn list_begins_with_the_conversation_of_the_newest_message(backend: Backend) {
    let harness = Harness::new(backend).await;
    let [silent, spoken, busy] = [
        harness.conversation(&["ann"]).await,
        harness.conversation(&["ann", "bob"]).await,
        harness.conversation(&["ann"]).await,
    ];
    next_millisecond();
    harness.send(busy, "ann", "1").await;
    next_millisecond();
    let sent = harness.send(spoken, "bob", &"\u{e9}".repeat(300)).await;
    let list = harness.store.conversations("ann", None, 9).await.unwrap();
    let ids: Vec<Uuid> = list
        .conversations
        .iter()
        .map(|l| l.conversation.id)
        .collect();
    assert_eq!(ids, [spoken, busy, silent]);
    assert_eq!(list.conversations[2].last_message, None);
    let last = list.conversations[0].last_message.as_ref().unwrap();
    assert_eq!(last.created_at, sent.created_at);
    let quote = Quote {
        id: sent.id,
        seq: 1,
        user_id: "bob".to_owned(),
        user_name: sent.user_name.clone(),
        excerpt: "\u{e9}".repeat(200),
        edited_at: None,
        deleted_at: None,
    };
    assert_eq!(last.quote, quote);

    // A deleted message keeps its place, without its text.
    let delete = Delete {
        message_id: sent.id,
        by: actor("bob", false),
    };
    let deleted = harness.store.delete_message(delete, Origin::default());
    assert!(matches!(deleted.await, Ok(Change::Done(_))));
    let list = harness.store.conversations("ann", None, 1).await.unwrap();
    assert_eq!(list.conversations[0].conversation.id, spoken);
    let last = list.conversations[0].last_message.as_ref().unwrap();
    assert_eq!(last.quote.excerpt, "");
    assert!(last.quote.deleted_at.is_some());
}

async fn the_owner_and_admins_rename_a_conversation(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let open = harness.open_conversation().await;
    for (conversation, by, expected) in [
        (id, actor("bob", false), Change::Denied),
        (id, actor("eve", false), Change::Absent),
        (Uuid::new_v4(), actor("ann", false), Change::Absent),
        (Uuid::new_v4(), actor("root", true), Change::Absent),
        (open, actor("ann", false), Change::Denied),
    ] {
        assert_eq!(rename(&harness, conversation, by, "no").await, expected);
    }
    for (conversation, by, title) in [
        (id, actor("ann", false), "by its owner"),
        (id, actor("root", true), "e\u{301} \u{1f600}"),
        (open, actor("root", true), "by an admin"),
    ] {
        let Change::Done(renamed) = rename(&harness, conversation, by, title).await else {
            panic!("{title} was refused");
        };
        assert_eq!(renamed.title.as_deref(), Some(title));
        let read = harness.store.conversation(conversation).await.unwrap();
        assert_eq!(read.unwrap().conversation, renamed);
    }
}

async fn setting_the_same_title_changes_nothing(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let Change::Done(first) = rename(&harness, id, actor("ann", false), "once").await else {
        panic!();
    };
    let again = rename(&harness, id, actor("ann", false), "once").await;
    assert_eq!(again, Change::Unchanged(first));
}

async fn conversations_of_a_user_match_the_list(backend: Backend) {
    let harness = Harness::new(backend).await;
    let open = NewConversation::lobby();
    harness.store.insert_conversation(open).await.unwrap();
    for _ in 0..5 {
        harness.conversation(&["ann", "bob"]).await;
        harness.conversation(&["eve"]).await;
    }
    let deleted_id = harness.conversation(&["ann"]).await;
    let deletion = DeleteConversation {
        conversation_id: deleted_id,
        by: actor("ann", true),
    };
    let deleted = harness
        .store
        .delete_conversation(deletion, Origin::default());
    assert!(matches!(deleted.await, Ok(Change::Done(_))));
    for user in ["ann", "eve", "nobody"] {
        let list = harness.store.conversations(user, None, 200).await.unwrap();
        let mut listed: Vec<Uuid> = list
            .conversations
            .iter()
            .map(|l| l.conversation.id)
            .collect();
        let mut ids = harness.store.conversation_ids(user, 200).await.unwrap();
        listed.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids, listed, "{user}");
    }
    let some = harness.store.conversation_ids("ann", 3).await.unwrap();
    assert_eq!(some.len(), 3);
}

async fn contacts_are_members_of_shared_small_conversations(backend: Backend) {
    let harness = Harness::new(backend).await;
    harness.conversation(&["ann", "bob"]).await;
    harness.conversation(&["bob", "ann", "cid"]).await;
    harness.conversation(&["ann", "cid", "dan", "eve"]).await;
    harness.conversation(&["bob", "zoe"]).await;
    let contacts = async |user: &str, most_members, limit| {
        let contacts = harness.store.contacts(user, most_members, limit);
        let mut contacts = contacts.await.unwrap();
        contacts.sort_unstable();
        contacts
    };
    let none: [&str; 0] = [];
    assert_eq!(contacts("ann", 1, 10).await, none);
    assert_eq!(contacts("ann", 2, 10).await, ["bob"]);
    assert_eq!(contacts("ann", 3, 10).await, ["bob", "cid"]);
    assert_eq!(contacts("ann", 4, 10).await, ["bob", "cid", "dan", "eve"]);
    assert_eq!(contacts("ann", 4, 3).await.len(), 3);
    assert_eq!(contacts("bob", 100, 10).await, ["ann", "cid", "zoe"]);
    assert_eq!(contacts("nobody", 100, 10).await, none);
}
