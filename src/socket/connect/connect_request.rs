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
        core::{ConnInner, Connect, ConnectRequest, Handlers, Io},
        recovery::Offer,
        types::States,
    },
};

impl Connect {
    pub(crate) fn new(io: Io, nsp: Nsp, shared: Arc<ConnInner>, payload: Args) -> Self {
        let principal = Arc::clone(io.anonymous());
        Self(Arc::new(ConnectRequest {
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

    /// Returns a copy with the client's principal, and whether the client recovers a socket.
    pub(crate) fn known(&self, principal: Arc<Principal>, recovered: bool) -> Self {
        Self(Arc::new(ConnectRequest {
            io: self.0.io.clone(),
            nsp: self.0.nsp.clone(),
            shared: Arc::clone(&self.0.shared),
            payload: self.0.payload.clone(),
            principal,
            recovered,
            // The data is shared, so that values from middleware of an earlier copy reach the
            // socket.
            data: Arc::clone(&self.0.data),
            handlers: self.0.handlers.clone(),
        }))
    }

    /// Sets the handlers of the namespace, which are known before middleware runs.
    pub(super) fn set_handlers(&self, handlers: &Arc<Handlers>) {
        // The handlers are set once, before the first copy with a principal.
        let _ = self.0.handlers.set(Arc::clone(handlers));
    }

    /// Returns the requested namespace, with its leading slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.nsp.as_str()
    }

    /// Returns the value of a parameter of
    /// [`namespace_pattern`](crate::Builder::namespace_pattern); see
    /// [`Namespace::param`](crate::Namespace::param).
    #[must_use]
    pub fn param<T: FromStr>(&self, name: &str) -> Option<T> {
        let pattern = self.0.handlers.get()?.pattern.as_ref()?;
        pattern.param(self.namespace(), name)?.parse().ok()
    }

    /// Parses the payload of the `CONNECT` packet, the client's option `auth`, as `T`.
    ///
    /// # Errors
    ///
    /// Fails if there is no payload or it has another type. Use `Option<T>` to allow no payload.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgumentError> {
        self.0.payload.get(0)
    }

    /// Returns the client's credentials.
    #[must_use]
    pub fn credentials(&self) -> Credentials<'_> {
        let handshake = self.handshake();
        let credentials = Credentials::new(&self.0.payload, handshake.address().ip())
            .with_headers(
                handshake.header_bytes("authorization"),
                handshake.header_bytes("cookie"),
            )
            .with_query(handshake.url().split_once('?').map(|(_, query)| query));
        if handshake.is_trusted_origin() {
            credentials
        } else {
            credentials.with_untrusted_origin()
        }
    }

    /// Returns the request that opened the connection.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        self.0.shared.handshake()
    }

    /// Returns the current transport of the connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.shared.outbox().transport()
    }

    /// Returns the client's principal. It is [`Principal::anonymous`] until authentication is
    /// complete, so middleware receives the real one.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Returns whether the client is about to recover its previous socket, like `socket.recovered`
    /// in middleware of the official server.
    ///
    /// It is `false` during authentication. Recovering clients reach middleware only after
    /// [`Recovery::run_middlewares`](crate::options::Recovery::run_middlewares).
    ///
    /// If the missed events exceed the limit while middleware waits, the client gets a new session,
    /// and [`Socket::recovered`](crate::Socket::recovered) is `false`.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.0.recovered
    }

    /// Returns the server.
    #[must_use]
    pub fn io(&self) -> &Io {
        &self.0.io
    }

    /// Returns a value that was passed to [`Builder::state`](crate::Builder::state).
    ///
    /// # Panics
    ///
    /// Panics if there is no such value, which refuses this client.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        self.0.io.state()
    }

    /// Stores a value for the client's future socket, one per type. Returns the replaced value.
    ///
    /// Handlers read it as [`Data<T>`](crate::Data) or [`Socket::data`](crate::Socket::data). If
    /// the client is refused, the value is dropped. A recovered socket keeps its data, and values
    /// set here replace those of the same type.
    pub fn set_data<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        self.0.data.lock().insert(Arc::new(value))
    }

    /// Returns the value of this type that [`set_data`](Self::set_data) stored earlier.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.data.lock().shared()
    }

    /// Returns the initial data of the socket.
    pub(crate) fn states(&self) -> States {
        self.0.data.lock().clone()
    }

    pub(crate) fn shared_principal(&self) -> Arc<Principal> {
        Arc::clone(&self.0.principal)
    }

    /// Returns the client's offer to recover its previous socket. Clients of revision 3 cannot
    /// recover.
    pub(crate) fn offer(&self) -> Option<Offer> {
        if self.0.shared.outbox().revision().is_v3() {
            return None;
        }
        let recovery = self.io().config().recovery.as_ref()?;
        Offer::of(&self.0.payload).filter(|offer| offer.last.is_some() || recovery.without_offset)
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
