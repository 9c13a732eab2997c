//! What servers share: values with versions, and locks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::{
    Builder,
    adapter::values::{Expected, Keyspace, Memory, Put, ValueError},
};
use serde_json::Value;

use super::{Servers, Wire, quiet};
use crate::{local::until, redis_server::RedisServer};

const LEASE: Duration = Duration::from_secs(60);

/// Three servers that share values in the memory of this process, and three that do so in Redis.
fn each(suite: impl Fn(&Servers)) {
    let memory = Memory::default();
    suite(&Servers::joined(3, |io: Builder| {
        quiet(io).values(memory.clone())
    }));
    for wire in Wire::ALL {
        suite(&Servers::on_redis(RedisServer::shared(), 3, wire, quiet));
    }
}

fn numbers(servers: &Servers, i: usize) -> Keyspace<u64> {
    let values = servers[i].io.values().unwrap();
    values.keyspace("numbers", 1, |_, value: Value| Ok(value))
}

#[test]
fn of_those_who_change_one_version_at_the_same_time_one_wins() {
    const EACH: u64 = 50;
    each(|servers| {
        let conflicts = Arc::new(AtomicUsize::new(0));
        let count = |i: usize| {
            let (numbers, conflicts) = (numbers(servers, i), Arc::clone(&conflicts));
            servers[i].runtime.spawn(async move {
                let mut last = 0;
                for _ in 0..EACH {
                    loop {
                        let known = numbers.get("n").await.unwrap();
                        let (expected, n) = known.map_or((Expected::Nothing, 0), |known| {
                            (Expected::Version(known.version), known.value)
                        });
                        match numbers.put("n", expected, &(n + 1)).await.unwrap() {
                            Put::Stored(version) => {
                                assert!(version > last);
                                last = version;
                                break;
                            }
                            other => {
                                assert!(matches!(other, Put::Conflict(_)));
                                conflicts.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
            })
        };
        let counting = [0, 1, 2].map(count);
        for (i, counting) in counting.into_iter().enumerate() {
            servers[i].runtime.block_on(counting).unwrap();
        }
        let n = servers[0].runtime.block_on(numbers(servers, 0).get("n"));
        assert_eq!(n.unwrap().unwrap().value, 3 * EACH);
    });
}

#[test]
fn a_lock_has_one_holder_and_a_larger_number_each_time() {
    each(|servers| {
        let (inside, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let take = |i: usize| {
            let values = servers[i].io.values().unwrap();
            let (inside, last) = (Arc::clone(&inside), Arc::clone(&last));
            servers[i].runtime.spawn(async move {
                for _ in 0..20 {
                    let lock = loop {
                        match values.try_lock("one", LEASE).await.unwrap() {
                            Some(lock) => break lock,
                            None => tokio::task::yield_now().await,
                        }
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    let before = last.swap(lock.fence(), Ordering::SeqCst);
                    assert!(lock.fence() > before);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert!(lock.release().await.unwrap());
                }
            })
        };
        let taking = [0, 1, 2].map(take);
        for (i, taking) in taking.into_iter().enumerate() {
            servers[i].runtime.block_on(taking).unwrap();
        }
    });
}

#[test]
fn who_stands_still_for_longer_than_the_lease_has_lost_the_lock_and_has_the_smaller_number() {
    each(|servers| {
        let short = Duration::from_millis(50);
        let values = |i: usize| servers[i].io.values().unwrap();
        let first = values(0);
        let held = first.try_lock("short", short);
        let mut held = servers[0].runtime.block_on(held).unwrap().unwrap();
        // The first one does nothing meanwhile.
        let next = servers[1].runtime.block_on(values(1).lock("short", LEASE));
        let next = next.unwrap();
        assert!(next.fence() > held.fence());
        servers[0].runtime.block_on(async {
            assert!(!held.renew().await.unwrap());
            assert_eq!(held.remaining(), Duration::ZERO);
            assert!(!held.release().await.unwrap());
        });
        let third = servers[2]
            .runtime
            .block_on(values(2).try_lock("short", LEASE));
        assert!(third.unwrap().is_none());
        assert!(servers[1].runtime.block_on(next.release()).unwrap());
    });
}

#[test]
fn who_watches_sees_what_another_server_has_changed() {
    each(|servers| {
        let mut watch = servers[1]
            .runtime
            .block_on(numbers(servers, 1).watch("w"))
            .unwrap();
        for n in 1..=3 {
            let put = numbers(servers, 0);
            let put = async move { put.put("w", Expected::Anything, &n).await };
            servers[0].runtime.block_on(put).unwrap();
            let seen = servers[1].runtime.block_on(watch.changed());
            assert_eq!(seen.unwrap().unwrap().value, n);
        }
        let removed = numbers(servers, 2);
        let removed = servers[2]
            .runtime
            .block_on(removed.remove("w", Expected::Anything));
        assert!(matches!(removed, Ok(Put::Stored(_))));
        assert!(
            servers[1]
                .runtime
                .block_on(watch.changed())
                .unwrap()
                .is_none()
        );
    });
}

#[test]
fn without_redis_values_are_not_to_be_had_and_then_they_are_again() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Classic, quiet);
    let numbers = numbers(&servers, 0);
    let put = || {
        servers[0]
            .runtime
            .block_on(numbers.put("n", Expected::Anything, &7))
    };
    assert!(matches!(put(), Ok(Put::Stored(_))));
    redis.kill();
    assert!(matches!(put(), Err(ValueError::Unavailable(_))));
    redis.restart();
    until(|| put().is_ok());
    let read = servers[0].runtime.block_on(numbers.get("n"));
    assert_eq!(read.unwrap().unwrap().value, 7);
}
