//! Handlers that outlive their socket.

use std::sync::{Arc, atomic::Ordering};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use super::running::Running;
use crate::{
    metrics::Gauge,
    socket::core::{ConnInner, Io},
};

impl Io {
    /// Runs the remaining handlers to completion in their own task.
    pub(crate) fn detach(&self, handlers: Vec<Running>, of: &Arc<ConnInner>) {
        let Some(runtime) = self.0.runtime.get() else {
            return;
        };
        if handlers.is_empty() {
            return;
        }
        let detached = Detached::new(self.clone(), Arc::clone(of), handlers.len());
        let mut handlers: FuturesUnordered<_> = handlers.into_iter().collect();
        let ending = async move {
            while handlers.next().await.is_some() {}
            // The guard is moved into the task, so that it counts until the last handler has ended.
            drop(detached);
        };
        runtime.spawn(ending.boxed());
    }
}

/// Counts handlers that have outlived their socket.
struct Detached {
    io: Io,
    of: Arc<ConnInner>,
    handlers: usize,
}

impl Detached {
    fn new(io: Io, of: Arc<ConnInner>, handlers: usize) -> Self {
        of.count_detached(handlers);
        io.0.detached.fetch_add(handlers, Ordering::AcqRel);
        io.0.metrics.shift(Gauge::HandlersDetached, handlers as i64);
        Self { io, of, handlers }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // The counts also decrease if the runtime drops the task, so that no caller waits forever.
        self.of.count_settled(self.handlers);
        let inner = &self.io.0;
        inner
            .metrics
            .shift(Gauge::HandlersDetached, -(self.handlers as i64));
        // Acquire and release: a reader of zero also observes the effects of the handlers.
        if inner.detached.fetch_sub(self.handlers, Ordering::AcqRel) == self.handlers {
            inner.settled.notify_waiters();
        }
    }
}
