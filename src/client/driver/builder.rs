use std::{fmt, sync::Arc, time::Duration};

use roomcast_protocol::socket::Parser;
use tokio::{runtime, sync::mpsc};

use super::Driver;
use crate::client::{
    ClientError, Transports,
    api::{Auth, AuthKind, Client, Settings, Socket},
    options::Target,
};

/// Options of a [`Client`]. Names and defaults match the official client unless noted.
#[must_use = "a builder does nothing until `connect` is called"]
pub struct ClientBuilder(Settings);

/// Omits the options because they contain secrets.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a builder for a client of the server at `url`: `http://host:port/namespace?query`.
    ///
    /// The scheme may also be `ws` or absent, or `https` and `wss` with the feature `client-tls`.
    /// As in the official client, the path of the URL is the namespace. The path of requests is an
    /// [option](ClientBuilder::path).
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        let mut settings = Settings {
            target: Target::default(),
            auth: Auth::default(),
            reconnection: true,
            reconnection_attempts: u32::MAX,
            reconnection_delay: Duration::from_secs(1),
            reconnection_delay_max: Duration::from_secs(5),
            randomization_factor: 0.5,
            ack_timeout: Duration::from_secs(20),
            retries: 0,
        };
        settings.target.options.url = url.into();
        ClientBuilder(settings)
    }
}

impl ClientBuilder {
    /// Sets the payload of each `CONNECT`: an object, or a [function](Auth::with) that returns one.
    /// Default is nothing.
    pub fn auth(mut self, auth: impl Into<Auth>) -> Self {
        self.0.auth = auth.into();
        self
    }

    /// Adds a request header for all transports (`extraHeaders`). Default is none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0
            .target
            .options
            .headers
            .push((name.into(), value.into()));
        self
    }

    /// Adds a cookie to each request. Several cookies share one header. Default is none.
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        let headers = &mut self.0.target.options.headers;
        match headers
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        {
            Some((_, cookies)) => cookies.push_str(&format!("; {name}={value}")),
            None => headers.push(("Cookie".into(), format!("{name}={value}"))),
        }
        self
    }

    /// Adds a query parameter. Default is the parameters of the URL.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0
            .target
            .options
            .query
            .push((name.into(), value.into()));
        self
    }

    /// Sets the path of requests. Default is `/socket.io/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.target.options.path = path.into();
        self
    }

    /// Sets the transports.
    ///
    /// Default is a direct WebSocket, which uses one connection and needs no sticky sessions. The
    /// official client's default is [`Transports::Upgrade`].
    pub fn transports(mut self, transports: Transports) -> Self {
        self.0.target.options.transports = transports;
        self
    }

    /// Sets the packet format, which must match the server's. Default is JSON. MessagePack requires
    /// the feature `msgpack`.
    pub fn parser(mut self, parser: Parser) -> Self {
        self.0.target.options.parser = parser;
        self
    }

    /// Sets the timeout for opening a session, and again for the answer of a namespace. It also
    /// limits each long-polling request (`timeout`). Default is 20 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.0.target.options.connect_timeout = timeout;
        self
    }

    /// Disables the retries of lost and failed connections: `reconnection: false` of the official
    /// client.
    pub fn without_reconnection(mut self) -> Self {
        self.0.reconnection = false;
        self
    }

    /// Sets the maximum number of consecutive attempts. Default is [`u32::MAX`], unlimited.
    pub fn reconnection_attempts(mut self, attempts: u32) -> Self {
        self.0.reconnection_attempts = attempts;
        self
    }

    /// Sets the delay before the first attempt to reconnect. The delay doubles after each attempt.
    /// Default is 1 s.
    pub fn reconnection_delay(mut self, delay: Duration) -> Self {
        self.0.reconnection_delay = delay;
        self
    }

    /// Sets the maximum delay before an attempt to reconnect. Default is 5 s.
    pub fn reconnection_delay_max(mut self, delay: Duration) -> Self {
        self.0.reconnection_delay_max = delay;
        self
    }

    /// Sets the jitter as a fraction of the delay, from 0 to 1. 0.5 turns 1 s into 0.5 s to 1.5 s.
    /// Default is 0.5.
    pub fn randomization_factor(mut self, factor: f64) -> Self {
        self.0.randomization_factor = factor;
        self
    }

    /// Sets the acknowledgement timeout. Default is 20 s. The official client has no timeout.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.0.ack_timeout = timeout;
        self
    }

    /// Sets how many times an event is sent again if it is not acknowledged in time. Default is 0.
    ///
    /// From 1 on, each non-volatile event requests an acknowledgement, and waits for that of the
    /// event before it. So the server receives the events in order and at least once.
    ///
    /// Time without a connection does not count. After the last handle is dropped, the events that
    /// were not sent yet are each sent once, without waiting.
    pub fn retries(mut self, retries: u32) -> Self {
        self.0.retries = retries;
        self
    }

    /// Sets the maximum amount of unsent data in bytes, shared by all sockets. Default is 4 MiB.
    /// Further events fail with [`ClientError::Full`].
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.0.target.options.max_queued = bytes;
        self
    }

    /// Sets the maximum size of a server's message or polling response, in bytes. Default is 16
    /// MiB. A larger message ends the connection.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.0.target.options.max_message = bytes;
        self
    }

    /// Offers the server compressed WebSocket messages (`perMessageDeflate`). Messages from
    /// `threshold` bytes on are compressed if the server agrees. Default is no compression.
    pub fn per_message_deflate(mut self, threshold: usize) -> Self {
        self.0.target.options.compression_threshold = Some(threshold);
        self
    }

    /// Sets the trusted certificates for TLS URLs. Default is
    /// [`ClientTls::native_roots`](crate::client::ClientTls::native_roots).
    #[cfg(feature = "client-tls")]
    pub fn tls(mut self, tls: crate::client::ClientTls) -> Self {
        self.0.target.options.tls = Some(tls);
        self
    }

    /// Creates the client. It connects when the application connects one of its sockets. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// Returns [`ClientError::Options`] if an option is invalid or there is no runtime.
    pub fn build(self) -> Result<Client, ClientError> {
        let Self(mut settings) = self;
        let wrong = |reason: &str| Err(ClientError::Options(reason.into()));
        if let AuthKind::Value(value) = &settings.auth.0
            && !value.is_object()
        {
            return wrong("auth must be a JSON object");
        }
        if !(0.0..=1.0).contains(&settings.randomization_factor) {
            return wrong("randomization_factor must be between 0 and 1");
        }
        settings.target = Target::new(settings.target.options)?;
        let Ok(runtime) = runtime::Handle::try_current() else {
            return wrong("a client needs a tokio runtime");
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "what handles send is bounded by the budget of the client, in bytes"
        )]
        let (commands, queue) = mpsc::unbounded_channel();
        let settings = Arc::new(settings);
        let client = Client::new(Arc::clone(&settings), commands);
        runtime.spawn(Driver::new(settings, client.downgrade(), queue).run());
        Ok(client)
    }

    /// Creates a client and the socket of the URL's namespace. The socket is not connected yet, so
    /// handlers can be registered before the first event.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn socket(self) -> Result<Socket, ClientError> {
        let client = self.build()?;
        client.socket(&client.handle().settings.target.namespace)
    }

    /// Creates a client and its socket, and waits until the socket is connected. Events that arrive
    /// before their handlers are registered are lost.
    ///
    /// # Errors
    /// As [`build`](Self::build) and [`Socket::connect`]. The client is dropped on error, and does
    /// not try again.
    pub async fn connect(self) -> Result<Socket, ClientError> {
        let socket = self.socket()?;
        socket.connect().await?;
        Ok(socket)
    }
}
