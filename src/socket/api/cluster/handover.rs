//! Handover of clients between servers without a journal: the application's part.

use serde_json::Value;

use tokio::time::{Duration, Instant, timeout_at};

use super::super::builder::Builder;
use crate::socket::core::{Io, Socket};

impl Builder {
    /// Lets clients recover on another server of the cluster, with [recovery](Self::recovery) and
    /// an adapter without a [journal](crate::adapter::Journal). Off by default. All servers must
    /// call it.
    ///
    /// The server that a client reaches requests it from its peers, for at most 2 s. The server
    /// that has the client hands it over once: its id, rooms, [shared data](Socket::share), and
    /// missed events. The authenticator runs again before that. [`Socket::recovered`] is then
    /// `true`.
    ///
    /// Without a journal, servers have no common order of events. Missed events do not include
    /// those that the new server sent before the client joined its rooms, unless the old server had
    /// already sent them. So the application must close this gap for the rooms where no event may
    /// be lost.
    ///
    /// The old server calls `leave`, which removes the socket from each of these rooms. It returns
    /// the data that the new server needs, such as the number of the last event of each room. The
    /// new socket reads that data with [`arrival`](Socket::arrival). In all other rooms, the client
    /// may miss events of that moment or receive them twice.
    ///
    /// The client starts a new session if `leave` returns `None`, if a missed event contains binary
    /// data, or if the missed events exceed 512 KiB.
    ///
    /// `leave` must not block or call [`Socket::disconnect`]. Events that it sends to the socket
    /// are sent again on the other server.
    ///
    /// ```
    /// use roomcast::{Event, Io, options::Recovery};
    ///
    /// let io = Io::builder()
    ///     .recovery(Recovery::default())
    ///     .handover(|socket| {
    ///         socket.leave("news");
    ///         // The application numbers its news.
    ///         Some(17.into())
    ///     })
    ///     .namespace("/", |namespace| {
    ///         namespace.on_connect(async |event: Event| {
    ///             if let Some(last) = event.socket.arrival() {
    ///                 // It sends all news after this number, and lets the socket join the room.
    ///                 assert!(last.is_u64());
    ///                 event.socket.join("news").ok();
    ///                 event.socket.arrived();
    ///             }
    ///         })
    ///     });
    /// # io.build().unwrap();
    /// ```
    pub fn handover(
        mut self,
        leave: impl Fn(&Socket) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        self.handover = Some(Box::new(leave));
        self
    }
}

impl Socket {
    /// Returns the data of [`Builder::handover`] from the client's previous server.
    ///
    /// Returns `None` for all other clients, and after [`arrived`](Self::arrived).
    #[must_use]
    pub fn arrival(&self) -> Option<&Value> {
        self.recoverable()?.arrival()
    }

    /// Marks a handover as complete: the application has sent the missed events, and the socket is
    /// in its rooms again.
    ///
    /// Until then, a client whose connection breaks again starts a new session. The same happens if
    /// the application cannot complete the handover and calls
    /// [`drop_connection`](Self::drop_connection). A second connection that claims the same client
    /// waits for this call for 1 s, then starts a new session.
    pub fn arrived(&self) {
        if let Some(recoverable) = self.recoverable() {
            recoverable.arrived();
            if let Some(table) = self.io().recovery_table() {
                table.settled.notify_waiters();
            }
        }
    }
}

impl Io {
    /// Waits until other servers have taken over all disconnected but recoverable clients, at most
    /// until `end`.
    pub(in crate::socket::api) async fn hand_over_until(&self, end: Instant) {
        if self.has_handover_targets()
            && let Some(table) = self.recovery_table()
        {
            let end = end.min(Instant::now() + HANDOVER_GRACE);
            if timeout_at(end, table.emptied()).await.is_err() {
                tracing::info!("some clients were not taken over by another server in time");
            }
        }
    }
}

/// Maximum time that a stopping server waits for clients to reach another server. Stock clients
/// reconnect after one or two seconds.
const HANDOVER_GRACE: Duration = Duration::from_secs(5);
