//! Views of a journal: the newest entries, categories, pages and counts.

use std::time::Duration;

use roomcast_server::store::{Append, Current, JournalSweep, Time};

use super::{all, bodies, closed, entry, open, stored, view};
use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    a_view_has_what_is_open_and_the_newest,
    a_category_is_read_by_itself,
    pages_before_a_revision_have_everything_that_is_current_once,
    open_entries_are_counted_at_one_revision,
    closed_entries_are_read_and_trimmed_by_themselves,
    journals_of_a_prefix_are_measured_in_parts_by_category,
    entry_is_overwritten_in_its_place,
    newest_entries_of_the_listed_journals_are_measured,
}

async fn a_view_has_what_is_open_and_the_newest(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..10 {
        let (key, body) = (n.to_string(), n.to_string());
        let append = match n {
            1 | 4 | 9 => entry("j", &key, &body),
            _ => closed("j", &key, &body),
        };
        stored(store, append).await;
    }
    let part = Current {
        open: 2,
        newest: 3,
        ..all("j")
    };
    let seen = store.journal(part).await.unwrap();
    assert_eq!(seen.revision, 10);
    let expected = [(5, "4"), (8, "7"), (9, "8"), (10, "9")];
    assert_eq!(bodies(&seen.entries), expected);
}

async fn a_category_is_read_by_itself(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..6 {
        let category = ["x", "y"].get(n % 3).map(|&name| name.to_owned());
        let append = Append {
            category,
            ..closed("j", &n.to_string(), &n.to_string())
        };
        stored(store, append).await;
    }
    let of = |category| Current {
        category,
        newest: 4,
        ..all("j")
    };
    let x = store.journal(of(Some("x"))).await.unwrap();
    assert_eq!(
        (x.revision, bodies(&x.entries)),
        (6, vec![(1, "0"), (4, "3")])
    );
    let seen = store.journal(of(None)).await.unwrap();
    assert_eq!(
        bodies(&seen.entries),
        [(3, "2"), (4, "3"), (5, "4"), (6, "5")]
    );
    assert_eq!(seen.entries[1].category.as_deref(), Some("x"));
    let none = store.journal(of(Some("z"))).await.unwrap();
    assert_eq!((none.revision, none.entries), (6, vec![]));
}

async fn pages_before_a_revision_have_everything_that_is_current_once(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..10 {
        let append = Append {
            category: Some(if n % 2 == 0 { "x" } else { "y" }.to_owned()),
            is_open: n % 3 == 0,
            ..entry("j", &n.to_string(), &n.to_string())
        };
        stored(store, append).await;
    }
    // Replaced entries are on no page, and open entries can be read on their own.
    stored(store, entry("j", "3", "new")).await;
    let read = async |category, open, newest| {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let part = Current {
                category,
                open,
                newest,
                before,
                ..all("j")
            };
            let page = store.journal(part).await.unwrap();
            assert_eq!(page.revision, 11);
            let Some(first) = page.entries.first() else {
                return pages;
            };
            before = Some(first.revision);
            pages.push(
                page.entries
                    .iter()
                    .map(|entry| entry.body.clone())
                    .collect::<Vec<_>>(),
            );
        }
    };
    let pages = read(None, 0, 4).await;
    let expected: [&[&str]; 3] = [&["7", "8", "9", "new"], &["2", "4", "5", "6"], &["0", "1"]];
    assert_eq!(pages, expected);
    let pages = read(Some("x"), 0, 2).await;
    assert_eq!(pages, [vec!["6", "8"], vec!["2", "4"], vec!["0"]]);
    let pages = read(None, 3, 0).await;
    assert_eq!(pages, [vec!["6", "9", "new"], vec!["0"]]);
    assert!(read(Some("z"), 2, 2).await.is_empty());
}

async fn open_entries_are_counted_at_one_revision(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let count = async || store.count_open("j", Time::now()).await.unwrap();
    assert_eq!(count().await, (0, 0));
    for key in ["a", "b", "c"] {
        stored(store, entry("j", key, "x")).await;
    }
    stored(store, entry("other", "a", "x")).await;
    stored(store, closed("j", "b", "x")).await;
    let over = Append {
        expires_at: Some(Time::now().before(Duration::from_secs(1))),
        ..entry("j", "d", "x")
    };
    stored(store, over).await;
    assert_eq!(count().await, (5, 2));
}

async fn newest_entries_of_the_listed_journals_are_measured(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for (journal, key, body) in [
        ("a", "0", "abc"),
        ("b", "0", "\u{e4}"),
        ("a", "1", ""),
        ("a", "2", "abcd"),
        ("other", "0", "abc"),
    ] {
        stored(store, closed(journal, key, body)).await;
    }
    let sizes = async |newest| {
        let names = ["b", "none", "a"].map(str::to_owned);
        let mut sizes = store.journal_sizes(names.to_vec(), newest).await.unwrap();
        sizes.sort_by(|one, other| one.journal.cmp(&other.journal));
        let sizes = sizes.into_iter();
        let sizes = sizes.map(|size| (size.journal, size.entries, size.bytes, size.has_more));
        sizes.collect::<Vec<_>>()
    };
    let [a, b] = ["a", "b"].map(str::to_owned);
    assert_eq!(
        sizes(3).await,
        [(a.clone(), 3, 7, false), (b.clone(), 1, 2, false)]
    );
    assert_eq!(sizes(2).await, [(a, 2, 4, true), (b, 1, 2, false)]);
}

async fn closed_entries_are_read_and_trimmed_by_themselves(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..6 {
        stored(store, entry("j", &n.to_string(), "open")).await;
    }
    for key in ["4", "0", "2"] {
        stored(store, closed("j", key, "closed")).await;
    }
    stored(store, closed("other", "0", "closed")).await;
    let closed_ones = async |newest, before| {
        let current = Current {
            open: 0,
            newest,
            is_closed: true,
            with_withdrawn: false,
            before,
            ..all("j")
        };
        let view = store.journal(current).await.unwrap();
        let keys = view.entries.into_iter().map(|entry| entry.key);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(closed_ones(9, None).await, ["4", "0", "2"]);
    assert_eq!(closed_ones(2, None).await, ["0", "2"]);
    assert_eq!(closed_ones(2, Some(8)).await, ["4"]);
    let earlier = Time::now().before(Duration::from_secs(60));
    store.trim_journal("j", 8, earlier).await.unwrap();
    assert_eq!(closed_ones(9, None).await, ["4", "0", "2"]);
    store.trim_journal("j", 8, Time::now()).await.unwrap();
    store.trim_journal("none", 8, Time::now()).await.unwrap();
    assert_eq!(closed_ones(9, None).await, ["0", "2"]);
    assert_eq!(open(store).await, ["1", "3", "5"]);
    assert_eq!(view(store, "other").await.entries.len(), 1);
    // A closed entry with its own expiry time stays until then, however old it is.
    let old = Append {
        created_at: Time::now().before(Duration::from_secs(7200)),
        expires_at: Some(Time::now().after(Duration::from_secs(3600))),
        ..closed("j", "lasting", "x")
    };
    stored(store, old).await;
    let sweep = JournalSweep {
        now: Time::now(),
        replaced_before: Time::now().before(Duration::from_secs(3600)),
        closed_before: Time::now().before(Duration::from_secs(3600)),
        limit: 10,
    };
    assert_eq!(store.sweep_journals(sweep).await.unwrap(), 0);
    assert_eq!(closed_ones(1, None).await, ["lasting"]);
}

async fn journals_of_a_prefix_are_measured_in_parts_by_category(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for journal in ["c:1", "c:2", "c#3", "c", "ca:1", "b:1", "d"] {
        for n in 0..3 {
            let category = (n > 0).then(|| "x".to_owned());
            let append = Append {
                category,
                ..closed(journal, &n.to_string(), "\"ü\"")
            };
            stored(store, append).await;
        }
    }
    // Three journals with three entries of four bytes each.
    let (mut after, mut entries, mut bytes) = ((String::new(), 0), [0; 2], 0);
    let mut parts = 0;
    loop {
        let part = store.measure_journals("c", (&after.0, after.1), 2).await;
        let part = part.unwrap();
        let Some(first) = part.first() else { break };
        after = (first.last_journal.clone(), first.last_revision);
        assert!(
            part.iter().map(|one| one.entries).sum::<u64>() <= 2,
            "{part:?}"
        );
        for one in part {
            entries[usize::from(one.category.is_some())] += one.entries;
            bytes += one.bytes;
        }
        parts += 1;
    }
    assert_eq!((parts, entries, bytes), (5, [3, 6], 36));
    assert_eq!(after, ("c:2".into(), 3));
}

async fn entry_is_overwritten_in_its_place(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    for n in 0..3 {
        stored(store, closed("j", &n.to_string(), &n.to_string())).await;
    }
    assert!(store.overwrite_entry("j", "1", "null").await.unwrap());
    let seen = view(store, "j").await;
    assert_eq!(seen.revision, 3);
    assert_eq!(bodies(&seen.entries), [(1, "0"), (2, "null"), (3, "2")]);
    for (journal, key) in [("j", "9"), ("k", "1")] {
        assert!(!store.overwrite_entry(journal, key, "null").await.unwrap());
    }
}
