//! The [`Adapter`] implementation that all adapters of this library share.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use roomcast_protocol::socket::Nsp;

use super::{options::Options, outbound::Broker};
use crate::adapter::{
    envelope::{Envelope, NodeId},
    interface::{
        Adapter, AdapterError, Backlog, BoxFuture, Health, Inbox, Servers, journal::Journal,
        subscriber::Subscriber,
    },
    values::ValueStore,
};

/// The settings of an adapter, from which its state is created when it is attached to a server.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an adapter",
    label = "does not implement `Adapter`"
)]
pub(in crate::adapter) trait BrokerAdapter: Send + Sync + 'static {
    type State: BrokerState;

    fn options(&self) -> &Options<Self::State>;

    /// Creates the state. Called once.
    fn attach(&self, inbox: Inbox) -> Arc<Self::State>;

    fn value_store(&self) -> Option<Box<dyn ValueStore>> {
        None
    }

    fn session_journal(&self) -> Option<Arc<dyn Journal>> {
        None
    }
}

/// The state of an adapter that is attached to a server. The methods correspond to those of
/// [`Adapter`].
pub(in crate::adapter) trait BrokerState: Subscriber {
    /// The address of the broker, with its credentials.
    type Address: Clone + Send + Sync + 'static;
    type Link: Broker;

    fn link(&self) -> &Arc<Self::Link>;

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError>;

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError>;

    fn servers(
        self: Arc<Self>,
        namespace: Nsp,
    ) -> impl Future<Output = Result<Servers, AdapterError>> + Send;

    /// Queues the leave messages of this server. The link sends them before it closes.
    fn leave(&self);

    fn has_no_peers(&self) -> bool {
        false
    }

    fn replays_missed(&self) -> bool {
        false
    }
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

fn attached<T: BrokerAdapter>(adapter: &T) -> Result<&Arc<T::State>, AdapterError> {
    adapter.options().state.get()
}

impl<T: BrokerAdapter> Adapter for T {
    fn receive(&self, inbox: Inbox) {
        // `receive` is called once, so the cell is empty.
        let _ = self.options().state.0.set(self.attach(inbox));
    }

    fn subscriber(&self) -> Option<Arc<dyn Subscriber>> {
        let state: Arc<T::State> = Arc::clone(attached(self).ok()?);
        Some(state)
    }

    fn task(&self) -> Option<BoxFuture<()>> {
        let state = attached(self).ok()?;
        Some(Box::pin(Arc::clone(state.link()).run()))
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        attached(self)?.publish(envelope)
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        attached(self)?.reply(to, envelope)
    }

    fn has_no_peers(&self) -> bool {
        attached(self).is_ok_and(|state| state.has_no_peers())
    }

    fn servers(&self, namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let state = attached(self).cloned();
        let namespace = Nsp::from(namespace);
        Box::pin(async move { state?.servers(namespace).await })
    }

    fn replays_missed(&self) -> bool {
        attached(self).is_ok_and(|state| state.replays_missed())
    }

    fn health(&self) -> Health {
        match attached(self) {
            Ok(state) => state.link().health(),
            Err(_) => Health::Down("not connected yet".to_owned()),
        }
    }

    fn backlog(&self) -> Backlog {
        attached(self).map_or_else(|_| Backlog::default(), |state| state.link().backlog())
    }

    fn close(&self) -> BoxFuture<()> {
        let state = attached(self).cloned();
        Box::pin(async {
            if let Ok(state) = state {
                state.leave();
                Arc::clone(state.link()).close().await;
            }
        })
    }

    fn request_timeout(&self) -> Duration {
        self.options().timeout
    }

    fn values(&self) -> Option<Box<dyn ValueStore>> {
        self.value_store()
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.session_journal()
    }
}
