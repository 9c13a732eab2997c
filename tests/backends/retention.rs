//! The job that removes old messages, on a database shared with other clients.

use std::time::{Duration, Instant};

use roomcast_server::store::Page;
use tempfile::TempDir;

use crate::harness::{self, Backend, Harness};
use crate::support::ServerProcess;

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn old_messages_are_removed_from_postgresql() {
    // Two servers, as behind a load balancer.
    are_removed(harness::postgres(), 2).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn old_messages_are_removed_from_sqlite() {
    are_removed(harness::sqlite(), 1).await;
}

async fn are_removed(backend: Backend, servers: usize) {
    let url = backend.0.url.clone();
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for n in 0..7 {
        harness.send(id, "ann", &n.to_string()).await;
    }
    let folder = TempDir::new().unwrap();
    let variables = [
        ("ROOMCAST_STORE", url.as_str()),
        ("ROOMCAST_STORE__RETENTION", "1ms"),
        ("ROOMCAST_STORE__RETENTION_INTERVAL", "20ms"),
        ("ROOMCAST_STORE__RETENTION_BATCH", "2"),
    ];
    let start = |_| ServerProcess::start(folder.path(), &variables);
    let mut servers: Vec<_> = (0..servers).map(start).collect();
    let since = Instant::now();
    loop {
        let page = harness.store.history(id, Page::Newest, 100).await.unwrap();
        let messages = page.unwrap().messages;
        if messages.is_empty() {
            break;
        }
        // The rest is the end of the history, without gaps.
        let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (seqs[0]..=7).collect::<Vec<_>>());
        assert!(since.elapsed().as_secs() < 60, "still {seqs:?}");
        for server in &mut servers {
            assert!(server.is_running(), "a server has ended");
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    assert_eq!(harness.send(id, "ann", "new").await.seq, 8);
}
