//! Handles Ctrl-C from the beginning of a run until its conversations are deleted.

use std::future::pending;

use tokio::sync::watch;

/// Counts how often Ctrl-C was pressed.
#[derive(Clone, Debug)]
pub(super) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Listens while the runtime in which this is called exists.
    pub(super) fn listen() -> Self {
        let (sender, receiver) = watch::channel(0);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                sender.send_modify(|count| *count += 1);
            }
        });
        Self(receiver)
    }

    /// Returns how often Ctrl-C has been pressed.
    pub(super) fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Waits until Ctrl-C is pressed.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            pending().await
        }
    }
}
