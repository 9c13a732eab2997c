//! The signals that stop the server.

use std::future::poll_fn;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that stop the server.
pub(super) struct Signals(Mutex<[Signal; 2]>);

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        let [terminate, interrupt] = kinds.map(signal);
        Ok(Self(Mutex::new([terminate?, interrupt?])))
    }

    /// Waits for the next one.
    pub(super) async fn next(&self) {
        let is_there = |cx: &mut Context<'_>, signal: &mut Signal| signal.poll_recv(cx).is_ready();
        poll_fn(|cx| {
            let mut signals = self.0.lock();
            match signals.iter_mut().any(|signal| is_there(cx, signal)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}
