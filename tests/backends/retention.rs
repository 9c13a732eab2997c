//! The job that removes old messages, on a database shared with other clients.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use roomcast_server::store::Page;
use tempfile::TempDir;

use crate::harness::{self, Backend, Harness};

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
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_roomcast"))
            .current_dir(folder.path())
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", &url)
            .env("ROOMCAST_STORE__RETENTION", "1ms")
            .env("ROOMCAST_STORE__RETENTION_INTERVAL", "20ms")
            .env("ROOMCAST_STORE__RETENTION_BATCH", "2")
            .env("XDG_STATE_HOME", folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut servers = Servers((0..servers).map(|_| start()).collect());
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
        assert!(servers.are_running(), "a server has ended");
        tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
    }
    assert_eq!(harness.send(id, "ann", "new").await.seq, 8);
}

struct Servers(Vec<std::process::Child>);

impl Servers {
    fn are_running(&mut self) -> bool {
        self.0
            .iter_mut()
            .all(|server| server.try_wait().unwrap().is_none())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.0 {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
