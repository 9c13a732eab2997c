//! Statuses of users, on every store.

use std::time::Duration;

use roomcast_server::store::{Change, NewStatus, Status, Store, Time, UserStatus};

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    repeated_or_initial_default_status_is_no_change,
    later_change_has_a_later_time_even_if_the_clock_is_set_back,
    concurrent_changes_have_different_times,
    statuses_are_read_for_the_given_users_up_to_the_limit,
    expired_statuses_are_invisible_and_removed_in_steps,
    removed_status_is_gone,
}

const HOUR: Duration = Duration::from_secs(3600);

fn time(second: u64) -> Time {
    let noon: Time = "2025-01-31T12:00:00Z".parse().unwrap();
    noon.after(Duration::from_secs(second))
}

fn status(user: &str, status: Status, text: Option<&str>) -> NewStatus {
    NewStatus {
        user_id: user.into(),
        status,
        text: text.map(Into::into),
        retention: HOUR,
    }
}

/// Sets a status, and expects a change.
async fn set(store: &Store, new: NewStatus, now: Time) -> UserStatus {
    match store.set_status(new.clone(), now).await.unwrap() {
        Change::Done(stored) => {
            assert_eq!(stored.user_id, new.user_id);
            assert_eq!((stored.status, &stored.text), (new.status, &new.text));
            stored
        }
        other => panic!("{other:?}"),
    }
}

async fn busy(store: &Store, user: &str, second: u64) -> UserStatus {
    set(store, status(user, Status::Busy, None), time(second)).await
}

async fn read(store: &Store, users: &[&str], now: Time) -> Vec<UserStatus> {
    let users = users.iter().map(|&user| user.into()).collect();
    store.statuses(users, 1000, now).await.unwrap()
}

async fn repeated_or_initial_default_status_is_no_change(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let online = || status("ann", Status::Online, None);
    let first = store.set_status(online(), time(0)).await.unwrap();
    let unset = UserStatus::unset("ann".into(), time(0));
    assert_eq!(first, Change::Unchanged(unset));
    assert!(read(store, &["ann"], time(0)).await.is_empty());

    let holiday = || status("ann", Status::Away, Some("on \"holiday\" \u{2600}\u{fe0f}"));
    let stored = set(store, holiday(), time(1)).await;
    assert_eq!(stored.timestamp, time(1));
    let again = store.set_status(holiday(), time(2)).await.unwrap();
    assert_eq!(again, Change::Unchanged(stored.clone()));
    assert_eq!(read(store, &["ann"], time(2)).await, [stored]);

    let without = set(store, status("ann", Status::Away, None), time(3)).await;
    assert_eq!(without.text, None, "the text is set with the status");
    let reset = set(store, online(), time(4)).await;
    let again = store.set_status(online(), time(5)).await.unwrap();
    assert_eq!(again, Change::Unchanged(reset.clone()));
    assert_eq!(read(store, &["ann"], time(5)).await, [reset]);
}

async fn later_change_has_a_later_time_even_if_the_clock_is_set_back(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let first = busy(store, "ann", 60).await;
    let reset = set(store, status("ann", Status::Online, None), time(0)).await;
    let third = busy(store, "ann", 30).await;
    let millisecond = Duration::from_millis(1);
    assert_eq!(reset.timestamp, first.timestamp.after(millisecond));
    assert_eq!(third.timestamp, reset.timestamp.after(millisecond));
    // The status expires an hour after its own time.
    let end = third.timestamp.after(HOUR);
    assert_eq!(
        read(store, &["ann"], end.before(millisecond)).await,
        [third]
    );
    assert!(read(store, &["ann"], end).await.is_empty());
}

async fn concurrent_changes_have_different_times(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let changes = (0..20).map(|n| {
        let new = status("ann", Status::Away, Some(&n.to_string()));
        set(store, new, time(0))
    });
    let mut stored = futures_util::future::join_all(changes).await;
    stored.sort_by_key(|status| status.timestamp);
    assert!(
        stored
            .windows(2)
            .all(|pair| pair[0].timestamp < pair[1].timestamp)
    );
    let last = stored.pop().unwrap();
    assert_eq!(read(store, &["ann"], time(1)).await, [last]);
}

async fn statuses_are_read_for_the_given_users_up_to_the_limit(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let mut all = Vec::new();
    for user in ["ann", "bob", "guest:1"] {
        all.push(busy(store, user, 0).await);
    }
    let users = ["guest:1", "nobody", "ann", "ann", "bob"];
    assert_eq!(read(store, &users, time(1)).await, all);
    assert_eq!(read(store, &["bob"], time(1)).await, all[1..2]);
    assert!(read(store, &[], time(1)).await.is_empty());
    let users = users.map(str::to_owned).to_vec();
    let few = store.statuses(users, 2, time(1)).await.unwrap();
    assert_eq!(few, all[..2]);
}

async fn expired_statuses_are_invisible_and_removed_in_steps(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    for user in ["ann", "bob", "carl"] {
        busy(store, user, 0).await;
    }
    let year = NewStatus {
        retention: 365 * 24 * HOUR,
        ..status("eve", Status::Busy, None)
    };
    let kept = set(store, year, time(0)).await;
    let (before, end) = (time(3599), time(3600));
    assert_eq!(store.expire_statuses(before, 10).await, Ok(0));
    assert_eq!(read(store, &["ann"], before).await.len(), 1);
    assert!(read(store, &["ann"], end).await.is_empty());
    // A default status is what users without a status have.
    let reset = store.set_status(status("ann", Status::Online, None), end);
    let unset = UserStatus::unset("ann".into(), end);
    assert_eq!(reset.await, Ok(Change::Unchanged(unset)));
    // A new status may replace an expired one, even the same one.
    assert_eq!(busy(store, "carl", 3600).await.timestamp, end);
    assert_eq!(store.expire_statuses(end, 1).await, Ok(1));
    assert_eq!(store.expire_statuses(end, 10).await, Ok(1));
    assert_eq!(store.expire_statuses(end, 10).await, Ok(0));
    let left = read(store, &["ann", "bob", "carl", "eve"], time(0)).await;
    assert_eq!(left.len(), 2);
    assert_eq!(left[1], kept);
}

async fn removed_status_is_gone(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    busy(store, "ann", 0).await;
    busy(store, "bob", 0).await;
    assert_eq!(store.remove_status("ann").await, Ok(true));
    assert_eq!(store.remove_status("ann").await, Ok(false));
    let left = read(store, &["ann", "bob"], time(1)).await;
    assert_eq!(left.len(), 1);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_statuses_are_in_the_feed_and_expiries_are_not() {
    let harness = Harness::new(crate::harness::postgres()).await;
    let (store, feed) = (&harness.store, harness.store.feed().unwrap());
    let mut mark = feed.end().await.unwrap();
    let mut changed = async || {
        let page = feed.read(&mark, 100).await.unwrap().unwrap();
        mark = page.next;
        let changes = page.changes.into_iter();
        let keys = changes.map(|change| (change.topic, change.key.unwrap()));
        keys.collect::<Vec<_>>()
    };
    let expected = |users: &[&str]| -> Vec<(String, String)> {
        let key = |user: &&str| ("user_statuses".to_owned(), (*user).to_owned());
        users.iter().map(key).collect()
    };
    let now = Time::now();
    let away = || status("ann:1", Status::Away, None);
    set(store, away(), now).await;
    assert_eq!(changed().await, expected(&["ann:1"]));
    store.set_status(away(), now).await.unwrap();
    assert!(changed().await.is_empty(), "nothing has changed");
    set(store, status("ann:1", Status::Busy, None), now).await;
    busy(store, "bob", 0).await;
    assert_eq!(changed().await, expected(&["ann:1", "bob"]));
    assert_eq!(store.expire_statuses(now, 10).await, Ok(1));
    assert!(changed().await.is_empty(), "bob's status has expired");
    assert_eq!(store.remove_status("ann:1").await, Ok(true));
    assert_eq!(changed().await, expected(&["ann:1"]));
}
