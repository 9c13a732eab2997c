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
        nats::Nats,
        values::{Expected, Keyspace, Memory, Put, ValueError, Versioned},
    },
};
use serde_json::Value;

use super::{Postgres, Servers, Wire, quiet};
use crate::{local::until, nats_server::NatsServer, postgres_server, redis_server::RedisServer};

const LEASE: Duration = Duration::from_secs(60);

/// Runs a suite on three servers that share values in the memory of this process, in Redis, in
/// PostgreSQL and in NATS.
fn each(suite: impl Fn(&Servers)) {
    // A test that fails prints where.
    let suite = |name: &str, servers: &Servers| {
        println!("values in {name}");
        suite(servers);
    };
    let memory = Memory::default();
    let joined = Servers::joined(3, |io: Builder| quiet(io).values(memory.clone()));
    suite("memory", &joined);
    for wire in Wire::ALL {
        let servers = Servers::on_redis(RedisServer::shared(), 3, wire, quiet);
        suite(&format!("Redis, {wire:?}"), &servers);
    }
    suite("PostgreSQL", &Servers::on_postgres(3, quiet));
    suite("NATS", &Servers::on_nats(NatsServer::shared(), 3, quiet));
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

#[test]
fn values_are_unavailable_only_while_nats_is_down() {
    let nats = NatsServer::start();
    let servers = Servers::on_nats(&nats, 1, quiet);
    survives(&servers, || nats.kill(), || nats.restart());
}

#[test]
fn values_fail_on_nats_without_jetstream() {
    let nats = NatsServer::start_with("");
    let servers = Servers::on_nats(&nats, 1, quiet);
    let values = servers[0].io.values().unwrap();
    let numbers = numbers(&servers, 0);
    let runtime = &servers[0].runtime;
    for _ in 0..2 {
        let read = runtime.block_on(numbers.get("n"));
        let why = read.unwrap_err().to_string();
        assert!(why.contains("this NATS has no JetStream"), "{why}");
        let taken = runtime.block_on(values.try_lock("one", LEASE));
        let why = taken.unwrap_err().to_string();
        assert!(why.contains("this NATS has no JetStream"), "{why}");
    }
}

#[test]
fn nats_survives_the_first_use_by_many_servers() {
    let nats = NatsServer::start();
    let servers = Servers::on_nats(&nats, 1, quiet);
    for round in 0..40 {
        let key = format!("round{round}");
        let read = |_| {
            let adapter = Nats::new(&nats.url()).unwrap().key(&key);
            let io = quiet(Io::builder().adapter(adapter)).build().unwrap();
            async move {
                let values = io.values().unwrap();
                let numbers = values.keyspace("numbers", 1, |_, value: Value| Ok(value));
                numbers.get("n").await.map(|_: Option<Versioned<u64>>| ())
            }
        };
        servers[0].runtime.block_on(async {
            let reading: Vec<_> = (0..12).map(read).map(tokio::spawn).collect();
            for reading in reading {
                let read = reading.await.unwrap();
                assert!(read.is_ok(), "round {round}: {read:?}");
            }
        });
    }
}

#[test]
fn full_nats_bucket_still_accepts_changes_of_existing_keys() {
    let nats = NatsServer::start();
    let servers = Servers::on_nats(&nats, 1, quiet);
    let numbers = numbers(&servers, 0);
    servers[0].runtime.block_on(async {
        // As an operator creates it.
        let client = async_nats::connect(nats.url()).await.unwrap();
        let bucket = bucket(&servers);
        let config = async_nats::jetstream::stream::Config {
            name: format!("KV_{bucket}"),
            subjects: vec![format!("$KV.{bucket}.>")],
            discard: async_nats::jetstream::stream::DiscardPolicy::New,
            max_messages: 2,
            max_messages_per_subject: 1,
            ..Default::default()
        };
        let context = async_nats::jetstream::new(client);
        context.create_stream(config).await.unwrap();
        for key in ["a", "b"] {
            let put = numbers.put(key, Expected::Nothing, &1).await;
            assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
        }
        let full = numbers.put("c", Expected::Nothing, &1).await;
        assert!(matches!(full, Err(ValueError::Full)), "{full:?}");
        let full = numbers.put("c", Expected::Anything, &1).await;
        assert!(matches!(full, Err(ValueError::Full)), "{full:?}");
        let changed = numbers.put("a", Expected::Anything, &2).await;
        assert!(matches!(changed, Ok(Put::Stored(_))), "{changed:?}");
        let removed = numbers.remove("b", Expected::Anything).await;
        assert!(matches!(removed, Ok(Put::Stored(_))), "{removed:?}");
        let put = numbers.put("c", Expected::Nothing, &1).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
    });
}

#[test]
fn deleted_nats_bucket_is_created_again_on_put() {
    let nats = NatsServer::start();
    let servers = Servers::on_nats(&nats, 1, quiet);
    let numbers = numbers(&servers, 0);
    servers[0].runtime.block_on(async {
        let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
        for n in 0..3 {
            let put = numbers.put("a", Expected::Nothing, &n).await;
            assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
            let bucket = format!("KV_{}", bucket(&servers));
            context.delete_stream(bucket).await.unwrap();
        }
        assert!(numbers.get("a").await.is_err());
    });
}

fn bucket(servers: &Servers) -> String {
    let key: String = servers.key.bytes().map(escaped).collect();
    format!("roomcast-{key}")
}

/// Returns a byte of the servers' key as escaped in the name of their bucket.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() {
        char::from(byte).to_string()
    } else {
        format!("_{byte:02x}")
    }
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
