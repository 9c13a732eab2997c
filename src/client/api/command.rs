use std::{pin::Pin, sync::Arc, time::Duration};

use roomcast_protocol::{Frame, socket::Args};
use tokio::sync::oneshot;

use super::{
    Auth, Change, Client,
    incoming::{Erased, Sink},
    shared::{Charge, SharedNamespace},
};
use crate::{client::ClientError, socket::ListenerId};

/// A request from a handle to the task that owns the connection.
pub(crate) enum Command {
    /// Connects. The sender receives the first outcome.
    Open(
        Arc<SharedNamespace>,
        Option<oneshot::Sender<Result<(), ClientError>>>,
    ),
    /// Leaves the namespace. The sender receives a notification when the server has handled it.
    Disconnect(Arc<SharedNamespace>, oneshot::Sender<()>),
    /// Ends the session for all sockets.
    Close(oneshot::Sender<()>),
    /// Sends an event.
    Emit(Arc<SharedNamespace>, Outgoing),
    /// Sends an acknowledgement if the session `epoch` is still current.
    Answer {
        epoch: u64,
        frame: Frame,
        charge: Charge,
    },
    Listen(Arc<SharedNamespace>, Listener),
    Unlisten(Arc<SharedNamespace>, ListenerId),
    SetAuth(Arc<SharedNamespace>, Auth),
    Watch(Watcher),
    Unwatch(ListenerId),
    SetReconnection(bool),
}

/// An event to send.
pub(crate) struct Outgoing {
    pub(crate) name: Box<str>,
    pub(crate) args: Args,
    /// Receives the acknowledgement.
    pub(crate) ack: Option<oneshot::Sender<Result<Args, ClientError>>>,
    /// Timeout of the acknowledgement.
    pub(crate) timeout: Duration,
    pub(crate) is_volatile: bool,
    /// The event's share of the send budget.
    #[expect(dead_code, reason = "released on drop")]
    pub(crate) charge: Option<Charge>,
}

/// A registered handler or stream of a socket.
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    /// The name of the event, or `None` for all events.
    pub(super) event: Option<Box<str>>,
    pub(super) is_once: bool,
    pub(super) is_first: bool,
    pub(super) target: Target,
}

#[derive(Clone)]
pub(crate) enum Target {
    Handler(Arc<dyn Erased>),
    Stream(Sink),
    /// A handler that is called for each sent event.
    Outgoing(Arc<dyn Erased>),
}

/// A function that is called on each change of the connection.
#[derive(Clone)]
pub(crate) struct Watcher {
    pub(crate) id: ListenerId,
    pub(crate) function: Arc<dyn Fn(Client, Change) -> Watching + Send + Sync>,
}

type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Listener {
    pub(super) fn new(id: ListenerId, event: Option<&str>, target: Target) -> Self {
        Self {
            id,
            event: event.map(Into::into),
            is_once: false,
            is_first: false,
            target,
        }
    }
}
