//! Values and locks shared by servers on one PostgreSQL.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::adapter::values::{Expected, Put, StoredValue, ValueStore};
use roomcast_server::store::SharedValues;
use tokio::task::JoinSet;

use crate::harness::{Harness, postgres};

const LONG: Duration = Duration::from_secs(3600);

async fn open() -> (Harness, SharedValues) {
    let harness = Harness::new(postgres()).await;
    let values = harness.store.values().unwrap();
    (harness, values)
}

async fn put(values: &SharedValues, expected: Expected, text: Option<&str>) -> Put {
    values
        .put("k", expected, text.map(Into::into))
        .await
        .unwrap()
}

#[tokio::test]
async fn value_changes_only_if_the_current_value_is_expected() {
    let (_harness, values) = open().await;
    let none = put(&values, Expected::Version(7), Some("0")).await;
    assert_eq!(none, Put::Conflict(None));
    let Put::Stored(first) = put(&values, Expected::Nothing, Some("1")).await else {
        panic!("nothing was there");
    };
    let again = put(&values, Expected::Nothing, Some("2")).await;
    assert_eq!(again, Put::Conflict(Some(first)));
    let Put::Stored(second) = put(&values, Expected::Version(first), Some("2")).await else {
        panic!("it was there");
    };
    let Put::Stored(third) = put(&values, Expected::Anything, Some("3")).await else {
        panic!("anything may be there");
    };
    let text = "3".into();
    let version = third;
    assert_eq!(
        values.get("k").await.unwrap(),
        Some(StoredValue { version, text })
    );
    let old = put(&values, Expected::Version(second), None).await;
    assert_eq!(old, Put::Conflict(Some(third)));
    let there = put(&values, Expected::Nothing, None).await;
    assert_eq!(there, Put::Conflict(Some(third)));
    let put_again = put(&values, Expected::Version(third), None).await;
    assert!(matches!(put_again, Put::Stored(_)));
    assert_eq!(values.get("k").await.unwrap(), None);
    let Put::Stored(last) = put(&values, Expected::Anything, Some("4")).await else {
        panic!("anything may be there");
    };
    assert!(first < second && second < third && third < last);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_concurrent_changes_of_a_value_succeeds() {
    let (_harness, values) = open().await;
    let mut counting = JoinSet::new();
    for _ in 0..3 {
        let values = values.clone();
        counting.spawn(async move {
            for _ in 0..20 {
                loop {
                    let known = values.get("k").await.unwrap();
                    let (expected, n) = known.map_or((Expected::Nothing, 0), |known| {
                        (
                            Expected::Version(known.version),
                            known.text.parse().unwrap(),
                        )
                    });
                    let text = (n + 1_u32).to_string();
                    if let Put::Stored(_) = put(&values, expected, Some(&text)).await {
                        break;
                    }
                }
            }
        });
    }
    counting.join_all().await;
    assert_eq!(&*values.get("k").await.unwrap().unwrap().text, "60");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_has_one_holder_and_a_larger_number_each_time() {
    let (_harness, values) = open().await;
    let (inside, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let mut taking = JoinSet::new();
    for name in ["a", "b", "c"] {
        let (values, inside, last) = (values.clone(), Arc::clone(&inside), Arc::clone(&last));
        taking.spawn(async move {
            for _ in 0..10 {
                let fence = loop {
                    if let Some(fence) = values.lock("l", name, LONG).await.unwrap() {
                        break fence;
                    }
                };
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                assert!(fence > last.swap(fence, Ordering::SeqCst));
                assert!(values.renew("l", fence, LONG).await.unwrap());
                inside.fetch_sub(1, Ordering::SeqCst);
                assert!(values.unlock("l", fence).await.unwrap());
                assert!(!values.unlock("l", fence).await.unwrap());
            }
        });
    }
    taking.join_all().await;
}

#[tokio::test]
async fn holder_suspended_beyond_its_lease_loses_the_lock() {
    let (_harness, values) = open().await;
    let short = Duration::from_millis(20);
    let old = values.lock("l", "a", short).await.unwrap().unwrap();
    // The first holder does nothing while its lease expires.
    let new = loop {
        if let Some(fence) = values.lock("l", "b", LONG).await.unwrap() {
            break fence;
        }
    };
    assert!(new > old);
    assert!(!values.renew("l", old, LONG).await.unwrap());
    assert!(!values.unlock("l", old).await.unwrap());
    assert_eq!(values.lock("l", "c", LONG).await.unwrap(), None);
    assert!(values.renew("l", new, LONG).await.unwrap());
    // A holder that does not know that it holds the lock gets it again.
    let again = values.lock("l", "b", LONG).await.unwrap().unwrap();
    assert!(again > new);
    assert!(!values.unlock("l", new).await.unwrap());
    assert!(values.unlock("l", again).await.unwrap());
}
