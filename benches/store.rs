//! The stores without a server: messages that share transactions, and a page of a long history.
//!
//! `HISTORY` sets the length of the history (default 1,000,000 messages, which takes minutes to
//! write). PostgreSQL is a private server that waits for the disk; the databases are in `TMPDIR`.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "a bench")]

#[path = "../tests/support/broker.rs"]
mod broker;
#[path = "../tests/support/port.rs"]
mod port;
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postgres::Postgres;
use roomcast_server::{
    config,
    metrics::Metrics,
    store::{Insert, MessageKind, NewConversation, NewMessage, Origin, Page, Store},
};
use serde_json::value::RawValue;
use tokio::{runtime::Runtime, task::JoinSet};
use uuid::Uuid;

/// The user who sends and reads.
const USER: &str = "ann";

/// A store with a conversation, and a task that drains its commits.
struct OpenStore {
    name: &'static str,
    store: Store,
    conversation: Uuid,
}

impl OpenStore {
    async fn open(name: &'static str, url: String) -> Self {
        let config = config::Store {
            url,
            max_bytes: None,
            ..config::Store::default()
        };
        let (store, mut commits) = Store::open(&config, Arc::new(Metrics::default()))
            .await
            .unwrap();
        tokio::spawn(async move {
            while let Some(commit) = commits.next().await {
                commit.resolve();
            }
        });
        let conversation = Uuid::new_v4();
        let new = NewConversation {
            id: conversation,
            title: None,
            owner_id: Some(USER.into()),
            member_ids: Vec::new(),
            is_open: false,
        };
        store.insert_conversation(new).await.unwrap();
        Self {
            name,
            store,
            conversation,
        }
    }

    /// Stores this many messages, `senders` of them concurrently.
    async fn fill(&self, messages: u64, senders: u64) {
        let mut all = JoinSet::new();
        for sender in 0..senders {
            let (store, conversation) = (self.store.clone(), self.conversation);
            let own = messages / senders + u64::from(sender < messages % senders);
            all.spawn(async move {
                for _ in 0..own {
                    let stored = store.insert_message(message(conversation), Origin::default());
                    assert!(matches!(stored.await, Ok(Insert::Stored(_))));
                }
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    }

    /// Reads a page of 50 messages.
    async fn page(&self, page: Page) -> usize {
        let read = self.store.messages(self.conversation, USER, page, 50).await;
        read.unwrap().expect("a member").messages.len()
    }
}

fn message(conversation_id: Uuid) -> NewMessage {
    NewMessage {
        conversation_id,
        user_id: USER.into(),
        user_name: "Ann".into(),
        content: "hello, world; as long as people's messages are, more or less".into(),
        kind: MessageKind::User,
        metadata: RawValue::from_string("{}".into()).unwrap(),
        client_message_id: None,
        reply_to: None,
        mentions: Vec::new(),
        notice: None,
        holder: None,
    }
}

/// Runs `bench` with each store, one after the other.
fn each(runtime: &Runtime, stores: &[&'static str], mut bench: impl FnMut(&OpenStore)) {
    for &name in stores {
        let folder = tempfile::tempdir().unwrap();
        let server = (name == "postgres").then(Postgres::start_durable);
        let url = match &server {
            Some(server) => server.database(),
            None if name == "sqlite" => format!("sqlite:{}", folder.path().join("db").display()),
            None => "memory:".to_owned(),
        };
        let place = runtime.block_on(OpenStore::open(name, url));
        bench(&place);
        runtime.block_on(place.store.close());
    }
}

/// Measures insertion: a single message waits for its own transaction; concurrent messages share
/// one.
fn insert(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("store_insert");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(1));
    each(&runtime, &["sqlite", "postgres"], |place| {
        for senders in [1, 64, 1024] {
            group.bench_function(BenchmarkId::new(place.name, senders), |b| {
                b.iter_custom(|messages| {
                    let began = Instant::now();
                    runtime.block_on(place.fill(messages, senders.min(messages)));
                    began.elapsed()
                });
            });
        }
    });
    group.finish();
}

/// Reads 50 messages of a conversation with a million messages.
fn history(c: &mut Criterion) {
    let length = std::env::var("HISTORY").ok();
    let length = length.map_or(1_000_000, |length| {
        length.parse().expect("HISTORY is a number")
    });
    // `cargo test --benches` runs this once, to test that it works.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let length = if is_measured { length } else { 200 };
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group(format!("store_page_of_{length}"));
    each(&runtime, &["sqlite", "postgres"], |place| {
        runtime.block_on(place.fill(length, 2048));
        for (name, page) in [
            ("newest", Page::Newest),
            ("before_the_middle", Page::Before(length / 2)),
            ("after_the_middle", Page::After(length / 2)),
            ("before_the_51st", Page::Before(51)),
            ("oldest", Page::After(0)),
        ] {
            assert_eq!(runtime.block_on(place.page(page)), 50);
            group.bench_function(BenchmarkId::new(place.name, name), |b| {
                b.iter(|| runtime.block_on(place.page(black_box(page))));
            });
        }
    });
    group.finish();
}

criterion_group!(benches, insert, history);
criterion_main!(benches);
