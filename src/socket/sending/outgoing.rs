//! Telling those who watch what is sent to a socket.

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
    /// From now on broadcasts that reach this socket say so.
    pub(crate) fn observe(&self) {
        self.namespace_inner().set_observed(self, true);
        // A socket that has ended meanwhile may have done so before it was an observer, and would stay one for good.
        if !self.is_connected() {
            self.namespace_inner().set_observed(self, false);
        }
    }

    /// An event was pushed for this client.
    #[inline]
    pub(crate) fn tell_outgoing(&self, push: Push, event: &str, args: &impl Arguments) {
        let Some(listeners) = self.listeners() else {
            return;
        };
        if push == Push::Queued
            && listeners.has_outgoing()
            && let Ok(args) = args::arguments(self.io().config().sockets.parser, args)
        {
            self.tell(event, &args);
        }
    }

    /// An event of a broadcast was pushed for this client.
    pub(crate) fn tell_broadcast(&self, event: &str, args: &Args, frame: &Frame) {
        self.tell(event, args);
        if let Some(watchers) = self.conn_watchers() {
            watchers.tell_created(self.metrics(), frame);
        }
    }

    fn tell(&self, event: &str, args: &Args) {
        if let Some(listeners) = self.listeners() {
            let outgoing = Outgoing {
                socket: self,
                event,
                args,
            };
            for hook in listeners.outgoing() {
                // A watcher that panics must not take along whoever sends.
                if catch_unwind(AssertUnwindSafe(|| hook(&outgoing))).is_err() {
                    self.metrics().count(Counter::HandlerPanics);
                    crate::throttled_log!(error, event, "a watcher of events has panicked");
                }
            }
        }
    }
}
