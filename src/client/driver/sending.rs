//! Sends events, acknowledgements, and retries of unacknowledged events.

use std::{collections::HashSet, sync::Arc};

use roomcast_protocol::{
    Frame,
    socket::{Args, Nsp},
};
use tokio::time::Instant;

use super::{
    Driver,
    acks::Waiter,
    calls::Finished,
    namespace::{Namespace, Queued, Stage, later},
    phase::{HIGH_WATER, Phase},
};
use crate::{
    Refusal,
    client::{
        ClientError,
        api::{Client, Incoming, ListenerTarget, Outgoing, SharedNamespace, Socket},
    },
};

impl Driver {
    /// Sends an event as soon as possible.
    pub(super) fn emit(&mut self, shared: &Arc<SharedNamespace>, outgoing: Outgoing) {
        if self.settings.retries == 0 || outgoing.is_volatile {
            return self.transmit(shared, outgoing, None);
        }
        let namespace = self.namespace(shared);
        namespace.last_queued += 1;
        namespace.queue.push_back(Queued {
            number: namespace.last_queued,
            outgoing,
            tries: 0,
            is_in_flight: false,
        });
        self.drain(&shared.nsp);
    }

    /// Sends the first event of the retry queue, unless it is in flight.
    pub(super) fn drain(&mut self, nsp: &Nsp) {
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        let is_in = namespace.is_in();
        let Some(first) = namespace
            .queue
            .front_mut()
            .filter(|first| is_in && !first.is_in_flight)
        else {
            return;
        };
        first.is_in_flight = true;
        first.tries += 1;
        let number = first.number;
        let outgoing = Outgoing {
            name: first.outgoing.name.clone(),
            args: first.outgoing.args.clone(),
            ack: None,
            timeout: first.outgoing.timeout,
            is_volatile: false,
            charge: None, // The charge of the queued event covers this copy.
        };
        let shared = Arc::clone(&namespace.shared);
        self.transmit(&shared, outgoing, Some(number));
    }

    /// Buffers the whole retry queue, because no event of it can be sent later.
    pub(super) fn release_queue(&mut self, nsp: &Nsp) {
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        for queued in std::mem::take(&mut namespace.queue) {
            if !queued.is_in_flight {
                // The handlers of the server may need the request for an acknowledgement.
                let deadline = later(queued.outgoing.timeout);
                let id = namespace.acks.add(Waiter::Queue(queued.number), deadline);
                namespace.buffer.push_back((Some(id), queued.outgoing));
            }
        }
    }

    /// Writes an event, or appends it to the buffer.
    fn transmit(
        &mut self,
        shared: &Arc<SharedNamespace>,
        mut outgoing: Outgoing,
        queued: Option<u64>,
    ) {
        let is_free = matches!(&self.phase, Phase::Open(link) if link.queued() == 0);
        let namespace = self.namespace(shared);
        let waiter = queued
            .map(Waiter::Queue)
            .or_else(|| outgoing.ack.take().map(Waiter::Caller));
        let deadline = later(outgoing.timeout);
        let id = waiter.map(|waiter| namespace.acks.add(waiter, deadline));
        let is_possible = is_free && namespace.is_in() && namespace.buffer.is_empty();
        if outgoing.is_volatile && !is_possible {
            return; // The acknowledgement times out, as if the event were lost.
        }
        namespace.buffer.push_back((id, outgoing));
        self.flush(&shared.nsp, HIGH_WATER);
    }

    /// Writes the buffered events of all namespaces.
    pub(super) fn flush_all(&mut self) {
        let waiting = self
            .namespaces
            .iter()
            .filter(|(_, namespace)| namespace.has_unsent());
        let names: Vec<Nsp> = waiting.map(|(nsp, _)| nsp.clone()).collect();
        for nsp in names {
            self.flush(&nsp, HIGH_WATER);
        }
    }

    /// Writes the buffered events of a namespace, until `limit` bytes are queued in the connection.
    pub(super) fn flush(&mut self, nsp: &Nsp, limit: usize) {
        let parser = self.settings.target.options.parser;
        let mut broken = None;
        let client = Client::upgrade(&self.handle);
        if let Phase::Open(link) = &mut self.phase
            && let Some(namespace) = self.namespaces.get_mut(nsp)
        {
            while namespace.is_in()
                && link.queued() < limit
                && let Some((id, outgoing)) = namespace.buffer.pop_front()
            {
                for target in namespace.listeners.of_outgoing() {
                    if let ListenerTarget::Outgoing(handler) = target
                        && let Some(client) = &client
                    {
                        let socket = Socket::new(client.clone(), Arc::clone(&namespace.shared));
                        let (name, args) = (outgoing.name.to_string(), outgoing.args.clone());
                        let event = Incoming::new(socket, name, args, None);
                        self.calls.call(&*handler, &event, None);
                    }
                }
                let frame = parser.event(nsp.as_str(), id, &outgoing.name, &outgoing.args);
                let sent = frame
                    .map_err(ClientError::Encode)
                    .and_then(|frame| link.push(&frame));
                if let Err(error) = sent {
                    // The link is borrowed here, so the loss is handled below.
                    broken = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = broken {
            self.lost(&error);
        }
    }

    /// Sends an acknowledgement if its session is still open.
    pub(super) fn answer(&mut self, epoch: u64, frame: &Frame) {
        if epoch != self.epoch {
            return;
        }
        let Phase::Open(link) = &mut self.phase else {
            return;
        };
        // A server that requests acknowledgements but never reads them loses the session.
        if let Err(error) = link.send(frame) {
            self.lost(&error);
        }
    }

    /// Sends the outcome of a handler as an acknowledgement.
    pub(super) fn finish(&mut self, finished: Finished) {
        let frame = match finished.answer {
            Ok(frame) => frame,
            Err(refusal) => {
                report(&finished.name, &refusal);
                let parser = self.settings.target.options.parser;
                let answer = refusal.as_ack();
                let ack = finished.ack;
                ack.and_then(|ack| parser.ack(finished.nsp.as_str(), ack.id, &answer).ok())
            }
        };
        if let (Some(ack), Some(frame)) = (finished.ack, frame) {
            self.answer(ack.epoch, &frame);
        }
    }

    /// Handles an acknowledgement of the server.
    pub(super) fn acknowledged(&mut self, nsp: &Nsp, id: u64, args: Args) {
        // Timers fire slightly late. An acknowledgement after its deadline counts as missing.
        if self
            .deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            self.expire();
        }
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        if let Some(waiter) = namespace.acks.take(id) {
            settle(namespace, waiter, Ok(args), self.settings.retries);
            self.drain(nsp);
        }
    }

    /// Expires overdue acknowledgements and `CONNECT`s.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let names: Vec<Nsp> = self.namespaces.keys().cloned().collect();
        for nsp in names {
            let Some(namespace) = self.namespaces.get_mut(&nsp) else {
                continue;
            };
            let mut expired = HashSet::new();
            while let Some((id, waiter)) = namespace.acks.take_expired(now) {
                expired.insert(Some(id));
                let error = ClientError::Timeout("an acknowledgement");
                settle(namespace, waiter, Err(error), self.settings.retries);
            }
            if !expired.is_empty() {
                // Events that were not sent before their deadline are dropped.
                namespace.buffer.retain(|(id, _)| !expired.contains(id));
            }
            let is_late = matches!(namespace.stage, Stage::Connecting(until) if until <= now);
            self.drain(&nsp);
            if is_late {
                self.enter_after_deadline(&nsp);
            }
        }
    }
}

/// Reports the outcome of an event to its waiter.
pub(super) fn settle(
    namespace: &mut Namespace,
    waiter: Waiter,
    outcome: Result<Args, ClientError>,
    retries: u32,
) {
    match waiter {
        Waiter::Caller(caller) => {
            let _ = caller.send(outcome);
        }
        Waiter::Queue(number) => {
            // An outcome for an event that has left the queue is ignored.
            let Some(first) = namespace
                .queue
                .front_mut()
                .filter(|first| first.number == number)
            else {
                return;
            };
            first.is_in_flight = false;
            if (outcome.is_ok() || first.tries > retries)
                && let Some(mut first) = namespace.queue.pop_front()
                && let Some(caller) = first.outgoing.ack.take()
            {
                let _ = caller.send(outcome);
            }
        }
    }
}

fn report(event: &str, refusal: &Refusal) {
    let reason = refusal.reason();
    if refusal.is_internal() {
        tracing::error!(event, reason, "a client's event handler failed");
    } else {
        tracing::debug!(event, reason, "a client's event handler refused an event");
    }
}
