//! Login sessions and revocations, on every store.

use roomcast_server::store::{Login, Revocation, Time};

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    login_is_read_as_stored,
    existing_login_is_prolonged,
    a_deleted_login_is_returned_once,
    the_logins_of_a_user_are_listed_the_oldest_first,
    each_revocation_is_stored_once,
    ended_logins_and_revocations_are_removed,
}

fn login(hash: &str, user: &str, at: &str) -> Login {
    Login {
        id_hash: hash.into(),
        user_id: user.into(),
        roles: vec!["user".into(), "coach".into()],
        data: Some(r#"{"a": [1]}"#.into()),
        ttl_s: 3600,
        created_at: time(at),
        expires_at: time("2031-01-01T00:00:00Z"),
    }
}

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

fn revocation(kind: &str, value: &str, until: &str) -> Revocation {
    Revocation {
        kind: kind.into(),
        value: value.into(),
        until: time(until),
    }
}

async fn login_is_read_as_stored(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let mut ann = login("h1", "ann", "2030-01-01T00:00:00.123Z");
    store.insert_login(ann.clone()).await.unwrap();
    assert_eq!(store.login("h1").await.unwrap(), Some(ann.clone()));
    assert_eq!(store.login("h2").await.unwrap(), None);
    ann.data = None;
    ann.roles = Vec::new();
    store.insert_login(ann.clone()).await.unwrap();
    assert_eq!(store.login("h1").await.unwrap(), Some(ann));
}

async fn existing_login_is_prolonged(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let ann = login("h1", "ann", "2030-01-01T00:00:00Z");
    store.insert_login(ann).await.unwrap();
    let later = time("2032-01-01T00:00:00Z");
    assert!(store.touch_login("h1", later).await.unwrap());
    assert_eq!(store.login("h1").await.unwrap().unwrap().expires_at, later);
    assert!(!store.touch_login("h2", later).await.unwrap());
    assert_eq!(store.login("h2").await.unwrap(), None);
}

async fn a_deleted_login_is_returned_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let ann = login("h1", "ann", "2030-01-01T00:00:00Z");
    store.insert_login(ann.clone()).await.unwrap();
    assert_eq!(store.delete_login("h1").await.unwrap(), Some(ann));
    assert_eq!(store.delete_login("h1").await.unwrap(), None);
    assert_eq!(store.login("h1").await.unwrap(), None);
}

async fn the_logins_of_a_user_are_listed_the_oldest_first(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    for (hash, user, at) in [
        ("h2", "ann", "2030-01-02T00:00:00Z"),
        ("h1", "ann", "2030-01-01T00:00:00Z"),
        ("h3", "bob", "2030-01-01T00:00:00Z"),
    ] {
        store.insert_login(login(hash, user, at)).await.unwrap();
    }
    let ann = store.logins_of("ann").await.unwrap();
    let hashes: Vec<_> = ann.iter().map(|login| login.id_hash.as_str()).collect();
    assert_eq!(hashes, ["h1", "h2"]);
    assert!(store.logins_of("carl").await.unwrap().is_empty());
}

async fn each_revocation_is_stored_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    for (kind, value, until) in [
        ("user", "ann", "2030-01-01T00:00:00Z"),
        ("token", "ann", "2030-01-01T00:00:00Z"),
        ("user", "ann", "2031-01-01T00:00:00Z"),
        // The maximum time, for a revocation that never expires.
        ("role", "coach", "9999-12-30T22:00:00Z"),
        ("session", "h1", "2030-01-01T00:00:00Z"),
    ] {
        let new = revocation(kind, value, until);
        store.insert_revocation(new).await.unwrap();
    }
    let expected = [
        revocation("role", "coach", "9999-12-30T22:00:00Z"),
        revocation("session", "h1", "2030-01-01T00:00:00Z"),
        revocation("token", "ann", "2030-01-01T00:00:00Z"),
        revocation("user", "ann", "2031-01-01T00:00:00Z"),
    ];
    assert_eq!(store.revocations().await.unwrap(), expected);
    assert!(store.delete_revocation("user", "ann").await.unwrap());
    assert!(!store.delete_revocation("user", "ann").await.unwrap());
    assert_eq!(store.revocations().await.unwrap(), expected[..3]);
}

async fn ended_logins_and_revocations_are_removed(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    store
        .insert_login(login("h1", "ann", "2030-01-01T00:00:00Z"))
        .await
        .unwrap();
    let ended = revocation("user", "ann", "2030-06-01T00:00:00Z");
    store.insert_revocation(ended).await.unwrap();
    let lasting = revocation("user", "bob", "2040-01-01T00:00:00Z");
    store.insert_revocation(lasting.clone()).await.unwrap();
    let swept = store.sweep_logins(time("2030-05-01T00:00:00Z"));
    assert_eq!(swept.await.unwrap(), 0);
    let swept = store.sweep_logins(time("2031-01-01T00:00:00Z"));
    assert_eq!(swept.await.unwrap(), 2);
    assert_eq!(store.login("h1").await.unwrap(), None);
    assert_eq!(store.revocations().await.unwrap(), [lasting]);
}
