use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn servers(count: usize) -> Vec<Values> {
    let memory = Memory::default();
    let server = |_| Values::new(Box::new(memory.clone()), Cluster::Local);
    (0..count).map(server).collect()
}

fn same(_: u32, value: Value) -> Result<Value, String> {
    Ok(value)
}

#[tokio::test]
async fn change_is_applied_if_the_stored_value_is_expected() {
    let values = servers(1).remove(0).keyspace::<u32>("n", 1, same);
    let Put::Stored(first) = values.put("a", Expected::Nothing, &1).await.unwrap() else {
        panic!("nothing was there");
    };
    let again = values.put("a", Expected::Nothing, &2).await.unwrap();
    assert_eq!(again, Put::Conflict(Some(first)));
    let second = values.put("a", Expected::Version(first), &2).await.unwrap();
    let Put::Stored(second) = second else {
        panic!("it was expected");
    };
    let read = values.get("a").await.unwrap().unwrap();
    assert_eq!((read.version, read.value), (second, 2));
    let old = values.remove("a", Expected::Version(first)).await.unwrap();
    assert_eq!(old, Put::Conflict(Some(second)));
    let removed = values.remove("a", Expected::Anything).await.unwrap();
    let Put::Stored(third) = removed else {
        panic!("{removed:?}");
    };
    assert_eq!(values.get("a").await.unwrap(), None);
    let none = values
        .put("a", Expected::Version(second), &3)
        .await
        .unwrap();
    assert_eq!(none, Put::Conflict(None));
    let new = values.put("a", Expected::Nothing, &3).await.unwrap();
    assert!(matches!(new, Put::Stored(version) if version > third && third > second));
}

#[tokio::test]
async fn older_schema_is_migrated_and_newer_schema_is_refused() {
    fn migrate(schema: u32, value: Value) -> Result<Value, String> {
        match schema {
            1 => Ok(Value::Object(
                [("name".to_owned(), value)].into_iter().collect(),
            )),
            2 => Ok(json!({"name": value["name"], "size": 0})),
            other => Err(format!("there is no schema {other}")),
        }
    }
    let server = servers(1).remove(0);
    let first = server.keyspace::<String>("x", 1, same);
    let third = server.keyspace::<Value>("x", 3, migrate);
    first
        .put("a", Expected::Anything, &"ann".to_owned())
        .await
        .unwrap();
    let read = third.get("a").await.unwrap().unwrap();
    assert_eq!(read.value, json!({"name": "ann", "size": 0}));
    let stored = third
        .put("a", Expected::Version(read.version), &read.value)
        .await;
    assert!(matches!(stored, Ok(Put::Stored(_))));
    assert!(matches!(first.get("a").await, Err(ValueError::Newer(3))));
    let zero = server.keyspace::<String>("x", 0, same);
    zero.put("b", Expected::Anything, &"bob".to_owned())
        .await
        .unwrap();
    assert!(matches!(third.get("b").await, Err(ValueError::Decode(_))));
    let other = server.keyspace::<u32>("x", 3, migrate);
    assert!(matches!(other.get("a").await, Err(ValueError::Decode(_))));
}

#[tokio::test]
async fn corpus_values_are_read_and_stored_unchanged() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/values.txt");
    let corpus = std::fs::read_to_string(path).unwrap();
    let values = servers(1).remove(0);
    let mut read_lines = 0;
    for line in corpus.lines().filter(|line| !line.starts_with('#')) {
        read_lines += 1;
        let [keyspace, _, text] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let key = format!("{keyspace}:7");
        let stored = values
            .0
            .store
            .put(&key, Expected::Anything, Some(text.into()));
        assert!(matches!(stored.await, Ok(Put::Stored(_))));
        let keyspace = values.keyspace::<Value>(keyspace, 1, same);
        let read = keyspace.get("7").await.unwrap().unwrap();
        let again = keyspace.put("7", Expected::Version(read.version), &read.value);
        assert!(matches!(again.await, Ok(Put::Stored(_))));
        let stored = values.0.store.get(&key).await.unwrap().unwrap();
        assert_eq!(&*stored.text, text);
    }
    assert!(read_lines >= 1, "the corpus has no value");
}

#[tokio::test]
async fn keys_values_and_their_number_are_bounded() {
    let server = servers(1).remove(0);
    let values = server.keyspace::<String>("n", 1, same);
    let text = String::new();
    for key in ["a b", "\u{e4}", "\n", &"k".repeat(MAX_KEY - 1)] {
        let put = values.put(key, Expected::Anything, &text).await;
        assert!(matches!(put, Err(ValueError::Key)), "{key}");
        assert!(matches!(values.get(key).await, Err(ValueError::Key)));
    }
    assert!(matches!(
        server.try_lock("", SECOND).await,
        Err(ValueError::Key)
    ));
    let large = "x".repeat(MAX_VALUE);
    let put = values.put("a", Expected::Anything, &large).await;
    assert!(matches!(put, Err(ValueError::TooLarge)));
    for n in 0..MAX_KEYS {
        let put = values.put(&n.to_string(), Expected::Anything, &text).await;
        assert!(matches!(put, Ok(Put::Stored(_))));
    }
    let put = values.put("more", Expected::Anything, &text).await;
    assert!(matches!(put, Err(ValueError::Full)));
    let known = values.put("7", Expected::Anything, &text).await;
    assert!(matches!(known, Ok(Put::Stored(_))));
}

#[tokio::test(start_paused = true)]
async fn change_is_seen_immediately_if_announced_else_within_5s() {
    let servers = servers(2);
    let [first, second] = [0, 1].map(|i: usize| servers[i].keyspace::<u32>("n", 1, same));
    let (mut near, mut far) = (
        first.watch("a").await.unwrap(),
        second.watch("a").await.unwrap(),
    );
    let start = tokio::time::Instant::now();
    first.put("b", Expected::Anything, &0).await.unwrap();
    first.put("a", Expected::Anything, &1).await.unwrap();
    assert_eq!(near.changed().await.unwrap().unwrap().value, 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // It reads the value before it waits.
    assert_eq!(far.changed().await.unwrap().unwrap().value, 1);
    let seen = tokio::spawn(async move { far.changed().await.map(|_| start.elapsed()) });
    tokio::time::sleep(SECOND).await; // It waits by then.
    first.remove("a", Expected::Anything).await.unwrap();
    assert_eq!(near.changed().await.unwrap(), None);
    assert_eq!(seen.await.unwrap().unwrap(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn stalled_holder_learns_that_its_lease_expired() {
    let servers = servers(2);
    let mut held = servers[0]
        .try_lock("x", 10 * SECOND)
        .await
        .unwrap()
        .unwrap();
    assert!(servers[1].try_lock("x", SECOND).await.unwrap().is_none());
    tokio::time::advance(6 * SECOND).await;
    assert!(held.renew().await.unwrap());
    assert_eq!(held.remaining(), 10 * SECOND);
    // This server stalls.
    tokio::time::advance(11 * SECOND).await;
    assert_eq!(held.remaining(), Duration::ZERO);
    let other = servers[1]
        .try_lock("x", 10 * SECOND)
        .await
        .unwrap()
        .unwrap();
    assert!(other.fence() > held.fence());
    assert!(!held.renew().await.unwrap());
    assert!(!held.release().await.unwrap());
    let waiting = servers[0].clone();
    let waiting = tokio::spawn(async move { waiting.lock("x", SECOND).await });
    tokio::task::yield_now().await;
    let fence = other.fence();
    assert!(other.release().await.unwrap());
    assert!(waiting.await.unwrap().unwrap().fence() > fence);
}

/// A store that delays responses to lock requests until the future returned by `self.1` completes.
struct Stalling<F>(Memory, F);

impl<F: Fn() -> BoxFuture<()> + Send + Sync + 'static> ValueStore for Stalling<F> {
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>> {
        self.0.get(key)
    }

    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>> {
        self.0.put(key, expected, text)
    }

    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>> {
        let (locked, stalled) = (self.0.lock(name, holder, lease), (self.1)());
        Box::pin(async move {
            let locked = locked.await;
            stalled.await;
            locked
        })
    }

    fn renew(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> BoxFuture<Result<bool, ValueError>> {
        self.0.renew(name, fence, lease)
    }

    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>> {
        self.0.unlock(name, fence)
    }
}

#[tokio::test(start_paused = true)]
async fn lock_with_lost_response_is_released_or_acquired_by_retry() {
    let lease = 24 * 60 * 60 * SECOND;
    let memory = Memory::default();
    let server = |is_late| {
        let is_late = AtomicBool::new(is_late);
        let stall = move || -> BoxFuture<()> {
            // The first response is late, as if the store were unavailable.
            match is_late.swap(false, Ordering::Relaxed) {
                true => Box::pin(tokio::time::sleep(STORE_TIMEOUT * 2)),
                false => Box::pin(std::future::ready(())),
            }
        };
        Values::new(Box::new(Stalling(memory.clone(), stall)), Cluster::Local)
    };
    let start = tokio::time::Instant::now();
    let late = server(true).try_lock("x", lease).await;
    assert!(matches!(late, Err(ValueError::Unavailable(_))));
    let other = server(false).lock("x", lease).await.unwrap();
    assert!(other.release().await.unwrap());
    // A caller that stops waiting does not know whether it holds the lock either.
    let late = server(true);
    let given_up = timeout(SECOND, late.try_lock("x", lease)).await;
    assert!(given_up.is_err());
    let other = server(false).lock("x", lease).await.unwrap();
    assert!(other.release().await.unwrap());
    // A caller that keeps trying acquires the lock.
    let own = server(true).lock("x", lease).await.unwrap();
    assert!(start.elapsed() < lease, "no lease has ended");
    assert!(own.release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn in_doubt_locks_are_released_one_request_at_a_time_after_outage() {
    #[derive(Default)]
    struct StoreState {
        is_unavailable: AtomicBool,
        now: AtomicUsize,
    }

    struct Counted(Arc<StoreState>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    let lease = 24 * 60 * 60 * SECOND;
    let (memory, state) = (Memory::default(), Arc::<StoreState>::default());
    // While the store is unavailable, it performs requests but never responds.
    let known = Arc::clone(&state);
    let stall = move || -> BoxFuture<()> {
        known.now.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&known));
        Box::pin(async move {
            if counted.0.is_unavailable.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        })
    };
    let values = Values::new(Box::new(Stalling(memory.clone(), stall)), Cluster::Local);
    state.is_unavailable.store(true, Ordering::Relaxed);
    for n in 0..lock::MAX_IN_DOUBT * 2 {
        // The caller gives up almost immediately.
        let name = n.to_string();
        let tried = timeout(SECOND / 1000, values.try_lock(&name, lease)).await;
        assert!(tried.is_err());
        assert!(state.now.load(Ordering::Relaxed) <= 1, "{n}");
    }
    state.is_unavailable.store(false, Ordering::Relaxed);
    let other = Values::new(Box::new(memory), Cluster::Local);
    // The queued locks are released long before their leases expire.
    let start = tokio::time::Instant::now();
    for n in 0..lock::MAX_IN_DOUBT {
        assert!(other.lock(&n.to_string(), lease).await.is_ok());
    }
    assert!(start.elapsed() < lease);
}
