//! What a store does when nobody is left who emits what it stores.

use roomcast_server::store::{NewConversation, Origin, Page, StoreError};

use crate::harness::{Backend, Harness, on_every_backend, retriable, text};

on_every_backend! {
    nothing_is_stored_once_nobody_emits,
    what_is_stored_and_never_emitted_is_not_acknowledged,
}

async fn nothing_is_stored_once_nobody_emits(backend: Backend) {
    let (harness, commits) = Harness::undrained(backend).await;
    let id = harness.open_conversation().await;
    drop(commits);
    let message = text(id, "ann", "a");
    let sent = harness.store.insert_message(message, Origin::default());
    assert_eq!(sent.await.unwrap_err(), StoreError::Closed);
    let made = harness.store.insert_conversation(NewConversation::lobby());
    assert_eq!(made.await.unwrap_err(), StoreError::Closed);
    let stored = harness.store.history(id, Page::Newest, 10).await.unwrap();
    assert_eq!(stored.unwrap().messages.len(), 0);
}

async fn what_is_stored_and_never_emitted_is_not_acknowledged(backend: Backend) {
    let (harness, mut commits) = Harness::undrained(backend).await;
    let id = harness.open_conversation().await;
    let message = retriable(id, "ann", "a");
    let sent = harness.store.insert_message(message, Origin::default());
    let die = async move {
        // The task that emits dies with a message in its hands.
        drop(commits.next().await.unwrap());
    };
    let (answer, ()) = tokio::join!(sent, die);
    assert_eq!(answer.unwrap_err(), StoreError::Unknown);
}
