//! What a server needs to serve clients, and whether it works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use roomcast::EndedTask;

/// What of other servers, or for them, is missing since the server started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// How many messages for other servers or from them are known to be lost.
    pub lost: u64,
    /// How often the server was cut off from the others.
    pub gaps: u64,
    /// For how long it was, all these times together.
    pub cut_off: Duration,
}

/// What readiness depends on. Cloning gives another handle.
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
    /// Ready while `store` says that it can be written, and `tasks` that none has ended. Whether the `adapter`
    /// works, if there is one, is told and changes nothing: without it the server reads from the store what
    /// others do. So is whether what services publish in the store is emitted.
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

    /// Tells as well what of other servers, or for them, is missing, which changes nothing either. Default: nothing.
    #[must_use]
    pub fn counting(mut self, losses: impl Fn() -> Losses + Send + Sync + 'static) -> Self {
        self.losses = Arc::new(losses);
        self
    }

    /// What of other servers, or for them, is missing.
    pub(crate) fn losses(&self) -> Losses {
        (self.losses)()
    }

    /// Notes that the server is about to stop: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the store can be written.
    pub(crate) fn is_storing(&self) -> bool {
        (self.store)()
    }

    /// Whether the adapter works, if there is one.
    pub(crate) fn adapter(&self) -> Option<bool> {
        (self.adapter)()
    }

    /// Whether what services publish in the store is emitted, if it is.
    pub(crate) fn publications(&self) -> Option<bool> {
        (self.publications)()
    }

    /// The tasks that have ended unasked.
    pub(crate) fn tasks(&self) -> Vec<EndedTask> {
        (self.tasks)()
    }

    /// The store in a word.
    pub(crate) fn store_word(&self) -> &'static str {
        word((self.store)())
    }

    /// The adapter in a word.
    pub(crate) fn adapter_word(&self) -> &'static str {
        (self.adapter)().map_or("none", word)
    }

    /// The publications in a word.
    pub(crate) fn publications_word(&self) -> &'static str {
        (self.publications)().map_or("none", word)
    }
}

/// Whether something works, in a word.
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
