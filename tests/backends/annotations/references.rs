//! References of a message to other messages and users: replies, mentions and their notifications.

use super::*;

on_every_backend! {
    a_reply_shows_its_original_as_it_is_now,
    reply_to_missing_message_is_refused_and_not_stored,
    mentioned_user_is_notified_once_and_only_if_message_is_stored,
    commit_lists_notifications_stored_for_mentioned_users,
    only_users_who_want_notifications_get_them,
}

async fn a_reply_shows_its_original_as_it_is_now(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let long = "\u{e4}".repeat(500);
    let original = harness.send(id, "ann", &long).await;
    let answer = harness.stored(reply(&original, "bob", "yes")).await;
    let quote = answer.reply_to.clone().unwrap();
    assert_eq!(quote.excerpt, "\u{e4}".repeat(200));
    let of = (quote.id, quote.seq, &*quote.user_id, &*quote.user_name);
    assert_eq!(of, (original.id, 1, "ann", "ann's name"));
    assert_eq!(harness.read(&answer, "bob").await.reply_to, Some(quote));
    assert_eq!(harness.emitted.lock().unwrap()[1].reply_to, answer.reply_to);

    let edited = harness.edit(&original, "short").await;
    let now = harness.read(&answer, "bob").await.reply_to.clone().unwrap();
    assert_eq!((&*now.excerpt, now.edited_at), ("short", edited.edited_at));
    // The user who edits the reply receives the same excerpt.
    let changed = harness.edit(&answer, "no").await;
    assert_eq!(changed.reply_to, Some(now));
    let deleted = harness.delete(&original).await;
    let now = harness.read(&answer, "bob").await.reply_to.clone().unwrap();
    assert_eq!((&*now.excerpt, now.deleted_at), ("", deleted.deleted_at));
    // A repeated message is answered with the original as it is now.
    let message = harness.send(id, "ann", "again").await;
    let twice = NewMessage {
        reply_to: Some(message.id),
        ..retriable(id, "bob", "twice")
    };
    harness.stored(twice.clone()).await;
    harness.delete(&message).await;
    let Insert::Repeated(again) = harness.insert(twice).await else {
        panic!("stored twice");
    };
    assert!(again.reply_to.as_ref().unwrap().deleted_at.is_some());
}

async fn reply_to_missing_message_is_refused_and_not_stored(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let elsewhere = harness.conversation(&["ann"]).await;
    let foreign = harness.send(elsewhere, "ann", "elsewhere").await;
    let deleted = harness.send(id, "ann", "deleted").await;
    harness.delete(&deleted).await;
    for to in [foreign.id, deleted.id, Uuid::now_v7()] {
        let new = NewMessage {
            reply_to: Some(to),
            ..text(id, "ann", "to nothing")
        };
        let refused = harness.insert(new).await;
        assert!(matches!(refused, Insert::NoOriginal), "{refused:?}");
    }
    let next = harness.send(id, "ann", "next").await;
    assert_eq!(next.seq, 2);
    assert_eq!(
        harness
            .store
            .conversation(id)
            .await
            .unwrap()
            .unwrap()
            .last_seq,
        2
    );
}

/// Makes a message with mentions that appends a notification to the journal of each user.
fn mentioning(message: NewMessage, users: &[&str]) -> NewMessage {
    let notice = Notice::new(|message, user| Append {
        journal: format!("test:{user}"),
        key: message.id.to_string(),
        body: format!("{} {}", message.seq, message.content),
        category: None,
        is_open: true,
        if_open: IfOpen::Refuse,
        needs_open: false,
        created_at: message.created_at,
        expires_at: None,
        most_open: 3,
        quota: Quota::All,
    });
    NewMessage {
        mentions: users.iter().map(|&user| user.into()).collect(),
        notice: Some(notice),
        ..message
    }
}

async fn mentioned_user_is_notified_once_and_only_if_message_is_stored(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob", "carl"]).await;
    let all = ["carl", "ann", "bob"];
    let new = mentioning(retriable(id, "ann", "once"), &all);
    let message = harness.stored(new.clone()).await;
    assert_eq!(message.mentions, all, "as it was sent");
    assert_eq!(harness.read(&message, "bob").await.mentions, all);
    let Insert::Repeated(again) = harness.insert(new).await else {
        panic!("stored twice");
    };
    assert_eq!(again.mentions, all);
    let body = format!("1 {}", message.content);
    let expected = [body];
    assert_eq!(harness.notifications("bob").await, expected);
    assert_eq!(harness.notifications("carl").await, expected);
    assert!(
        harness.notifications("ann").await.is_empty(),
        "who has written it"
    );

    let refused = harness
        .insert(mentioning(text(id, "ann", "x"), &["bob", "eve"]))
        .await;
    assert!(matches!(refused, Insert::NoMember(1)), "{refused:?}");
    assert_eq!(harness.notifications("bob").await.len(), 1);
    assert!(harness.notifications("eve").await.is_empty());
    let edited = harness.edit(&message, "other words").await;
    assert_eq!(edited.mentions, all);
    // A user with the maximum number of entries gets no more, and the message is stored.
    for _ in 0..4 {
        harness
            .stored(mentioning(text(id, "ann", "again"), &["bob"]))
            .await;
    }
    assert_eq!(harness.notifications("bob").await.len(), 3);
    // Many messages at the same time, for the same users in different orders.
    let sends = (0..40).map(|n| {
        let users: &[&str] = if n % 2 == 0 {
            &["bob", "carl"]
        } else {
            &["carl", "bob"]
        };
        harness.stored(mentioning(text(id, "ann", "at once"), users))
    });
    assert_eq!(join_all(sends).await.len(), 40);
}

async fn commit_lists_notifications_stored_for_mentioned_users(backend: Backend) {
    let (harness, mut commits) = Harness::undrained(backend).await;
    let id = harness.conversation(&["ann", "bob", "carl", "dan"]).await;
    let silenced = harness.store.set_level(id, "bob", Level::None).await;
    assert!(silenced.unwrap());
    let new = mentioning(retriable(id, "ann", "once"), &["dan", "carl", "bob"]);
    let stored = [("test:carl", 1), ("test:dan", 1)];
    // A repeated message stores nothing.
    for expected in [stored.as_slice(), &[]] {
        let emitting = async {
            let commit = commits.next().await.unwrap();
            let notified = commit.notified().iter();
            let notified: Vec<_> = notified
                .map(|(journal, entry)| (journal.clone(), entry.revision))
                .collect();
            commit.resolve();
            notified
        };
        let (_, notified) = tokio::join!(harness.insert(new.clone()), emitting);
        let notified: Vec<_> = notified.iter().map(|(name, n)| (&**name, *n)).collect();
        assert_eq!(notified, expected);
    }
}

async fn only_users_who_want_notifications_get_them(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let id = harness.conversation(&["ann", "bob", "carl", "dan"]).await;
    assert!(store.set_level(id, "bob", Level::None).await.unwrap());
    assert!(store.set_level(id, "carl", Level::Mentions).await.unwrap());
    harness
        .stored(mentioning(text(id, "ann", "one"), &["bob", "carl", "dan"]))
        .await;
    for (user, level, count) in [
        ("ann", Level::All, 0),
        ("bob", Level::None, 0),
        ("carl", Level::Mentions, 1),
        ("dan", Level::All, 1),
    ] {
        assert_eq!(harness.notifications(user).await.len(), count, "{user}");
        let opening = store.opening(id, Some(user)).await.unwrap().unwrap();
        assert_eq!(opening.notification_level, level, "{user}");
        let list = store.conversations(user, None, 9).await.unwrap();
        let one = list
            .conversations
            .iter()
            .find(|one| one.conversation.id == id);
        assert_eq!(one.unwrap().notification_level, level, "{user}");
    }
    assert!(store.set_level(id, "bob", Level::All).await.unwrap());
    harness
        .stored(mentioning(text(id, "ann", "two"), &["bob"]))
        .await;
    assert_eq!(harness.notifications("bob").await, ["2 two"]);
}
