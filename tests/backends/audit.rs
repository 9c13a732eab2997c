//! The audit log, on every store.

use std::slice::from_ref;

use roomcast_server::store::{AuditEntry, AuditQuery, Time};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    act_is_one_entry_whose_outcome_outlives_a_late_insertion,
}

/// Returns an act of `ann` without an outcome.
pub(crate) fn act() -> AuditEntry {
    AuditEntry {
        id: Uuid::now_v7(),
        created_at: Time::now(),
        node: "n".into(),
        via: "http".into(),
        user_id: Some("ann".into()),
        stated_user: None,
        address: None,
        connection_id: None,
        operation: "revoke".into(),
        target: None,
        request: Value::Null,
        before: Value::Null,
        after: Value::Null,
        outcome: None,
        finished_at: None,
    }
}

async fn act_is_one_entry_whose_outcome_outlives_a_late_insertion(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let began = act();
    let ended = AuditEntry {
        before: json!({"connections": 1}),
        after: json!({"connections": 0}),
        outcome: Some("done".into()),
        finished_at: Some(Time::now()),
        ..began.clone()
    };
    let found = async || {
        let query = AuditQuery {
            user: Some("ann".into()),
            limit: 10,
            ..AuditQuery::default()
        };
        store.audit(query).await.unwrap()
    };
    store.record_act(began.clone()).await.unwrap();
    assert_eq!(found().await, from_ref(&began));
    store.record_act(ended.clone()).await.unwrap();
    assert_eq!(found().await, from_ref(&ended));
    store.record_act(began).await.unwrap();
    assert_eq!(found().await, from_ref(&ended));
}
