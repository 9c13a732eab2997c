//! Requests to the HTTP API that name a key, on every store.

use roomcast_server::store::{Attempt, KeyState, StoredResponse, Time};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    key_admits_one_attempt_at_a_time_for_one_request,
    unfinished_attempt_expires_only_for_the_same_request,
    answer_of_the_attempt_that_holds_the_key_is_stored,
    attempt_without_an_answer_leaves_no_key,
    expired_keys_and_the_oldest_beyond_the_limit_are_removed,
}

fn time(second: u32) -> Time {
    let (minute, second) = (second / 60, second % 60);
    let text = format!("2030-01-01T00:{minute:02}:{second:02}Z");
    text.parse().unwrap()
}

/// An attempt that begins at a second, is locked for ten and known for thirty.
fn attempt(key: &str, request: &str, second: u32) -> Attempt {
    Attempt {
        key: key.into(),
        request: request.into(),
        id: Uuid::new_v4(),
        now: time(second),
        locked_until: time(second + 10),
        expires_at: time(second + 30),
    }
}

fn answer(body: &str) -> StoredResponse {
    StoredResponse {
        status: 201,
        body: Some(body.into()),
    }
}

async fn key_admits_one_attempt_at_a_time_for_one_request(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let first = attempt("k", "a", 0);
    assert_eq!(
        store.begin_request(first.clone()).await.unwrap(),
        KeyState::First
    );
    // A store repeats a request whose outcome it does not know.
    assert_eq!(store.begin_request(first).await.unwrap(), KeyState::First);
    for (key, request, expected) in [
        ("k", "a", KeyState::Running),
        ("k", "b", KeyState::Other),
        ("l", "a", KeyState::First),
    ] {
        let begun = store.begin_request(attempt(key, request, 1)).await;
        assert_eq!(begun.unwrap(), expected, "{key} {request}");
    }
}

async fn unfinished_attempt_expires_only_for_the_same_request(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let begin = async |request, second| {
        let begun = store.begin_request(attempt("k", request, second)).await;
        begun.unwrap()
    };
    assert_eq!(begin("a", 0).await, KeyState::First);
    assert_eq!(begin("a", 9).await, KeyState::Running);
    assert_eq!(begin("b", 10).await, KeyState::Other);
    assert_eq!(begin("a", 10).await, KeyState::First);
    assert_eq!(begin("b", 39).await, KeyState::Other);
    assert_eq!(begin("b", 40 + 1).await, KeyState::First);
}

async fn answer_of_the_attempt_that_holds_the_key_is_stored(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let (late, new) = (attempt("k", "a", 0), attempt("k", "a", 10));
    store.begin_request(late.clone()).await.unwrap();
    store.begin_request(new.clone()).await.unwrap();
    let end = async |id, body: &str| store.end_request("k", id, Some(answer(body))).await;
    end(late.id, "too late").await.unwrap();
    store.end_request("k", late.id, None).await.unwrap();
    end(new.id, r#"{"a":"ä"}"#).await.unwrap();
    // The answer stays as long as the key, however long that is.
    for second in [11, 29] {
        let begun = store.begin_request(attempt("k", "a", second)).await;
        assert_eq!(begun.unwrap(), KeyState::Done(answer(r#"{"a":"ä"}"#)));
    }
    let other = store.begin_request(attempt("k", "b", 29)).await;
    assert_eq!(other.unwrap(), KeyState::Other);
    let secret = StoredResponse {
        status: 201,
        body: None,
    };
    store
        .end_request("k", new.id, Some(secret.clone()))
        .await
        .unwrap();
    let begun = store.begin_request(attempt("k", "a", 29)).await;
    assert_eq!(begun.unwrap(), KeyState::Done(secret));
}

async fn attempt_without_an_answer_leaves_no_key(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let first = attempt("k", "a", 0);
    store.begin_request(first.clone()).await.unwrap();
    store.end_request("k", first.id, None).await.unwrap();
    let begun = store.begin_request(attempt("k", "b", 1)).await;
    assert_eq!(begun.unwrap(), KeyState::First);
}

async fn expired_keys_and_the_oldest_beyond_the_limit_are_removed(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    for (key, second) in [("1", 1), ("2", 2), ("3", 3), ("4", 4)] {
        let attempt = attempt(key, "a", second);
        store.begin_request(attempt.clone()).await.unwrap();
        let ended = store.end_request(key, attempt.id, Some(answer("x"))).await;
        ended.unwrap();
    }
    let known = async || {
        let mut known = Vec::new();
        for key in ["1", "2", "3", "4"] {
            let other = attempt(key, "another", 5);
            match store.begin_request(other.clone()).await.unwrap() {
                KeyState::First => store.end_request(key, other.id, None).await.unwrap(),
                KeyState::Other => known.push(key),
                begun => panic!("{begun:?}"),
            }
        }
        known
    };
    store.sweep_requests(time(5), 4).await.unwrap();
    assert_eq!(known().await, ["1", "2", "3", "4"]);
    store.sweep_requests(time(31), 4).await.unwrap();
    assert_eq!(known().await, ["2", "3", "4"]);
    store.sweep_requests(time(31), 2).await.unwrap();
    assert_eq!(known().await, ["3", "4"]);
}
