//! Values with versions, and locks, that servers share.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::{
    Builder, Io,
    adapter::{
        Adapter,
        nats::Nats,
        values::{Expected, Keyspace, Memory, NoValueStore, Put, ValueError},
    },
};
use serde_json::Value;

use super::{Postgres, Servers, Wire, hub::Hub, quiet};
use crate::{local::until, nats_server::NatsServer, postgres_server, redis_server::RedisServer};

const LEASE: Duration = Duration::from_secs(60);

/// Runs a suite on three servers that share values in the memory of this process, in Redis and in
/// PostgreSQL.
fn each(suite: impl Fn(&Servers)) {
    // A test that fails prints where.
    let suite = |name: &str, servers: &Servers| {
        println!("values in {name}");
        suite(servers);
    };
    let in_memory = || {
        let memory = Memory::default();
        move |io: Builder| quiet(io).values(memory.clone())
    };
    suite("memory", &Servers::joined(3, in_memory()));
    for wire in Wire::ALL {
        let servers = Servers::on_redis(RedisServer::shared(), 3, wire, quiet);
        suite(&format!("Redis, {wire:?}"), &servers);
    }
    suite("PostgreSQL", &Servers::on_postgres(3, quiet));
    let on_nats = Servers::on_nats(NatsServer::shared(), 3, in_memory());
    suite("memory, announced through NATS", &on_nats);
}

fn numbers(servers: &Servers, i: usize) -> Keyspace<u64> {
    let values = servers[i].io.values().unwrap();
    values.keyspace("numbers", 1, |_, value: Value| Ok(value))
}

#[test]
fn one_of_concurrent_puts_of_a_version_succeeds() {
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
fn suspended_lock_holder_is_fenced_off_after_its_lease() {
    each(|servers| {
        let short = Duration::from_millis(50);
        let values = |i: usize| servers[i].io.values().unwrap();
        let first = values(0);
        let held = first.try_lock("short", short);
        let mut held = servers[0].runtime.block_on(held).unwrap().unwrap();
        // The first holder does nothing while its lease expires.
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
fn watcher_sees_changes_of_another_server() {
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
fn conditional_changes_conflict_before_and_after_removal() {
    each(|servers| {
        let numbers = numbers(servers, 0);
        servers[0].runtime.block_on(async {
            let put = async |expected, n: u64| numbers.put("e", expected, &n).await.unwrap();
            let none = Put::Conflict(None);
            assert_eq!(put(Expected::Version(0), 1).await, none);
            assert_eq!(put(Expected::Version(7), 1).await, none);
            let Put::Stored(first) = put(Expected::Nothing, 1).await else {
                panic!("nothing was there");
            };
            let conflict = Put::Conflict(Some(first));
            assert_eq!(put(Expected::Nothing, 2).await, conflict);
            assert_eq!(put(Expected::Version(first + 1), 2).await, conflict);
            assert_eq!(put(Expected::Version(0), 2).await, conflict);
            let Put::Stored(second) = put(Expected::Anything, 2).await else {
                panic!("anything was expected");
            };
            assert!(second > first);
            let remove = async |expected| numbers.remove("e", expected).await.unwrap();
            let conflict = Put::Conflict(Some(second));
            assert_eq!(remove(Expected::Version(first)).await, conflict);
            assert_eq!(remove(Expected::Nothing).await, conflict);
            let Put::Stored(third) = remove(Expected::Version(second)).await else {
                panic!("it was there");
            };
            assert!(third > second);
            assert!(numbers.get("e").await.unwrap().is_none());
            assert_eq!(put(Expected::Version(second), 3).await, none);
            assert_eq!(put(Expected::Version(third), 3).await, none);
            assert_eq!(remove(Expected::Version(third)).await, none);
            let Put::Stored(fourth) = put(Expected::Nothing, 3).await else {
                panic!("nothing was there");
            };
            assert!(fourth > third);
            let known = numbers.get("e").await.unwrap().unwrap();
            assert_eq!((known.version, known.value), (fourth, 3));
        });
    });
}

#[test]
fn change_listener_gets_the_changed_keys_of_its_keyspace() {
    each(|servers| {
        let mut changes = numbers(servers, 1).changes();
        let put = |name: &str, key: &str| {
            let values = servers[0].io.values().unwrap();
            let others = values.keyspace::<u64>(name, 1, |_, value: Value| Ok(value));
            let put = async { others.put(key, Expected::Anything, &7).await };
            servers[0].runtime.block_on(put).unwrap();
        };
        for (name, key) in [("numbers", "a"), ("letters", "b"), ("numbers", "c:d")] {
            put(name, key);
        }
        for expected in ["a", "c:d"] {
            let changed_key = servers[1].runtime.block_on(changes.next());
            assert_eq!(changed_key.as_deref(), Some(expected));
        }
    });
}

/// A value is unavailable without the broker, and is available again when the broker is back.
fn survives(servers: &Servers, kill: impl FnOnce(), restart: impl FnOnce()) {
    let numbers = numbers(servers, 0);
    let put = || {
        servers[0]
            .runtime
            .block_on(numbers.put("n", Expected::Anything, &7))
    };
    assert!(matches!(put(), Ok(Put::Stored(_))));
    kill();
    assert!(matches!(put(), Err(ValueError::Unavailable(_))));
    restart();
    until(|| put().is_ok());
    let read = servers[0].runtime.block_on(numbers.get("n"));
    assert_eq!(read.unwrap().unwrap().value, 7);
}

/// Returns the reason why a server has no values, and whether it has a store after one is set.
fn without_store(adapter: impl Adapter, other: impl Adapter) -> (NoValueStore, bool) {
    let io = quiet(Io::builder().adapter(adapter)).build().unwrap();
    let missing = io.values().err();
    let with_store = quiet(Io::builder().adapter(other)).values(Memory::default());
    let with_store = with_store.build().unwrap();
    (missing.unwrap(), with_store.values().is_ok())
}

#[tokio::test]
async fn adapter_without_a_value_store_needs_one_from_the_builder() {
    let nats = || Nats::new("nats://127.0.0.1:1").unwrap();
    let hub = Hub::new();
    for (missing, has_set_store) in [
        without_store(nats(), nats()),
        without_store(hub.adapter(), hub.adapter()),
    ] {
        assert_eq!(missing, NoValueStore::Unsupported);
        assert!(missing.to_string().contains("`Builder::values`"));
        assert!(has_set_store);
    }
}

#[tokio::test]
async fn values_without_an_adapter_are_in_memory_after_the_build() {
    let io = quiet(Io::builder());
    let handle = io.handle();
    assert_eq!(handle.values().err(), Some(NoValueStore::NotBuilt));
    let _io = io.build().unwrap();
    let numbers = handle.values().unwrap();
    let numbers = numbers.keyspace::<u64>("numbers", 1, |_, value: Value| Ok(value));
    let put = numbers.put("n", Expected::Nothing, &7).await.unwrap();
    assert!(matches!(put, Put::Stored(_)));
    assert_eq!(numbers.get("n").await.unwrap().unwrap().value, 7);
}

#[test]
fn values_are_unavailable_only_while_redis_is_down() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Classic, quiet);
    survives(&servers, || redis.kill(), || redis.restart());
}

#[test]
fn values_are_unavailable_only_while_postgresql_is_down() {
    let postgres = postgres_server::Postgres::start();
    let url = postgres.database();
    let servers = Servers::serve_and_meet(1, |key| Postgres::new(&url).unwrap().key(key), quiet);
    let postgres = RefCell::new(postgres);
    let kill = || postgres.borrow_mut().kill();
    survives(&servers, kill, || postgres.borrow_mut().restart());
}
