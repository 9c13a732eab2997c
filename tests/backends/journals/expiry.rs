//! The end of entries: expiry, sweeps, amendments and withdrawals.

use std::time::Duration;

use roomcast_server::store::{
    Amend, Append, Appended, Current, IfOpen, JournalSweep, Time, WITHDRAWAL,
};

use super::{all, bodies, closed, entry, stored, view};
use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    expired_entries_are_not_returned,
    sweep_removes_old_entries_and_revisions_continue,
    closed_entry_is_amended_once_and_no_view_has_a_withdrawal,
    open_entries_before_a_time_expire_in_one_journal,
}

async fn expired_entries_are_not_returned(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let over = Time::now().before(Duration::from_secs(1));
    let old = Append {
        expires_at: Some(over),
        ..entry("j", "a", "1")
    };
    let ends_at = Time::now().after(Duration::from_secs(3600));
    let new = Append {
        expires_at: Some(ends_at),
        ..entry("j", "b", "2")
    };
    stored(store, old).await;
    assert_eq!(stored(store, new).await.expires_at, Some(ends_at));
    assert_eq!(bodies(&view(store, "j").await.entries), [(2, "2")]);
    let ack = |key: &str| Append {
        needs_open: true,
        ..closed("j", key, "3")
    };
    assert_eq!(store.append(ack("a")).await.unwrap(), Appended::Absent);
    stored(store, ack("b")).await;
}

async fn sweep_removes_old_entries_and_revisions_continue(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let old = Time::now().before(Duration::from_secs(7200));
    let aged = |append: Append| Append {
        created_at: old,
        if_open: IfOpen::Keep,
        ..append
    };
    stored(store, aged(entry("j", "a", "replaced"))).await;
    stored(store, aged(closed("j", "a", "closed"))).await;
    stored(store, aged(entry("j", "b", "open"))).await;
    let over = Append {
        expires_at: Some(old),
        ..entry("j", "c", "over")
    };
    stored(store, over).await;
    stored(store, closed("j", "d", "young")).await;
    let sweep = |hours: u64| JournalSweep {
        now: Time::now(),
        replaced_before: Time::now().before(Duration::from_secs(hours * 3600)),
        closed_before: Time::now().before(Duration::from_secs(hours * 3600)),
        limit: 10,
    };
    assert_eq!(store.sweep_journals(sweep(3)).await.unwrap(), 1);
    assert_eq!(store.sweep_journals(sweep(1)).await.unwrap(), 2);
    assert_eq!(store.sweep_journals(sweep(1)).await.unwrap(), 0);
    let left = store.journal_after("j", 0, u64::MAX, 10).await.unwrap();
    assert_eq!(bodies(&left), [(3, "open"), (5, "young")]);
    let next = stored(store, entry("j", "a", "again")).await;
    assert_eq!(next.revision, 6);
}

async fn closed_entry_is_amended_once_and_no_view_has_a_withdrawal(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let in_gold = Append {
        category: Some("gold".into()),
        ..closed("j", "a", "1")
    };
    stored(store, in_gold).await;
    stored(store, closed("j", "b", "2")).await;
    let amend = |key: &str, replaces, body: &str, is_open| Amend {
        journal: "j".into(),
        key: key.into(),
        replaces,
        body: body.into(),
        is_open,
        created_at: Time::now(),
        expires_at: None,
    };
    let amended = store.amend(amend("a", 1, "3", false)).await.unwrap();
    let amended = amended.unwrap();
    assert_eq!((amended.revision, &*amended.body), (3, "3"));
    assert_eq!(amended.category.as_deref(), Some("gold"));
    // The entry that it replaced is no longer current.
    for wrong in [
        amend("a", 1, "4", false),
        amend("none", 1, "4", false),
        Amend {
            journal: "other".into(),
            ..amend("a", 3, "4", false)
        },
    ] {
        assert_eq!(store.amend(wrong).await.unwrap(), None);
    }
    assert_eq!(
        bodies(&view(store, "j").await.entries),
        [(2, "2"), (3, "3")]
    );
    let body = format!("{WITHDRAWAL}0}}");
    let withdrawn = store.amend(amend("a", 3, &body, false)).await.unwrap();
    let revision = withdrawn.unwrap().revision;
    assert!(revision > 3, "{revision}");
    let seen = view(store, "j").await;
    assert_eq!(
        (seen.revision, bodies(&seen.entries)),
        (revision, vec![(2, "2")])
    );
    let of_gold = Current {
        category: Some("gold"),
        is_closed: true,
        ..all("j")
    };
    assert!(store.journal(of_gold).await.unwrap().entries.is_empty());
    let with_withdrawn = Current {
        with_withdrawn: true,
        ..all("j")
    };
    let with_withdrawn = store.journal(with_withdrawn).await.unwrap();
    assert_eq!(
        bodies(&with_withdrawn.entries),
        [(2, "2"), (revision, &*body)]
    );
    // Servers that catch up read it, and its key stays in use.
    let after = store.journal_after("j", 2, u64::MAX, 10).await.unwrap();
    assert_eq!(bodies(&after), [(revision, &*body)]);
    let again = store.append(entry("j", "a", "5")).await.unwrap();
    assert!(matches!(again, Appended::There(there) if there.revision == revision));
    // Open withdrawals expire at their own time.
    let old = Time::now().before(Duration::from_secs(60));
    let open = Amend {
        created_at: old,
        ..amend("b", 2, &body, true)
    };
    store.amend(open).await.unwrap().unwrap();
    let far = Time::now().before(Duration::from_secs(3600));
    assert_eq!(store.expire_journal("j", far, far).await.unwrap(), 0);
    assert_eq!(
        store.expire_journal("j", far, Time::now()).await.unwrap(),
        1
    );
}

async fn open_entries_before_a_time_expire_in_one_journal(backend: Backend) {
    let store = &Harness::new(backend).await.store;
    let old = Time::now().before(Duration::from_secs(60));
    let aged = |append: Append| Append {
        created_at: old,
        ..append
    };
    stored(store, aged(entry("j", "a", "old"))).await;
    stored(store, aged(closed("j", "b", "closed"))).await;
    stored(store, entry("j", "c", "young")).await;
    stored(store, aged(entry("other", "a", "old"))).await;
    let since = Time::now().before(Duration::from_secs(30));
    assert_eq!(store.expire_journal("j", since, since).await.unwrap(), 1);
    assert_eq!(store.expire_journal("j", since, since).await.unwrap(), 0);
    assert_eq!(store.expire_journal("none", since, since).await.unwrap(), 0);
    let left = view(store, "j").await;
    assert_eq!(bodies(&left.entries), [(2, "closed"), (3, "young")]);
    assert_eq!(view(store, "other").await.entries.len(), 1);
    // The key is free again, and revisions continue.
    assert_eq!(stored(store, entry("j", "a", "new")).await.revision, 4);
}
