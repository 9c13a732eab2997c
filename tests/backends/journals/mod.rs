//! Journals, the entries that services publish, on every store.

mod expiry;
mod views;

use std::time::{Duration, Instant};

use roomcast_server::store::{
    Append, Appended, Current, Entry, IfOpen, JournalView, Quota, Replace, Store, Stretch, Time,
};
use tokio::task::JoinSet;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    entries_are_numbered_and_the_last_of_a_key_is_current,
    a_closed_entry_is_final,
    a_stretch_ends_with_the_entry_that_exceeds_its_bytes,
    an_open_entry_is_replaced_kept_or_stays,
    an_open_entry_with_a_later_time_stays,
    latest_of_concurrent_values_is_kept,
    one_of_concurrent_closes_of_an_entry_succeeds,
    concurrent_appends_get_distinct_revisions,
    a_list_of_closed_entries_is_stored_once_and_in_order,
    concurrent_lists_get_distinct_revisions,
    there_are_no_more_open_entries_than_may_be,
    entries_are_replaced_together_and_there_are_no_more_than_may_be,
    many_new_entries_are_replaced_without_counting_for_each,
}

pub(crate) fn entry(journal: &str, key: &str, body: &str) -> Append {
    Append {
        journal: journal.into(),
        key: key.into(),
        body: body.into(),
        category: None,
        is_open: true,
        if_open: IfOpen::Remove,
        needs_open: false,
        created_at: Time::now(),
        expires_at: None,
        most_open: 100,
        quota: Quota::All,
    }
}

pub(crate) fn closed(journal: &str, key: &str, body: &str) -> Append {
    Append {
        is_open: false,
        ..entry(journal, key, body)
    }
}

pub(crate) async fn stored(store: &Store, append: Append) -> Entry {
    match store.append(append).await.unwrap() {
        Appended::Stored(entry) => entry,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn view(store: &Store, journal: &str) -> JournalView {
    store.journal(all(journal)).await.unwrap()
}

fn all(journal: &str) -> Current<'_> {
    Current {
        journal,
        category: None,
        open: 100,
        newest: 100,
        is_closed: false,
        with_withdrawn: false,
        before: None,
        now: Time::now(),
    }
}

/// Returns revision and body of each entry.
fn bodies(entries: &[Entry]) -> Vec<(u64, &str)> {
    let entries = entries.iter();
    entries
        .map(|entry| (entry.revision, entry.body.as_str()))
        .collect()
}

async fn entries_are_numbered_and_the_last_of_a_key_is_current(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    assert_eq!(view(store, "j").await, JournalView::default());
    let one = stored(store, entry("j", "a", "1")).await;
    assert_eq!((one.revision, one.is_open), (1, true));
    stored(store, entry("j", "b", "2")).await;
    stored(store, entry("other", "a", "x")).await;
    stored(store, entry("j", "a", "3")).await;
    let seen = view(store, "j").await;
    assert_eq!(seen.revision, 3);
    assert_eq!(bodies(&seen.entries), [(2, "2"), (3, "3")]);
    let current = store.journal_entry("j", "a").await.unwrap().unwrap();
    assert_eq!((current.revision, &*current.key), (3, "a"));
    assert_eq!(store.journal_entry("j", "c").await.unwrap(), None);
    let after = async |after, through, limit| {
        store
            .journal_after("j", after, through, limit)
            .await
            .unwrap()
    };
    assert_eq!(bodies(&after(0, u64::MAX, 10).await), [(2, "2"), (3, "3")]);
    assert_eq!(bodies(&after(0, u64::MAX, 1).await), [(2, "2")]);
    assert_eq!(bodies(&after(0, 2, 10).await), [(2, "2")]);
    assert!(after(3, u64::MAX, 10).await.is_empty());
    assert!(after(u64::MAX, u64::MAX, 10).await.is_empty());
    let revision = async |journal| store.journal_revision(journal).await.unwrap();
    assert_eq!(
        [
            revision("j").await,
            revision("other").await,
            revision("none").await
        ],
        [3, 1, 0]
    );
}

async fn a_stretch_ends_with_the_entry_that_exceeds_its_bytes(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let now = Time::now();
    for n in 1..=6 {
        let mut append = closed("j", &n.to_string(), "\"ü345678\"");
        append.expires_at = (n == 2).then_some(now);
        stored(store, append).await;
    }
    let stretch = Stretch {
        journal: "j",
        after: 1,
        through: 5,
        is_newest: false,
        limit: 9,
        bytes: 1000,
        unexpired_at: None,
    };
    let revisions = async |stretch| -> Vec<u64> {
        let entries = store.journal_stretch(stretch).await.unwrap();
        entries.iter().map(|entry| entry.revision).collect()
    };
    assert_eq!(revisions(stretch).await, [2, 3, 4, 5]);
    let newest = Stretch {
        is_newest: true,
        limit: 3,
        unexpired_at: Some(now),
        ..stretch
    };
    assert_eq!(revisions(newest).await, [3, 4, 5]);
    // A body has 10 bytes.
    for (bytes, oldest_first, newest_first) in [
        (0, vec![2], vec![5]),
        (9, vec![2], vec![5]),
        (10, vec![2, 3], vec![4, 5]),
        (20, vec![2, 3, 4], vec![3, 4, 5]),
    ] {
        assert_eq!(revisions(Stretch { bytes, ..stretch }).await, oldest_first);
        assert_eq!(revisions(Stretch { bytes, ..newest }).await, newest_first);
    }
}

async fn a_closed_entry_is_final(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    stored(store, entry("j", "a", "1")).await;
    let last = stored(store, closed("j", "a", "2")).await;
    for again in [entry("j", "a", "3"), closed("j", "a", "2")] {
        let answer = store.append(again).await.unwrap();
        assert_eq!(answer, Appended::There(last.clone()));
    }
    let needs_open = Append {
        needs_open: true,
        ..closed("j", "b", "3")
    };
    assert_eq!(
        store.append(needs_open.clone()).await.unwrap(),
        Appended::Absent
    );
    assert_eq!(view(store, "j").await.revision, 2, "nothing was appended");
    stored(store, entry("j", "b", "2")).await;
    stored(store, needs_open).await;
}

async fn an_open_entry_is_replaced_kept_or_stays(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    stored(store, entry("j", "a", "1")).await;
    stored(store, entry("j", "a", "2")).await;
    let keeping = Append {
        if_open: IfOpen::Keep,
        ..entry("j", "a", "3")
    };
    let third = stored(store, keeping).await;
    let refusing = Append {
        if_open: IfOpen::Refuse,
        ..entry("j", "a", "4")
    };
    assert_eq!(
        store.append(refusing).await.unwrap(),
        Appended::There(third)
    );
    let history = store.journal_after("j", 0, u64::MAX, 10).await.unwrap();
    assert_eq!(bodies(&history), [(2, "2"), (3, "3")]);
    assert_eq!(bodies(&view(store, "j").await.entries), [(3, "3")]);
}

/// Returns an open entry whose body has a time.
fn dated(if_open: IfOpen, second: usize, value: usize) -> Append {
    let body = format!(r#"{{"value":{value},"timestamp":"2026-01-31T12:00:{second:02}.000Z"}}"#);
    Append {
        if_open,
        ..entry("j", "a", &body)
    }
}

async fn an_open_entry_with_a_later_time_stays(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for if_open in [IfOpen::RemoveOlder, IfOpen::KeepOlder] {
        let newer = stored(store, dated(if_open, 10, 1)).await;
        for again in [dated(if_open, 9, 2), dated(if_open, 0, 3)] {
            let answer = store.append(again.clone()).await.unwrap();
            assert_eq!(answer, Appended::There(newer.clone()));
            let answers = store.append_all(vec![again]).await.unwrap();
            assert_eq!(answers, [Appended::There(newer.clone())]);
        }
        // Of two entries with the same time, the later call wins.
        let same = stored(store, dated(if_open, 10, 4)).await;
        assert_eq!(same.revision, newer.revision + 1);
        let before = store.journal_after("j", newer.revision - 1, newer.revision, 1);
        let is_kept = !before.await.unwrap().is_empty();
        assert_eq!(is_kept, if_open == IfOpen::KeepOlder);
        // Without the comparison, or without a time to compare, the later call wins.
        stored(store, dated(IfOpen::Remove, 1, 5)).await;
        stored(
            store,
            Append {
                if_open,
                ..entry("j", "a", r#"{"timestamp":null}"#)
            },
        )
        .await;
        stored(store, dated(if_open, 0, 6)).await;
        stored(
            store,
            Append {
                if_open,
                ..entry("j", "a", "{}")
            },
        )
        .await;
    }
    // A closed entry is final. An entry may close one of a later time if the caller asks for it.
    stored(store, dated(IfOpen::KeepOlder, 10, 7)).await;
    let last = Append {
        is_open: false,
        ..dated(IfOpen::Keep, 1, 8)
    };
    let last = stored(store, last).await;
    let answer = store.append(dated(IfOpen::KeepOlder, 11, 9)).await.unwrap();
    assert_eq!(answer, Appended::There(last));
}

async fn latest_of_concurrent_values_is_kept(backend: Backend) {
    const VALUES: usize = 50;
    let harness = Harness::new(backend).await;
    let store = harness.store.clone();
    let mut appending = JoinSet::new();
    for n in 0..VALUES {
        let store = store.clone();
        let second = n * 7 % VALUES;
        appending.spawn(async move {
            store
                .append(dated(IfOpen::KeepOlder, second, second))
                .await
                .unwrap()
        });
    }
    for answer in appending.join_all().await {
        assert!(matches!(answer, Appended::Stored(_) | Appended::There(_)));
    }
    let entries = store.journal_after("j", 0, u64::MAX, 100).await.unwrap();
    let bodies = entries.iter().map(|entry| entry.body.clone());
    let mut sorted: Vec<_> = bodies.clone().collect();
    sorted.sort_by_key(|body| body.split("timestamp").nth(1).map(str::to_owned));
    assert_eq!(
        bodies.collect::<Vec<_>>(),
        sorted,
        "the values never go back"
    );
    let current = store.journal_entry("j", "a").await.unwrap().unwrap();
    assert_eq!(
        current.body,
        dated(IfOpen::KeepOlder, VALUES - 1, VALUES - 1).body
    );
}

async fn one_of_concurrent_closes_of_an_entry_succeeds(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = harness.store.clone();
    stored(&store, entry("j", "a", "open")).await;
    let mut closing = JoinSet::new();
    for n in 0..16 {
        let store = store.clone();
        closing.spawn(async move {
            let append = Append {
                needs_open: true,
                ..closed("j", "a", &n.to_string())
            };
            store.append(append).await.unwrap()
        });
    }
    let answers = closing.join_all().await;
    let first = store.journal_entry("j", "a").await.unwrap().unwrap();
    let winners = answers
        .iter()
        .filter(|answer| matches!(answer, Appended::Stored(_)));
    assert_eq!(winners.count(), 1);
    for answer in &answers {
        let (Appended::Stored(seen) | Appended::There(seen)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(*seen, first);
    }
}

async fn concurrent_appends_get_distinct_revisions(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = harness.store.clone();
    let mut appending = JoinSet::new();
    for n in 0..4 {
        let store = store.clone();
        appending.spawn(async move {
            let mut last = 0;
            for m in 0..25 {
                let one = stored(&store, closed("j", &format!("{n}.{m}"), "x")).await;
                assert!(one.revision > last);
                last = one.revision;
            }
        });
    }
    appending.join_all().await;
    let entries = store.journal_after("j", 0, u64::MAX, 1000).await.unwrap();
    let revisions: Vec<u64> = entries.iter().map(|entry| entry.revision).collect();
    assert_eq!(revisions, (1..=100).collect::<Vec<_>>());
}

async fn a_list_of_closed_entries_is_stored_once_and_in_order(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let append = |journal: &str, key: &str| Append {
        category: (key != "b").then(|| "kind".into()),
        expires_at: (key != "c").then(|| Time::now().after(Duration::from_secs(60))),
        ..closed(journal, key, &format!("\"{journal} {key}\""))
    };
    let outcomes = async |list: &[(&str, &str)]| {
        let list = list.iter().map(|(journal, key)| append(journal, key));
        let appended = store.append_all(list.collect()).await.unwrap();
        let outcome = |one| match one {
            Appended::Stored(entry) => (true, entry),
            Appended::There(entry) => (false, entry),
            other => panic!("{other:?}"),
        };
        appended.into_iter().map(outcome).collect::<Vec<_>>()
    };
    let numbers = |outcomes: &[(bool, Entry)]| -> Vec<_> {
        let outcomes = outcomes.iter();
        outcomes
            .map(|(is_new, entry)| (*is_new, entry.revision))
            .collect()
    };
    let first = outcomes(&[("j", "c"), ("j", "a"), ("j", "b"), ("k", "a")]).await;
    assert_eq!(
        numbers(&first),
        [(true, 1), (true, 2), (true, 3), (true, 1)]
    );
    let entries: Vec<_> = first.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(view(store, "j").await.entries, entries[..3]);
    assert_eq!(view(store, "k").await.entries, entries[3..]);

    let repeated = outcomes(&[("j", "d"), ("j", "a"), ("k", "b")]).await;
    assert_eq!(numbers(&repeated), [(true, 4), (false, 2), (true, 2)]);
    assert_eq!(repeated[1].1, entries[1]);
    let twice = outcomes(&[("new", "a"), ("new", "a"), ("new", "b")]).await;
    assert_eq!(numbers(&twice), [(true, 1), (false, 1), (true, 2)]);
}

async fn concurrent_lists_get_distinct_revisions(backend: Backend) {
    let harness = Harness::new(backend).await;
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = harness.store.clone();
        tasks.spawn(async move {
            for n in 0..10 {
                // Each task has keys of its own, and all have one in common.
                let own = format!("{task} {n}");
                let list = ["j", "k"].map(|journal| {
                    [
                        closed(journal, &own, "1"),
                        closed(journal, &n.to_string(), "1"),
                    ]
                });
                store.append_all(list.concat()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for journal in ["j", "k"] {
        let seen = view(&harness.store, journal).await;
        let revisions: Vec<_> = seen.entries.iter().map(|entry| entry.revision).collect();
        assert_eq!(revisions, Vec::from_iter(1..=90), "{journal}");
        assert_eq!(seen.revision, 90, "{journal}");
    }
}

async fn there_are_no_more_open_entries_than_may_be(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let few = |key: &str| Append {
        most_open: 2,
        ..entry("j", key, "x")
    };
    stored(store, few("a")).await;
    stored(store, few("b")).await;
    assert_eq!(store.append(few("c")).await.unwrap(), Appended::Full);
    // A key that exists replaces its own entry, and a closed entry needs no place.
    stored(store, few("b")).await;
    stored(store, closed("j", "d", "x")).await;
    stored(store, closed("j", "a", "x")).await;
    stored(store, few("c")).await;
    let over = Append {
        expires_at: Some(Time::now().before(Duration::from_secs(1))),
        ..few("b")
    };
    stored(store, over).await;
    stored(store, few("e")).await;
}

/// Returns the keys of open entries.
pub(crate) async fn open(store: &Store) -> Vec<String> {
    let view = view(store, "j").await;
    let open = view.entries.into_iter().filter(|entry| entry.is_open);
    open.map(|entry| entry.key).collect()
}

async fn entries_are_replaced_together_and_there_are_no_more_than_may_be(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let replace = async |entries: &[(&str, &str)]| {
        let entries = entries.iter();
        let replace = Replace {
            journal: "prices".into(),
            entries: entries
                .map(|(key, body)| ((*key).into(), (*body).into()))
                .collect(),
            created_at: Time::now(),
            most_open: 2,
        };
        store.replace(replace).await.unwrap()
    };
    assert_eq!(replace(&[]).await, []);
    assert_eq!(view(store, "prices").await, JournalView::default());
    assert_eq!(
        replace(&[("a", "1"), ("b", "2"), ("a", "3")]).await,
        [Some(1), Some(2), Some(3)]
    );
    assert_eq!(
        replace(&[("c", "4"), ("b", "5")]).await,
        [None, Some(4)],
        "there is no room for another key"
    );
    let seen = view(store, "prices").await;
    assert_eq!(
        (seen.revision, bodies(&seen.entries)),
        (4, vec![(3, "3"), (4, "5")])
    );
    let after = store
        .journal_after("prices", 3, u64::MAX, 10)
        .await
        .unwrap();
    assert_eq!(bodies(&after), [(4, "5")]);
}

async fn many_new_entries_are_replaced_without_counting_for_each(backend: Backend) {
    const ALL: u64 = 10_000;
    let store = &Harness::new(backend).await.store;
    let begin = Instant::now();
    for first in (0..ALL).step_by(1000) {
        let replace = Replace {
            journal: "prices".into(),
            entries: (first..first + 1000)
                .map(|n| (n.to_string(), "{}".into()))
                .collect(),
            created_at: Time::now(),
            most_open: u32::try_from(ALL).unwrap(),
        };
        let revisions = store.replace(replace).await.unwrap();
        assert!(
            revisions
                .into_iter()
                .eq((first + 1..=first + 1000).map(Some))
        );
    }
    // A count for each new entry took minutes; a busy machine may well take seconds.
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
    let keys = ["new", "7", "7", "newer"];
    let replace = Replace {
        journal: "prices".into(),
        entries: keys.map(|key| (key.into(), "[]".into())).into(),
        created_at: Time::now(),
        most_open: u32::try_from(ALL + 1).unwrap(),
    };
    let revisions = store.replace(replace).await.unwrap();
    assert_eq!(
        revisions,
        [Some(ALL + 1), Some(ALL + 2), Some(ALL + 3), None]
    );
    let current = store.journal_entry("prices", "7").await.unwrap().unwrap();
    assert_eq!((current.revision, &*current.body), (ALL + 3, "[]"));
    let (revision, open) = store.count_open("prices", Time::now()).await.unwrap();
    assert_eq!((revision, open), (ALL + 3, ALL + 1));
}
