//! The sockets that were connected when a recording started, and are not observed yet.

use std::sync::Arc;
use std::time::Duration;

use roomcast::{Io, Socket};
use tokio::time::Instant;

use super::super::filter::Filter;
use super::super::tracer::Tracer;
use super::super::watch::subject;
use super::{Found, MAX_CONNECTIONS, observe};

/// Sockets that a recording observes one after the other, as its reader takes their lines. So the
/// queue always has room for what clients send in the meantime.
#[derive(Debug)]
pub(crate) struct Backlog {
    sockets: Vec<Socket>,
    /// When the rest is left out, because the reader is too slow.
    ends_at: Instant,
}

impl Backlog {
    /// Finds the connected sockets that a recording selects. It counts sockets beyond the maximum.
    pub(in super::super) fn find(tracer: &Tracer, filter: &Filter, io: &Io) -> Self {
        let namespaces = io.namespaces().into_iter();
        let all = namespaces.flat_map(|namespace| namespace.local().sockets());
        let mut sockets: Vec<_> = all
            .filter(|socket| filter.matches(&subject(socket, &socket.principal().subject)))
            .collect();
        let most = MAX_CONNECTIONS as usize;
        tracer.count_dropped(sockets.len().saturating_sub(most) as u64);
        sockets.truncate(most);
        Self {
            sockets,
            ends_at: Instant::now() + FIND_TIMEOUT,
        }
    }

    /// Observes sockets while the queue has room. Counts the rest if there was not enough time.
    pub(crate) fn observe_some(&mut self, tracer: &Arc<Tracer>) {
        let Some(recorder) = tracer
            .recorder
            .as_ref()
            .filter(|_| !self.sockets.is_empty())
        else {
            return;
        };
        if Instant::now() >= self.ends_at {
            tracer.count_dropped(self.sockets.len() as u64);
            self.sockets = Vec::new();
        }
        let mut room = tracer.room().saturating_sub(RESERVED).min(PAGE);
        // Only lines wake the reader, so sockets that have no line do not count.
        while room > 0
            && let Some(socket) = self.sockets.pop()
        {
            if socket.is_connected() {
                observe(tracer, recorder, &socket, Found::Connected);
                room -= 1;
            }
        }
    }
}

/// The maximum time until all connected sockets are observed.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);
/// Sockets that are observed without a pause.
const PAGE: usize = 64;
/// Lines of the queue that are left for the sockets that are observed already.
const RESERVED: usize = 512;

#[cfg(test)]
mod tests {
    use roomcast::testing::{Client, TestServer, serve};

    use super::super::super::tracer::{Detail, Lines, Reader};
    use super::super::{Masker, Policy, Recorder};
    use super::*;

    /// Connects clients, and begins a recording of them.
    async fn recording(clients: usize) -> (TestServer, Vec<Client>, Arc<Tracer>, Lines, Backlog) {
        let server = serve(Io::builder().namespace("/", |namespace| namespace)).await;
        let mut connected = Vec::new();
        for _ in 0..clients {
            connected.push(server.client().connect().await.unwrap());
        }
        let recorder = Recorder::new(Masker::new(Policy::Consented).unwrap());
        let (id, filter) = (uuid::Uuid::nil(), Filter::Everyone);
        let (tracer, lines) = Tracer::new(
            id,
            Reader::Caller,
            filter,
            Detail::Masked,
            Some(recorder),
            "n",
        );
        let backlog = Backlog::find(&tracer, &tracer.filter, server.io());
        (server, connected, Arc::new(tracer), lines, backlog)
    }

    #[tokio::test]
    async fn sockets_are_observed_in_pages_that_disconnected_ones_do_not_fill() {
        let (_server, _clients, tracer, lines, mut backlog) = recording(2 * PAGE + 2).await;
        backlog.observe_some(&tracer);
        assert_eq!(lines.len(), PAGE);
        // The last of them is found in spite of a page of others that have disconnected.
        for socket in &backlog.sockets[1..] {
            socket.disconnect();
        }
        assert_eq!(backlog.sockets.len(), PAGE + 2);
        backlog.observe_some(&tracer);
        assert_eq!((lines.len(), backlog.sockets.len()), (PAGE + 1, 0));
        assert_eq!(tracer.take_dropped(), 0);
    }

    #[tokio::test]
    async fn backlog_waits_for_a_slow_reader_and_is_counted_after_the_time() {
        let (_server, _clients, tracer, mut lines, mut backlog) = recording(3).await;
        while tracer.room() > RESERVED + 1 {
            assert!(tracer.queue("{}".to_owned()));
        }
        backlog.observe_some(&tracer);
        backlog.observe_some(&tracer);
        assert_eq!((backlog.sockets.len(), tracer.room()), (2, RESERVED));
        lines.recv().await.unwrap();
        backlog.observe_some(&tracer);
        assert_eq!((backlog.sockets.len(), tracer.take_dropped()), (1, 0));
        backlog.ends_at = Instant::now();
        backlog.observe_some(&tracer);
        assert_eq!((backlog.sockets.len(), tracer.take_dropped()), (0, 1));
        backlog.observe_some(&tracer);
        assert_eq!(tracer.take_dropped(), 0);
    }
}
