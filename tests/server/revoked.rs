//! Clients whose credentials are no longer valid.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use roomcast::{Authenticate, Connect, Io, Principal, Refusal, testing::serve};
use serde_json::Value;

/// Authenticates every client until the flag is set, which revokes all.
struct Revocable(Arc<AtomicBool>);

impl Authenticate for Revocable {
    async fn authenticate(&self, _: Connect) -> Result<Principal, Refusal> {
        Ok(Principal::new("ann"))
    }

    fn revalidate(&self, _: &Principal) -> Result<(), Refusal> {
        if self.0.load(Ordering::Acquire) {
            Err(Refusal::new("TOKEN_REVOKED", "gone"))
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn concurrent_revocation_checks_notify_a_client_once() {
    const FINDERS: usize = 8;
    const ROUNDS: usize = 50;
    let is_revoked = Arc::new(AtomicBool::new(false));
    let io = Io::builder().namespace("/", |namespace| {
        namespace.authenticate(Revocable(Arc::clone(&is_revoked)))
    });
    let server = serve(io).await;
    for _ in 0..ROUNDS {
        is_revoked.store(false, Ordering::Release);
        let mut client = server.client().connect().await.unwrap();
        is_revoked.store(true, Ordering::Release);
        let start = Arc::new(Barrier::new(FINDERS));
        let finders: Vec<_> = (0..FINDERS)
            .map(|_| {
                let (io, start) = (server.io().clone(), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    io.revalidate();
                })
            })
            .collect();
        for finder in finders {
            finder.join().unwrap();
        }
        let error: Value = client.event("error").await.unwrap();
        assert_eq!(error["code"], "TOKEN_REVOKED");
        assert!(client.next().await.is_err(), "nothing follows but the end");
    }
}

#[tokio::test]
async fn revocation_check_returns_after_a_concurrent_one_has_taken_effect() {
    let is_revoked = Arc::new(AtomicBool::new(false));
    let io = Io::builder().namespace("/", |namespace| {
        namespace.authenticate(Revocable(Arc::clone(&is_revoked)))
    });
    let server = serve(io).await;
    let _client = server.client().connect().await.unwrap();
    let [socket] = server.io().of("/").local().sockets().try_into().unwrap();
    // The first check stops before the client is disconnected.
    let (notifying, notified) = mpsc::channel();
    let (go_on, released) = mpsc::channel();
    let released = Mutex::new(released);
    let observer = socket.on_any_outgoing(move |_| {
        notifying.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
    });
    let _observer = observer.unwrap();
    is_revoked.store(true, Ordering::Release);
    let io = server.io().clone();
    let first = thread::spawn(move || io.revalidate());
    notified.recv().unwrap();
    let io = server.io().clone();
    let second = thread::spawn(move || {
        io.revalidate();
        socket.is_connected()
    });
    // The second check has time to return too early.
    thread::sleep(Duration::from_millis(100));
    assert!(!second.is_finished());
    go_on.send(()).unwrap();
    assert_eq!(first.join().unwrap(), 1);
    assert!(!second.join().unwrap(), "disconnected when it returns");
}
