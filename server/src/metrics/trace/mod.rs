//! Live traces: what happens to one user, socket or conversation, for an operator who listens. And
//! the trace contexts of events, which go through the handler, the store, other servers and
//! webhooks, with the spans that are exported of them.
//!
//! [`Traces`] holds the tracers of this server. The gateway, the chat and the observers of
//! connections record steps. While no tracer exists, recording is one relaxed load of a counter.
//! This module must not know how operators or other servers reach it.

mod context;
mod filter;
mod packet;
#[cfg_attr(
    not(feature = "otlp"),
    allow(dead_code, reason = "without an exporter, no span is recorded")
)]
mod spans;
mod tracer;
mod watch;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::RwLock;
use roomcast::{Io, Socket};
use serde_json::{Map, Value};

use super::{Inventoried, Inventory, Size};

pub(crate) use self::context::{TraceContext, lenient};
pub(crate) use self::filter::{Filter, Subject};
pub(crate) use self::packet::unmasked;
#[cfg(feature = "otlp")]
pub(crate) use self::spans::{AttributeValue, Sampling, Span};
pub(crate) use self::spans::{OpenSpan, SpanKind, Spans};
pub(crate) use self::tracer::{Detail, Line, Lines, Reader, Tracer, TracerId};

/// The tracers of one server. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces(Arc<TracesInner>);

#[derive(Debug, Default)]
struct TracesInner {
    /// The number of tracers, so that recording needs no lock without them.
    active: AtomicUsize,
    tracers: RwLock<Vec<Arc<Tracer>>>,
    /// Records the spans of sampled events.
    spans: Spans,
    /// The id of this server, which each line contains.
    node: OnceLock<String>,
    /// Whether the server shuts down.
    is_closed: AtomicBool,
}

/// There are too many tracers, or the server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyTracers;

impl Inventoried for Traces {
    fn report(&self, inventory: &mut Inventory) {
        if let Some(queued) = self.spans().queued() {
            inventory.add("spans", queued as u64, None);
        }
        let tracers = self.0.tracers.read().clone();
        let (mut lines, mut observed) = (0, Size::default());
        for tracer in tracers {
            lines += tracer.queued() as u64;
            observed += tracer.connections();
        }
        inventory.add("lines of traces", lines, None);
        inventory.size("traced connections", observed);
    }
}

impl Traces {
    /// Creates the tracers of a server that records spans.
    pub(crate) fn new(spans: Spans) -> Self {
        Self(Arc::new(TracesInner {
            spans,
            ..TracesInner::default()
        }))
    }

    /// Returns what records the spans of sampled events.
    #[inline]
    pub(crate) fn spans(&self) -> &Spans {
        &self.0.spans
    }

    /// Returns whether a tracer exists.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        // The count is a hint. A step that runs concurrently with a new tracer may be missed.
        self.0.active.load(Ordering::Relaxed) != 0
    }

    /// Returns the number of tracers.
    pub(crate) fn count(&self) -> usize {
        self.0.active.load(Ordering::Relaxed)
    }

    /// Returns whether a tracer selects a conversation, so that arguments must be searched for one.
    pub(crate) fn follows_conversations(&self) -> bool {
        let tracers = self.0.tracers.read();
        tracers
            .iter()
            .any(|tracer| tracer.filter.conversation().is_some())
    }

    /// Returns whether a tracer selects the subject.
    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        let tracers = self.0.tracers.read();
        tracers.iter().any(|tracer| tracer.filter.matches(subject))
    }

    /// Records a step for the tracers that select its subject.
    ///
    /// `fields` returns the other fields of the line. It contains no text of a user unless the
    /// tracer is unmasked.
    pub(crate) fn record(
        &self,
        subject: &Subject<'_>,
        step: &'static str,
        fields: impl Fn(Detail) -> Map<String, Value>,
    ) {
        if !self.is_active() {
            return;
        }
        for tracer in self.0.tracers.read().iter() {
            if tracer.filter.matches(subject) {
                tracer.record(subject, step, fields(tracer.detail));
            }
        }
    }

    /// Adds a tracer, and observes the connections that it selects.
    ///
    /// # Errors
    ///
    /// If there are [`MAX_TRACERS`], or the server shuts down.
    pub(crate) fn start(
        &self,
        id: TracerId,
        reader: Reader,
        filter: Filter,
        detail: Detail,
        io: &Io,
    ) -> Result<(Arc<Tracer>, Lines), TooManyTracers> {
        let node = self.0.node.get_or_init(|| {
            let own = io.nodes().into_iter().find(|node| node.is_this);
            own.map_or_else(|| ALONE.to_owned(), |node| node.id.to_string())
        });
        let (tracer, lines) = Tracer::new(id, reader, filter, detail, node);
        let tracer = Arc::new(tracer);
        {
            let mut tracers = self.0.tracers.write();
            if tracers.len() >= MAX_TRACERS || self.0.is_closed.load(Ordering::Relaxed) {
                return Err(TooManyTracers);
            }
            tracers.push(Arc::clone(&tracer));
            self.0.active.store(tracers.len(), Ordering::Relaxed);
        }
        watch::observe_all(&tracer, io);
        Ok((tracer, lines))
    }

    /// Removes a tracer and its observers.
    pub(crate) fn stop(&self, tracer: &Tracer) {
        {
            let mut tracers = self.0.tracers.write();
            tracers.retain(|known| known.id != tracer.id);
            self.0.active.store(tracers.len(), Ordering::Relaxed);
        }
        tracer.stop();
    }

    /// Returns the tracer with this id.
    pub(crate) fn find(&self, id: TracerId) -> Option<Arc<Tracer>> {
        let tracers = self.0.tracers.read();
        tracers.iter().find(|tracer| tracer.id == id).cloned()
    }

    /// Ends all tracers, because the server shuts down. Their readers get the end of the stream.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
        let tracers = std::mem::take(&mut *self.0.tracers.write());
        self.0.active.store(0, Ordering::Relaxed);
        for tracer in tracers {
            tracer.stop();
        }
    }

    /// Records that a socket connected, and observes its connection.
    pub(crate) fn connected(&self, socket: &Socket) {
        if self.is_active() {
            for tracer in self.0.tracers.read().iter() {
                watch::connected(tracer, socket);
            }
        }
    }

    /// Records that a socket disconnected.
    pub(crate) fn disconnected(&self, socket: &Socket, reason: &str) {
        if self.is_active() {
            for tracer in self.0.tracers.read().iter() {
                watch::disconnected(tracer, socket, reason);
            }
        }
    }
}

/// The id of a server without a cluster.
const ALONE: &str = "this";
/// Maximum number of tracers on a server, including those that other servers request.
pub(crate) const MAX_TRACERS: usize = 8;
