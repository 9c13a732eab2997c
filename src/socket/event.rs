use std::{fmt, sync::Arc};

use roomcast_protocol::socket::Args;

use super::{io::Io, name::Name, namespace::Namespace, socket::Socket};
use crate::auth::Principal;

/// Something that happened on a socket, as its handler sees it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Event {
    /// The socket it happened on.
    pub socket: Socket,
    pub(crate) name: Name,
    pub(crate) args: Args,
    pub(crate) wants_ack: bool,
}

impl Event {
    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        self.socket.event_name(&self.name)
    }

    /// All arguments, unparsed.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Whether the client asked for an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.wants_ack
    }

    /// Who the socket belongs to, as is known now.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        self.socket.principal()
    }

    /// The whole server.
    #[must_use]
    pub fn io(&self) -> &Io {
        self.socket.io()
    }

    /// The namespace of the socket.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        self.socket.namespace()
    }

    /// Something that was given to [`Builder::state`](crate::Builder::state).
    ///
    /// # Panics
    ///
    /// When nobody gave it, which fails this event. A handler that takes it as
    /// [`State<T>`](crate::State) makes that an error of `build` instead.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        self.io().state()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name())
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
