//! The store after the task that emits its commits has ended.

use roomcast_server::store::{NewConversation, Origin, Page, StoreError};

use uuid::Uuid;

use crate::harness::{Backend, Harness, drain, on_every_backend, retriable, text};

on_every_backend! {
    nothing_is_stored_after_emission_has_ended,
    message_stored_but_never_emitted_is_not_acknowledged,
    worker_without_emission_stops_and_other_workers_continue,
    one_worker_emits_all_changes_of_a_conversation_in_order,
}

async fn nothing_is_stored_after_emission_has_ended(backend: Backend) {
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

async fn message_stored_but_never_emitted_is_not_acknowledged(backend: Backend) {
    let (harness, mut commits) = Harness::undrained(backend).await;
    let id = harness.open_conversation().await;
    let message = retriable(id, "ann", "a");
    let sent = harness.store.insert_message(message, Origin::default());
    let die = async move {
        // The emitting task ends while it holds a message.
        drop(commits.next().await.unwrap());
    };
    let (answer, ()) = tokio::join!(sent, die);
    assert_eq!(answer.unwrap_err(), StoreError::Unknown);
}

async fn worker_without_emission_stops_and_other_workers_continue(backend: Backend) {
    let (harness, commits) = Harness::undrained(backend).await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(harness.open_conversation().await);
    }
    let mut lanes = commits.split();
    assert!(lanes.len() > 1);
    let dead = lanes.remove(0);
    let emitted: Vec<_> = lanes.into_iter().map(drain).collect();
    drop(dead);
    let mut refused = Vec::new();
    for &id in &ids {
        let message = text(id, "ann", "a");
        let sent = harness.store.insert_message(message, Origin::default());
        match sent.await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, StoreError::Closed);
                refused.push(id);
            }
        }
    }
    assert!(
        !refused.is_empty() && refused.len() < ids.len(),
        "{} of {} refused",
        refused.len(),
        ids.len()
    );
    let emitted: Vec<Uuid> = emitted
        .iter()
        .flat_map(|lane| lane.lock().unwrap().clone())
        .map(|message| message.conversation_id)
        .collect();
    for id in ids {
        let stored = harness.store.history(id, Page::Newest, 10).await.unwrap();
        let is_stored = !stored.unwrap().messages.is_empty();
        assert_eq!(is_stored, !refused.contains(&id));
        assert_eq!(is_stored, emitted.contains(&id));
    }
}

async fn one_worker_emits_all_changes_of_a_conversation_in_order(backend: Backend) {
    let (harness, commits) = Harness::undrained(backend).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(harness.open_conversation().await);
    }
    let emitted: Vec<_> = commits.split().into_iter().map(drain).collect();
    let sends = (0..200).map(|n| {
        let message = text(ids[n % ids.len()], "ann", "a");
        harness.store.insert_message(message, Origin::default())
    });
    for sent in futures_util::future::join_all(sends).await {
        sent.unwrap();
    }
    let mut busy = 0;
    for id in ids {
        let lanes = emitted.iter().map(|lane| {
            let lane = lane.lock().unwrap();
            let own = lane.iter().filter(|message| message.conversation_id == id);
            own.map(|message| message.seq).collect::<Vec<_>>()
        });
        let own: Vec<Vec<u64>> = lanes.filter(|seqs| !seqs.is_empty()).collect();
        assert_eq!(own, [(1..=10).collect::<Vec<_>>()]);
    }
    for lane in &emitted {
        busy += usize::from(!lane.lock().unwrap().is_empty());
    }
    assert!(busy > 1, "{busy} lanes");
}
