//! Pending webhook deliveries, on every store.

use std::collections::HashSet;

use futures_util::future::join_all;
use roomcast_server::store::{Delivery, Time};
use uuid::Uuid;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    longest_due_delivery_is_taken_first_and_only_once,
    unfinished_delivery_is_due_again_after_its_lease,
    server_that_lost_a_delivery_cannot_end_it,
    deliveries_beyond_the_limit_are_refused,
}

fn time(second: u32) -> Time {
    format!("2030-01-01T00:00:{second:02}Z").parse().unwrap()
}

fn delivery(second: u32) -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        body: format!(r#"{{"second":{second}}}"#),
        created_at: time(second),
    }
}

async fn longest_due_delivery_is_taken_first_and_only_once(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let all = [delivery(2), delivery(1), delivery(3)];
    for one in &all {
        assert!(store.insert_delivery(one.clone(), 10).await.unwrap());
        // A store repeats an insert whose outcome it does not know.
        assert!(store.insert_delivery(one.clone(), 10).await.unwrap());
    }
    assert_eq!(store.take_delivery(time(0), time(9)).await.unwrap(), None);
    let first = store
        .take_delivery(time(3), time(9))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&first.delivery, first.attempts), (&all[1], 1));
    let rest = join_all((0..4).map(|_| store.take_delivery(time(3), time(9)))).await;
    let rest: Vec<_> = rest.into_iter().filter_map(Result::unwrap).collect();
    let ids: HashSet<Uuid> = rest.iter().map(|taken| taken.delivery.id).collect();
    assert_eq!(
        (rest.len(), ids),
        (2, HashSet::from([all[0].id, all[2].id]))
    );
}

async fn unfinished_delivery_is_due_again_after_its_lease(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let one = delivery(1);
    store.insert_delivery(one.clone(), 10).await.unwrap();
    store
        .take_delivery(time(1), time(5))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.take_delivery(time(4), time(9)).await.unwrap(), None);
    let again = store
        .take_delivery(time(5), time(9))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&again.delivery, again.attempts), (&one, 2));
    store.end_delivery(&again, Some(time(20))).await.unwrap();
    assert_eq!(store.take_delivery(time(19), time(30)).await.unwrap(), None);
    let last = store
        .take_delivery(time(20), time(30))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.attempts, 3);
    store.end_delivery(&last, None).await.unwrap();
    assert_eq!(store.take_delivery(time(59), time(59)).await.unwrap(), None);
}

async fn server_that_lost_a_delivery_cannot_end_it(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    store.insert_delivery(delivery(1), 10).await.unwrap();
    let lost = store
        .take_delivery(time(1), time(5))
        .await
        .unwrap()
        .unwrap();
    let taken = store
        .take_delivery(time(5), time(9))
        .await
        .unwrap()
        .unwrap();
    store.end_delivery(&lost, None).await.unwrap();
    store.end_delivery(&lost, Some(time(6))).await.unwrap();
    assert_eq!(store.take_delivery(time(8), time(9)).await.unwrap(), None);
    store.end_delivery(&taken, Some(time(8))).await.unwrap();
    assert!(
        store
            .take_delivery(time(8), time(9))
            .await
            .unwrap()
            .is_some()
    );
}

async fn deliveries_beyond_the_limit_are_refused(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    for expected in [true, true, false] {
        let stored = store.insert_delivery(delivery(1), 2).await;
        assert_eq!(stored.unwrap(), expected);
    }
    let taken = store
        .take_delivery(time(1), time(5))
        .await
        .unwrap()
        .unwrap();
    assert!(!store.insert_delivery(delivery(1), 2).await.unwrap());
    store.end_delivery(&taken, None).await.unwrap();
    assert!(store.insert_delivery(delivery(1), 2).await.unwrap());
}
