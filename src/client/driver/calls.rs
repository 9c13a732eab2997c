//! Running handlers, and events that wait for room in a stream.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use futures_util::{FutureExt as _, stream::FuturesUnordered};
use roomcast_protocol::{Frame, socket::Nsp};

use crate::{
    Refusal,
    client::api::{Change, Client, Erased, Incoming, Pending, Sink, Watcher},
    socket::{Answer, Reply},
};

#[derive(Default)]
pub(super) struct Calls {
    pub(super) running: FuturesUnordered<Pin<Box<dyn Future<Output = Finished> + Send>>>,
    /// Events that wait for room in their streams, in order of arrival.
    pub(super) blocked: VecDeque<(Sink, Incoming)>,
}

/// The outcome of a handler.
pub(super) struct Finished {
    pub(super) nsp: Nsp,
    pub(super) name: String,
    pub(super) ack: Option<Pending>,
    pub(super) answer: Result<Option<Frame>, Refusal>,
}

impl Calls {
    /// Returns whether the client can process another packet.
    pub(super) fn may_read(&self) -> bool {
        self.blocked.is_empty() && self.running.len() < MAX_RUNNING
    }

    /// Calls a handler. Its answer acknowledges `ack`.
    pub(super) fn call(&mut self, handler: &dyn Erased, event: &Incoming, ack: Option<Pending>) {
        let nsp = Nsp::from(event.socket().namespace());
        let reply = Reply {
            parser: event
                .socket()
                .client()
                .handle()
                .settings
                .target
                .options
                .parser,
            nsp: nsp.clone(),
            id: ack.map(|ack| ack.id),
        };
        let name = event.name.clone();
        // A panic must not end the task, because it owns the connection of all handlers.
        let started = catch_unwind(AssertUnwindSafe(|| handler.call(event, reply)));
        let started = started.unwrap_or_else(|_| Err(panicked()));
        self.running.push(Box::pin(async move {
            let answer = match started {
                Ok(handling) => AssertUnwindSafe(handling)
                    .catch_unwind()
                    .await
                    .map_or_else(|_| Err(panicked()), Answer::into_frame),
                Err(refusal) => Err(refusal),
            };
            Finished {
                nsp,
                name,
                ack,
                answer,
            }
        }));
    }

    /// Calls a watcher with a change of the connection.
    pub(super) fn watch(&mut self, watcher: &Watcher, client: Client, change: Change) {
        let function = watcher.function.clone();
        self.running.push(Box::pin(async move {
            let watching = AssertUnwindSafe(async { function(client, change).await });
            let answer = watching.catch_unwind().await;
            Finished {
                nsp: Nsp::ROOT,
                name: "a change of the connection".into(),
                ack: None,
                answer: answer.map(|()| None).map_err(|_| panicked()),
            }
        }));
    }

    /// Puts an event into a stream, or queues it until the stream has room.
    pub(super) fn offer(&mut self, sink: &Sink, event: Incoming) {
        let refused = match self.blocked.is_empty() {
            true => sink.try_send(event),
            false => Some(event),
        };
        if let Some(event) = refused {
            self.blocked.push_back((sink.clone(), event));
        }
    }

    /// Waits until the first blocked stream has room, and delivers its event.
    pub(super) async fn unblock(blocked: &mut VecDeque<(Sink, Incoming)>) {
        if let Some((sink, event)) = blocked.front() {
            // A cancellation point: until there is room, the event stays in the queue.
            sink.ready(event).await;
        }
        if let Some((sink, event)) = blocked.pop_front()
            && let Some(event) = sink.try_send(event)
        {
            blocked.push_front((sink, event));
        }
    }
}

fn panicked() -> Refusal {
    Refusal::internal().because("the handler panicked")
}

/// Maximum number of running handlers. At this limit the client stops reading.
const MAX_RUNNING: usize = 1024;
