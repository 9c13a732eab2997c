use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use roomcast_protocol::{
    engine::Transport,
    socket::{Args, ArgumentError, Nsp},
};
use serde::de::DeserializeOwned;

use crate::{
    engine::Handshake,
    identity::{Credentials, Principal},
    socket::{
        core::{Asking, ConnInner, Connect, Handlers, Io},
        types::States,
    },
};

impl Connect {
    pub(crate) fn new(io: Io, nsp: Nsp, shared: Arc<ConnInner>, payload: Args) -> Self {
        let principal = Arc::clone(io.anonymous());
        Self(Arc::new(Asking {
            io,
            nsp,
            shared,
            payload,
            principal,
            recovered: false,
            data: Arc::default(),
            handlers: OnceLock::new(),
        }))
    }

    /// The same client with its principal, and whether it recovers a socket.
    pub(crate) fn known(&self, principal: Arc<Principal>, recovered: bool) -> Self {
        Self(Arc::new(Asking {
            io: self.0.io.clone(),
            nsp: self.0.nsp.clone(),
            shared: Arc::clone(&self.0.shared),
            payload: self.0.payload.clone(),
            principal,
            recovered,
            // The data is shared, so that what middleware sets on an earlier copy reaches the socket as well.
            data: Arc::clone(&self.0.data),
            handlers: self.0.handlers.clone(),
        }))
    }

    /// Notes what the namespace that was found does, which is known before middleware is asked.
    pub(super) fn set_handlers(&self, handlers: &Arc<Handlers>) {
        // The handlers are set once, before the first copy with a principal is made.
        let _ = self.0.handlers.set(Arc::clone(handlers));
    }

    /// The namespace it wants into, with its leading slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.nsp.as_str()
    }

    /// The value of a parameter of [`namespace_pattern`](crate::Builder::namespace_pattern); see
    /// [`Namespace::param`](crate::Namespace::param).
    #[must_use]
    pub fn param<T: FromStr>(&self, name: &str) -> Option<T> {
        let pattern = self.0.handlers.get()?.pattern.as_ref()?;
        pattern.param(self.namespace(), name)?.parse().ok()
    }

    /// Reads the payload of the `CONNECT` packet, the client's option `auth`, as `T`.
    ///
    /// # Errors
    ///
    /// When there is none or it has another shape; `Option<T>` allows for a client without one.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgumentError> {
        self.0.payload.get(0)
    }

    /// What the client offers to prove who it is.
    #[must_use]
    pub fn credentials(&self) -> Credentials<'_> {
        let handshake = self.handshake();
        Credentials::new(&self.0.payload, handshake.address().ip())
            .with_headers(
                handshake.header_bytes("authorization"),
                handshake.header_bytes("cookie"),
            )
            .with_trusted_origin(handshake.is_trusted_origin())
            .with_query(handshake.url().split_once('?').map(|(_, query)| query))
    }

    /// The request that opened the connection.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        self.0.shared.handshake()
    }

    /// The transport that carries the connection now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.shared.outbox().transport()
    }

    /// Who the client is: known to middleware, and [`Principal::anonymous`] while the client is being
    /// authenticated.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Whether the client is about to go on as the socket that it was before its connection broke:
    /// `socket.recovered` in a middleware of the official server. Middleware sees it where they are asked
    /// at all ([`Recovery::skip_middlewares`](crate::options::Recovery::skip_middlewares)); while the client
    /// is being authenticated it is `false`.
    ///
    /// What the client has missed can grow too large while a middleware waits; then it starts afresh, and
    /// [`Socket::recovered`](crate::Socket::recovered) is `false`.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.0.recovered
    }

    /// The whole server.
    #[must_use]
    pub fn io(&self) -> &Io {
        &self.0.io
    }

    /// Something that was given to [`Builder::state`](crate::Builder::state).
    ///
    /// # Panics
    ///
    /// When nobody gave it, which refuses this client.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        self.0.io.state()
    }

    /// Keeps a value for the socket that this client will be, one for each type; returns the one that
    /// it replaces. Handlers find it as [`Data<T>`](crate::Data) or
    /// [`Socket::data`](crate::Socket::data). If the client is not let in, the value is dropped. A client that goes
    /// on as the socket that it was has the data it had, and what is set here replaces values of the same type.
    pub fn set_data<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        self.0.data.lock().insert(Arc::new(value))
    }

    /// The value of this type that somebody before has set with [`set_data`](Self::set_data).
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.data.lock().shared()
    }

    /// What the socket is to have with it.
    pub(crate) fn states(&self) -> States {
        self.0.data.lock().clone()
    }

    pub(crate) fn shared_principal(&self) -> Arc<Principal> {
        Arc::clone(&self.0.principal)
    }

    pub(crate) fn payload(&self) -> &Args {
        &self.0.payload
    }

    pub(crate) fn nsp(&self) -> &Nsp {
        &self.0.nsp
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("namespace", &self.0.nsp)
            .finish_non_exhaustive()
    }
}
