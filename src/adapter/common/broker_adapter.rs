//! The [`Adapter`] implementation that all adapters of this library share.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use roomcast_protocol::socket::Nsp;

use super::outbound::Broker;
use crate::{
    adapter::{
        envelope::{Envelope, NodeId},
        interface::{
            Adapter, AdapterError, Backlog, BoxFuture, Health, Inbox, Servers, journal::Journal,
        },
        values::ValueStore,
    },
    names::Room,
};

/// The settings of an adapter, from which its state is created when it is attached to a server.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an adapter",
    label = "does not implement `Adapter`"
)]
pub(in crate::adapter) trait BrokerAdapter: Send + Sync + 'static {
    type State: BrokerState;

    fn cell(&self) -> &StateCell<Self::State>;

    /// Creates the state. Called once.
    fn attach(&self, inbox: Inbox) -> Arc<Self::State>;

    fn timeout(&self) -> Duration;

    fn value_store(&self) -> Option<Box<dyn ValueStore>> {
        None
    }

    fn session_journal(&self) -> Option<Arc<dyn Journal>> {
        None
    }

    fn has_room_channels(&self) -> bool {
        false
    }

    fn has_socket_channels(&self) -> bool {
        false
    }
}

/// The state of an adapter that is attached to a server. The methods correspond to those of
/// [`Adapter`].
pub(in crate::adapter) trait BrokerState: Send + Sync + 'static {
    type Link: Broker;

    fn link(&self) -> &Arc<Self::Link>;

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError>;

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError>;

    fn servers(
        self: Arc<Self>,
        namespace: Nsp,
    ) -> impl Future<Output = Result<Servers, AdapterError>> + Send;

    fn followed(self: Arc<Self>) -> impl Future<Output = ()> + Send;

    /// Queues the leave messages of this server. The link sends them before it closes.
    fn leave(&self);

    fn has_no_peers(&self) -> bool {
        false
    }

    fn replays_missed(&self) -> bool {
        false
    }

    fn namespace_opened(&self, _namespace: Nsp) {}

    fn namespace_closed(&self, _namespace: Nsp) {}

    fn room_opened(&self, _namespace: &str, _room: &Room) {}

    fn room_closed(&self, _namespace: &str, _room: &Room) {}
}

/// The state of an adapter, empty until the adapter is attached to a server. Ends the link when it
/// is dropped, because the task of the link would otherwise outlive the adapter.
pub(in crate::adapter) struct StateCell<S: BrokerState>(Arc<OnceLock<Arc<S>>>);

impl<S: BrokerState> StateCell<S> {
    fn get(&self) -> Result<&Arc<S>, AdapterError> {
        self.0.get().ok_or(AdapterError::Closed)
    }

    /// Returns the state for a journal, which must not end the link.
    #[cfg(feature = "redis")]
    pub(in crate::adapter) fn shared(&self) -> Arc<OnceLock<Arc<S>>> {
        Arc::clone(&self.0)
    }
}

impl<S: BrokerState> Default for StateCell<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: BrokerState> Drop for StateCell<S> {
    fn drop(&mut self) {
        if let Ok(state) = self.get() {
            state.link().abandon();
        }
    }
}

impl<T: BrokerAdapter> Adapter for T {
    fn receive(&self, inbox: Inbox) {
        // `receive` is called once, so the cell is empty.
        let _ = self.cell().0.set(self.attach(inbox));
    }

    fn task(&self) -> Option<BoxFuture<()>> {
        let state = self.cell().get().ok()?;
        Some(Box::pin(Arc::clone(state.link()).run()))
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        self.cell().get()?.publish(envelope)
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        self.cell().get()?.reply(to, envelope)
    }

    fn has_no_peers(&self) -> bool {
        let state = self.cell().get();
        state.is_ok_and(|state| state.has_no_peers())
    }

    fn servers(&self, namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let state = self.cell().get().cloned();
        let namespace = Nsp::from(namespace);
        Box::pin(async move { state?.servers(namespace).await })
    }

    fn replays_missed(&self) -> bool {
        let state = self.cell().get();
        state.is_ok_and(|state| state.replays_missed())
    }

    fn health(&self) -> Health {
        match self.cell().get() {
            Ok(state) => state.link().health(),
            Err(_) => Health::Down("not connected yet".to_owned()),
        }
    }

    fn backlog(&self) -> Backlog {
        let state = self.cell().get();
        state.map_or_else(|_| Backlog::default(), |state| state.link().backlog())
    }

    fn close(&self) -> BoxFuture<()> {
        let state = self.cell().get().cloned();
        Box::pin(async {
            if let Ok(state) = state {
                state.leave();
                Arc::clone(state.link()).close().await;
            }
        })
    }

    fn followed(&self) -> BoxFuture<()> {
        let state = self.cell().get().cloned();
        Box::pin(async {
            if let Ok(state) = state {
                state.followed().await;
            }
        })
    }

    fn namespace_opened(&self, namespace: &str) {
        if let Ok(state) = self.cell().get() {
            state.namespace_opened(Nsp::from(namespace));
        }
    }

    fn namespace_closed(&self, namespace: &str) {
        if let Ok(state) = self.cell().get() {
            state.namespace_closed(Nsp::from(namespace));
        }
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        if let Ok(state) = self.cell().get() {
            state.room_opened(namespace, room);
        }
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        if let Ok(state) = self.cell().get() {
            state.room_closed(namespace, room);
        }
    }

    fn request_timeout(&self) -> Duration {
        self.timeout()
    }

    fn values(&self) -> Option<Box<dyn ValueStore>> {
        self.value_store()
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.session_journal()
    }

    fn follows_rooms(&self) -> bool {
        self.has_room_channels()
    }

    fn follows_sockets(&self) -> bool {
        self.has_socket_channels()
    }
}
