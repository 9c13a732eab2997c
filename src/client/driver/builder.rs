use std::{fmt, sync::Arc, time::Duration};

use roomcast_protocol::socket::Parser;
use tokio::{runtime, sync::mpsc};

use super::Driver;
use crate::client::{
    ClientError, Options, Transports,
    api::{Auth, AuthKind, Client, Settings, Socket},
    options::Target,
};

/// How a [`Client`] connects and sends. The options have the names and defaults of the official
/// client's, where nothing else is said.
#[must_use = "it connects when it is told to"]
pub struct ClientBuilder(Settings);

/// The options are left out, because there are secrets in them.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}

impl Client {
    /// Begins to describe a client of the server at `url`: `http://host:port/namespace?query`, also
    /// with the scheme `ws` or none, and with the feature `client-tls` with `https` and `wss`. As with the official client,
    /// the path of the URL is the namespace, and the path of requests is an
    /// [option](ClientBuilder::path).
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        let options = Options::new(url);
        ClientBuilder(Settings {
            target: Target::default(),
            options,
            auth: Auth::default(),
            reconnection: true,
            reconnection_attempts: u32::MAX,
            reconnection_delay: Duration::from_secs(1),
            reconnection_delay_max: Duration::from_secs(5),
            randomization_factor: 0.5,
            ack_timeout: Duration::from_secs(20),
            retries: 0,
        })
    }
}

impl ClientBuilder {
    /// What sockets send with each `CONNECT`: an object, or a [function](Auth::with) that makes one.
    /// Default is nothing.
    pub fn auth(mut self, auth: impl Into<Auth>) -> Self {
        self.0.auth = auth.into();
        self
    }

    /// A further request header, on all transports (`extraHeaders`). Default is none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.options.headers.push((name.into(), value.into()));
        self
    }

    /// A cookie that is sent with each request; several become one header. Default is none.
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        let headers = &mut self.0.options.headers;
        match headers
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        {
            Some((_, cookies)) => cookies.push_str(&format!("; {name}={value}")),
            None => headers.push(("Cookie".into(), format!("{name}={value}"))),
        }
        self
    }

    /// A further query parameter. Default is none but those of the URL.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.options.query.push((name.into(), value.into()));
        self
    }

    /// The path of requests. Default is `/socket.io/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.options.path = path.into();
        self
    }

    /// The transports. Default is a WebSocket from the start, which is one connection and needs no
    /// sticky sessions; the official client's default is [`Transports::Upgrade`].
    pub fn transports(mut self, transports: Transports) -> Self {
        self.0.options.transports = transports;
        self
    }

    /// How packets are written, which must be how the server does it. Default is JSON; MessagePack
    /// needs the feature `msgpack`.
    pub fn parser(mut self, parser: Parser) -> Self {
        self.0.options.parser = parser;
        self
    }

    /// How long a session, and then the answer of a namespace, may take; also each request of
    /// long-polling (`timeout`). Default is 20 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.0.options.connect_timeout = timeout;
        self
    }

    /// Whether a lost connection is made anew, and one that fails is tried again. Default is `true`.
    pub fn reconnection(mut self, is_on: bool) -> Self {
        self.0.reconnection = is_on;
        self
    }

    /// After how many attempts in a row the client gives up. Default is [`u32::MAX`], never.
    pub fn reconnection_attempts(mut self, attempts: u32) -> Self {
        self.0.reconnection_attempts = attempts;
        self
    }

    /// The wait before the first attempt to reconnect; each further one is twice as long. Default
    /// is 1 s.
    pub fn reconnection_delay(mut self, delay: Duration) -> Self {
        self.0.reconnection_delay = delay;
        self
    }

    /// The longest wait before an attempt to reconnect. Default is 5 s.
    pub fn reconnection_delay_max(mut self, delay: Duration) -> Self {
        self.0.reconnection_delay_max = delay;
        self
    }

    /// Which share of a wait is left to chance, to both sides: 0.5 makes 0.5 s to 1.5 s of 1 s. From 0
    /// to 1. Default is 0.5.
    pub fn randomization_factor(mut self, factor: f64) -> Self {
        self.0.randomization_factor = factor;
        self
    }

    /// How long an acknowledgement may take. Default is 20 s; the official client waits without end.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.0.ack_timeout = timeout;
        self
    }

    /// How often an event is sent again that was not acknowledged in time. From 1 on, each event that
    /// is not volatile asks for an acknowledgement and waits for that of the one before it, so that the
    /// server gets them in order and at least once. Default is 0.
    ///
    /// The time in which the socket is not connected does not count.
    pub fn retries(mut self, retries: u32) -> Self {
        self.0.retries = retries;
        self
    }

    /// How much may wait to be sent, in bytes, in all sockets together. Default is 4 MiB; further events
    /// are refused with [`ClientError::Full`].
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.0.options.max_queued = bytes;
        self
    }

    /// How long a message or a polling answer of the server may be, in bytes. Default is 16 MiB; a
    /// longer one ends the connection.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.0.options.max_message = bytes;
        self
    }

    /// Which certificates are trusted where the URL wants TLS. Default is
    /// [`ClientTls::native_roots`](crate::client::ClientTls::native_roots).
    #[cfg(feature = "client-tls")]
    pub fn tls(mut self, tls: crate::client::ClientTls) -> Self {
        self.0.options.tls = Some(tls);
        self
    }

    /// Makes the client, which connects when one of its sockets is told to. Must be called on a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ClientError::Options`] if an option cannot be used, or there is no runtime.
    pub fn build(self) -> Result<Client, ClientError> {
        let Self(mut settings) = self;
        let wrong = |what: &str| Err(ClientError::Options(what.into()));
        if let AuthKind::Value(value) = &settings.auth.0
            && !value.is_object()
        {
            return wrong("auth must be a JSON object");
        }
        if !(0.0..=1.0).contains(&settings.randomization_factor) {
            return wrong("randomization_factor must be between 0 and 1");
        }
        settings.target = Target::new(&settings.options)?;
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

    /// Makes a client and the socket of the URL's namespace, which is not connected yet: its handlers
    /// can be registered before anything can come.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn socket(self) -> Result<Socket, ClientError> {
        let client = self.build()?;
        client.socket(&client.handle().settings.target.namespace)
    }

    /// Makes a client and its socket, and waits until the socket is connected. Events that come
    /// before handlers are registered are lost.
    ///
    /// # Errors
    /// As [`build`](Self::build) and [`Socket::connect`]. The client has gone then, and does not try again.
    pub async fn connect(self) -> Result<Socket, ClientError> {
        let socket = self.socket()?;
        socket.connect().await?;
        Ok(socket)
    }
}
