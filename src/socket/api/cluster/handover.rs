//! Clients that go from one server to another without a journal: what the application has to do with it.

use serde_json::Value;

use tokio::time::{Duration, Instant, timeout_at};

use super::super::builder::Builder;
use crate::socket::core::{Io, Socket};

impl Builder {
    /// Lets clients whose connection broke go on at another server of the cluster, with [recovery](Self::recovery) and an
    /// adapter that has no [journal](crate::adapter::Journal). Off unless this is called, and it has to be called at all
    /// servers.
    ///
    /// The server to which a client comes asks the others for it, for two seconds at most. The one that has it gives it away
    /// once: its id, rooms and [shared data](Socket::share), and the events that it has missed. It is let in with these, and
    /// [`Socket::recovered`] is `true`. The authenticator is asked again before.
    ///
    /// What the new server had sent before the client was in its rooms, and the old one would have sent later, is not among
    /// that: without a journal servers have no common order. So the application has to know the way for the rooms in which
    /// nothing may be missing. `leave` is called at the old server. It takes the socket out of each of these rooms, and
    /// returns what the new server needs to know, such as the number of the last event that was sent to each room. The client stays in all
    /// other rooms, and may miss or get twice what is sent to them at that moment. What `leave` returns is the new socket's
    /// [`arrival`](Socket::arrival). With `None` the client starts afresh, and so it does if an event that it has missed has
    /// binary in it, or if there is more than 512 KiB of them.
    ///
    /// `leave` must neither wait nor call [`Socket::disconnect`]; what it sends to the socket is sent again at the other server.
    ///
    /// ```
    /// use roomcast::{Event, Io, options::Recovery};
    ///
    /// let mut io = Io::builder().recovery(Recovery::default()).handover(|socket| {
    ///     socket.leave("news");
    ///     // The application numbers its news.
    ///     Some(17.into())
    /// });
    /// io.namespace("/").on_connect(async |event: Event| {
    ///     if let Some(last) = event.socket.arrival() {
    ///         // It sends all news after this number, and lets the socket join the room.
    ///         assert!(last.is_u64());
    ///         event.socket.join("news").ok();
    ///         event.socket.arrived();
    ///     }
    /// });
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
    /// What the application has said at the server from which the client comes; see [`Builder::handover`]. `None` for all
    /// other clients, and after [`arrived`](Self::arrived).
    #[must_use]
    pub fn arrival(&self) -> Option<&Value> {
        self.recoverable()?.arrival()
    }

    /// The application has sent what the client lacked of what another server would have sent, and it is in its rooms again.
    /// Until then a client whose connection breaks again starts afresh, as it does when the application ends the
    /// connection because it could not do that ([`drop_connection`](Self::drop_connection)). A second connection that offers
    /// the same client waits for this for a second, and starts afresh then.
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
    /// Waits until other servers have got all clients that are away, at most until then.
    pub(in crate::socket::api) async fn hand_over_until(&self, end: Instant) {
        if self.has_others_to_go_to()
            && let Some(table) = self.recovery_table()
        {
            let end = end.min(Instant::now() + LINGERING);
            if timeout_at(end, table.emptied()).await.is_err() {
                tracing::info!("some clients have not come to another server");
            }
        }
    }
}

/// How long a server that stops waits for clients to come to another one: stock clients come after a second or two.
const LINGERING: Duration = Duration::from_secs(5);
