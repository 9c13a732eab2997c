//! Quotas of journals: which open entries count and which are dropped, on every store.

use std::time::Duration;

use roomcast_server::store::{Append, Appended, IfOpen, Quota, Time};
use tokio::task::JoinSet;

use crate::harness::{Backend, Harness, on_every_backend};
use crate::journals::{closed, entry, open, stored};

on_every_backend! {
    quota_without_prefix_counts_only_keys_that_lack_it,
    dropping_quota_closes_oldest_and_stores_the_new_entry,
    concurrent_droppers_keep_their_quota,
    category_over_its_share_leaves_the_rest_to_others,
    entries_of_many_journals_are_appended_together,
}

const PREFIX: &str = "mention:";

fn without(key: &str, most_open: u32) -> Append {
    Append {
        if_open: IfOpen::Refuse,
        most_open,
        quota: Quota::Without(PREFIX),
        ..entry("j", key, key)
    }
}

fn dropping(key: &str, most_open: u32) -> Append {
    Append {
        if_open: IfOpen::Refuse,
        category: Some("c".into()),
        most_open,
        quota: Quota::Dropping {
            prefix: PREFIX,
            body: "dropped".into(),
            expires_at: Time::now().after(Duration::from_secs(3600)),
        },
        ..entry("j", key, key)
    }
}

async fn quota_without_prefix_counts_only_keys_that_lack_it(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..5 {
        stored(store, dropping(&format!("mention:{n}"), 9)).await;
    }
    for key in ["a", "mention", "b"] {
        stored(store, without(key, 3)).await;
    }
    assert_eq!(store.append(without("c", 3)).await.unwrap(), Appended::Full);
    // A higher limit is a reserve for callers that are allowed to use it.
    stored(store, without("urgent", 4)).await;
    assert_eq!(store.append(without("c", 4)).await.unwrap(), Appended::Full);
    let known = store.append(without("a", 3)).await.unwrap();
    assert!(matches!(known, Appended::There(_)), "{known:?}");
    // Neither closed entries count, nor expired ones that are still stored.
    stored(store, closed("j", "a", "x")).await;
    stored(store, closed("j", "b", "x")).await;
    let over = Append {
        expires_at: Some(Time::now().before(Duration::from_secs(1))),
        ..without("over", 3)
    };
    stored(store, over).await;
    stored(store, without("c", 3)).await;
    assert_eq!(store.append(without("d", 3)).await.unwrap(), Appended::Full);
}

async fn dropping_quota_closes_oldest_and_stores_the_new_entry(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..3 {
        stored(store, without(&format!("n{n}"), 3)).await;
    }
    for n in 0..5 {
        let entry = stored(store, dropping(&format!("mention:{n}"), 2)).await;
        assert_eq!(entry.category.as_deref(), Some("c"));
    }
    let expected = ["n0", "n1", "n2", "mention:3", "mention:4"];
    assert_eq!(open(store).await, expected);
    let dropped = store.journal_entry("j", "mention:2").await.unwrap();
    let dropped = dropped.unwrap();
    assert_eq!((&*dropped.body, dropped.is_open), ("dropped", false));
    assert!(dropped.expires_at.is_some());
    // A follower receives each removal before the entry that caused it.
    let after = store.journal_after("j", 0, u64::MAX, 100).await.unwrap();
    let order = after.iter().map(|entry| (entry.revision, &*entry.key));
    let expected_order = [
        (6, "mention:0"),
        (8, "mention:1"),
        (9, "mention:3"),
        (10, "mention:2"),
        (11, "mention:4"),
    ];
    assert_eq!(order.skip(3).collect::<Vec<_>>(), expected_order);
    // A known entry drops nothing, and a lower limit drops several.
    let known = store.append(dropping("mention:4", 1)).await.unwrap();
    assert!(matches!(known, Appended::There(_)), "{known:?}");
    assert_eq!(open(store).await, expected);
    stored(store, dropping("mention:5", 1)).await;
    assert_eq!(open(store).await, ["n0", "n1", "n2", "mention:5"]);
}

async fn concurrent_droppers_keep_their_quota(backend: Backend) {
    let harness = Harness::new(backend).await;
    let mut appending = JoinSet::new();
    for n in 0..24 {
        let store = harness.store.clone();
        appending.spawn(async move {
            stored(&store, dropping(&format!("mention:{n}"), 4)).await;
            store.append(without(&format!("n{n}"), 4)).await.unwrap()
        });
    }
    let sent = appending.join_all().await;
    let stored = sent.iter().filter(|one| matches!(one, Appended::Stored(_)));
    assert_eq!(stored.count(), 4);
    let open = open(&harness.store).await;
    let mentions = open.iter().filter(|key| key.starts_with(PREFIX));
    assert_eq!((open.len(), mentions.count()), (8, 4), "{open:?}");
}

async fn category_over_its_share_leaves_the_rest_to_others(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let of = |user: &str, key: &str| Append {
        if_open: IfOpen::Refuse,
        category: Some(user.into()),
        most_open: 5,
        quota: Quota::Share(3),
        ..entry("j", key, key)
    };
    // Neither closed entries count, nor expired ones, nor those of another journal.
    stored(store, of("ann", "closed")).await;
    stored(store, closed("j", "closed", "x")).await;
    let expired = Append {
        expires_at: Some(Time::now().before(Duration::from_secs(1))),
        ..of("ann", "expired")
    };
    stored(store, expired).await;
    let elsewhere = Append {
        journal: "other".into(),
        ..of("ann", "elsewhere")
    };
    stored(store, elsewhere).await;
    for key in ["a1", "a2", "a3"] {
        stored(store, of("ann", key)).await;
    }
    let over = store.append(of("ann", "a4")).await.unwrap();
    assert_eq!(over, Appended::Full);
    // A known entry is returned and may change, although the share is full.
    let known = store.append(of("ann", "a1")).await.unwrap();
    assert!(matches!(known, Appended::There(_)), "{known:?}");
    let changed = Append {
        if_open: IfOpen::Remove,
        ..of("ann", "a1")
    };
    stored(store, changed).await;
    for key in ["b1", "b2"] {
        stored(store, of("bob", key)).await;
    }
    // The share of bob is not full, but the journal is.
    let over = store.append(of("bob", "b3")).await.unwrap();
    assert_eq!(over, Appended::Full);
    stored(store, closed("j", "a2", "x")).await;
    stored(store, of("ann", "a4")).await;
}

async fn entries_of_many_journals_are_appended_together(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let of = |journal: &str, key: &str| Append {
        journal: journal.into(),
        ..without(key, 2)
    };
    stored(store, of("b", "1")).await;
    let together = vec![
        of("a", "x"),
        of("b", "1"),
        of("b", "2"),
        of("b", "3"),
        closed("c", "x", "y"),
        Append {
            needs_open: true,
            ..closed("d", "x", "y")
        },
    ];
    let appended = store.append_all(together).await.unwrap();
    let outcomes = appended.iter().map(|one| match one {
        Appended::Stored(entry) => format!("stored {} {}", entry.revision, entry.key),
        Appended::There(entry) => format!("there {} {}", entry.revision, entry.key),
        Appended::Absent => "absent".into(),
        Appended::Full => "full".into(),
    });
    let expected = [
        "stored 1 x",
        "there 1 1",
        "stored 2 2",
        "full",
        "stored 1 x",
        "absent",
    ];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
    assert!(store.append_all(Vec::new()).await.unwrap().is_empty());
}
