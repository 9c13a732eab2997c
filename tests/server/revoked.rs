//! Clients whose credentials are no longer valid.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicBool, Ordering},
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
                std::thread::spawn(move || {
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
