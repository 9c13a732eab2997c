//! Notifies the observers of events that are sent to a socket.
//!
//! Most sockets have no observers, so a broadcast without observers pays only one load: it asks its
//! namespace whether any socket has some. Rooms know outboxes and no sockets. Therefore only a
//! broadcast with observers collects the sockets that it reached. Observers are called after the
//! event is queued, and without a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use roomcast_protocol::{
    Frame,
    socket::{Args, Arguments},
};

use crate::{
    engine::Push,
    metrics::Counter,
    socket::{
        core::{Outgoing, Socket},
        types::args,
    },
};

impl Socket {
    /// Makes broadcasts report that they reach this socket.
    pub(crate) fn observe(&self) {
        self.namespace_inner().set_observed(self, true);
        // A socket that ended concurrently might remain registered, so unregister it here.
        if !self.is_connected() {
            self.namespace_inner().set_observed(self, false);
        }
    }

    /// Notifies observers of an event, if it was queued for this client.
    #[inline]
    pub(crate) fn notify_outgoing(&self, push: Push, event: &str, args: &dyn Arguments) {
        let Some(listeners) = self.listeners() else {
            return;
        };
        if push == Push::Queued
            && listeners.has_outgoing()
            && let Ok(args) = args::arguments(self.io().config().sockets.parser, args)
        {
            self.notify(event, &args);
        }
    }

    /// Notifies observers of a broadcast event that was queued for this client.
    pub(crate) fn notify_broadcast(&self, event: &str, args: &Args, frame: &Frame) {
        self.notify(event, args);
        self.notify_push(frame, Push::Queued);
    }

    /// Notifies the connection's observers of the outcome of a push to this client.
    pub(crate) fn notify_push(&self, frame: &Frame, push: Push) {
        if let Some(watchers) = self.conn_watchers() {
            watchers.notify_push(self.metrics(), frame, push);
        }
    }

    fn notify(&self, event: &str, args: &Args) {
        if let Some(listeners) = self.listeners() {
            let outgoing = Outgoing {
                socket: self,
                event,
                args,
            };
            for hook in listeners.outgoing() {
                // A panic of an observer must not end the sending task.
                if catch_unwind(AssertUnwindSafe(|| hook(&outgoing))).is_err() {
                    self.metrics().count(Counter::HandlerPanics);
                    crate::throttled_log!(error, event, "an observer of outgoing events panicked");
                }
            }
        }
    }
}
