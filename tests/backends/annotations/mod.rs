//! Reactions, pins, replies, mentions and notification levels, on every store.

mod references;
mod streams;

use std::sync::Arc;

use futures_util::future::join_all;
use roomcast_server::store::{
    Actor, Annotate, Annotated, Annotation, Append, Change, Current, Delete, Edit, IfOpen, Insert,
    Level, Message, NewMessage, Notice, Origin, Page, Quota, Search, Time,
};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend, retriable, text};

on_every_backend! {
    reaction_counts_once_per_user_wherever_its_message_is_read,
    refused_reaction_does_not_count_against_the_limits,
    concurrent_reactions_are_all_counted,
    concurrent_reaction_and_deletion_leave_no_reaction,
    only_members_react_and_only_to_existing_messages,
    only_the_owner_pins_and_pins_are_bounded,
    page_is_shortened_if_reactions_make_it_too_large,
    removed_message_loses_its_reactions_and_pins,
}

const THUMB: &str = "\u{1F44D}";
const HEART: &str = "\u{2764}\u{FE0F}";

fn actor(user: &str) -> Actor {
    Actor {
        user_id: user.into(),
        is_admin: false,
    }
}

fn annotation(message: &Message, by: &str, annotation: Annotation) -> Annotate {
    Annotate {
        message_id: message.id,
        by: actor(by),
        annotation,
    }
}

impl Harness {
    async fn annotate(
        &self,
        message: &Message,
        by: &str,
        what: Annotation,
    ) -> Change<Arc<Annotated>> {
        let annotate = annotation(message, by, what);
        let annotated = self.store.annotate(annotate, Origin::default());
        annotated.await.unwrap()
    }

    async fn react(&self, message: &Message, by: &str, emoji: &str) -> Change<Arc<Annotated>> {
        let what = Annotation::React(emoji.into());
        self.annotate(message, by, what).await
    }

    async fn unreact(&self, message: &Message, by: &str, emoji: &str) -> Change<Arc<Annotated>> {
        let what = Annotation::Unreact(emoji.into());
        self.annotate(message, by, what).await
    }

    async fn insert(&self, message: NewMessage) -> Insert {
        let insert = self.store.insert_message(message, Origin::default());
        insert.await.unwrap()
    }

    async fn stored(&self, message: NewMessage) -> Arc<Message> {
        match self.insert(message).await {
            Insert::Stored(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Returns a message as this user reads it.
    async fn read(&self, message: &Message, user: &str) -> Arc<Message> {
        let id = message.conversation_id;
        let page = self.store.messages(id, user, Page::Newest, 200);
        let page = page.await.unwrap().unwrap();
        let mut found = page.messages.into_iter().filter(|one| one.id == message.id);
        found.next().unwrap()
    }

    async fn edit(&self, message: &Message, content: &str) -> Arc<Message> {
        let edit = Edit {
            message_id: message.id,
            by: actor(&message.user_id),
            content: content.into(),
            version: None,
        };
        match self.store.edit_message(edit, Origin::default()).await {
            Ok(Change::Done(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    async fn delete(&self, message: &Message) -> Arc<Message> {
        let delete = Delete {
            message_id: message.id,
            by: actor(&message.user_id),
        };
        match self.store.delete_message(delete, Origin::default()).await {
            Ok(Change::Done(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the bodies of a user's notifications.
    async fn notifications(&self, user: &str) -> Vec<String> {
        let journal = format!("test:{user}");
        let current = Current {
            journal: &journal,
            category: None,
            open: 100,
            newest: 100,
            is_closed: false,
            with_withdrawn: false,
            before: None,
            now: Time::now(),
        };
        let view = self.store.journal(current).await.unwrap();
        view.entries.into_iter().map(|entry| entry.body).collect()
    }
}

/// Returns who reacted, whether the reaction is new, and the number of reactions.
fn reacted(change: &Change<Arc<Annotated>>) -> (&str, bool, u64) {
    let (annotated, is_new) = match change {
        Change::Done(annotated) => (annotated, true),
        Change::Unchanged(annotated) => (annotated, false),
        other => panic!("{other:?}"),
    };
    match &**annotated {
        Annotated::Reaction(reacted) => (&reacted.user_id, is_new, reacted.count),
        other => panic!("{other:?}"),
    }
}

/// Returns emoji, count, the users it names, and whether the reader has reacted.
fn reactions(message: &Message) -> Vec<(&str, u64, Vec<&str>, bool)> {
    let all = message.reactions.iter();
    all.map(|one| {
        let users = one.user_ids.iter().map(String::as_str).collect();
        (one.emoji.as_str(), one.count, users, one.own)
    })
    .collect()
}

async fn reaction_counts_once_per_user_wherever_its_message_is_read(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob", "carl"]).await;
    let message = harness.send(id, "ann", "hello world").await;
    let other = harness.send(id, "bob", "nothing").await;
    assert_eq!(
        reacted(&harness.react(&message, "bob", HEART).await),
        ("bob", true, 1)
    );
    assert_eq!(
        reacted(&harness.react(&message, "bob", HEART).await),
        ("bob", false, 1)
    );
    harness.react(&message, "carl", THUMB).await;
    assert_eq!(
        reacted(&harness.react(&message, "ann", HEART).await),
        ("ann", true, 2)
    );
    let expected = |own_heart, own_thumb| {
        vec![
            (HEART, 2, vec!["ann", "bob"], own_heart),
            (THUMB, 1, vec!["carl"], own_thumb),
        ]
    };
    let read = harness.read(&message, "bob").await;
    assert_eq!(reactions(&read), expected(true, false));
    let read = harness.read(&message, "carl").await;
    assert_eq!(reactions(&read), expected(false, true));
    assert!(harness.read(&other, "bob").await.reactions.is_empty());
    let search = Search {
        words: vec!["hello".into()],
        ..Search::default()
    };
    let found = harness
        .store
        .search("bob", search, 9)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reactions(&found.messages[0]), expected(true, false));
    let all = harness
        .store
        .history(id, Page::After(0), 9)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reactions(&all.messages[0]), expected(false, false));
    let edited = harness.edit(&message, "hello").await;
    assert_eq!(reactions(&edited), expected(false, false));

    assert_eq!(
        reacted(&harness.unreact(&message, "bob", HEART).await),
        ("bob", true, 1)
    );
    assert_eq!(
        reacted(&harness.unreact(&message, "bob", HEART).await),
        ("bob", false, 1)
    );
    harness.unreact(&message, "ann", HEART).await;
    let read = harness.read(&message, "bob").await;
    assert_eq!(reactions(&read), [(THUMB, 1, vec!["carl"], false)]);
    let deleted = harness.delete(&message).await;
    assert!(deleted.reactions.is_empty());
    assert!(harness.read(&message, "carl").await.reactions.is_empty());
    assert_eq!(harness.react(&message, "bob", THUMB).await, Change::Absent);
    assert_eq!(
        harness.unreact(&message, "carl", THUMB).await,
        Change::Absent
    );
}

fn emoji(n: u32) -> String {
    char::from_u32(0x1F600 + n).unwrap().to_string()
}

async fn refused_reaction_does_not_count_against_the_limits(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob", "carl"]).await;
    let message = harness.send(id, "ann", "popular").await;
    for n in 0..10 {
        harness.react(&message, "ann", &emoji(n)).await;
    }
    assert_eq!(
        harness.react(&message, "ann", &emoji(10)).await,
        Change::Conflict
    );
    for n in 10..20 {
        harness.react(&message, "bob", &emoji(n)).await;
    }
    assert_eq!(
        harness.react(&message, "carl", &emoji(20)).await,
        Change::Conflict
    );
    // An emoji that other users have used is accepted, and so is a new one after a removal.
    assert_eq!(
        reacted(&harness.react(&message, "carl", &emoji(3)).await).2,
        2
    );
    let read = harness.read(&message, "carl").await;
    assert_eq!(read.reactions.len(), 20);
    harness.unreact(&message, "bob", &emoji(19)).await;
    assert_eq!(
        reacted(&harness.react(&message, "carl", &emoji(20)).await).2,
        1
    );
    let read = harness.read(&message, "carl").await;
    let own: Vec<_> = read.reactions.iter().filter(|one| one.own).collect();
    assert_eq!((read.reactions.len(), own.len()), (20, 2));
}

async fn concurrent_reactions_are_all_counted(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.open_conversation().await;
    let message = harness.send(id, "ann", "loved").await;
    let users: Vec<String> = (0..300).map(|n| format!("user {n:03}")).collect();
    let all = users
        .iter()
        .map(|user| harness.react(&message, user, HEART));
    let mut counts: Vec<u64> = join_all(all)
        .await
        .iter()
        .map(|one| reacted(one).2)
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=300).collect::<Vec<_>>());
    let read = harness.read(&message, "user 299").await;
    let named: Vec<_> = users.iter().take(10).map(String::as_str).collect();
    assert_eq!(reactions(&read), [(HEART, 300, named, true)]);
}

async fn concurrent_reaction_and_deletion_leave_no_reaction(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.open_conversation().await;
    for _ in 0..10 {
        let message = harness.send(id, "ann", "gone soon").await;
        let users: Vec<String> = (0..10).map(|n| format!("user {n}")).collect();
        let all = join_all(
            users
                .iter()
                .map(|user| harness.react(&message, user, HEART)),
        );
        let (changes, deleted) = tokio::join!(all, harness.delete(&message));
        assert!(deleted.reactions.is_empty());
        for change in changes {
            assert!(
                matches!(change, Change::Done(_) | Change::Absent),
                "{change:?}"
            );
        }
        assert!(harness.read(&message, "ann").await.reactions.is_empty());
    }
}

async fn only_members_react_and_only_to_existing_messages(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let message = harness.send(id, "ann", "private").await;
    assert_eq!(harness.react(&message, "eve", HEART).await, Change::Absent);
    let mut by = actor("eve");
    by.is_admin = true;
    let mut annotate = annotation(&message, "eve", Annotation::React(HEART.into()));
    annotate.by = by;
    let admins = harness.store.annotate(annotate, Origin::default());
    assert_eq!(admins.await.unwrap(), Change::Absent, "who is no member");
    let mut unknown = Message::clone(&message);
    unknown.id = Uuid::now_v7();
    assert_eq!(harness.react(&unknown, "ann", HEART).await, Change::Absent);
    assert_eq!(
        harness.annotate(&unknown, "ann", Annotation::Pin).await,
        Change::Absent
    );
    assert!(harness.read(&message, "ann").await.reactions.is_empty());
    assert!(
        harness
            .store
            .opening(id, Some("eve"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        harness
            .store
            .opening(Uuid::new_v4(), None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !harness
            .store
            .set_level(id, "eve", Level::None)
            .await
            .unwrap()
    );
}

async fn only_the_owner_pins_and_pins_are_bounded(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann", "bob"]).await;
    let long = "x\u{1F600}".repeat(300);
    let first = harness.send(id, "bob", &long).await;
    assert_eq!(
        harness.annotate(&first, "bob", Annotation::Pin).await,
        Change::Denied
    );
    assert_eq!(
        harness.annotate(&first, "eve", Annotation::Pin).await,
        Change::Absent
    );
    assert_eq!(store.pinned(first.id).await.unwrap(), None);
    let pinned = harness.annotate(&first, "ann", Annotation::Pin).await;
    let Change::Done(pinned) = pinned else {
        panic!("{pinned:?}");
    };
    let again = harness.annotate(&first, "ann", Annotation::Pin).await;
    assert_eq!(again, Change::Unchanged(Arc::clone(&pinned)));
    let opening = store.opening(id, Some("bob")).await.unwrap().unwrap();
    let Annotated::Pinned(pinned) = &*pinned else {
        panic!("{pinned:?}");
    };
    assert_eq!(opening.pins, std::slice::from_ref(&pinned.pin));
    let by = Some(("ann".to_owned(), pinned.pin.pinned_at));
    assert_eq!(store.pinned(first.id).await.unwrap(), by);
    let quote = &opening.pins[0].message;
    assert_eq!(quote.excerpt, "x\u{1F600}".repeat(100), "200 characters");
    assert_eq!((quote.seq, &*quote.user_id), (1, "bob"));

    harness.edit(&first, "short").await;
    for n in 2..=50 {
        let message = harness.send(id, "ann", &n.to_string()).await;
        harness.annotate(&message, "ann", Annotation::Pin).await;
    }
    let last = harness.send(id, "ann", "one more").await;
    assert_eq!(
        harness.annotate(&last, "ann", Annotation::Pin).await,
        Change::Conflict
    );
    let opening = store.opening(id, Some("bob")).await.unwrap().unwrap();
    let seqs: Vec<u64> = opening.pins.iter().map(|pin| pin.message.seq).collect();
    assert_eq!(seqs, (1..=50).rev().collect::<Vec<_>>(), "the newest first");
    assert_eq!(opening.pins[49].message.excerpt, "short", "as it is now");

    assert_eq!(
        harness.annotate(&first, "bob", Annotation::Unpin).await,
        Change::Denied
    );
    let unpinned = harness.annotate(&first, "ann", Annotation::Unpin).await;
    assert!(matches!(unpinned, Change::Done(_)), "{unpinned:?}");
    assert_eq!(store.pinned(first.id).await.unwrap(), None);
    let again = harness.annotate(&first, "ann", Annotation::Unpin).await;
    assert!(matches!(again, Change::Unchanged(_)), "{again:?}");
    harness.annotate(&last, "ann", Annotation::Pin).await;
    harness.delete(&last).await;
    let opening = store.opening(id, None).await.unwrap().unwrap();
    assert_eq!(opening.pins.len(), 49);
    assert_eq!(
        harness.annotate(&last, "ann", Annotation::Pin).await,
        Change::Absent
    );
}

async fn page_is_shortened_if_reactions_make_it_too_large(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.open_conversation().await;
    let user = |n: u32| format!("{n:02} {}", "u".repeat(120));
    let mut sent = Vec::new();
    for n in 0..50 {
        sent.push(
            harness
                .send(id, "ann", &format!("{n} {}", "x".repeat(9_000)))
                .await,
        );
    }
    for message in &sent {
        let reacts = (0..20).map(|n| {
            let (user, harness) = (user(n / 10), &harness);
            async move { harness_react(harness, message, &user, n).await }
        });
        join_all(reacts).await;
    }
    let store = &harness.store;
    for (page, first) in [(Page::Newest, None), (Page::After(0), Some(1))] {
        let read = store.messages(id, "ann", page, 200).await.unwrap().unwrap();
        assert!(read.has_more, "{page:?}");
        let bytes = serde_json::to_string(&read.messages).unwrap().len();
        assert!(
            bytes <= 513 * 1024 && bytes > 480 * 1024,
            "{bytes} of {page:?}"
        );
        let seqs: Vec<u64> = read.messages.iter().map(|message| message.seq).collect();
        let first = first.unwrap_or(51 - seqs.len() as u64);
        let expected: Vec<u64> = (first..first + seqs.len() as u64).collect();
        assert_eq!(seqs, expected, "{page:?}");
    }
}

async fn harness_react(harness: &Harness, message: &Message, user: &str, n: u32) {
    let change = harness.react(message, user, &emoji(n)).await;
    assert!(matches!(change, Change::Done(_)), "{change:?}");
}

async fn removed_message_loses_its_reactions_and_pins(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann", "bob"]).await;
    let original = harness.send(id, "ann", "old").await;
    harness.react(&original, "bob", HEART).await;
    harness.annotate(&original, "ann", Annotation::Pin).await;
    let answer = harness.stored(reply(&original, "bob", "reply")).await;
    let before = answer.created_at;
    // Everything before the reply; both may have the same millisecond.
    let removed = store.expire(before, 100).await.unwrap();
    let opening = store.opening(id, None).await.unwrap().unwrap();
    assert_eq!(opening.pins.is_empty(), removed == 1);
    let now = harness.read(&answer, "bob").await;
    assert_eq!(now.reply_to.is_none(), removed == 1);
    store
        .expire(before.after(std::time::Duration::from_secs(1)), 100)
        .await
        .unwrap();
    let opening = store.opening(id, None).await.unwrap().unwrap();
    assert!(opening.pins.is_empty());
    assert_eq!(harness.react(&original, "bob", HEART).await, Change::Absent);
}

fn reply(to: &Message, user: &str, content: &str) -> NewMessage {
    NewMessage {
        reply_to: Some(to.id),
        ..text(to.conversation_id, user, content)
    }
}
