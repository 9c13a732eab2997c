//! The readiness of a server: what it needs to serve clients, and whether that works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use roomcast::service::EndedTask;

/// The losses in communication with other servers since the server started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// The number of messages to or from other servers that are known to be lost.
    pub lost: u64,
    /// The number of times the server was isolated from its peers.
    pub gaps: u64,
    /// The total duration of these times.
    pub cut_off: Duration,
}

/// The inputs of readiness. Clones share their state.
#[derive(Clone)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    store: Arc<dyn Fn() -> bool + Send + Sync>,
    tasks: Arc<dyn Fn() -> Vec<EndedTask> + Send + Sync>,
    adapter: Arc<dyn Fn() -> Option<bool> + Send + Sync>,
    publications: Arc<dyn Fn() -> Option<bool> + Send + Sync>,
    losses: Arc<dyn Fn() -> Losses + Send + Sync>,
}

impl Readiness {
    /// Creates a readiness that holds while `store` returns that the store is writable, and `tasks`
    /// that no task has ended.
    ///
    /// `adapter` and `publications` are reported but do not affect readiness. Without the adapter,
    /// the server reads the changes of other servers from the store. `publications` returns whether
    /// events that services publish in the store are emitted. Both return `None` if not configured.
    pub fn new(
        store: impl Fn() -> bool + Send + Sync + 'static,
        tasks: impl Fn() -> Vec<EndedTask> + Send + Sync + 'static,
        adapter: impl Fn() -> Option<bool> + Send + Sync + 'static,
        publications: impl Fn() -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self {
            draining: Arc::default(),
            store: Arc::new(store),
            tasks: Arc::new(tasks),
            adapter: Arc::new(adapter),
            publications: Arc::new(publications),
            losses: Arc::new(Losses::default),
        }
    }

    /// Adds the losses to the report, which do not affect readiness either. Default: no losses.
    #[must_use]
    pub fn counting(mut self, losses: impl Fn() -> Losses + Send + Sync + 'static) -> Self {
        self.losses = Arc::new(losses);
        self
    }

    /// Returns the losses in communication with other servers.
    pub(crate) fn losses(&self) -> Losses {
        (self.losses)()
    }

    /// Records that the server is about to stop. From now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns whether the store is writable.
    pub(crate) fn is_storing(&self) -> bool {
        (self.store)()
    }

    /// Returns whether the adapter works, or `None` without an adapter.
    pub(crate) fn adapter(&self) -> Option<bool> {
        (self.adapter)()
    }

    /// Returns whether events published in the store are emitted, or `None` if that is not
    /// configured.
    pub(crate) fn publications(&self) -> Option<bool> {
        (self.publications)()
    }

    /// Returns the tasks that have ended unexpectedly.
    pub(crate) fn tasks(&self) -> Vec<EndedTask> {
        (self.tasks)()
    }

    /// Returns the state of the store as a word.
    pub(crate) fn store_word(&self) -> &'static str {
        word((self.store)())
    }

    /// Returns the state of the adapter as a word.
    pub(crate) fn adapter_word(&self) -> &'static str {
        (self.adapter)().map_or("none", word)
    }

    /// Returns the state of the publications as a word.
    pub(crate) fn publications_word(&self) -> &'static str {
        (self.publications)().map_or("none", word)
    }
}

/// Returns the word for a working or failing part.
pub(crate) const fn word(works: bool) -> &'static str {
    if works { "ok" } else { "unavailable" }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness")
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}
